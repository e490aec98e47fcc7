/* SPDX-License-Identifier: MIT */
/*
 * ctrl: the control plane, /dev/ublk-control. Where a server asks, its loop is
 * turned until the answer is there; whoever has no queue waits plainly.
 */
#ifndef CTRL_H
#define CTRL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/steps.h"
#include "include/ublk_cmd.h"
#include "uring.h"

#define SECTOR_SHIFT	9		/* the driver counts in these, nothing else here does */
#define GRACE_MS	500		/* for udev, which opens what it hears of */

struct queue;

/* How commands are numbered: found out by the first one that needs it. */
enum encoding { ENC_UNKNOWN, ENC_IOCTL, ENC_LEGACY };

/*
 * The control plane: /dev/ublk-control and a ring. Buffers that the kernel
 * writes to live here and not on a stack: a command whose deadline has passed
 * is still in flight.
 */
struct ctrl {
	int fd;
	struct uring ring;
	enum encoding enc;
	uint64_t features;	/* GET_FEATURES; 0 before 6.5 */
	enum step step;		/* the last thing tried, for the message */
	bool stay;		/* among the caller's mounts, which are still needed */
	int64_t since;		/* now_ms() when it was begun */
	unsigned told;		/* how often a person has been told that it takes long */
	int64_t deadline;	/* now_ms() when whatever is being done has taken too long */
	bool patient;		/* every request served puts it off: dirty pages take their time */

	uint32_t seq;		/* of the last command sent */
	bool answered;
	int32_t res;		/* of that command, once answered */
	enum { DEL_NONE, DEL_SENT, DEL_ANSWERED } del;	/* the one that follows STOP_DEV: dev_stop() */
	int32_t del_res;	/* of that one, once answered */
	uint64_t del_data;	/* its user_data */
	struct queue *serving;	/* the loop to turn meanwhile, or NULL */

	struct ublksrv_ctrl_dev_info info;
	struct ublk_params params;
	uint64_t features_buf;
	bool by_path;		/* commands to device path_id have its node's path in front of their buffer */
	uint32_t path_id;
	struct {
		char path[32];
		uint8_t buf[sizeof(struct ublk_params)];
	} staged;
	unsigned long cpus[1024 / 8 / sizeof(long)];	/* one queue's affinity */
};

#define CTRL_NONE { .fd = -1, .ring = URING_NONE }

/*
 * The one of a process that serves nothing, closed. Where it has been opened
 * and not closed since, what it had is forgotten.
 */
struct ctrl *ctrl_own(void);

/*
 * Open the control node, and load the driver for it, among the caller's mounts.
 * Returns 0 or -errno with c->step set.
 */
int ctrl_open_node(struct ctrl *c, bool load);

/*
 * Open the control plane, if need be from the node on: where nobody has made
 * that, among mounts of our own. Returns 0 or -errno with c->step set.
 */
int ctrl_open(struct ctrl *c, bool load);

/* Close what is open; the structure may be opened again. */
void ctrl_close(struct ctrl *c);

/* From now on there are 30 s for whatever is being done. */
void ctrl_set_deadline(struct ctrl *c);

/* Milliseconds until the deadline, or 0. */
int ctrl_left(const struct ctrl *c);

/* From now on commands to this device go by its node's path: it was made without privileges. */
void ctrl_by_path(struct ctrl *c, uint32_t id);

/* c->info of a device, be it one that its owner made without privileges. Returns 0, -ENODEV, -EPERM or -EACCES, or -ETIME. */
int ctrl_get_info(struct ctrl *c, uint32_t id);

/* c->params of a device. Returns 0, -ENODEV, -EPERM or -ETIME. */
int ctrl_get_params(struct ctrl *c, uint32_t id);

/* Is the device with this cookie no more at its number? Changes c->info. */
bool ctrl_is_gone(struct ctrl *c, uint32_t id, uint64_t cookie);

/*
 * Wait until the device has left its number, timeout_ms at most. Returns 0 or
 * -ETIME. DEL_DEV waits as well, but for the number to be free, and misses that
 * when somebody takes it at once.
 */
int ctrl_wait_gone(struct ctrl *c, uint32_t id, uint64_t cookie, int timeout_ms);

/*
 * Is the device in use? In a process of its own: looking takes its time, and
 * opening the node, if it is live, may wait for the server, which may be us; and
 * so that whoever asks, gets the same answer. Returns 0, -EBUSY with text filled
 * in, or another -errno.
 */
int dev_ask(struct ctrl *c, uint32_t id, bool live, char *text, size_t len);

/*
 * Have what is dirty on a device written through its server. In a process of its
 * own, since that waits for the server, which may be us. Returns 0, 1: not all of
 * it could be, or -errno.
 */
int dev_flush(struct ctrl *c, uint32_t id);

/*
 * STOP_DEV, unless somebody uses the device: the kernel itself says so where
 * it can (7.0), and before that a user who comes between look and stop loses.
 * Returns 0, or -EBUSY with text filled in, or another -errno.
 */
int dev_stop(struct ctrl *c, uint32_t id, bool force, char *text, size_t len);

/*
 * See a device that dev_stop() has stopped, or that was dead, removed and its
 * number free. Returns 0 or -errno. Not for its own server.
 */
int dev_remove(struct ctrl *c, uint32_t id, uint64_t cookie);

/*
 * DEL_DEV of a device that has no server any more, or never had one. Returns 0,
 * also where it is gone, -EBUSY if it is still open at the deadline, or another
 * -errno. At once where the driver can (6.9). Before that DEL_DEV waits until
 * nobody has the device open, and on 6.1 nobody can kill it or make or remove
 * another device meanwhile: so it is not sent before.
 */
int dev_del(struct ctrl *c, uint32_t id);

#endif
