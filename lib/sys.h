/* SPDX-License-Identifier: MIT */
/* sys: pages, the clock and descriptors, as every room needs them. */
#ifndef LIB_SYS_H
#define LIB_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* The kernel's, which not every libc has. */
#ifndef FALLOC_FL_PUNCH_HOLE
#define FALLOC_FL_KEEP_SIZE	1	/* linux/falloc.h */
#define FALLOC_FL_PUNCH_HOLE	2
#endif
#ifndef FALLOC_FL_ZERO_RANGE
#define FALLOC_FL_ZERO_RANGE	0x10
#endif
#ifndef SEEK_DATA
#define SEEK_DATA		3
#define SEEK_HOLE		4
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22	/* Linux 5.14 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23	/* Linux 5.14 */
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24	/* Linux 5.18 */
#endif
#ifndef RWF_NOWAIT
#define RWF_NOWAIT		8	/* linux/fs.h */
#endif

/* n, or the next multiple of unit above it. */
static inline uint64_t round_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

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

/* A memfd of so many bytes, all zero, which nobody is ever to run. Returns it or -errno. */
int memfd_make(const char *name, uint64_t len);

/* Close a descriptor; a negative one is nothing. */
void fd_close(int fd);

/* Close all descriptors from this one on. */
void fds_close_from(int first);

/* The same but for one; one that is less is none. */
void fds_close_but(int first, int keep);

/*
 * preadv2() or pwritev2() of these, which fails with EAGAIN rather than waits
 * for a disk: nr is SYS_preadv2 or SYS_pwritev2. Returns bytes or -errno.
 */
int rw_nowait(long nr, int fd, const struct iovec *iov, unsigned n, uint64_t off);

/* Write all of it, at off, or, where that is less than 0, where fd stands. Returns 0 or -errno. */
int write_all(int fd, const void *data, uint64_t len, int64_t off);

/*
 * fork(), but in musl without what that does for memory allocation, stdio and
 * handlers, none of which this program has, and which is a 70th of it.
 */
pid_t fork_plain(void);

/* Microseconds, milliseconds of CLOCK_MONOTONIC. */
int64_t now_us(void);
int64_t now_ms(void);

/* Sleep so many milliseconds, less than a second; a signal may end it earlier. */
void nap_ms(int ms);

#endif
