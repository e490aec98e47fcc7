/* SPDX-License-Identifier: MIT */
/* server: the life of a device, from its server's side. */
#ifndef SERVER_H
#define SERVER_H

#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "include/backend.h"
#include "include/ctrl.h"

#define MAX_DESCRIBED	64		/* queues with a description of their own */
#define ID_ANY		UINT32_MAX	/* ADD_DEV: the lowest free number */

/* What is to be served. */
struct job {
	const struct backend *be;
	struct options o;
	uint64_t cookie;		/* of the device to make, or to take over */
	bool recover;			/* the latter */
};

struct mail;

/* All there is of a device that this process serves. */
struct server {
	const struct backend *be;
	const struct options *o;
	struct dev dev;
	struct ctrl ctrl;
	uint32_t id;
	uint64_t cookie;
	bool opened, added;		/* the backend; the device */
	bool recover;			/* the device is there and waits for a server */
	bool guarded;			/* a guard waits for us: struct guard */
	bool restart;			/* a server of the same guard has been up before: recover, too */
	bool background;		/* to leave the caller's stdio and directory, when up */
	int char_fd;
	int described[MAX_DESCRIBED];	/* of each queue, see queue_fd(), until the end of the process; 0: none */
	int signal_fd;
	int report_fd, hold_fd;		/* the pipes of struct background or struct guard, or -1 */
	unsigned signals;		/* that asked us to stop: the most that one side has sent */
	unsigned handed, direct;	/* by our guard, and by others: a signal to both of us is one */
	int64_t heard_at;		/* the last of the others, now_ms(), and who sent it */
	uint32_t heard_from;
	bool rescan, probed;		/* the probe: is to find partitions; has ended */
	int probe_fd;			/* until it has its order; -1: none */
	pid_t probe_pid;
	struct mail *mail;		/* what others ask of us while we serve; NULL: they cannot */
	bool mailed;			/* there may be something in it */
	unsigned lost;			/* requests that were given up and have not come back; any queue's thread */
	void *sink;			/* where data goes that nobody wants */
	struct queue *queues;
	unsigned nr_queues;
	unsigned nr_threads;		/* started, thread 0 not counted */
	sem_t ready;			/* a queue thread has set up its queue or failed */
	const char *why;		/* words for a failure that errno does not tell */
};

#define NOT_THE_SAME "not what the device was made of: another file, or another --offset"

/*
 * Open the storage. Of a device that is there already it must be the same, as
 * far as 20 bits tell.
 */
int server_open(struct server *s);

/*
 * Open the control node, with the driver loaded for it, and leave the caller's
 * mounts if nothing more is to be opened there: the probe then need not do so
 * by itself. Returns 0 or -errno.
 */
int server_reach(struct server *s);

/*
 * Fork the probe, before anything is open that it must not hold: server_up()
 * uses it. Returns 0 or -errno.
 */
int probe_fork(struct server *s);

/*
 * The whole way up. Returns 0, or -errno with ctrl.step set and much for
 * server_down() to undo.
 */
int server_up(struct server *s);

/* Serve until the device is stopped: by a signal to us, or by anybody else. */
void server_run(struct server *s);

/*
 * The whole way down, from wherever server_up() got to. The order is the
 * driver's: tags gone, then DEL_DEV marked while the character device is still
 * ours, so that it cannot hit a successor under the same number, then every
 * reference dropped, in whatever form, then the number is free.
 */
int server_down(struct server *s);

#endif
