#!/bin/sh
# The guest itself: the driver loads.
# shellcheck source=tests/lib.sh
. /tests/lib.sh

check "modprobe ublk_drv" modprobe ublk_drv
check "/dev/ublk-control exists" wait_for 30 test -c /dev/ublk-control

nothing_left
