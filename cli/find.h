/* SPDX-License-Identifier: MIT */
/* find: which device is meant, and what it shows. */
#ifndef FIND_H
#define FIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "include/ctrl.h"

/*
 * Open the control plane to look at devices, without loading the driver: not
 * loaded, though it could be, means that there are none. Returns 0 or -errno,
 * -ENODEV for that.
 */
int ctrl_open_to_look(struct ctrl *c);

/*
 * A device by any of its names: number, node, or the file that it shows.
 * Returns 0, -ENODEV, or -ENOTUNIQ if several devices show that file.
 */
int dev_resolve(struct ctrl *c, const char *name, uint32_t *id);

/*
 * The same as a verb begins with, from opening the control plane on: c->info is
 * then the device's. Returns 0, or -errno with c->step set.
 */
int dev_look(struct ctrl *c, const char *name);

/*
 * Have a live device that nobody uses to ourselves, for as long as the descriptor
 * that this returns is open: of its node, for reading. Or -errno; -EBUSY: it is in
 * use, text may say by what, and for longer than udev may have it.
 */
int dev_claim(struct ctrl *c, uint32_t id, char *text, size_t len);

/* What -errno of dev_resolve() means, or NULL: as strerror() has it. */
const char *resolve_why(int err);

/*
 * The backing of a device of ours: the file or block device that its server,
 * process pid, has open. Returns whether there is one.
 */
bool info_backing(const struct ublksrv_ctrl_dev_info *info, int pid, char *path, size_t len, struct stat *st);

/*
 * Is this what ctrl_get_info() says of a device that does not count among all: it
 * went while we looked, or is another's, and we are not root?
 */
bool info_is_not_ours(int err);

/* The memory that a device of ours takes for what it holds, in bytes. False: it has none, or that cannot be told. */
bool info_used(const struct ublksrv_ctrl_dev_info *info, int pid, uint64_t *bytes);

#endif
