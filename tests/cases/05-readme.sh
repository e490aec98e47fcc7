# README's commands, use by use, as they stand. Others are run by 65, 88 and the cases that boot.
. /tests/lib.sh
section "README"

mkdir -p bin here && cd here || exit
# sudo, make and a test of the user's own are stood in for
printf '#!/bin/sh\nexec "$@"\n' >../bin/sudo
# shellcheck disable=SC2016 # for the script
printf '#!/bin/sh\n[ "$*" ] || exit 0\ntest "$*" = "-C /mnt" && grep -q "^/dev/ublkb0 /mnt" /proc/mounts && cp /mnt/data /mnt/made\n' >../bin/make
# shellcheck disable=SC2016
printf '#!/bin/sh\ne2fsck -fn $UBLK_DEV && mount $UBLK_DEV /mnt && touch /mnt/here && umount /mnt\n' >test.sh
chmod 755 ../bin/* test.sh
PATH=$PWD/../bin:$PATH
ln -s /bin/ublk ublk
echo data >data

# written NAME SHELL: its commands, each of which must do
written() {
	readme "$1" >commands || return
	case $(uname -r) in 6.[0-9].* | 6.1[0-5].*) sed -i '/from Linux 6.16 on/d' commands ;; esac
	# shellcheck disable=SC2086 # a shell and an option
	$2 -e commands && [ -z "$(ublk list)" ]
}
start() {
	readme start >commands
	fore sh -e commands >node & sh=$!
	wait_for 10 grep -qx /dev/ublkb0 node && dd if=/dev/ublkb0 of=/dev/null bs=1M count=8 2>/dev/null || return
	# shellcheck disable=SC2046 # a number
	kill -INT $(pidof ublk)
	wait $sh && no_new_devices
}
check "the first commands, and Ctrl-C" start
check "a script's" written script sh
check "a RAM disk for a build" written build sh
check "an image" written image sh
truncate -s 32M golden.img && mkfs.ext4 -q golden.img && before=$(md5sum <golden.img)
check "tests from one image" written golden sh
expect_eq "$before" "$(md5sum <golden.img)" "and it is as it was"
mkfs.ext4 -q golden.img && gzip <golden.img >root.img.gz
check "a rescue stick" written rescue "busybox sh"
check "what was saved is whole" e2fsck -fn new.img
cd ..
nothing_left
