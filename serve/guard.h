/* SPDX-License-Identifier: MIT */
/* guard: --resilient, the parent of the servers of one device, one after the other. */
#ifndef GUARD_H
#define GUARD_H

#include "include/server.h"

/* Start servers of this device until one ends because it should, or none lives. Returns the exit status. */
int guard(struct server *s);

#endif
