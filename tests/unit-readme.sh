#!/bin/bash
# Each block of README's is of a kind that is known, and each block of commands is run by a test.
set -eu
cd "$(dirname "$0")/.."

name="unit: README: each block is of a known kind"
# shellcheck disable=SC2016 # the backticks are README's
kinds=$(sed -n '/^```/{p; :a; n; /^```$/!ba}' README.md)
wrong=$(grep -vE '^```(sh [a-z]+|text|c null|c table)$' <<<"$kinds" || true)
if [ -z "$wrong" ]; then echo "ok - $name"; else echo "FAIL - $name: $wrong"; fi

for block in $(sed -n 's/^```sh //p' <<<"$kinds"); do
	name="unit: README's commands, $block, are run by a test"
	if grep -qE "(readme[ /]|written )$block\b" tests/cases/*.sh tests/boot-*; then echo "ok - $name"
	else echo "FAIL - $name"; fi
done
