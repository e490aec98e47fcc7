# VM: VM_INIT=boot VM_BOOT=systemd VM_APPEND=root=snapshot
# A Debian whose root filesystem is a snapshot of a read-only partition: tests/boot-init and tests/boot-root are the case.
