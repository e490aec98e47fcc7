/* SPDX-License-Identifier: MIT */
/*
 * For a build of ublk that meets with misfortune, as the environment says:
 * DIE_AT=N: the server in the background dies by SIGKILL at the Nth of its ring
 * operations. LEAN: it is told that no memory is left. NO_DEVTMPFS: the kernel
 * has none. Linked with -Wl,--wrap= for each of the functions below.
 */
#include "uring.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

int __real_uring_init(struct uring *ring, unsigned entries, unsigned flags);
int __real_uring_enter(struct uring *ring, unsigned wait_nr, int timeout_ms);
int __real_uring_register(struct uring *ring, unsigned opcode, const void *arg, unsigned nr);
int __wrap_uring_init(struct uring *ring, unsigned entries, unsigned flags);
int __wrap_uring_enter(struct uring *ring, unsigned wait_nr, int timeout_ms);
int __wrap_uring_register(struct uring *ring, unsigned opcode, const void *arg, unsigned nr);

ssize_t __real_pread(int fd, void *buf, size_t len, off_t off);
ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t off);

/* The server leads its session; the process that waits for it does not. */
static void step(void)
{
	static int n;
	const char *at = getenv("DIE_AT");

	if (at && getsid(0) == getpid() && ++n == atoi(at))
		raise(SIGKILL);
}

int __wrap_uring_init(struct uring *ring, unsigned entries, unsigned flags)
{
	step();
	return __real_uring_init(ring, entries, flags);
}

/* Counted before and after: the operation may have been done when it dies. */
int __wrap_uring_enter(struct uring *ring, unsigned wait_nr, int timeout_ms)
{
	int ret;

	step();
	ret = __real_uring_enter(ring, wait_nr, timeout_ms);
	step();
	return ret;
}

int __wrap_uring_register(struct uring *ring, unsigned opcode, const void *arg, unsigned nr)
{
	step();
	return __real_uring_register(ring, opcode, arg, nr);
}

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t off)
{
	ssize_t n = __real_pread(fd, buf, len, off);

	if (n > 9 && getenv("LEAN") && !memcmp(buf, "MemTotal:", 9))
		n = snprintf(buf, len, "MemTotal: 1000000 kB\nMemAvailable: 0 kB\n");
	return n;
}

int __real_mount(const char *from, const char *to, const char *type, unsigned long flags, const void *data);
int __wrap_mount(const char *from, const char *to, const char *type, unsigned long flags, const void *data);

int __wrap_mount(const char *from, const char *to, const char *type, unsigned long flags, const void *data)
{
	if (type && !strcmp(type, "devtmpfs") && getenv("NO_DEVTMPFS")) {
		errno = ENODEV;
		return -1;
	}
	return __real_mount(from, to, type, flags, data);
}
