# -d from scripts: usable at once, a hundred times; with closed descriptors; and
# the server's death at every step of the way up.
. /tests/lib.sh
section "daemon"
modprobe ublk_drv

percentiles() {	# FILE NAME: microseconds, one a line
	sort -n "$1" >sorted
	echo "# $2: p50 $(sed -n 50p sorted) us, p99 $(sed -n 99p sorted) us, of $(wc -l <sorted)"
}
hundred() {
	: >up.us; : >down.us
	i=0
	while [ $i -lt 100 ]; do
		a=$(date +%s%N)
		d=$(ublk mem 64M -d) || return 1
		b=$(date +%s%N)
		dd if="$d" of=/dev/null bs=4k count=1 2>/dev/null || { echo "$d not usable, round $i"; return 1; }
		c=$(date +%s%N)
		ublk stop "$d" || return 1
		e=$(date +%s%N)
		echo $(((b - a) / 1000)) >>up.us
		echo $(((e - c) / 1000)) >>down.us
		i=$((i + 1))
	done
}
check "100 times in a row: usable at return" hundred
percentiles up.us "ublk mem 64M -d"
percentiles down.us "ublk stop"

closed() {
	for fds in "<&-" ">&-" "2>&-" "<&- >&-" "<&- 2>&-" ">&- 2>&-" "<&- >&- 2>&-"; do
		st=0; eval "ublk mem 16M -d $fds" >/dev/null || st=$?
		case $fds in *">&-"*) ;; *) [ $st = 0 ] || { echo "$fds: $st"; return 1; } ;; esac
		[ -b /dev/ublkb0 ] || { echo "$fds: no device"; return 1; }
		p=$(pidof ublk)
		for n in 0 1 2; do [ "$(readlink /proc/$p/fd/$n)" = /dev/null ] || { echo "$fds: fd $n"; return 1; }; done
		ublk stop 0 || return 1
	done
}
check "stdin, stdout, stderr closed, in every combination" closed
full() { st=0; ublk mem 16M -d >/dev/full 2>err || st=$?; [ $st = 1 ] && grep -q 'No space left' err && ! ls /dev/ublkc* 2>/dev/null; }
check "stdout that cannot be written: an error, and no device" full
set_e() { sh -ec 'd=$(ublk mem 16M -d); test -b "$d"; ublk stop "$d"; echo reached' | grep -q reached; }
check "under set -e" set_e
cron() { env -i /bin/ublk mem 16M -d </dev/null >out 2>&1 && [ "$(cat out)" = /dev/ublkb0 ] && ublk stop 0; }
check "with an empty environment" cron

# The server is killed on its way up: before and after each of its ring operations
# (a build of its own, see tests/die.c), and at other system calls (by strace;
# only those that the process that waits does not make, so that it lives).
left() { ls /dev/ublkb* /dev/ublkc* 2>/dev/null; }
failed_well() {	# STATUS STEP: an error within the time, a word, nothing left
	[ "$1" != 0 ] || { echo "$2: status 0"; return 1; }
	! left || { echo "$2: left behind"; ublk stop --all; return 1; }
	[ -s err ] || { echo "$2: not a word"; return 1; }
}
die_in_ring() {
	local n=1 st
	while [ $n -lt ${MAX:-200} ]; do
		st=0; DIE_AT=$n timeout 5 ublk-die mem 16M -d >out 2>err || st=$?
		[ $st != 0 ] || break		# it got through: that was the last step
		[ $st != 124 ] || { echo "step $n: no answer"; return 1; }
		failed_well $st "ring step $n" || return 1
		n=$((n + 1))
	done
	! pidof ublk-die >/dev/null || kill -9 $(pidof ublk-die)
	wait_for 10 sh -c 'ublk list | grep -q " dead " || ! ls /dev/ublkc*'
	ublk stop --all
	echo $((n - 1)) >steps
	[ $n -ge "${MAX:-17}" ]
}
case $(uname -r) in
[1-6].*)
	MAX=12	# from there on START_DEV is under way
	skip "the server killed while START_DEV reads the partition table" "drivers before 7.0 may hang on that"
	;;
esac
check "the server killed before and after every ring operation on the way up" die_in_ring
echo "# ring steps at which it was killed: $(cat steps)"
dies_at() {	# SYSCALL WHEN: 2 if the server got through
	local st=0 job
	rm -f out err
	strace -f -qq -o trace -e trace="$1" -e inject="$1:signal=KILL:when=$2" ublk mem 16M -d >out 2>err &
	job=$!
	wait_for 20 sh -c "[ -s out ] || ! kill -0 $job" || { echo "$1 $2: no answer"; return 1; }
	if [ -s out ]; then
		ublk stop --all >/dev/null 2>&1
		wait $job
		return 2
	fi
	wait $job || st=$?
	failed_well $st "$1 $2"
}
die_elsewhere() {
	local n=0 i st call
	for call in setsid umask signalfd4 madvise socketpair; do
		i=1
		while [ $i -le 20 ]; do
			st=0; dies_at $call $i || st=$?
			[ $st != 2 ] || break
			[ $st = 0 ] || return 1
			i=$((i + 1)) n=$((n + 1))
		done
	done
	echo $n >steps
	[ $n -ge 5 ]
}
check "the server killed at other system calls on the way up" die_elsewhere
echo "# system calls at which it was killed: $(cat steps)"

# What an initramfs starts is named for those who spare it; what another root starts is not
first_letter() { head -c 1 "/proc/$(ublk list --json | jq '.devices[0].pid')/cmdline"; }
in_initramfs() { ublk mem 16M -d && expect_letter @; }
expect_letter() { l=$(first_letter); ublk stop 0; [ "$l" = "$1" ] || { echo "the name begins with $l"; return 1; }; }
on_disk() {
	modprobe -a ext4 loop && truncate -s 32M root.img && mkfs.ext4 -q root.img && mkdir root && mount -o loop root.img root &&
		mkdir root/dev root/proc root/sys && cp /bin/ublk root/ && mount --bind /dev root/dev && mount --bind /proc root/proc || return
	chroot root /ublk mem 16M -d && expect_letter / && umount root/dev root/proc root
}
check "a server that an initramfs starts is called @blk" in_initramfs
check "one that a root filesystem on a disk starts is not, nor keeps it busy" on_disk

nothing_left
