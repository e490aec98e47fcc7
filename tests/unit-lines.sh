#!/bin/bash
# Malformed command lines: each ends with status 2 and one line on stderr that
# names the argument, and nothing on stdout. None gets as far as the driver.
set -u
cd "$(dirname "$0")/.." || exit
ublk=${UBLK:-./ublk}
lines=0 wrong=0

# bad NAMED ARGUMENT...: NAMED is what the line must name
bad() {
	local named=$1 rc=0 out err
	shift
	lines=$((lines + 1))
	exec 3>&1
	err=$( { out=$("$ublk" "$@" 2>&4 </dev/null); echo "$?$out" >"$tmp"; } 4>&1 1>&3)
	exec 3>&-
	rc=$(cat "$tmp")
	if [ "$rc" != 2 ] || [ "$(wc -l <<<"$err")" != 1 ] || [[ $err != "ublk: "* ]] || [[ $err != *"$named"* ]]; then
		wrong=$((wrong + 1))
		printf '# ublk'; printf ' %q' "$@"; printf ': status and stdout "%s", stderr "%s"\n' "$rc" "$err"
	fi
}
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT

no_number=("" x -1 +1 1.5 1,5 1e3 0x10 " 1" "1 " 1K 99999999999999999999 18446744073709551616 ١ ½ 1/2 --1 NaN)
no_size=("" x -1 +1 1.5G 1,5G 1e3 0x10 " 1" "1 " "1 K" K KB 1KK 1Ki 1KiBs 1Z 1E 1B 16384P 99999999999999999999 ١K 1K1 ½G inf)

for v in "${no_number[@]}"; do
	for o in queues qdepth id; do bad "--$o" mem 1G "--$o=$v"; done
	bad "--qdepth" mem 1G --qdepth "$v"
	bad "--wait" stop 0 "--wait=$v"
done
for v in "${no_size[@]}"; do
	for o in size block-size max-io; do bad "--$o" mem 1G "--$o=$v"; done
	bad "--offset" file disk.img "--offset=$v"
	[[ $v == -* ]] || bad SIZE mem "$v"
done
# out of range
for v in 0 4097 65536 4294967297; do bad "from 1 to 4096" mem 1G --queues=$v; bad "from 1 to 4096" mem 1G --qdepth=$v; done
for v in 1048576 4294967295 4294967296; do bad "from 0 to 1048575" mem 1G --id=$v; done
for v in 0 1 511 4097 8K 1G; do bad "from 512 to 4096" mem 1G --block-size=$v; done
for v in 513 1000 3K 3000; do bad "power of two" mem 1G --block-size=$v; done
for v in 0 512 4095 33M 4G; do bad "from 4096 to" mem 1G --max-io=$v; done
for v in 4097 5000 1000000; do bad "multiple of 4096" mem 1G --max-io=$v; done
for v in 0 1 511 8P0 5000P; do bad SIZE mem $v; done
for v in 513 1000 1KB 1000000; do bad multiple mem $v; done
bad multiple mem 6K --block-size=4K
for v in 1 511 513 1000; do bad multiple file disk.img --direct --offset=$v; done
bad "from 0 to 86400" stop 0 --wait=86401
# a value missing, an empty one, a flag with one
for o in queues qdepth id size block-size max-io; do bad "--$o" mem 1G "--$o"; done
for o in path offset zero-copy; do bad "--$o" file disk.img "--$o"; done
bad --path file --path=
bad --wait stop 0 --wait
for o in cpu-affinity read-only no-part-scan no-modprobe prealloc huge daemon quiet verbose help; do
	bad "--$o" mem 1G "--$o=yes"
	bad "--$o" mem 1G "--$o="
done
for o in direct create; do bad "--$o" file disk.img "--$o=1"; done
for o in all force; do bad "--$o" stop "--$o=1"; done
# twice
for o in queues=2 qdepth=2 id=3 block-size=512 max-io=1M; do bad "--${o%=*}" mem 1G "--$o" "--$o"; done
for o in cpu-affinity read-only no-part-scan no-modprobe prealloc huge daemon quiet verbose; do bad "--$o" mem 1G "--$o" "--$o"; done
bad -d mem 1G -d -d
bad -dd mem 1G -dd
bad --daemon mem 1G -d --daemon
bad --size mem 1G --size=1G
bad --path file a --path=b
for o in offset=512 zero-copy=on direct create; do bad "--${o%=*}" file disk.img "--$o" "--$o"; done
# of another verb
for o in all force wait=1 json path=x direct offset=0 create zero-copy=on; do bad "--${o%=*}" mem 1G "--$o"; done
for o in all force wait=1 json prealloc huge; do bad "--${o%=*}" file disk.img "--$o"; done
for o in size=1G queues=1 daemon json direct prealloc id=1; do bad "--${o%=*}" stop 0 "--$o"; done
for o in size=1G queues=1 daemon all force wait=1 direct; do bad "--${o%=*}" list "--$o"; bad "--${o%=*}" check "--$o"; done
for o in all json size=1G; do bad "--${o%=*}" help "--$o"; done
# unknown options, letters, verbs; stray arguments
for o in --frob --queue --queuess --Queues --q --size- --size:1G --=1 -x -1 -Q -dx -qx --no-daemon ---daemon -- ; do bad "${o%%=*}" mem 1G $o; done
for v in mem2 MEM frob "" -x --frob --queues=1 ublk / 1G help2 meml "mem "; do bad "$v" "$v"; done
bad 2G mem 1G 2G
bad b file a b
bad x check x
bad y help mem y
bad frob help frob
bad "SIZE is missing" mem
bad "SIZE is missing" mem -d
bad "PATH is missing" file
bad --daemon mem 1G -d -- true
bad "how large" file new.img --create
bad --create file new.img --create --size=1M --read-only
bad multiple file new.img --create --size=1000
bad maybe file disk.img --zero-copy=maybe
for v in "" AUTO on,off auto\|on onn o; do bad --zero-copy file disk.img "--zero-copy=$v"; done
bad "name the devices" stop
bad "name the devices" stop 0 --all
bad "what is to be done"

if [ $wrong = 0 ] && [ $lines -ge 300 ]; then echo "ok - unit: $lines malformed command lines, each with status 2 and one line"
else echo "FAIL - unit: $lines malformed command lines, $wrong of them answered wrongly"; exit 1; fi

# what cannot be printed is status 1 and one line
wrong=0
for v in help "help file" --version "mem --help"; do
	rc=0
	# shellcheck disable=SC2086 # words
	err=$("$ublk" $v 2>&1 >/dev/full) || rc=$?
	if [ $rc != 1 ] || [[ $err != "ublk: stdout: "*": No space left on device" ]]; then
		wrong=$((wrong + 1))
		printf '# ublk %s >/dev/full: status %s, stderr "%s"\n' "$v" "$rc" "$err"
	fi
done
if [ $wrong = 0 ]; then echo "ok - unit: a full stdout is an error"
else echo "FAIL - unit: a full stdout is an error"; exit 1; fi
