/* SPDX-License-Identifier: MIT */
/* sys: see sys.h. */
#include "lib/sys.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void *pages_get(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void pages_put(void *p, size_t len)
{
	if (p)
		munmap(p, len);
}

void fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

void fds_close_from(int first)
{
	(void)syscall(SYS_close_range, first, ~0U, 0);
}

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

void nap_ms(int ms)
{
	struct timespec ts = { .tv_nsec = ms * 1000000L };

	nanosleep(&ts, NULL);
}
