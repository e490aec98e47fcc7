# VM: VM_MEM=1G
# One device on which the driver hangs for good, as the server died while START_DEV read the partition
# table: it costs the others nothing, and nobody waits for it for ever. It cannot be removed, so a machine
# of its own, which ends here: sync(2), as nothing_left and poweroff do it, would wait for that disk.
. /tests/lib.sh
section "a device on which the driver hangs"
modprobe ublk_drv
echo 0 >/proc/sys/kernel/hung_task_timeout_secs	# that it says so is no news here

# ends NAME SECONDS COMMAND...: in the background, as it might never; its output through a pipe, which whoever
# is left behind may hold. Leaves $NAME.out (both streams), $NAME.rc and $NAME.ms
ends() {
	local name=$1 limit=$2 begun
	shift 2
	rm -f "$name".*
	begun=$(uptime_ms)
	{
		{ "$@" 2>&1; echo $? >"$name.st"; } | cat >"$name.out"
		echo $(($(uptime_ms) - begun)) >"$name.ms"
		mv "$name.st" "$name.rc"
	} </dev/null &
	wait_for "$limit" test -e "$name.rc" && return
	echo "no end of it within $limit s"
	[ ! -e "$name.st" ] || echo "the command has ended, with status $(cat "$name.st"), and somebody holds its output"
	cat "$name.out"
	return 1
}
# status N NAME: of the command that ended
status() { [ "$(cat "$2.rc")" = "$1" ] || { echo "status $(cat "$2.rc"), not $1"; cat "$2.out"; return 1; }; }
chars() { find /dev -name 'ublkc[0-9]*' | sed 's/.*ublkc//' | sort -n; }
hung_tasks() { grep -ls '^State:.D' /proc/[0-9]*/task/*/status; }
nobody_hangs() { [ -z "$(hung_tasks)" ]; }

# The server dies at one of its ring operations after the other: while START_DEV reads the partition table. The
# driver may hang on that; the caller hears of it each time. Goes on until one device does not answer, or through
# ROUNDS of the steps; leaves its number in $hangs, or "".
killed_starting() {	# ROUNDS WHAT...
	local rounds=$1 n before id
	shift
	hangs=
	while [ "$rounds" -gt 0 ]; do
		rounds=$((rounds - 1)) n=16
		while [ $n -lt 22 ]; do
			before=$(chars)
			ends die 20 env DIE_AT=$n ublk-die "$@" -d || { echo "step $n"; return 1; }
			[ "$any" ] || wait_for 5 nobody_hangs || any=yes
			id=$(chars | grep -vxF "${before:-none}")
			if [ "$id" ] && ! ends look 3 ublk list "$id"; then
				hangs=$id
				return 0
			fi >/dev/null
			n=$((n + 1))
			[ "$any" ] || ! pidof ublk-die || { kill -9 $(pidof ublk-die); wait_for 10 sh -c '! pidof ublk-die'; }
			[ -z "$id" ] || ends clean 70 ublk stop --force "$id"
		done
	done
}

any=	# does it hang anywhere?
: >img; truncate -s 16M img
check "healthy devices, one of them resilient" \
	sh -c "for o in --id=33 '--id=34 --resilient' --id=35; do ublk mem 64M -d -q \$o || exit; done"
check "mem -d, its server killed while START_DEV reads: the caller returns" killed_starting 8 mem 16M
hung=$hangs
if [ "$hung" ]; then
	check "the driver hangs on that device, as somebody in state D shows" hung_tasks
	some=8	# the status of what concerns that device
	echo "# device $hung"
else
	skip "list and stop beside a device on which the driver hangs" "this driver did not hang: they are only seen to return"
	some=0
fi

# 30 s for the one that does not answer, and a slow machine
lists() {
	local id
	ends list 60 ublk list "$@" || return
	[ "$(cat list.ms)" -lt 40000 ] || { echo "$(cat list.ms) ms"; return 1; }
	for id in 33 34 35; do
		grep -Eq "^/dev/ublkb$id +mem +64M live |\"id\": $id," list.out || { echo "no $id"; cat list.out; return 1; }
	done
}
at_once() { ends now 20 "$@" && status 0 now && { [ "$(cat now.ms)" -lt 10000 ] || { echo "$(cat now.ms) ms"; return 1; }; }; }
check "list: the healthy devices are there, within the time limit" lists
check "list --json: the same, whole" lists --json
# what does not answer is an error on the other stream
check "it is JSON" sh -c "grep -v '^ublk: ' list.out | jq -e '.devices | length >= 3'"
check "list of a healthy one: at once" at_once ublk list 33
check "stop of a healthy one: at once" at_once ublk stop 33
check "stop of a healthy one that is resilient: at once" at_once ublk stop 34
check "make one: at once" at_once ublk mem 64M -d -q --id=33
check "stop it: at once" at_once ublk stop 33

# a look and, by force, what is dirty and STOP_DEV: 30 s each
all() {	# SECONDS OPTION...
	local limit=$1
	shift
	ends all "$limit" ublk stop --all "$@" && status $some all || return
	[ -z "$hung" ] || grep -q "^ublk: /dev/ublkb$hung: .*no answer within the time limit" all.out || { cat all.out; return 1; }
	[ "$(chars)" = "$hung" ] || { echo "left: $(chars)"; cat all.out; return 1; }
}
check "stop --all: the healthy one is gone, the other one told of, within the time limit" all 60
[ ! -e all.ms ] || echo "# that took $(cat all.ms) ms: $(cat all.out)"
check "one more" at_once ublk mem 64M -d -q --id=35
check "stop --all --force: the same" all 90 --force
[ ! -e all.ms ] || echo "# that took $(cat all.ms) ms: $(cat all.out)"

for what in "mem 16M --resilient" "file img" "file img --resilient"; do
	check "$what -d, its server killed while START_DEV reads: the caller returns" killed_starting 1 $what
	echo "# $what: ${hangs:+the driver hangs}"
done
check "make one after all that: at once" at_once ublk mem 64M -d -q --id=39
check "stop it: at once" at_once ublk stop 39

[ "$any" ] || { nothing_left; exit; }
echo "# the kernel's log is not searched: such a driver may as well crash"
echo "guest: done"
stty -echo <&1	# see guest-init
poweroff -nf
