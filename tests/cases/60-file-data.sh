# A disk from a file: data verified on every kind of backing, in every mode, and
# the image compared with what the device showed.
. /tests/lib.sh
section "file: data"
modprobe brd rd_nr=1 rd_size=409600 max_part=0
modprobe ext4; modprobe xfs

modes="buffered direct"
copies="off"
truncate -s 1M probe.img
if ublk file probe.img --zero-copy=on -d -q >/dev/null 2>&1; then
	ublk stop 0; copies="off on"
else
	expect_out 'no zero copy' "--zero-copy=on is an error where the kernel cannot" \
		ublk file probe.img --zero-copy=on -d
	skip "zero copy" "this kernel has none"
fi

verify() {	# four block sizes at once, each in a part of its own
	fio --filename=/dev/ublkb0 --direct=1 --rw=randwrite --iodepth=32 --ioengine=io_uring --thread \
	    --verify=crc32c --do_verify=1 --verify_fatal=1 --output-format=terse --minimal \
	    --name=a --bs=512 --size=512k --offset=0 --name=b --bs=4k --size=2M --offset=1M \
	    --name=c --bs=64k --size=4M --offset=4M --name=d --bs=1M --size=8M --offset=8M \
	    >fio.out 2>&1 || { tail -5 fio.out; return 1; }
}
same_image() {	# BACKING: what the device showed is what the backing holds
	local before after
	echo 3 >/proc/sys/vm/drop_caches
	before=$(md5sum </dev/ublkb0)
	ublk stop 0 || return 1
	echo 3 >/proc/sys/vm/drop_caches
	after=$(head -c 16777216 "$1" | md5sum)
	[ "$before" = "$after" ]
}
matrix() {	# KIND BACKING QUEUES
	local mode zc queues=$3 opt
	for mode in $modes; do
	for zc in $copies; do
		opt=; [ $mode = buffered ] || opt=--direct
		check "$1, $mode, zero copy $zc, $queues queues: made" \
			ublk file "$2" $opt --size=16M --zero-copy=$zc --queues=$queues -d -q
		check "$1, $mode, zero copy $zc, $queues queues: 512 to 1M, crc32c" verify
		check "$1, $mode, zero copy $zc, $queues queues: image equal to the device" same_image "$2"
	done
	done
}

for fs in ext4 xfs; do
	case $fs in ext4) queues=4; mkfs.ext4 -qF /dev/ram0;; xfs) queues=1; mkfs.xfs -qf /dev/ram0;; esac
	mount /dev/ram0 /mnt
	truncate -s 16M /mnt/disk.img
	matrix $fs /mnt/disk.img $queues
	umount /mnt
done
mkdir -p /run/t
mount -t tmpfs tmpfs /run/t
truncate -s 16M /run/t/disk.img
matrix tmpfs /run/t/disk.img 1
umount /run/t
matrix "block device" /dev/ram0 4
rmmod brd

nothing_left
