# Who uses a device: decided by what is held, not by what somebody has called it, and the same for whoever asks.
. /tests/lib.sh
section "who uses a device"

server() { ublk list --json "$1" | jq '.devices[0].pid'; }
alive() { dd if=/dev/ublkb"$1" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; }
# refused ID WORDS: neither the verb nor a signal takes the device away, and both say why
refused() {
	local st=0 p
	ublk stop "$1" 2>stop.err || st=$?
	[ $st = 6 ] && grep -q "$2" stop.err || { echo "stop: status $st"; cat stop.err; return 1; }
	p=$(server "$1")
	kill -TERM "$p"
	wait_for 30 grep -q "$2.*still serving" "err$1" || { echo "SIGTERM:"; cat "err$1"; return 1; }
	alive "$1"
}
# fg ID ARG...: a server in the foreground, its messages in errID
fg() {
	local id=$1
	shift
	rm -f "out$id"
	ublk "$@" --id="$id" >"out$id" 2>"err$id" &
	wait_for 30 test -s "out$id"
}
none() { ublk stop --all && wait && rm -f out* err*; }

modprobe loop
looped() {
	fg 0 mem 64M && mkfs.ext4 -q /dev/ublkb0 && l=$(losetup -f --show /dev/ublkb0) && mount "$l" /mnt || return
	refused 0 "backing loop" && echo x >/mnt/f && sync /mnt/f
	st=$?
	umount /mnt; losetup -d "$l"
	return $st
}
check "under a loop device" looped
check "and then free" none
looped_command() {
	st=0
	ublk mem 32M -- sh -c 'losetup -f --show $UBLK_DEV >loop' 2>cmd.err || st=$?
	[ $st = 6 ] && grep -q 'backing loop' cmd.err && alive 0
	st=$?
	losetup -d "$(cat loop)"
	return $st
}
check "under a loop device when COMMAND ends" looped_command
check "and then free" none
renamed() {
	fg 0 mem 16M && mknod other b $(lsblk -dno MAJ:MIN /dev/ublkb0 | tr : " ") || return
	sleep 600 <other & h=$!
	refused 0 "opened by process $h"
	st=$?
	kill $h; wait $h 2>/dev/null; rm other
	return $st
}
check "open by another name" renamed
check "and then free" none
mapped() {
	fg 0 mem 16M || return
	rm -f held
	hold /dev/ublkb0 >held & h=$!
	wait_for 30 test -s held && refused 0 "mapped by process $h\|by a process that /proc does not show"
	st=$?
	kill $h; wait $h 2>/dev/null
	return $st
}
check "mapped, and open nowhere" mapped
check "and then free" none
journal() {
	fg 0 mem 64M && fg 1 mem 32M && mkfs.ext4 -q -b 4096 -O journal_dev /dev/ublkb1 &&
		mkfs.ext4 -q -b 4096 -J device=/dev/ublkb1 /dev/ublkb0 && mount /dev/ublkb0 /mnt || return
	refused 1 "claimed by somebody" && refused 0 "mounted on /mnt" && echo x >/mnt/f && sync /mnt/f
	st=$?
	umount /mnt
	return $st
}
check "the journal of a filesystem that is elsewhere" journal
check "and then free" none
if grep -q btrfs /proc/filesystems || modprobe btrfs 2>/dev/null; then
	btrfs2() {
		fg 0 mem 128M && fg 1 mem 128M && mkfs.btrfs -q -d single -m raid1 /dev/ublkb0 /dev/ublkb1 &&
			btrfs device scan >/dev/null && mount /dev/ublkb0 /mnt || return
		refused 1 "btrfs" && echo x >/mnt/f && sync /mnt/f
		st=$?
		umount /mnt
		return $st
	}
	check "the second device of a btrfs" btrfs2
	check "and then free" none
fi
user() { setpriv --reuid 1000 --regid 1000 --clear-groups "$@"; }
pretended_mount() {
	fg 0 mem 16M || return
	rm -f held
	user unshare -rm sh -c 'mount -t tmpfs /dev/ublkb0 /mnt && echo mounted && exec sleep 600' >held & h=$!
	wait_for 30 test -s held && ublk stop 0
	st=$?
	kill $h; wait
	return $st
}
pretended_file() {
	fg 0 mem 16M || return
	rm -f held
	user unshare -rm sh -c 'mount -t tmpfs x /dev && echo x >/dev/ublkb0 && exec 7</dev/ublkb0 && echo held && exec sleep 600' >held & h=$!
	wait_for 30 test -s held && ublk stop 0
	st=$?
	kill $h; wait
	return $st
}
pretended_open() {	# O_PATH: no permission is asked for, and nothing is held
	fg 0 mem 16M || return
	rm -f held held2
	user hold path /dev/ublkb0 >held & h=$!
	user hold path /dev/ublkc0 >held2 & h2=$!
	wait_for 30 test -s held && wait_for 30 test -s held2 && [ "$(readlink "/proc/$(server 0)/exe")" = /bin/ublk ] && ublk stop 0
	st=$?
	kill $h $h2; wait
	return $st
}
check "nor does a user's descriptor that holds nothing" pretended_open
second_signal() {	# while it is asked who uses the device, and requests come: it still hears
	fg 0 mem 64M || return
	fio --name=x --filename=/dev/ublkb0 --rw=randread --time_based --runtime=60 >/dev/null 2>&1 & w=$!
	p=$(server 0)
	wait_for 30 sh -c 'read -r reads x </sys/block/ublkb0/stat; [ "$reads" -gt 1000 ]' && kill -TERM "$p" && wait_for 30 grep -q "still serving" err0 && kill -TERM "$p" &&
		wait_for 30 sh -c '[ ! -e /dev/ublkb0 ]'
	st=$?
	kill $w 2>/dev/null
	[ $st = 0 ] || ublk stop 0 --force
	wait
	return $st
}
check "busy: the second signal is heard" second_signal
if user unshare -rm true 2>/dev/null; then
	check "a user's mount of something else by that name does not count" pretended_mount
	check "nor does a user's file of that name" pretended_file
else
	skip "a user's mount of something else by that name" "no user namespaces for users"
fi
escape=$(printf '\033')
named() {
	mkfifo fifo 2>/dev/null
	fg 0 mem 16M || return
	rm -f held
	sh -c 'exec 7</dev/ublkb0; printf "x\033[2J" >/proc/$$/comm; echo held >held; read x' <>fifo & h=$!
	wait_for 30 test -s held
	st=0
	ublk stop 0 2>stop.err || st=$?
	kill $h; wait $h 2>/dev/null
	[ $st = 6 ] && ! grep -q "$escape" stop.err && grep -qF 'x\x1b[2J' stop.err || { cat -v stop.err; return 1; }
}
check "a process's name says nothing to the terminal" named
check "and then free" none
listed() {
	img="$(printf 'a\033[2J\nublkb9 mem b\377c')"
	truncate -s 1M "$img" && ublk file "$img" -d -q >/dev/null || return
	[ "$(ublk list | wc -l)" = 2 ] && ! ublk list | grep -q "$escape" && ublk list | grep -qF '\x1b[2J\x0aublkb9' || { ublk list | cat -v; return 1; }
	ublk list --json | jq -e '.devices | length == 1 and (.[0].backing | contains("[2J\nublkb9"))' >/dev/null || { ublk list --json | cat -v; return 1; }
	ublk stop "$img" && rm "$img"
}
check "list: a row is a line, and JSON is JSON, whatever a file is called" listed
namespace() {	# the number that the driver tells is of another namespace
	rm -f out0
	unshare -pf --mount-proc ublk mem 16M >out0 2>err0 &
	wait_for 30 test -s out0 || return
	p=$(server 0)
	[ "$(readlink "/proc/$p/exe")" = /bin/ublk ] && ls -l "/proc/$p/fd" | grep -q /dev/ublkc0 || { echo "not the server: $p"; ublk list; return 1; }
	start=$(uptime_ms)
	ublk stop 0 || return
	[ $(($(uptime_ms) - start)) -lt 25000 ] && wait
}
check "a server in a pid namespace is known, and stopped" namespace
nothing_left
