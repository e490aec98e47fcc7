# "-- COMMAND": the device lives as long as the command, however that ends.
. /tests/lib.sh
section "a device for a command"

gone() { ! ls /dev/ublkb* /dev/ublkc* 2>/dev/null && ! pidof ublk; }
check "UBLK_DEV and UBLK_ID name the device" ublk mem 16M -q -- sh -c '[ "$UBLK_DEV" = /dev/ublkb0 ] && [ "$UBLK_ID" = 0 ] && [ -b $UBLK_DEV ]'
check "gone afterwards" gone
check "a filesystem for the time of a command" ublk mem 64M -q -- sh -c 'mkfs.ext4 -q $UBLK_DEV && mount $UBLK_DEV /mnt && echo x >/mnt/f && umount /mnt'
output() { [ "$(ublk mem 16M -q -- echo hello)" = hello ] && [ "$(echo in | ublk mem 16M -q -- cat)" = in ]; }
check "stdout and stdin are the command's alone" output
expect_status 7 "its status is passed on" ublk mem 16M -q -- sh -c 'exit 7'
expect_status 127 "not found" ublk mem 16M -q -- no-such-command
touch not-runnable
expect_status 126 "not runnable" ublk mem 16M -q -- ./not-runnable
expect_status 137 "killed" ublk mem 16M -q -- sh -c 'kill -9 $$'
check "gone after each of them" gone
expect_status 1 "no device, no command" sh -c 'ublk file missing.img -- touch ran; st=$?; [ ! -e ran ] || exit 99; exit $st'

told() {	# SIGNAL: ublk is told to stop, the command hears of it, the device goes
	rm -f heard up
	ublk mem 16M -q -- sh -c 'trap "touch heard; exit 3" '"$1"'; touch up; while :; do sleep 0.05; done' &
	srv=$!
	wait_for 10 test -e up || return 1
	kill -"$1" $srv
	st=0; wait $srv || st=$?
	[ $st = 3 ] && [ -e heard ] && gone
}
# not INT: a shell's background jobs ignore it, and what is ignored cannot be trapped
for sig in TERM HUP; do check "SIG$sig is forwarded; the device goes with the command" told $sig; done
stubborn() {
	rm -f up
	ublk mem 16M -q -- sh -c 'trap "" TERM; touch up; while :; do sleep 0.05; done' &
	srv=$!
	wait_for 10 test -e up || return 1
	kill -TERM $srv
	check_serving || return 1
	from=$(uptime_ms)	# what one sender sends within 300 ms is one signal
	wait_for 10 sh -c "[ \$(sed 's/\([0-9]*\)\.\([0-9]*\) .*/\1\20/' /proc/uptime) -gt $((from + 350)) ]"
	kill -TERM $srv
	st=0; wait $srv || st=$?
	[ $st = 137 ] && gone
}
check_serving() { dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 2>/dev/null; }
check "a command that ignores the first signal is killed by the second" stubborn
killed() {
	rm -f up
	ublk mem 16M -q -- sh -c 'touch up; sleep 1' &
	srv=$!
	wait_for 10 test -e up || return 1
	kill -9 $srv
	wait_for 10 gone
}
check "ublk itself killed with SIGKILL: the device goes" killed
left_mounted() {
	st=0; ublk mem 64M -- sh -c 'mkfs.ext4 -q $UBLK_DEV && mount $UBLK_DEV /mnt && echo kept >/mnt/f' 2>err || st=$?
	[ $st = 6 ] && grep -q 'mounted on /mnt' err && grep -q 'stays' err || { echo "status $st"; cat err; return 1; }
	echo 3 >/proc/sys/vm/drop_caches
	[ "$(cat /mnt/f)" = kept ] && umount /mnt && ublk stop 0
}
check "left mounted: status 6, says so, and the device stays" left_mounted

nothing_left
