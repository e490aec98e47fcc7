# Stopping a device that has dirty pages: with recovery the driver would throw
# them away, so they are written before; without, it writes them itself. ROUNDS of all.
. /tests/lib.sh
ROUNDS=${ROUNDS:-1}
section "$ROUNDS rounds"
modprobe -a ublk_drv ext4
echo 0 >/proc/sys/vm/dirty_writeback_centisecs	# what is dirty stays dirty
mkdir mnt
holder=

# The 4 MiB that a process has written and keeps open, then the stop; all of it is in the file, or the stop was refused
opener() {	# "HOW TO STOP" OPTIONS...
	how=$1; shift
	rm -f img; truncate -s 32M img
	dd if=/dev/urandom of=data bs=1M count=4 2>/dev/null
	ublk file img -d -q "$@" >/dev/null || return
	pid=$(ublk list --json | jq '.devices[0].pid')
	sh -c 'dd if=data bs=1M 2>/dev/null; exec sleep 600' >/dev/ublkb0 & holder=$!
	wait_for 2 sh -c '[ "$(sed -n "s/^Dirty: *\([0-9]*\).*/\1/p" /proc/meminfo)" -ge 4000 ]' || echo "# written back early: $(grep Dirty: /proc/meminfo)"
	$how || { echo "$how: status $?"; return 1; }
	release
	wait_for 20 no_processes || { ublk list; return 1; }
	cmp -n 4194304 data img
}
# The same under ext4, mounted: the file is there when the image is looked at
mounted() {
	how=$1; shift
	rm -f img; truncate -s 32M img
	dd if=/dev/urandom of=data bs=1M count=4 2>/dev/null
	ublk file img -d -q "$@" >/dev/null || return
	pid=$(ublk list --json | jq '.devices[0].pid')
	mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/ublkb0 && mount /dev/ublkb0 mnt && cp data mnt/data || return
	$how || { echo "$how: status $?"; return 1; }
	release
	wait_for 20 no_processes || { ublk list; return 1; }
	ublk file img -d -q >/dev/null && mount /dev/ublkb0 mnt && cmp data mnt/data && umount mnt && ublk stop -q 0
}
release() {
	[ -z "$holder" ] || { kill $holder; wait $holder 2>/dev/null; }
	holder=
	umount mnt 2>/dev/null
}
force() {
	timeout 30 ublk stop --force 0 2>err & s=$!
	wait_for 20 sh -c '[ ! -e /sys/block/ublkb0 ]' || return
	release
	wait $s
}
term2() {	# the first is refused, the second is not
	kill -TERM "$pid"
	wait_for 1 sh -c "[ ! -e /sys/block/ublkb0 ]" && { echo "the first signal was not refused"; return 1; }
	kill -TERM "$pid"
	wait_for 20 sh -c '[ ! -e /sys/block/ublkb0 ]'
}
killed() {	# a stop while no server is there to write what is dirty
	guard=$(awk '{ print $4 }' "/proc/$pid/stat")
	kill -STOP "$guard"
	kill -9 "$pid"
	wait_for 30 sh -c 'ublk list 0 | grep -q quiesced' || { ublk list; return 1; }
	(sleep 0.5; kill -CONT "$guard") &
	force
}
refused() {	# nothing is lost if nothing is stopped
	ublk stop 0 2>/dev/null && return 1
	sync
	release
	wait_for 20 ublk stop -q 0
}
rounds() {
	i=0
	while [ $i -lt "$ROUNDS" ]; do
		"$@" || { echo "round $i: $*"; release; ublk stop --all --force; return 1; }
		i=$((i + 1))
	done
}
for mode in "" --recoverable --resilient; do
	for how in force term2 refused $([ "$mode" != --resilient ] || echo killed); do
		check "4 MiB dirty, an opener, ${mode:-plain}: $how" rounds opener $how $mode
		check "4 MiB dirty, ext4 mounted, ${mode:-plain}: $how" rounds mounted $how $mode
	done
done
echo "# $((ROUNDS * 20)) stops"
echo 500 >/proc/sys/vm/dirty_writeback_centisecs
nothing_left
