# Without root: a user makes, uses and throws away disks, with udev and without, and gets no further than his own.
. /tests/lib.sh
section "without root"
modprobe -a ublk_drv ext4 dm-mod
export DM_DISABLE_UDEV=1	# dmsetup makes its nodes itself
as() { setpriv --reuid 1000 --regid 1000 --clear-groups "$@"; }
other() { setpriv --reuid 1001 --regid 1001 --clear-groups "$@"; }
gone() { ! ls /dev/ublk[bc]* >/dev/null 2>&1; }
state_is() { [ "$(ublk list "$1" --json | jq -r '.devices[0].state')" = "$2" ]; }
chmod 755 .; mkdir u; chown 1000:1000 u; cd u || exit
chmod 600 /dev/ublk-control
check "a control node for root only: one line" one_line 4 'run it as root, or see' as ublk mem 16M -d
check "check says what is missing" sh -c "! setpriv --reuid 1000 ublk check | grep -q '^ok *without root: control'; ublk check | grep '^missing *without root: control'"
chmod 666 /dev/ublk-control
if ! ublk check | grep -q '^ok *QUIESCE'; then
	check "before 6.16: refused, and why" one_line 4 'without root this takes Linux 6.16' as ublk mem 16M -d
	expect_status 4 "check says so" as ublk check
	expect_out '^missing *without root: kernel' "by name" as ublk check
	chmod 600 /dev/ublk-control
	nothing_left
	exit 0
fi

# Somebody has to give nodes to their owner.
giver() {
	while :; do
		for n in $(find /dev -maxdepth 1 -name 'ublk[bc][0-9]*' -user 0); do
			o=$(ublk owner "${n##*/}" 2>/dev/null) && chown "${o% *}:${o#* }" "$n"
		done
		sleep 0.02
	done
}
check "nobody gives nodes: an error, and what it takes" sh -c 'out=$(setpriv --reuid 1000 --regid 1000 --clear-groups ublk mem 16M -d 2>&1); [ $? = 4 ] && echo "$out" | grep "nobody has given you the node"'
check "what is left root removes" ublk stop --all

used() {	# a filesystem on it, whose data is there
	as mkfs.ext4 -qF -E lazy_itable_init=0 "$1" && as dd if=/dev/urandom of=data bs=1M count=4 2>/dev/null && as dd if=data of="$1" bs=1M seek=8 oflag=direct 2>/dev/null &&
		as dd if="$1" bs=1M skip=8 count=4 iflag=direct 2>/dev/null | cmp - data
}
mem() {
	dev=$(as ublk mem 16M -d -q) && [ "$dev" = /dev/ublkb0 ] && [ "$(stat -c '%u:%g %a' $dev)" = "1000:1000 600" ] && used $dev || return
	as ublk list | grep -q '^/dev/ublkb0 *mem .* live' && as ublk list --json | jq -e '.devices[0].used > 4000000' >/dev/null || { as ublk list; return 1; }
	ublk list | grep -q '^/dev/ublkb0 *mem .* live' || { ublk list; return 1; }
	as ublk stop 0 && gone
}
file() {
	as truncate -s 16M img && dev=$(as ublk file img -d -q "$@") && used $dev && as ublk list img | grep -q '/img$' && as ublk stop img && gone &&
		dd if=img bs=1M skip=8 2>/dev/null | cmp -n 4194304 - data
}
during() { [ "$(as ublk mem 16M -- sh -c 'dd if=/dev/zero of=$UBLK_DEV bs=1M count=1 oflag=direct 2>/dev/null && id -u')" = 1000 ] && gone; }
snapshot() {
	as truncate -s 16M img && cp img before && as ublk file img --snapshot -d -q >/dev/null && used /dev/ublkb0 && cmp img before || return
	as ublk save 0 saved && as ublk commit 0 2>err && [ ! -s err ] && cmp img saved && as ublk stop 0 && as rm saved || return
	as ublk mem --load=img -d -q >/dev/null && as cmp -n 16777216 /dev/ublkb0 img && as ublk stop 0 && gone
}
grows() { as ublk mem 16M -d -q >/dev/null && as ublk resize 0 64M && [ "$(blockdev --getsize64 /dev/ublkb0)" = 67108864 ] && as ublk stop 0; }
life() {	# HOW
	check "$1: mem: made, used, listed, stopped" mem
	check "$1: file" file
	check "$1: file --direct" file --direct
	check "$1: -- COMMAND" during
	check "$1: --snapshot, save, commit, --load" snapshot
	check "$1: resize" grows
}
giver & giver=$!
life "nodes given by hand"

# ---- what is not to be had ----
for what in recoverable resilient zero-copy=on; do
	check "--$what: one line" one_line 4 "$what: the driver has it for root only" as ublk file img --$what -d
done
parted() { as ublk mem 16M -d -q >/dev/null && printf 'start=2048, size=8192\n' | as sfdisk -q --no-reread /dev/ublkb0 2>err; ublk list >/dev/null; [ ! -e /sys/block/ublkb0/ublkb0p1 ] && as ublk stop 0; }
check "no partitions" parted

# ---- others ----
as ublk mem 16M -d -q >/dev/null
chmod 666 /dev/ublkb0 /dev/ublkc0
refused() { ! other dd if=/dev/ublkb0 of=/dev/null count=1 2>err && grep -q 'not permitted' err; }
check "another user cannot open it, whatever its mode" refused
chmod 600 /dev/ublkb0 /dev/ublkc0
expect_status 4 "nor stop it" other ublk stop 0
expect_status 4 "nor look at it" other ublk list 0
expect_eq "" "$(other ublk list 2>&1)" "it is none of his"
check "his stop --all leaves it" other ublk stop --all
check "it is there" state_is 0 live
check "a device of root's beside it" ublk mem 16M -d -q
expect_eq 2 "$(as ublk list 2>&1 | wc -l)" "list: his own"
check "stop --all: his own" as ublk stop --all
check "root's is there" state_is 1 live
expect_status 4 "root's: not his to stop" as ublk stop 1
as ublk mem 16M -d -q >/dev/null
check "root lists both" sh -c '[ "$(ublk list | wc -l)" = 3 ]'
check "root stops all" ublk stop --all
check "all gone" gone

# ---- a server that dies, stands still, or waits ----
as ublk mem 16M -d -q >/dev/null
kill -9 "$(pidof ublk)"
check "killed: dead" wait_for 10 state_is 0 dead
check "killed: his to remove" as ublk stop 0
still() {	# HOW: the driver kills what keeps a request, here after 3 s, or $IO_TIMEOUT ms
	as ublk mem 16M -d -q >/dev/null && echo ${IO_TIMEOUT:-3000} >/sys/block/ublkb0/queue/io_timeout || return
	p=$(pidof ublk)
	$1 "$p"
	as dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>err && return 1
	grep -q 'Input/output' err && wait_for 10 state_is 0 dead && as ublk stop 0 && gone
}
stops() { kill -STOP "$1"; }
freezes() { mkdir -p cg && mount -t cgroup2 none cg && mkdir -p cg/x && echo "$1" >cg/x/cgroup.procs && echo 1 >cg/x/cgroup.freeze; }
check "stopped: the driver kills it, and its client gets an error" still stops
check "frozen: the same" still freezes
umount cg
rmmod brd 2>/dev/null	# another case's is of another size
modprobe brd rd_nr=1 rd_size=65536 max_part=0
stalled() {	# what a disk does not answer is an error before the driver kills the server
	dmsetup create slow --table "0 131072 linear /dev/ram0 0" && chown 1000 /dev/mapper/slow /dev/dm-* 2>/dev/null
	as $1 file /dev/mapper/slow --direct --qdepth=4 -d -q >/dev/null || return
	p=$(pidof ${1##* })
	blockdev --flushbufs /dev/mapper/slow
	(sleep 50; dmsetup resume slow) & r0=$!	# a server that waits for ever is not to hang the case
	dmsetup suspend --noflush --nolockfs slow
	for i in 1 2; do as dd if=/dev/ublkb0 of=/dev/null bs=4k skip=$i count=1 iflag=direct 2>err.$i & eval "r$i=$!"; done
	for i in 3 4; do as dd if=/dev/zero of=/dev/ublkb0 bs=4k seek=$i count=1 oflag=direct conv=notrunc 2>err.$i & eval "r$i=$!"; done
	wait $r1; wait $r2; wait $r3; wait $r4
	grep -c 'Connection timed out\|Input/output' err.1 err.2 err.3 err.4 >n || { cat err.?; return 1; }
	# its tags answer at once, with an error, until what they wait for is there
	as timeout 10 dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>err && return 1
	as timeout 10 dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct 2>err && return 1
	kill $r0; wait $r0 2>/dev/null
	[ "$(pidof ${1##* })" = "$p" ] || { echo "another server"; return 1; }
	dmsetup resume slow
	wait_for 10 as dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct || return
	for i in 1 2 3 4 5 6 7 8; do as dd if=data of=/dev/ublkb0 bs=1M count=4 oflag=direct 2>err && as dd if=/dev/ublkb0 bs=1M count=4 iflag=direct 2>err | cmp - data || return; done
	[ "$(pidof ${1##* })" = "$p" ] && as ublk stop 0 && dmsetup remove --retry slow
}
check "a disk that does not answer: errors in time, and on it goes" stalled ublk
check "the same where no memory is left, and most wait for a buffer" stalled "env LEAN=1 ublk-die"
waits() {	# a write that waits for a disk keeps nothing else, whatever filesystem is between
	dmsetup create slow --table "0 131072 linear /dev/ram0 0" && mkfs.ext4 -qF /dev/mapper/slow && mkdir -p m && mount /dev/mapper/slow m || return
	dd if=/dev/urandom of=m/img bs=1M count=16 2>/dev/null; chown 1000 m/img; sync
	# the first write tells how the filesystem writes
	as ublk file m/img -d -q >/dev/null && as dd if=data of=/dev/ublkb0 bs=4k count=8 oflag=direct 2>err || return
	p=$(pidof ublk)
	sync; echo 3 >/proc/sys/vm/drop_caches
	as dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>err || return
	(sleep 45; dmsetup resume slow) & r0=$!
	dmsetup suspend --noflush --nolockfs slow
	# a part of a page that is not in the cache: it has to be read first
	as dd if=data of=/dev/ublkb0 bs=512 seek=16385 count=1 oflag=direct conv=notrunc 2>err & w=$!
	wait_for 10 grep -q '1$' /sys/block/ublkb0/inflight
	as timeout 60 dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>err.r; st=$?
	wait $w
	kill $r0; wait $r0 2>/dev/null
	dmsetup resume slow
	[ $st = 0 ] && grep -q 'timed out' err && [ "$(pidof ublk)" = "$p" ] && state_is 0 live && as ublk stop 0 && umount m && dmsetup remove --retry slow
}
check "a write that waits for a disk: the rest goes on" waits
umount m 2>/dev/null; dmsetup remove --retry slow 2>/dev/null
rmmod brd
full() {	# its memory is not locked, and yet is not to be taken from the rest
	dd if=/dev/zero of=/dev/shm/hog bs=1M count=$(($(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo) / 1024 - 400)) 2>/dev/null
	as ublk mem 8G -d -q >/dev/null || return
	! as dd if=/dev/zero of=/dev/ublkb0 bs=1M oflag=direct 2>err && grep -q 'No space' err && state_is 0 live && as ublk stop 0 && gone
}
check "more than there is of memory: no space" full
rm -f /dev/shm/hog

# ---- 64, and one more ----
many() {	# the driver's count may be one off by what was there before
	n=0
	while [ $n -lt 70 ] && as ublk mem 1M -d -q --qdepth=4 >out 2>err; do n=$((n + 1)); done
	[ $n -ge 63 ] && [ $n -le 66 ] && grep -q 'ublks_max' err && [ ! -s out ] && [ "$(ls /dev/ublkc* | wc -l)" = $n ] || { echo "$n devices"; cat err; return 1; }
	ublk stop --all && gone
}
check "64 devices, and one more: the limit, by name" many

# ---- where he is somebody else, or somewhere else ----
userns() { as unshare -U -r ublk mem 16M -d -q >/dev/null && [ "$(stat -c %u /dev/ublkb0)" = 1000 ] && used /dev/ublkb0 && as unshare -U -r ublk list | grep -q ublkb0 && as unshare -U -r ublk stop 0 && gone; }
check "root of a user namespace" userns
kill $giver; wait $giver 2>/dev/null
contained() {	# a /dev of its own, to which somebody passes the nodes
	mkdir -p dev
	cat >inside <<-'I'
		mount -t tmpfs none dev && for n in null zero random urandom ublk-control; do touch dev/$n && mount --bind /dev/$n dev/$n || exit; done
		mount --move dev /dev && exec setpriv --reuid 1000 --regid 1000 --clear-groups ublk mem 16M -- dd if=/dev/zero of=/dev/ublkb0 bs=1M count=16 oflag=direct
	I
	unshare -m sh inside >out 2>&1 & in=$!
	until [ ! -d /proc/$in ] || [ "$(readlink /proc/$in/exe)" = "$(readlink -f /bin/ublk)" ]; do sleep 0.02; done
	while [ -d /proc/$in ]; do
		for n in ublkc0:ublk-char ublkb0:block; do
			d=$(cat /sys/class/${n#*:}/${n%:*}/dev 2>/dev/null) || continue
			case $n in *block) t=b ;; *) t=c ;; esac
			[ -e /proc/$in/root/dev/${n%:*} ] || { mknod -m 600 /proc/$in/root/dev/${n%:*} $t ${d%:*} ${d#*:} && chown 1000:1000 /proc/$in/root/dev/${n%:*}; } 2>/dev/null
		done
		sleep 0.02
	done
	wait $in && gone || { cat out; return 1; }
}
check "a /dev of its own, with the nodes passed in" contained

# ---- udev ----
if command -v udevadm >/dev/null; then
	mkdir -p /usr/lib/udev/rules.d /run/udev
	cp /tests/rules/* /usr/lib/udev/rules.d/
	printf 'KERNEL=="ublk-control", GROUP="1000", MODE="0660"\n' >/usr/lib/udev/rules.d/99-test.rules
	chmod 600 /dev/ublk-control
	ln -sf "$(command -v udevadm)" /run/systemd-udevd
	/run/systemd-udevd --daemon
	wait_for 10 test -e /run/udev/control
	udevadm trigger --action=add /sys/class/misc/ublk-control; udevadm settle
	expect_eq "0:1000 660" "$(stat -c '%u:%g %a' /dev/ublk-control)" "udev: the control node as a rule says"
	expect_out '^ok *without root: nodes' "check sees the rule" as ublk check
	life udev
	check "README has commands for a user" readme user
	readme user >readme
	check "README's commands, as a user" as sh -e readme
	check "a device of root's stays root's" sh -c 'ublk mem 16M -d -q >/dev/null && udevadm settle && [ "$(stat -c %u /dev/ublkb0)" = 0 ] && ublk stop 0'
	udevadm control --exit
	rm -rf /usr/lib/udev/rules.d /run/udev
else
	skip "udev" "no udevadm here"
fi
chmod 600 /dev/ublk-control
cd ..

nothing_left
