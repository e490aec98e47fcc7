# VM: VM_INIT=boot VM_INITRAMFS=dracut VM_APPEND=ublk.mem=LABEL=root
# The same of a RAM disk loaded from a partition that is named by its filesystem's label.
