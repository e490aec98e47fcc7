# What a machine may lack, one thing at a time: it works without, or says in one
# line what is missing, and nothing is left. See also 50-mem-errors and tests/bare.c.
. /tests/lib.sh
section "missing"
modprobe ublk_drv
truncate -s 16M img
life() {	# WRAPPER...: make, use, remove
	d=$("$@" ublk mem 16M -d) && [ "$d" = /dev/ublkb0 ] || { echo "made '$d'"; return 1; }
	dd if=/dev/urandom of=data bs=1M count=1 2>/dev/null
	dd if=data of=/dev/ublkb0 oflag=direct bs=1M 2>/dev/null && dd if=/dev/ublkb0 iflag=direct bs=1M count=1 2>/dev/null | cmp - data &&
		ublk stop 0
}

if [ -e /proc/sys/kernel/io_uring_disabled ]; then
	echo 1 >/proc/sys/kernel/io_uring_disabled
	check "io_uring for root only" life
	echo 0 >/proc/sys/kernel/io_uring_disabled
fi
check "io_uring refused by a seccomp filter" one_line 5 'seccomp' \
	strace -f -qq -o /dev/null -e trace=io_uring_setup -e inject=io_uring_setup:error=EPERM ublk mem 16M
check "8 descriptors" life prlimit --nofile=8
check "3 descriptors, and no right to more" one_line 1 "Too many open files\|No file descriptors available" setpriv --bounding-set=-sys_resource prlimit --nofile=3 ublk mem 16M
check "no memory to lock" life prlimit --memlock=0
check "no memory to lock, and no right to" life prlimit --memlock=0 setpriv --bounding-set=-ipc_lock
check "no right to make nodes" life setpriv --bounding-set=-mknod
closed() { life sh -c 'exec "$@" 2>&-' sh; }
check "no stderr" closed

# A /dev of somebody's own making, in a mount namespace for the case
cat >in_dev <<'END'
mount -t tmpfs -o "$1" none /dev && mknod -m 666 /dev/null c 1 3 || exit 99
shift
. ./in_dev_do
END
in_dev() { unshare -m sh ./in_dev "$@"; }
cat >in_dev_do <<'END'
one=$("$@" mem 16M -d) && [ "$one" = /dev/ublkb0 ] && two=$("$@" file img -d) && [ "$two" = /dev/ublkb1 ] || exit 1
[ "$(stat -c %a:%F /dev/ublkb0)" = "600:block special file" ] || { ls -l /dev; exit 1; }
printf 'label: gpt\nsize=2M\n' | sfdisk -q --no-tell-kernel /dev/ublkb1 && ublk list | grep -c 'ublkb[01].*live' | grep -qx 2 || exit 1
ublk stop 0 1 && three=$("$@" file img -d) && [ -b /dev/ublkb0p1 ] && kill -9 $(ublk list --json | jq '.devices[0].pid') || exit 1
i=0; until ublk list | grep -q dead || [ $i = 100 ]; do i=$((i + 1)); sleep 0.05; done
ublk stop 0 && [ "$(echo /dev/*)" = /dev/null ] || { ls -l /dev; exit 1; }
END
check "a /dev that is a tmpfs: its nodes are made, and removed" in_dev mode=755 ublk
check "no devtmpfs in the kernel either" in_dev mode=755 env NO_DEVTMPFS=1 ublk-die
cat >in_dev_do <<'END'
mknod -m 600 /dev/ublk-control c $(sed 's/:/ /' /sys/class/misc/ublk-control/dev) && "$@" mem 16M -d && [ -b /dev/ublkb0 ] && ublk stop 0 || exit 1
[ -c /dev/ublk-control ] && [ "$(echo /dev/*)" = "/dev/null /dev/ublk-control" ] || { ls -l /dev; exit 1; }
# what is not a node of ours is nobody's to remove
echo mine >/dev/ublkb0
"$@" mem 16M -d && exit 1
[ "$(cat /dev/ublkb0)" = mine ] && [ -z "$(ublk list)" ]
END
check "a /dev that is a tmpfs with the control node in it" in_dev mode=755 ublk
cat >in_dev_do <<'END'
"$@" file img -d --resilient && dd if=data of=/dev/ublkb0 bs=1M 2>/dev/null && "$@" stop 0 && cmp -n 1048576 data img
END
dirty() { : >img; truncate -s 16M img; sysctl -q vm.dirty_writeback_centisecs=0; in_dev mode=755 env NO_DEVTMPFS=1 ublk-die; }
check "no devtmpfs, and dirty pages to write before the stop" dirty
echo 500 >/proc/sys/vm/dirty_writeback_centisecs
without_null() {	# nor a stderr: what is said must not go into the file
	mkdir jail && mount -t tmpfs none jail && mkdir jail/dev && cp /bin/ublk jail/ && truncate -s 4M jail/img && cp jail/img before || return
	unshare -m chroot jail /ublk file /img --resilient --qdepth=2 -d 2>&- >out; st=$?
	cmp jail/img before || return
	[ $st != 0 ] || { ublk list >list; kill -9 "$(ublk list --json | jq '.devices[0].pid')"; dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null && ublk stop 0; } || return
	cmp jail/img before && umount jail
}
check "no /dev/null and no stderr: the file stays as it is" without_null
cat >in_dev_do <<'END'
"$@" mem 16M -d >out 2>err; st=$?
[ $st = 1 ] && [ ! -s out ] && [ "$(wc -l <err)" = 1 ] && grep "make the node: $why" err && [ -z "$(ublk list)" ]
END
# an inode for the root, one for null
full() { why='No space left' in_dev nr_inodes=2 ublk; }
check "a full /dev" full
read_only() {
	echo 'mount -o remount,ro /dev' | cat - in_dev_do >do && mv do in_dev_do
	why='Read-only' in_dev mode=755 ublk
}
check "a read-only /dev" read_only
root() { unshare -m sh -c 'mount --bind / / && mount -o remount,ro,bind / && cd / && ! touch /x 2>/dev/null && ublk mem 16M -d' >out && ublk stop -q 0; }
check "a read-only root" root
rm /dev/ublk-control
check "the control node is not there" life
rmmod ublk_drv
modprobe ublk_drv
m=$(find /lib/modules/ -name 'ublk_drv.ko')
cp "$m" kept && rmmod ublk_drv && head -c 1000 kept >"$m"
check "a driver that cannot be loaded" one_line 3 'ublk_drv' ublk mem 16M
cp kept "$m"
nothing_left
