#!/bin/bash
# "ublk help VERB": options in groups, and two examples that use no others.
set -eu
cd "$(dirname "$0")/.."
make -s ublk

for verb in $(./ublk help | sed -n 's/^  ublk \([a-z]*\) .*/\1/p'); do
	name="unit: help $verb has two examples, with options of its own"
	page=$(./ublk help "$verb")
	examples=$(sed -n '/^examples:$/,$p' <<<"$page" | sed 1d)
	wrong=
	[ "$(grep -c "^  ublk $verb" <<<"$examples")" = 2 ] && [ "$(wc -l <<<"$examples")" = 2 ] || wrong="$examples"
	# what is behind -- is another program's
	for option in $(sed 's/ -- .*//' <<<"$examples" | grep -oE -e ' --?[a-z][a-z-]*' || true); do
		sed '/^examples:$/,$d' <<<"$page" | grep -qE -e "^ .*(^| )${option}[,= ]" || wrong+=" $option"
	done
	if [ -z "$wrong" ]; then echo "ok - $name"; else echo "FAIL - $name: $wrong"; fi
done
# what most need, what it is to survive, what it costs, how much is said
groups=$(./ublk help file | sed -n '/^options:$/,/^examples:$/p' | grep -c '^$')
if [ "$groups" = 4 ]; then echo "ok - unit: help file has its options in four groups"
else echo "FAIL - unit: help file has its options in four groups: $groups"; fi
