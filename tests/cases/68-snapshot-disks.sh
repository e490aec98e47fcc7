# VM: VM_MEM=512M
# A snapshot of disks that fail, are slow, or are members of a RAID; and memory that is full.
. /tests/lib.sh
export DM_DISABLE_UDEV=1	# dmsetup makes its nodes itself
section "snapshot: the disks below"
modprobe ext4; modprobe dm-mod; modprobe brd rd_nr=1 rd_size=65536 max_part=0
size=$((64 * 2048))
dd if=/dev/urandom of=data bs=1M count=8 2>/dev/null
cat data data data data data data data data >/dev/ram0
cp /dev/ram0 model

rd() { dd if=/dev/ublkb0 of=/dev/null bs="$1" skip="$2" count=1 iflag=direct 2>err; }
wr() { dd if=data of=/dev/ublkb0 bs="$1" seek="$2" count=1 oflag=direct conv=notrunc 2>err; }
eio() { ! "$@" && grep -q 'Input/output' err; }
bad() {	# eight sectors, the page at 4 MiB, cannot be read
	dmsetup create bad <<-T
		0 8192 linear /dev/ram0 0
		8192 8 error
		8200 $((size - 8200)) linear /dev/ram0 8200
	T
	ublk file /dev/mapper/bad --snapshot -d -q "$@" >/dev/null || return
	eio rd 4k 1024 && eio rd 1M 4 && rd 4k 1023 && rd 4k 1025 || { echo "reads"; return 1; }
	eio wr 512 8193 || { echo "a write to a page whose rest cannot be read"; return 1; }
	eio rd 512 8192 && wr 512 8300 && rd 512 8300 || { echo "elsewhere"; return 1; }
	# a whole page needs no rest, and covers what cannot be read
	wr 4k 1024 && rd 4k 1024 && rd 1M 4 && wr 512 8193 || { echo "after the page was written"; return 1; }
	ublk stop 0 && dmsetup remove bad && cmp /dev/ram0 model
}
check "bad sectors: an error of who reads there, until it is written" bad
check "bad sectors: --direct" bad --direct

soon() {	# COMMAND...: in a process that may have to be left waiting
	rm -f done
	("$@" && touch done) &
	wait_for 10 test -e done
}
inflight() { grep -q "^ *$1 *$2 " /sys/block/ublkb0/inflight || [ "$(awk '{ print $1 + $2 }' /sys/block/ublkb0/inflight)" = $(($1 + $2)) ]; }
stalled() {	# TARGET [ARGUMENT]: a disk that does not answer holds up who waits for it, and nobody else
	dmsetup create slow --table "0 $size $1 /dev/ram0 0 ${2:-}" && ublk file /dev/mapper/slow --snapshot -d -q >/dev/null || return
	wr 1M 1 && wr 4k 1024 || return
	blockdev --flushbufs /dev/mapper/slow; echo 3 >/proc/sys/vm/drop_caches
	dmsetup suspend --noflush --nolockfs slow
	rd 4k 3000 & r=$!
	wr 512 30000 & w=$!
	st=0
	wait_for 10 inflight 1 1 || st=1
	soon rd 1M 1 && soon rd 4k 1024 && soon wr 4k 1024 && soon wr 4k 2048 && soon rd 4k 2048 || st=2
	inflight 1 1 || st=3
	dmsetup resume slow
	wait $r || st=4
	wait $w || st=5
	rd 512 30001 || st=6
	ublk stop 0; dmsetup remove --retry slow
	[ $st = 0 ] && cmp /dev/ram0 model || { echo "at $st"; cat /sys/block/ublkb0/inflight; return 1; }
}
lost() {	# what is dirty and has no place any more
	truncate -s 3G big && ublk file big --snapshot -d -q >/dev/null || return
	dd if=/dev/zero of=/dev/ublkb0 bs=1M count=700 2>/dev/null
	st=0; ublk commit 0 2>err || st=$?
	[ $st = 1 ] && grep -q 'memory full' err && [ "$(stat -c %b big)" = 0 ] || { echo "status $st"; cat err; return 1; }
	ublk stop 0 2>/dev/null; rm big
}
check "memory is full, and what is dirty cannot be written: no commit" lost
check "a disk that does not answer: only who reads there waits" stalled linear
# one whose driver does not know how to fail rather than wait
modprobe dm-delay
check "also where a read cannot be tried without waiting" stalled delay 0
truncated() {	# the file loses its end
	cp data img && ublk file img --snapshot -d -q >/dev/null && wr 4k 2000 && wr 4k 100 && truncate -s 4M img || return
	eio rd 4k 1500 && eio wr 512 12001 && rd 4k 2000 && rd 4k 100 && rd 4k 500 && wr 4k 1500 && rd 4k 1500 && ublk stop 0
}
check "a file that is truncated: errors there only" truncated
rmmod brd

modprobe raid456 2>/dev/null
raid() {	# three members' images, assembled from snapshots, written, and thrown away
	local i l=
	for i in 0 1 2; do truncate -s 24M m$i && ublk file m$i --id=$i -d -q >/dev/null || return; done
	mdadm --create /dev/md0 --run --level=5 --raid-devices=3 --assume-clean --metadata=1.2 /dev/ublkb[012] >md.out 2>&1 || { cat md.out; return 1; }
	mkfs.ext4 -qF /dev/md0 && mount /dev/md0 /mnt && cp data /mnt/data && umount /mnt && mdadm --stop /dev/md0 2>/dev/null && ublk stop --all || return
	md5sum m? >sums
	for i in 0 1 2; do ublk file m$i --snapshot --id=$i -d -q >/dev/null || return; done
	mdadm --assemble /dev/md0 --run /dev/ublkb[012] >md.out 2>&1 || { cat md.out; return 1; }
	mount /dev/md0 /mnt && cmp /mnt/data data && cp data /mnt/more && rm /mnt/data && umount /mnt && e2fsck -fn /dev/md0 >/dev/null 2>&1 || return
	mdadm --stop /dev/md0 2>/dev/null && ublk stop --all && md5sum -c sums >/dev/null
}
check "a RAID of snapshots: assembled, written, stopped; its members are as they were" raid

full() {	# memory is full: ENOSPC, then commit, then it goes on
	local st=0
	truncate -s 3G img && ublk file img --snapshot -d -q >/dev/null || return
	dd if=/dev/urandom of=/dev/ublkb0 bs=1M oflag=direct 2>err || st=$?
	[ $st = 1 ] && grep -q 'No space left' err || { echo "status $st"; cat err; return 1; }
	n=$(sed -n 's/+.* records out$//p' err)
	echo "# full after $n MiB, $(sed -n 's/^MemAvailable: *//p' /proc/meminfo) left"
	rd 1M 0 && blkdiscard -o 0 -l $(((n - 20) << 20)) /dev/ublkb0 && ublk commit 0 && dd if=data of=/dev/ublkb0 bs=1M seek=2000 oflag=direct 2>err && ublk stop 0 || return
	[ $(($(stat -c %b img) / 2048)) -le 24 ] && rm img
}
noted() {	# that all of a very large disk is discarded takes memory to note, but not the last
	truncate -s $((2 << 40)) img && ublk file img --snapshot -d -q >/dev/null || return
	blkdiscard /dev/ublkb0 2>err && { echo "it has noted all of it"; ublk list; return 1; }
	echo "# $(ublk list --json | jq '.devices[0].used / 1048576 | floor') MiB of notes, $(sed -n 's/^MemAvailable: *//p' /proc/meminfo) left"
	rd 1M 0 && ublk stop 0 && rm img
}
check "a very large disk, all discarded: an error before memory is gone" noted
check "memory is full: ENOSPC; room by discard, commit, and on" full

nothing_left
