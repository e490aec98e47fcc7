#!/bin/bash
# What case 65 runs as README's commands is what README has, in its order.
set -eu
cd "$(dirname "$0")/.."
name="unit: case 65 runs README's commands as they stand"
ran=$(sed -n "/^cat >readme.*<<-'R'/,/^R\$/p" tests/cases/65-snapshot.sh | sed -n 's/^\t//p')
# shellcheck disable=SC2016 # the backticks are README's
has=$(sed -n '/^### A disk to try things on/,/^### /p' README.md | sed -n '/^```$/,/^```$/p' | sed '1d; /^```$/,$d')
if [ "$has" ] && [ "$ran" = "$has" ]; then echo "ok - $name"
else echo "FAIL - $name: $(diff <(echo "$ran") <(echo "$has"))"; exit 1; fi
