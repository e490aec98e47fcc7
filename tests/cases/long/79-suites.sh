# VM: VM_MEM=3G VM_DISK=2G VM_PROGS=stress-ng,fs_mark,dbench VM_FILES=/usr/share/dbench/client.txt:/tests/client.txt
# Suites of others, SUITE_SECONDS each, on filesystems on our disks and on loop with the same file: nothing
# fails that does not fail on loop. What fails there as well is a note; figures are printed, not tested.
. /tests/lib.sh
SUITE_SECONDS=${SUITE_SECONDS:-5} SIZE=1G
section "suites of others, $SUITE_SECONDS s each, beside loop"
modprobe -a ublk_drv virtio_pci virtio_blk loop ext4
mkdir below mnt
mkfs.ext4 -qF /dev/vda && mount /dev/vda below || exit

# Of the classes filesystem and io those that make files or read and write them. Not: bind-mount, binderfs, procfs
# (other filesystems); dup, eventfd, fcntl, flock, ioprio, lease, locka, lockf, lockofd, dnotify, fanotify, inotify
# (descriptors, locks and notices, nothing of which gets to a disk); rawdev (wants a disk of its own).
STRESSORS="access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany fallocate fiemap file-ioctl filename
	fpunch fsize fstat getdent handle hdd inode-flags io iomix link mknod open rename symlink sync-file touch utime
	verity xattr aio aiol io-uring readahead revio seek"
# All at once, on a fast machine, they have been seen to take 870 MiB of an xfs. A full filesystem would fail those
# that happen to write at that moment, others here than on loop.
SIZES="--copy-file-bytes 128M --fallocate-bytes 4M --fiemap-bytes 4M --hdd-bytes 4M --iomix-bytes 4M
	--readahead-bytes 4M --revio-bytes 4M --seek-size 4M --sync-file-bytes 4M --aiol-requests 4
	--chdir-dirs 512 --dir-dirs 512 --dirdeep-inodes 2000"

# A suite says what it says into "log", and fails with a status; $figure is its result, $bad what of it failed if
# it has parts.
fio_() {
	local end n=0
	end=$(($(uptime_ms) + SUITE_SECONDS * 1000))
	until [ $n -gt 0 ] && [ "$(uptime_ms)" -ge $end ]; do
		n=$((n + 1))
		fio --directory=mnt --rw=randwrite --bsrange=4k-64k --size=24M --verify=crc32c --verify_fatal=1 --randseed=$n \
			--thread --group_reporting --output-format=json --output=json \
			--name=direct --direct=1 --ioengine=libaio --iodepth=16 \
			--name=buffered --ioengine=psync --end_fsync=1 || return
	done
	figure=$(jq -r '"\(.jobs[0].write.bw / 1024 | floor)+\(.jobs[0].read.bw / 1024 | floor)"' json)
}
stress_() {
	local s st=0
	set --
	for s in $STRESSORS; do set -- "$@" "--$s" 1; done
	stress-ng "$@" $SIZES -t "$SUITE_SECONDS" --verify --metrics-brief --temp-path mnt || st=$?
	figure=$(awk '/ metrc: / && NF == 10 && $9 > 0 { print $9 }' log | jq -s 'map(log) | add / length | exp | floor')
	# "process [PID] (NAME) aborted early", or in later versions "NAME: [PID] aborted early"
	bad=$(sed -n 's/.* process \[[0-9]*\] (\([^)]*\)) \(aborted\|terminated\) .*/\1/p
		s/.*\] \([^ ]*\): \[[0-9]*\] \(aborted\|terminated\) .*/\1/p' log | sort -u)
	return $st
}
fsmark_() {
	mkdir mnt/m && fs_mark -d mnt/m -n 50 -s 10240 -t 2 -S 1 -L "$SUITE_SECONDS" || return
	figure=$(awk 'NF == 5 && $1 ~ /^[0-9]+$/ { sum += $4; n++ } END { if (n) printf "%.0f", sum / n }' log)
	[ "$(find mnt/m -type f | wc -l)" = $((SUITE_SECONDS * 100)) ]
}
dbench_() {
	dbench --skip-cleanup -c /tests/client.txt -t "$SUITE_SECONDS" -D mnt 2 || return
	figure=$(sed -n 's/^Throughput \([0-9]*\.[0-9]\).*/\1/p' log)
	[ "$figure" ]
}

unit() {
	case $1 in
	fio) echo "fio, MB/s written + read back" ;;
	stress) echo "stress-ng, operations/s, geometric mean" ;;
	fsmark) echo "fs_mark, files/s" ;;
	dbench) echo "dbench, MB/s" ;;
	esac
}

up() {	# DISK: a new one, $dev
	rm -f below/img
	truncate -s $SIZE below/img || return
	case $1 in
	loop) dev=$(losetup -f --show below/img) ;;
	mem) dev=$(ublk mem $SIZE -d -q) ;;
	file) dev=$(ublk file below/img -d -q) ;;
	snapshot) dev=$(ublk file below/img --snapshot -d -q) ;;
	esac
}
down() {
	case $1 in
	loop) losetup -d "$dev" ;;
	*) ublk stop -q "$dev" || ublk stop -q --force "$dev" ;;
	esac
}
fsck_() {	# FS
	case $1 in
	ext4) e2fsck -fn "$dev" ;;
	xfs) xfs_repair -n "$dev" ;;
	btrfs) btrfs check --readonly "$dev" ;;
	esac
}
mkfs_() {	# FS
	case $1 in
	ext4) mkfs.ext4 -qF "$dev" ;;
	*) "mkfs.$1" -q -f "$dev" ;;
	esac
}

# what a suite has left, as the page cache has it and from the disk
again() { sums mnt >before && umount mnt && mount "$dev" mnt && sums mnt >after && cmp before after; }

# one FS DISK SUITE: leaves in $bad what failed, of which it shows the end
one() {
	bad='' figure=-
	up "$2" || { bad=disk; return; }
	if ! mkfs_ "$1" >log 2>&1 || ! mount "$dev" mnt >>log 2>&1; then bad=mkfs
	elif ! "${3}_" >log 2>&1; then bad=${bad:-$3}; fi
	[ -z "$bad" ] || grep -v ' metrc: ' log | tail -n 8
	again || bad="$bad again"
	umount mnt || bad="$bad umount"
	fsck_ "$1" >log 2>&1 || { bad="$bad fsck"; tail -n 8 log; }
	down "$2" || bad="$bad stop"
}

for fs in ext4 xfs btrfs; do
	modprobe $fs 2>/dev/null || { skip "$fs" "this kernel has none"; continue; }
	for suite in fio stress fsmark dbench; do
		run one $fs loop $suite
		known=$bad figures="loop $figure"
		[ -z "$bad" ] || printf '%s\n' "$fs, loop: $suite fails: "$bad "$out" | sed 's/^/# note: /'
		for disk in mem file snapshot; do
			title="$fs, $disk: $suite, what it left reads the same again, fsck clean"
			run one $fs $disk $suite
			new=
			for part in $bad; do printf '%s\n' $known | grep -qx "$part" || new="$new $part"; done
			case "$new:$bad" in
			:) pass "$title" ;;
			:"$suite" | :*mkfs* | :*disk*) skip "$title" "it fails on loop as well" ;;
			:*) pass "$title, but for what fails on loop" ;;
			*)
				fail "$title" "$new
$out"
				;;
			esac
			figures="$figures, $disk $figure"
		done
		echo "# $fs: $(unit $suite): $figures"
	done
done
check "no I/O error of a ublk disk" sh -c '! dmesg | grep "ublkb[0-9]*, sector"'
umount below
nothing_left
