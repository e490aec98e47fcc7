/* SPDX-License-Identifier: MIT */
/* fail: what the user is told when something did not work, and with which status. */
#ifndef HOST_FAIL_H
#define HOST_FAIL_H

#include "include/steps.h"

#define HINT_ROOT "run it as root, or see \"ublk check\" for what it takes without"

/*
 * Print the one line that a failed verb leaves, and give its exit status.
 * err is an errno or its negative; why, if not NULL, is said instead of strerror().
 */
int fail(const char *object, enum step step, int err, const char *why);

/* Why io_uring_setup() says EPERM: that has two sources, and only one has a file. */
const char *uring_forbidden(void);

#endif
