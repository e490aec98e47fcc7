# Many devices: 64 at once, and parallel loops that make and remove them.
. /tests/lib.sh
LOOPS=${LOOPS:-8} TURNS=${TURNS:-10}
section "many"
modprobe ublk_drv
sixty_four() {
	i=0
	while [ $i -lt 64 ]; do
		ublk mem 16M -d -q >>nodes 2>err || { cat err; return 1; }
		i=$((i + 1))
	done
	[ "$(sort -u nodes | wc -l)" = 64 ] && [ "$(ublk list --json | jq '.devices | length')" = 64 ] || return
	for n in $(cat nodes); do dd if=/dev/zero of="$n" bs=64K count=16 oflag=direct 2>/dev/null || { echo "$n"; return 1; }; done
	ublk stop --all && [ -z "$(ublk list)" ]
}
limit=/sys/module/ublk_drv/parameters/ublks_max
[ ! -e $limit ] || [ "$(cat $limit)" -ge 65 ] || echo 65 >$limit 2>/dev/null
check "64 devices at once, written to, and gone" sixty_four
turns() {
	t=0
	while [ $t -lt "$TURNS" ]; do
		d=$(ublk mem 16M -d -q) && dd if=/dev/zero of="$d" bs=64K count=4 oflag=direct 2>/dev/null && ublk stop -q "$d" || { echo "turn $t: $d"; return 1; }
		t=$((t + 1))
	done
}
loops() {
	pids=
	for l in $(seq "$LOOPS"); do turns >loop.$l 2>&1 & pids="$pids $!"; done
	rc=0
	for p in $pids; do wait "$p" || rc=1; done
	cat loop.*
	return $rc
}
check "$LOOPS loops of $TURNS devices in parallel" loops
check "no device, in no state" [ -z "$(ublk list)" ]
nothing_left
