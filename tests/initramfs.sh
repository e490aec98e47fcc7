# shellcheck shell=bash disable=SC2016 # what is in single quotes is for another shell to expand
# An initramfs as Debian makes it, with the hooks of share/ as make install puts them there; sourced by vm.sh.
# VM_INITRAMFS is what makes it, initramfs-tools or dracut, VM_APPEND the word of ublk's on the kernel's command line.

INITRAMFS_SUITE=${INITRAMFS_SUITE:-trixie}
# what every Debian has, and so no package says that it needs it; and what the images are to have
INITRAMFS_NEEDS="base-files bash coreutils dash diffutils dpkg findutils grep gzip libc-bin sed util-linux zstd
	e2fsprogs kmod systemd-sysv udev busybox-static"

# initramfs KERNELDIR DIR: DIR/initrd, made in a copy of a tree of Debian's. /guest is run first, to say that the kernel is up.
initramfs() {
	local tree name=$VM_INITRAMFS-$INITRAMFS_SUITE release
	[ -z "$VM_TRIPLET" ] || { vm_die "an initramfs of a Debian's is made for x86_64 only"; return; }
	release=$(basename "$1/root/lib/modules"/*)
	tree=$(vm_tree "$name" "$INITRAMFS_SUITE" "$VM_INITRAMFS $INITRAMFS_NEEDS") || return
	cp -a "$tree" "$2/tree" && mkdir -p "$2/tree/lib/modules/$release" "$2/guest" "$2/tree"/{dev,proc,var/tmp} || return
	"initramfs_${VM_INITRAMFS//-/_}" "$2" || return
	# shellcheck disable=SC2046 # a list
	unshare $([ "$(id -u)" = 0 ] || echo -r) -m bash -ec '
		mount --rbind /proc "$1/proc"
		mount --rbind /dev "$1/dev"
		mount --bind "$2/root/lib/modules/$3" "$1/lib/modules/$3"
		exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$1" /bin/bash /make "$3"' - "$2/tree" "$1" "$release" >"$2/log" 2>&1 ||
		{ tail -n 5 "$2/log" >&2; return 1; }
	printf '%s\n' '#!/bin/sh' 'echo "guest: init $(uname -r)"' 'exec /init "$@"' >"$2/guest/guest"
	chmod 755 "$2/guest/guest"
	vm_archive "$2/initrd" "$2/guest" && cat "$2/tree/initrd" >>"$2/initrd" && rm -rf "$2/tree" || return
	VM_APPEND="$VM_APPEND root=/dev/ublkb0 rw loglevel=1 rdinit=/guest"
}

# initramfs_install TREE MAKE-VARIABLE...: make install there
initramfs_install() {
	local tree=$1
	shift
	make -s install DESTDIR="$tree" "$@" >/dev/null || return
	[ -z "${UBLK:-}" ] || install "$UBLK" "$(find "$tree" -path '*/sbin/ublk' -type f)"
}

# Each: prepare DIR/tree, and what is to be run in it, /make RELEASE. Only the hooks bring ublk and its driver along.
initramfs_initramfs_tools() {
	initramfs_install "$1/tree" PREFIX=/usr/local INITRAMFSTOOLSDIR=/etc/initramfs-tools || return
	printf '%s\n' virtio_pci virtio_blk ext4 >"$1/tree/etc/initramfs-tools/modules"
	echo MODULES=list >"$1/tree/etc/initramfs-tools/conf.d/list"
	echo 'echo CONFIG_RD_ZSTD=y >"/boot/config-$1"; mkinitramfs -o /initrd "$1"' >"$1/tree/make"
}

# with systemd in the initramfs if the root has it; it asks the cache of libraries where they are
initramfs_dracut() {
	local omit=kernel-modules
	[ "${VM_BOOT:-}" = systemd ] || omit+=" systemd dracut-systemd systemd-initrd"
	initramfs_install "$1/tree" PREFIX=/usr || return
	echo "ldconfig && dracut -q --no-hostonly --no-compress --omit '$omit' --add ublk --add-drivers 'virtio_pci virtio_blk ext4' /initrd "'"$1"' >"$1/tree/make"
}
