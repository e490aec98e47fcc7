# A server's death that its device outlives: --recoverable and recover, --resilient.
. /tests/lib.sh
section "recover"
modprobe ublk_drv
truncate -s 64M img other

dd if=/dev/urandom of=data bs=1M count=8 2>/dev/null
field() { ublk list "$1" --json | jq -r ".devices[0].$2"; }
server() { field "${1:-0}" pid; }
state_is() { [ "$(field 0 state)" = "$1" ]; }
write_data() { dd if=data of=/dev/ublkb0 bs=256K oflag=direct 2>/dev/null; }
same_data() { dd if=/dev/ublkb0 of=back bs=256K count=32 iflag=direct 2>/dev/null && cmp data back; }

# ---- --recoverable ----
check "file --recoverable" ublk file img --recoverable -d --queues=2 --qdepth=32 --max-io=256K
check "written" write_data
kill -9 "$(server)"
check "its server killed: it waits" wait_for 10 state_is quiesced
dd if=/dev/ublkb0 of=back bs=256K count=32 iflag=direct 2>dd.err & reader=$!
expect_status 2 "recover without the file" ublk recover 0
expect_out 'not what the device was made of' "recover with another file" ublk recover 0 other
expect_out 'not what the device was made of' "recover at another offset" ublk recover 0 img --offset=4096
expect_status 7 "recover a file that no device waits for" ublk recover other
expect_status 7 "recover a device that is not there" ublk recover 5 img
check "it waits still, whoever has tried" state_is quiesced
check "recover by the file" ublk recover img -d
check "the client that waited got its data" wait $reader
check "the same data" cmp data back
expect_eq "2 32" "$(field 0 queues) $(field 0 depth)" "queues and depth are the kernel's to say"
expect_status 6 "recover a device whose server lives" ublk recover 0 img
kill -9 "$(server)"
wait_for 10 state_is quiesced
check "recover by number, and file, with the words as at creation" ublk recover 0 file img -d --queues=1 --qdepth=8
expect_eq "2 32" "$(field 0 queues) $(field 0 depth)" "they change nothing"
check "the same data again" same_data
check "stop" ublk stop 0
check "file without --recoverable" ublk file img -d
kill -9 "$(server)"
wait_for 10 state_is dead
expect_out 'not made to wait' "recover one that was not made to wait" ublk recover 0 img
check "and remove it" ublk stop 0
ublk file img --recoverable -d >/dev/null
kill -9 "$(server)"
wait_for 10 state_is quiesced
sleep 600 </dev/ublkb0 & holder=$!
wait_for 30 [ -e /proc/$holder/fd/0 ]
expect_status 6 "one that waits is in use: stop refuses" ublk stop 0
kill $holder; wait $holder 2>/dev/null
check "one that waits, and nobody has open: stop" ublk stop 0
recover_fg() {
	ublk file img --recoverable -d >/dev/null || return
	kill -9 "$(server)"
	wait_for 10 state_is quiesced || return
	ublk recover img >node 2>err & pid=$!
	wait_for 10 grep -q ublkb0 node || return
	kill $pid
	wait $pid && [ ! -e /dev/ublkc0 ]
}
check "recover in the foreground, and its end by SIGTERM" recover_fg
cp img before
partial() {	# the queues' commands are there, END_USER_RECOVERY is not: the next one must do
	ublk file img --recoverable -d >/dev/null || return
	for step in 2 4 6 8 10 12 14; do
		kill -9 "$(server)" 2>/dev/null
		pkill -9 ublk-die 2>/dev/null
		wait_for 10 state_is quiesced || { echo "step $step: $(ublk list)"; return 1; }
		DIE_AT=$step ublk-die recover img -d >/dev/null 2>&1
		wait_for 10 sh -c '! pidof ublk-die' || pkill -9 ublk-die
		wait_for 10 state_is quiesced || { echo "step $step: $(ublk list)"; return 1; }
		ublk recover img -d >/dev/null || { echo "step $step"; return 1; }
	done
	same_data && ublk stop 0
}
case $(uname -r) in
[1-6].*) skip "servers that die while they take over" "drivers before 6.16 do not take the commands again" ;;
*) check "servers that die while they take over" partial ;;
esac
ublk stop --all 2>/dev/null

# ---- --resilient ----
mem_waste() { sed -n 's/^Shmem: *\([0-9]*\).*/\1/p' /proc/meminfo; }
new_server() { s=$(server) && [ "$s" != null ] && [ "$s" != "$old" ] && state_is live; }
replaced() {	# SIGNAL: kill the server, expect another
	old=$(server)
	kill "-$1" "$old" && wait_for 10 new_server
}
guard_term() {
	rm -f node
	ublk $what --resilient >node 2>err & p=$!
	wait_for 10 grep -q ublkb node && kill $p && wait $p && [ ! -e /dev/ublkc0 ]
}
for what in "mem 64M" "file img"; do
	check "$what --resilient" sh -c "ublk $what --resilient -d 2>err"
	check "$what: written" write_data
	check "$what: killed: another server" replaced KILL
	check "$what: the same data" same_data
	check "$what: killed once more" replaced KILL
	check "$what: the same data" same_data
	guard=$(sed -n 's/^PPid:\t//p' "/proc/$(server)/status")
	expect_eq 0 "$(ls -l /proc/$guard/fd | grep -c 'ublk[cb]\|io_uring')" "$what: the guard has nothing of the device open"
	expect_eq 1 "$(ls /proc/$guard/task | wc -l)" "$what: the guard has one thread"
	check "$what: a fatal signal: another server" replaced SEGV
	kill -9 "$guard"
	check "$what: its guard killed: it is served on" same_data
	check "$what: and can be stopped" ublk stop 0
	check "$what: a signal to its guard ends it all" guard_term
	check "$what: -- COMMAND" sh -c "ublk $what --resilient -- sh -c 'kill -9 \$(ublk list --json | jq .devices[0].pid); dd if=\$UBLK_DEV of=/dev/null bs=64K count=1 iflag=direct 2>/dev/null; exit 7'; [ \$? = 7 ] && [ ! -e /dev/ublkc0 ]"
done
holes() {
	ublk mem 1G --resilient -d >/dev/null 2>&1 || return
	a=$(mem_waste)
	dd if=/dev/ublkb0 of=/dev/null bs=1M iflag=direct 2>/dev/null
	for i in 1 2 3 4 5 6 7 8; do dd if=data of=/dev/ublkb0 bs=4K count=1 seek=$((i * 8)) oflag=direct 2>/dev/null; done
	dd if=/dev/ublkb0 of=/dev/null bs=1M iflag=direct 2>/dev/null
	b=$(mem_waste)
	ublk stop 0
	echo "$a KiB of shared memory, $b after reading 1 GiB of holes twice"
	[ $((b - a)) -lt 1024 ]
}
check "mem --resilient: a read of a hole takes no memory" holes
gives_up() {	# a server that dies at once, each time: errors to the clients, not an endless wait
	setsid ublk file img --resilient >gives.out 2>gives.err &
	wait_for 30 grep -q ublkb0 gives.out || return
	sleep 600 </dev/ublkb0 & holder=$!
	guard=$(awk '{ print $4 }' "/proc/$(server)/stat")
	# Sixteen that have not lived are the end, be it that one has gone before it was killed. What then removes the
	# device leads no session, and is killed once.
	n=0 last= remover=
	end=$(($(uptime_ms) + 60000))
	while [ -e /dev/ublkb0 ] && [ "$(uptime_ms)" -lt $end ]; do
		kid= # of a line without an end
		read -r kid more <"/proc/$guard/task/$guard/children"
		[ -n "$kid" ] && [ "$kid" != "$last" ] && read -r more more more more more sid more <"/proc/$kid/stat" || continue
		if [ "$sid" = "$kid" ]; then
			kill -9 "$kid" && n=$((n + 1)) last=$kid
		elif [ -z "$remover" ] && grep -q "as 15 before it did at once: given up" gives.err; then
			kill -9 "$kid" && remover=$kid
		fi
	done 2>/dev/null
	kill $holder; wait $holder 2>/dev/null
	grep -q "as 15 before it did at once: given up" gives.err && [ ! -e /dev/ublkb0 ] || { echo "after $n kills"; cat gives.err; ublk list; return 1; }
	echo "# $n kills, and of what removes it: ${remover:-none}"
	wait_for 10 sh -c '! pidof ublk && ! ls /dev/ublkc0'
}
check "servers that die at once, one after the other: given up, nothing left" gives_up
printf '%s\n' "$out"
stopped_meanwhile() {	# killed and stopped at the same time: gone, whoever comes first
	for i in 1 2 3 4 5; do
		ublk mem 16M --resilient -d >/dev/null 2>&1 || return
		kill -9 "$(server)" & ublk stop 0 --force >/dev/null 2>&1
		wait
		wait_for 10 sh -c '! pidof ublk' || { ublk list; ps | grep ublk; return 1; }
		[ ! -e /dev/ublkc0 ] || ublk stop 0 || return
	done
}
check "killed while it is being stopped: no guard is left" stopped_meanwhile
nothing_left
