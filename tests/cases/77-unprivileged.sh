# Devices that others have made without privileges: root sees and stops them like all others.
. /tests/lib.sh
section "others' devices"

modprobe ublk_drv
chmod 666 /dev/ublk-control
made=$(setpriv --reuid 1000 --regid 1000 --clear-groups unprivileged) || { echo "# no device: $made, $(cat /proc/sys/kernel/io_uring_disabled 2>&1)"; made=; }
chmod 600 /dev/ublk-control
if [ "$made" ]; then
	check "one of ours beside it" sh -c "ublk mem 16M -d -q >/dev/null"
	expect_out "^/dev/ublkb$made +other .* dead " "list: it and ours" ublk list
	check "list: no error" ublk list
	check "stop it, by its number" ublk stop "$made"
	check "it is gone, ours is there" sh -c "[ ! -e /dev/ublkc$made ] && [ \$(ublk list | wc -l) = 2 ]"
	chmod 666 /dev/ublk-control
	check "another one" setpriv --reuid 1000 --regid 1000 --clear-groups unprivileged
	chmod 600 /dev/ublk-control
	check "stop --all" ublk stop --all
	check "all gone" sh -c '! ls /dev/ublkc* 2>/dev/null'
else
	skip "devices made without privileges" "this driver has none, or io_uring is not for users"
fi
nothing_left
