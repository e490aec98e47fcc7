# VM: VM_INIT=bare
# An initramfs that holds a kernel's driver and ublk, and tests/bare.c as PID 1: it is the case.
