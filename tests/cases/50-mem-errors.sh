# Everything that can go wrong on the way up: a status, one line, no device.
. /tests/lib.sh
section "errors"

check "size 0" one_line 2 'SIZE.*from 512 to' ublk mem 0
check "no size" one_line 2 'SIZE is missing' ublk mem
check "a size that is not a multiple of the block size" one_line 2 'SIZE.*multiple' ublk mem 1000
check "a size that is not a multiple of --block-size" one_line 2 'SIZE.*multiple' ublk mem 6K --block-size=4K
check "fractions" one_line 2 '"1.5G"' ublk mem 1.5G
check "an overflow" one_line 2 'SIZE' ublk mem 99999999P
check "--queues out of range" one_line 2 'queues=0.*from 1 to 4096' ublk mem 1G --queues=0
check "--qdepth out of range" one_line 2 'qdepth=5000.*from 1 to 4096' ublk mem 1G --qdepth=5000
check "--block-size that is no power of two" one_line 2 'block-size=1000.*power' ublk mem 1G --block-size=1000
check "an unknown option" one_line 2 '--frobnicate' ublk mem 1G --frobnicate
check "an option of another verb" one_line 2 '--force' ublk mem 1G --force
check "a stray argument" one_line 2 '2G' ublk mem 1G 2G
check "an unknown verb" one_line 2 'frob' ublk frob
check "no verb" one_line 2 'what' ublk
check "stop without a device" one_line 2 'name the devices' ublk stop
check "stop of what is no device" one_line 7 'no ublk device' ublk stop /dev/null
check "help on stdout, status 0" sh -c 'ublk help | grep -q "ublk mem"'
check "help of a verb" sh -c 'ublk mem --help | grep -q -- --qdepth'
check "--version" sh -c 'ublk --version | grep -q "^ublk [0-9]"'
ln -sf "$(command -v ublk)" ublk-mem
symlink() { d=$(./ublk-mem --size=16M -d) && ublk stop "$d"; }
check "a symlink ublk-mem is the verb" symlink

nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"; }
check "no permission on the control node" one_line 4 'Permission denied.*root' nobody ublk mem 16M
if ublk check | grep -q '^missing *QUIESCE'; then	# from 6.16 on see 88-user
	chmod 666 /dev/ublk-control
	check "no CAP_SYS_ADMIN" one_line 4 'ADD_DEV: without root.*6.16' nobody ublk mem 16M
	chmod 600 /dev/ublk-control
fi

if [ -e /proc/sys/kernel/io_uring_disabled ]; then
	echo 2 >/proc/sys/kernel/io_uring_disabled
	check "io_uring switched off" one_line 5 'io_uring_disabled' ublk mem 16M
	check "io_uring switched off, daemon" one_line 5 'io_uring_disabled' ublk mem 16M -d
	echo 0 >/proc/sys/kernel/io_uring_disabled
else
	skip "io_uring switched off" "this kernel has no io_uring_disabled"
fi

# Fault injection, one system call after the other: each failure is reported
# and leaves no device. strace counts a call's occurrences from 1.
fails_at() {	# SYSCALL ERROR WHEN: 0 if it failed and left nothing, 2 if it was never reached
	local st=0 job
	rm -f trace out err
	strace -f -qq -o trace -e trace="$1" -e inject="$1:error=$2:when=$3" ublk mem 16M >out 2>err &
	job=$!
	wait_for 20 sh -c "[ -s out ] || ! kill -0 $job" || { echo "$1 $3: hangs"; return 1; }
	# where the failure hits the question who uses the device, that is refused, and asked again
	[ ! -s out ] || wait_for 60 sh -c 'kill -TERM $(pidof ublk) 2>/dev/null; sleep 0.4; ! pidof ublk' || { echo "$1 $3: does not stop"; ublk stop --all --force; }
	wait $job || st=$?
	! ls /dev/ublkb* /dev/ublkc* 2>/dev/null || { ublk stop --all; return 1; }
	grep -q INJECTED trace || return 2
	[ $st = 0 ] || [ -s err ] || { echo "status $st and no message"; return 1; }
}
inject_all() {
	local n=0 i st call
	for call in io_uring_setup io_uring_register mmap openat; do
		i=1
		while [ $i -le 12 ]; do
			st=0; fails_at $call ENOMEM $i || st=$?
			[ $st != 2 ] || break
			[ $st = 0 ] || { echo "$call number $i"; return 1; }
			i=$((i + 1)) n=$((n + 1))
		done
	done
	echo $n >injected
	[ $n -ge 8 ]
}
check "a system call fails on the way up: no device left" inject_all
echo "# failures injected: $(cat injected)"

modprobe -r ublk_drv 2>/dev/null || rmmod ublk_drv
check "no driver, not to be loaded" one_line 3 'modprobe' ublk mem 16M --no-modprobe
nothing_there() { [ -z "$(ublk list)" ] && [ "$(ublk list --json | tr -d ' \n')" = '{"devices":[]}' ] && ublk stop --all; }
check "not loaded, but to be had: no devices, and that is no error" nothing_there
check "not loaded: stop of a device" one_line 7 'no ublk device' ublk stop 0
loads() { d=$(ublk mem 16M -d) && ublk stop "$d"; }
check "the driver is loaded when missing" loads
rmmod ublk_drv
mv /lib/modules /lib/modules.away
check "no driver to be found: list" one_line 3 'ublk_drv' ublk list
check "no driver to be found" one_line 3 'ublk_drv' ublk mem 16M
mv /lib/modules.away /lib/modules
modprobe ublk_drv

nothing_left
