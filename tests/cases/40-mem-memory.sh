# Memory: sparse, given back, bounded by what is written.
. /tests/lib.sh
section "memory of a RAM disk"

rss() { awk '/^VmRSS/ {print $2}' "/proc/$(pidof ublk)/status"; }
zero() { cmp -n "$2" -i "$1:0" /dev/ublkb0 /dev/zero; }

idle() {
	ublk mem 1G -d -q >/dev/null || return 1
	[ "$(rss)" -lt 2048 ]
}
check "idle: no memory taken for 1 GiB" idle
echo "# VmRSS of an idle 1 GiB RAM disk: $(rss) KiB"
reads() { dd if=/dev/ublkb0 of=/dev/null bs=1M count=256 iflag=direct 2>/dev/null && [ "$(rss)" -lt 2048 ]; }
check "reading what was never written takes no memory" reads
fill() { dd if=/dev/urandom of=/dev/ublkb0 bs=1M count=128 oflag=direct 2>/dev/null && [ "$(rss)" -gt 130000 ]; }
check "128 MiB written are 128 MiB taken" fill
discard() { blkdiscard -o 0 -l 64M /dev/ublkb0 && [ "$(rss)" -lt 70000 ] && zero 0 67108864; }
check "discard gives memory back, and reads zeroes" discard
zeroout() { blkdiscard -z -o 64M -l 64M /dev/ublkb0 && [ "$(rss)" -lt 4096 ] && zero 67108864 67108864; }
check "write-zeroes gives memory back, and reads zeroes" zeroout
edges() {	# zeroes between other bytes, sector by sector
	tr '\0' '\252' </dev/zero | dd of=/dev/ublkb0 bs=64k count=1 iflag=fullblock oflag=direct 2>/dev/null
	blkdiscard -z -o 512 -l 9216 /dev/ublkb0 || return 1
	dd if=/dev/ublkb0 bs=512 count=21 iflag=direct 2>/dev/null | od -An -v -tx1 -w512 | cut -c2-3 | tr -d '\n' >got
	[ "$(cat got)" = aa000000000000000000000000000000000000aaaa ] || { cat got; return 1; }
}
check "write-zeroes of part pages leaves the neighbours alone" edges
check "stop" ublk stop 0

prealloc() {
	ublk mem 64M -d --prealloc >/dev/null 2>err && [ "$(rss)" -gt 60000 ] || return 1
	blkdiscard -z /dev/ublkb0 && [ "$(rss)" -gt 60000 ] && zero 0 67108864 && ublk stop 0
}
check "--prealloc takes all and keeps it" prealloc
memory=$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1K/p' /proc/meminfo)
for how in "" --resilient; do	# the machine would stand still
	check "--prealloc${how:+ $how} of more than is left: one line" one_line 1 'more than is left' ublk mem "$memory" --prealloc -d $how
done
huge_option() { ublk mem 64M -d --huge >/dev/null && ublk stop 0; }
check "--huge" huge_option
huge_filled() {	# a page here and there takes all the memory there is
	ublk mem 4G -d -q --huge >/dev/null || return 1
	fio --name=f --filename=/dev/ublkb0 --direct=1 --rw=write:2044k --bs=4k --size=4G --io_size=8M --output=out 2>err
	grep -q 'No space left' out err || { cat out err; return 1; }
	dd if=/dev/ublkb0 of=/dev/null bs=1M count=64 iflag=direct 2>/dev/null && ublk stop 0 && ! dmesg | grep -i 'out of memory'
}
check "--huge, filled until it is refused" huge_filled

tera() {	# far larger than this machine
	ublk mem 1T -d -q >/dev/null && [ "$(blockdev --getsize64 /dev/ublkb0)" = 1099511627776 ] || return 1
	echo end of the line | dd of=/dev/ublkb0 bs=512 seek=2147483647 conv=sync oflag=direct 2>/dev/null || return 1
	dd if=/dev/ublkb0 bs=512 skip=2147483647 iflag=direct 2>/dev/null | grep -q 'end of the line' || return 1
	mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 /dev/ublkb0 && mount /dev/ublkb0 /mnt &&
	echo hello >/mnt/f && umount /mnt && ublk stop 0
}
check "1 TiB, sparse, with ext4 on it" tera
tables() { sed -n 's/^PageTables: *\([0-9]*\).*/\1/p' /proc/meminfo; }
far_reads() {	# a page every 2 MiB, with a page table each
	ublk mem 1T -d -q >/dev/null || return 1
	a=$(tables)
	fio --name=r --filename=/dev/ublkb0 --direct=1 --rw=read:2044k --bs=4k --size=1T --io_size=40M --output=out || { cat out; return 1; }
	b=$(tables)
	ublk stop 0 && echo "$a KiB of page tables before, $b after" && [ $((b - a)) -lt 4096 ]
}
check "reading far and wide what was never written takes no page tables" far_reads
beyond() { st=0; ublk mem 4000P -d 2>err || st=$?; [ $st = 1 ] && grep -q 'does not map that much' err; }
check "more than there are addresses for: a clear error" beyond

nothing_left
