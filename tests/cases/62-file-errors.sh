# What cannot be a disk: a status, one clear line, nothing left behind.
. /tests/lib.sh
section "file: errors"

nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+sys_admin --ambient-caps=+sys_admin "$@"; }

modprobe ublk_drv
truncate -s 8M disk.img
mkfifo fifo
mkdir dir
: >empty
check "missing file" one_line 1 'missing.img: open: No such file' ublk file missing.img -d
check "directory" one_line 1 'dir: open: neither' ublk file dir -d
check "empty file" one_line 1 'empty: open: it is empty' ublk file empty -d
check "fifo, without waiting for its other end" one_line 1 'fifo: open: neither' timeout 5 ublk file fifo -d
check "character device" one_line 1 'neither' ublk file /dev/null -d
check "offset at the end" one_line 1 'beyond its end' ublk file disk.img --offset=8M -d
check "size beyond the file" one_line 1 'more than it holds' ublk file disk.img --size=9M -d
check "size beyond the file, from an offset" one_line 1 'more than it holds' ublk file disk.img --offset=4M --size=5M -d
head -c 100 /dev/zero >small
check "smaller than a block" one_line 1 'small: open: it is smaller than one block' ublk file small -d
check "--create of what exists" one_line 1 'File exists' ublk file disk.img --create --size=1M -d
check "--create without --size" one_line 2 'how large' ublk file new.img --create -d
check "--offset that is not whole blocks, with --direct" one_line 2 'offset=1000.*multiple' ublk file disk.img --offset=1000 --direct -d
check "--zero-copy=maybe" one_line 2 'maybe.*auto|on|off' ublk file disk.img --zero-copy=maybe -d
check "no path" one_line 2 'PATH is missing' ublk file -d
check "an option of mem" one_line 2 '--prealloc' ublk file disk.img --prealloc
chmod 600 disk.img
chmod 666 /dev/ublk-control
check "no permission on the file" one_line 4 'disk.img: open: Permission denied' nobody ublk file disk.img -d
chmod 600 /dev/ublk-control

taken() {
	ublk file disk.img -d -q >/dev/null || return 1
	p=$(pidof ublk)
	one_line 6 "in use: process $p has it locked" ublk file disk.img -d || return 1
	one_line 6 'locked' ublk file disk.img -r -d || return 1
	one_line 1 'ADD_DEV.*taken' ublk file new.img --create --size=1M --id=0 -d || return 1
	! [ -e new.img ] || { echo "new.img is left"; return 1; }
	ublk stop 0
}
check "a second writer is refused and told by whom; a file made in vain goes again" taken

modprobe brd rd_nr=1 rd_size=65536 max_part=0
claimed() {
	mkfs.ext4 -qF /dev/ram0 && mount /dev/ram0 /mnt || return 1
	one_line 6 'in use: mounted' ublk file /dev/ram0 -d; st=$?
	umount /mnt
	return $st
}
check "a mounted block device is refused" claimed
set_read_only() {
	blockdev --setro /dev/ram0 && ublk file /dev/ram0 -d >out 2>err || { cat err; return 1; }
	[ "$(wc -l <err)" = 1 ] && grep -q 'read-only' err && [ "$(blockdev --getro /dev/ublkb0)" = 1 ] || { cat err; return 1; }
	! dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct 2>/dev/null || return 1
	dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null && ublk stop 0 && blockdev --setrw /dev/ram0 || return 1
	ublk file /dev/ram0 -d >out 2>err && [ ! -s err ] && [ "$(blockdev --getro /dev/ublkb0)" = 0 ] && ublk stop 0
}
check "a block device that is set read-only: a read-only device, with a notice" set_read_only
blockdev --setrw /dev/ram0
[ ! -e /dev/ublkb0 ] || ublk stop 0
stacked() {
	ublk mem 8M -d -q >/dev/null && ublk file /dev/ublkb0 -d -q --id=9 >/dev/null || return 1
	local st=0
	ublk file /dev/ublkb0 -d >out 2>err || st=$?
	grep -q 'in use' err || st=0
	ublk stop 0 2>/dev/null && st=0		# it is in use as well
	ublk stop 9 && ublk stop 0 && [ $st = 6 ]
}
check "a device that another ublk device is made of is refused" stacked
no_direct() {	# zram has 4096-byte blocks: an image of 512-byte blocks stays readable, buffered
	modprobe zram num_devices=1 && echo 64M >/sys/block/zram0/disksize && mkfs.ext4 -qF -b 4096 /dev/zram0 && mount /dev/zram0 /mnt || return 1
	truncate -s 8M /mnt/disk.img
	ublk file /mnt/disk.img --direct -d >out 2>err && [ "$(blockdev --getss /dev/ublkb0)" = 512 ] && grep -q buffered err || { cat err; return 1; }
	dd if=/dev/urandom of=/dev/ublkb0 bs=512 count=3 oflag=direct 2>/dev/null && ublk stop 0 || return 1
	ublk file /mnt/disk.img --direct --block-size=4096 -d >out 2>err && ! grep -q buffered err || { cat err; return 1; }
	dd if=/dev/urandom of=/dev/ublkb0 bs=4k count=3 oflag=direct 2>/dev/null && ublk stop 0; st=$?
	umount /mnt
	echo 1 >/sys/block/zram0/reset
	return $st
}
check "--direct where it would take 4096-byte blocks: buffered, with a notice" no_direct
rmmod brd zram 2>/dev/null

nothing_left
