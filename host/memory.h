/* SPDX-License-Identifier: MIT */
/* memory: how much of it is left. */
#ifndef HOST_MEMORY_H
#define HOST_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* The machine's memory, in bytes; where it cannot be had, more than anybody wants and none locked. */
struct memory {
	int64_t total;
	int64_t locked;		/* by RAM disks, and held in tmpfs and the like: about so much of it nobody gives back */
	int64_t available;	/* as the kernel estimates it */
	int64_t dirty;		/* of any file or disk, also what is being written now */
	int64_t left;		/* the same without what is to be left to the rest of the machine; may be negative */
};

/* Ask the kernel. Takes some 10 us; allocates nothing once memory_keep() was called. */
void memory_get(struct memory *m);

/*
 * What this process has is not locked, so the kernel does not count it among what
 * is. Nobody knows how much of what others have is like that, so from now on all
 * that is not left is taken for locked.
 */
void memory_not_locked(void);

/*
 * From now on memory_get() is on the way of requests, which must not wait
 * for memory: opening a file takes some, and so does the first read.
 */
void memory_keep(void);

/*
 * What a process has of private memory that no child is to have and no core file
 * (MADV_DONTFORK, MADV_DONTDUMP), as a RAM disk's is, in memory and swapped out, in
 * bytes. False: that cannot be told.
 */
bool memory_of(int pid, uint64_t *bytes);

#endif
