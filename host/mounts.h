/* SPDX-License-Identifier: MIT */
/* mounts: the caller's mounts left, and ours in their place. */
#ifndef HOST_MOUNTS_H
#define HOST_MOUNTS_H

#include <stdbool.h>

/* Once is enough. Returns 0, or -errno with all as it was. */
int mounts_leave(void);

/* For a verb that looks around: /proc and /sys, mounted or not. */
void mounts_complete(void);

/* Has mounts_leave() been successful? */
bool mounts_are_left(void);

/* The caller's /dev, if nobody but us makes nodes there, open; else -1. */
int mounts_caller_dev(void);

/* Is our own /dev without the driver's nodes, as there is no devtmpfs? */
bool mounts_lack_nodes(void);

#endif
