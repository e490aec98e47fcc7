# resize: a device grows while it is used, and does not shrink under who uses it. RESIZES of those under load.
. /tests/lib.sh
RESIZES=${RESIZES:-100}
section "resize"
modprobe -a ublk_drv ext4 xfs btrfs loop
size() { blockdev --getsize64 "/dev/ublkb${1:-0}"; }
is() { bytes=$(echo $1 | sed "s/M$/ * 1048576/; s/T$/ * 1099511627776/"); [ "$(size)" = $(($bytes)) ] && [ "$(ublk list 0 --json | jq ".devices[0].size")" = $(($bytes)) ] || { size; ublk list; return 1; }; }
server() { ublk list 0 --json | jq '.devices[0].pid'; }
wr() { dd if=data of=/dev/ublkb0 bs=64k seek="$1" count=1 oflag=direct conv=notrunc 2>err; }
rd() { dd if=/dev/ublkb0 bs=64k skip="$1" count=1 iflag=direct 2>err | cmp - data; }
zero() { dd if=/dev/ublkb0 bs=64k skip="$1" count=1 iflag=direct 2>err | cmp -n 65536 - /dev/zero; }
again() {	# COMMAND...: another server
	p=$(server) && kill -9 "$p" && wait_for 10 sh -c "p=\$(ublk list 0 --json | jq '.devices[0].pid'); [ \"\$p\" != null ] && [ \"\$p\" != $p ]"
}
dd if=/dev/urandom of=data bs=64k count=1 2>/dev/null
truncate -s 16M img

expect_status 2 "no size" ublk resize 0
expect_status 2 "no device" ublk resize
expect_status 2 "a size that is none" ublk resize 0 1.5G
expect_status 2 "no bytes" ublk resize 0 0
expect_status 7 "a device that is not there" ublk resize 0 1G
if ! ublk check --json | jq -e '.checks[] | select(.item == "UPDATE_SIZE" and .state == "ok")' >/dev/null; then
	ublk mem 16M -d -q >/dev/null
	check "a kernel without: one line, and its reason" one_line 1 'resize: this takes Linux 6.16' ublk resize 0 32M
	check "nothing has changed" is 16M
	ublk stop 0
	nothing_left
	exit 0
fi

# ---- a RAM disk ----
grown() {	# OPTIONS...: to 1 TiB, and what was there is there
	ublk mem 16M -d -q "$@" >/dev/null && wr 0 && wr 255 || return
	exec 8<>/dev/ublkb0
	ublk resize 0 64M && is 64M && rd 0 && rd 255 && zero 256 && wr 1023 && rd 1023 && ublk resize ublkb0 1T && is 1T &&
		wr 16777215 && rd 16777215 && zero 1024 && rd 1023 && blkdiscard -o 67108864 -l 64K /dev/ublkb0 && zero 1024
	st=$?
	exec 8>&-
	ublk stop 0 && return $st
}
check "mem: 16 MiB to 64 MiB to 1 TiB while it is open" grown
check "mem, 4 queues" grown --queues=4
check "mem --resilient" grown --resilient
check "mem --huge" grown --huge
expect_used() { used=$(ublk list 0 --json | jq '.devices[0].used'); [ "$used" -ge "$1" ] && [ "$used" -le "$2" ] || { echo "used: $used"; return 1; }; }
taken() {	# --prealloc: what it has grown by is there as well, or it does not grow
	ublk mem 16M --prealloc -d -q $1 >/dev/null && wr 3 && ublk resize 0 128M && is 128M && rd 3 && zero 256 && expect_used 134217728 136000000 || return
	one_line 1 'more than is left of memory' ublk resize 0 1T && is 128M && wr 2047 && rd 2047 && ublk resize 0 144M && zero 2048 && expect_used 150994944 154000000 || return
	[ -z "$1" ] || { again && is 144M && rd 3 && rd 2047 && zero 2048; } || return
	ublk resize 0 32M && expect_used 33554432 36000000 && rd 3 && ublk resize 0 33M && expect_used 34603008 37000000 && zero 512 && ublk stop 0
}
check "mem --prealloc: takes it, or refuses" taken ""
check "mem --prealloc --resilient: so does the next server" taken --resilient
shrunk() {	# OPTIONS...: what is cut off does not come back
	ublk mem 64M -d -q "$@" >/dev/null && wr 0 && wr 511 && wr 512 && wr 1023 && ublk resize 0 33553920 && is 33553920 && rd 0 &&
		ublk resize 0 64M && is 64M && rd 0 && zero 512 && zero 1023 || return
	# of the page at the end the bytes before it stay
	dd if=/dev/ublkb0 bs=512 skip=65408 count=127 iflag=direct 2>/dev/null | cmp -n 65024 - data || return
	dd if=/dev/ublkb0 bs=512 skip=65535 count=1 iflag=direct 2>/dev/null | cmp -n 512 - /dev/zero && ublk stop 0
}
costs() {	# what was never written costs nothing, however much of it is cut off or discarded
	ublk mem 64M -d -q $1 >/dev/null && ublk resize 0 1T && ublk resize 0 64M -q && ublk resize 0 1T && blkdiscard /dev/ublkb0 || return
	for p in $(pidof ublk); do
		kib=$(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' /proc/$p/status)
		[ "$kib" -lt 8192 ] || { echo "$kib KiB"; return 1; }
	done
	ublk stop 0
}
check "mem: a TiB cut off and discarded costs nothing" costs ""
check "mem --resilient: the same" costs --resilient
check "mem: what was cut off is zeroes when it grows again" shrunk
check "mem --resilient: the same" shrunk --resilient

ublk stop --all --force 2>/dev/null	# of a check that failed

# ---- who uses it ----
ublk mem 64M -d -q >/dev/null
mkfs.ext4 -qF /dev/ublkb0
mount /dev/ublkb0 /mnt
check "mounted: does not shrink" one_line 6 'mounted' ublk resize 0 32M
check "mounted: grows" ublk resize 0 128M
umount /mnt
sleep 1000 </dev/ublkb0 & holder=$!
wait_for 5 test -e /proc/$holder/fd/0
check "open: does not shrink" one_line 6 'process' ublk resize 0 32M
check "open: --force" ublk resize 0 32M --force
check "it has shrunk" is 32M
kill $holder; wait $holder 2>/dev/null
printf 'start=2048, size=40960\n' | sfdisk -q /dev/ublkb0 2>/dev/null
wait_for 5 test -e /sys/block/ublkb0/ublkb0p1
check "a partition beyond it: does not shrink" one_line 1 'partition' ublk resize 0 16M
check "down to the end of the partition" ublk resize 0 21M
check "--force: below it" ublk resize 0 16M --force
expect_eq 0 "$(dd if=/dev/ublkb0p1 of=/dev/null bs=64k skip=300 count=1 iflag=direct 2>/dev/null; cat /sys/block/ublkb0/ublkb0p1/inflight | awk '{ print $1 + $2 }')" \
	"what lies beyond of the partition is answered"
check "not a multiple of the block size" one_line 1 'block size' ublk resize 0 1000001
check "max: not for a RAM disk" one_line 1 'max' ublk resize 0 max
check "the size that it has" ublk resize 0 16M
asked() { ls -l /proc/$1/fd | grep -q ublk-mail && grep -q "FLOCK.* $1 " /proc/locks; }
server=$(server)
kill -STOP "$server"
ublk resize 0 24M & first=$!
wait_for 5 asked $first
check "a second one at the same time: refused" one_line 6 'somebody else' ublk resize 0 32M
kill -CONT "$server"
check "the first one goes on" wait $first
check "and has it" is 24M
kill -STOP "$server"
ublk resize 0 32M & first=$!
wait_for 5 asked $first
kill -9 $first; wait $first 2>/dev/null
kill -CONT "$server"
check "the one after a dead one: its own size" ublk resize 0 40M
check "is what it has" is 40M
kill -STOP "$server"
ublk resize 0 32M --force & first=$!
wait_for 5 asked $first
kill -9 $first; wait $first 2>/dev/null
kill -CONT "$server"
dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null
check "what nobody waits for is not done" is 40M
check "back" ublk resize 0 16M --force
kill -9 "$server"
wait_for 10 sh -c 'ublk list 0 | grep -q dead'
check "a dead device: one line" one_line 1 'no server' ublk resize 0 32M
ublk stop 0

ublk stop --all --force 2>/dev/null	# of a check that failed

# ---- a file ----
ublk file img -d -q >/dev/null
check "a file: grows" ublk resize img 64M
check "its size" is 64M
expect_eq 67108864 "$(stat -c %s img)" "the file has grown"
check "written at its end" wr 1023
check "a file: shrinks, and keeps its bytes" ublk resize 0 16M
expect_eq 67108864 "$(stat -c %s img)" "the file has not"
check "max" ublk resize 0 max
check "is what the file holds" is 64M
check "with what was there" rd 1023
truncate -s 100000000 img
check "a file that has grown: max" ublk resize 0 max
check "whole blocks of it" is 99999744
ublk stop 0
ublk file img --read-only -d -q >/dev/null
check "--read-only: not beyond the file" one_line 1 'reading only' ublk resize 0 200M
ublk stop 0
ublk file img --offset=1M --size=8M -d -q >/dev/null
check "--offset: not beyond the file" one_line 1 'behind --offset' ublk resize 0 200M
check "--offset: within it" ublk resize 0 16M
check "--offset: max" ublk resize 0 max
check "is the rest of the file" is 98951168
ublk stop 0
ublk file img --snapshot -d -q >/dev/null
check "a snapshot: refused" one_line 1 'a snapshot is as large' ublk resize 0 200M
ublk stop 0
below() {	# a block device that has grown
	truncate -s 16M img && l=$(losetup -f --show img) && ublk file "$l" -d -q >/dev/null && is 16M || return
	one_line 1 'block device holds' ublk resize 0 32M || return
	truncate -s 48M img && losetup -c "$l" && ublk resize 0 max && is 48M && wr 767 && rd 767 && ublk stop 0 && losetup -d "$l"
}
check "a block device: max, when it has grown" below
full() {	# the hole is there, and what does not fit is an error of the write
	mkdir -p t && mount -t tmpfs -o size=8M none t && truncate -s 4M t/img && ublk file t/img -d -q >/dev/null && ublk resize 0 64M && is 64M &&
		wr 1023 && rd 1023 || return
	! dd if=/dev/zero of=/dev/ublkb0 bs=1M count=16 oflag=direct 2>err && grep -q 'No space' err && rd 1023 && ublk stop 0 && umount t
}
check "a full filesystem: grows, and errors where there is no room" full
umount t 2>/dev/null
far() {	# far behind what was mapped when it was opened
	truncate -s 16M img && ublk file img -d -q >/dev/null && ublk resize 0 1T && is 1T && wr 16777215 && rd 16777215 && zero 8000000 && ublk stop 0
}
check "a file: to 1 TiB" far

ublk stop --all --force 2>/dev/null	# of a check that failed

# ---- deaths ----
kept() {	# the size is the kernel's to keep
	truncate -s 16M img && ublk file img --recoverable -d -q >/dev/null && ublk resize 0 48M && wr 700 || return
	kill -9 "$(server)" && wait_for 10 sh -c 'ublk list 0 | grep -q quiesced' && ublk recover img -d -q && is 48M && rd 700 && ublk stop 0
}
check "--recoverable: keeps its size" kept
outlived() {	# WHAT...
	truncate -s 16M img && ublk "$@" --resilient -d -q >/dev/null && ublk resize 0 48M && wr 700 && again && is 48M && rd 700 &&
		ublk resize 0 64M && wr 1023 && again && is 64M && rd 1023 && rd 700 && ublk resize 0 32M && again && is 32M && ublk stop 0
}
check "mem --resilient: the next server has the size" outlived mem 16M
check "file --resilient: the same" outlived file img
# The server is killed while it resizes. What was said to be done is, and what the kernel says is what there is.
die_at() {	# SIZE COMMAND...: how it is killed, once
	goal=$1; shift
	p=$(server)
	"$@" & k=$!
	[ "$1" != strace ] || wait_for 10 grep -q "^TracerPid:.[1-9]" /proc/$p/status || return
	st=0; ublk resize 0 $goal --force 2>err || st=$?
	kill $k 2>/dev/null; wait $k 2>/dev/null
	wait_for 10 sh -c "p=\$(ublk list 0 --json | jq '.devices[0].pid'); [ \"\$p\" != null ]" || return
	now=$(size)
	[ $st != 0 ] || [ "$now" = $goal ] || { echo "said to be done: $now, not $goal"; return 1; }
	last=$((now / 65536 - 1))
	wr $last && rd $last && rd 0 && is "$now" || { echo "$*: at $last"; return 1; }
	[ "$(server)" = "$p" ] || deaths=$((deaths + 1))
}
steps() {	# WHAT...: at each of its system calls
	truncate -s 16M img && ublk "$@" --resilient -d -q >/dev/null && wr 0 || return
	deaths=0 n=0
	for call in flock:when=1 ftruncate:when=1 mprotect:when=1 flock:when=2 flock:when=3 io_uring_enter:when=2 io_uring_enter:when=3 io_uring_enter:when=4 io_uring_enter:when=5 fallocate:when=1; do
		n=$((n + 1))
		for mib in $((16 + n * 2)) $((15 + n)); do
			die_at $((mib << 20)) strace -qq -o /dev/null -e trace=${call%:*} -e inject=${call%:*}:signal=KILL:${call#*:} -p "$(server)" || { echo "$call"; return 1; }
		done
	done
	echo "# $deaths deaths"
	[ $deaths -ge 8 ] && ublk stop 0
}
check "mem, killed at each step of a resize: what the kernel says is what there is" steps mem 16M
check "file, the same" steps file img
timed() {	# at a moment that is a little later each time
	deaths=0 n=0
	ublk mem 16M --resilient -d -q >/dev/null && wr 0 || return
	while [ $n -lt ${KILLS:-6} ]; do
		n=$((n + 1))
		die_at $(((16 + n) << 20)) sh -c "i=0; while [ \$i -lt $((n * 60)) ]; do i=\$((i + 1)); done; kill -9 $(server)" || return
	done
	ublk stop 0
}
check "killed at ${KILLS:-6} other moments" timed

ublk stop --all --force 2>/dev/null	# of a check that failed

# ---- filesystems, and load ----
fs() {	# MKFS GROW CHECK [OPTIONS]: grows twice under fio
	truncate -s 0 img && truncate -s 320M img && ublk file img --size=320M -d -q ${4:-} >/dev/null && $1 /dev/ublkb0 >/dev/null && mount /dev/ublkb0 /mnt || return
	fio --name=v --directory=/mnt --size=24M --rw=randwrite --bs=4k --ioengine=psync --fsync=64 --loops=3 --verify=crc32c --verify_fatal=1 \
		--output-format=terse --minimal >fio.out 2>&1 & f=$!
	for to in 448M 640M; do
		ublk resize 0 $to && $2 >grow.out 2>&1 || { cat grow.out; return 1; }
	done
	wait $f || { tail -3 fio.out; return 1; }
	[ "$(stat -f -c '%b * %S' /mnt | sed 's/.*/\$((&))/' | { read -r e; eval "echo $e"; })" -gt $((500 << 20)) ] || { stat -f /mnt; return 1; }
	umount /mnt && $3 /dev/ublkb0 >fsck.out 2>&1 && ublk stop 0 || { cat fsck.out; return 1; }
}
check "ext4 grows while fio verifies" fs "mkfs.ext4 -qF" "resize2fs /dev/ublkb0" "e2fsck -fn"
check "xfs" fs "mkfs.xfs -qf" "xfs_growfs /mnt" "xfs_repair -n"
if grep -q btrfs /proc/filesystems; then check "btrfs" fs "mkfs.btrfs -qf" "btrfs filesystem resize max /mnt" "btrfs check --readonly"
else skip "btrfs" "this kernel has none"; fi
load() {	# what is written all over it while it grows is there
	ublk mem 64M --queues=2 -d -q >/dev/null || return
	fio --name=v --filename=/dev/ublkb0 --size=48M --rw=randwrite --bs=4k --iodepth=16 --ioengine=io_uring --direct=1 --loops=50 --verify=crc32c \
		--verify_fatal=1 --output-format=terse --minimal >fio.out 2>&1 & f=$!
	n=0
	while [ $n -lt "$RESIZES" ]; do
		n=$((n + 1))
		ublk resize 0 $((64 + n))M || return
	done
	kill -0 $f || { echo "fio has ended before"; tail -3 fio.out; return 1; }
	kill $f; wait $f
	is $(((64 + RESIZES) << 20)) && ! grep -q 'verify: bad' fio.out && ublk stop 0
}
check "$RESIZES times under load" load

nothing_left
