# A server owes nothing to the shell that started it, and what is in /dev by its name is the device.
. /tests/lib.sh
section "what the caller leaves to a server"

# what is in the way in /dev: an error that names it, neither written to nor removed
in_the_way() {
	one_line 1 "/dev/ublkb0: .*not the device" ublk mem 64M -d --id=0
	st=$?
	return $st
}
file_there() {
	dd if=/dev/zero of=/dev/ublkb0 bs=1k count=4 2>/dev/null
	before=$(md5sum </dev/ublkb0)
	in_the_way && [ -f /dev/ublkb0 ] && [ "$(md5sum </dev/ublkb0)" = "$before" ]
	st=$?
	rm -f /dev/ublkb0
	return $st
}
check "a file by the name of the node" file_there
link_there() {
	echo keep >target
	ln -s "$PWD/target" /dev/ublkb0
	in_the_way && [ -L /dev/ublkb0 ] && [ "$(cat target)" = keep ]
	st=$?
	rm -f /dev/ublkb0
	return $st
}
check "a link by the name of the node" link_there
fifo_there() {
	mkfifo /dev/ublkb0
	timeout 20 sh -c '! ublk mem 64M -d --id=0 2>err' && grep -q "not the device" err && [ -p /dev/ublkb0 ]
	st=$?
	rm -f /dev/ublkb0
	return $st
}
check "a fifo by the name of the node" fifo_there

# limits of the shell
fsize() {
	truncate -s 64M img
	(ulimit -f 1024; ublk file img -d -q >/dev/null) || return
	dd if=/dev/zero of=/dev/ublkb0 bs=64k count=4 seek=256 oflag=direct 2>/dev/null && ublk stop 0
}
check "ulimit -f does not reach a server" fsize
fsize_resilient() {
	(ulimit -f 1024; ublk file img --resilient -d -q >/dev/null) || return
	p=$(ublk list --json | jq '.devices[0].pid')
	dd if=/dev/zero of=/dev/ublkb0 bs=64k count=4 seek=256 conv=fsync 2>/dev/null || return
	[ "$(ublk list --json | jq '.devices[0].pid')" = "$p" ] && ublk stop 0
}
check "nor one with --resilient" fsize_resilient
fsize_create() {
	(ulimit -f 1024; ublk file new.img --create --size=64M -d -q >/dev/null) && ublk stop 0 && rm new.img
}
check "nor --create" fsize_create
fsize_bare() {	# where it may not be raised it is an error, and nothing is left
	st=0
	(ulimit -f 1024; setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource ublk file new.img --create --size=64M -d 2>err) || st=$?
	[ $st = 1 ] && [ "$(wc -l <err)" = 1 ] && [ ! -e new.img ] || { echo "status $st"; cat err; ls -l new.img; ublk stop --all; return 1; }
}
check "and without the capability it is an error, and nothing is left" fsize_bare
vsize() {
	(ulimit -v 200000; ublk mem 1G -d -q >/dev/null) && ublk stop 0
}
check "ulimit -v does not reach a server" vsize

# signals
early() {	# while memory is taken: ends, and no device comes of it
	start=$(uptime_ms)
	ublk mem 900M --prealloc >out 2>err &
	p=$!
	wait_for 10 sh -c "awk '/VmRSS/ { exit !(\$2 > 50000) }' /proc/$p/status" || { wait; return 1; }
	kill -TERM $p
	st=0
	wait $p || st=$?
	[ $st = 143 ] && [ ! -s out ] && ! ls /dev/ublkc0 2>/dev/null || { echo "status $st"; cat out err; ublk stop --all; return 1; }
}
check "a signal while --prealloc takes memory ends it" early
ignored() {	# as a shell starts what stands before &
	rm -f out
	sh -c 'trap "" INT; exec ublk mem 16M >out 2>err' &
	p=$!
	wait_for 30 test -s out || return
	kill -INT $p
	dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null && kill -0 $p && kill -TERM $p && wait $p
}
check "SIGINT that the caller ignores is ignored" ignored
twice() {	# as timeout does it, which signals its child and then the group that it is in (COMMAND as well): that is one signal
	i=0
	while [ $i -lt 10 ]; do
		rm -f up asked
		setsid ublk mem 16M -- sh -c 'trap "echo asked >>asked" TERM; : >up; while [ ! -s asked ]; do sleep 0.05; done; exit 7' 2>err &
		p=$!
		wait_for 30 test -e up || return
		st=0
		kill -TERM $p && kill -TERM -$p
		wait $p || st=$?
		[ $st = 7 ] && [ -s asked ] && ! ls /dev/ublkc0 2>/dev/null || { echo "round $i: killed by the first signal: status $st, $(cat asked err)"; ublk stop --all; return 1; }
		i=$((i + 1))
	done
}
check "-- COMMAND, signalled as timeout does it: one signal" twice

# descriptors: a path that leads to one of the caller's
descriptor() {
	truncate -s 8M img
	exec 7<>img
	[ "${1:-}" ] && rm img
	dev=$(ublk file /proc/self/fd/7 -d -q) || return
	exec 7>&-
	dd if=data of="$dev" bs=1M count=1 conv=fsync 2>/dev/null && cmp -n 1048576 data "$dev" || return
	p=$(ublk list --json | jq '.devices[0].pid')
	ublk stop "$dev" && { [ "${1:-}" ] || cmp -n 1048576 data img; }
}
dd if=/dev/urandom of=data bs=1M count=1 2>/dev/null
check "/proc/self/fd/7, a descriptor of the caller's" descriptor
check "of a file that has no name any more" descriptor deleted
descriptor_command() {
	truncate -s 8M img
	exec 7<>img
	ublk file /dev/fd/7 -q -- sh -c 'dd if=data of=$UBLK_DEV bs=1M count=1 conv=fsync 2>/dev/null' || return
	exec 7>&-
	cmp -n 1048576 data img
}
check "/dev/fd/7 -- COMMAND" descriptor_command
descriptor_fg() {
	truncate -s 8M img
	rm -f out
	fore ublk file /dev/fd/7 -q >out 7<>img &
	wait_for 30 test -s out && ublk stop 0 && wait
}
check "in the foreground" descriptor_fg
descriptor_resilient() {
	truncate -s 8M img
	ublk file /dev/fd/7 --resilient -d -q 7<>img >/dev/null || return
	kill -9 "$(ublk list --json | jq '.devices[0].pid')"
	dd if=data of=/dev/ublkb0 bs=1M count=1 conv=fsync 2>/dev/null && ublk stop 0 && cmp -n 1048576 data img
}
check "with --resilient, and its server killed" descriptor_resilient

# privileges
as_user() { unshare -r ublk mem 16M -d -q >/dev/null && ublk list 0 --json | jq -e '.devices[0].features | index("UNPRIVILEGED_DEV")' >/dev/null && unshare -r ublk stop 0; }
if ! unshare -r true 2>/dev/null; then
	skip "a user namespace" "there are none here"
elif ! ublk check | grep -q '^ok *QUIESCE'; then
	check "in a user namespace: status 4, and why" one_line 4 "without root" unshare -r ublk mem 16M
	expect_status 4 "check says the same" unshare -r ublk check
else
	check "root of a user namespace is a user" as_user
fi
nothing_left
