# VM: VM_INIT=boot VM_BOOT=systemd VM_RC=boot-unit VM_APPEND=root=disk
# A Debian with systemd and share/systemd/ublk@.service: tests/boot-init and tests/boot-unit are the case.
