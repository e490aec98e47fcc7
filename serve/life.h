/* SPDX-License-Identifier: MIT */
/* life: a server from its start to its end, and how it tells of itself. */
#ifndef LIFE_H
#define LIFE_H

#include <stdint.h>
#include <sys/types.h>

#include "include/server.h"

/* What a server tells the process that waits for it. */
struct report {
	uint32_t id;
	uint16_t queues, depth;
};

/* One line on stdout: the node. Returns 0 or -errno. */
int print_node(uint32_t id);

/*
 * Fork a server off, which serves the device or guards the one that does. It
 * reports by one pipe, whose end is also its own, however that comes about; the
 * end of the other tells it of ours. Each side gets its ends, to close. Returns
 * as fork() does, or -errno.
 */
pid_t server_fork(int *report_fd, int *hold_fd);

/* Tell whoever waits that the device is there: a process, or a person and a script. */
int server_announce(struct server *s);

/* The one line of a server, or of its guard, that did not get anywhere. */
int server_fail(const struct server *s, enum step step, int err);

/* A server from its start to its end, in a process of its own or the user's. Returns its exit status. */
int server_life(struct server *s);

#endif
