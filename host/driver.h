/* SPDX-License-Identifier: MIT */
/* driver: ublk_drv, where it is, how it is loaded, what it may know. */
#ifndef HOST_DRIVER_H
#define HOST_DRIVER_H

#include <stdbool.h>
#include <stddef.h>

/* Bits of info.flags and GET_FEATURES in order, and the kernel that brought each. */
extern const struct feature { const char *name, *since; } driver_features[];
extern const size_t driver_nr_features;

/* Could it be loaded? Its path, for people. */
bool driver_path(char *path, size_t len);

/* Load ublk_drv. No word on failure: opening the control node tells. */
void driver_load(void);

/* Is there certainly no driver, whatever is in /dev? */
bool driver_is_absent(void);

#endif
