# VM: VM_INIT=boot VM_INITRAMFS=dracut VM_APPEND=ublk.snapshot=/dev/vda1
# The same of a snapshot, with busybox's init in it.
