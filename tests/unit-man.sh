#!/bin/bash
# The manual page says what the program does: its verbs, its options and their
# arguments, and mandoc has nothing to say of it.
set -eu
cd "$(dirname "$0")/.."
page=share/man/ublk.8
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
result() { if [ "$1" = 0 ]; then echo "ok - unit: $2"; else echo "FAIL - unit: $2: $(head -n 12 "$dir/out" | tr '\n' ' ')"; fi; }

PATH=$PATH:/usr/sbin
make -s ublk
./ublk help | sed -n 's/^  ublk \([a-z]*\) .*/\1/p' | sort -u >"$dir/verbs"
sed -n 's/^\.It Cm \([a-z]*\).*/\1/p' $page | sort -u >"$dir/page"
st=0; diff "$dir/verbs" "$dir/page" >"$dir/out" || st=1
result $st "the manual page has the program's verbs"

{ while read -r verb; do ./ublk help "$verb"; done <"$dir/verbs"; echo '      --version (of none)'; } |
	sed -n 's/^  \(-[a-z],\|   \) --\([a-z-]*\)\(=[^ ]*\|\) .*/\1 \2 \3/p' | tr -d ',' |
	sed 's/^ *//; s/=auto.*/=auto|on|off/; s/ *$//' | sort -u >"$dir/options"
# .It Fl r , Fl -read-only    .It Fl -size Ns = Ns Ar SIZE
sed -n 's/^\.It Fl \(.*\)/\1/p' $page | sed 's/^\([a-z]\) , Fl -/-\1 /; s/^-\([a-z][a-z]\)/\1/; s/ Ns = Ns Ar / =/; s/ Ns = Ns Cm / =/; s/ | /|/g' |
	sort -u >"$dir/page"
st=0; diff "$dir/options" "$dir/page" >"$dir/out" || st=1
result $st "the manual page has the program's options, with their arguments"

{ echo 0; echo 1; sed -n 's/^\tEXIT_[A-Z_]* = \([0-9]\),$/\1/p' include/steps.h; } >"$dir/statuses"
sed -n '/^\.Sh EXIT STATUS/,/^\.El/s/^\.It \([0-9]\)$/\1/p' $page >"$dir/page"
st=0; diff "$dir/statuses" "$dir/page" >"$dir/out" || st=1
result $st "the manual page has the program's statuses"

if ! command -v mandoc >/dev/null; then echo "skip - unit: the manual page by mandoc: there is none"; exit; fi
st=0; mandoc -T lint $page 2>/dev/null | grep "$page" >"$dir/out" && st=1
result $st "mandoc has nothing to say of the manual page"
st=0; mandoc -T ascii -O width=80 $page | sed 's/.\x08//g' | awk 'length > 80' >"$dir/out"; [ ! -s "$dir/out" ] || st=1
result $st "the manual page fits into 80 columns"
