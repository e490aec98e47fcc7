/* SPDX-License-Identifier: MIT */
/* sys: pages, the clock and descriptors, as every room needs them. */
#ifndef LIB_SYS_H
#define LIB_SYS_H

#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/*
 * Memory in whole pages, all zero, for munmap(); NULL: there is none. What is
 * large or lives long here is nothing else, and malloc() would be 7 KB of code.
 */
void *pages_get(uint64_t len);

/*
 * mmap(), of sizes as devices and files have them: NULL and errno, which is
 * ENOMEM for what this machine has no addresses for (on 32 bit it would be cut
 * to what fits) and EOVERFLOW for an offset that no file has.
 */
void *pages_map(uint64_t len, int prot, int flags, int fd, uint64_t off);

/* Give them back; NULL is nothing. */
void pages_put(void *p, uint64_t len);

/* Close a descriptor; a negative one is nothing. */
void fd_close(int fd);

/* Close all descriptors from this one on. */
void fds_close_from(int first);

/* The same but for one; one that is less is none. */
void fds_close_but(int first, int keep);

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t now_ms(void);

/* Sleep so many milliseconds, less than a second; a signal may end it earlier. */
void nap_ms(int ms);

#endif
