/* SPDX-License-Identifier: MIT */
/*
 * cookie: what the kernel keeps for us.
 *
 * A device number says little: it is used again as soon as it is free. What
 * ADD_DEV puts into ublksrv_flags stays with the device, even without a server:
 * a mark that it is ours, what it is made of and how, 28 random bits to tell it
 * from the next one, and 20 that tell its storage from others.
 */
#ifndef COOKIE_H
#define COOKIE_H

#include <stdbool.h>
#include <stdint.h>

#include "include/backend.h"

#define COOKIE_DIRECT		(1ULL << 48)
#define COOKIE_RESILIENT	(1ULL << 49)
#define COOKIE_SNAPSHOT		(1ULL << 50)
#define COOKIE_IDENTITY		((uint64_t)DEV_IDENTITY)
#define COOKIE_TYPES		16	/* type is less than that */

/* All of a cookie but the identity, which is known when the backend is open. */
uint64_t cookie_make(unsigned type, const struct options *o);

/* Is it a cookie that we have made? */
bool cookie_is_ours(uint64_t cookie);

/* Which of the backends it is made of: their numbers are the command line's. */
unsigned cookie_type(uint64_t cookie);

#endif
