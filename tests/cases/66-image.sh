# VM: VM_MEM=512M
# mem --load and save: a disk's content from somewhere, and to somewhere.
. /tests/lib.sh
section "load and save"
modprobe ext4; modprobe loop; modprobe brd rd_nr=1 rd_size=65536 max_part=0

same() { cmp "$1" "$2"; }
used() { ublk list --json | jq ".devices[0].used"; }
dd if=/dev/urandom of=data bs=1M count=8 2>/dev/null
cp data sparse; truncate -s 300M sparse

# load
loaded() {	# SOURCE-OPTION WHAT
	ublk mem $1 -d -q >/dev/null && cmp -n "$(stat -c %s "$2")" "$2" /dev/ublkb0 && ublk stop 0
}
check "from a file, whose size it has" loaded --load=data data
check "larger than the file" loaded "16M --load=data" data
check "from a sparse file" loaded --load=sparse sparse
check "--prealloc" loaded "--load=data --prealloc" data
check "--resilient" loaded "--load=data --resilient" data
partitioned() {
	truncate -s 8M parts && echo '2048,4096' | sfdisk -q parts && ublk mem --load=parts -d -q >/dev/null &&
		[ "$(cat /sys/block/ublkb0/ublkb0p1/size)" = 4096 ] && ublk stop 0 && rm parts
}
check "its partitions are there" partitioned
check "a descriptor of the caller's" sh -c 'ublk mem --load=/proc/self/fd/7 -d -q 7<data >/dev/null && cmp -n 8388608 data /dev/ublkb0 && ublk stop 0'
odd() { head -c 100001 data >odd && ublk mem --load=odd -d -q >/dev/null && cmp -n 100001 odd /dev/ublkb0 && [ "$(blockdev --getsize64 /dev/ublkb0)" = 100352 ] && ublk stop 0; }
check "a size that is no whole block" odd
thin() {
	ublk mem --load=sparse ${1:-} -d -q >/dev/null && [ "$(used)" -lt $((9 << 20)) ] && [ "$(used)" -ge $((8 << 20)) ] && ublk stop 0 || { ublk list; return 1; }
}
check "holes take no memory" thin
check "holes take no memory, --resilient" thin --resilient
zeroes() { dd if=/dev/zero of=zero bs=1M count=64 2>/dev/null; ublk mem --load=zero -d -q >/dev/null && [ "$(used)" -lt 1048576 ] && rm zero && ublk stop 0; }
check "zeroes take no memory" zeroes
from_bdev() { cat data >/dev/ram0; ublk mem --load=/dev/ram0 -d -q >/dev/null && cmp /dev/ram0 /dev/ublkb0 && ublk stop 0; }
check "from a block device" from_bdev
from_pipe() { cat data | ublk mem 16M --load=- -d -q >/dev/null && cmp -n 8388608 data /dev/ublkb0 && ublk stop 0; }
check "from a pipe" from_pipe
for way in "-d" "" "-- sleep 600" "-d --resilient"; do
	stick() {	# what it was loaded from may go
		mkfs.ext4 -qF /dev/ram0 && mount /dev/ram0 /mnt && cp data /mnt/img || return
		ublk mem --load=/mnt/img $way >out 2>/dev/null &
		w=$!
		wait_for 30 sh -c 'ublk list | grep -q live' && wait_for 5 umount /mnt || { ls -l /proc/$w/fd; ublk stop --all --force; umount /mnt; return 1; }
		cmp -n 8388608 data /dev/ublkb0
		st=$?
		case $way in *sleep*) kill $w ;; *) ublk stop 0 ;; esac
		wait
		return $st
	}
	check "mem --load $way: the stick can be pulled" stick
done
kept() {
	ublk mem --load=data --resilient -d -q >/dev/null && kill -9 "$(ublk list --json | jq '.devices[0].pid')" && cmp -n 8388608 data /dev/ublkb0 && ublk stop 0
}
check "--resilient: what was loaded outlives a server" kept
check "more than SIZE: status 1, nothing is left" one_line 1 'more than SIZE' ublk mem 4M --load=data -d
check "more than SIZE from a pipe" one_line 1 'more than SIZE' sh -c 'cat data | ublk mem 4M --load=- -d'
check "a pipe, without SIZE" one_line 1 'SIZE is missing' sh -c 'cat data | ublk mem --load=- -d'
check "an empty file" one_line 1 'empty' sh -c ': >empty; ublk mem --load=empty -d'
check "no such file" one_line 1 'missing: open: No such file' ublk mem --load=missing -d
check "a directory" one_line 1 'directory\|missing' ublk mem 1M --load=/tests -d
check "not of file" one_line 2 'no such option' ublk file data --load=data
modprobe null_blk nr_devices=1 gb=8
early() {	# a file that is cut off while it is loaded is not padded with zeroes
	cp data cut
	strace -f -o trace -e trace=read -P "$PWD/cut" -e inject=read:retval=0:when=3 ublk mem --load=cut -d
}
check "a source that ends early: status 1, nothing is left" one_line 1 'Input/output error' early
hugely() {	# what --huge takes is reckoned with
	i=0
	: >spots
	while [ $i -lt 250 ]; do
		dd if=data of=spots bs=4k seek=$((i * 512)) count=1 conv=notrunc 2>/dev/null
		i=$((i + 1))
	done
	echo madvise >/sys/kernel/mm/transparent_hugepage/enabled
	ublk mem --load=spots --huge -d -q
}
check "--huge, 500 MiB by 250 small pieces: refused, as is more than memory" one_line 1 'no memory is left\|more than is left' hugely
rm -f spots cut
check "larger than memory: refused at once" one_line 1 'more than is left of memory' ublk mem --load=/dev/nullb0 -d
rmmod null_blk
check "a pipe that does not end: as far as there is memory" one_line 1 'no memory is left for it: [0-9]* bytes' sh -c 'yes | ublk mem 8G --load=- -d -q'
check "and nothing is left of that" [ -z "$(ublk list)" ]

# save
mkdir d
saved() {	# OPTIONS: the device's content, holes as holes
	ublk $1 -d -q >/dev/null && ublk save 0 d/out && cmp d/out "$2" && cmp d/out /dev/ublkb0 && [ "$(ls -A d)" = out ] &&
		[ "$(stat -c %b d/out)" -le $((8 * 2048 + 64)) ] && rm d/out && ublk stop 0
}
check "of a RAM disk" saved "mem --load=sparse" sparse
check "of a file" saved "file sparse" sparse
changed() {
	ublk file sparse --snapshot -d -q >/dev/null && dd if=data of=/dev/ublkb0 bs=1M seek=100 conv=fsync 2>/dev/null && ublk save 0 d/out &&
		cmp d/out /dev/ublkb0 && cmp -n 8388608 -i 104857600:0 d/out data && rm d/out && ublk stop 0
}
check "of a snapshot" changed
ublk mem --load=data -d -q >/dev/null
synced() {	# by who is not killed because the copy does not get on: a slow disk takes its time for it
	strace -f -o trace -e trace=execve,fsync ublk save 0 d/out && rm d/out &&
		awk '/execve/ { own = $1 } /fsync/ { n++; others += $1 != own } END { exit !n || others }' trace
}
check "synced by who waits for the copy, not by who is waited for" synced
check "to stdout" sh -c 'ublk save 0 - | cmp - data'
check "to stdout, a file" sh -c 'ublk save 0 - >d/out && cmp d/out data && rm d/out'
echo mine >d/out
expect_out 'File exists' "a file that is there is refused" ublk save 0 d/out
expect_eq mine "$(cat d/out)" "and left alone"
rm d/out; ln -s elsewhere d/out
expect_status 1 "a link that is there is refused" ublk save 0 d/out
rm d/out
expect_status 1 "no such directory" ublk save 0 no/out
expect_status 2 "where to?" ublk save 0
expect_status 7 "no device" ublk save 3 d/out
check "a closed stdout is an error" sh -c '! ublk save 0 - >&- 2>/dev/null'
check "a full stdout is an error" sh -c '! ublk save 0 - >/dev/full 2>/dev/null'
mkdir small; mount -t tmpfs -o size=4M tmpfs small
expect_status 1 "out of space" ublk save 0 small/out
expect_eq "" "$(ls -A small)" "nothing is left behind"
umount small
named() {	# where a file cannot be made without a name: the first try is refused
	n=$(strace -e trace=openat ublk save 0 d/first 2>&1 | grep openat | grep -n O_TMPFILE | cut -d: -f1)
	[ "$n" ] && strace -o trace -e trace=openat -e inject=openat:error=EOPNOTSUPP:when=$n ublk save 0 d/out && cmp d/out data && grep -q '\.part' trace &&
		cmp d/first data && rm d/first && [ "$(ls -A d)" = out ] && rm d/out
}
check "on a filesystem without nameless files" named
ublk stop 0
stopped() {	# a signal in the middle, with a name and without
	ublk mem 8G --load=data -d -q >/dev/null || return
	ublk save 0 d/out & w=$!
	wait_for 10 sh -c "ls -l /proc/$w/fd | grep -q deleted"
	kill $w; wait $w
	[ -z "$(ls -A d)" ] || { ls -A d; return 1; }
	strace -o trace -e trace=openat -e inject=openat:error=EOPNOTSUPP:when=$n ublk save 0 d/out & w=$!	# as above
	wait_for 10 sh -c 'ls -A d | grep -q part' && kill $(cat /proc/$w/task/$w/children)
	wait $w
	[ -z "$(ls -A d)" ] && ublk stop 0 || { ls -A d; cat trace; return 1; }
}
check "a signal in the middle: nothing is left behind" stopped
frozen() {
	ublk mem 64M -d -q >/dev/null && mkfs.ext4 -q /dev/ublkb0 && mount /dev/ublkb0 /mnt && cp data /mnt/data || return
	fsfreeze --freeze /mnt && ublk save 0 d/out
	st=$?
	fsfreeze --unfreeze /mnt; umount /mnt; ublk stop 0
	[ $st = 0 ] && e2fsck -fn d/out >/dev/null 2>&1 && mount -o loop d/out /mnt && cmp /mnt/data data && umount /mnt && rm d/out
}
check "a mounted filesystem, frozen: it mounts elsewhere" frozen
rmmod brd

nothing_left
