#!/bin/bash
# make install and make uninstall: what is put where, and that nothing of it stays.
set -eu
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
result() { if [ "$2" = "$3" ]; then echo "ok - unit: $1"; else echo "FAIL - unit: $1: '$2', not '$3'"; fi; }
files() { (cd "$dir" && find . ! -type d | sort | tr '\n' ' '); }

make -s install DESTDIR="$dir" >/dev/null
result "make install: below /usr/local" "$(files)" "./usr/local/lib/systemd/system/ublk@.service ./usr/local/lib/udev/rules.d/60-ublk.rules \
./usr/local/sbin/ublk ./usr/local/sbin/ublk-file ./usr/local/sbin/ublk-mem ./usr/local/share/bash-completion/completions/ublk ./usr/local/share/man/man8/ublk.8 "
result "make install: the rule names the program" "$(grep -c /usr/local/sbin/ublk "$dir/usr/local/lib/udev/rules.d/60-ublk.rules")" 1
result "make install: the unit names the program" "$(grep -o 'exec [^ ]*ublk[^ ]*' "$dir/usr/local/lib/systemd/system/ublk@.service" | sort -u)" \
	"exec /usr/local/sbin/ublk"
make -s uninstall DESTDIR="$dir"
result "make uninstall: nothing stays" "$(files)" ""
make -s install DESTDIR="$dir" PREFIX=/usr UDEVDIR=/lib/udev/rules.d SYSTEMDUNITDIR=/lib/systemd/system MANDIR=/usr/man >/dev/null
result "make install: where a distribution wants it" "$(files)" "./lib/systemd/system/ublk@.service ./lib/udev/rules.d/60-ublk.rules ./usr/man/man8/ublk.8 ./usr/sbin/ublk \
./usr/sbin/ublk-file ./usr/sbin/ublk-mem ./usr/share/bash-completion/completions/ublk "
