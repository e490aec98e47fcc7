#!/bin/bash
# make install and make uninstall: what is put where, and that nothing of it stays.
set -eu
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
result() { if [ "$2" = "$3" ]; then echo "ok - unit: $1"; else echo "FAIL - unit: $1: '$2', not '$3'"; fi; }
files() { (cd "$dir" && find . ! -type d | sort | tr '\n' ' '); }

(umask 077 && make -s install DESTDIR="$dir" >/dev/null)
result "make install: below /usr/local" "$(files)" "./usr/local/lib/dracut/modules.d/90ublk/module-setup.sh \
./usr/local/lib/dracut/modules.d/90ublk/parse-ublk.sh ./usr/local/lib/dracut/modules.d/90ublk/ublk.sh ./usr/local/lib/initcpio/hooks/ublk \
./usr/local/lib/initcpio/install/ublk ./usr/local/lib/systemd/system/ublk@.service ./usr/local/lib/udev/rules.d/60-ublk.rules ./usr/local/sbin/ublk ./usr/local/sbin/ublk-file \
./usr/local/sbin/ublk-mem ./usr/local/share/bash-completion/completions/ublk ./usr/local/share/initramfs-tools/hooks/ublk \
./usr/local/share/initramfs-tools/scripts/local-top/ublk ./usr/local/share/man/man8/ublk.8 "
result "make install: nothing has @ublk@ left in it" "$(grep -rl @ublk@ "$dir")" ""
result "make install: all can read it" "$(find "$dir" -type f ! -perm -444)" ""
result "make install: hooks can be run" "$(find "$dir" \( -name '*.sh' -o -path '*/initramfs-tools/*' \) -type f ! -perm 755)" ""
result "make install: the rule names the program" "$(grep -c /usr/local/sbin/ublk "$dir/usr/local/lib/udev/rules.d/60-ublk.rules")" 1
result "make install: the unit names the program" "$(grep -o 'exec [^ ]*/ublk' "$dir/usr/local/lib/systemd/system/ublk@.service" | sort -u)" \
	"exec /usr/local/sbin/ublk"
make -s uninstall DESTDIR="$dir"
result "make uninstall: nothing stays" "$(files)$(find "$dir" -name '*ublk*')" ""
make -s install DESTDIR="$dir" PREFIX=/usr UDEVDIR=/lib/udev/rules.d SYSTEMDUNITDIR=/lib/systemd/system MANDIR=/usr/man \
	INITRAMFSTOOLSDIR=/etc/initramfs-tools MKINITCPIODIR=/etc/initcpio >/dev/null
result "make install: where a distribution wants it" "$(files)" "./etc/initcpio/hooks/ublk ./etc/initcpio/install/ublk \
./etc/initramfs-tools/hooks/ublk ./etc/initramfs-tools/scripts/local-top/ublk ./lib/systemd/system/ublk@.service ./lib/udev/rules.d/60-ublk.rules \
./usr/lib/dracut/modules.d/90ublk/module-setup.sh ./usr/lib/dracut/modules.d/90ublk/parse-ublk.sh ./usr/lib/dracut/modules.d/90ublk/ublk.sh \
./usr/man/man8/ublk.8 ./usr/sbin/ublk ./usr/sbin/ublk-file ./usr/sbin/ublk-mem ./usr/share/bash-completion/completions/ublk "
