# VM: VM_MEM=512M VM_DISK=400M
# Memory runs out. MEMORY_SECONDS of each load.
. /tests/lib.sh
SECONDS_EACH=${MEMORY_SECONDS:-8}
section "memory, $SECONDS_EACH s of each load"
modprobe -a ublk_drv ext4 virtio_pci virtio_blk
server() { ublk list "${1:-0}" --json | jq -r ".devices[0].pid"; }
mib() { sed -n "s/^$1: *\([0-9]*\).*/\1/p" /proc/meminfo; }
kib_free() { mib MemAvailable; }
mkdir -p mnt
echo -900 >/proc/$$/oom_score_adj	# not this, nor what it runs, but
hog_dd() { sh -c 'echo 1000 >/proc/self/oom_score_adj; exec timeout 120 dd of=/dev/null count=1 iflag=fullblock "$@"' hog "$@" 2>/dev/null; }

# A RAM disk larger than memory: said at once, refused when it gets there, and the rest goes on
expect_out 'available now.*ENOSPC' "more than there is: a warning" ublk mem 4G -d
pid=$(server)
fill() {
	fio --name=fill --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --iodepth=8 --rw=write --bs=256k --size=4G \
		--output=fio.out >fio.err 2>&1 && { echo "4 GiB fitted"; return 1; }
	grep -q 'No space left' fio.err fio.out || { cat fio.err fio.out; return 1; }
	[ -e /proc/$pid ] && echo "# refused with $(kib_free) KiB left"
}
check "filled until it is refused: ENOSPC, and the server lives" fill
printf '%s\n' "$out"
check "what is there reads back" dd if=/dev/ublkb0 of=/dev/null bs=1M count=64 iflag=direct
check "and can be written again" dd if=/dev/zero of=/dev/ublkb0 bs=1M count=16 oflag=direct
expect_status 1 "a page more cannot" dd if=/dev/zero of=/dev/ublkb0 bs=1M seek=3000 count=64 oflag=direct
check "discarded: its memory is back" blkdiscard /dev/ublkb0
check "and writes fit again" dd if=/dev/zero of=/dev/ublkb0 bs=1M count=32 oflag=direct
check "stop" ublk stop 0
buffered() {	# VERB...: what is dirty on it takes memory as well, and more of it is written only as that is given up
	ublk "$@" -d -q >/dev/null && dd if=/dev/urandom of=/dev/ublkb0 bs=1M count=8 oflag=direct 2>/dev/null || return
	for i in 0 1 2 3; do dd if=/dev/zero of=/dev/ublkb0 bs=1M count=200 seek=$((100 + i * 400)) conv=fsync 2>dd.$i & pids="${pids:-} $!"; done
	wait $pids
	grep -q 'error' dd.* || { cat dd.*; return 1; }
	dd if=/dev/ublkb0 of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null && blkdiscard /dev/ublkb0 &&
		dd if=/dev/zero of=/dev/ublkb0 bs=1M count=32 conv=fsync 2>/dev/null && echo "# $(kib_free) KiB left" && ublk stop 0
}
check "filled through the page cache by four: errors of theirs, and the server and the machine live" buffered mem 3G
truncate -s 3G img
check "the same of a snapshot" buffered file img --snapshot
rm img
many() {	# each of them sees what is left before the others take it
	for i in $(seq 16); do ublk mem 64M -d -q >/dev/null || return; done
	for i in $(seq 0 15); do dd if=/dev/zero of=/dev/ublkb$i bs=64k oflag=direct 2>dd.$i & pids="${pids:-} $!"; done
	wait $pids
	grep -q 'No space left' dd.* && [ "$(ublk list | grep -c live)" = 16 ] && echo "# 16 at once: refused with $(kib_free) KiB left" &&
		ublk stop --all -q
}
again() {	# the next server has touched nothing of what fills the memory
	ublk mem 4G -d -q --resilient >/dev/null || return
	dd if=/dev/zero of=/dev/ublkb0 bs=256k oflag=direct 2>err
	grep -q 'No space left' err || { cat err; return 1; }
	old=$(server) && kill -9 "$old" && wait_for 10 another || return
	dd if=/dev/zero of=/dev/ublkb0 bs=256k seek=8192 oflag=direct 2>err
	grep -q 'No space left' err || { cat err; return 1; }
	ublk stop -q 0
}
another() { [ "$(server)" != "$old" ] && [ "$(ublk list --json | jq -r '.devices[0].state')" = live ]; }
check "--resilient, filled until it is refused, and so by the next server" again
check "16 at once, filled until they are refused" many
printf '%s\n' "$out"
expect_out '' "nobody was killed for it" sh -c '! dmesg | grep -i "out of memory"'

clean_up() {	# after a failure
	: >stop
	swapoff /dev/ublkb0 2>/dev/null
	! grep -q ' /tmp/case/mnt ' /proc/mounts || umount -l mnt
	[ -z "$(ublk list)" ] || ublk stop --all --force
}

# Told that nothing is left, a server does with the few buffers it has
lean() {	# WHAT...
	LEAN=1 ublk-die file img -d -q "$@" || return
	timeout 60 fio --name=lean --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --iodepth=64 --rw=randrw --bsrange=4k-128k \
		--size=64M --verify=crc32c --output=fio.out 2>&1 || { cat fio.out; return 1; }
	ublk stop -q 0
}
truncate -s 64M img
for how in "" --direct; do
	check "verified with two buffers a queue, $how" lean $how
	clean_up
done
rm img

wait_for 10 [ -b /dev/vda ] || fail "a disk" "none"
a_disk() {
	mkdir disk && mkfs.ext4 -q -F /dev/vda && mount /dev/vda disk && dd if=/dev/zero of=disk/img bs=1M count=96 2>/dev/null
}
# A hog that takes all memory again and again, beside writers through the page cache
hog() {
	while [ ! -e stop ]; do
		hog_dd if=/dev/zero bs="$(($(kib_free) + 8192))K"
	done
}
under_pressure() {	# WHAT...
	rm -f stop sums
	ublk "$@" -d -q >/dev/null 2>&1 || return
	pid=$(server)
	mkfs.ext4 -q /dev/ublkb0 && mount /dev/ublkb0 mnt || return
	hog & h=$!
	end=$(($(uptime_ms) + SECONDS_EACH * 1000)) n=0
	while [ "$(uptime_ms)" -lt $end ]; do
		jobs=
		for f in 1 2 3 4; do
			timeout 100 dd if=/dev/urandom of=mnt/f$f bs=64K count=64 conv=fsync 2>/dev/null &
			jobs="$jobs $!"
		done
		for j in $jobs; do wait "$j" || { echo "a writer failed or hangs in round $n: $?"; ps | grep ' D '; return 1; }; done
		n=$((n + 1))
	done
	(cd mnt && md5sum f?) >sums
	: >stop
	kill $h 2>/dev/null; wait $h 2>/dev/null
	echo 3 >/proc/sys/vm/drop_caches
	(cd mnt && md5sum -c) <sums >/dev/null || return
	[ "$(server)" = "$pid" ] || { echo "the server was replaced"; return 1; }
	umount mnt && e2fsck -fn /dev/ublkb0 >/dev/null 2>&1 && ublk stop -q 0
	echo "# $*: $n rounds of 16 MiB"
}
# A file in a filesystem goes through two filesystems that share one reserve of bios, on 6.12
# also under loop: not every kernel gets through that, so it is for those who ask for it
for what in "mem 96M" "file /dev/vda --direct --size=128M" ${MEMORY_FILES:+"file disk/img" "file disk/img --direct"}; do
	[ "$what" != "file disk/img" ] || a_disk
	check "a hog and buffered writers on $what: no deadlock, verified" under_pressure $what
	printf '%s\n' "$out"
	clean_up
done

# Swap on a device of ours: what the hog pushes out goes through the server
swapped() {
	rm -f stop
	ublk "$@" -d -q >/dev/null 2>&1 || return
	pid=$(server)
	mkswap /dev/ublkb0 >/dev/null && swapon /dev/ublkb0 || return
	end=$(($(uptime_ms) + SECONDS_EACH * 1000)) n=0
	while [ "$(uptime_ms)" -lt $end ]; do
		bytes=$(($(mib MemAvailable) + 24000))
		st=0	# that the hog is killed is well, that it hangs is not
		hog_dd if=/dev/urandom bs="${bytes}K" || st=$?
		[ $st = 0 ] || [ $st = 137 ] || { echo "round $n: $st"; return 1; }
		n=$((n + 1))
	done
	echo "# $*: $n rounds, $(($(mib SwapTotal) - $(mib SwapFree))) KiB swapped out at the end"
	grep -q '^pswpout [1-9]' /proc/vmstat || { echo "nothing was swapped"; return 1; }
	[ "$(server)" = "$pid" ] || { echo "the server died"; return 1; }
	wait_for 20 swapoff /dev/ublkb0 && ublk stop -q 0
}
umount disk 2>/dev/null
for what in "file /dev/vda --direct --size=128M" "mem 48M --prealloc"; do
	check "swap on $what under a hog" swapped $what
	printf '%s\n' "$out"
	clean_up
done
nothing_left
