# stop, signals, list, check: what scripts lean on.
. /tests/lib.sh
section "stop, signals, list, check"

start_fg() {
	rm -f out err
	fore ublk "$@" >out 2>err &
	srv=$!
	wait_for 10 test -s out || { cat err; return 1; }
	dev=$(cat out)
}
gone() { ! [ -e "$1" ]; }
status() { st=0; "$@" 2>stop.err || st=$?; }

# signals: in each way to run, idle, busy and mounted, first and second
daemon_signal() {
	ublk mem 16M -d >/dev/null && p=$(pidof ublk) || return 1
	kill -HUP "$p"; kill -PIPE "$p"
	dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 2>/dev/null || return 1
	exec 8</dev/ublkb0
	kill -"$1" "$p"
	dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || { echo "busy: stopped by the first"; return 1; }
	[ -b /dev/ublkb0 ] || return 1
	exec 8<&-
	kill -"$1" "$p"
	wait_for 10 gone /dev/ublkb0 && wait_for 30 sh -c '! pidof ublk'
}
for sig in INT TERM; do check "daemon: HUP and PIPE ignored; busy: the first SIG$sig refused, the second stops" daemon_signal $sig; done
mounted_signal() {	# forced while mounted: what was dirty is in the file
	truncate -s 64M disk.img
	start_fg file disk.img && mkfs.ext4 -q "$dev" && mount "$dev" /mnt || return 1
	dd if=/dev/urandom of=/mnt/f bs=1M count=4 2>/dev/null
	md5=$(md5sum </mnt/f)
	kill -"$1" $srv
	wait_for 10 grep -q 'mounted on /mnt.*still serving' err || return 1
	[ "$(md5sum </mnt/f)" = "$md5" ] || return 1
	kill -"$1" $srv
	wait_for 20 gone "$dev" || { echo "not gone"; return 1; }
	umount /mnt
	wait $srv
	modprobe loop
	mount -o loop disk.img /mnt && [ "$(md5sum </mnt/f)" = "$md5" ]; st=$?
	umount /mnt
	rm disk.img
	return $st
}
for sig in INT TERM HUP; do check "mounted: SIG$sig refused, again: stopped, no dirty byte lost" mounted_signal $sig; done
pipe() {
	ublk mem 16M -d >/dev/null || return 1
	ublk list | head -n 0
	ublk list | true
	ublk stop 0
}
check "SIGPIPE harms nothing" pipe
no_stdout() {	# nobody reads the node: the server ends, the device with it
	rm -f st
	{
		(trap '' PIPE; while echo; do sleep 0.02; done) 2>/dev/null	# until "true" has ended
		ublk mem 16M 2>err
		echo $? >st
	} | true
	wait_for 10 test -s st && wait_for 30 sh -c '! pidof ublk' && gone /dev/ublkb0
}
check "a closed pipe as stdout: no device is left" no_stdout

# stop
busy() { ublk mem 16M -d -q >/dev/null && exec 8</dev/ublkb0; }
waits() {
	busy || return 1
	status ublk stop 0 --wait=1
	[ $st = 6 ] && grep -q 'opened by process' stop.err || return 1
	ublk stop 0 --wait=20 & w=$!
	wait_for 30 sh -c "[ \"\$(cat /proc/$w/wchan)\" ]"
	exec 8<&-
	wait $w
}
check "--wait: status 6 if it stays busy, 0 once it is free" waits
swap() {
	ublk mem 32M -d -q >/dev/null && mkswap /dev/ublkb0 >/dev/null && swapon /dev/ublkb0 || return 1
	status ublk stop 0
	swapoff /dev/ublkb0
	[ $st = 6 ] && grep -q 'swap' stop.err && ublk stop 0
}
check "swap is named, status 6" swap
holder() {
	modprobe dm-mod
	ublk mem 32M -d -q >/dev/null && DM_DISABLE_UDEV=1 dmsetup create h --table "0 2048 linear /dev/ublkb0 0" || return 1
	status ublk stop 0
	DM_DISABLE_UDEV=1 dmsetup remove h
	[ $st = 6 ] && grep -q 'held by dm-' stop.err && ublk stop 0
}
check "a device-mapper holder is named, status 6" holder
orphan() {
	ublk mem 16M -d -q >/dev/null && ublk mem 16M -d -q >/dev/null || return 1
	for p in $(pidof ublk); do kill -9 "$p"; done
	wait_for 15 sh -c '[ "$(ublk list | grep -c " dead ")" = 2 ]' || { ublk list; return 1; }
	ublk stop 0 && ublk stop --all && [ "$(ublk list | wc -l)" = 0 ] && ! ls /dev/ublkc* 2>/dev/null
}
check "devices whose server was killed are removed, by name and by --all" orphan
forced_open() {	# an opener that stays: the deadline holds, and the device goes with its close
	busy || return 1
	status timeout 45 ublk stop 0 --force
	exec 8<&-
	[ $st = 8 ] && grep -q 'DEL_DEV.*still has the device open' stop.err || { echo "status $st"; cat stop.err; return 1; }
	wait_for 30 sh -c '! ls /dev/ublkc0'
}
if [ "$(uname -r | cut -d. -f1)" -ge 7 ] || [ "$(uname -r | cut -d. -f2)" -ge 9 ]; then
	check "--force with an opener that stays: status 8 within the deadline" forced_open
else
	skip "--force with an opener that stays" "this driver has no DEL_DEV_ASYNC"
fi
forced_close() {	# an opener that goes as soon as it sees errors
	busy || return 1
	ublk stop 0 --force 2>stop.err & w=$!
	wait_for 10 gone /dev/ublkb0 || return 1
	exec 8<&-
	wait $w && wait_for 30 sh -c '! ls /dev/ublkc0'
}
check "--force with an opener that goes: status 0, all gone" forced_close
modprobe -a dm-mod brd
export DM_DISABLE_UDEV=1 # dmsetup makes its nodes itself
waits_for_disk() {	# a stop, at a terminal, of what is dirty on a disk that stands still
	local size=$(($(cat /sys/block/ram0/size) / 4)) st=1
	dmsetup create slow --table "0 $size linear /dev/ram0 0" && ublk file /dev/mapper/slow --direct -d -q >/dev/null || return
	exec 8>/dev/ublkb0
	dd if=/dev/zero bs=1M count=3 >&8 2>/dev/null
	dmsetup suspend --noflush --nolockfs slow
	script -qefc "ublk stop --force 0" log >/dev/null </dev/null 8<&- & w=$!
	wait_for 10 grep -q '^ublk: /dev/ublkb0: what is dirty is being written, [3-9] MiB at most' log && st=0
	dmsetup resume slow
	wait_for 10 gone /dev/ublkb0
	exec 8<&-
	wait $w || { st=$?; cat log; }
	dmsetup remove --retry slow
	return $st
}
check "at a terminal it is said what a stop waits for" waits_for_disk
several() {
	for i in 1 2 3; do ublk mem 8M -d -q >/dev/null || return 1; done
	ublk stop ublkb0 /dev/ublkc1 2 && ! ls /dev/ublkb* 2>/dev/null
}
check "several at once, each by another spelling" several
by_file() {
	truncate -s 8M disk.img
	ublk file disk.img -d -q >/dev/null && ublk list disk.img | grep -q ublkb0 && ublk stop ./disk.img && gone /dev/ublkb0
}
check "a device by its backing file" by_file
for dev in /dev/null /etc nosuch ublkb ublkb-1 ublkb1048576 /dev/ram99 0x0 1.0 ublkb0p1 ./disk.img ""; do
	expect_status 7 "stop of \"$dev\" is status 7" ublk stop "$dev"
	expect_status 7 "list of \"$dev\" is status 7" ublk list "$dev"
done

# list, check
json() {
	truncate -s 8M 'a "b\c.img'
	ublk mem 16M -d -q --queues=2 >/dev/null && ublk file 'a "b\c.img' -r -d -q --id=7 >/dev/null || return 1
	ublk list --json >j || return 1
	[ "$(jq '.devices | length' j)" = 2 ] && [ "$(jq -r '.devices[0] | .node, .char, .type, .size, .state, .queues, .depth, .block_size, .read_only, .backing' j | tr '\n' ' ')" = \
		"/dev/ublkb0 /dev/ublkc0 mem 16777216 live 2 128 512 false null " ] || { cat j; return 1; }
	[ "$(jq -r '.devices[1].backing' j)" = "$PWD/a \"b\\c.img" ] && [ "$(jq '.devices[1].read_only' j)" = true ] &&
		jq -e '.devices[0].features | index("NEED_GET_DATA")' j >/dev/null && jq -e '.devices[0].pid > 1' j >/dev/null || { cat j; return 1; }
	ublk list --json 7 | jq -e '.devices[0].id == 7' >/dev/null && ublk stop --all
}
check "list --json" json
json_empty() { [ "$(ublk list --json | jq -c .)" = '{"devices":[]}' ] && [ -z "$(ublk list)" ]; }
check "list --json of nothing, list of nothing" json_empty
check "check: status 0 where a RAM disk can be made" ublk check
expect_out '^ok +driver .*ublk_drv' "check: driver" ublk check
expect_out '^ok +NEED_GET_DATA|^limited +features' "check: features by name" ublk check
check_json() { ublk check --json | jq -e '.status == 0 and (.checks | length > 5)' >/dev/null; }
check "check --json" check_json
no_driver() {
	rmmod ublk_drv || return 1
	ublk check >c || return 1
	grep -q 'ublk loads it from /lib/modules' c || { cat c; return 1; }
	mv /lib/modules /lib/away
	status ublk check
	mv /lib/away /lib/modules
	[ $st = 3 ]
}
if [ -e "/lib/modules/$(uname -r)/kernel/drivers/block/ublk_drv.ko" ]; then
	check "check: driver loadable; driver missing is status 3" no_driver
fi
modprobe ublk_drv
unprivileged() { status setpriv --reuid=65534 --regid=65534 --clear-groups ublk check >c; [ $st = 4 ]; }
check "check: no permission is status 4" unprivileged

nothing_left
