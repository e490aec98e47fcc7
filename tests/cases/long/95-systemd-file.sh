# VM: VM_INIT=boot VM_BOOT=systemd VM_APPEND=root=file
# A Debian whose root filesystem is a partition, shown by ublk file: tests/boot-init and tests/boot-root are the case.
