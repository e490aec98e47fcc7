# VM: VM_INIT=boot VM_APPEND=root=mem
# A machine whose root filesystem is in a RAM disk: tests/boot-init and tests/boot-root are the case.
