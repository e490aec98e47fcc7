#!/bin/bash
# The walls of the house: who may include whom, and what a room may not even
# mention. CONTRIBUTING.md, "Rooms", says why. With an argument, the walls of
# that tree.
set -u
cd "${1:-$(dirname "$0")/..}" || exit
wrong=0

# wall FILES ALLOWED WHAT: all that these files include of ours matches ALLOWED
wall() {
	local file line
	for file in $1; do
		while IFS= read -r line; do
			[[ $line =~ ^($2)$ ]] && continue
			echo "# $file includes $line: $3"
			wrong=$((wrong + 1))
		done < <(sed -n 's/^#include "\(.*\)"$/\1/p' "$file")
	done
}

# silent FILES PATTERN WHAT: these files do not have such a line
silent() {
	local hits line
	# shellcheck disable=SC2086 # a list
	hits=$(grep -HnE -e "$2" $1) || return 0
	while IFS= read -r line; do printf '# %s   <- %s\n' "$line" "$3"; done <<<"$hits"
	wrong=$((wrong + 1))
}

wall "uring.c uring.h" 'uring\.h' "a ring knows nothing else"
wall "$(echo lib/*)" 'lib/.*' "lib/ stands on the ground"
wall "$(echo include/*)" 'include/.*|uring\.h' "a contract names types, not rooms"
wall "$(echo host/*)" 'host/.*|lib/.*|include/(steps|ublk_cmd)\.h' "the machine knows no queue, no backend and no command line"
wall "ublk.c" 'host/.*|include/.*|lib/.*' "the engine stands below processes and command line"
wall "$(echo backend_*.c)" 'include/backend\.h|store/(image|ram)\.h|host/.*|lib/.*' "a backend knows its contract and the machine"
wall "$(echo store/*)" 'store/.*|include/backend\.h|host/.*|lib/.*' "what is kept in memory knows no server and no command line"
wall "$(echo serve/*)" 'serve/.*|host/.*|include/.*|lib/.*' "processes around a server know no command line"
wall "$(echo cli/*)" 'cli/(args|backends|find|out|verbs)\.h|serve/(cookie|serve|stop)\.h|store/(changes|commit|image|ram)\.h|host/.*|include/.*|lib/.*' "a verb knows the doors, not what is behind them"

silent "$(echo lib/*)" '"/' "no file has a name in lib/"
silent "ublk.c" '"/(proc|sys)|STDOUT_FILENO|argv' "/proc, /sys, stdout and the command line are others'"
silent "host/usage.c host/usage.h" 'node_try|node_open|"/dev/' "who looks for users opens no device"
silent "$(echo lib/*.c host/*.c ublk.c backend_*.c store/*.c serve/*.c cli/*.c)" '\b(malloc|calloc|realloc|printf|fprintf|snprintf|strcat)\(|<stdio\.h>' "neither stdio nor malloc()"
silent "$(echo host/*.c ublk.c backend_*.c store/*.c serve/*.c cli/*.c)" '\bmmap\(' "pages_map() maps, and cuts no size"
silent "$(echo lib/*.c host/*.c ublk.c backend_*.c store/*.c serve/*.c)" '\bprint\(|"cli/' "stdout is the verbs'"

# no room stands on itself: includes have an order
loops=$(for file in *.[ch] {lib,include,host,store,serve,cli}/*.[ch]; do
	sed -n "s|^#include \"\(.*\)\.h\"\$|${file%.?} \1|p" "$file"
done | tsort 2>&1 >/dev/null)
if [ "$loops" ]; then
	sed 's/^/# a loop of includes: /' <<<"$loops"
	wrong=$((wrong + 1))
fi

if [ $wrong = 0 ]; then echo "ok - unit: the rooms' walls stand"
else echo "FAIL - unit: the rooms' walls stand: $wrong breaches"; exit 1; fi
