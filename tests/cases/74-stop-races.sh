# What changes between a look at a device and a command to it.
. /tests/lib.sh
section "stop, and what happens meanwhile"

server() { ublk list --json "${1:-0}" | jq '.devices[0].pid'; }
# the number is free when stop returns: ROUNDS times the same one
same_number() {
	i=0 other=0
	while [ $i -lt "${NUMBERS:-40}" ]; do
		d=$(ublk mem 64M -d -q) || return
		[ "$d" = /dev/ublkb0 ] || other=$((other + 1))
		ublk stop "$d" || return
		i=$((i + 1))
	done
	[ $other = 0 ] || { echo "$other of $i times another number"; return 1; }
}
check "the number is free when stop returns" same_number
# killed and stopped at once, under a direct writer: gone, and nothing left
killed_stopped() {
	i=0
	while [ $i -lt "${STOPS:-20}" ]; do
		ublk mem 64M -d -q >/dev/null || return
		dd if=/dev/zero of=/dev/ublkb0 bs=64k oflag=direct 2>/dev/null & w=$!
		p=$(server)
		kill -9 "$p"
		ublk stop 0 --force 2>stop.err || { echo "round $i: status $?"; cat stop.err; ublk list; kill $w; return 1; }
		wait $w
		[ ! -e /dev/ublkc0 ] || { echo "round $i: left"; ublk list; return 1; }
		i=$((i + 1))
	done
}
check "stop right after the server's death" killed_stopped
# recover waits for the one that has just died
recover_at_once() {
	truncate -s 64M img
	i=0
	while [ $i -lt "${RECOVERS:-10}" ]; do
		ublk file img --recoverable -d -q >/dev/null || return
		p=$(server)
		kill -9 "$p"
		ublk recover img -d -q >/dev/null 2>err || { echo "round $i: status $?"; cat err; ublk stop --all --force; return 1; }
		ublk stop 0 || return
		i=$((i + 1))
	done
}
check "recover right after the server's death" recover_at_once
nothing_left
