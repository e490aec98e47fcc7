# What a disk costs: runs in the benchmark's virtual machine, whose clock counts
# instructions, or with BENCH=smp in one that keeps real time. Prints lines
# "bench: ROW WORKLOAD IOPS", of which tests/bench.awk makes the tables.
set -u
SIZE=256M
WORKLOADS=${BENCH_WORKLOADS:-randread-4k-64,randwrite-4k-64,randread-4k-1,randwrite-4k-1,read-128k-16,write-128k-16}
# of what is written, so much is synced: words of fio behind the workload
SYNCED="randwrite-4k-64 --fsync=64
randwrite-4k-1 --fsync=1
randrw-4k-16 --rwmixread=70 --fsync=64
write-128k-16 --fsync=16
randwrite-4k-16 --fsync=16"
ROWS=${BENCH_ROWS:-brd,loop-tmpfs,file-tmpfs,mem,null,loop-ext4,file-ext4,file-ext4-zc,quiet-loop-ext4,quiet-file-ext4,after-loop-ext4,after-file-ext4,sync-loop-ext4,sync-file-ext4,loop-ext4-direct,file-ext4-direct,file-ext4-direct-copy,loop-null_blk,file-null_blk,file-null_blk-copy,work-brd,work-mem,work-loop-ext4,work-file-ext4,work-loop-sparse,work-file-sparse,life-losetup,life-mem,life-musl,life-file,life-driver,life-nothing,dm-snap-ext4,snap-ext4,dm-snap-brd,snap-brd,mem-64M,mem-1T,mem-1T-end,idle}
# kublk, the server of the kernel's own tests, if the caller has brought one
[ ! -e /bin/kublk ] || ROWS=$ROWS,kublk
export DM_DISABLE_UDEV=1 # dmsetup makes its nodes itself

die() { echo "FAIL - bench: $*" >&2; exit 1; }

# fio_iops DEV WORKLOAD [OPTION...]: print its I/Os per second
fio_iops() {
	local dev=$1 work=$2 bytes
	shift 2
	set -- "${work%%-*}" "${work#*-}" "$@"
	local rw=$1 bs=${2%-*} qd=${2#*-}
	shift 2
	# about half a second of the guest's time; with a queue of one it goes slower
	case $bs-$qd in 4k-1) bytes=80M ;; 4k-*) bytes=160M ;; *) bytes=640M ;; esac
	fio --name=bench --filename="$dev" --direct=1 --ioengine=io_uring --rw="$rw" --bs="$bs" --iodepth="$qd" \
		--size=$SIZE --io_size="$bytes" --norandommap --randrepeat=1 --group_reporting --output-format=json "$@" \
		--output=/tmp/fio.json >/tmp/fio.out 2>&1 || die "fio: $(cat /tmp/fio.out)"
	jq '.jobs[0] | .read.iops + .write.iops' /tmp/fio.json
}
# report ROW WORKLOAD ARGUMENTS OF fio_iops...
report() {
	local row=$1 work=$2 iops
	shift 2
	iops=$(fio_iops "$@") || exit
	echo "bench: $row $work $iops"
}
# settle WORKLOAD: the like of it once for each block, twice, uncounted: what is done once for each page is over then
settle() {
	local seed
	for seed in 1 2; do
		fio_iops "$dev" "${1%-*}-64" --norandommap=0 --io_size=$SIZE --randseed=$seed >/dev/null || exit
		sync
		sleep 2 # what is known of the page cache is so for a second
	done
}
# settled ROW DISK WORKLOAD [OPTION...]: a file through the page cache, on a disk of its own, as what one workload leaves
# there, folios small or large, is not to count for the next
settled() {
	local row=$1 disk=$2 work=$3
	shift 3
	make "$disk"
	settle "$work"
	report "$row" "$work" "$dev" "$work" "$@"
	$undo
}
fill() { dd if=/dev/zero of="$1" bs=1M count=256 oflag=direct conv=notrunc,fsync 2>/dev/null || die "cannot fill $1"; }

make_loop() { dev=$(losetup -f --show "$@") || die "losetup $*"; undo="losetup -d $dev"; }
make_ublk() { dev=$(ublk "$@" -d -q) || die "ublk $*"; undo="ublk stop -q $dev"; }
make_null() { dev=$(ublk-null $SIZE -d -q) || die "ublk null"; undo="ublk stop -q $dev"; }
make_kublk() { kublk add -t null -q 1 -d 128 >/dev/null 2>&1; dev=/dev/ublkb0 undo="kublk del -n 0"; [ -b $dev ] || die "kublk"; }
# make_dm ORIGIN: of memory that is taken anew, as ublk's is
make_dm() {
	blkdiscard /dev/ram2 || die "cannot empty the COW device"
	dmsetup create snap --table "0 $((${SIZE%M} << 11)) snapshot $1 /dev/ram2 N 8" || die "dmsetup"
	dev=/dev/mapper/snap undo="gone_dm ${undo#true}"
}
gone_dm() { dmsetup remove snap && "$@"; }
# new_image: in large folios of the page cache, as dd and cp leave a file, and writeback of a filesystem upon it. In place:
# what is removed would go on taking memory of the disk below
new_image() {
	sync # what is dirty stays in the page cache, and in the folios that it has
	echo 1 >/proc/sys/vm/drop_caches
	dd if=/dev/zero of=/mnt/image bs=1M count=256 conv=notrunc 2>/dev/null && sync || die "no image"
}
new_sparse() { rm -f /mnt/sparse && truncate -s $SIZE /mnt/sparse; }

# make ROW: set dev to the row's disk, full of zeroes, and undo to the command that removes it
make() {
	undo=true
	case $1 in loop-ext4* | file-ext4* | *snap-ext4) new_image ;; esac
	case $1 in
	brd) dev=/dev/ram0 ;;
	loop-tmpfs) make_loop /tmp/image ;;
	loop-sparse) new_sparse && make_loop /mnt/sparse ;;
	file-sparse) new_sparse && make_ublk file /mnt/sparse ;;
	mem | mem-64M) make_ublk mem $SIZE ;;
	mem-1T*) make_ublk mem 1T ;;
	mem-q2) make_ublk mem $SIZE --queues=2 ;;
	mem-q2-affinity) make_ublk mem $SIZE --queues=2 --cpu-affinity ;;
	null) make_null ;;
	kublk) make_kublk ;;
	loop-ext4) make_loop /mnt/image ;;
	loop-ext4-direct) make_loop --direct-io=on /mnt/image ;;
	file-tmpfs) make_ublk file /tmp/image ;;
	file-ext4) make_ublk file /mnt/image ;;
	file-ext4-zc) make_ublk file /mnt/image --zero-copy=on ;;
	file-ext4-direct) make_ublk file /mnt/image --direct ;;
	file-ext4-direct-copy) make_ublk file /mnt/image --direct --zero-copy=off ;;
	loop-null_blk) make_loop --direct-io=on /dev/nullb0 ;;
	file-null_blk) make_ublk file /dev/nullb0 --direct ;;
	file-null_blk-copy) make_ublk file /dev/nullb0 --direct --zero-copy=off ;;
	dm-snap-ext4) make_loop /mnt/image && make_dm "$dev" ;;
	dm-snap-brd) make_dm /dev/ram0 ;;
	snap-ext4) make_ublk file /mnt/image --snapshot ;;
	snap-brd) make_ublk file /dev/ram0 --snapshot --size=$SIZE ;;
	snap-brd-direct) make_ublk file /dev/ram0 --snapshot --size=$SIZE --direct ;;
	*) die "no row $1" ;;
	esac
	case $1 in
	mem-1T-end) ;; # fio lays it out itself
	*snap-*) ;; # its origin is full
	*-sparse) ;;
	*) fill "$dev" ;;
	esac
	sync
}

# Cost must not depend on the size: the same 64 MiB of a small and of a large disk
row_size() {
	local place=0
	[ "$1" != mem-1T-end ] || place=1023G
	make "$1"
	[ $place = 0 ] || fio_iops "$dev" write-128k-16 --offset=$place --size=64M --io_size=64M >/dev/null
	report "$1" randread-4k-64 "$dev" randread-4k-64 --offset=$place --size=64M
	$undo
}

# A snapshot: reads of what is not changed, the first write of each block, then reads and writes of what is
row_snapshot() {
	local work
	make "$1"
	# what a page cache there is between has seen it
	dd if="$dev" of=/dev/null bs=1M iflag=direct 2>/dev/null
	for work in randread-4k-64 randread-4k-1 read-128k-16; do report "$1" untouched-$work "$dev" $work; done
	report "$1" first-write-128k-16 "$dev" write-128k-16 --io_size=$SIZE
	for work in randread-4k-64 randread-4k-1 read-128k-16; do report "$1" changed-$work "$dev" $work; done
	for work in randwrite-4k-64 randwrite-4k-1 write-128k-16; do report "$1" again-$work "$dev" $work; done
	$undo
	for work in randwrite-4k-64 randwrite-4k-1; do
		make "$1"
		# no block twice
		report "$1" first-$work "$dev" $work --norandommap=0 --random_generator=lfsr
		$undo
	done
}

row_sync() {
	local work
	while read -r work words; do
		# shellcheck disable=SC2086 # words of fio
		settled "$1" "${1#sync-}" "$work" $words
	done <<-END
		$SYNCED
	END
}

# as a machine is where nothing is written back while a figure is taken, and tasks are not grouped by session
quiet() {
	echo "$1" >/proc/sys/kernel/sched_autogroup_enabled
	echo "$2" >/proc/sys/vm/dirty_writeback_centisecs
}
row_cached() {
	local work
	for work in $(echo "$WORKLOADS" | tr , ' '); do settled "$1" "${1#quiet-}" "$work"; done
}
# each on what small writes have left
row_after() {
	local work
	make "${1#after-}"
	settle randwrite-4k-64
	for work in $(echo "$WORKLOADS" | tr , ' '); do
		report "$1" "$work" "$dev" "$work"
		sync
	done
	$undo
}
row_quiet() {
	quiet 0 0
	row_cached "$1"
	quiet 1 500
}

now_us() { echo $(($(date +%s%N) / 1000)); }
# step ROW WHAT COMMAND...: what it takes, in microseconds
step() {
	local row=$1 what=$2 from
	shift 2
	from=$(now_us)
	"$@" >/tmp/step.out 2>&1 || die "$row: $*: $(cat /tmp/step.out)"
	echo "$row $what $(($(now_us) - from))" >>/tmp/steps
}

# What is done with a disk, from mkfs to umount: 3,000 files in 60 directories, 60 MB
files_make() {
	local dir file
	[ ! -e /tmp/files.tar ] || return 0
	for dir in $(seq 60); do
		mkdir -p /tmp/files/$dir
		for file in $(seq 50); do head -c $((1 + dir * file * 7919 % 40000)) /bin/ublk >/tmp/files/$dir/$file; done
	done
	tar cf /tmp/files.tar -C /tmp files && rm -rf /tmp/files || die "no files"
}
row_work() {
	files_make
	case $1 in
	work-brd) blkdiscard /dev/ram0 && dev=/dev/ram0 undo=true ;; # what is in memory is new
	work-mem) make_ublk mem $SIZE ;;
	*) make "${1#work-}" ;;
	esac
	mkdir -p /fs
	: >/tmp/steps
	step "$1" mkfs mkfs.ext4 -q -b 4096 -E lazy_itable_init=0,lazy_journal_init=0 "$dev"
	step "$1" mount mount "$dev" /fs
	step "$1" untar tar xf /tmp/files.tar -C /fs
	step "$1" sync sync -f /fs
	echo 3 >/proc/sys/vm/drop_caches
	step "$1" read find /fs -type f -exec cat {} +
	step "$1" rm rm -rf /fs/files
	step "$1" trim fstrim /fs
	step "$1" umount umount /fs
	$undo
	sed 's/^/bench: /' /tmp/steps
}

# What it takes to have a disk, and to have it no more: the middle of many. One that is told to go by
# nothing but STOP_DEV and DEL_DEV shows what of that is the driver's, and its server's end.
row_life() {
	local made gone from i
	for i in $(seq 25); do
		from=$(now_us)
		make_life "${1#life-}"
		made=$(now_us)
		$undo >/dev/null
		gone=$(now_us)
		echo "$((made - from)) $([ "$1" = life-driver ] && cat /tmp/driver.us || echo $((gone - made)))"
	done >/tmp/life
	echo "bench: $1 add $(cut -d' ' -f1 /tmp/life | sort -n | sed -n 13p)"
	echo "bench: $1 stop $(cut -d' ' -f2 /tmp/life | sort -n | sed -n 13p)"
}
make_life() {
	case $1 in
	losetup) make_loop /mnt/image ;;
	mem) make_ublk mem $SIZE ;;
	musl) dev=$(ublk-musl mem $SIZE -d -q) && undo="ublk-musl stop -q $dev" || die "ublk-musl mem" ;;
	file) make_ublk file /mnt/image ;;
	driver) make_ublk mem $SIZE && undo="gone_driver ${dev#/dev/ublkb}" ;;
	nothing) dev=$(ublk help) undo="ublk help" ;; # to start a program takes its time as well
	esac
}
gone_driver() { stop-and-del "$1" >/tmp/driver.us || die "stop-and-del: $(cat /tmp/driver.us)"; }

ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
# A server that nobody asks anything must not run at all
row_idle() {
	local pid before
	make mem
	pid=$(ublk list --json | jq '.devices[0].pid')
	sleep 1
	before="$(ticks "$pid") $(grep -h ctxt_switches "/proc/$pid/status" | tr -dc '0-9\n' | tr '\n' ' ')"
	sleep 60
	set -- $before "$(ticks "$pid")" $(grep -h ctxt_switches "/proc/$pid/status" | tr -dc '0-9\n' | tr '\n' ' ')
	echo "bench: idle ticks $(($4 - $1))"
	echo "bench: idle wakeups $(($5 + $6 - $2 - $3))"
	$undo
}

row() {
	local work
	case $1 in
	mem-64M | mem-1T*) row_size "$1" ; return ;;
	*snap-*) row_snapshot "$1" ; return ;;
	sync-*) row_sync "$1" ; return ;;
	quiet-*) row_quiet "$1" ; return ;;
	after-*) row_after "$1" ; return ;;
	work-*) row_work "$1" ; return ;;
	*-ext4 | *-ext4-zc | *-tmpfs) row_cached "$1" ; return ;;
	life-*) row_life "$1" ; return ;;
	idle) row_idle ; return ;;
	esac
	make "$1"
	for work in $(echo "$WORKLOADS" | tr , ' '); do
		report "$1" "$work" "$dev" "$work"
		sync
	done
	$undo
}

# The rows in turn, so that what else the machine does meets all of them alike
smp() {
	local round row work
	for round in $(seq "${BENCH_ROUNDS:-5}"); do
		for row in brd loop-tmpfs mem mem-q2 mem-q2-affinity; do
			make $row
			for work in randread-4k-64 randwrite-4k-64 randread-4k-1 read-128k-16; do
				report $row $work "$dev" $work --numjobs=2 --time_based --runtime=1
			done
			$undo
		done
	done
}

modprobe -a ublk_drv loop ext4 dm-snapshot
modprobe brd rd_nr=3 rd_size=$((700 << 10))
echo "bench: kernel release $(uname -r)"
# fio's buffer would get huge pages or not depending on where it happens to lie
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled
# as machines come, but for rows that are to show what that is worth
quiet 1 500
truncate -s $SIZE /tmp/image && fill /dev/ram0
dd if=/dev/zero of=/tmp/image bs=1M count=256 conv=notrunc 2>/dev/null
if [ "${BENCH:-}" = smp ]; then quiet 0 0; smp; exit; fi
modprobe null_blk nr_devices=1 gb=1 memory_backed=1 bs=512 || die "no null_blk"
# all there, or who is the first to use a part of it pays for that; nor is a kernel thread to go on making the filesystem
dd if=/dev/zero of=/dev/ram1 bs=1M oflag=direct 2>/dev/null
mkfs.ext4 -q -b 4096 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 /dev/ram1 && mount /dev/ram1 /mnt || die "no ext4"
new_image
for row in $(echo "$ROWS" | tr , ' '); do row "$row"; done
umount /mnt
