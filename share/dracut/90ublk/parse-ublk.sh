#!/bin/sh
# shellcheck shell=dash disable=SC2154 # its variables are dracut's
# Devices of ublk's before the root filesystem is looked for, in the order of the kernel's command line:
#   ublk.file=DISK      the disk, shown by ublk file; then root=/dev/ublkb0
#   ublk.snapshot=DISK  a snapshot of it: what is written is kept in memory
#   ublk.mem=DISK       a RAM disk with what is on it
# DISK is a path, or UUID=, LABEL=, PARTUUID= or PARTLABEL=. What is to be waited for is said here, for rd.retry=
# seconds; ublk.sh makes the devices. Both are sourced.
ublk_parse() {
	local _word
	for _word in $(getcmdline); do
		case $_word in
		ublk.file=* | ublk.snapshot=* | ublk.mem=*) ;;
		*) continue ;;
		esac
		wait_for_dev "$(label_uuid_to_dev "${_word#*=}")"
		echo '[ -e /run/initramfs/ublk.up ]' >"$hookdir/initqueue/finished/ublk.sh"
	done
}
ublk_parse
