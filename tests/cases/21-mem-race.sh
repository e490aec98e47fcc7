# A write and a discard of the same page at the same time: ROUNDS of them, then all reads agree.
. /tests/lib.sh
ROUNDS=${ROUNDS:-500}
section "writes and discards of the same page, $ROUNDS rounds"

race() {	# OPTIONS...
	ublk mem 64M -d -q "$@" >/dev/null || return
	overlap /dev/ublkb0 "$ROUNDS" && ublk stop -q 0
}
for how in "--queues=1" "--queues=2" "--queues=2 --resilient"; do
	# shellcheck disable=SC2086 # a list
	check "$how: what the page is, it is for every reader" race $how
	echo "# $how: $out"
	ublk stop -q --all --force 2>/dev/null
done
nothing_left
