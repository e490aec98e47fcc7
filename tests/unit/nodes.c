/* SPDX-License-Identifier: MIT */
/* host/nodes */
#include "tests/unit/test.h"
#include "host/nodes.c"

static void test_dev_names(void)
{
	uint32_t id = 7;

	CHECK("device names",
	      parse_dev("0", &id) && id == 0 && parse_dev("ublkb12", &id) && id == 12 &&
	      parse_dev("/dev/ublkb3", &id) && id == 3 && parse_dev("/dev/ublkc4", &id) && id == 4 &&
	      !parse_dev("", &id) && !parse_dev("/dev/ublkb", &id) && !parse_dev("/dev/sda", &id) &&
	      !parse_dev("ublkb0p1", &id) && !parse_dev("1048576", &id) && !parse_dev("-1", &id));
	CHECK("nodes and partitions of a device",
	      is_node("/dev/ublkb1", NODE_BASE, 1) && is_node("/dev/ublkb1p2", NODE_BASE, 1) &&
	      is_node("/dev/ublkb1 (deleted)", NODE_BASE, 1) && is_node("/dev/ublkb1p2\tpartition", NODE_BASE, 1) &&
	      !is_node("/dev/ublkb12", NODE_BASE, 1) && !is_node("/dev/ublkb1p", NODE_BASE, 1) && !is_node("/dev/ublkb1x", NODE_BASE, 1) &&
	      !is_node("/dev/ublkb", NODE_BASE, 1) && !is_node("/dev/ublkc1", NODE_BASE, 1));
}

int main(void)
{
	test_begin();
	test_dev_names();
	return test_end();
}
