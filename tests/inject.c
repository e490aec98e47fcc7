/* SPDX-License-Identifier: MIT */
/*
 * inject [OPERATIONS]: the file backend on a file whose every operation may
 * fall short, be interrupted, or be told to come again; against a model. What
 * is committed must be whole, and the file the model, byte for byte. Linked
 * with -Wl,--wrap=pread,--wrap=pwrite,--wrap=syscall. Runs here and in the VM.
 */
#include "include/backend.h"
#include "lib/say.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SIZE	(4U << 20)
#define MAX_IO	(64U << 10)

ssize_t __real_pread(int fd, void *buf, size_t len, off_t off);
ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t off);
long __real_syscall(long nr, long a, long b, long c, long d, long e, long f);
ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t off);
long __wrap_syscall(long nr, long a, long b, long c, long d, long e, long f);

extern const struct backend backend_file;

struct queue {
	struct dev dev;
	struct io_uring_sqe sqe;
};

static bool injecting;
static unsigned long shorts, interrupted, again;

struct dev *queue_dev(const struct queue *q)
{
	return (struct dev *)&q->dev;
}

int queue_fd(const struct queue *q)
{
	return q->dev.fd;
}

void queue_push(struct queue *q)
{
	(void)q;
}

struct io_uring_sqe *io_sqe(struct queue *q, const struct io *io)
{
	(void)io;
	memset(&q->sqe, 0, sizeof(q->sqe));
	return &q->sqe;
}

/* 0, or an error instead of the operation; *len may become less. */
static int inject(size_t *len)
{
	if (!injecting)
		return 0;
	switch (rand() % 8) {
	case 0:
		interrupted++;
		return EINTR;
	case 1:
		again++;
		return EAGAIN;
	case 2:
	case 3:
		if (*len > 1) {
			shorts++;
			*len = 1 + (size_t)rand() % (*len - 1);
		}
	}
	return 0;
}

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t off)
{
	errno = inject(&len);
	return errno ? -1 : __real_pread(fd, buf, len, off);
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t off)
{
	errno = inject(&len);
	return errno ? -1 : __real_pwrite(fd, buf, len, off);
}

long __wrap_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	struct iovec iov;

	if ((nr != SYS_preadv2 && nr != SYS_pwritev2) || c != 1)
		return __real_syscall(nr, a, b, c, d, e, f);
	iov = *(const struct iovec *)b;
	errno = inject(&iov.iov_len);
	return errno ? -1 : __real_syscall(nr, a, (long)&iov, c, d, e, f);
}

/* What a ring would do with the SQE. Returns res. */
static int perform(const struct queue *q, const struct io *io)
{
	const struct io_uring_sqe *sqe = &q->sqe;
	const bool fixed = sqe->opcode == IORING_OP_READ_FIXED || sqe->opcode == IORING_OP_WRITE_FIXED;
	char *buf = fixed ? (char *)io->buf + sqe->addr : (char *)(uintptr_t)sqe->addr;
	size_t len = sqe->len;
	ssize_t ret = inject(&len);

	if (ret)
		return -(int)ret;
	switch (sqe->opcode) {
	case IORING_OP_READ:
	case IORING_OP_READ_FIXED:
		ret = __real_pread(q->dev.fd, buf, len, (off_t)sqe->off);
		break;
	case IORING_OP_WRITE:
	case IORING_OP_WRITE_FIXED:
		ret = __real_pwrite(q->dev.fd, buf, len, (off_t)sqe->off);
		break;
	case IORING_OP_FSYNC:
		return 0;	/* of a million, this is not a test of the disk */
	case IORING_OP_FALLOCATE:
		ret = fallocate(q->dev.fd, (int)sqe->len, (off_t)sqe->off, (off_t)sqe->addr);
		break;
	default:
		return -EINVAL;
	}
	return ret < 0 ? -errno : (int)ret;
}

/* One request from queue() to its result. */
static int run(struct queue *q, struct io *io)
{
	int ret = backend_file.queue(q, io);

	while (ret == IO_QUEUED || ret == IO_QUEUED_LAST)
		ret = backend_file.complete(q, io, perform(q, io));
	return ret;
}

static const uint8_t ops[] = {
	UBLK_IO_OP_READ, UBLK_IO_OP_WRITE, UBLK_IO_OP_READ, UBLK_IO_OP_WRITE, UBLK_IO_OP_READ, UBLK_IO_OP_WRITE,
	UBLK_IO_OP_FLUSH, UBLK_IO_OP_DISCARD, UBLK_IO_OP_WRITE_ZEROES,
};

static bool one(struct queue *q, char *model, char *buf, unsigned seed)
{
	struct io io = { .op = ops[(unsigned)rand() % sizeof(ops)], .buf = buf };
	int ret, want;

	io.off = (uint64_t)(rand() % (SIZE / 512)) * 512;
	io.len = (uint32_t)(1 + rand() % (rand() % 8 ? 16 : MAX_IO / 512)) * 512;
	if (io.off + io.len > SIZE)
		io.len = SIZE - (uint32_t)io.off;
	if (io.op == UBLK_IO_OP_WRITE) {
		for (uint32_t i = 0; i < io.len; i += 4)
			memcpy(buf + i, &(unsigned){ seed * 2654435761U + i }, 4);
		io.flags = rand() % 4 ? 0 : UBLK_IO_F_FUA;
	}
	want = io.op == UBLK_IO_OP_READ || io.op == UBLK_IO_OP_WRITE ? (int)io.len : 0;
	ret = run(q, &io);
	if (ret != want) {
		printf("# op %u of %u bytes at %llu: %d\n", io.op, io.len, (unsigned long long)io.off, ret);
		return false;
	}
	if (io.op == UBLK_IO_OP_WRITE)
		memcpy(model + io.off, buf, io.len);
	if (io.op == UBLK_IO_OP_DISCARD || io.op == UBLK_IO_OP_WRITE_ZEROES)
		memset(model + io.off, 0, io.len);
	return io.op != UBLK_IO_OP_READ || !memcmp(io.buf, model + io.off, io.len);
}

static bool mode(const char *name, const struct options *o, unsigned long nr)
{
	static char model[SIZE], back[SIZE], buf[MAX_IO] __attribute__((aligned(4096)));
	struct queue q = { .dev.fd = -1 };
	const char *why = NULL;
	unsigned long i = 0;
	bool ok = backend_file.open(&q.dev, o, &why) == 0;

	memset(model, 0, sizeof(model));
	injecting = true;
	while (ok && i < nr)
		ok = one(&q, model, buf, (unsigned)i++);
	injecting = false;
	if (q.dev.priv) {
		ok = ok && __real_pread(q.dev.fd, back, SIZE, 0) == SIZE && !memcmp(model, back, SIZE);
		backend_file.close(&q.dev);
	}
	printf("%s - inject: %s: %lu operations whole, and the data as in the model\n", ok ? "ok" : "FAIL", name, i);
	unlink(o->path);
	return ok;
}

int main(int argc, char **argv)
{
	struct options o = { .path = "inject.img", .size = SIZE, .max_io = MAX_IO, .create = true };
	const unsigned long nr = argc > 1 ? strtoul(argv[1], NULL, 10) / 2 : 20000;
	bool ok;

	quiet = true;
	srand(1);
	ok = mode("through the page cache", &o, nr);
	o.zero_copy = ZERO_COPY_ON;
	ok &= mode("zero copy", &o, nr);
	printf("# injected: %lu short, %lu EINTR, %lu EAGAIN\n", shorts, interrupted, again);
	return !ok;
}
