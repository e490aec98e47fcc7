# The null backend of README: a synchronous backend that uses the tags' buffers.
. /tests/lib.sh
section "the null backend of README"

stress() {
	[ -b /dev/ublkb0 ] && fio --name=n --filename=/dev/ublkb0 --direct=1 --rw=randrw --bsrange=4k-1M --iodepth=64 --ioengine=io_uring \
	    --size=32M --output-format=terse >fio.out 2>&1 || { tail -5 fio.out; return 1; }
}
check "made" ublk-null 1G --queues=2 --qdepth=64 -d -q
check "reads and writes" stress
no_discard() { ! blkdiscard /dev/ublkb0 2>err && grep -q 'not supported' err; }
check "what a backend does not offer is refused" no_discard
expect_out ' other ' "a type that ublk does not know" ublk list
check "stop" ublk stop 0

nothing_left
