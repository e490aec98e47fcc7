# VM: VM_INIT=boot VM_INITRAMFS=initramfs-tools VM_APPEND=ublk.snapshot=UUID=75626c6b-0000-4000-8000-000000000001
# The same of a snapshot of a partition that is named by its filesystem.
