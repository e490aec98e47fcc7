# The main job, shown: a RAM disk made, formatted, mounted, filled, checked,
# removed. Runs as root on a machine with the ublk driver, or in the test VM.
if [ -e /tests/lib.sh ]; then mkdir -p /mnt; fi
set -u
now() { sed 's/\([0-9]*\)\.\([0-9]*\) .*/\1\20/' /proc/uptime; }	# milliseconds
fail() { echo "FAIL - demo: $*"; [ -z "${dev:-}" ] || { umount "$dir" 2>/dev/null; ublk stop "$dev"; }; exit 1; }
step() {	# TEXT COMMAND...: run it, say how long it took
	text=$1; shift
	start=$(now)
	"$@" || fail "$*"
	printf '%6d ms  %s\n' $(($(now) - start)) "$text"
}
make_dev() { dev=$(ublk mem 256M --daemon); }
files() {
	for i in 1 2 3 4 5 6 7 8; do
		dd if=/dev/urandom of="$dir/file$i" bs=1M count=8 2>/dev/null || return 1
	done
	(cd "$dir" && md5sum file* >"$sums") && sync
}
remount() { umount "$dir" && mount "$dev" "$dir"; }
verify() { (cd "$dir" && md5sum -c "$sums" >/dev/null); }
gone() { ublk stop "$dev" && ! [ -e "$dev" ]; }

dir=$(mktemp -d) sums=$(mktemp) dev=
[ -e /dev/ublk-control ] || modprobe ublk_drv
echo "Linux $(uname -r), $(ublk --version)"
step "a RAM disk of 256 MiB: ublk mem 256M --daemon" make_dev
ublk list
step "mkfs.ext4 $dev" mkfs.ext4 -q "$dev"
step "mounted" mount "$dev" "$dir"
step "64 MiB in eight files written, with checksums" files
step "unmounted and mounted again" remount
step "all checksums verified" verify
step "unmounted" umount "$dir"
step "ublk stop $dev: gone" gone
rm -r "$dir" "$sums"
echo "ok - demo"
