# VM: VM_INIT=boot VM_APPEND=root=snapshot
# A machine whose root filesystem is a snapshot of a read-only partition: tests/boot-init and tests/boot-root are the case.
