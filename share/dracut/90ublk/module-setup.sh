#!/bin/bash
# shellcheck disable=SC2154 # its variables are dracut's
# ublk and its driver in an initramfs of dracut; parse-ublk.sh says what they are for.

# only where it is asked for: add_dracutmodules+=" ublk "
check() {
	require_binaries @ublk@ || return 1
	return 255
}

depends() {
	echo base
	# a module of its own in later versions
	! compgen -G "$dracutbasedir/modules.d/[0-9][0-9]initqueue" >/dev/null || echo initqueue
}

installkernel() {
	hostonly='' instmods ublk_drv
}

install() {
	inst @ublk@ /usr/sbin/ublk
	inst_hook cmdline 30 "$moddir/parse-ublk.sh"
	inst_hook initqueue/settled 20 "$moddir/ublk.sh"
	dracut_need_initqueue
}
