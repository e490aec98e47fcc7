# kill -9 at random moments under verified load: with --resilient nobody notices,
# without it the clients get errors at once and nothing hangs. KILLS of each.
. /tests/lib.sh
KILLS=${KILLS:-8}
section "$KILLS kills each"
modprobe ublk_drv
export DM_DISABLE_UDEV=1	# dmsetup makes its nodes itself
truncate -s 64M img

server() { ublk list 0 --json 2>/dev/null | jq -r ".devices[0].pid"; }
live() { [ "$(ublk list 0 --json 2>/dev/null | jq -r '.devices[0].state')" = live ]; }
random() { echo $(($(od -An -N2 -tu2 /dev/urandom) % $1)); }
now_us() { echo $(($(date +%s%N) / 1000)); }
figures() {	# FILE NAME: of microseconds, one a line
	sort -n "$1" >sorted
	n=$(wc -l <sorted)
	echo "# $2: median $(sed -n "$(((n + 1) / 2))p" sorted) us, longest $(tail -n 1 sorted) us, of $n"
}
no_d_state() { ! grep -l '^State:.D' /proc/[0-9]*/status 2>/dev/null; }

# Writes of 4 to 256 KiB over the whole device, each read back and checked, pass after pass until told to stop
writer() {
	n=0
	while [ ! -e stop ]; do
		fio --name=w --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --iodepth=16 --rw=randwrite \
			--bsrange=4k-256k --blockalign=4k --size=24M --verify=crc32c --verify_fatal=1 --randseed=$n \
			--output=fio.out >fio.err 2>&1 || { echo "pass $n"; tail -n 5 fio.err fio.out; return 1; }
		n=$((n + 1))
	done
	echo "$n passes" >passes
}
resilient() {	# WHAT...
	rm -f stop passes pauses
	ublk "$@" --resilient -d >/dev/null 2>&1 || return
	writer >writer.log 2>&1 & w=$!
	i=0
	while [ $i -lt "$KILLS" ] && kill -0 $w 2>/dev/null; do
		sleep "0.$(random 10)$(random 10)"
		wait_for 10 live
		old=$(server)
		kill -9 "$old" 2>/dev/null || continue
		# what a client sees: how long its next read takes
		a=$(now_us)
		dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 skip=$(random 6000) iflag=direct 2>dd.err || { cat dd.err; break; }
		echo $(($(now_us) - a)) >>pauses
		i=$((i + 1))
	done
	: >stop
	wait $w || { cat writer.log; ublk list; ublk stop --force 0; return 1; }
	ublk stop 0 || return
	[ $i = "$KILLS" ] && [ -s passes ]
}
for what in "mem 64M" "file img" "file img --direct"; do
	check "$what --resilient: $KILLS kills, every write there, no client error" resilient $what
	figures pauses "$what: a read begun at the kill"
	echo "# $what: $(cat passes) of 24 MiB written and verified"
done

busy() { awk '{ exit $1 + $5 < 20 }' /sys/block/ublkb0/stat; }	# some I/Os have ended
plain() {	# WHAT...: errors within a second, removable, nothing in D state
	rm -f errors removals
	i=0
	while [ $i -lt "$KILLS" ]; do
		ublk "$@" -d >/dev/null 2>&1 || return
		fio --name=w --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --iodepth=$((1 + $(random 64))) --rw=randrw \
			--bsrange=4k-256k --size=64M --time_based --runtime=60 --allow_file_create=0 --output=fio.out >fio.err 2>&1 & f=$!
		wait_for 20 busy || { echo "kill $i: fio does not begin"; return 1; }
		sleep "0.$(random 10)$(random 10)"
		kill -9 "$(server)"
		a=$(now_us)
		# of a disk that goes between open and read there is nothing to read, and no error either
		[ "$(dd if=/dev/ublkb0 bs=4k count=1 iflag=direct 2>/dev/null | wc -c)" = 0 ] ||
			{ echo "kill $i: a read succeeded"; return 1; }
		echo $(($(now_us) - a)) >>errors
		wait_for 30 sh -c "! kill -0 $f" || { echo "kill $i: fio hangs"; ublk list; return 1; }
		wait $f && { echo "kill $i: fio saw no error"; return 1; }
		a=$(now_us)
		ublk stop 0 || return
		echo $(($(now_us) - a)) >>removals
		no_d_state || { echo "kill $i: in D state"; return 1; }
		i=$((i + 1))
	done
}
for what in "mem 64M" "file img"; do
	check "$what, not resilient: $KILLS kills, errors and no hang" plain $what
	[ -z "$(ublk list)" ] || ublk stop --all --force
	figures errors "$what: from the kill to a client's error"
	figures removals "$what: ublk stop of what is left"
done

# The server holds requests for every tag there is: no command is left in the driver that the kill could cancel
all_tags() {
	truncate -s 32M backing
	loop=$(losetup -f --show backing)
	echo "0 65536 linear $loop 0" | dmsetup create slow || return
	ublk file /dev/mapper/slow --direct --qdepth=8 -d >/dev/null 2>&1 || return
	pid=$(server)
	dmsetup suspend --noflush slow
	fio --name=w --filename=/dev/ublkb0 --direct=1 --ioengine=libaio --iodepth=32 --rw=randread --bs=4k --size=32M \
		--output=fio.out >fio.err 2>&1 & f=$!
	wait_for 10 sh -c "[ \"\$(awk '{ print \$1 + \$2 }' /sys/block/ublkb0/inflight)\" -ge 7 ]" || { cat /sys/block/ublkb0/inflight; return 1; }
	kill -9 "$pid"
	dmsetup resume slow
	wait_for 10 sh -c "! kill -0 $f" || { echo "the client hangs"; cat /sys/block/ublkb0/inflight; return 1; }
	wait $f && { echo "no error"; return 1; }
	ublk stop 0
	dmsetup remove slow && losetup -d "$loop"
}
modprobe -a loop dm-mod
check "killed with a request for each tag in hand: errors, no hang" all_tags
nothing_left
