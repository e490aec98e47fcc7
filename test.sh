#!/bin/bash
# test.sh [all|unit|vm|soak|kernels|demo|bench|bench-smp]: the tests; what they need is fetched.
#   unit     the C code by itself, a room at a time (tests/unit), and tests/unit-*.sh
#   vm       tests/cases/*.sh in virtual machines: KERNEL="6.16 7.0" names the
#            kernels (else 6.12 and Debian's newest), CASES="smoke 20" the cases
#   soak     the cases of a server's death and of memory, for hours: 200 kills each; and tests/cases/long
#   kernels  the cases on every kernel series from 6.1 on that Debian has
#   demo     tests/demo.sh, on this machine if it has the ublk driver
#   bench    what a disk costs, beside loop and brd, in a virtual machine whose
#            clock counts instructions; bench-smp: in one with two processors
#   all      unit and vm
# ARCH=aarch64 or riscv64 is for vm and soak: the machine is of that kind (tests/arch.sh).
# The last line is "N passed, M failed, K skipped".
set -euo pipefail
trap 'cleanup' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
cleanup() {
	cat "${WORK:-/nonexistent}"/machine.* 2>/dev/null | xargs -r kill 2>/dev/null || true
	[ -z "${WORK:-}" ] || rm -rf "$WORK"
}

cd "$(dirname "$0")"
WORK=$(mktemp -d)
export TMPDIR=$WORK VM_PIDFILE=$WORK/machine.0
# shellcheck source=tests/vm.sh
. tests/vm.sh

label=unit passed=0 failed=0 skipped=0 failures=()
timed='^(\[[^]]*\]) # ([^ ]+): ([0-9]+) s$' boots=0 times=() # of machines; of cases, and of machines that are one

# vm_out LINE: show a line of a test, with the label in front, and count it if it is a result
vm_out() { count "[$label] $1"; }

# count LABELLED: show such a line, and count it, also by its label
declare -A tally=()
count() {
	local result=''
	case ${1#*] } in
	"ok - "*) result=passed passed=$((passed + 1)) ;;
	*"FAIL - "*) result=failed failed=$((failed + 1)) failures+=("$1") ;; # also behind what something else left on the line
	"skip - "*) result=skipped skipped=$((skipped + 1)) ;;
	esac
	if [[ $1 = *"] guest: init "* ]]; then boots=$((boots + 1)); fi
	if [[ $1 =~ $timed ]]; then times+=("${BASH_REMATCH[3]} s ${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"); fi
	[ -z "$result" ] || tally["${1%%] *}] $result"]=$((${tally["${1%%] *}] $result"]:-0} + 1))
	printf '%s\n' "$1"
}

# here COMMAND...: a test that runs on this machine
here() {
	local line pid rc=0 before=$failed
	exec 7< <(exec "$@" 2>&1 </dev/null)
	pid=$!
	while IFS= read -r line || [ "$line" ]; do vm_out "$line"; done <&7
	wait "$pid" || rc=$?
	exec 7<&-
	# a test may die without a word, or say why in its own lines
	[ "$rc" -eq 0 ] || [ "$failed" -gt "$before" ] || vm_out "FAIL - $*: status $rc"
}

build() {
	vm_need gcc libc6-dev make musl-tools mandoc
	[ -z "${UBLK:-}" ] || return 0
	if [ "$VM_TRIPLET" ]; then
		mkdir "$WORK/src" && cp --parents $(make -s files) "$WORK/src" && make -s -C "$WORK/src" CC="$CC" ublk
		UBLK=$WORK/src/ublk
	else
		make -s ublk
	fi
}

# unit_c FILE FLAG...: build $WORK/NAME of a test in C, which includes the rooms it is about
unit_c() {
	local file=$1
	shift
	"${CC:-gcc}" "${UNIT_FLAGS[@]}" -Wall -Wextra -I. "$@" "$file" "$WORK/unit.o/ublk.a" -o "$WORK/$(basename "$file" .c)" -pthread
}
UNIT_FLAGS=(-O1 -g -fno-pie -no-pie -D_GNU_SOURCE -fsanitize=address,undefined -fno-sanitize-recover=undefined)

unit() {
	local file script pid pids=()
	label=unit
	make -s O="$WORK/unit.o" CC="${CC:-gcc}" CFLAGS="${UNIT_FLAGS[*]}" "$WORK/unit.o/ublk.a"
	for file in tests/unit/*.c; do unit_c "$file" & pids+=($!); done
	unit_c tests/fuzz.c -DFUZZ_MAIN & pids+=($!)
	helper_inject "$WORK/unit.o/ublk.a" "${UNIT_FLAGS[@]}" & pids+=($!)
	for file in tests/unit/*.c tests/fuzz.c tests/inject.c; do
		pid=${pids[0]} pids=("${pids[@]:1}")
		if wait "$pid"; then here "$WORK/$(basename "$file" .c)"
		else vm_out "FAIL - $file compiles"; fi
	done
	for script in tests/unit-*.sh; do
		[ ! -e "$script" ] || here bash "$script"
	done
}

# cases: print the case files $CASES names (by name, number or what follows the number), or all but the long ones
cases() {
	local name found
	if [ -z "${CASES:-}" ]; then
		printf '%s\n' tests/cases/*.sh
		return
	fi
	for name in $CASES; do
		found=$(find tests/cases -name "$name.sh" -o -name "$name-*.sh" -o -name "*-$name.sh" | sort)
		[ "$found" ] || { vm_note "no case '$name' in tests/cases"; return 1; }
		echo "$found"
	done
}

# helper_inject ARCHIVE FLAG...: build $WORK/inject
helper_inject() {
	local lib=$1
	shift
	"${CC:-gcc}" -O2 -g -D_GNU_SOURCE -Wall -Wextra -I. "$@" -Wl,--wrap=pread,--wrap=pwrite,--wrap=syscall \
		tests/inject.c "$lib" -o "$WORK/inject"
}

# helpers: what the cases use of ours beside ublk itself
helpers() {
	local rule
	"${CC:-gcc}" -O2 -Wall -Wextra -static tests/replay.c -o "$WORK/replay" &&
		"${CC:-gcc}" -O2 -Wall -Wextra -static -pthread tests/overlap.c -o "$WORK/overlap" &&
		"${CC:-gcc}" -O2 -Wall -Wextra -static -pthread tests/model.c -o "$WORK/model" &&
		bash tests/unit-null.sh "$WORK/ublk-null" >/dev/null &&
		make -s O="$WORK/die.o" CC="${CC:-gcc}" "$WORK/die.o/ublk.a" &&
		"${CC:-gcc}" -O2 -I. -static -pthread -Wl,--wrap=uring_init,--wrap=uring_enter,--wrap=uring_register,--wrap=pread,--wrap=mount \
			tests/die.c "$WORK/die.o/ublk.a" -o "$WORK/ublk-die" &&
		"${CC:-gcc}" -O2 -Wall -Wextra -static -I. tests/unprivileged.c uring.c -o "$WORK/unprivileged" &&
		"${CC:-gcc}" -O2 -Wall -Wextra -static tests/hold.c -o "$WORK/hold" &&
		"${CC:-gcc}" -O2 -Wall -Wextra -static tests/fore.c -o "$WORK/fore" &&
		"${CC:-gcc}" -O2 -Wall -Wextra -static tests/bare.c -o "$WORK/bare" &&
		helper_inject "$WORK/die.o/ublk.a" -static || return
	sed 's,@ublk@,/bin/ublk,' share/udev/60-ublk.rules >"$WORK/60-ublk.rules" || return
	for rule in 50-udev-default 60-block 60-persistent-storage; do
		[ ! -e /usr/lib/udev/rules.d/$rule.rules ] || VM_FILES="/usr/lib/udev/rules.d/$rule.rules:/tests/rules/$rule.rules ${VM_FILES:-}"
	done
	VM_BARE=$WORK/bare
	VM_FILES="$WORK/replay:/bin/replay $WORK/hold:/bin/hold $WORK/unprivileged:/bin/unprivileged $WORK/fore:/bin/fore $WORK/overlap:/bin/overlap $WORK/model:/bin/model $WORK/inject:/bin/inject $WORK/ublk-die:/bin/ublk-die $WORK/ublk-null:/bin/ublk-null $WORK/60-ublk.rules:/tests/rules/60-ublk.rules ${VM_FILES:-}"
}

# vm_for CASEFILE...: run these cases in one machine. A case that wants one of
# its own says so in its first line: "# VM: VM_MEM=512M ..."
vm_for() {
	local setting start=$SECONDS
	for setting in $(sed -n '1s/^# VM: //p' "$1"); do local "${setting?}"; done
	if [ "${VM_INITRAMFS:-}" ] && [ "$VM_TRIPLET" ]; then
		vm_out "skip - $(basename "$1" .sh): what makes it runs on this kind of machine only"
		return
	fi
	vm_boot "$kernel" "$@" || return
	[ $# -gt 1 ] || vm_out "# $(basename "$1" .sh)/machine: $((SECONDS - start)) s"
}

# take: the next of the machines that are still to be run, "KERNEL CASEFILE..."
take() {
	exec 5>"$WORK/lock"
	flock 5
	head -n 1 "$WORK/machines"
	sed -i 1d "$WORK/machines"
	exec 5>&-
}

# lane: machines, one after the other, until there are no more
lane() {
	local machine spec kernel files
	export VM_PIDFILE=$WORK/machine.$BASHPID
	while machine=$(take) && [ "$machine" ]; do
		read -r spec files <<<"$machine"
		label=$spec
		if ! kernel=$(vm_kernel "$spec"); then
			# of a list that was asked for it must be there, of all there are it may be gone
			if [ "$mode" = kernels ]; then vm_out "skip - $spec: its packages cannot be had"
			else vm_out "FAIL - $spec: there is such a kernel"; fi
			continue
		fi
		label=$(cat "$kernel/name")
		# shellcheck disable=SC2086 # a list
		vm_for $files || vm_out "FAIL - $label: the VM can be set up"
	done
}

# vms KERNEL...: the cases on these kernels, two machines at a time: a case waits more than it works
vms() {
	local files shared own spec file line
	files=$(cases)
	shared=$(grep -L '^# VM: ' $files) || true
	own=$(grep -l '^# VM: ' $files) || true
	vm_need
	for file in $own; do # shellcheck disable=SC2046 # a list
		vm_need $(sed -n '1s/^# VM: .*VM_PROGS=\([^ ]*\).*/\1/p' "$file" | tr , ' ')
	done
	helpers
	for spec; do vm_kernel "$spec" >/dev/null || true; done # fetched before they are in each other's way
	# a dozen a machine, so that both lanes end at about the same time
	for spec; do [ -z "$shared" ] || xargs -n 12 echo "$spec" <<<"$shared"; done >"$WORK/machines"
	for spec; do for file in $own; do echo "$spec $file"; done; done >>"$WORK/machines"
	vm_programs >/dev/null
	exec 6< <(lane & lane & wait)
	while IFS= read -r line <&6; do count "$line"; done
	exec 6<&-
	[ ! -s "$WORK/machines" ] || count "[vm] FAIL - all machines were run"
	printf '%s\n' "" "$boots boots; what took longest:"
	printf '%s\n' "${times[@]}" | sort -rn | head -n 24
	echo
	for line in "${!tally[@]}"; do echo "$line: ${tally[$line]}"; done | sort
}

demo() {
	local kernel
	if [ "$(id -u)" -eq 0 ] && { [ -e /dev/ublk-control ] || modprobe ublk_drv 2>/dev/null; }; then
		PATH=$PWD:$PATH sh tests/demo.sh
		return
	fi
	vm_need
	kernel=$(vm_kernel newest)
	vm_note "no ublk driver here: the demo runs in a virtual machine, Linux $(cat "$kernel/name")"
	vm_out() {
		case $1 in
		"guest: "* | "ok - dmesg clean"*) return ;;
		"FAIL - "*) failed=$((failed + 1)) ;;
		esac
		printf '%s\n' "$1"
	}
	vm_boot "$kernel" tests/demo.sh
	[ "$failed" -eq 0 ]
}

# bench_vm LINES [NAME=VALUE...]: run tests/bench.sh, with its figures into that file
bench_vm() {
	local lines=$1
	shift
	vm_out() {
		case $1 in
		"bench: "*) printf '%s\n' "$1" >>"$lines" ;;
		*"FAIL - "*) failed=$((failed + 1)) ;;
		"guest: "* | "ok - "*) return ;;
		esac
		printf '%s\n' "$1" >&2
	}
	VM_ENV="$* ${VM_ENV:-}" CASE_TIMEOUT=${CASE_TIMEOUT:-3500} VM_TIMEOUT=${VM_TIMEOUT:-3600} vm_boot "$kernel" tests/bench.sh
}

# bench, bench-smp: tables on stdout; the first leaves its figures in build/bench.json and build/bench.svg
bench() {
	local kernel cpus
	vm_need
	vm_need musl-tools
	kernel=$(vm_kernel "${KERNEL:-newest}")
	bash tests/unit-null.sh "$WORK/ublk-null" >/dev/null
	"${CC:-gcc}" -O2 -Wall -Wextra -static -I. tests/stop-and-del.c uring.c -o "$WORK/stop-and-del"
	make -s CC=musl-gcc O="$WORK/musl" strip
	VM_FILES="$WORK/ublk-null:/bin/ublk-null $WORK/musl/ublk:/bin/ublk-musl $WORK/stop-and-del:/bin/stop-and-del ${VM_FILES:-}"
	if [ "$mode" = bench ]; then
		mkdir -p build
		# one processor, and its clock goes on by a nanosecond for each instruction
		VM_CPUS=1 VM_MEM=8G VM_ACCEL=tcg,thread=single VM_QEMU="-icount shift=0,sleep=off" bench_vm "$WORK/bench"
		awk -v json=build/bench.json -f tests/bench.awk "$WORK/bench"
		jq -r -f tests/bench-svg.jq build/bench.json >build/bench.svg
		echo "as JSON: build/bench.json; as a picture: build/bench.svg"
	else
		for cpus in 2 1; do
			VM_CPUS=$cpus VM_MEM=4G bench_vm "$WORK/bench$cpus" BENCH=smp
			awk -v smp=1 -v cpus=$cpus -f tests/bench.awk "$WORK/bench$cpus"
		done
	fi
	[ "$failed" -eq 0 ]
}

mode=${1:-all}
case $mode in
all | unit | vm | soak | kernels | demo | bench | bench-smp) ;;
*)
	echo "usage: test.sh [all|unit|vm|soak|kernels|demo|bench|bench-smp]" >&2
	exit 2
	;;
esac
build
kernels=${KERNEL:-6.12 newest}
if [ "$mode" = kernels ]; then
	kernels=${KERNEL:-$(vm_kernels_all)}
	# fewer rounds of what takes long: the default kernels have them all
	VM_ENV="REPLAY_FILES=25 FILL_POINTS=25 ${VM_ENV:-}"
fi
if [ "$mode" = soak ]; then
	# 79 takes the suites from this machine, which another kind of machine cannot run
	CASES=${CASES:-63 64 65 67 74 78 $([ "$VM_TRIPLET" ] || echo 79) 81 82 84 85 86 87 88 systemd-mem systemd-file systemd-snapshot initramfs-tools-mem dracut-file}
	export CASE_TIMEOUT=${CASE_TIMEOUT:-7200} VM_TIMEOUT=${VM_TIMEOUT:-10800}
	VM_ENV="KILLS=200 OPS=1250000 REPLAY_FILES=80 FILL_POINTS=100 NUMBERS=200 RESIZES=1000 IO_TIMEOUT=30000 ROUNDS=6 MEMORY_SECONDS=600 MEMORY_FILES=1 SOAK_SECONDS=1800 SUITE_SECONDS=60 INJECT=1000000 TURNS=50 ${VM_ENV:-}"
fi
case $mode in
demo) demo; exit ;;
bench | bench-smp) bench; exit ;;
all | unit) unit ;;
esac
# shellcheck disable=SC2086 # a list
[ "$mode" = unit ] || vms $kernels
[ "$failed" -eq 0 ] || printf '%s\n' "" "what failed:" "${failures[@]}" # again: a long run's end may be all that is kept
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
