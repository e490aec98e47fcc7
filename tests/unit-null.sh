#!/bin/bash
# README teaches how to write a backend with a null backend. This takes the
# code from README, adds the lines that README says to add, and builds it, so
# that the example keeps compiling. With an argument it leaves the binary there.
set -eu
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
name="unit: README's null backend"

# shellcheck disable=SC2046 # a list
cp --parents $(make -s files) "$dir"
sed -n '/^```c null$/,/^```$/p' README.md | sed '1d;$d' >"$dir/backend_null.c"
lines=$(wc -l <"$dir/backend_null.c")
if [ "$lines" -gt 10 ] && [ "$lines" -lt 40 ]; then echo "ok - $name has $lines lines"
else echo "FAIL - $name has $lines lines: 10 to 40 expected"; exit 1; fi

# the two lines of README, "Write a backend", in place of those that begin the same
for begin in 'extern const struct backend backend_mem' 'static const struct backend \*const backends'; do
	line=$(grep -m 1 "^$begin" README.md)
	[ "$(grep -c "^$begin" "$dir/cli/backends.c")" = 1 ] && sed -i "s/^$begin.*/${line//&/\\&}/" "$dir/cli/backends.c"
done
if out=$(make -C "$dir" 2>&1) && ! grep -i warning <<<"$out" && { [ "${VM_TRIPLET:-}" ] || "$dir/ublk" help | grep -q "null.*nothing at all"; }; then
	echo "ok - $name builds without a warning"
else
	echo "FAIL - $name builds without a warning: $out"
	exit 1
fi
[ $# -eq 0 ] || cp "$dir/ublk" "$1"
