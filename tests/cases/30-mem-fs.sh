# Filesystems: made, mounted, filled, remounted, compared, checked.
. /tests/lib.sh
section "filesystems"

fs() {	# MKFS CHECK...
	mkfs=$1; shift
	ublk mem 400M -d -q --queues=2 >/dev/null && $mkfs /dev/ublkb0 >mkfs.out 2>&1 && mount /dev/ublkb0 /mnt || return 1
	tree /mnt
	sums /mnt >before
	umount /mnt && echo 3 >/proc/sys/vm/drop_caches && mount /dev/ublkb0 /mnt || return 1
	sums /mnt >after
	rm -r /mnt/a && sync && fstrim /mnt
	umount /mnt && cmp before after && "$@" /dev/ublkb0 >fsck.out 2>&1 || { tail -3 fsck.out; return 1; }
	ublk stop 0
}
check "ext4: tree written, remounted, equal, fsck clean" fs "mkfs.ext4 -q" e2fsck -fn
check "xfs: tree written, remounted, equal, repair finds nothing" fs "mkfs.xfs -q -f" xfs_repair -n

nothing_left
