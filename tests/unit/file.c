/* SPDX-License-Identifier: MIT */
/* backend_file: what it makes of results, without a disk that misbehaves */
#include "tests/unit/test.h"
#include "ublk.c"

/* A disk that takes its time, and a processor that others have. */
static enum { DISK_QUICK, DISK_SLOW, CPU_BUSY } slow;
static void slow_down(void);

static ssize_t slow_pwrite(int fd, const void *buf, size_t len, off_t off)
{
	slow_down();
	return pwrite(fd, buf, len, off);
}

static int slow_fdatasync(int fd)
{
	slow_down();
	return fdatasync(fd);
}

/* What has last been said to be cold. */
static const void *cold;
static int noted_madvise(void *p, size_t len, int advice)
{
	if (advice == MADV_COLD)
		cold = p;
	return madvise(p, len, advice);
}
#define pwrite slow_pwrite
#define fdatasync slow_fdatasync
#define madvise noted_madvise
#include "backend_file.c"
#undef pwrite
#undef fdatasync
#undef madvise
#include "tests/unit/fake.h"

#include <sys/mount.h>
#include <sys/stat.h>

static char test_bufs[4 * (64 << 10)];
static struct queue file_q;
static struct fake file_fake;
static struct io file_io;

/* The SQE that the last call left, or NULL if it left none. */
static const struct io_uring_sqe *file_sqe(void)
{
	uint32_t tail = file_q.ring.sq_tail;

	if (file_fake.sq_head == tail)
		return NULL;
	fake_take(&file_fake, &file_q.ring);
	return &file_fake.sqes[(tail - 1) & file_q.ring.sq_mask];
}

static int file_begin(unsigned op, uint32_t flags)
{
	file_io = (struct io){ .op = (uint8_t)op, .flags = flags, .off = 8192, .len = 4096, .tag = 3,
			       .buf = test_bufs };
	if (op == UBLK_IO_OP_FLUSH)
		file_io.len = 0;
	return backend_file.queue(&file_q, &file_io);
}

static int file_end(int res)
{
	return backend_file.complete(&file_q, &file_io, res);
}

static struct file *file_priv(void)
{
	return queue_dev(&file_q)->priv;
}

/* The FUA write that file_begin() began, through the page cache: it succeeds, and its sync ends with res. */
static int file_fua_end(int res)
{
	const struct io_uring_sqe *s = file_sqe();
	bool ok = s && s->opcode == IORING_OP_WRITE && !s->rw_flags && file_end(512) == IO_QUEUED &&
		  (s = file_sqe()) && s->opcode == IORING_OP_WRITE && s->len == 3584 && file_end(3584) == IO_QUEUED &&
		  (s = file_sqe()) && s->opcode == IORING_OP_FSYNC && s->fsync_flags == IORING_FSYNC_DATASYNC &&
		  s->off == file_priv()->base + 8192 && s->len == 4096 && file_end(-EINTR) == IO_QUEUED &&
		  (s = file_sqe()) && s->opcode == IORING_OP_FSYNC && s->len == 4096;

	return ok ? file_end(res) : -EINVAL;
}

static void test_file_results(void)
{
	const struct io_uring_sqe *s;
	bool ok;

	ok = file_begin(UBLK_IO_OP_READ, 0) == IO_QUEUED_LAST && (s = file_sqe()) && s->opcode == IORING_OP_READ &&
	     s->off == 65536 + 8192 && s->len == 4096 && s->addr == (uintptr_t)test_bufs &&
	     s->fd == BACKING_FILE && s->user_data == user_data_pack(KIND_BACKEND, 3);
	CHECK("file: a READ goes to its place in the window", ok && file_end(4096) == 4096 && !file_sqe());
	ok = file_begin(UBLK_IO_OP_WRITE, 0) == IO_QUEUED_LAST && file_sqe() && file_end(512) == IO_QUEUED &&
	     (s = file_sqe()) && s->opcode == IORING_OP_WRITE && s->off == 65536 + 8192 + 512 &&
	     s->len == 3584 && s->addr == (uintptr_t)test_bufs + 512 && !s->rw_flags &&
	     file_end(1) == IO_QUEUED && (s = file_sqe()) && s->len == 3583 && file_end(3583) == 4096;
	CHECK("file: a short result is continued until whole", ok);
	ok = file_begin(UBLK_IO_OP_WRITE, 0) == IO_QUEUED_LAST && file_sqe() && file_end(512) == IO_QUEUED &&
	     file_sqe() && file_end(-ENOSPC) == -ENOSPC && !file_sqe();
	CHECK("file: short, then no space: an error, not a short result", ok);
	ok = file_begin(UBLK_IO_OP_READ, 0) == IO_QUEUED_LAST && file_sqe() && file_end(-EINTR) == IO_QUEUED_LAST &&
	     (s = file_sqe()) && !(s->flags & IOSQE_ASYNC) && file_end(-EAGAIN) == IO_QUEUED_LAST &&
	     (s = file_sqe()) && s->flags & IOSQE_ASYNC && s->len == 4096 && file_end(4096) == 4096;
	CHECK("file: EINTR and EAGAIN are tried again", ok);
	quiet = true;
	ok = file_begin(UBLK_IO_OP_READ, 0) == IO_QUEUED_LAST && file_sqe() && file_end(1024) == IO_QUEUED &&
	     file_sqe() && file_end(0) == -EIO;
	quiet = false;
	CHECK("file: the end of the file inside a READ is an error",
	      ok && file_begin(UBLK_IO_OP_WRITE, 0) == IO_QUEUED_LAST && file_sqe() && file_end(0) == -EIO);
	ok = file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && file_fua_end(0) == 4096 && !file_sqe();
	CHECK("file: a FUA write through the page cache is a write and a sync of it", ok);
	file_priv()->direct = true;
	ok = file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && (s = file_sqe()) &&
	     s->rw_flags == IORING_RWF_DSYNC && file_end(4096) == 4096 && !file_sqe();
	CHECK("file: direct FUA writes are RWF_DSYNC", ok);
	ok = file_begin(UBLK_IO_OP_DISCARD, 0) == IO_QUEUED && (s = file_sqe()) && s->opcode == IORING_OP_FALLOCATE &&
	     s->len == 3 && s->off == 65536 + 8192 && s->addr == 4096 && file_end(0) == 0 &&
	     file_begin(UBLK_IO_OP_WRITE_ZEROES, 0) == IO_QUEUED && (s = file_sqe()) && s->len == 3 &&
	     file_end(-EOPNOTSUPP) == -EOPNOTSUPP &&
	     file_begin(UBLK_IO_OP_WRITE_ZEROES, UBLK_IO_F_NOUNMAP) == IO_QUEUED && (s = file_sqe()) &&
	     s->len == 0x11 && file_end(0) == 0;
	CHECK("file: discard and write-zeroes make holes, NOUNMAP makes zeroes", ok);
	/* a filesystem that cannot: asked once */
	for (int i = 0; i < 2; i++) {
		ok = ok && file_begin(UBLK_IO_OP_WRITE_ZEROES, UBLK_IO_F_NOUNMAP) == IO_QUEUED && (s = file_sqe());
		if (ok && i == 0)
			ok = s->len == 0x11 && file_end(-EOPNOTSUPP) == IO_QUEUED && (s = file_sqe());
		ok = ok && s->len == 3 && s->off == 65536 + 8192 && s->addr == 4096 && file_end(-EINTR) == IO_QUEUED &&
		     (s = file_sqe()) && s->len == 3 && file_end(0) == IO_QUEUED && (s = file_sqe()) && s->len == 1 &&
		     s->off == 65536 + 8192 && s->addr == 4096 && file_end(i ? -EOPNOTSUPP : 0) == 0 && !file_sqe();
	}
	ok = ok && file_begin(UBLK_IO_OP_WRITE_ZEROES, UBLK_IO_F_NOUNMAP) == IO_QUEUED && file_sqe() &&
	     file_end(0) == IO_QUEUED && file_sqe() && file_end(-ENOSPC) == -ENOSPC &&
	     file_begin(UBLK_IO_OP_WRITE_ZEROES, 0) == IO_QUEUED && (s = file_sqe()) && s->len == 3 && file_end(0) == 0;
	CHECK("file: where zeroes cannot be made at once, a hole is made and filled", ok);
	ok = file_begin(UBLK_IO_OP_FLUSH, 0) == IO_QUEUED && (s = file_sqe()) && s->opcode == IORING_OP_FSYNC &&
	     s->fsync_flags == IORING_FSYNC_DATASYNC && !s->off && !s->len && file_end(0) == 0;
	CHECK("file: FLUSH is fdatasync of all of it", ok);
	for (int i = 0; i < 3; i++) {
		const int err = -(int[]){ ENOSPC, EDQUOT, EFBIG }[i];

		file_priv()->direct = true;
		ok = ok && file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && file_sqe() && file_end(err) == err &&
		     file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && file_sqe() && file_end(4096) == 4096;
		file_priv()->direct = false;
		ok = ok && file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && file_sqe() && file_end(err) == err &&
		     file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && file_fua_end(0) == 4096 &&
		     file_begin(UBLK_IO_OP_FLUSH, 0) == IO_QUEUED && file_sqe() && file_end(0) == 0;
	}
	CHECK("file: no space for a FUA write is an error of that write only", ok);
	ok = file_begin(UBLK_IO_OP_FLUSH, 0) == IO_QUEUED && file_sqe() && file_end(-ENOSPC) == -ENOSPC &&
	     file_begin(UBLK_IO_OP_FLUSH, 0) == -ENOSPC && file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == -ENOSPC;
	file_priv()->sync_err = 0;
	ok = ok && file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && file_fua_end(-ENOSPC) == -ENOSPC &&
	     file_begin(UBLK_IO_OP_FLUSH, 0) == -ENOSPC;
	file_priv()->sync_err = 0;
	file_priv()->direct = true;
	ok = ok && file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && file_sqe() && file_end(-EIO) == -EIO &&
	     file_begin(UBLK_IO_OP_FLUSH, 0) == -EIO;
	file_priv()->direct = false;
	file_priv()->sync_err = 0;
	CHECK("file: what a sync says stays, whatever it is, and EIO of a direct FUA write", ok);
	ok = file_begin(UBLK_IO_OP_FLUSH, 0) == IO_QUEUED && file_sqe() && file_end(-EIO) == -EIO &&
	     file_begin(UBLK_IO_OP_FLUSH, 0) == -EIO && !file_sqe() &&
	     file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == -EIO && !file_sqe() &&
	     file_begin(UBLK_IO_OP_WRITE, 0) == IO_QUEUED_LAST && file_sqe() && file_end(4096) == 4096;
	CHECK("file: the first fsync error stays, for FLUSH and FUA", ok);
}

/* Through the page cache of a file in memory: answered at once, without a ring. */
static void test_file_inline(void)
{
	struct options o = { .max_io = 1 << 20 };
	struct dev dev = { .fd = -1 };
	const char *why = NULL;
	int fd = memfd_create("unit", 0);
	char path[32];
	int mapped = 0, ret = 0;
	bool ok;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	o.path = path;
	ok = fd >= 0 && ftruncate(fd, 1 << 20) == 0 && backend_file.open(&dev, &o, &why) == 0 &&
	     dev.data_path == DATA_COPY;
	file_q.dev = &dev;
	for (off_t off = 0; off < 1 << 20 && ok; off += 65536)
		ok = pwrite(fd, test_bufs, 65536, off) == 65536;
	memset(test_bufs, 'x', 4096);
	ok = ok && file_begin(UBLK_IO_OP_WRITE, 0) == 4096 && !file_sqe() && pread(fd, test_bufs + 4096, 4096, 8192) == 4096 &&
	     memcmp(test_bufs, test_bufs + 4096, 4096) == 0;
	memset(test_bufs, 0, 4096);
	for (int i = 0; i < 8 && ok; i++) {	/* the later ones from the mapping */
		ok = file_begin(UBLK_IO_OP_READ, 0) == 4096 && !file_sqe() && *(char *)file_io.buf == 'x' &&
		     memcmp(file_io.buf, test_bufs + 4096, 4096) == 0;
		mapped += file_io.buf != test_bufs;
	}
	CHECK("file: what the page cache has and takes needs no ring", ok);
	CHECK("file: a window that is read again and again is mapped, if all of it is cached", ok && mapped > 0);
	ok = ok && file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && file_fua_end(0) == 4096;
	CHECK("file: a FUA write is the ring's all the same", ok);
	quiet = true;
	ok = ok && ftruncate(fd, 8192 + 512) == 0;
	/* for a second what was found out before may hold */
	for (int i = 0; i < 200 && (ret = file_begin(UBLK_IO_OP_READ, 0)) == 4096; i++)
		usleep(10000);
	ok = ok && ret == IO_QUEUED && file_sqe() && file_end(0) == -EIO &&
	     file_begin(UBLK_IO_OP_READ, 0) == IO_QUEUED && file_sqe() && file_end(0) == -EIO;
	quiet = false;
	CHECK("file: a READ beyond the end of a truncated file is an error, not a fault", ok);
	backend_file.close(&dev);
	close(fd);
}

/* Open a new memfd of that size, and say by what it is refused: "" if it is not. */
static const char *open_memfd(unsigned flags, off_t size, struct dev *dev)
{
	struct options o = { .max_io = 1 << 20 };
	const int fd = memfd_create("unit", flags);
	static char path[32];
	const char *why = NULL;
	int ret;

	if (fd < 0 || ftruncate(fd, size))
		return NULL;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	o.path = path;
	*dev = (struct dev){ .fd = -1 };
	ret = backend_file.open(dev, &o, &why);
	close(fd);
	return ret ? why : "";
}

/* FLUSH in the queue's thread, and when it is the ring's. */
static void test_file_flush(void)
{
	struct dev dev = { .fd = -1 };
	struct io done = { .op = UBLK_IO_OP_READ, .state = IO_SERVED, .tag = 1, .len = 4096, .res = 4096 }, *held[] = { &done };
	struct file *f;
	bool ok = open_memfd(0, 8 << 20, &dev) && dev.syncs;

	file_q.dev = &dev;
	file_q.fd = dev.fd;
	f = dev.priv;
	ok = ok && f->syncs_here;
	ok = ok && file_begin(UBLK_IO_OP_FLUSH, 0) == IO_QUEUED && file_sqe() && file_end(0) == 0;
	CHECK("file: the first FLUSH is the ring's: who knows how much there is to write", ok);
	CHECK("file: FLUSH of a file in memory needs no ring", ok && file_begin(UBLK_IO_OP_FLUSH, 0) == 0 && !file_sqe());
	file_q.held = held;
	file_q.nr_held = 1;
	ok = ok && file_begin(UBLK_IO_OP_FLUSH, 0) == 0 && !file_q.nr_held && done.state == IO_FETCHED && file_sqe();
	CHECK("file: what is done is handed over before that", ok);
	for (int i = 0; i < 1025 && ok; i++)
		ok = file_begin(UBLK_IO_OP_WRITE, 0) == 4096;
	ok = ok && file_begin(UBLK_IO_OP_FLUSH, 0) == IO_QUEUED && file_sqe() && file_end(0) == 0 &&
	     file_begin(UBLK_IO_OP_FLUSH, 0) == 0;
	CHECK("file: where much has been written it is the ring's", ok);
	f->sync_slow_until = coarse_ms() + 60000;
	ok = ok && file_begin(UBLK_IO_OP_FLUSH, 0) == IO_QUEUED && file_sqe() && file_end(0) == 0;
	CHECK("file: and after one that was slow", ok);
	f->sync_slow_until = 0;
	file_q.fd = -1;		/* EBADF, and that stays */
	ok = ok && file_begin(UBLK_IO_OP_FLUSH, 0) == -EBADF && !file_sqe();
	file_q.fd = dev.fd;
	CHECK("file: an error there is the first one, and stays", ok && file_begin(UBLK_IO_OP_FLUSH, 0) == -EBADF);
	backend_file.close(&dev);
}

static void slow_down(void)
{
	const int64_t start = coarse_ms();

	while (slow != DISK_QUICK && coarse_ms() - start < SLOW_MS)
		if (slow == DISK_SLOW)
			usleep(1000);
}

/* Are there still WRITEs in the queue's thread after so many that take long? */
static bool write_here(struct file *f, int kind, int times)
{
	f->slow_until = f->doubt_until = 0;
	slow = kind;
	while (times--) {
		if (file_begin(UBLK_IO_OP_WRITE, 0) != 4096)
			break;
		if (f->doubt_until)	/* however long this process is kept from running meanwhile */
			f->doubt_until += 60000;
	}
	slow = DISK_QUICK;
	if (f->slow_until)
		f->slow_until += 60000;
	return file_begin(UBLK_IO_OP_WRITE, 0) == 4096 && !file_sqe();
}

/* Is a FLUSH still there after one that takes long? */
static bool sync_here(struct file *f, int kind)
{
	f->unsynced = 0;
	f->sync_slow_until = 0;
	slow = kind;
	(void)file_begin(UBLK_IO_OP_FLUSH, 0);
	slow = DISK_QUICK;
	if (f->sync_slow_until)
		f->sync_slow_until += 60000;
	return file_begin(UBLK_IO_OP_FLUSH, 0) == 0 && !file_sqe();
}

/* Only what has slept has waited for a disk. */
static void test_file_slow(void)
{
	struct dev dev = { .fd = -1 };
	bool ok = open_memfd(0, 1 << 20, &dev);
	struct file *f = dev.priv;

	file_q.dev = &dev;
	file_q.fd = dev.fd;
	ok = ok && f->write_how == HOW_INLINE;
	CHECK("file: one WRITE that takes long may be for want of a processor", ok && write_here(f, DISK_SLOW, 1));
	CHECK("file: the second one that has slept is a slow disk's: the ring's", ok && !write_here(f, DISK_SLOW, 2) && file_sqe());
	CHECK("file: WRITEs that wait for a processor stay", ok && write_here(f, CPU_BUSY, 4));
	CHECK("file: so do FLUSHes", ok && sync_here(f, CPU_BUSY));
	CHECK("file: one that has slept makes the next the ring's", ok && !sync_here(f, DISK_SLOW) && file_sqe());
	backend_file.close(&dev);
}

/* Where the kernel is to copy a WRITE of 4 KiB at 8192 to, or NULL. */
static const char *placed(uint32_t flags)
{
	file_io = (struct io){ .op = UBLK_IO_OP_WRITE, .flags = flags, .off = 8192, .len = 4096, .tag = 3, .buf = test_bufs };
	return backend_file.place(&file_q, &file_io);
}

/* So many looks at a window, beginning with a second that has just begun. */
static bool placed_soon(struct file *f)
{
	f->touched = (uint32_t)(coarse_ms() >> 10);
	for (int i = 0; i < 2 * WINDOW_TRIES_READ; i++)
		if (placed(0))
			return true;
	return false;
}

static void test_file_place(void)
{
	struct dev dev = { .fd = -1 };
	struct file *f;
	bool ok = open_memfd(0, 2 << 20, &dev), there;

	file_q.dev = &dev;
	f = dev.priv;
	ok = ok && f->map_takes && !placed(0) && !placed_soon(f);
	CHECK("file: a WRITE is not placed where there is a hole", ok);
	memset(test_bufs, 'x', 65536);
	for (off_t off = 0; off < 2 << 20 && ok; off += 65536)
		ok = pwrite(dev.fd, test_bufs, 65536, off) == 65536;
	f->windows[0].seen = 0;
	there = ok && placed_soon(f);
	f->touched = (uint32_t)(coarse_ms() >> 10);
	CHECK("file: it is where all of a window of a file in memory is there", there && placed(0) == f->map + 8192);
	CHECK("file: not with FUA", there && !placed(UBLK_IO_F_FUA));
	f->touched--;
	CHECK("file: not the first of a second, for the file's times", there && !placed(0));
	(void)placed(0);
	backend_file.misplaced(&file_q, &file_io);
	CHECK("file: not again where nothing could be copied", there && !placed_soon(f));
	f->windows[0].seen = 0;
	ok = there && placed_soon(f) && file_begin(UBLK_IO_OP_DISCARD, 0) == IO_QUEUED && file_sqe() && file_end(0) == 0;
	CHECK("file: not where something has been discarded", ok && !placed_soon(f));
	backend_file.close(&dev);
}

/* Where the last of so many WRITEs, and no other, says that a page is cold, as an offset; -1: nowhere, -2: another. */
static long split_by(struct file *f, uint64_t off, uint32_t len, unsigned times)
{
	while (times--) {
		cold = NULL;
		file_io = (struct io){ .op = UBLK_IO_OP_WRITE, .off = off, .len = len, .tag = 3, .buf = test_bufs };
		if (backend_file.queue(&file_q, &file_io) != (int)len || file_sqe() || (cold && times))
			return -2;
	}
	return cold ? (const char *)cold - f->map : -1;
}

/* As if the second of what is known of the first window had passed. */
static void second_passes(struct file *f)
{
	f->windows[0].small -= 1 << 8;
}

static void test_file_split(void)
{
	struct dev dev = { .fd = -1 };
	struct file *f;
	bool ok = open_memfd(0, 3 << 20, &dev);

	file_q.dev = &dev;
	f = dev.priv;
	ok = ok && !f->splits && split_by(f, 8192, 4096, SMALL_WRITES) == -1;
	CHECK("file: folios are not split where it is of no use", ok && !f->windows[0].small);
	f->splits = true;
	ok = ok && split_by(f, 65536, 65536, 2 * SMALL_WRITES) == -1;
	CHECK("file: nor by large WRITEs", ok && !f->windows[0].small);
	f->windows[0].small = coarse_second() << 8;
	ok = ok && split_by(f, 65536, 4096, SMALL_WRITES - 1) == -1;
	second_passes(f);
	CHECK("file: nor by a few small ones", ok && split_by(f, 65536, 4096, 1) == -1);
	f->windows[0].small = coarse_second() << 8;
	ok = ok && split_by(f, 65536, 4096, 2 * SMALL_WRITES) == -1;
	second_passes(f);
	CHECK("file: after many the next one does, in a later second", ok && split_by(f, 65536 + 512, 1024, 1) == 65536);
	ok = ok && split_by(f, 65536, 4096, 1) == -1;
	CHECK("file: once", ok);
	f->windows[0].small = (coarse_second() << 8) + SMALL_WRITES;
	second_passes(f);
	f->slow_until = coarse_ms() + 60000;
	cold = NULL;
	ok = ok && file_begin(UBLK_IO_OP_WRITE, 0) == IO_QUEUED_LAST && file_sqe() && file_end(4096) == 4096 && !cold;
	f->slow_until = 0;
	CHECK("file: not where a disk is slow", ok && split_by(f, 65536, 4096, 1) == 65536);
	f->windows[1].small = ((coarse_second() - 1) << 8) + SMALL_WRITES;
	CHECK("file: nor where a page would have to be waited for", ok && split_by(f, 1 << 20, 4096, 1) == -1);
	dev.size += 1 << 20;
	ok = ok && ftruncate(dev.fd, 4 << 20) == 0 && split_by(f, 3 << 20, 4096, 2 * SMALL_WRITES) == -1;
	CHECK("file: nor in what it has grown by, which is not mapped", ok && !f->windows[3].small);
	backend_file.close(&dev);
}

static bool exchange_end;

/* Exchange the two names of a pair, until exchange_end. */
static void *exchange(void *arg)
{
	const char *const *names = arg;

	while (!__atomic_load_n(&exchange_end, __ATOMIC_RELAXED))
		(void)syscall(SYS_renameat2, AT_FDCWD, names[0], AT_FDCWD, names[1], 2 /* RENAME_EXCHANGE */);
	return NULL;
}

/*
 * Open a path that is a file now and something else then, for reading, which
 * waits where it is a fifo, and for writing. Each time it is the file, or what
 * it was is refused for what it was. Returns 0; 2: the race was never seen.
 */
static int race_open(bool proc, const char *other)
{
	static const char *names[] = { "unit-race/disk.img", "unit-race/other" };
	struct options o = { .path = names[0], .max_io = 1 << 20 };
	int opened = 0, refused = 0;
	pthread_t thread;

	/* of its own: nothing is to be found in it */
	if (!proc && (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		      mount("none", "/proc", "tmpfs", 0, NULL)))
		return 2;
	if (other ? symlink(other, names[1]) : mkfifo(names[1], 0600))
		return 1;
	alarm(20);
	pthread_create(&thread, NULL, exchange, names);
	for (int i = 0; i < 10000 || (i < 100000 && !(opened && refused)); i++) {
		struct dev dev = { .fd = -1 };
		const char *why = NULL;
		struct stat st;
		int ret;

		o.read_only = i & 1;
		ret = backend_file.open(&dev, &o, &why);
		if (!ret && (fstat(dev.fd, &st) || !S_ISREG(st.st_mode) || st.st_size != 1 << 20))
			return 1;
		/* ELOOP, ENOENT: the link is gone again by the time that it is followed */
		if (ret && why && !strstr(why, "neither") && (proc || !strstr(why, "become")))
			return 1;
		opened += !ret;
		refused += ret < 0;
		if (!ret)
			backend_file.close(&dev);
	}
	return opened && refused ? 0 : 2;
}

/* In a process of its own, which may wait for ever. */
static bool race(bool proc, const char *other)
{
	int status = -1, fd;
	pid_t pid;

	(void)mkdir("unit-race", 0700);
	fd = open("unit-race/disk.img", O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, 1 << 20))
		return false;
	close(fd);
	pid = fork();
	if (!pid)
		_exit(race_open(proc, other));
	waitpid(pid, &status, 0);
	unlink("unit-race/disk.img");
	unlink("unit-race/other");
	rmdir("unit-race");
	return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2);
}

/* Create a file in a directory that is one now and another then: none is left in either. */
static bool race_create(void)
{
	static const char *names[] = { "unit-a", "unit-b" };
	struct options o = { .path = "unit-a/new.img", .size = 1 << 20, .max_io = 1 << 20, .create = true };
	pthread_t thread;
	bool ok = mkdir(names[0], 0700) == 0 && mkdir(names[1], 0700) == 0;

	pthread_create(&thread, NULL, exchange, names);
	for (int i = 0; i < 3000 && ok; i++) {
		struct dev dev = { .fd = -1 };
		const char *why = NULL;

		ok = backend_file.open(&dev, &o, &why) == 0;
		if (ok)
			backend_file.close(&dev);
	}
	__atomic_store_n(&exchange_end, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	unlink("unit-a/new.img");
	unlink("unit-b/new.img");
	return rmdir(names[0]) == 0 && rmdir(names[1]) == 0 && ok;
}

/* The file that was created has got another name, and its own is another's. */
static bool create_renamed(void)
{
	struct options o = { .path = "unit-new.img", .size = 1 << 20, .max_io = 1 << 20, .create = true };
	struct dev dev = { .fd = -1 };
	const char *why = NULL;
	bool ok = backend_file.open(&dev, &o, &why) == 0;

	if (!ok)
		return false;
	ok = rename(o.path, "unit-ours") == 0;
	close(open(o.path, O_WRONLY | O_CREAT, 0600));
	backend_file.close(&dev);
	unlink("unit-ours");
	return unlink(o.path) == 0 && ok;
}

/* A server's first file is the one that list shows: nothing is to stay open below it. */
static bool lowest_number(void)
{
	struct options o = { .path = "unit-low.img", .size = 1 << 20, .max_io = 1 << 20 };
	int fd = open(o.path, O_RDWR | O_CREAT, 0600);
	struct dev dev = { .fd = -1 };
	const char *why = NULL;
	bool ok = ftruncate(fd, 1 << 20) == 0;

	close(fd);
	ok = ok && backend_file.open(&dev, &o, &why) == 0 && dev.fd == fd && fcntl(fd, F_GETFD) == FD_CLOEXEC;
	if (dev.priv)
		backend_file.close(&dev);
	unlink(o.path);
	return ok;
}

/* A device that begins at byte 31 of its file: requests by the ring, and from the mapping. */
static bool odd_offset(void)
{
	struct options o = { .path = "unit-odd.img", .max_io = 1 << 20, .offset = 31 };
	int fd = open(o.path, O_RDWR | O_CREAT | O_TRUNC, 0600), mapped = 0;
	const struct io_uring_sqe *s;
	struct dev dev = { .fd = -1 };
	const char *why = NULL;
	bool ok = fd >= 0;

	for (int i = 0; i < 65536; i++)
		test_bufs[i] = (char)(i % 251);
	for (off_t off = 0; off < 1 << 20 && ok; off += 65536)
		ok = pwrite(fd, test_bufs, 65536, off) == 65536;
	quiet = true;
	ok = ok && backend_file.open(&dev, &o, &why) == 0 && dev.size == (1 << 20) - 512;
	quiet = false;
	unlink(o.path);
	close(fd);
	if (!ok)
		return false;
	file_q.dev = &dev;
	for (int i = 0; i < 8; i++) {
		file_begin(UBLK_IO_OP_READ, 0);
		if (file_sqe())
			file_end((int)pread(dev.fd, test_bufs, 4096, 8192 + 31));
		for (int j = 0; j < 4096; j++)
			ok = ok && ((unsigned char *)file_io.buf)[j] == (8192 + 31 + j) % 65536 % 251;
		mapped += file_io.buf != test_bufs;
	}
	ok = ok && mapped && file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && file_fua_end(0) == 4096;
	if (dev.max_discard)
		ok = ok && file_begin(UBLK_IO_OP_DISCARD, 0) == IO_QUEUED && (s = file_sqe()) && s->off == 8192 + 31 &&
		     s->addr == 4096 && file_end(0) == 0;
	backend_file.close(&dev);
	return ok;
}

/* This thread's effective capabilities, without or with those of root over other people's files. */
static bool others_files(bool on)
{
	const uint32_t over = 1U << 1 | 1U << 3;	/* CAP_DAC_OVERRIDE, CAP_FOWNER */
	struct { uint32_t version; int pid; } hdr = { .version = 0x20080522 };
	struct { uint32_t effective, permitted, inheritable; } word[2];

	if (syscall(SYS_capget, &hdr, word))
		return false;
	word[0].effective = on ? word[0].effective | over : word[0].effective & ~over;
	return syscall(SYS_capset, &hdr, word) == 0;
}

/* READs of one page that is cached. How many of them were answered from the mapping? */
static int read_mapped(int nr)
{
	int mapped = 0;

	for (int i = 0; i < nr; i++) {
		if (file_begin(UBLK_IO_OP_READ, 0) == IO_QUEUED_LAST && file_sqe())
			file_end(4096);
		mapped += file_io.buf != test_bufs;
	}
	return mapped;
}

/*
 * Another user's file, half of it in the page cache, served by root without the
 * capabilities: the window is not taken for full. When all of it is there, it is.
 */
static void test_file_other_user(void)
{
	struct options o = { .path = "unit-other.img", .max_io = 1 << 20 };
	int fd = open(o.path, O_RDWR | O_CREAT | O_TRUNC, 0600), mapped = 0;
	struct dev dev = { .fd = -1 };
	const char *why = NULL;
	unsigned char in = 1;
	void *p;
	bool ok = fd >= 0, can;

	for (off_t off = 0; off < 1 << 20 && ok; off += 65536)
		ok = pwrite(fd, test_bufs, 65536, off) == 65536;
	ok = ok && fsync(fd) == 0 && posix_fadvise(fd, 524288, 524288, POSIX_FADV_DONTNEED) == 0;
	p = mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, fd, 0);
	can = ok && p != MAP_FAILED && mincore((char *)p + 786432, 4096, &in) == 0 && !(in & 1) &&
	      fchown(fd, 1000, 1000) == 0 && backend_file.open(&dev, &o, &why) == 0;
	file_q.dev = &dev;
	if (can && ((struct file *)dev.priv)->read_how == HOW_NOWAIT && others_files(false)) {
		mapped = read_mapped(100);	/* one look, of whose reading more may be in the cache afterwards */
		CHECK("file: another user's file is not taken for cached", mapped == 0);
		for (off_t off = 0; off < 1 << 20; off += 65536)
			ok = ok && pread(fd, test_bufs, 65536, off) == 65536;
		for (int i = 0; i < 300 && !mapped; i++) {
			usleep(10000);
			mapped = read_mapped(100);
		}
		CHECK("file: another user's file is mapped where all of it is cached", mapped > 0);
		(void)others_files(true);
	} else {
		printf("skip - unit: file: another user's file: not root, or a filesystem that is in memory\n");
	}
	if (dev.priv)
		backend_file.close(&dev);
	munmap(p, 1 << 20);
	unlink(o.path);
	close(fd);
}

static void test_file_odd(void)
{
	const char *why;
	struct dev dev;

	CHECK("file: a device may begin at any byte", odd_offset());

	why = open_memfd(MFD_HUGETLB, 0, &dev);
	CHECK("file: one on hugetlbfs is refused", !why || strstr(why, "hugetlbfs"));
	quiet = true;
	why = open_memfd(0, INT64_MAX, &dev);
	quiet = false;
	CHECK("file: one that ends where offsets end", why && !*why && dev.size == INT64_MAX / 512 * 512 && !dev.max_discard);
	if (dev.priv)
		backend_file.close(&dev);
}

static void test_file_race(void)
{
	CHECK("file: it has the lowest descriptor", lowest_number());
	CHECK("file: what is opened is what was looked at, beside a fifo", race(true, NULL));
	CHECK("file: what is opened is what was looked at, beside a character device", race(true, "/dev/null"));
	CHECK("file: what is opened is what was looked at, beside a fifo, without /proc", race(false, NULL));
	CHECK("file: what is opened is what was looked at, beside a character device, without /proc",
	      race(false, "/dev/null"));
	CHECK("file: what is created goes from the directory that it was created in", race_create());
	CHECK("file: only what was created goes", create_renamed());
}

static void test_file(void)
{
	static const char path[] = "unit-test.img";
	struct options o = { .path = path, .size = 1 << 20, .offset = 65536, .max_io = 1 << 20, .create = true,
			     .zero_copy = ZERO_COPY_ON };	/* all by the ring */
	const char *why = NULL;
	struct dev dev = { .fd = -1 }, other = { .fd = -1 };
	struct stat st;

	unlink(path);
	CHECK("file: created, sparse, of the size asked for",
	      backend_file.open(&dev, &o, &why) == 0 && dev.size == 1 << 20 && stat(path, &st) == 0 &&
	      st.st_size == 65536 + (1 << 20) && st.st_blocks == 0 && dev.volatile_cache && !dev.fua);
	o.create = false;
	CHECK("file: a second writer is refused, and told by whom",
	      backend_file.open(&other, &o, &why) == -EBUSY && why && strstr(why, "locked"));
	fake_init(&file_fake, 0, 0);
	file_q = (struct queue){ .ring = file_fake.ring, .dev = &dev };
	dev.data_path = DATA_COPY;
	test_file_results();
	test_file_inline();
	test_file_flush();
	test_file_slow();
	test_file_place();
	test_file_split();
	dev.used = true;
	backend_file.close(&dev);
	CHECK("file: stays when its device has been in use", stat(path, &st) == 0);
	unlink(path);
	o.create = true;
	dev = (struct dev){ .fd = -1 };
	CHECK("file: goes again when nothing came of it",
	      backend_file.open(&dev, &o, &why) == 0 && (backend_file.close(&dev), stat(path, &st) < 0));
}

int main(void)
{
	test_begin();
	test_file();
	test_file_odd();
	test_file_other_user();
	test_file_race();
	return test_end();
}
