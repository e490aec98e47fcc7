# Mixed load and a kill now and then, for SOAK_SECONDS; the guard's memory and
# descriptors stay what they are. And the file backend on a backing that falls short.
. /tests/lib.sh
SOAK_SECONDS=${SOAK_SECONDS:-20} EVERY=${EVERY:-5}
[ "$SOAK_SECONDS" -lt 600 ] || EVERY=60
section "soak, $SOAK_SECONDS s with a kill every $EVERY s"
modprobe -a ublk_drv ext4
check "short results, EINTR and EAGAIN of the backing" inject "${INJECT:-100000}"
printf '%s\n' "$out"

server() { ublk list "$1" --json | jq -r ".devices[0].pid"; }
live() { [ "$(ublk list "$1" --json | jq -r '.devices[0].state')" = live ]; }
rss() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status"; }
fds() { ls "/proc/$1/fd" | wc -l; }
parent() { sed -n 's/^PPid:\t//p' "/proc/$1/status"; }
load() {	# DIR: files come, are read back and go, until told to stop
	while [ ! -e stop ]; do
		dd if=/dev/urandom of="$1/a" bs=64K count=$((16 + n % 64)) conv=fsync 2>/dev/null && cp "$1/a" "$1/b" &&
			cmp "$1/a" "$1/b" && rm "$1/b" && n=$((n + 1)) || { echo "$1: round $n"; return 1; }
	done
}
soak() {
	truncate -s 96M img
	mkdir -p mem file
	ublk mem 96M --resilient -d -q --id=0 >/dev/null && ublk file img --resilient -d -q --id=1 --queues=2 >/dev/null || return
	mkfs.ext4 -q /dev/ublkb0 && mount /dev/ublkb0 mem && mkfs.ext4 -q /dev/ublkb1 && mount /dev/ublkb1 file || return
	n=0
	load mem >mem.log 2>&1 & l0=$!
	load file >file.log 2>&1 & l1=$!
	g0=$(parent "$(server 0)") g1=$(parent "$(server 1)")
	sleep "$EVERY"	# what a server takes as it serves
	first="$(rss "$g0") $(rss "$g1")" fds="$(fds "$g0") $(fds "$g1")" s0=$(rss "$(server 0)") s1=$(rss "$(server 1)")
	end=$(($(uptime_ms) + SOAK_SECONDS * 1000)) kills=0
	while [ "$(uptime_ms)" -lt $end ]; do
		for id in 0 1; do
			kill -9 "$(server $id)"
			wait_for 10 live $id || { echo "$id does not come back"; return 1; }
			kills=$((kills + 1))
		done
		sleep "$EVERY"
		kill -0 $l0 2>/dev/null && kill -0 $l1 2>/dev/null || break
	done
	last="$(rss "$g0") $(rss "$g1")"
	echo "# $kills kills; RSS of the guards $first KiB, then $last KiB; of the servers without their data $s0 and $s1, then $(rss "$(server 0)") and $(rss "$(server 1)") KiB"
	: >stop
	wait $l0 || { cat mem.log; return 1; }
	wait $l1 || { cat file.log; return 1; }
	umount mem && umount file && e2fsck -fn /dev/ublkb0 >/dev/null 2>&1 && e2fsck -fn /dev/ublkb1 >/dev/null 2>&1 || return
	[ "$fds" = "$(fds "$g0") $(fds "$g1")" ] || { echo "descriptors: $fds, then $(fds "$g0") $(fds "$g1")"; return 1; }
	set -- $first $last
	[ $(($3 - $1)) -lt 1024 ] && [ $(($4 - $2)) -lt 1024 ] && ublk stop -q 0 && ublk stop -q 1
}
check "mixed load and kills: no error, nothing grows" soak
printf '%s\n' "$out"
nothing_left
