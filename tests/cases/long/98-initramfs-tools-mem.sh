# VM: VM_INIT=boot VM_INITRAMFS=initramfs-tools VM_BOOT=systemd VM_APPEND=ublk.mem=PARTUUID=75626c6b-01
# The same of a RAM disk loaded from a partition that is named by its table's number, and a Debian with systemd in it.
