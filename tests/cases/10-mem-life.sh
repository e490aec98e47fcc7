# The life of a RAM disk: made, announced, stopped, gone, in every way to run it.
. /tests/lib.sh
section "life of a RAM disk"

# start_fg ARGS...: run ublk in the foreground, its output in files; sets $srv and $dev
start_fg() {
	rm -f out # or it is that of the one before until the shell behind & has come to it
	fore ublk "$@" >out 2>err &
	srv=$!
	wait_for 10 test -s out || { cat err; return 1; }
	dev=$(cat out)
}
gone() { ! [ -e "$1" ]; }
ended_by() {	# SIGNAL: the foreground server ends with status 0 and takes its device along
	start_fg mem 64M || return 1
	kill -"$1" "$srv"
	wait "$srv" || return 1
	gone "$dev"
}
stdout_is_node() { [ "$(cat out)" = /dev/ublkb0 ] && [ "$(wc -l <out)" = 1 ]; }

check "foreground: the node appears" start_fg mem 64M
check "foreground: stdout is the node and nothing else" stdout_is_node
check "foreground: a line for people on stderr" grep -q 'ublkb0.*64M' err
check "size is what was asked for" sh -c '[ "$(blockdev --getsize64 /dev/ublkb0)" = 67108864 ]'
check "logical blocks of 512 bytes" sh -c '[ "$(blockdev --getss /dev/ublkb0)" = 512 ]'
expect_out '^/dev/ublkb0 *mem *64M *live' "list shows it" ublk list
expect_out '^/dev/ublkb0 ' "list of one device" ublk list /dev/ublkb0
check "one process" sh -c '[ "$(pidof ublk | wc -w)" = 1 ]'
check "stop, idle" ublk stop 0
check "the server has ended with status 0" wait "$srv"
check "its node is gone" gone /dev/ublkb0
expect_status 7 "stop of a device that is not there" ublk stop 0
expect_status 7 "list of a device that is not there" ublk list 0
check "stop --all with nothing there" ublk stop --all

for sig in INT TERM HUP; do
	check "SIG$sig removes the device" ended_by $sig
done

daemon() { dev=$(ublk mem 64M -d 2>err) && [ "$dev" = /dev/ublkb0 ]; }
detached() {	# of the daemon: own session, cwd /, stdio on /dev/null, nothing inherited
	p=$(pidof ublk)
	[ "$(readlink /proc/$p/cwd)" = / ] && [ "$(readlink /proc/$p/fd/0)" = /dev/null ] &&
	[ "$(readlink /proc/$p/fd/1)" = /dev/null ] && [ "$(readlink /proc/$p/fd/2)" = /dev/null ] &&
	[ "$(cut -d' ' -f6 /proc/$p/stat)" = "$p" ] && ! ls -l /proc/$p/fd | grep -q inherited
}
touch inherited
exec 9<inherited
check "daemon: node on stdout, back at once" daemon
exec 9<&-
check "daemon: usable as it returns" dd if=/dev/ublkb0 of=/dev/null bs=4k count=1
check "daemon: left its terminal, directory and descriptors" detached
check "daemon: SIGTERM removes the device" sh -c 'kill -TERM $(pidof ublk)'
check "daemon: gone" wait_for 30 gone /dev/ublkb0
wait_for 30 sh -c '! pidof ublk'

two() { [ "$(ublk mem 16M -d)" = /dev/ublkb0 ] && [ "$(ublk mem 32M -d --id=5)" = /dev/ublkb5 ]; }
check "two devices at once" two
expect_out 'ublkb5 .* 32M ' "list shows both" ublk list
expect_status 1 "--id that is taken" ublk mem 16M -d --id=5
expect_out "ADD_DEV.*taken" "and says so" ublk mem 16M -d --id=5
check "the one it hit still lives" dd if=/dev/ublkb5 of=/dev/null bs=4k count=1
check "stop both by name" ublk stop ublkb0 /dev/ublkb5

held() {	# a device that a process has open is not stopped, unless forced
	ublk mem 16M -d >/dev/null || return 1
	exec 8</dev/ublkb0
	st=0; ublk stop 0 2>err || st=$?
	exec 8<&-
	[ $st = 6 ] && grep -q 'opened by process' err && ublk stop 0
}
check "stop of an open device is refused, status 6" held
mounted() {
	ublk mem 16M -d >/dev/null && mkfs.ext4 -q /dev/ublkb0 && mount /dev/ublkb0 /mnt || return 1
	st=0; ublk stop 0 2>err || st=$?
	touch /mnt/still-writable && sync && umount /mnt && e2fsck -fn /dev/ublkb0 || return 1
	[ $st = 6 ] && grep -q 'mounted on /mnt' err && ublk stop 0
}
check "stop of a mounted device is refused and does no harm" mounted
twice() {	# first signal: refused; second: stopped all the same
	start_fg mem 16M || return 1
	exec 8<"$dev"
	kill -INT "$srv"
	wait_for 30 grep -q 'still serving' err || return 1
	dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct || return 1
	kill -INT "$srv"
	wait_for 10 gone "$dev" || return 1
	exec 8<&-
	wait "$srv"
}
check "in use: the first signal is refused, the second stops" twice

cycles() {
	i=0
	while [ $i -lt 100 ]; do
		d=$(timeout 10 ublk mem 8M -d) || return 1
		[ "$d" = /dev/ublkb0 ] || return 1
		dd if="$d" of=/dev/null bs=4k count=1 2>/dev/null || return 1
		timeout 10 ublk stop "$d" || return 1	# it takes milliseconds, unless a wake-up was lost
		i=$((i + 1))
	done
}
check "100 times created and removed, always the same number" cycles

parts() {	# START_DEV reads the partition table through the server: it must not hang
	ublk mem 64M -d -q >/dev/null || return 1
	printf 'label: gpt\n,20M\n,\n' | sfdisk -q /dev/ublkb0 || return 1
	wait_for 10 test -b /dev/ublkb0p2 || return 1
	mkfs.ext4 -q /dev/ublkb0p1 && mount /dev/ublkb0p1 /mnt || return 1
	st=0; ublk stop 0 2>err || st=$?
	umount /mnt
	[ $st = 6 ] && ublk stop 0
}
check "partitions made, found and used" parts
no_scan() {
	ublk mem 16M -d --no-part-scan >/dev/null && [ "$(blockdev --getsz /dev/ublkb0)" = 32768 ] && ublk stop 0
}
check "--no-part-scan" no_scan
read_only() {
	ublk mem 16M -d -r >/dev/null || return 1
	st=0; dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 2>err || st=$?
	[ $st != 0 ] && [ "$(blockdev --getro /dev/ublkb0)" = 1 ] && ublk stop 0
}
check "--read-only" read_only
geometry() {
	ublk mem 64M -d --block-size=4096 --qdepth=4 --max-io=64K --queues=2 --cpu-affinity >/dev/null || return 1
	q=/sys/block/ublkb0/queue
	[ "$(cat $q/logical_block_size)" = 4096 ] && [ "$(cat $q/max_hw_sectors_kb)" = 64 ] &&
	[ "$(ls /sys/block/ublkb0/mq | wc -l)" = 2 ] && [ "$(cat $q/nr_requests)" -le 4 ] && ublk stop 0
}
check "block size, depth, longest request, queues as asked" geometry

nothing_left
