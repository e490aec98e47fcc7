# VM: VM_INIT=boot VM_BOOT=systemd VM_APPEND=root=mem
# A Debian whose root filesystem is in a RAM disk: tests/boot-init and tests/boot-root are the case.
