/* SPDX-License-Identifier: MIT */
/* serve: the three ways to run a device. */
#ifndef SERVE_H
#define SERVE_H

#include <stdbool.h>

#include "include/server.h"

/*
 * Make a device, or take one over, in the way that the user wants it served:
 * as long as a command runs (NULL: there is none), in the background, or here.
 * Returns the exit status.
 */
int serve(const struct job *job, char **command, bool background);

#endif
