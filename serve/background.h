/* SPDX-License-Identifier: MIT */
/* background: a server in this process, or in one that stays when this one ends. */
#ifndef BACKGROUND_H
#define BACKGROUND_H

#include <stdbool.h>
#include <sys/types.h>

#include "include/server.h"
#include "serve/life.h"

/* A server in the background, as the process that started it sees it. */
struct background {
	pid_t pid;
	const struct job *job;
	struct report report;	/* of the device, once that is usable */
	int hold_fd;		/* as long as this is open, it serves; -1: for good */
};

/*
 * Make a device, or take it over, serve it, remove it. In the foreground both
 * descriptors are -1; otherwise they are the server's ends of struct background.
 */
int serve_here(const struct job *job, int report_fd, int hold_fd);

/*
 * Start a server in the background. Returns 0 when its device is usable, or the
 * exit status, having said why. With hold it serves as long as bg->hold_fd is open.
 */
int background_start(const struct job *job, struct background *bg, bool hold);

#endif
