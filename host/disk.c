/* SPDX-License-Identifier: MIT */
/* disk: see disk.h. */
#include "host/disk.h"
#include "host/mounts.h"
#include "host/nodes.h"
#include "host/usage.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define RRPART		0x125f		/* ioctl BLKRRPART: read the partition table again */
#define FLSBUF		0x1261		/* ioctl BLKFLSBUF: write back, also what is mounted on it, and drop */

int disk_try(uint32_t id, uint32_t block_size, bool rescan, bool given)
{
	char block[4096];
	int fd, ret = 0;

	fd = node_open(node_path(id).s, O_RDONLY, given);
	if (fd < 0)
		return fd;
	if (rescan)
		(void)ioctl(fd, RRPART);	/* no partitions is no reason to fail */
	errno = EIO;
	if (pread(fd, block, block_size, 0) != (ssize_t)block_size)
		ret = -errno;
	close(fd);	/* writes back what others left dirty */
	return ret;
}

void disk_limit(uint32_t id, uint32_t nr_requests)
{
	char path[64], text[16];
	const size_t n = text_print(text, sizeof(text), "%u", nr_requests);
	int fd;

	text_print(path, sizeof(path), "/sys/block/ublkb%u/queue/nr_requests", id);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, text, n) != (ssize_t)n)
		debug("%s: %s", path, strerror(errno));
	close(fd);
}

bool disk_in_use(uint32_t id, unsigned how, char *text, size_t len)
{
	int fd = node_try(node_path(id).s, O_RDONLY | O_EXCL, mounts_lack_nodes());
	const int err = fd < 0 ? errno : 0;

	fd_close(fd);
	how |= err == EBUSY ? USAGE_CLAIMED : err == 0 ? USAGE_UNCLAIMED : 0;
	if (usage_seen(id, how, text, len))
		return true;
	if (err == EBUSY)
		text_print(text, len, "claimed by somebody whom /proc does not show");
	else if (err && err != ENOENT && err != ENODEV && err != ENXIO)
		text_print(text, len, "perhaps in use: its node cannot be opened: %s", strerror(err));
	else
		return false;
	return true;
}

/* Write back what is dirty on one node, also of a filesystem that is mounted from it. */
static int disk_flush_node(const char *name)
{
	char path[300];
	int fd, ret;

	text_print(path, sizeof(path), "/dev/%s", name);
	fd = node_try(path, O_RDONLY, mounts_lack_nodes());
	if (fd < 0)
		return -errno;
	ret = fsync(fd) ? -errno : 0;
	/* what is mounted on it a user cannot have written, nor can he have mounted it */
	if (!ret && ioctl(fd, FLSBUF, 0) && errno != EACCES)
		ret = -errno;
	close(fd);
	return ret;
}

int disk_flush(uint32_t id)
{
	const char *name;
	struct parts p;
	int ret = 0, one;

	/* what one of a stack writes is dirty in the next: not many are deeper than this */
	for (int i = 0; i < 3 && usage_stacked(id); i++)
		sync();
	parts_open(&p, id);
	while ((name = parts_next(&p))) {
		one = disk_flush_node(name);
		if (!ret && one != -ENOENT && one != -ENXIO)	/* a partition that has just come or gone */
			ret = one;
	}
	parts_close(&p);
	return ret;
}
