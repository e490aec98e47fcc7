# What is done without a ring: WRITEs to a file in memory, FLUSHes. What an error is told to.
. /tests/lib.sh
section "file: without a ring"

modprobe ublk_drv
mkdir -p small
mount -t tmpfs -o size=24m none small
truncate -s 32M disk.img

# for longer than a second, as what is known of the file is good for one
work() { # DEV SECONDS RW
	fio --name=w --filename="$1" --direct=1 --ioengine=io_uring --rw="$3" --bs=4k,4k --bssplit=4k/70:64k/30 --iodepth=16 \
		--size=16M --time_based --runtime="$2" --norandommap --minimal >/dev/null
}
verified() {
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k --iodepth=32 --size=16M --loops=2 \
		--verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >out 2>&1 || { cat out; return 1; }
}
in_memory() {
	ublk file disk.img -d -q "$@" >/dev/null && work /dev/ublkb0 2 randrw && verified && work /dev/ublkb0 1 randtrim && verified || return 1
	dd if=/dev/ublkb0 bs=1M iflag=direct 2>/dev/null | md5sum >device && ublk stop 0 && md5sum <disk.img | cmp - device
}
check "a file on tmpfs: what is written and discarded is there, also when it is over" in_memory
check "the same with two queues" in_memory --queues=2

mtime() {
	ublk file disk.img -d -q >/dev/null && touch -d 2001-01-01 disk.img && work /dev/ublkb0 3 randwrite || return 1
	age=$(($(date +%s) - $(stat -c %Y disk.img)))
	ublk stop 0
	[ $age -le 2 ] || { echo "its time of modification is $age s old"; return 1; }
}
check "its time of modification goes on" mtime

few_buffers() {
	ublk file disk.img -d -q >/dev/null || return 1
	fio --name=w --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=write --bs=512k --iodepth=64 --size=32M --minimal >/dev/null
	kib=$(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$(ublk list 0 --json | jq '.devices[0].pid')/status")
	echo "# KiB of the server's own: $kib"
	ublk stop 0 && [ "$kib" -lt 8192 ]
}
check "a burst of large WRITEs does not take a buffer for each" few_buffers
printf '%s\n' "$out"

shorter() {
	dd if=/dev/zero of=disk.img bs=1M count=32 2>/dev/null && ublk file disk.img -d -q >/dev/null && work /dev/ublkb0 3 randwrite || return 1
	truncate -s 1M disk.img
	# within the second for which the windows that have gone count as there
	head -c 65536 /dev/urandom >data
	timeout 20 dd if=data of=/dev/ublkb0 bs=4k seek=512 oflag=direct conv=notrunc 2>err || { cat err; return 1; }
	dd if=disk.img bs=4k skip=512 count=16 2>/dev/null | cmp - data || return 1
	ublk stop 0 && truncate -s 32M disk.img
}
check "where the file has lost its end a write makes it longer, as ever" shorter

full() {
	truncate -s 32M small/disk.img && ublk file small/disk.img -d -q >/dev/null || return 1
	dd if=/dev/zero of=/dev/ublkb0 bs=1M count=20 oflag=direct 2>/dev/null && work /dev/ublkb0 2 randwrite || return 1
	blkdiscard -o 0 -l 8M /dev/ublkb0 && dd if=/dev/zero of=small/rest bs=1M 2>/dev/null
	! timeout 20 dd if=/dev/urandom of=/dev/ublkb0 bs=64k count=128 oflag=direct conv=notrunc 2>err || { echo "it had room"; return 1; }
	grep -q "No space left" err && rm small/rest && work /dev/ublkb0 1 randwrite && ublk stop 0 || { cat err; return 1; }
}
check "what was discarded and cannot be had again is no space, not an error" full
umount small

modprobe brd rd_nr=1 rd_size=65536
mkfs.ext4 -q -b 4096 /dev/ram0 && mount /dev/ram0 /mnt
dd if=/dev/zero of=/mnt/disk.img bs=1M count=16 2>/dev/null
descriptions() {
	ublk file /mnt/disk.img -d -q "$@" >/dev/null || return 1
	for p in $(pidof ublk); do ls -l /proc/$p/fd | grep -c '^lrwx.*/mnt/disk.img'; done | sort -n | tr '\n' ' '
	ublk stop 0
}
expect_out "^1 $" "one queue has the file open once" descriptions
expect_out "^2 $" "two queues have two descriptions of it" descriptions --queues=2
expect_out "^1 2 $" "a server that has a guard has its own" descriptions --resilient

# of what the kernel makes one of 2 MiB of: huge pages, split
splits() { awk '/^thp_split_page / { print $2 }' /proc/vmstat; }
small() { dd if=data of=/dev/ublkb0 bs=4k count="$1" seek="$2" oflag=direct conv=notrunc 2>/dev/null; }
another() { small 1 100 && sync && [ "$(splits)" != "$before" ]; }
split() { # MOST
	echo 1 >/proc/sys/vm/compact_memory
	dd if=/dev/urandom of=/mnt/disk.img bs=2M count=4 2>/dev/null && sync && cp /mnt/disk.img disk.img || return 1
	before=$(splits)
	ublk file /mnt/disk.img -d -q >/dev/null || return 1
	# nothing of a large folio that is dirty is split
	dd if=disk.img of=/dev/ublkb0 bs=64k count=32 skip=32 seek=32 oflag=direct conv=notrunc 2>/dev/null && small 16 0 && small 16 0 && sync || return 1
	[ "$(splits)" = "$before" ] || { echo "too soon: $(splits), it was $before"; return 1; }
	[ "$1" = 0 ] && another
	[ "$1" = 0 ] || wait_for 10 another || { echo "not split"; return 1; }
	small 16 200 && sync && small 16 200 && sync
	[ $(($(splits) - before)) = "$1" ] || { echo "$(splits), it was $before"; return 1; }
	ublk stop 0 && dd if=data of=disk.img bs=4k count=16 conv=notrunc 2>/dev/null &&
		dd if=data of=disk.img bs=4k count=1 seek=100 conv=notrunc 2>/dev/null &&
		dd if=data of=disk.img bs=4k count=16 seek=200 conv=notrunc 2>/dev/null && cmp disk.img /mnt/disk.img
}
case $(uname -r) in
6.[0-9].* | 6.1[0-5].*) check "small writes where ext4 has small folios only" split 0 ;;
*) check "small writes to a large folio have the kernel split it, once" split 1 ;;
esac
rm /mnt/disk.img && dd if=/dev/zero of=/mnt/disk.img bs=1M count=16 2>/dev/null

writes_first() {
	dd if=/dev/urandom of=/mnt/disk.img bs=1M count=8 2>/dev/null
	strace -f -e trace=sync_file_range,io_uring_setup -o trace ublk file /mnt/disk.img --direct -q -- true || return 1
	grep -m 1 -o 'sync_file_range([0-9]*, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE|SYNC_FILE_RANGE_WRITE|SYNC_FILE_RANGE_WAIT_AFTER\|io_uring_setup' trace |
		grep -q sync_file || { cat trace; return 1; }
}
check "--direct: what is dirty in the page cache is written first" writes_first
umount /mnt

# A FLUSH waits for a disk that stands still, its server is killed, and the disk then fails what was to be written.
modprobe dm-mod
export DM_DISABLE_UDEV=1
dm_table() { echo "0 2048 linear /dev/ram0 0"; echo "2048 2048 $1"; echo "4096 61440 linear /dev/ram0 4096"; }
waits() { grep -qs fsync /proc/$p/task/*/stack || grep -qs 'blkdev_\|wait_on_page\|folio_wait' /proc/$p/task/*/stack; }
told_and_killed() {
	dm_table "linear /dev/ram0 2048" | dmsetup create d && ublk file /dev/mapper/d --resilient -d -q >/dev/null || return 1
	p=$(ublk list --json | jq '.devices[0].pid')
	dd if=/dev/urandom of=/dev/ublkb0 bs=64k count=4 seek=16 oflag=direct 2>/dev/null || return 1
	dm_table error | dmsetup load d && dmsetup suspend --noflush --nolockfs d || return 1
	{ dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct conv=notrunc,fsync 2>err; echo $? >status; } &
	client=$!
	wait_for 10 waits; st=$?
	kill -9 $p
	dmsetup resume d
	wait_for 20 [ -s status ] && wait $client
	[ $st = 0 ] || { echo "no FLUSH was seen to wait"; cat /proc/$p/task/*/stack; }
	[ "$(cat status)" != 0 ] || { echo "its fsync said that all was well"; st=1; }
	! dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct conv=notrunc,fsync 2>/dev/null || { echo "the next one did"; st=1; }
	ublk stop --force 0 && dmsetup remove d && return $st
}
check "--resilient: what a killed server was told is not forgotten" told_and_killed
rm -f disk.img data device out
rmmod brd
nothing_left
