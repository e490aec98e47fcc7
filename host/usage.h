/* SPDX-License-Identifier: MIT */
/* usage: who uses a device, as /proc and /sys tell. Nothing here opens a device. */
#ifndef HOST_USAGE_H
#define HOST_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "include/ublk_cmd.h"

/*
 * Is the device in use, and by what? The words go to text. Looks only into
 * /proc and /sys, which never waits for the device itself: a server may ask
 * about its own.
 */
bool dev_in_use(uint32_t id, char *text, size_t len);

/* Something on top of the disk or of a partition, device-mapper's or md's? */
bool usage_holder(uint32_t id, char *text, size_t len);

/* A process that has a node open, whose name is base and the number? */
bool usage_process(const char *base, uint32_t id, char *text, size_t len);

/* A live device whose server, as far as the driver says, still runs. */
bool info_has_server(const struct ublksrv_ctrl_dev_info *info);

/* The process that has a flock on this file, as /proc/locks tells; 0: it does not. */
int lock_holder(dev_t dev, ino_t ino);

#endif
