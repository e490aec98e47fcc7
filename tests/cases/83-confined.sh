# What a server leaves behind when it starts: the caller's mounts, privileges,
# and memory that could be taken away. Both with one thread and with several.
. /tests/lib.sh
section "confined"
modprobe -a ublk_drv ext4 loop brd
server() { ublk list 0 --json | jq -r ".devices[0].pid"; }
field() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }

mkdir -p mnt other
truncate -s 32M img fsimg
flags_ok() {	# every task of it, also the kernel's workers: PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE
	dd if=/dev/urandom of=/dev/ublkb0 bs=64K count=64 oflag=direct 2>/dev/null
	for stat in /proc/"$(server)"/task/*/stat; do
		set -- $(sed 's/.*) //' "$stat")
		[ $(($7 & 0x180000)) = $((0x180000)) ] || { echo "$stat: $7"; return 1; }
	done
}
for what in "mem 32M" "mem 32M --queues=2" "mem 32M --resilient" "file img --queues=2" "file img --resilient --direct"; do
	check "$what" sh -c "ublk $what -d"
	pid=$(server)
	expect_eq 1 "$(field "$pid" NoNewPrivs)" "$what: no new privileges"
	for t in /proc/$pid/task/*/status; do sed -n 's/^Cap\(Eff\|Prm\):\t//p' $t; done | sort -u >caps
	expect_eq 0000000001284004 "$(cat caps)" "$what: few capabilities, in every thread"
	expect_eq -1000 "$(cat /proc/$pid/oom_score_adj)" "$what: not for the OOM killer"
	check "$what: its memory is locked" [ "$(field "$pid" VmLck | sed 's/ kB//')" -gt 500 ]
	check "$what: its tasks do no I/O to get memory" flags_ok
	for t in /proc/$pid/task/*/mountinfo; do awk '{ print $5 }' $t; done | sort -u | tr '\n' ' ' >mounts
	expect_eq "/ /dev /proc /sys " "$(cat mounts)" "$what: of the caller's mounts none, in no thread"
	ublk stop 0
done

# Half one: last process of a mount namespace in which its own device is mounted
last_of_its_namespace() {	# OPTIONS...: the end of the server does not wait for itself
	unshare -m sh -c 'ublk mem 32M -d -q --id=7 '"$*"' >/dev/null && mkfs.ext4 -q /dev/ublkb7 && mount /dev/ublkb7 mnt && cp /bin/busybox mnt/ && exec sleep 600' & ns=$!
	wait_for 20 sh -c "grep -q ublkb7 /proc/$ns/mountinfo && [ \"\$(cat /proc/$ns/comm)\" = sleep ]" || { cat /proc/$ns/mountinfo; return 1; }
	expect_status 6 "in use, in another mount namespace: stop says so" ublk stop 7
	pid=$(ublk list 7 --json | jq -r '.devices[0].pid')
	kill -9 $ns; wait $ns 2>/dev/null
	# the namespace ends with its last process: that is not the server, which answers the unmount
	wait_for 10 ublk stop 7 || { ublk list; return 1; }
	wait_for 30 sh -c "[ ! -e /proc/$pid ]"
}
check "its own device mounted where only it would be left" last_of_its_namespace
killed_too() {
	unshare -m sh -c 'ublk mem 32M -d -q --id=7 >/dev/null && mkfs.ext4 -q /dev/ublkb7 && mount /dev/ublkb7 mnt && exec sleep 600' & ns=$!
	wait_for 20 sh -c "grep -q ublkb7 /proc/$ns/mountinfo && [ \"\$(cat /proc/$ns/comm)\" = sleep ]" || return
	pid=$(ublk list 7 --json | jq -r '.devices[0].pid')
	kill -9 $ns "$pid"; wait $ns 2>/dev/null
	wait_for 10 sh -c "[ ! -e /proc/$pid ]" || { cat /proc/$pid/status; return 1; }
	wait_for 10 ublk stop 7
}
check "killed together with all that is in its namespace: nothing hangs" killed_too

# Half two: a filesystem that was mounted before can be unmounted, and its disk is free
mkfs.ext4 -q -F fsimg
not_pinned() {
	loop=$(losetup -f --show fsimg) && mount "$loop" other || return
	ublk mem 32M -d -q "$@" >/dev/null || return
	umount other || return
	# as long as a superblock lives its disk is claimed
	wait_for 30 mkfs.ext4 -q -F "$loop" || { echo "$loop is still in use"; return 1; }
	losetup -d "$loop"
	ublk stop 0
}
check "a filesystem mounted when it started can be unmounted for good" not_pinned
check "the same with several threads" not_pinned --queues=2
check "the same with a guard" not_pinned --resilient
# and where the root is not an initramfs, but a filesystem that can be moved
pivoted() {
	loop=$(losetup -f --show fsimg)
	cat >pivot.sh <<-'S'
		set -e
		mount -t tmpfs none mnt
		mkdir mnt/bin mnt/dev mnt/proc mnt/sys mnt/old mnt/fs
		cp /bin/ublk /bin/busybox mnt/bin/
		mount --bind /dev mnt/dev; mount -t proc none mnt/proc; mount -t sysfs none mnt/sys
		mount "$1" mnt/fs
		exec chroot mnt /bin/busybox sh -c '/bin/ublk mem 32M -d -q --id=7 >/dev/null && /bin/busybox umount /fs && exec /bin/busybox sleep 600'
	S
	unshare -m sh pivot.sh "$loop" & ns=$!
	wait_for 20 sh -c "[ \"\$(cat /proc/$ns/comm)\" = sleep ] || [ \"\$(tr '\\0' ' ' </proc/$ns/cmdline)\" = '/bin/busybox sleep 600 ' ]" || return
	pid=$(ublk list 7 --json | jq -r '.devices[0].pid')
	awk '{ print $5 }' /proc/$pid/mountinfo | tr '\n' ' ' >mounts
	[ "$(cat mounts)" = "/ /dev /proc /sys " ] || { cat mounts; return 1; }
	wait_for 30 mkfs.ext4 -q -F "$loop" || { echo "$loop is still in use"; return 1; }
	kill -9 $ns; wait $ns 2>/dev/null
	ublk stop 7 && losetup -d "$loop"
}
check "started in a root of its own: nothing of it is kept either" pivoted

nothing_left
