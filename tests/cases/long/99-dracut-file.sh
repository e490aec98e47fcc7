# VM: VM_INIT=boot VM_INITRAMFS=dracut VM_BOOT=systemd VM_APPEND=ublk.file=PARTUUID=75626c6b-01
# A partition shown by ublk file as root of a Debian with systemd, with the hooks for dracut, whose initramfs has systemd as well.
