# A snapshot, its server and its commit, killed at any moment: nothing that was acknowledged is lost, and no client gets an error.
. /tests/lib.sh
section "snapshot: kills, ${KILLS:-8} of each kind"
modprobe ext4

server() { ublk list --json | jq '.devices[0].pid'; }
killer() {	# the server, again and again, until there is a file "enough"
	while [ ! -e enough ]; do
		nap "$((50 + $(od -An -N1 -tu1 /dev/urandom)))"
		p=$(server)
		[ "$p" = null ] || [ -z "$p" ] || { kill -9 "$p" && echo killed >>kills; }
	done
}
nap() { sleep "$(printf '0.%03d' "$1")"; }	# random moments are the test
img() { dd if=/dev/urandom of=img bs=1M count=8 2>/dev/null && cp img before && cp img model && rm -f enough kills; }

resilient() {	# QUEUES [WHAT] [nodiscard]
	img && ublk ${2:-file img --snapshot} --resilient --queues=$1 -d -q >/dev/null || return
	killer & k=$!
	st=0; i=0
	while [ $st = 0 ] && [ "$(cat kills 2>/dev/null | wc -l)" -lt "${KILLS:-8}" ]; do
		i=$((i + 1))
		model /dev/ublkb0 300 8 $i model ${3:-} || st=$?
	done
	touch enough; wait $k
	echo "# $1 queues: $(wc -l <kills) kills, $i times 300 operations"
	[ $st = 0 ] && cmp before img && model /dev/ublkb0 0 0 0 model || { echo "status $st"; return 1; }
}
for queues in 1 2; do
	check "--resilient, $queues queues: changes outlive the server, as in a model" resilient $queues
	ublk stop 0
done

check "mem --resilient, holes and all: as in a model" resilient 1 "mem --load=img" nodiscard
ublk stop 0

commits() {	# commit killed at random moments and run again; the server as well, if there is to be another
	local i=0 done=0
	img && ublk file img --snapshot $1 -d -q >/dev/null || return
	[ -z "$1" ] || { killer & k=$!; }
	while [ $i -lt "${KILLS:-8}" ]; do
		i=$((i + 1))
		model /dev/ublkb0 300 8 $i model || return
		ublk commit 0 -q >out 2>&1 & w=$!
		nap $((i * 41 % 97 + 1))
		kill -9 $w 2>/dev/null
		wait $w && done=$((done + 1))
		model /dev/ublkb0 50 8 $((i + 1000)) model || { echo "after commit $i"; return 1; }
		[ $((i % 3)) = 0 ] || continue
		# the server may have been killed a moment ago
		wait_for 60 ublk commit 0 && cmp img model && model /dev/ublkb0 0 0 0 model || { ublk commit 0; echo "commit $i: the file is not as the model"; return 1; }
	done
	[ -z "$1" ] || { touch enough; wait $k; echo "# server killed $(wc -l <kills) times"; }
	echo "# $i commits killed, $done were done by then"
	wait_for 60 ublk commit 0 && cmp img model && ublk stop 0
}
check "commit killed, and run again: the file is as the model" commits ""
check "commit and server killed, --resilient: the file is as the model" commits --resilient
dies() {	# [--resilient, and there is no successor before commit asks for one]
	img && ublk file img --snapshot $1 -d -q >/dev/null && model /dev/ublkb0 100 8 1 model || return
	p=$(server) guard=$(awk '{ print $4 }' /proc/$p/stat)
	# three writes ask the server for the lock, the next is one of data
	rm -f trace
	strace -o trace -e trace=pwrite64,fallocate,fdatasync -e inject=pwrite64:signal=SIGSTOP:when=4 sh -c 'echo $$ >pid; exec ublk commit 0' >out 2>&1 & w=$!
	wait_for 10 grep -q 'stopped by SIGSTOP' trace || return
	[ -z "$1" ] || kill -STOP $guard
	kill -9 $p
	kill -CONT "$(cat pid)"
	[ -z "$1" ] || { wait_for 30 grep -q 'fdatasync.* = 0' trace; kill -CONT $guard; }
	st=0
	wait $w || st=$?
	cmp img model && [ $st = 0 ] || { echo "status $st"; cat out; return 1; }
}
succeeded() {	# its successor gives the memory back, and the lock
	used=$(ublk list --json | jq '.devices[0].used')
	[ "$(server)" != "$p" ] && [ "$used" -lt 65536 ] && [ ! -s out ] && ublk file img --snapshot --id 1 -d -q && ublk stop 0 1 ||
		{ echo "used $used"; cat out; return 1; }
}
check "the server dies while commit writes: the file is as the model all the same" dies ""
wait_for 10 sh -c '[ -z "$(ublk list)" ]' || ublk stop --all
check "--resilient, the server dies while commit writes: the file is as the model" dies --resilient
check "--resilient, the server dies while commit writes: its successor takes note" succeeded
ublk stop --all

nothing_left
