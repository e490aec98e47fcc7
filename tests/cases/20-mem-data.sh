# Data: what is written is what is read, at every size and depth, with fio's checksums.
. /tests/lib.sh
section "data"

verify() {	# DEPTH: four block sizes at once, each in a part of its own
	fio --filename=/dev/ublkb0 --direct=1 --rw=randwrite --iodepth=$1 --ioengine=io_uring --thread \
	    --verify=crc32c --do_verify=1 --verify_fatal=1 --output-format=terse --minimal \
	    --name=a --bs=512 --size=1M --offset=0 --name=b --bs=4k --size=4M --offset=4M \
	    --name=c --bs=64k --size=8M --offset=16M --name=d --bs=1M --size=16M --offset=32M \
	    >fio.out 2>&1 || { tail -5 fio.out; return 1; }
}
size_check() { [ "$(dd if=/dev/ublkb0 bs=1M 2>/dev/null | wc -c)" = 67108864 ]; }

for queues in 1 2 4; do
	ublk mem 64M -d -q --queues=$queues >/dev/null
	for depth in 1 16 128; do
		check "$queues queues, depth $depth, 512 to 1M: crc32c" verify $depth
	done
	check "$queues queues: the whole device reads" size_check
	check "$queues queues: stop" ublk stop 0
done

mixed() {	# several jobs at once, every block size, reads between writes
	ublk mem 64M -d -q --queues=2 >/dev/null || return 1
	fio --name=m --filename=/dev/ublkb0 --direct=1 --rw=randrw --bsrange=512-1M --bs_unaligned=0 \
	    --blockalign=512 --iodepth=32 --ioengine=io_uring --verify=crc32c --verify_fatal=1 --size=16M \
	    --numjobs=3 --offset_increment=16M --output-format=terse >fio.out 2>&1 || { tail -5 fio.out; return 1; }
	ublk stop 0
}
check "fio crc32c: three jobs, 512 to 1M mixed, reads between writes" mixed

buffered() {	# through the page cache, written back at the end
	ublk mem 64M -d -q >/dev/null && dd if=/dev/urandom of=img bs=1M count=48 2>/dev/null || return 1
	dd if=img of=/dev/ublkb0 bs=1M 2>/dev/null && sync && echo 3 >/proc/sys/vm/drop_caches
	cmp -n 50331648 img /dev/ublkb0 && ublk stop 0
}
check "buffered write, caches dropped, compared" buffered

forced() {	# a stop writes dirty pages through the server: reads by an opener before it are whole
	ublk mem 64M -d -q --queues=2 >/dev/null || return 1
	fio --name=f --filename=/dev/ublkb0 --rw=write --bs=1M --size=48M --end_fsync=0 --ioengine=psync \
	    --output-format=terse >fio.out 2>&1 || return 1
	ublk stop 0
}
check "stop right after buffered writes" forced

nothing_left
