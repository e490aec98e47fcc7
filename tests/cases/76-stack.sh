# stop --all: devices that stand on each other go from the top, with all that was written.
. /tests/lib.sh
section "stop --all, a stack"

gone() { ! ls /dev/ublkc* 2>/dev/null; }
dirty() { dd if=/dev/urandom of=data bs=1M count=4 2>/dev/null; dd if=data of="$1" bs=1M conv=notrunc 2>/dev/null; }
arrived() { cmp -n 4194304 data "$1"; }
forced() {	# the lower one has the higher number; the upper one is dirty, and held open
	truncate -s 32M low.img
	ublk file low.img --id=5 -d -q >/dev/null && ublk file /dev/ublkb5 --id=1 -d -q >/dev/null || return
	exec 8<>/dev/ublkb1
	dirty /dev/ublkb1 || return
	ublk stop --all --force 2>err & w=$!
	wait_for 60 sh -c '[ ! -e /dev/ublkb1 ]'
	exec 8<&-
	wait $w
	wait_for 30 gone && arrived low.img
}
check "--force: the one upon it first, nothing dirty is lost" forced
polite() {	# three deep, a file in a filesystem between, and the lowest with the highest number
	ublk mem 96M --id=9 -d -q >/dev/null && mkfs.ext4 -q /dev/ublkb9 && mount /dev/ublkb9 /mnt || return
	truncate -s 64M /mnt/img
	ublk file /mnt/img --id=4 -d -q >/dev/null && ublk file /dev/ublkb4 --id=2 -d -q >/dev/null || return
	dirty /dev/ublkb2 || return
	st=0
	ublk stop --all 2>err || st=$?
	# the lowest is mounted, by us: only that one stays
	[ $st = 6 ] && [ "$(ublk list | wc -l)" = 2 ] && arrived /mnt/img || { echo "status $st"; cat err; ublk list; return 1; }
	umount /mnt && ublk stop --all && gone
}
check "without --force: each when what stood on it has gone" polite
modprobe dm-mod
modprobe loop
between() {	# dm on a partition, and loop on that
	truncate -s 64M low.img
	ublk file low.img --id=7 -d -q >/dev/null && echo 'start=2048, size=65536' | sfdisk -q /dev/ublkb7 >/dev/null 2>&1
	wait_for 10 test -b /dev/ublkb7p1 || return
	DM_DISABLE_UDEV=1 dmsetup create between --table "0 65536 linear /dev/ublkb7p1 0" && dmsetup mknodes
	l=$(losetup -f --show /dev/mapper/between) && ublk file "$l" --id=3 -d -q >/dev/null || return
	exec 8<>/dev/ublkb3
	dirty /dev/ublkb3 || return
	ublk stop --all --force 2>err & w=$!
	wait_for 60 sh -c '[ ! -e /dev/ublkb3 ] && [ ! -e /dev/ublkb7 ]'
	exec 8<&-
	losetup -d "$l"; DM_DISABLE_UDEV=1 dmsetup remove between
	wait $w
	wait_for 30 gone && cmp -n 4194304 -i 0:1048576 data low.img
}
check "device-mapper, a partition and loop in between" between
nothing_left
