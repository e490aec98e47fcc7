# A disk from a file, as a filesystem and an administrator see it: what losetup
# made opens here and the reverse, holes come back, windows hold.
. /tests/lib.sh
section "file: filesystems, images, windows"

fs() {	# MKFS CHECK...
	local mkfs=$1
	shift
	rm -f disk.img
	ublk file disk.img --create --size=400M -d -q --queues=2 >/dev/null && $mkfs /dev/ublkb0 >mkfs.out 2>&1 &&
		mount /dev/ublkb0 /mnt || { cat mkfs.out; return 1; }
	tree /mnt
	sums /mnt >before
	umount /mnt && ublk stop 0 && ublk file disk.img -d -q >/dev/null && mount /dev/ublkb0 /mnt || return 1
	sums /mnt >after
	umount /mnt && cmp before after && "$@" /dev/ublkb0 >fsck.out 2>&1 || { tail -3 fsck.out; return 1; }
	ublk stop 0
}
check "ext4: tree, device made anew, equal, fsck clean" fs "mkfs.ext4 -q" e2fsck -fn
check "xfs: tree, device made anew, equal, repair finds nothing" fs "mkfs.xfs -q -f" xfs_repair -n
if modprobe btrfs 2>/dev/null; then
	check "btrfs: tree, device made anew, equal, check clean" fs "mkfs.btrfs -q -f" btrfs check --readonly
else
	skip "btrfs" "this kernel has none"
fi

# one that failed must not take the others along
umount /mnt 2>/dev/null
ublk stop --all
# Images that losetup made open here, and the reverse.
modprobe loop max_part=15
rm -f disk.img
truncate -s 64M disk.img
small_blocks() {	# 1 KiB blocks, which a device of 4096-byte sectors cannot show
	local l
	l=$(losetup -f --show disk.img) && mkfs.ext4 -q -b 1024 "$l" && mount "$l" /mnt || return 1
	tree /mnt; sums /mnt >before; umount /mnt; losetup -d "$l"
	ublk file disk.img -d -q --direct >/dev/null && mount /dev/ublkb0 /mnt || return 1
	sums /mnt >after
	echo more >/mnt/more
	umount /mnt; ublk stop 0 || return 1
	l=$(losetup -f --show disk.img) && mount "$l" /mnt && [ "$(cat /mnt/more)" = more ] || return 1
	umount /mnt; losetup -d "$l"
	cmp before after
}
check "an ext4 of 1 KiB blocks made through losetup, and back" small_blocks
table() {	# partitions are there when the command returns
	local l
	rm -f disk.img; truncate -s 64M disk.img
	printf 'label: dos\n,20M\n,\n' | sfdisk -q disk.img || return 1
	ublk file disk.img -d -q >/dev/null && test -b /dev/ublkb0p1 && test -b /dev/ublkb0p2 || return 1
	[ "$(cat /sys/block/ublkb0/ublkb0p1/start)" = 2048 ] && [ "$(blockdev --getsize64 /dev/ublkb0p1)" = 20971520 ] || return 1
	mkfs.ext4 -q /dev/ublkb0p1 && mount /dev/ublkb0p1 /mnt && echo hello >/mnt/f && umount /mnt && ublk stop 0 || return 1
	l=$(losetup -P -f --show disk.img) && mount "${l}p1" /mnt || return 1
	[ "$(cat /mnt/f)" = hello ]; st=$?
	umount /mnt; losetup -d "$l"
	return $st
}
check "a partition table: partitions there at return, the same as losetup's" table
no_table() { ublk file disk.img -d -q --no-part-scan >/dev/null && ! [ -e /dev/ublkb0p1 ] && ublk stop 0; }
check "--no-part-scan: none" no_table

blocks() { stat -c %b disk.img; }
sparse() {	# holes come back, zeroes are zero, on tmpfs and on ext4 (below)
	rm -f disk.img; truncate -s 32M disk.img
	ublk file disk.img -d -q --direct --zero-copy=$1 >/dev/null || return 1
	dd if=/dev/urandom of=/dev/ublkb0 bs=1M count=32 oflag=direct 2>/dev/null
	[ "$(blocks)" -ge 65536 ] || return 1
	blkdiscard -o 0 -l 16M /dev/ublkb0 || return 1
	[ "$(blocks)" -le 33000 ] || { blocks; return 1; }
	blkdiscard -z -o 16M -l 8M /dev/ublkb0 || return 1
	fallocate -z -o 24M -l 8M /dev/ublkb0 2>/dev/null || blkdiscard -z -o 24M -l 8M /dev/ublkb0 || return 1
	cmp -n 33554432 /dev/ublkb0 /dev/zero && ublk stop 0 && cmp -n 33554432 disk.img /dev/zero
}
check "tmpfs: discard makes the file sparse, write-zeroes reads zero" sparse auto
quiet_zeroes() {	# a filesystem without FALLOC_FL_ZERO_RANGE
	local before
	rm -f disk.img; truncate -s 32M disk.img
	ublk file disk.img -d -q >/dev/null || return 1
	before=$(dmesg | grep -c 'ublkb0, sector')
	dd if=/dev/urandom of=/dev/ublkb0 bs=1M count=32 oflag=direct 2>/dev/null
	blkdiscard /dev/ublkb0 && blkdiscard -z -o 1M -l 8M /dev/ublkb0 || return 1
	[ "$(blocks)" -ge 16384 ] || { echo "blocks: $(blocks)"; return 1; }
	cmp -n 33554432 /dev/ublkb0 /dev/zero && mkfs.ext4 -qF /dev/ublkb0 && e2fsck -fn /dev/ublkb0 >fsck.out 2>&1 &&
		ublk stop 0 || return 1
	[ "$(dmesg | grep -c 'ublkb0, sector')" = "$before" ] || { dmesg | grep 'ublkb0, sector'; return 1; }
}
check "tmpfs: zeroes for mkfs.ext4, and no error in the kernel's log" quiet_zeroes
modprobe brd rd_nr=2 rd_size=204800 max_part=0
mkfs.ext4 -qF /dev/ram0 && mount /dev/ram0 /mnt
cd /mnt || exit
check "ext4: discard makes the file sparse, write-zeroes reads zero" sparse auto
check "ext4, no zero copy: the same" sparse off

window() {	# not a byte outside [offset, offset + size)
	rm -f disk.img
	tr '\0' '\252' </dev/zero | dd of=disk.img bs=1M count=8 iflag=fullblock 2>/dev/null
	ublk file disk.img --offset=1M --size=2M -d -q ${1:-} >/dev/null || return 1
	[ "$(blockdev --getsize64 /dev/ublkb0)" = 2097152 ] || return 1
	dd if=/dev/zero of=/dev/ublkb0 bs=64k oflag=direct 2>/dev/null
	dd if=/dev/urandom of=/dev/ublkb0 bs=4k seek=511 count=1 oflag=direct 2>/dev/null
	dd if=/dev/zero of=/dev/ublkb0 bs=64k oflag=direct 2>/dev/null
	blkdiscard /dev/ublkb0; blkdiscard -z /dev/ublkb0
	ublk stop 0 || return 1
	[ "$(stat -c %s disk.img)" = 8388608 ] || return 1
	dd if=disk.img bs=1M count=1 2>/dev/null | tr -d '\252' | wc -c | grep -qx 0 &&
	dd if=disk.img bs=1M skip=3 2>/dev/null | tr -d '\252' | wc -c | grep -qx 0 &&
	dd if=disk.img bs=1M skip=1 count=2 2>/dev/null | tr -d '\0' | wc -c | grep -qx 0
}
check "a window: nothing outside is touched" window
check "a window, direct: nothing outside is touched" window --direct
any_byte() {	# OPTION...: the same as losetup -o 31 shows, and nothing outside is touched
	local l st=0
	rm -f disk.img
	tr '\0' '\252' </dev/zero | dd of=disk.img bs=1M count=32 iflag=fullblock 2>/dev/null
	ublk file disk.img --offset=31 --size=30M -d -q "$@" >/dev/null && mkfs.ext4 -qF /dev/ublkb0 && mount /dev/ublkb0 /run/m || return 1
	dd if=/dev/urandom of=/run/m/f bs=1M count=8 2>/dev/null; sync
	md5sum /run/m/f >/run/before
	umount /run/m
	for i in 1 2 3 4 5 6; do	# from the page cache as well
		dd if=/dev/ublkb0 bs=4k iflag=direct 2>/dev/null | md5sum
	done | uniq | wc -l | grep -qx 1 || { echo "reads differ"; return 1; }
	dd if=/dev/ublkb0 bs=64k iflag=direct 2>/dev/null | md5sum >/run/device
	ublk stop 0 || return 1
	l=$(losetup -f --show -o 31 --sizelimit 31457280 disk.img) || return 1
	md5sum <"$l" | cmp - /run/device || st=1
	mount "$l" /run/m && md5sum /run/m/f | cmp - /run/before || st=1
	umount /run/m; losetup -d "$l"
	[ "$(stat -c %s disk.img)" = 33554432 ] && [ $st = 0 ] || return 1
	dd if=disk.img bs=31 count=1 2>/dev/null | tr -d '\252' | wc -c | grep -qx 0 &&
	tail -c +$((31 + 31457280 + 1)) disk.img | tr -d '\252' | wc -c | grep -qx 0
}
mkdir -p /run/m
check "--offset=31: what losetup -o 31 shows" any_byte
if ublk file disk.img --zero-copy=on -d -q >/dev/null 2>&1; then
	ublk stop 0
	check "--offset=31, zero copy: what losetup -o 31 shows" any_byte --zero-copy=on
fi
unaligned_disk() {	# of 512-byte blocks
	local before
	before=$(dmesg | grep -c 'ublkb0, sector')
	ublk file /dev/ram1 --offset=31 --size=16M -d -q >/dev/null || return 1
	dd if=/dev/urandom of=/dev/ublkb0 bs=1M count=16 oflag=direct 2>/dev/null
	blkdiscard -z /dev/ublkb0 && cmp -n 16777216 /dev/ublkb0 /dev/zero && ublk stop 0 || return 1
	[ "$(dmesg | grep -c 'ublkb0, sector')" = "$before" ] || { dmesg | grep 'ublkb0, sector'; return 1; }
}
check "--offset=31 of a disk: zeroes, and no error in the kernel's log" unaligned_disk
odd() {	# 1000001 bytes: the last block is not whole
	rm -f odd; head -c 1000001 /dev/urandom >odd
	before=$(md5sum <odd)
	ublk file odd -d >out 2>err || return 1
	grep -q 'last 65 bytes' err && [ "$(blockdev --getsize64 /dev/ublkb0)" = 999936 ] || { cat err; return 1; }
	cmp -n 999936 odd /dev/ublkb0 && ublk stop 0 && [ "$(md5sum <odd)" = "$before" ]
}
check "a size that is not whole blocks is rounded down, with a notice" odd
big_blocks() {
	rm -f disk.img; truncate -s 8M disk.img
	ublk file disk.img --block-size=4096 -d -q >/dev/null && [ "$(blockdev --getss /dev/ublkb0)" = 4096 ] && ublk stop 0
}
check "--block-size=4096" big_blocks
sync
mount -o remount,ro /mnt
read_only() {
	before=$(md5sum <disk.img)
	ublk file disk.img -d >/run/out 2>/run/err && grep -q 'read-only' /run/err && [ "$(blockdev --getro /dev/ublkb0)" = 1 ] || { cat /run/err; return 1; }
	! dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct 2>/dev/null || return 1
	dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null && ublk stop 0 && [ "$(md5sum <disk.img)" = "$before" ]
}
check "read-only media: a read-only device, with a notice" read_only
share() {
	ublk file disk.img -r -d -q >/dev/null && ublk file disk.img -r -d -q >/dev/null &&
	cmp /dev/ublkb0 /dev/ublkb1 && ublk stop 0 1
}
check "--read-only shares a file" share
cd /tmp/case || exit
umount /mnt
list() {
	truncate -s 8M disk.img
	ublk file disk.img -d -q >/dev/null && ublk list | grep -q "^/dev/ublkb0 *file *8M *live .* $PWD/disk.img$" && ublk stop 0
}
check "list shows type and backing" list
rmmod brd loop

nothing_left
