# shellcheck shell=bash
# The machine to test on, by ARCH: x86_64, or one that is emulated and built for
# with Debian's cross compiler: aarch64, riscv64. Sourced by debian.sh.
#   VM_DEB      its name among packages      VM_ARCH     the flavour of its kernel's packages
#   VM_TRIPLET  the cross compiler's prefix  VM_MACHINE  what QEMU needs to be told, and VM_QEMU_BIN
# A kernel's flavour may be told apart: ARCH=aarch64 VM_ARCH=arm64-16k.

ARCH=${ARCH:-x86_64}
VM_CONSOLE=ttyS0
case $ARCH in
x86_64)
	VM_DEB=amd64 VM_ARCH=${VM_ARCH:-cloud-amd64} VM_TRIPLET=
	VM_QEMU_BIN=qemu-system-x86_64 VM_QEMU_PACKAGE=qemu-system-x86
	VM_MACHINE="-cpu ${VM_CPU:-max,erms=off,fsrm=off}"
	;;
aarch64)
	VM_DEB=arm64 VM_ARCH=${VM_ARCH:-cloud-arm64} VM_TRIPLET=aarch64-linux-gnu VM_CONSOLE=ttyAMA0
	VM_QEMU_BIN=qemu-system-aarch64 VM_QEMU_PACKAGE=qemu-system-arm
	VM_MACHINE="-machine virt -cpu ${VM_CPU:-max,pauth=off}"
	;;
riscv64)
	VM_DEB=riscv64 VM_ARCH=${VM_ARCH:-riscv64} VM_TRIPLET=riscv64-linux-gnu VM_SUITES=${VM_SUITES:-sid}
	VM_QEMU_BIN=qemu-system-riscv64 VM_QEMU_PACKAGE=qemu-system-misc
	VM_MACHINE="-machine virt -cpu ${VM_CPU:-rv64}"
	;;
*)
	echo "test: ARCH=$ARCH: x86_64, aarch64 or riscv64" >&2
	exit 2
	;;
esac
[ -z "$VM_TRIPLET" ] || export VM_TRIPLET CC=$VM_TRIPLET-gcc

# arch_packages: what this machine needs to build for that one
arch_packages() {
	[ -z "$VM_TRIPLET" ] || echo "gcc-${VM_TRIPLET}:$VM_TRIPLET-gcc libc6-dev-$VM_DEB-cross:/usr/$VM_TRIPLET/include/stdio.h"
}

# arch_tree: print a directory with the guest's programs and all they depend on
arch_tree() { vm_tree tree "$ARCH_SUITE" "$ARCH_GUEST"; }
ARCH_SUITE=trixie
[ "$ARCH" != riscv64 ] || ARCH_SUITE=sid
ARCH_GUEST="dash coreutils bsdutils fio e2fsprogs xfsprogs fdisk mount util-linux strace kmod diffutils dmsetup
	btrfs-progs jq busybox-static"

# arch_find DIR NAME...: the paths of programs or libraries in that tree
arch_find() {
	local dir=$1 name found
	shift
	for name; do
		found=$(find "$dir" \( -path "*/bin/$name" -o -path "*/sbin/$name" -o -path "*/lib/*/$name" -o -path "*/lib/$name" \) -print -quit)
		[ "$found" ] || { vm_die "no $name for $VM_DEB"; return; }
		echo "$found"
	done
}

# arch_libs DIR FILE...: the libraries that these files need, and those need, in that tree
arch_libs() {
	local dir=$1 done=" " file need queue
	shift
	queue=("$@")
	while [ "${#queue[@]}" -gt 0 ]; do
		file=${queue[0]}
		queue=("${queue[@]:1}")
		for need in $(readelf -d "$file" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p') \
			$(readelf -l "$file" 2>/dev/null | sed -n 's,.*interpreter: .*/\(.*\)\],\1,p'); do
			[[ $done != *" $need "* ]] || continue
			done+="$need "
			file=$(arch_find "$dir" "$need") || return
			echo "$file"
			queue+=("$file")
		done
	done
}
