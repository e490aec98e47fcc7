# shellcheck shell=dash
# Helpers for the test cases; runs in the guest. A case begins with
# ". /tests/lib.sh" and ends by calling nothing_left. Every result is one
# line, "ok - NAME", "FAIL - NAME: why" or "skip - NAME: why", which the host
# counts; no helper ends the case on a failure.
set -u

CASE=$(basename "$0" .sh)
failed=0         # checks of this case that failed
finished=        # set by nothing_left: the case got to its end

section() { echo "# $CASE: $*"; }
pass()    { echo "ok - $1"; }
skip()    { echo "skip - $1: $2"; }
# fail NAME WHY: WHY may have many lines; the first twelve are shown, the later ones indented.
fail() {
	failed=$((failed + 1))
	printf 'FAIL - %s: %s\n' "$1" "$2" | head -n 12 | sed '2,$s/^/    /'
}

# run COMMAND...: leave the command's output (both streams) in $out and its status in $rc.
# The output goes through a file: a daemon the command leaves behind would hold a pipe open.
# What took ten seconds or more is noted.
run() {
	rc=0 run_start=$(uptime_ms)
	"$@" >"$LIB_DIR/out" 2>&1 </dev/null || rc=$?
	run_ms=$(($(uptime_ms) - run_start))
	[ "$run_ms" -lt 10000 ] || echo "# $((run_ms / 1000)) s: $*"
	out=$(head -c 65536 "$LIB_DIR/out")
}

# check NAME COMMAND...: the command succeeds
check() { expect_status 0 "$@"; }
# expect_status N NAME COMMAND...: the command exits with status N
expect_status() {
	want=$1 name=$2; shift 2
	run "$@"
	if [ "$rc" -eq "$want" ]; then pass "$name"; else fail "$name" "status $rc, not $want: $out"; fi
}
# expect_out PATTERN NAME COMMAND...: a line of the command's output matches (grep -E), whatever its status
expect_out() {
	want=$1 name=$2; shift 2
	run "$@"
	if printf '%s\n' "$out" | grep -Eq -e "$want"; then pass "$name"
	else fail "$name" "status $rc, no line like '$want' in: $out"; fi
}
# expect_eq WANT GOT NAME: the two strings are the same
expect_eq() {
	if [ "$1" = "$2" ]; then pass "$3"; else fail "$3" "want '$1', got '$2'"; fi
}

# one_line STATUS PATTERN COMMAND...: the command fails as it should: this status,
# nothing on stdout, one line on stderr that matches, and no device
one_line() {
	local expect=$1 pattern=$2 st=0
	shift 2
	"$@" >"$LIB_DIR/one.out" 2>"$LIB_DIR/one.err" || st=$?
	[ $st = "$expect" ] || { echo "status $st, not $expect"; cat "$LIB_DIR/one.err"; return 1; }
	[ ! -s "$LIB_DIR/one.out" ] && [ "$(wc -l <"$LIB_DIR/one.err")" = 1 ] &&
		grep -q -- "$pattern" "$LIB_DIR/one.err" || { cat "$LIB_DIR/one.out" "$LIB_DIR/one.err"; return 1; }
	! ls /dev/ublkb[1-9]* /dev/ublkc[1-9]* 2>/dev/null
}
# tree DIR: a hundred files of many sizes and a large one; sums DIR: their checksums
tree() {
	local i=0
	mkdir -p "$1/a/b" "$1/c"
	while [ $i -lt 100 ]; do
		dd if=/dev/urandom of="$1/a/b/f$i" bs=$((i * 97 + 1)) count=1 2>/dev/null
		i=$((i + 1))
	done
	dd if=/dev/urandom of="$1/c/big" bs=1M count=24 2>/dev/null
	ln -s b/f1 "$1/a/link"
}
sums() { (cd "$1" && find . -type f | sort | xargs md5sum); }
# readme NAME: a block of README's commands, as it stands
readme() { cat "/tests/readme/$1"; }

# wait_for SECONDS COMMAND...: poll until the command succeeds; fails at the deadline
wait_for() {
	deadline=$(($(uptime_ms) + $1 * 1000)); shift
	until "$@" >/dev/null 2>&1; do
		[ "$(uptime_ms)" -lt "$deadline" ] || return 1
		sleep 0.02
	done
}
uptime_ms() { sed 's/\([0-9]*\)\.\([0-9]*\) .*/\1\20/' /proc/uptime; }

# The guest's state, as far as the server can leave anything behind in it
ublk_devices() { find /dev /sys/class/ublk-char/ -maxdepth 1 -name 'ublk[bc][0-9]*' 2>/dev/null | sort; }
no_processes() { ! pidof ublk; }
no_new_devices() { [ -z "$(new_devices)" ]; }
new_devices() { ublk_devices | grep -vxF -f "$LIB_DIR/devices"; }
# free_kib: the memory available once everything that can be dropped is. Reading
# stat_refresh makes each CPU give back a part of the free pages it keeps to itself.
free_kib() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
	mem=0 mem_before=-1024
	while [ "$mem" -ge $((mem_before + 1024)) ]; do
		mem_before=$mem
		cat /proc/sys/vm/stat_refresh 2>/dev/null
		mem=$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)
	done
	echo "$mem"
}
memory_back() { [ $((mem_start - $(free_kib))) -lt $((64 * 1024)) ]; } # modules and their caches stay

# nothing_left: no device, no process and no memory is left of what the case did.
# Devices an earlier case left are that case's failure, not this one's.
nothing_left() {
	if wait_for 5 no_new_devices; then pass "$CASE: no device left"
	else fail "$CASE: no device left" "$(new_devices)"; fi
	if wait_for 5 no_processes; then pass "$CASE: no process left"
	else fail "$CASE: no process left" "$(pidof ublk)"; fi
	# What the case wrote to its directory or to /dev/shm is not the server's.
	rm -rf "${PWD:?}"/* /dev/shm/*
	if wait_for 30 memory_back; then pass "$CASE: no memory left"
	else fail "$CASE: no memory left" "$mem_start KiB available before, $(free_kib) KiB after"; fi
	finished=yes
}

LIB_DIR=$(mktemp -d /run/lib.XXXXXX)
# A case that stops early must not look like one that passed: guest-init reports the status.
trap 'rm -rf "$LIB_DIR"; [ "$finished" ] || exit 99' EXIT
{ echo "at the start:"; ublk_devices; } >"$LIB_DIR/devices" # not empty: for busybox's grep that matches all
mem_start=$(free_kib)
