#!/bin/bash
# What share/ has for an initramfs, without one: each script parses in the shell that is to run it; what a command line
# makes of ublk's, and of a disk that is not there. The functions of initramfs-tools, dracut and mkinitcpio are stood in for.
# 95, 96 and tests/cases/long boot what the first two make of it.
set -eu
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
result() { if [ "$2" = "$3" ]; then echo "ok - unit: initramfs: $1"; else echo "FAIL - unit: initramfs: $1: '$2', not '$3'"; fi; }
make -s install DESTDIR="$dir" PREFIX=/usr >/dev/null

for script in "$dir"/usr/share/initramfs-tools/{hooks,scripts/local-top}/ublk "$dir"/usr/lib/dracut/modules.d/90ublk/{parse-ublk,ublk}.sh \
	"$dir/usr/lib/initcpio/hooks/ublk"; do
	result "${script#"$dir"/usr/} parses" "$(dash -n "$script" 2>&1)" ""
done
for script in "$dir/usr/lib/dracut/modules.d/90ublk/module-setup.sh" "$dir/usr/lib/initcpio/install/ublk"; do
	result "${script#"$dir"/usr/} parses" "$(bash -n "$script" 2>&1)" ""
done

# what is common: the command line, an ublk that fails for /dev/bad, disks: all but /dev/none
cat >"$dir/stubs" <<'S'
cat() { echo "quiet ublk.mem=/dev/a root=/dev/ublkb0 ublk.file=UUID=1 xublk.file=/dev/x $extra ublk.snapshot=/dev/b"; }
ublk() { echo "ublk $*" >&2; [ "$2" != /dev/bad ]; }
sleep() { waited=$((${waited:-0} + 1)); }
gone() { echo "gave up: $*" >&2; exit; }
resolve_device() { case $1 in UUID=1) echo /dev/u ;; /dev/none) return 1 ;; *) echo "$1" ;; esac; }
S
good="ublk mem --load=/dev/a -d -q
ublk file /dev/u -d
ublk file /dev/b --snapshot -d"
start="ublk mem --load=/dev/a -d -q
ublk file /dev/u -d"

sed "s,/scripts/functions,$dir/functions," "$dir/usr/share/initramfs-tools/scripts/local-top/ublk" >"$dir/local-top"
{
	cat "$dir/stubs"
	# shellcheck disable=SC2016 # for dash to expand
	echo 'wait_for_udev() { :; }; time_elapsed() { echo "$((${waited:-0} / 10))"; }; panic() { gone "$*, at $(time_elapsed) s"; }'
} >"$dir/functions"
local_top() { extra=$1 ROOTDELAY=${2:-} dash "$dir/local-top" 2>&1; }
result "initramfs-tools: a device for each word, in their order" "$(local_top "")" "$good"
result "initramfs-tools: a disk that does not come" "$(local_top ublk.file=/dev/none)" "$start
gave up: ublk: ublk.file=/dev/none: no such disk after 30 s, at 30 s"
result "initramfs-tools: it is waited for as long as for the root" "$(local_top ublk.file=/dev/none 45 | tail -n 1)" \
	"gave up: ublk: ublk.file=/dev/none: no such disk after 45 s, at 45 s"
result "initramfs-tools: a device that fails" "$(local_top ublk.file=/dev/bad)" "$start
ublk file /dev/bad -d
gave up: ublk: ublk.file=/dev/bad: no device, at 0 s"
result "initramfs-tools: prereqs" "$(dash "$dir/local-top" prereqs 2>&1; dash "$dir/usr/share/initramfs-tools/hooks/ublk" prereqs 2>&1)" ""

{
	cat "$dir/stubs"
	echo 'err() { echo "ERROR: $*" >&2; }; launch_interactive_shell() { gone a shell; }'
	cat "$dir/usr/lib/initcpio/hooks/ublk"
	echo run_hook
} >"$dir/mkinitcpio"
mkinitcpio() { extra=$1 dash "$dir/mkinitcpio" 2>&1; }
result "mkinitcpio: a device for each word, in their order" "$(mkinitcpio "")" "$good"
result "mkinitcpio: a disk that does not come" "$(mkinitcpio ublk.file=/dev/none)" "$start
ERROR: ublk: ublk.file=/dev/none: no such disk
gave up: a shell"
result "mkinitcpio: a device that fails" "$(mkinitcpio ublk.file=/dev/bad)" "$start
ublk file /dev/bad -d
ERROR: ublk: ublk.file=/dev/bad: no device
gave up: a shell"
# shellcheck disable=SC2317 # build() calls them
result "mkinitcpio: what is put into it" "$(
	add_module() { echo "module $*"; }
	add_binary() { echo "binary $*"; }
	add_runscript() { echo runscript; }
	# shellcheck source=share/mkinitcpio/install/ublk
	. "$dir/usr/lib/initcpio/install/ublk"
	build
)" "module ublk_drv
binary /usr/sbin/ublk /usr/bin/ublk
runscript"

# dracut sources both, the second until all that is waited for is there; here /dev/b comes at the second time
sed "s,/run/initramfs,$dir/run,g; s/\[ -e \(\"\$_disk\)/blockdev [ -b \1/" "$dir"/usr/lib/dracut/modules.d/90ublk/ublk.sh >"$dir/ublk.sh"
mkdir -p "$dir/run" "$dir/hooks/initqueue/finished"
{
	cat "$dir/stubs"
	echo "hookdir=$dir/hooks"
	# shellcheck disable=SC2016 # for dash to expand
	echo 'blockdev() { [ "$3" != /dev/none ] && [ "$3$turn" != /dev/b1 ]; }
		getcmdline() { cat; }
		label_uuid_to_dev() { resolve_device "$1" || echo "$1"; }
		wait_for_dev() { echo "wait $*"; }
		die() { gone "$*"; }'
	echo ". $dir/usr/lib/dracut/modules.d/90ublk/parse-ublk.sh"
	for turn in 1 2 3; do echo "turn=$turn; echo turn; . $dir/ublk.sh; [ -z \"\$_word\$_disk\$_n\" ] || echo variables"; done
} >"$dir/dracut"
dracut() { rm -f "$dir"/run/*; extra=$1 dash "$dir/dracut" 2>&1; }
result "dracut: a device for each word, in their order, each once" "$(dracut "")" "wait /dev/a
wait /dev/u
wait /dev/b
turn
$start
turn
ublk file /dev/b --snapshot -d
turn"
result "dracut: what is waited for is that all are up" "$(sed "s,/run/initramfs,$dir/run,; s/$/ \&\& echo up/" "$dir/hooks/initqueue/finished/ublk.sh" | dash)" up
result "dracut: a disk that does not come is waited for" "$(dracut ublk.file=/dev/none | tail -n +5; find "$dir/run" -name ublk.up)" "turn
$start
turn
turn"
result "dracut: a device that fails" "$(dracut ublk.file=/dev/bad | tail -n +6)" "$start
ublk file /dev/bad -d
gave up: ublk: ublk.file=/dev/bad: no device"
