# The backing fails: the client hears of it, and what was acknowledged is there.
. /tests/lib.sh
export DM_DISABLE_UDEV=1	# dmsetup makes its nodes itself
section "file: failures of the backing"
modprobe brd rd_nr=1 rd_size=65536 max_part=0
modprobe dm-mod
dd if=/dev/urandom of=src bs=1M count=4 2>/dev/null
mkdir -p /run/t

# ENOSPC: a sparse file on a filesystem that fills up in the middle of a request
full_direct() {	# KIB BLOCK: what dd was told is written is there
	local st=0 n
	mount -t tmpfs -o size=${1}k tmpfs /run/t && truncate -s 4M /run/t/disk.img || return 1
	ublk file /run/t/disk.img -d -q >/dev/null || return 1
	dd if=src of=/dev/ublkb0 bs=$2 oflag=direct 2>dd.out || st=$?
	[ $st != 0 ] && grep -q 'No space left' dd.out || { echo "$1 KiB: dd: $st"; cat dd.out; return 1; }
	n=$(sed -n 's/+.* records out$//p' dd.out)
	ublk stop 0 || return 1
	cmp -n $((n * $2)) src /run/t/disk.img || { echo "$1 KiB, blocks of $2: acknowledged bytes are missing"; return 1; }
	umount /run/t
}
full_direct_all() {
	local i=0
	while [ $i -lt ${FILL_POINTS:-50} ]; do
		full_direct $((64 + i * 36)) $((4096 << (i % 9))) || return 1
		i=$((i + 1))
	done
}
check "full at ${FILL_POINTS:-50} points: direct writers get ENOSPC, acknowledged bytes are there" full_direct_all
full_buffered() {
	local st=0
	mount -t tmpfs -o size=1000k tmpfs /run/t && truncate -s 4M /run/t/disk.img &&
		ublk file /run/t/disk.img -d -q >/dev/null || return 1
	dd if=src of=/dev/ublkb0 bs=64k conv=fsync 2>dd.out || st=$?
	ublk stop 0; umount /run/t
	[ $st != 0 ] && grep -q fsync dd.out || { cat dd.out; return 1; }
}
check "full: buffered writers hear of it at fsync" full_buffered

# EIO: eight sectors in the middle cannot be read or written
size=$((64 * 2048))
bad_disk() {
	dmsetup create bad <<-T
		0 8192 linear /dev/ram0 0
		8192 8 error
		8200 $((size - 8200)) linear /dev/ram0 8200
	T
}
bad() {
	bad_disk && ublk file /dev/mapper/bad --direct -d -q >/dev/null || return 1
	dd if=/dev/ublkb0 of=/dev/null bs=4k skip=1024 count=1 iflag=direct 2>err && { echo "reads"; return 1; }
	grep -q 'Input/output' err || return 1
	dd if=src of=/dev/ublkb0 bs=1M seek=4 count=1 oflag=direct conv=notrunc 2>err && { echo "writes"; return 1; }
	dd if=src of=/dev/ublkb0 bs=4k seek=1025 count=1 oflag=direct 2>/dev/null &&
		dd if=/dev/ublkb0 bs=4k skip=1025 count=1 iflag=direct 2>/dev/null | cmp -n 4096 - src &&
		ublk stop 0 && dmsetup remove bad
}
check "bad sectors: EIO there, and only there" bad
bad_cached() {	# a page that cannot be read may stay in the cache, of no use
	local i
	bad_disk && ublk file /dev/mapper/bad -d -q >/dev/null || return 1
	for i in 1 2 3 4; do
		timeout 10 dd if=/dev/ublkb0 of=/dev/null bs=4k skip=1024 count=1 iflag=direct 2>err && { echo "reads"; return 1; }
		grep -q 'Input/output' err || { echo "time $i: $(cat err)"; return 1; }
		dd if=/dev/ublkb0 of=/dev/null bs=4k skip=1025 count=1 iflag=direct 2>/dev/null &&
			dd if=/dev/ublkb0 of=/dev/null bs=4k skip=1023 count=1 iflag=direct 2>/dev/null || return 1
	done
	ublk stop 0 && dmsetup remove bad
}
check "bad sectors behind the page cache: EIO there each time, and only there" bad_cached
latch() {	# the kernel reports a failed writeback once: ublk remembers
	local st1=0 st2=0
	dmsetup create flaky --table "0 $size linear /dev/ram0 0" && ublk file /dev/mapper/flaky -d -q >/dev/null || return 1
	dd if=src of=/dev/ublkb0 bs=4k count=4 conv=fsync 2>err || { echo "first fsync"; return 1; }
	dmsetup suspend --noflush flaky; dmsetup reload flaky --table "0 $size error"; dmsetup resume flaky
	dd if=src of=/dev/ublkb0 bs=4k count=4 seek=8 conv=fsync 2>err || st1=$?
	dmsetup suspend --noflush flaky; dmsetup reload flaky --table "0 $size linear /dev/ram0 0"; dmsetup resume flaky
	dd if=src of=/dev/ublkb0 bs=4k count=4 seek=16 conv=fsync 2>err || st2=$?
	ublk stop 0; dmsetup remove --retry flaky
	[ $st1 != 0 ] && [ $st2 != 0 ] || { echo "during: $st1, after: $st2"; return 1; }
}
check "a failed fsync is remembered: later ones fail as well" latch

read_block() { dd if=/dev/ublkb0 of=/dev/null bs=4k skip="$1" count=1 iflag=direct 2>/dev/null; }
reads_soon() {	# in a process that may have to be left waiting
	rm -f read
	(read_block "$1" && touch read) &
	wait_for 10 test -e read
}
stalled() {	# UID: a disk that does not answer holds up nobody who need not wait for it
	local i st=0
	dmsetup create slow --table "0 $size linear /dev/ram0 0" && mkfs.ext4 -qF /dev/mapper/slow && mount /dev/mapper/slow /mnt &&
		dd if=src of=/mnt/disk.img bs=1M 2>/dev/null && chown "$1" /mnt/disk.img && sync || return 1
	ublk file /mnt/disk.img -d -q >/dev/null || return 1
	echo 3 >/proc/sys/vm/drop_caches
	read_block 512 || return 1
	dmsetup suspend --noflush --nolockfs slow
	for i in 1 2 3 4 5 6 7 8; do	# of a part of the file that is not all there
		reads_soon 512 || { st=1; break; }
	done
	if [ $st = 0 ]; then
		read_block 712 &
		wait_for 10 grep -q '^ *1 ' /sys/block/ublkb0/inflight || st=2
		reads_soon 512 || st=3
		grep -q '^ *1 ' /sys/block/ublkb0/inflight || st=4
	fi
	dmsetup resume slow
	wait
	ublk stop 0; umount /mnt; dmsetup remove --retry slow
	[ $st = 0 ] || { echo "stopped at $st"; return 1; }
}
check "a disk that does not answer: what is cached is read all the same" stalled 0
check "a disk that does not answer, another user's file: what is cached is read all the same" stalled 1000

truncated() {	# under load
	truncate -s 32M t.img
	dd if=/dev/urandom of=t.img bs=1M count=32 conv=notrunc 2>/dev/null
	rm -f out
	ublk file t.img >out 2>err & srv=$!
	wait_for 10 test -s out || return 1
	fio --name=r --filename=/dev/ublkb0 --direct=1 --rw=randread --bs=4k --iodepth=16 --ioengine=io_uring \
	    --size=32M --time_based --runtime=4 --continue_on_error=all --output-format=terse >fio.out 2>&1 & f=$!
	wait_for 30 sh -c '[ "$(cut -d" " -f3 /sys/block/ublkb0/stat | tr -d " ")" != 0 ]'
	truncate -s 16M t.img
	wait $f
	dd if=/dev/ublkb0 of=/dev/null bs=4k skip=6000 count=1 iflag=direct 2>/dev/null && { echo "reads beyond the end"; return 1; }
	dd if=/dev/ublkb0 of=/dev/null bs=1M count=16 iflag=direct 2>/dev/null || { echo "the rest does not read"; return 1; }
	dd if=src of=/dev/ublkb0 bs=4k seek=6000 count=1 oflag=direct 2>/dev/null &&
		dd if=/dev/ublkb0 bs=4k skip=6000 count=1 iflag=direct 2>/dev/null | cmp -n 4096 - src || return 1
	ublk stop 0 && wait $srv || return 1
	[ "$(grep -c truncated err)" = 1 ] || { cat err; return 1; }
}
check "truncated under load: EIO beyond the end, said once, the rest goes on" truncated
if modprobe scsi_debug dev_size_mb=64 2>/dev/null; then
	unplugged() {
		modprobe sd_mod 2>/dev/null
		wait_for 10 sh -c 'ls /sys/block/sd* && ls /dev/sd?' || return 1
		sd=$(basename /sys/block/sd?)
		ublk file /dev/"$sd" -d -q --direct >/dev/null || return 1
		fio --name=r --filename=/dev/ublkb0 --direct=1 --rw=randrw --bs=4k --iodepth=16 --ioengine=io_uring \
		    --size=32M --time_based --runtime=3 --continue_on_error=all --output-format=terse >fio.out 2>&1 & f=$!
		wait_for 30 sh -c '[ "$(cut -d" " -f3 /sys/block/ublkb0/stat | tr -d " ")" != 0 ]'
		echo 1 >/sys/block/"$sd"/device/delete
		wait $f
		dd if=src of=/dev/ublkb0 bs=4k count=1 oflag=direct 2>/dev/null && { echo "still writes"; return 1; }
		pidof ublk >/dev/null && ublk stop 0
	}
	check "unplugged under load: errors, no hang, the server stops cleanly" unplugged
	rmmod scsi_debug
else
	skip "unplugged under load" "this kernel has no scsi_debug"
fi
rm -f ./*
rmmod brd

nothing_left
