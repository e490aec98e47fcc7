/* SPDX-License-Identifier: MIT */
/*
 * disk: the node as a client sees it. All of this may wait for the device's
 * server, so it is never for that itself; a process that can be left behind is.
 */
#ifndef HOST_DISK_H
#define HOST_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Open the node, look for partitions if that is wanted, and read the first block. Returns 0 or -errno. */
int disk_try(uint32_t id, uint32_t block_size, bool rescan, bool given);

/* How many requests its clients may have under way. No word on failure: it is for the worst case only. */
void disk_limit(uint32_t id, uint32_t nr_requests);

/*
 * Is it in use, and by what? The kernel is asked for a claim, by an exclusive
 * open, and /proc and /sys for who that may be, and for users who claim nothing.
 * how: see usage_seen(). The words go to text.
 */
bool disk_in_use(uint32_t id, unsigned how, char *text, size_t len);

/*
 * Write back what is dirty on the disk and its partitions, also of filesystems
 * that are mounted from them, and whatever device-mapper, md and loop have made of
 * them. Returns 0 or -errno, the first one.
 */
int disk_flush(uint32_t id);

#endif
