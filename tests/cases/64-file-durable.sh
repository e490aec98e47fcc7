# Durability by replay: every write and flush that reaches the backing is
# recorded; at each flush the state a power cut would leave is built, and must
# hold a clean filesystem with every byte that was fsynced by then.
. /tests/lib.sh
export DM_DISABLE_UDEV=1	# dmsetup makes its nodes itself
section "file: durability"
modprobe brd rd_nr=3 rd_size=131072 max_part=0
modprobe loop
modprobe ext4
modprobe dm-log-writes 2>/dev/null

SIZE=$((24 * 1024 * 1024)) FILES=${REPLAY_FILES:-40}
if ! dmsetup targets | grep -q log-writes; then
	skip "durability" "this kernel has no dm-log-writes"
	rmmod brd
	nothing_left
	exit
fi

workload() {	# files written and fsynced, each marked in the log when fsync has returned
	: >sums
	mkfs.ext4 -qF -J size=4 /dev/ublkb0 || return 1
	sync
	dmsetup message log 0 mark mkfs
	mount /dev/ublkb0 /mnt || return 1
	i=0
	while [ $i -lt $FILES ]; do
		dd if=/dev/urandom of=src bs=$((i * 331 % 9000 + 1)) count=1 2>/dev/null
		dd if=src of=/mnt/f$i bs=64k conv=fsync 2>/dev/null || return 1
		md5sum <src | sed "s/-/f$i/" >>sums
		dmsetup message log 0 mark f$i
		i=$((i + 1))
	done
	umount /mnt
}
record() {	# OPTIONS of ublk file: leaves the log on ram1
	dd if=/dev/zero of=/dev/ram1 bs=1M 2>/dev/null
	dd if=/dev/zero of=/dev/ram0 bs=1M 2>/dev/null
	dmsetup create log --table "0 $((SIZE / 512)) log-writes /dev/ram0 /dev/ram1" || return 1
	ublk file /dev/mapper/log "$@" -d -q >/dev/null && workload && ublk stop 0 && sync || return 1
	dmsetup remove log
}
point() {	# files up to number $1 must be there
	cp state.img cut.img
	mount -o loop cut.img /run/m || { echo "point $2: does not mount"; return 1; }
	head -n $1 sums >sums.now
	[ $1 = 0 ] || (cd /run/m && md5sum -c /tmp/case/sums.now >/run/sums.out 2>&1) ||
		{ echo "point $2: not what was fsynced"; grep -v OK /run/sums.out; umount /run/m; return 1; }
	umount /run/m
	e2fsck -fn cut.img >fsck.out 2>&1 || { echo "point $2: fsck"; tail -3 fsck.out; return 1; }
}
replay_all() {
	local at=0 files=0 made= n=0
	truncate -s 0 state.img; truncate -s $SIZE state.img; mkdir -p /run/m
	replay /dev/ram1 >entries || return 1
	while read -r index what text; do
		case $what,$text in
		mark,mkfs) made=yes ;;
		mark,f*) files=$((files + 1)) ;;
		*)
			[ "$made" ] || continue
			replay /dev/ram1 state.img $at $((index + 1)) || return 1
			at=$((index + 1))
			point $files "$index" || return 1
			n=$((n + 1))
			;;
		esac
	done <entries
	echo $n >points
	[ $files = $FILES ] && [ $n -ge $((FILES * 2)) ] || { echo "$n points, $files files"; return 1; }
}
both() { record "$@" && replay_all; }
check "buffered: at every flush, fsck clean and fsynced bytes there" both
echo "# flush points: $(cat points)"
FILES=$((FILES / 4))
check "direct: at every flush, fsck clean and fsynced bytes there" both --direct
echo "# flush points: $(cat points)"
# where the kernel has no zero copy, the first run was without
ublk check | grep -q 'ok *file .*zero copy' &&
check "no zero copy: at every flush, fsck clean and fsynced bytes there" both --zero-copy=off &&
echo "# flush points: $(cat points)"
rm -f ./*
rmmod brd loop

nothing_left
