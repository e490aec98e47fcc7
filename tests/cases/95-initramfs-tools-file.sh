# VM: VM_INIT=boot VM_INITRAMFS=initramfs-tools VM_APPEND=ublk.file=/dev/vda1
# A partition shown by ublk file as root, with the hooks for initramfs-tools: tests/initramfs.sh makes it, tests/boot-root is the case.
