/* SPDX-License-Identifier: MIT */
/* nodes: names and numbers of devices, and their nodes in /dev. */
#ifndef HOST_NODES_H
#define HOST_NODES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/read.h"

#define CTRL_NODE	"/dev/ublk-control"
#define NODE_BASE	"/dev/ublkb"
#define NODE_LEN	32		/* "/dev/ublkb1048575p255" and some */

/* The disk's node, "/dev/ublkb0", for as long as the expression lasts that it stands in. */
struct node_path { char s[NODE_LEN]; } node_path(uint32_t id);

/* A device's number from any of its names: "0", "ublkb0", "/dev/ublkb0", "/dev/ublkc0". */
bool parse_dev(const char *s, uint32_t *id);

/* Is this path <base><id>, or a partition of it, possibly with more words behind? */
bool is_node(const char *path, const char *base, uint32_t id);

/* The number of one of the driver's devices, "ublkb0p1", "ublkc0", "ublk-control", from sysfs; 0: unknown. */
dev_t node_devno(const char *name);

/* A disk's partitions, as /sys has them, and behind them the disk itself, be it there or not. */
struct parts {
	struct dir d;
	char disk[NODE_LEN];	/* "ublkb0" */
	char sys[64];		/* where in /sys the one lies that parts_next() has named */
	bool done;
};

/* Begin with a disk's; parts_close() gives back what that takes. */
void parts_open(struct parts *p, uint32_t id);

/* To be called once for each parts_open(). */
void parts_close(struct parts *p);

/* The name of the next one, "ublkb0p1", until the one after it is asked for; NULL: no more. */
const char *parts_next(struct parts *p);

/* Where the last of a disk's partitions ends, in bytes; 0: there is none. */
uint64_t parts_end(uint32_t id);

/* Where the caller's /dev is not the kernel's: the nodes of a disk and its partitions. Returns 0 or -errno. */
int nodes_make(uint32_t id);

/*
 * The device is gone, and in a /dev that the kernel does not fill nobody else
 * removes its nodes. Not opened to see: it may be another one of this number by now.
 */
void nodes_forget(uint32_t id);

/*
 * Open a node, by a path with a slash; if it is missing and ours to make, make
 * it. Returns it, or -1 with errno: EEXIST if something else is there, which is
 * neither opened, as far as can be, nor removed.
 */
int node_try(const char *path, int flags, bool ours);

/*
 * Open a node. It may take udev or mdev a moment to make it, and udev may hold
 * /dev/ublkcN, which has one opener at a time, for another. given: somebody has to
 * give it to us first, and may take longer. Returns it or -errno.
 */
int node_open(const char *path, int flags, bool given);

/* The numbers of all devices, sorted; *ids goes to dev_ids_end(). Returns how many. */
int dev_ids(uint32_t **ids);

/* Give back what dev_ids() has made; NULL is nothing. */
void dev_ids_end(uint32_t *ids);

#endif
