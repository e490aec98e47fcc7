/* SPDX-License-Identifier: MIT */
/* host/nodes */
#include "tests/unit/test.h"

#include <fcntl.h>

/* What is under a name by the time that it is opened. */
static const char *exchanged;
static int late_open(const char *path, int flags)
{
	return open(exchanged ? exchanged : path, flags);
}
#define open late_open
#include "host/nodes.c"
#undef open

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

static bool node_opens(const char *path, const char *later)
{
	int fd;

	exchanged = later;
	fd = node_try(path, O_RDONLY, false);
	exchanged = NULL;
	return fd >= 0 && close(fd) == 0;
}

static void test_node_try(void)
{
	CHECK("a node is opened", node_opens("/dev/null", NULL));
	CHECK("not what is no node of its kind", !node_opens("/proc/self/exe", NULL) && !node_opens("/dev/fd", NULL));
	CHECK("nor another that has its name by then", !node_opens("/dev/null", "/dev/zero") && !node_opens("/dev/null", "/proc/version"));
}

int main(void)
{
	test_begin();
	test_dev_names();
	test_node_try();
	return test_end();
}
