/* SPDX-License-Identifier: MIT */
/* sys: see sys.h. */
#include "lib/sys.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What pages_map() refuses by itself, where the longest object has max bytes. 0 or an errno. */
static int map_refused(uint64_t len, uint64_t off, uint64_t max)
{
	if (len > max)
		return ENOMEM;
	return off > INT64_MAX || len > INT64_MAX - off ? EOVERFLOW : 0;
}

_Static_assert(sizeof(off_t) == 8, "offsets of mappings are not cut");

void *pages_map(uint64_t len, int prot, int flags, int fd, uint64_t off)
{
	const int refused = map_refused(len, off, SIZE_MAX);
	void *p;

	if (refused) {
		errno = refused;
		return NULL;
	}
	p = mmap(NULL, (size_t)len, prot, flags, fd, (off_t)off);
	return p == MAP_FAILED ? NULL : p;
}

void *pages_get(uint64_t len)
{
	return pages_map(len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void pages_put(void *p, uint64_t len)
{
	if (p)
		munmap(p, (size_t)len);	/* it fitted when it was mapped */
}

void fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

int memfd_make(const char *name, uint64_t len)
{
	enum { CLOEXEC = 1, NOEXEC_SEAL = 8 };	/* linux/memfd.h; the second since 6.3, where it may be demanded */
	int err, fd = (int)syscall(SYS_memfd_create, name, CLOEXEC | NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL)
		fd = (int)syscall(SYS_memfd_create, name, CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)len) == 0)
		return fd < 0 ? -errno : fd;
	err = errno;
	close(fd);
	return -err;
}

void fds_close_from(int first)
{
	(void)syscall(SYS_close_range, first, ~0U, 0);
}

void fds_close_but(int first, int keep)
{
	if (keep > first)
		(void)syscall(SYS_close_range, first, keep - 1, 0);
	fds_close_from(keep >= first ? keep + 1 : first);
}

int rw_nowait(long nr, int fd, const struct iovec *iov, unsigned n, uint64_t off)
{
	/* low and high half of the offset; where a long has 64 bits the second is not looked at */
	long ret = syscall(nr, fd, iov, (long)n, (long)off, (long)(off >> 16 >> 16), RWF_NOWAIT);

	return ret < 0 ? -errno : (int)ret;
}

int write_all(int fd, const void *data, uint64_t len, int64_t off)
{
	const char *p = data;

	while (len) {
		ssize_t put = off < 0 ? write(fd, p, (size_t)len) : pwrite(fd, p, (size_t)len, (off_t)off);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put ? -errno : -EIO;
		p += put;
		len -= (uint64_t)put;
		off += off < 0 ? 0 : put;
	}
	return 0;
}

pid_t fork_plain(void)
{
#ifdef __GLIBC__
	return fork();
#else
	return _Fork();
#endif
}

int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

int64_t now_ms(void)
{
	return now_us() / 1000;
}

void nap_ms(int ms)
{
	(void)poll(NULL, 0, ms);
}
