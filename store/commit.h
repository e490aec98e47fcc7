/* SPDX-License-Identifier: MIT */
/*
 * commit: the changes of a snapshot into its file, by another process than its
 * server. That goes on serving, also what changes meanwhile.
 */
#ifndef STORE_COMMIT_H
#define STORE_COMMIT_H

#include "store/changes.h"

/*
 * Write to fd all that differs from the file, with progress, and sync it. What
 * is changed while it is written is written again, a few times. May be repeated
 * after any failure: whatever was not given back is written. Returns 0, -EBUSY
 * if it is changed again and again, or -errno.
 */
int commit_write(struct changes *c, int fd);

#endif
