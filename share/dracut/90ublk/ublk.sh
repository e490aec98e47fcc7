#!/bin/sh
# shellcheck shell=dash disable=SC2154 # its variables are dracut's
# The devices that parse-ublk.sh is about, as soon as their disks are there. Sourced again and again until nothing is
# waited for any more; /run/initramfs/ublk.N says that the Nth is up, ublk.up that all are.
ublk_up() {
	local _word _disk _n=0
	for _word in $(getcmdline); do
		case $_word in
		ublk.file=* | ublk.snapshot=* | ublk.mem=*) ;;
		*) continue ;;
		esac
		_n=$((_n + 1))
		[ ! -e "/run/initramfs/ublk.$_n" ] || continue
		_disk=$(label_uuid_to_dev "${_word#*=}")
		[ -e "$_disk" ] || return 0
		case $_word in
		ublk.file=*) ublk file "$_disk" -d ;;
		ublk.snapshot=*) ublk file "$_disk" --snapshot -d ;;
		ublk.mem=*) ublk mem --load="$_disk" -d -q ;;
		esac >/dev/null || die "ublk: $_word: no device"
		: >"/run/initramfs/ublk.$_n"
	done
	: >/run/initramfs/ublk.up
}
ublk_up
