#!/bin/bash
# share/bash-completion/ublk in a real bash: what is offered for a line.
set -eu
cd "$(dirname "$0")/.."
make -s ublk
# shellcheck source=share/bash-completion/ublk
. share/bash-completion/ublk

# offers NAME WANT WORD...: the last word is the one to be completed
offers() {
	local name=$1 want=$2 got
	shift 2
	COMP_WORDS=(./ublk "$@") COMP_CWORD=$#
	_ublk
	got=${COMPREPLY[*]}
	if [ "$got" = "$want" ]; then echo "ok - unit: completion: $name"; else echo "FAIL - unit: completion: $name: '$got', not '$want'"; fi
}
offers "verbs" "mem file list recover stop resize commit save owner check help" ""
offers "a verb that has begun" "recover resize" re
offers "verbs behind help" "commit check" help c
offers "options of a verb" "--prealloc" mem --pre
offers "options with a value" "--zero-copy=" file --z
offers "not those of another verb" "" mem --off
offers "options behind an operand" "--force" stop 0 --f
offers "nothing behind --" "" mem 1G -- -
