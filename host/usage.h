/* SPDX-License-Identifier: MIT */
/*
 * usage: who uses a device, as /proc and /sys tell. Decided by device numbers:
 * a name is whatever somebody has called it. Nothing here opens a device, but
 * /proc may be large or slow, so it is not for a server that has to serve.
 */
#ifndef HOST_USAGE_H
#define HOST_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "include/ublk_cmd.h"

enum {
	USAGE_CLAIMED = 1,	/* the kernel says that somebody has claimed it: names may say who */
	USAGE_MAPPED = 2,	/* look for mappings as well, which takes its time */
	USAGE_UNCLAIMED = 4,	/* the kernel says that nobody has: mounts, swap and holders would */
};

/*
 * Is the disk or one of its partitions in use, as far as can be seen, and by
 * what? The words go to text.
 */
bool usage_seen(uint32_t id, unsigned how, char *text, size_t len);

/* Is there something on top of the disk or of a partition that has a cache of its own: device-mapper, md, loop? */
bool usage_stacked(uint32_t id);

/*
 * The process that has /dev/ublkcN open, which its server has; 0: there is none.
 * pid, which the driver tells and may be of another namespace or of a server
 * that is long dead, is looked at first, and believed where that is forbidden.
 */
int usage_server(uint32_t id, int pid);

/*
 * Has one of these processes but number except, the servers of devices, 0 for
 * none, something open that lies on this one: the disk, a partition, a file in a
 * filesystem on it, with device-mapper, md and loop in between, however deep? A
 * filesystem whose files have no disk's number (btrfs, overlayfs) is not seen.
 */
bool usage_carries(uint32_t id, const int *pids, int nr, int except);

/* Of a link in /proc/PID/fd: is it for reading or writing? What was opened by O_PATH, which anybody may do, holds nothing. */
bool link_holds(int dir, const char *name);

/* A live device that has a server. */
bool info_has_server(const struct ublksrv_ctrl_dev_info *info);

/* The process that has a flock on this file, as /proc/locks tells; 0: it does not. */
int lock_holder(dev_t dev, ino_t ino);

#endif
