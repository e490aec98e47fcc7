# --snapshot: a disk to try things on. Its file is only read; commit writes what was changed into it.
. /tests/lib.sh
export DM_DISABLE_UDEV=1	# dmsetup makes its nodes itself
section "snapshot and commit"
modprobe ext4

same() { cmp "$1" "$2"; }
img() { dd if=/dev/urandom of=img bs=1M count="${1:-16}" 2>/dev/null && cp img before && cp img model; }
snap() { ublk file img --snapshot -d -q "$@" >/dev/null; }
changes() { ublk list --json | jq -e "$1" >/dev/null; }

# against a model: 32 requests at once, of 512 bytes to 1 MiB
random() {	# QUEUES [OPTION]
	img && snap --queues="$@" && model /dev/ublkb0 "${OPS:-12500}" 32 $1 model || { ublk stop 0; return 1; }
	same before img
}
for queues in 1 2 4; do
	check "$queues queues: writes, discards, zeroes and reads as in a model, the file unchanged" random $queues
	check "$queues queues: commit" ublk commit 0
	check "$queues queues: the file is as the model" same model img
	check "$queues queues: and so is the device" model /dev/ublkb0 0 0 0 model
	ublk stop 0
done
check "--direct: as in a model, the file unchanged" random 1 --direct
check "--direct: commit" ublk commit 0
check "--direct: the file is as the model" same model img
ublk stop 0

window() {	# --offset at any byte, a size that is no whole page
	img && dd if=img of=model bs=1 skip=777 count=1048064 2>/dev/null && snap --offset=777 --size=1048064 &&
		model /dev/ublkb0 2000 32 1 model && same before img && ublk commit 0 && ublk stop 0 || return
	dd if=img bs=1 skip=777 count=1048064 2>/dev/null | cmp - model && cmp -n 777 before img && cmp -i 1048841 before img
}
check "--offset, --size: not a byte outside of them" window

# what the words promise
discarded() {
	img && snap && blkdiscard -l 1M /dev/ublkb0 && blkdiscard -o 2097664 -l 1024 /dev/ublkb0 || return
	dd if=/dev/ublkb0 bs=1M count=1 iflag=direct 2>/dev/null | cmp -n 1048576 - /dev/zero &&
		dd if=/dev/ublkb0 bs=512 skip=4097 count=2 iflag=direct 2>/dev/null | cmp -n 1024 - /dev/zero &&
		dd if=/dev/ublkb0 bs=512 skip=4096 count=1 iflag=direct 2>/dev/null | cmp -n 512 -i 0:2097152 - before
}
check "what is discarded reads as zeroes, not as the file's" discarded
blocks() { stat -c %b img; }
holes() { local was; was=$(blocks) && ublk commit 0 && [ "$(blocks)" -le $((was - 2040)) ] && ublk stop 0; }
check "commit: what was discarded is a hole" holes
fsck_it() {	# a damaged ext4: tried on the snapshot, thrown away, then kept
	truncate -s 16M img && mkfs.ext4 -qF img && mount -o loop img /mnt && tree /mnt/t && umount /mnt || return
	dd if=/dev/zero of=img bs=4k seek=6 count=3 conv=notrunc 2>/dev/null
	cp img before
	e2fsck -fn img >/dev/null 2>&1 && { echo "not damaged"; return 1; }
	snap && { e2fsck -fy /dev/ublkb0 >/dev/null 2>&1 || [ $? -lt 4 ]; } && e2fsck -fn /dev/ublkb0 >/dev/null 2>&1 &&
		ublk stop 0 && same before img || { echo "thrown away"; return 1; }
	snap && { e2fsck -fy /dev/ublkb0 >/dev/null 2>&1 || [ $? -lt 4 ]; } && ublk commit 0 && ublk stop 0 && e2fsck -fn img
}
modprobe loop
check "a damaged ext4: fsck on the snapshot, thrown away, then committed" fsck_it
many() {	# 32 at once, each with its own content
	img 1 && rm -f got* || return
	i=0
	while [ $i -lt 32 ]; do
		ublk file img --snapshot --id=$i -d -q >/dev/null && printf "this is $i" | dd of=/dev/ublkb$i bs=512 seek=$i conv=fsync 2>/dev/null || return
		i=$((i + 1))
	done
	i=0
	while [ $i -lt 32 ]; do
		[ "$(dd if=/dev/ublkb$i bs=512 skip=$i count=1 iflag=direct 2>/dev/null | head -c $((8 + ${#i})))" = "this is $i" ] || return
		i=$((i + 1))
	done
	st=0
	ublk commit 3 2>err || st=$?
	ublk stop --all && same before img && [ $st = 6 ] && grep -q 'locked' err || { echo "commit: $st"; cat err; return 1; }
}
check "32 of one file at once, each with its own content; none is committed" many

synced() {	# commit says that it is done when the file has been synced, and only then is memory given back
	img 1 && snap && model /dev/ublkb0 200 8 1 model && strace -y -o trace -e trace=pwrite64,fallocate,fdatasync ublk commit 0 || return
	# three writes are a letter: one before, that asks for the lock, two after
	grep -q pwrite64.*img trace && grep img trace | tail -n 1 | grep -q '^fdatasync.* = 0$' && [ "$(grep -c fdatasync trace)" = 1 ] &&
		[ "$(sed /fdatasync/q trace | grep -c ublk-mail)" = 3 ] && [ "$(grep -c ublk-mail trace)" = 9 ] || { tail -n 5 trace; return 1; }
	model /dev/ublkb0 200 8 2 model && strace -o trace -e trace=fdatasync -e inject=fdatasync:error=EIO ublk commit 0 2>err && return 1
	grep -q 'Input/output' err && [ "$(ublk list --json | jq '.devices[0].used')" -gt 65536 ] && ublk commit 0 && ublk stop 0 && cmp model img
}
check "commit: not done before it is synced; where that fails all stays in memory" synced
printf '%s\n' '#!/bin/sh' 'strace -o /dev/null -P img -e trace=pwrite64 -e inject=pwrite64:error=ENOSPC:when=2 ublk commit "$1" 2>/dev/null' >midway && chmod +x midway
unfinished() {	# only the changes can make the file whole again: they go with nobody who does not insist
	local st=0
	img 4
	ublk file img --snapshot -- sh -c 'model $UBLK_DEV 400 8 1 model; ./midway $UBLK_DEV' 2>err || st=$?
	[ $st = 6 ] && grep -q 'middle of a commit' err && grep -q stays err || { echo "its command ended: $st"; cat err; return 1; }
	st=0; ublk stop 0 2>err || st=$?
	[ $st = 6 ] && grep -q 'middle of a commit' err || { echo "stop: $st"; cat err; return 1; }
	ublk commit 0 && ublk stop 0 && cmp model img || { echo "again"; return 1; }
	rm -f out
	ublk file img --snapshot >out 2>err &
	wait_for 30 test -s out && model /dev/ublkb0 400 8 2 model && ! ./midway 0 && kill $! && wait_for 10 grep -q 'middle of a commit.*still serving' err || { cat err; return 1; }
	ublk commit 0 && ublk stop 0 && wait $! && cmp model img || { echo "signalled"; return 1; }
	snap && model /dev/ublkb0 400 8 3 model && ! ./midway 0 && ublk stop --force 0 || { echo "by force"; return 1; }
}
check "a commit that has failed half-way: the device stays until it is through, or by force" unfinished
twice() {	# once it is committed the file is as free as before
	img 1 && snap && model /dev/ublkb0 200 8 1 model && ublk commit 0 && ublk file img --snapshot -d -q >/dev/null || return
	cmp model /dev/ublkb1 && ublk stop 1 && model /dev/ublkb0 200 8 2 model && ublk commit 0 && ublk stop 0 && cmp model img
}
check "committed: another snapshot of the file, and committed again" twice
foreground() {
	img 1
	rm -f out
	ublk file img --snapshot -q >out &
	wait_for 30 test -s out && changes ".devices[0].backing == \"$PWD/img\" and .devices[0].type == \"snapshot\"" && model /dev/ublkb0 200 8 1 model &&
		changes '.devices[0].used > 4096 and .devices[0].used < 2097152' && ublk commit 0 && ublk stop img && wait && cmp model img
}
check "in the foreground: list, commit and stop know the file" foreground
left_mounted() {
	truncate -s 16M img && mkfs.ext4 -qF img && cp img before || return
	st=0; ublk file img --snapshot -- sh -c 'mount $UBLK_DEV /mnt && echo kept >/mnt/f' 2>err || st=$?
	[ $st = 6 ] && grep -q 'mounted on /mnt' err && grep -q stays err && same before img || { echo "status $st"; cat err; return 1; }
	umount /mnt && ublk commit 0 && ublk stop 0 && e2fsck -fn img && ublk file img --read-only -d -q >/dev/null &&
		mount -o ro /dev/ublkb0 /mnt && [ "$(cat /mnt/f)" = kept ] && umount /mnt && ublk stop 0
}
check "left mounted by its command: status 6, the file as before, and what it has written can still be kept" left_mounted

removed() {	# what is written to a file without a name is lost with the device
	img 1 && snap && model /dev/ublkb0 100 8 1 model && rm img && ! ublk commit 0 2>err && grep -q 'ublk save' err && ublk save 0 img && cmp img model && ublk stop 0
}
check "commit: a file that has been removed is refused" removed

# refusals
img 1
one_line 2 create ublk file new --snapshot --create --size=1M && pass "not with --create" || fail "not with --create" "$(cat "$LIB_DIR/one.err")"
check "not with --recoverable" one_line 2 recoverable ublk file img --snapshot --recoverable
check "not with --zero-copy=on" one_line 2 zero-copy ublk file img --snapshot --zero-copy=on
snap
expect_status 6 "the file is not to be served for writing meanwhile" ublk file img -d
sh -c 'exec 9<>/dev/ublkb0; ublk commit 0; echo $? >st' 2>/dev/null
expect_eq 6 "$(cat st)" "commit: a device in use: status 6"
ublk stop 0
snap --read-only
expect_status 1 "commit: made --read-only: status 1" ublk commit 0
ublk stop 0
ublk file img -d -q >/dev/null
expect_status 1 "commit: not a snapshot: status 1" ublk commit 0
ublk stop 0
expect_status 7 "commit: no device: status 7" ublk commit 0
expect_status 2 "commit: which?" ublk commit
modprobe brd rd_nr=2 rd_size=65536 max_part=0
bdev() {	# a block device: claimed, and not one that is mounted
	dd if=/dev/urandom of=/dev/ram0 bs=1M count=64 2>/dev/null
	cp /dev/ram0 model && ublk file /dev/ram0 --snapshot -d -q >/dev/null && model /dev/ublkb0 2000 32 1 model || return
	st=0
	ublk file /dev/ram0 --snapshot -d -q 2>/dev/null || st=$?
	[ $st = 6 ] && ublk commit 0 && ublk stop 0 && cmp model /dev/ram0
}
check "a block device: claimed, changed, committed" bdev
bdev_read() {	# OFFSET: what has been read is in the page cache, in larger pieces than what is discarded
	local i=0
	dd if=/dev/urandom of=/dev/ram0 bs=1M count=64 2>/dev/null
	ublk file /dev/ram0 --snapshot --offset="$1" -d -q >/dev/null && dd if=/dev/ublkb0 of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null || return
	while [ $i -lt 32 ]; do
		dd if=img of=/dev/ublkb0 bs=8k seek=$((2 * i)) count=1 oflag=direct conv=notrunc 2>/dev/null && blkdiscard -o $((i * 16384 + 8192)) -l 8192 /dev/ublkb0 || return
		i=$((i + 1))
	done
	dd if=/dev/ublkb0 of=want bs=1M iflag=direct 2>/dev/null
	ublk commit 0 && ublk stop 0 && cmp -i "$1:0" /dev/ram0 want
}
check "a block device that has been read: discarded beside written, committed" bdev_read 0
check "the same with --offset=512" bdev_read 512
four_k() {	# a disk of 4096-byte blocks: its partition table is found, and a new one is committed
	truncate -s 64M img4k && disk=$(losetup -P -f --show -b 4096 img4k) && printf 'label: gpt\n,\n' | sfdisk -q "$disk" >/dev/null || return
	ublk file "$disk" --snapshot -d -q >/dev/null && [ "$(blockdev --getss /dev/ublkb0)" = 4096 ] && wait_for 10 test -b /dev/ublkb0p1 &&
		printf 'label: gpt\n,8M\n,\n' | sfdisk -q /dev/ublkb0 >/dev/null && wait_for 10 test -b /dev/ublkb0p2 &&
		ublk commit 0 && ublk stop 0 && [ ! -e "/sys/block/${disk##*/}/${disk##*/}p2" ] && blockdev --rereadpt "$disk" && [ -e "/sys/block/${disk##*/}/${disk##*/}p2" ] || return
	ublk file "$disk" --block-size=512 -d -q >/dev/null && [ "$(blockdev --getss /dev/ublkb0)" = 512 ] && ublk stop 0 && losetup -d "$disk"
}
check "a disk of 4096-byte blocks is shown with these" four_k
bdev_mounted() {
	mkfs.ext4 -qF /dev/ram0 && mount /dev/ram0 /mnt || return
	st=0
	ublk file /dev/ram0 --snapshot -d -q 2>/dev/null || st=$?
	umount /mnt
	[ $st = 6 ]
}
check "a block device that is mounted: status 6" bdev_mounted
readonly_media() {	# what cannot be written: a snapshot all the same, and commit says so
	mkfs.ext4 -qF /dev/ram1 && mount /dev/ram1 /mnt && dd if=/dev/urandom of=/mnt/img bs=1M count=4 2>/dev/null && mount -o remount,ro /mnt || return
	ublk file /mnt/img --snapshot -d -q >/dev/null && dd if=before of=/dev/ublkb0 bs=4k count=10 conv=fsync 2>/dev/null || return
	st=0
	ublk commit 0 2>err || st=$?
	cmp -n 40960 before /dev/ublkb0 && ublk stop 0 && umount /mnt && [ $st = 1 ] && grep -q 'Read-only\|opened for writing' err || { echo "status $st"; cat err; return 1; }
}
check "on a read-only medium; commit is refused, and what was written stays" readonly_media
check "README has commands for a snapshot" readme snapshot
readme snapshot | sed '/^ublk commit/,$d' >readme
readme snapshot | sed -n '/^ublk commit/,$p' >readme.keep
rescue() {	# a partition of a rescue user's, damaged
	mkfs.ext4 -qF /dev/ram0 && mount /dev/ram0 /mnt && tree /mnt/t && umount /mnt || return
	dd if=/dev/zero of=/dev/ram0 bs=4k seek=10 count=3 conv=notrunc,fsync 2>/dev/null
	dd if=/dev/ram0 of=before bs=1M 2>/dev/null
	ln -sf ram0 /dev/sdb1
	e2fsck -fn /dev/ram0 >/dev/null 2>&1 && { echo "not damaged"; return 1; }
	. ./readme >/dev/null 2>&1
	same before /dev/ram0 || { echo "written to"; return 1; }
	e2fsck -fn $dev >/dev/null 2>&1 || { echo "not repaired"; return 1; }
	. ./readme.keep && rm /dev/sdb1 && e2fsck -fn /dev/ram0 >/dev/null 2>&1 && [ -z "$(ublk list)" ]
}
check "README's commands, on a damaged partition" rescue
rmmod brd

nothing_left
