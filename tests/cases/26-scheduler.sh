# When the server runs: its policy and its slices of the processor.
. /tests/lib.sh
section "the scheduler"

modprobe ublk_drv
single() { dd if=/dev/ublkb0 of=/dev/null bs=4k count=100 iflag=direct 2>/dev/null; }
in_flight() { [ "$(awk '{ print $1 }' /sys/block/ublkb0/inflight)" = "$1" ]; }
many() {
	kill -STOP "$pid"
	for i in 0 1 2 3; do dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 skip="$i" iflag=direct 2>/dev/null & done
	wait_for 10 in_flight 4; st=$?
	kill -CONT "$pid"
	wait
	return $st
}
served() { "$@" ublk mem 16M -d -q >/dev/null && pid=$(ublk list --json | jq '.devices[0].pid'); }
# of the server, in nanoseconds
slice() { awk '/^se.slice/ { print $3 }' "/proc/$pid/sched"; }
slice_is() { [ "$(slice)" = "$1" ] || { echo "$(slice), not $1"; return 1; }; }
paced() {
	served env && before=$(slice) && single && slice_is 100000 && many && slice_is "$before" || return 1
	# it may not take a nice value back, and must not want to
	renice -n 5 -p "$pid" >/dev/null && single && slice_is 100000 && many && slice_is "$before" || return 1
	[ "$(awk '{ print $19 }' "/proc/$pid/stat")" = 5 ] && ublk stop 0
}
case $(uname -r) in
6.[0-9].* | 6.1[01].*) skip "short slices for one request at a time" "Linux $(uname -r) has no slices to ask for" ;;
*) check "for one request at a time it asks for short slices of the processor, for several for the usual ones" paced ;;
esac
policy_is() { chrt -p "$pid" >out && grep -q "$1\$" out && grep -q "priority: $2\$" out || { cat out; return 1; }; }
chosen() { served chrt -f 3 && single && policy_is SCHED_FIFO 3 && ublk stop 0; }
check "a policy that the user has chosen stays" chosen
chosen_later() {
	served env && single && policy_is SCHED_BATCH 0 && chrt -f -p 3 "$pid" && many && single && policy_is SCHED_FIFO 3 && ublk stop 0
}
check "also what he chooses when it runs" chosen_later
rm -f out
nothing_left
