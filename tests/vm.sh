# shellcheck shell=bash
# The cases on a kernel in QEMU; sourced by test.sh. Options, from the
# environment: VM_MEM, VM_CPUS, VM_TIMEOUT, VM_ACCEL, VM_CPU, VM_QEMU (more
# arguments), VM_DISK (SIZE of a virtio disk), VM_APPEND (to the kernel's command line), VM_PROGS (more of them, with
# commas between) and VM_MODULES (more of them), VM_FILES ("SOURCE:DEST ..."), VM_ENV ("NAME=VALUE ..." for
# the cases), CASE_TIMEOUT, UBLK (the binary).

VM_TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VM_PID= # the running QEMU, for the caller's trap
VM_PROGS_ALL="dash timeout dd fio mkfs.ext4 e2fsck mkfs.xfs xfs_repair sfdisk losetup blockdev lsblk
	blkdiscard fallocate script strace mount umount findmnt prlimit kmod cmp setpriv fstrim
	dmsetup mdadm mkfs.btrfs btrfs resize2fs xfs_growfs udevadm date jq unshare mkswap swapon swapoff chrt"
VM_MODULES_ALL="ublk_drv ext4 xfs btrfs loop brd null_blk dm-mod dm-log-writes dm-flakey dm-delay dm-bufio dm-snapshot raid456 scsi_debug sd_mod
	crc32c_generic crc32c-cryptoapi crc32c-intel xxhash_generic sha256_generic blake2b_generic
	zram lzo-rle virtio_blk virtio_pci ${VM_MODULES:-}"
# shellcheck source=tests/debian.sh
. "$VM_TESTS/debian.sh"
# shellcheck source=tests/initramfs.sh
. "$VM_TESTS/initramfs.sh"

# vm_archive FILE DIR: DIR as an initramfs archive; several may follow one
# another in one image. Not compressed, because unpacking it is what would take
# the emulated processor most of the time of a boot.
vm_archive() {
	local part=$1.$BASHPID
	(cd "$2" && find . | cpio -o -H newc -R 0:0 --quiet) >"$part" && mv "$part" "$1"
}

# vm_unpack MODULE TO: a module of Debian's, as it is or compressed
vm_unpack() {
	case $1 in
	*.xz) xz -dc "$1" >"$2" ;;
	*.zst) zstd -qdc "$1" >"$2" ;;
	*) cp "$1" "$2" ;;
	esac
}

# vm_modules KERNELDIR: print the archive of the modules the cases use and those they need
vm_modules() {
	local dir=$1 key file tmp module path to release
	key=$({ declare -f vm_modules; echo "$VM_MODULES_ALL"; } | cksum | cut -d' ' -f1)
	file=$dir/modules-$key.cpio
	if [ ! -e "$file" ]; then
		release=$(basename "$dir/root/lib/modules"/*)
		tmp=$(mktemp -d)
		mkdir -p "$tmp/usr/lib/modules/$release"
		ln -s usr/lib "$tmp/lib"
		cp "$dir/root/lib/modules/$release"/modules.{builtin,order}* "$tmp/lib/modules/$release/"
		for module in $VM_MODULES_ALL; do # one the kernel has not is left out
			PATH=$PATH:/sbin modprobe -C /dev/null -d "$dir/root" -S "$release" --show-depends "$module" 2>/dev/null || true
		done | awk '$1 == "insmod" { print $2 }' | sort -u | while read -r path; do
			to=$tmp/lib/modules/$release/${path##*"/modules/$release/"}
			to=${to%.xz}
			mkdir -p "$(dirname "$to")" && vm_unpack "$path" "${to%.zst}" || return
		done || return
		PATH=$PATH:/sbin depmod -b "$tmp" "$release" && vm_archive "$file" "$tmp" || return
		rm -rf "$tmp"
	fi
	echo "$file"
}

# vm_busybox DIR BUSYBOX: that program, with links for all it can do, in DIR/bin
vm_busybox() {
	local applet
	cp "$2" "$1/bin/busybox"
	for applet in $(busybox --list | grep -vx busybox); do ln -s busybox "$1/bin/$applet"; done
}

# vm_programs: print the archive of the guest's programs with their libraries
vm_programs() {
	local programs=() program key file tmp='' libs applet tree='' busybox names="$VM_PROGS_ALL ${VM_PROGS:-}"
	names=${names//,/ }
	if [ "$VM_TRIPLET" ]; then
		tree=$(arch_tree) || return
		# shellcheck disable=SC2046,SC2086 # lists
		programs=($(arch_find "$tree" $names busybox)) || return
	else
		for program in $names busybox; do
			programs+=("$(PATH=$PATH:/usr/sbin:/sbin command -v "$program")") || { vm_die "no program $program"; return; }
		done
	fi
	busybox=${programs[-1]}
	key=$({ declare -f vm_programs; stat -L -c "%n %s %Y" "${programs[@]}"; } | cksum | cut -d' ' -f1)
	file=$VM_CACHE/programs-$key.cpio
	if [ ! -e "$file" ]; then
		tmp=$(mktemp -d)
		mkdir -p "$tmp"/{bin,sbin,usr/bin,usr/lib,usr/lib64,dev,proc,sys,tmp,run,mnt,root,etc,var}
		ln -s usr/lib usr/lib64 "$tmp/"
		touch "$tmp/etc/fstab"
		# the real programs come before the applets in the guest's PATH, and
		# its shell is dash because busybox's would prefer the applets
		vm_busybox "$tmp" "$busybox"
		for program in "${programs[@]}"; do [ "$program" = "$busybox" ] || cp -L "$program" "$tmp/usr/bin/"; done
		ln -sf ../usr/bin/dash "$tmp/bin/sh"
		for applet in modprobe insmod rmmod lsmod depmod modinfo; do ln -s ../usr/bin/kmod "$tmp/sbin/$applet"; done
		if [ "$tree" ]; then
			libs=$(arch_libs "$tree" "${programs[@]}") || return
			for program in $libs; do cp -L "$program" "$tmp/usr/lib/" || return; done
		else
			ldd "${programs[@]:0:${#programs[@]}-1}" | awk '$2 == "=>" { print $3 } $1 ~ /^\/.*[^:]$/ { print $1 }' | sort -u |
				while read -r applet; do install -D "$applet" "$tmp$applet" || return; done || return
		fi
		vm_archive "$file" "$tmp" || return
		rm -rf "$tmp"
	fi
	echo "$file"
}

# vm_initrd DIR KERNELDIR: DIR/initrd of the programs, the modules and DIR/root
vm_initrd() {
	local programs modules
	programs=$(vm_programs) && modules=$(vm_modules "$2") || return
	vm_archive "$1/case" "$1/root" && cat "$programs" "$modules" "$1/case" >"$1/initrd"
}

# vm_readme DIR: README's blocks of commands, as they stand, each in DIR/NAME
vm_readme() {
	mkdir -p "$1"
	awk -v dir="$1" '/^```$/ { name = "" } name { print >(dir "/" name) } /^```sh ./ { name = $2 }' "$VM_TESTS/../README.md"
}

# vm_root_cases KERNELDIR DIR CASEFILE...: DIR/initrd, of DIR/root, that runs the cases
vm_root_cases() {
	local kernel=$1 dir=$2 root=$2/root case file line
	shift 2
	mkdir -p "$root/tests" "$root/bin"
	install "$VM_TESTS/guest-init" "$root/init"
	cp "$VM_TESTS/lib.sh" "$@" "$root/tests/"
	vm_readme "$root/tests/readme"
	install "${UBLK:-./ublk}" "$root/bin/ublk"
	for file in ${VM_FILES:-}; do install -D "${file%%:*}" "$root${file#*:}"; done
	{
		for case in "$@"; do basename "$case"; done | { echo "GUEST_CASES='$(tr '\n' ' ')'"; }
		for line in "CASE_TIMEOUT=${CASE_TIMEOUT:-600}" ${VM_ENV:-}; do echo "export $line"; done
	} >"$root/tests/env"
	vm_initrd "$dir" "$kernel"
}

# vm_root_bare KERNELDIR DIR: DIR/initrd, of DIR/root, with $VM_BARE (tests/bare.c) as init, ublk, the driver and nothing else
vm_root_bare() {
	local from release to
	set -- "$1" "$2/root" "$2/initrd"
	release=$(basename "$1/root/lib/modules"/*)
	from=$(find "$1/root/lib/modules/$release/" -name 'ublk_drv.ko*')
	mkdir -p "$2"/{dev,modules/plain/sub,modules/compressed,modules/usual/kernel/drivers/block,modules/needs}
	install "${UBLK:-./ublk}" "$2/ublk"
	install "$VM_BARE" "$2/init"
	to=$2/modules/plain/sub/ublk_drv.ko
	vm_unpack "$from" "$to" || return
	echo "sub/ublk_drv.ko:" >"$2/modules/plain/modules.dep"
	cp "$to" "$2/modules/usual/kernel/drivers/block/"
	cp "$from" "$2/modules/compressed/"
	echo "$(basename "$from"):" >"$2/modules/compressed/modules.dep"
	# it needs none, but is to be loaded after the one it is said to need
	cp "$to" "$2/modules/needs/"
	vm_unpack "$(find "$1/root/lib/modules/$release/" -name 'brd.ko*')" "$2/modules/needs/brd.ko" || return
	echo "ublk_drv.ko: brd.ko" >"$2/modules/needs/modules.dep"
	vm_archive "$3" "$2"
}

# vm_boot_busybox DIR: the files of a root filesystem, with busybox's init
vm_boot_busybox() {
	local busybox
	if [ "$VM_TRIPLET" ]; then busybox=$(arch_find "$(arch_tree)" busybox); else busybox=$(command -v busybox); fi || return
	mkdir -p "$1"/{bin,sbin,dev,proc,sys,etc,run,tmp}
	vm_busybox "$1" "$busybox"
	ln -s ../bin/busybox "$1/sbin/init"
	printf '%s\n' "::sysinit:/etc/rc" "::once:/bin/poweroff" "::shutdown:/etc/rc down" >"$1/etc/inittab"
}

# vm_boot_systemd DIR: the same of Debian, with systemd and udev
vm_boot_systemd() {
	local tree unit=$1/etc/systemd/system/rc-test.service
	tree=$(vm_tree systemd trixie "systemd-sysv udev busybox-static e2fsprogs base-files base-passwd") || return
	cp -a "$tree/." "$1" && rm -rf "$1"/usr/share/{doc,man,locale,info,perl,zoneinfo}
	cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"
	cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"
	echo 0123456789abcdef0123456789abcdef >"$1/etc/machine-id"
	sed 's,@ublk@,/bin/ublk,' "$VM_TESTS/../share/systemd/ublk@.service" >"$1/usr/lib/systemd/system/ublk@.service" || return
	mkdir -p "$1/etc/systemd/system/multi-user.target.wants" "$1/usr/lib/systemd/system-shutdown"
	ln -s multi-user.target "$1/etc/systemd/system/default.target"
	printf '%s\n' '[Service]' 'Type=oneshot' 'ExecStart=/bin/busybox sh -c "exec /bin/busybox sh /etc/rc >/dev/console 2>&1"' \
		'ExecStopPost=/bin/systemctl --no-block poweroff' >"$unit"
	ln -s ../rc-test.service "$1/etc/systemd/system/multi-user.target.wants/"
	# what systemd runs when it has killed and unmounted all it could
	printf '%s\n' '#!/bin/busybox sh' 'exec /bin/busybox sh /etc/rc down >/dev/console 2>&1' >"$1/usr/lib/systemd/system-shutdown/rc"
	chmod 755 "$1/usr/lib/systemd/system-shutdown/rc"
}

# vm_boot_image FILE: an ext4 root filesystem with the init that $VM_BOOT names, ublk, and as its rc what $VM_RC names, or tests/boot-root
vm_boot_image() {
	local dir
	dir=$(mktemp -d)
	"vm_boot_${VM_BOOT:-busybox}" "$dir" || return
	install "${UBLK:-./ublk}" "$dir/bin/ublk"
	install "$VM_TESTS/${VM_RC:-boot-root}" "$dir/etc/rc"
	vm_readme "$dir/etc/readme"
	truncate -s 160M "$1" && PATH=$PATH:/sbin mkfs.ext4 -q -L root -U 75626c6b-0000-4000-8000-000000000001 -d "$dir" "$1" && rm -rf "$dir"
}

# vm_root_boot KERNELDIR DIR: DIR/initrd with tests/boot-init, or as $VM_INITRAMFS makes it, and DIR/disk with a partition
# that has the root filesystem
vm_root_boot() {
	vm_boot_image "$2/image" || return
	truncate -s 162M "$2/disk"
	printf '%s\n' 'label: dos' 'label-id: 0x75626c6b' 'start=2048, size=327680' | PATH=$PATH:/sbin sfdisk -q "$2/disk" || return
	dd if="$2/image" of="$2/disk" bs=1M seek=1 conv=notrunc,sparse status=none
	md5sum <"$2/disk" >"$2/disk.md5"
	if [ "${VM_INITRAMFS:-}" ]; then
		initramfs "$1" "$2"
		return
	fi
	mkdir -p "$2/root/bin"
	install "$VM_TESTS/boot-init" "$2/root/init"
	vm_readme "$2/root/readme"
	install "${UBLK:-./ublk}" "$2/root/bin/ublk"
	vm_initrd "$2" "$1"
}

# vm_after_boot DIR: what the machine has left on the disk it had its root on
vm_after_boot() {
	local part="$1/disk?offset=1048576"
	if [[ $VM_APPEND = *snapshot* ]]; then
		if md5sum <"$1/disk" | cmp -s - "$1/disk.md5"; then vm_out "ok - boot: the disk is as it was"
		else vm_out "FAIL - boot: the disk is as it was: it has been written to"; fi
		return
	fi
	if PATH=$PATH:/sbin e2fsck -fn "$part" >"$1/fsck" 2>&1 && PATH=$PATH:/sbin dumpe2fs -h "$part" 2>/dev/null | grep -q 'state: *clean$'; then
		vm_out "ok - boot: the filesystem was unmounted cleanly"
	else
		vm_out "FAIL - boot: the filesystem was unmounted cleanly: $(tail -n 3 "$1/fsck")"
	fi
}

vm_out() { printf '%s\n' "$1"; } # a line of the guest; test.sh has its own

# vm_boot KERNELDIR CASEFILE...: run the cases, in order, on that kernel; the
# guest's lines go to stdout as they come. A guest that does not get to its
# end is a failed check.
vm_boot() {
	local kernel=$1 name tmp disk try line state='' why rc
	local escape=$'\e(\\[[0-9;?!]*[A-Za-z]|\\][0-9;]*(\a|\e\\\\)?|c)' # what firmware and systemd say to terminals
	shift
	name=$(cat "$kernel/name")
	tmp=$(mktemp -d) && mkdir "$tmp/root" && "vm_root_${VM_INIT:-cases}" "$kernel" "$tmp" "$@" || return
	[ -z "${VM_DISK:-}" ] || truncate -s "$VM_DISK" "$tmp/disk" || return
	disk=$tmp/disk
	[ -e "$disk" ] || disk=
	for try in 1 2; do
		state=boot why=
		# shellcheck disable=SC2086 # VM_QEMU is a list
		exec 8< <(exec timeout --foreground -k 5 "${VM_TIMEOUT:-1800}" "$VM_QEMU_BIN" \
			-accel "${VM_ACCEL:-tcg,thread=multi}" $VM_MACHINE \
			-m "${VM_MEM:-2G}" -smp "${VM_CPUS:-2}" -kernel "$kernel/vmlinuz" -initrd "$tmp/initrd" \
			-append "console=$VM_CONSOLE quiet panic=-1 mitigations=off ${VM_APPEND:-}" \
			-nographic -no-reboot -nodefaults -serial stdio \
			${disk:+-drive file=$disk,format=raw,if=virtio,cache=unsafe} ${VM_QEMU:-} 2>&1 </dev/null)
		VM_PID=$!
		[ -z "${VM_PIDFILE:-}" ] || echo $VM_PID >"$VM_PIDFILE"
		while IFS= read -r line || [ "$line" ]; do
			line=${line//$'\r'/}
			while [[ $line =~ $escape ]]; do line=${line/"${BASH_REMATCH[0]}"/}; done
			case $line in
			*"guest: init "*) # the firmware may have left its line open
				state=init line="guest: init ${line##*guest: init }"
				;;
			*"Kernel panic"*) why="the kernel panicked" ;;
			esac
			if [ $state = boot ]; then echo "$line" >>"$tmp/boot.log"
			elif [ "$line" ] && [ $state != off ]; then vm_out "$line"; fi
			[ "$state:$line" != "init:guest: done" ] || state=off
		done <&8
		rc=0
		wait "$VM_PID" || rc=$?
		VM_PID=
		exec 8<&-
		[ $state = boot ] || break
		# Nothing of ours has run yet: this is the emulator's failure
		vm_out "note: the guest died before init ran, boot $try of 2; the console's last lines:"
		tail -n 12 "$tmp/boot.log"
	done
	[ $rc -ne 124 ] || why="timed out after ${VM_TIMEOUT:-1800} s"
	if [ $state != off ] || [ "$why" ]; then
		vm_out "FAIL - $name: guest finished: ${why:-it ended early with status $rc}"
	fi
	[[ ${VM_INIT:-} != boot || ${VM_APPEND:-} =~ root=mem|ublk.mem= ]] || vm_after_boot "$tmp"
	rm -rf "$tmp"
}
