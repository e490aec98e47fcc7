/* SPDX-License-Identifier: MIT */
/*
 * file: a disk from a regular file or a block device.
 *
 * What the page cache has, or takes, is answered at once, as enum how says;
 * everything else is an io_uring operation on the queue's ring, so that a slow
 * disk holds up nobody but the request that waits for it. Whether a disk is slow
 * is seen by what it has just done. What is promised:
 *
 *	A READ or WRITE is whole or an error. Short results are continued;
 *	a READ past the end of a file that somebody truncated is an error.
 *	A FLUSH is an fdatasync of the whole file. The kernel reports a failed
 *	writeback once to each description of the file and forgets it, so the
 *	first error is kept: no later FLUSH or FUA write succeeds until the
 *	file is opened anew. A FUA write that cannot be written, for want of
 *	space, is only that. No two of a queue's FLUSHes are under way, and
 *	each queue syncs by a description of its own, or an error might be
 *	another's. Only direct FUA writes share their queue's with its FLUSH.
 *	Not a byte outside the window [base, base + size) is touched.
 *
 * The file is opened once, locked, and used by its descriptor from then on.
 */
#include "include/backend.h"
#include "host/process.h"
#include "host/usage.h"
#include "lib/read.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef BLKROGET
#define BLKROGET	_IO(0x12, 94)	/* linux/fs.h */
#endif
#ifndef BLKSSZGET
#define BLKSSZGET	_IO(0x12, 104)
#endif

/* linux/magic.h; neither has NOWAIT, and io_uring would use a worker thread */
#define TMPFS_MAGIC	0x01021994
#define RAMFS_MAGIC	0x858458f6
#define EXT4_MAGIC	0xef53		/* and ext2's and ext3's */
#define HUGETLBFS_MAGIC	0x958458f6	/* takes no write() */
#define FUSE_MAGIC	0x65735546
#define CIFS_MAGIC	0xff534d42
#define SMB2_MAGIC	0xfe534d42

#define MAP_MAX_SIZE	(16ULL << 30)	/* larger ones are read with preadv2() */
#define WINDOW		(1U << 20)
#define WINDOW_TRIES	4
#define WINDOW_TRIES_READ 64		/* where a look costs as much as so many READs */
#define WINDOW_AGAIN	0xfe		/* it was full before */
#define WINDOW_FULL	0xff
#define SMALL_WRITE	(16 << 10)	/* bytes, at most, of one that would rather have small folios */
#define SMALL_WRITES	8		/* to a window in a second that are worth it, see window_split() */
#define SLOW_MS		21		/* more than two ticks of the coarse clock at 100 Hz */
#define SLOW_FOR_MS	1000
#define SYNC_SLOW_US	2000		/* that an fdatasync may sleep, to be tried in the queue's thread again */
#define SYNC_MAX	(4 << 20)	/* bytes that it may have to write there */

/* What FALLOCATE may take long for is bounded; block layer and filesystems split. */
#define MAX_PUNCH	(128U << 20)

/*
 * How a READ or WRITE through the page cache is tried first. What the cache
 * has, or takes, is a memory copy, and a ring and its worker threads cost more
 * than that; what must wait for a disk is the ring's.
 */
enum how {
	HOW_RING,	/* an io_uring operation at once */
	HOW_NOWAIT,	/* preadv2() or pwritev2() here, which fails rather than waits for a disk */
	HOW_INLINE,	/* pread() or pwrite() here: the file is in memory, or cannot say that it would
			   wait. As in the loop driver, a filesystem that is frozen stops all of it */
};

/* What is known of a MiB of the mapping; any queue's thread. */
struct window {
	uint32_t seen;		/* seconds << 8 | count, see map_has() */
	uint32_t small;		/* seconds << 8 | small WRITEs, see window_split() */
};

/*
 * In memory that a server shares with its guard and so with the server after
 * it: a failed fsync is not forgotten because a process died.
 */
struct file {
	uint64_t base;		/* --offset: where the device begins in the file */
	bool cached;		/* worth file_try() */
	bool never_waits;	/* no HOW_INLINE for writes to a disk, which may take longer than the user may have */
	int read_how, write_how;	/* any queue's thread */
	uint64_t page;		/* bytes */
	char *map;		/* the device's bytes in the page cache, see file_map(), or NULL */
	bool map_takes;		/* WRITEs as well: there is no disk that would have to hear of them */
	uint32_t touched;	/* the second of the last pwrite(); any queue's thread */
	bool placed;		/* something since the last FLUSH, which the file's times do not tell; any queue's thread */
	uint64_t mapped;	/* the bytes of it; what a device has grown by is not among them */
	struct window *windows;	/* of the mapping */
	bool splits;		/* worth window_split() */
	void *beyond;		/* a page beyond the end that the file had when it was opened, see mincore_lies() */
	uint8_t tries;		/* READs of a window before it is looked at; any queue's thread */
	int64_t slow_until;	/* ms; HOW_INLINE for writes is off until then; any queue's thread */
	int64_t doubt_until;	/* ms; until then it is looked at why a write takes long; any queue's thread */
	bool syncs_here;	/* worth file_try_sync() */
	int64_t sync_slow_until; /* ms; as slow_until; any queue's thread */
	uint32_t unsynced;	/* bytes written since the last FLUSH, about; any queue's thread */
	uint32_t max_rw;	/* bytes that the disk below takes in one piece; UINT32_MAX: not known */
	uint32_t punch_align;	/* fallocate on a block device wants whole blocks of it */
	bool is_bdev;
	bool direct;		/* O_DIRECT */
	int created_in;		/* the directory of a file that we have created, to be unlinked if
				   nothing comes of it; else -1. The server leaves the caller's mounts */
	const char *created;	/* its name there */
	int sync_err;		/* the first failed fsync, for good; any queue's thread */
	unsigned told_eof;
	unsigned no_zero_range;	/* the filesystem has said so; any queue's thread */
	struct iovec window[WINDOW / 4096];	/* all of it into trash, see window_reads() */
	char trash[4096];
};

/* ---- requests ---- */

static int file_sync_err(struct file *f, int res)
{
	int none = 0;

	if (res < 0)
		__atomic_compare_exchange_n(&f->sync_err, &none, res, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return __atomic_load_n(&f->sync_err, __ATOMIC_RELAXED);
}

/* Must this request be on stable storage when it is answered? */
static bool io_is_sync(const struct io *io)
{
	return io->op == UBLK_IO_OP_FLUSH ||
	       (io->op == UBLK_IO_OP_WRITE && io->flags & UBLK_IO_F_FUA);
}

/* A FUA write, all of which has been written, and is to be synced. */
static bool io_is_written(const struct io *io)
{
	return io->op == UBLK_IO_OP_WRITE && io->done == io->len;
}

/*
 * Does this error tell of what was written before? Of an fsync any does. What a
 * write says is its own affair, with FUA as without: no space now is none only
 * until there is some. But RWF_DSYNC is both in one, and its EIO may be either.
 */
static bool is_writeback_err(const struct file *f, const struct io *io, int res)
{
	if (res >= 0)
		return false;
	if (io->op == UBLK_IO_OP_FLUSH || io_is_written(io))
		return true;
	return f->direct && res != -ENOSPC && res != -EDQUOT && res != -EFBIG;
}

/* READ or WRITE what is left of the request. async: the last try said EAGAIN. */
static inline int file_rw(struct queue *q, const struct dev *dev, struct io *io, bool async)
{
	struct io_uring_sqe *sqe = io_sqe(q, io);
	const struct file *f = dev->priv;
	const bool read = io->op == UBLK_IO_OP_READ;
	uint32_t len = io->len - io->done;

	/* io_uring does not wait, so what must be split would go to a worker thread */
	if (len > f->max_rw)
		len = f->max_rw;
	if (dev->data_path == DATA_ZERO_COPY) {
		sqe->opcode = read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
		sqe->buf_index = io->tag;
		sqe->addr = io->done;		/* offset into the request's own pages */
	} else {
		sqe->opcode = read ? IORING_OP_READ : IORING_OP_WRITE;
		sqe->addr = (uintptr_t)io->buf + io->done;
	}
	sqe->len = len;
	sqe->off = f->base + io->off + io->done;
	if (async)
		sqe->flags |= IOSQE_ASYNC;
	if (io_is_sync(io)) {
		/* a disk may have a FUA of its own; of the page cache see file_sync() */
		if (f->direct)
			sqe->rw_flags = IORING_RWF_DSYNC;
		return IO_QUEUED;
	}
	return len < io->len ? IO_QUEUED : IO_QUEUED_LAST;
}

/*
 * A FLUSH is of the whole file. A FUA write through the page cache is a write
 * and then this of its bytes, which is what RWF_DSYNC does, but tells one
 * error from the other: the kernel reports a failed writeback only once.
 */
static int file_sync(struct queue *q, struct io *io)
{
	const struct file *f = queue_dev(q)->priv;
	struct io_uring_sqe *sqe = io_sqe(q, io);

	sqe->opcode = IORING_OP_FSYNC;
	sqe->fsync_flags = IORING_FSYNC_DATASYNC;
	if (io->op == UBLK_IO_OP_WRITE) {
		sqe->off = f->base + io->off;
		sqe->len = io->len;
	}
	return IO_QUEUED;
}

/* WRITE_ZEROES whose blocks are to stay */
static bool io_keeps_blocks(const struct io *io)
{
	return io->op == UBLK_IO_OP_WRITE_ZEROES && io->flags & UBLK_IO_F_NOUNMAP;
}

/*
 * Zeroes with blocks of their own, in io->done: some filesystems (tmpfs) can
 * only make a hole and then fill it. There is no asking beforehand: it would
 * leave blocks beyond the end of the file.
 */
enum { ZEROES_AT_ONCE, ZEROES_HOLE, ZEROES_FILL };
static const uint32_t zeroes_modes[] = {
	[ZEROES_AT_ONCE] = FALLOC_FL_ZERO_RANGE, [ZEROES_HOLE] = FALLOC_FL_PUNCH_HOLE, [ZEROES_FILL] = 0,
};

/* How often this thread has slept. What it has waited for a CPU is not among it. */
static long times_slept(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_nvcsw;
}

static int64_t coarse_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* What is known of a window, and of the file's times, is good for one of these: a second, about. */
static uint32_t coarse_second(void)
{
	return (uint32_t)(coarse_ms() >> 10);
}

/* The one that a byte of the device, which is mapped, lies in. */
static struct window *window_of(const struct file *f, uint64_t off)
{
	return &f->windows[(f->base + off) / WINDOW - f->base / WINDOW];
}

/* The windows of the mapping that a range touches are not to be gone by for the rest of this second. */
static void map_doubt(struct file *f, uint64_t off, uint64_t len)
{
	const uint64_t first = f->base / WINDOW, end = f->mapped < off + len ? f->mapped : off + len;
	const uint32_t doubt = coarse_second() << 8 | WINDOW_TRIES_READ;

	for (uint64_t i = (f->base + off) / WINDOW; off < end && i <= (f->base + end - 1) / WINDOW; i++)
		__atomic_store_n(&f->windows[i - first].seen, doubt, __ATOMIC_RELAXED);
}

/* DISCARD makes a hole; so does WRITE_ZEROES, unless the blocks are to stay. */
static int file_punch(struct queue *q, struct io *io)
{
	struct file *f = queue_dev(q)->priv;
	const uint64_t align = f->punch_align;
	uint64_t first = f->base + io->off, end = first + io->len;
	struct io_uring_sqe *sqe;

	if ((first | end) % align) {
		if (io->op == UBLK_IO_OP_WRITE_ZEROES)
			return -EOPNOTSUPP;	/* the block layer then writes them */
		first = round_up(first, align);
		end = end / align * align;
		if (first >= end)
			return 0;
	}
	if (f->map_takes)	/* what is no more there may not be had again, and write() is who says why */
		map_doubt(f, io->off, io->len);
	sqe = io_sqe(q, io);
	sqe->opcode = IORING_OP_FALLOCATE;
	sqe->off = first;
	sqe->addr = end - first;
	sqe->len = FALLOC_FL_KEEP_SIZE;
	if (io->done == ZEROES_AT_ONCE && __atomic_load_n(&f->no_zero_range, __ATOMIC_RELAXED))
		io->done = ZEROES_HOLE;
	sqe->len |= io_keeps_blocks(io) ? zeroes_modes[io->done] : FALLOC_FL_PUNCH_HOLE;
	return IO_QUEUED;
}

static enum how file_how(const struct file *f, const struct io *io)
{
	if (io->op == UBLK_IO_OP_READ)
		return __atomic_load_n(&f->read_how, __ATOMIC_RELAXED);
	return io_is_sync(io) ? HOW_RING : __atomic_load_n(&f->write_how, __ATOMIC_RELAXED);
}

static int rw_try(const struct dev *dev, const struct io *io, off_t off)
{
	const struct iovec iov = { .iov_base = io->buf, .iov_len = io->len };

	return rw_nowait(io->op == UBLK_IO_OP_READ ? SYS_preadv2 : SYS_pwritev2, dev->fd, &iov, 1, (uint64_t)off);
}

/*
 * Of a file that is neither ours nor ours to write, mincore() says that all of
 * it is there, lest one learns what others read. Root's server has given up the
 * capabilities that would count. So it is asked of a page beyond the end of the
 * file as well. Kernel: can_do_mincore(), and cachestat() is no better.
 */
static bool mincore_lies(const struct file *f)
{
	unsigned char in = 1;

	return mincore(f->beyond, f->page, &in) || in & 1;
}

static bool window_cached(const struct file *f, const char *p, uint64_t len)
{
	unsigned char in[WINDOW / 4096];

	if (mincore((void *)p, len, in))
		return false;
	for (uint64_t i = 0; i < (len + f->page - 1) / f->page; i++)
		if (!(in[i] & 1))
			return false;
	return true;
}

/*
 * ext4 looks at all blocks of a folio for each write to it, and for each sync of
 * it: in one of 1 MiB that is more than a small write itself. Large writes are the
 * slower the smaller the folios are. The kernel makes small ones of a large one
 * that a part of is said to be cold, if it is clean and only this mapping has it.
 * So where a window has had many small WRITEs in a second, the first one in a
 * later second says so of its page beforehand, if that is in memory.
 * Kernel: madvise_cold_or_pageout_pte_range()
 */
static void window_split(struct file *f, const struct io *io)
{
	uint32_t *entry = &window_of(f, io->off)->small;
	const uint32_t small = __atomic_load_n(entry, __ATOMIC_RELAXED), now = coarse_second() << 8;
	const uint8_t count = (uint8_t)small;
	char *p = f->map + io->off;

	if (small - count == now) {
		if (count < SMALL_WRITES)
			__atomic_store_n(entry, small + 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_store_n(entry, now + 1, __ATOMIC_RELAXED);
	if (count < SMALL_WRITES)
		return;
	p -= (uintptr_t)p & (f->page - 1);
	if (!mincore_lies(f) && window_cached(f, p, f->page) && madvise(p, f->page, MADV_POPULATE_READ) == 0)
		(void)madvise(p, f->page, MADV_COLD);
}

/*
 * pread() or pwrite(). A write may be made to wait until pages have been
 * written to disk, and all other requests with it, so once that has taken long
 * they go to the ring's workers for a while. It may as well have waited for a
 * CPU, which a worker would too; so the second one that takes long is asked.
 */
static int rw_inline(const struct dev *dev, struct file *f, const struct io *io, off_t off)
{
	int64_t start, end;
	ssize_t ret;
	bool doubt;
	long slept;

	if (io->op == UBLK_IO_OP_READ) {
		ret = pread(dev->fd, io->buf, io->len, off);
		return ret < 0 ? -errno : (int)ret;
	}
	start = coarse_ms();
	if (start < __atomic_load_n(&f->slow_until, __ATOMIC_RELAXED))
		return -EAGAIN;
	doubt = start < __atomic_load_n(&f->doubt_until, __ATOMIC_RELAXED);
	slept = doubt ? times_slept() : 0;
	if (f->splits && io->len <= SMALL_WRITE && io->off < f->mapped)
		window_split(f, io);
	ret = pwrite(dev->fd, io->buf, io->len, off);
	if (ret < 0)
		return -errno;
	end = coarse_ms();
	if (end - start >= SLOW_MS) {
		__atomic_store_n(&f->doubt_until, end + SLOW_FOR_MS, __ATOMIC_RELAXED);
		if (doubt && times_slept() != slept)
			__atomic_store_n(&f->slow_until, end + SLOW_FOR_MS, __ATOMIC_RELAXED);
	}
	return (int)ret;
}

/* So much more, or less, is to be synced. More than would be done here is not counted. */
static void file_count(struct file *f, int32_t len)
{
	int32_t n = (int32_t)__atomic_load_n(&f->unsynced, __ATOMIC_RELAXED) + len;

	n = n < 0 ? 0 : n > SYNC_MAX ? SYNC_MAX + 1 : n;
	__atomic_store_n(&f->unsynced, (uint32_t)n, __ATOMIC_RELAXED);
}

/*
 * FLUSH in this thread, which costs less than to wake a worker for it, as long as
 * the disk has been quick and not much is to be written. All that is done already
 * is answered before. Returns as an SQE's res; -EAGAIN: it is for the ring.
 */
static int file_try_sync(struct queue *q, struct file *f, const struct io *io)
{
	int64_t start, took;
	long slept;
	int ret;

	if (!f->syncs_here || io->done > SYNC_MAX || coarse_ms() < __atomic_load_n(&f->sync_slow_until, __ATOMIC_RELAXED))
		return -EAGAIN;
	queue_push(q);
	slept = times_slept();
	start = now_us();
	ret = fdatasync(queue_fd(q)) ? -errno : 0;
	took = now_us() - start;
	/* it may hold up the others for a hundredth of the time */
	if (took > SYNC_SLOW_US && times_slept() != slept)
		__atomic_store_n(&f->sync_slow_until, coarse_ms() + SLOW_FOR_MS + took / 10, __ATOMIC_RELAXED);
	return ret;
}

/* Can all of this be read without waiting? To know it costs the reading. */
static bool window_reads(const struct dev *dev, const struct file *f, uint64_t from, uint64_t len)
{
	unsigned n = (unsigned)((len + sizeof(f->trash) - 1) / sizeof(f->trash));

	return rw_nowait(SYS_preadv2, dev->fd, f->window, n, from) >= (int)len;
}

/*
 * Is all of this window of the mapping in the page cache, read and within the
 * file? It gets into the page tables with the faults of those who copy: a fault
 * takes what is around it along, MADV_POPULATE_READ goes page by page.
 */
static bool window_full(const struct dev *dev, struct file *f, uint64_t window)
{
	const uint64_t start = f->base / f->page * f->page, end = f->base + f->mapped;
	const uint64_t from = window * WINDOW > start ? window * WINDOW : start;
	const uint64_t to = (window + 1) * WINDOW < end ? (window + 1) * WINDOW : end;
	char *p = f->map - f->base + from;
	const bool lies = mincore_lies(f);
	struct stat st;

	__atomic_store_n(&f->tries, lies ? WINDOW_TRIES_READ : WINDOW_TRIES, __ATOMIC_RELAXED);
	if (fstat(dev->fd, &st) || (!f->is_bdev && (uint64_t)st.st_size < to))
		return false;
	if (lies)
		return window_reads(dev, f, from, to - from);
	/* who reads on and on has not come to its end yet, and to look at all of it takes a while */
	return window_cached(f, p + (to - 1 - from) / f->page * f->page, 1) && window_cached(f, p, to - from);
}

/*
 * May the kernel copy this READ from the mapping, that is, without waiting for
 * a disk? A window of the file that sees READ after READ is looked at as a
 * whole, and if it is all there that answer holds for the rest of a second. A
 * wrong yes costs a wait, or an error where the file has lost its end meanwhile.
 */
static bool map_has(const struct dev *dev, struct file *f, const struct io *io)
{
	const uint64_t off = f->base + io->off, window = off / WINDOW;
	uint32_t *entry = &window_of(f, io->off)->seen;
	const uint32_t now = coarse_second() << 8;
	const uint8_t tries = __atomic_load_n(&f->tries, __ATOMIC_RELAXED);
	uint32_t seen = __atomic_load_n(entry, __ATOMIC_RELAXED);
	uint8_t count = (uint8_t)seen;

	if (seen - count != now)
		count = count == WINDOW_FULL && tries == WINDOW_TRIES ? WINDOW_AGAIN : 0;
	if (count == WINDOW_AGAIN || (count < tries && ++count == tries))
		count = window_full(dev, f, window) ? WINDOW_FULL : WINDOW_TRIES_READ;
	__atomic_store_n(entry, now | count, __ATOMIC_RELAXED);
	return count == WINDOW_FULL && (off + io->len - 1) / WINDOW == window;
}

/*
 * Answer a READ from the mapping, if that need not wait. Should the copy fail
 * all the same, drivers of 6.12 and its like send the request once more rather
 * than fail it: whoever sees the same READ twice in a row goes another way.
 */
static bool file_map_read(const struct dev *dev, struct file *f, struct io *io)
{
	const uint64_t mark = io->off + 1;	/* never 0 */
	const bool again = io->mark == mark;

	io->mark = 0;
	if (!f->map || again || io->off + io->len > f->mapped || !map_has(dev, f, io))
		return false;
	io->mark = mark;
	io->buf = f->map + io->off;
	return true;
}

static void file_touch(const struct dev *dev, struct file *f)
{
	static const struct timespec now[] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };

	if (__atomic_exchange_n(&f->placed, false, __ATOMIC_RELAXED))
		(void)syscall(SYS_utimensat, dev->fd, NULL, now, 0);
}

static void *file_place(const struct queue *q, const struct io *io)
{
	const struct dev *dev = queue_dev(q);
	struct file *f = dev->priv;
	uint32_t now;

	if (!f->map_takes || io_is_sync(io) || io->off + io->len > f->mapped)
		return NULL;
	/* one in a second is written, for the file's times to be right */
	now = coarse_second();
	if (now != __atomic_load_n(&f->touched, __ATOMIC_RELAXED)) {
		__atomic_store_n(&f->touched, now, __ATOMIC_RELAXED);
		return NULL;
	}
	if (!map_has(dev, f, io))
		return NULL;
	__atomic_store_n(&f->placed, true, __ATOMIC_RELAXED);
	return f->map + io->off;
}

static void file_misplaced(const struct queue *q, const struct io *io)
{
	map_doubt(queue_dev(q)->priv, io->off, io->len);
}

/*
 * The first try at a READ or WRITE, if there is a page cache between. Returns as
 * an SQE's res; -EAGAIN: it is for the ring. Its registers and buffers are not
 * to be paid for where there is none.
 */
__attribute__((noinline))
static int file_try(const struct dev *dev, struct file *f, struct io *io)
{
	const off_t off = (off_t)(f->base + io->off);
	int ret;

	if (io->op == UBLK_IO_OP_READ && file_map_read(dev, f, io))
		return (int)io->len;
	switch (file_how(f, io)) {
	case HOW_RING:
		break;
	case HOW_NOWAIT:
		ret = rw_try(dev, io, off);
		if (ret != -EOPNOTSUPP)
			return ret;
		/* reads can, writes cannot: ext4 and its like, whose writes rarely wait */
		__atomic_store_n(&f->write_how, f->never_waits ? HOW_RING : HOW_INLINE, __ATOMIC_RELAXED);
		break;
	case HOW_INLINE:
		return rw_inline(dev, f, io, off);
	}
	return -EAGAIN;
}

static int file_start(struct queue *q, struct io *io, bool again)
{
	switch (io->op) {
	case UBLK_IO_OP_READ:
	case UBLK_IO_OP_WRITE:
		if (io_is_written(io))
			return file_sync(q, io);
		return file_rw(q, queue_dev(q), io, again);
	case UBLK_IO_OP_FLUSH:
		return file_sync(q, io);
	case UBLK_IO_OP_DISCARD:
	case UBLK_IO_OP_WRITE_ZEROES:
		return file_punch(q, io);
	default:
		return -EOPNOTSUPP;
	}
}

/* A step of WRITE_ZEROES whose blocks are to stay has ended with res. */
static int file_zeroes_next(struct queue *q, struct io *io, int res)
{
	struct file *f = queue_dev(q)->priv;

	if (io->done == ZEROES_FILL)	/* zeroes they are, with blocks or without */
		return res == -EOPNOTSUPP ? 0 : res;
	if (io->done == ZEROES_AT_ONCE && res == -EOPNOTSUPP)
		__atomic_store_n(&f->no_zero_range, true, __ATOMIC_RELAXED);
	else if (io->done == ZEROES_AT_ONCE || res < 0)
		return res;
	io->done++;
	return file_start(q, io, false);
}

static int file_end_of_file(struct file *f)
{
	if (!__atomic_exchange_n(&f->told_eof, true, __ATOMIC_RELAXED))
		notice("the backing file ends early: was it truncated? Reads there are errors");
	return -EIO;
}

static int file_complete(struct queue *q, struct io *io, int res)
{
	struct file *f = queue_dev(q)->priv;

	/* the usual case first: only a READ or WRITE has bytes to tell of */
	if (res > 0 && (uint32_t)res == io->len - io->done && !io_is_sync(io))
		return (int)io->len;
	if (res == -EINTR || res == -EAGAIN)
		return file_start(q, io, res == -EAGAIN);
	if (io_is_sync(io) && file_sync_err(f, is_writeback_err(f, io, res) ? res : 0))
		return file_sync_err(f, 0);
	if (io_keeps_blocks(io))
		return file_zeroes_next(q, io, res);
	if (res < 0)
		return res;
	if (io->op == UBLK_IO_OP_FLUSH)
		file_count(f, -(int32_t)io->done);
	if (io->op != UBLK_IO_OP_READ && io->op != UBLK_IO_OP_WRITE)
		return 0;
	if (io_is_written(io))
		return (int)io->len;
	if (res == 0)
		return io->op == UBLK_IO_OP_READ ? file_end_of_file(f) : -EIO;
	io->done += (uint32_t)res;
	if (io->done == io->len && (!io_is_sync(io) || f->direct))
		return (int)io->len;
	return file_start(q, io, false);
}

static int file_queue(struct queue *q, struct io *io)
{
	const struct dev *dev = queue_dev(q);
	struct file *f = dev->priv;
	int ret = -EAGAIN;

	if (io_is_sync(io) && file_sync_err(f, 0))
		return file_sync_err(f, 0);
	io->done = 0;
	if (io->op == UBLK_IO_OP_FLUSH) {
		file_touch(dev, f);
		io->done = __atomic_load_n(&f->unsynced, __ATOMIC_RELAXED);
		ret = file_try_sync(q, f, io);
		return ret == -EAGAIN ? file_sync(q, io) : file_complete(q, io, ret);
	}
	if (io->op == UBLK_IO_OP_WRITE)
		file_count(f, (int32_t)io->len);
	if (io->op != UBLK_IO_OP_READ && io->op != UBLK_IO_OP_WRITE)
		return file_start(q, io, false);
	if (f->cached)
		ret = file_try(dev, f, io);
	return ret == -EAGAIN ? file_rw(q, dev, io, false) : file_complete(q, io, ret);
}

/* sync_file_range(). An error of the file's is the first one. */
static void file_written(const struct dev *dev, off_t from, off_t len, unsigned how)
{
	if (sync_file_range(dev->fd, from, len, how) && errno != ESPIPE && errno != EINVAL)
		(void)file_sync_err(dev->priv, -errno);
}

/*
 * The server before this one may have been killed when its description had been
 * told of an error, and nobody else. The one that all of them have was not asked.
 */
static void file_again(struct dev *dev)
{
	file_written(dev, 1LL << 43, 1, SYNC_FILE_RANGE_WAIT_BEFORE);	/* where hardly a file has a page to wait for */
}

/* ---- opening ---- */

static char why_text[160];	/* what *why points to when it has a name in it */

/* Keep others out: writers everybody, readers only writers. */
static int file_lock(int fd, const struct stat *st, bool read_only, const char **why)
{
	int pid;

	if (flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return 0;		/* a filesystem without locks: nothing to go by */
	*why = "in use: another process has it locked";
	pid = lock_holder(st->st_dev, st->st_ino);
	if (pid) {
		text_print(why_text, sizeof(why_text), "in use: process %d has it locked", pid);
		*why = why_text;
	}
	return -EBUSY;
}

/*
 * A new file. Its directory is looked up once, so the file is made there, and
 * if nothing comes of it removed there, whatever its path leads to by then.
 * Returns its descriptor or -errno.
 */
static int file_create(const struct options *o, struct file *f)
{
	char dir[4096];
	const char *name = path_split(o->path, dir, sizeof(dir));
	int at, fd;

	if (!name)
		return -ENAMETOOLONG;
	at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return -errno;
	fd = openat(at, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600);
	if (fd < 0) {
		fd = -errno;
		close(at);
		return fd;
	}
	f->created_in = at;
	f->created = name;
	return fd;
}

/* Remove the file that we have created, unless its name is another's by now. */
static void file_uncreate(const struct dev *dev, const struct file *f)
{
	struct stat ours, there;

	if (fstat(dev->fd, &ours) == 0 && fstatat(f->created_in, f->created, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
		(void)unlinkat(f->created_in, f->created, 0);
}

/* Are these two descriptors of one object? Asked of both now: to open for writing may give it a new inode. */
static bool is_same(int a, int b)
{
	struct stat one, two;

	return fstat(a, &one) == 0 && fstat(b, &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino &&
	       one.st_rdev == two.st_rdev && (one.st_mode & S_IFMT) == (two.st_mode & S_IFMT);
}

/*
 * Open what an O_PATH descriptor stands for. A path may lead to something else
 * from one call to the next, the descriptor does not. Without /proc there is
 * only the path: what that opens must be the same, and O_NONBLOCK is there in
 * case it has become a fifo. Returns a descriptor or -errno.
 */
static int file_reopen(int at, const char *path, int flags, const char **why)
{
	int fd = fd_reopen(at, flags);

	if (fd == -ENOENT) {
		fd = open(path, flags | O_NONBLOCK);
		if (fd < 0)
			return -errno;
		/* the ring would not wait for a disk */
		(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	}
	if (fd < 0)
		return fd;
	if (is_same(at, fd))
		return fd;
	close(fd);
	*why = "it has become another file while it was opened";
	return -EINVAL;
}

/* The number of the filesystem's kind, or 0. */
static uint32_t fs_of(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) ? 0 : (uint32_t)fs.f_type;
}

/* A file on a filesystem that is on a disk, and in the kernel. */
static bool is_of_disk(uint32_t fs, const struct stat *st)
{
	return S_ISREG(st->st_mode) && major(st->st_dev) && fs != FUSE_MAGIC;
}

/*
 * Open an existing file, once it is known to be one: to open a fifo, a tty or a
 * tape may wait, or do something. Returns a descriptor or -errno. What is asked
 * for in vain is said.
 */
static int file_open_at(struct dev *dev, const struct options *o, struct file *f, int at, const char **why)
{
	int fd, flags = O_CLOEXEC | O_NOCTTY;
	struct stat st;

	if (fstat(at, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		*why = "neither a regular file nor a block device";
		return -EINVAL;
	}
	if (S_ISREG(st.st_mode) && fs_of(at) == HUGETLBFS_MAGIC) {
		*why = "on hugetlbfs, which takes no writes";
		return -EINVAL;
	}
	f->is_bdev = S_ISBLK(st.st_mode);
	if (f->is_bdev && (!o->read_only || o->snapshot))
		flags |= O_EXCL;	/* not one that is mounted or otherwise claimed */
	fd = file_reopen(at, o->path, (o->read_only ? O_RDONLY : O_RDWR) | flags, why);
	if (!o->read_only && (fd == -EROFS || fd == -EACCES || fd == -EPERM)) {
		fd = file_reopen(at, o->path, O_RDONLY | flags, why);
		if (fd >= 0) {
			dev->read_only = true;
			notice("%s cannot be opened for writing: read-only", o->path);
		}
	}
	if (fd == -EBUSY && f->is_bdev)
		*why = "in use: mounted, or claimed by another driver or program";
	return fd;
}

/* A block device may be set read-only, and open for writing all the same. */
static bool is_set_read_only(int fd)
{
	int read_only = 0;

	return ioctl(fd, BLKROGET, &read_only) == 0 && read_only;
}

static int file_open_path(struct dev *dev, const struct options *o, struct file *f, const char **why)
{
	int fd, at = o->path_fd ? fcntl(o->path_fd, F_DUPFD_CLOEXEC, 0) : open(o->path, O_PATH | O_CLOEXEC);

	if (at < 0)
		return -errno;
	fd = file_open_at(dev, o, f, at, why);
	/* the lower number: a server's first file is the one that list shows */
	if (fd >= 0 && dup3(fd, at, O_CLOEXEC) == at) {
		close(fd);
		fd = at;
	} else {
		close(at);
	}
	if (fd >= 0 && f->is_bdev && !dev->read_only && is_set_read_only(fd)) {
		dev->read_only = true;
		notice("%s is set read-only: read-only", o->path);
	}
	return fd;
}

/* The window to show, and not a byte beyond what there is. */
static int file_measure(struct dev *dev, const struct options *o, const char **why)
{
	off_t end = lseek(dev->fd, 0, SEEK_END);	/* works for block devices as well */
	uint64_t have, size;

	if (end < 0)
		return -errno;
	if (end == 0) {
		*why = "it is empty";
		return -EINVAL;
	}
	if (o->offset >= (uint64_t)end) {
		*why = "--offset is at or beyond its end";
		return -EINVAL;
	}
	have = (uint64_t)end - o->offset;
	if (o->size > have) {
		*why = "--size is more than it holds";
		return -EINVAL;
	}
	size = o->size ? o->size : have;
	dev->size = size / dev->block_size * dev->block_size;
	if (!dev->size) {
		*why = "it is smaller than one block";
		return -EINVAL;
	}
	if (dev->size != size)
		notice("%s: the last %u bytes are not shown: they are no whole block of %u",
			       o->path, (unsigned)(size - dev->size), dev->block_size);
	return 0;
}

/* The path of a file of a block device, or of the disk if that is a partition, in /sys. Is there one? */
static bool bdev_attr(dev_t devno, const char *name, char *path, size_t len)
{
	static const char *const places[] = { "", "../" };
	bool found = false;

	for (int i = 0; i < 2 && !found; i++) {
		text_print(path, len, "/sys/dev/block/%u:%u/%s%s", major(devno), minor(devno), places[i], name);
		found = access(path, R_OK) == 0;
	}
	return found;
}

/* A number among a block device's limits; 0 if there is none. */
static uint64_t bdev_limit(dev_t devno, const char *name)
{
	char path[128];
	uint64_t n;

	return bdev_attr(devno, name, path, sizeof(path)) && number_read(path, &n) ? n : 0;
}

/* Its logical blocks, or the largest that we can show. */
static uint32_t bdev_block(int fd)
{
	int n;

	if (ioctl(fd, BLKSSZGET, &n) || n < 512)
		return 512;
	return n > 4096 ? 4096 : (uint32_t)n;
}

/*
 * The largest request that a disk takes in one piece, in bytes, even if no two
 * pages of its memory lie side by side; UINT32_MAX: it has no queue of requests
 * (brd, device-mapper), or is not known. A larger one would be for a worker
 * thread of the ring, and that for memory.
 */
static uint32_t bdev_max_rw(dev_t devno)
{
	uint64_t sectors, segments;
	char path[128];

	if (!bdev_attr(devno, "mq", path, sizeof(path)))
		return UINT32_MAX;
	sectors = bdev_limit(devno, "queue/max_sectors_kb") / 4 * 4096;
	segments = bdev_limit(devno, "queue/max_segments") * (uint64_t)getpagesize();
	if (segments && segments < sectors)
		return (uint32_t)segments;
	return sectors ? (uint32_t)sectors : UINT32_MAX;
}

/*
 * Which of discard and write-zeroes can the backing do? A file is asked with a
 * hole beyond its end, which changes nothing; a block device by its limits.
 * On a block device fallocate() promises zeroes, or does nothing.
 */
static void file_probe_punch(struct dev *dev, const struct stat *st, struct file *f)
{
	const uint64_t beyond = round_up((uint64_t)st->st_size + 4096, 4096);
	bool can;

	f->punch_align = 1;
	if (f->is_bdev) {
		f->punch_align = (uint32_t)bdev_limit(st->st_rdev, "queue/logical_block_size");
		can = f->punch_align && bdev_limit(st->st_rdev, "queue/write_zeroes_max_bytes");
	} else {
		/* a file that ends where offsets end cannot be asked */
		can = beyond <= INT64_MAX - 4096 &&
		      fallocate(dev->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)beyond, 4096) == 0;
	}
	if (!can || dev->read_only)
		return;
	dev->max_discard = MAX_PUNCH;
	/* where blocks are not the disk's it would be refused time and again, and each is an error in the kernel's log */
	if ((f->base | dev->block_size) % f->punch_align == 0)
		dev->max_write_zeroes = MAX_PUNCH;
	dev->discard_granularity = dev->physical_block_size;
}

/* statx() with STATX_DIOALIGN (6.1): what O_DIRECT wants of memory and offsets; 0 if unknown. */
static void dio_align(int fd, uint32_t *mem, uint32_t *off)
{
	uint32_t stx[64] = { 0 };	/* struct statx: mask first, the two at 152 and 156 */

	*mem = *off = 0;
	if (syscall(SYS_statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, 0x2000, stx) == 0 && stx[0] & 0x2000) {
		*mem = stx[38];
		*off = stx[39];
	}
}

/* What does a read of one sector say? The smallest block that works, or 0. */
static uint32_t dio_probe(int fd, uint64_t base)
{
	char buf[4096] __attribute__((aligned(4096)));

	for (uint32_t n = 512; n <= 4096; n *= 2)
		if (pread(fd, buf, n, (off_t)base) >= 0)
			return n;
	return 0;
}

/*
 * Turn O_DIRECT on if it can be had without making blocks larger than the
 * user, or an image made for 512-byte blocks, expects. A device of larger
 * blocks has never had others, so there the blocks follow.
 */
static bool file_direct(struct dev *dev, const struct options *o, const struct stat *st, struct file *f)
{
	const int flags = fcntl(dev->fd, F_GETFL);
	const char *why = NULL;
	uint32_t mem, off;

	if (fcntl(dev->fd, F_SETFL, flags | O_DIRECT)) {
		notice("%s does not take direct I/O: buffered", o->path);
		return false;
	}
	dio_align(dev->fd, &mem, &off);
	if (!off && f->is_bdev)
		off = (uint32_t)bdev_limit(st->st_rdev, "queue/logical_block_size");
	if (!off)
		off = dio_probe(dev->fd, f->base);
	if (!off)
		why = "does not take direct I/O";
	else if (off > 4096 || f->base % off)
		why = "takes direct I/O in larger blocks, or not at this --offset";
	else if (off > dev->block_size && (o->block_size || !f->is_bdev))
		why = "takes direct I/O only in larger blocks, see --block-size";
	if (why) {
		notice("%s %s: buffered", o->path, why);
		(void)fcntl(dev->fd, F_SETFL, flags);
		return false;
	}
	/* what is dirty in the page cache would be waited for by each request that meets it */
	file_written(dev, (off_t)f->base, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
	if (off > dev->block_size)
		dev->block_size = off;
	if (dev->physical_block_size < off)
		dev->physical_block_size = off;
	dev->dma_align = mem > 4 ? mem : 4;
	f->max_rw = bdev_max_rw(f->is_bdev ? st->st_rdev : st->st_dev);
	f->direct = true;
	return true;
}

/* Of f->windows: one for each that the mapping has a byte in. */
static uint64_t windows_size(const struct file *f)
{
	return ((f->base + f->mapped - 1) / WINDOW - f->base / WINDOW + 1) * sizeof(*f->windows);
}

/*
 * Map the device's bytes, for the kernel to copy READs from, and WRITEs to where
 * memory is all there is (takes), and its times are ours to set: this program
 * never looks at them itself, so a page that cannot be had is an error of the
 * copy and not a SIGBUS. Page tables take a 512th of what is mapped, hence the limit.
 */
static void file_map(struct dev *dev, struct file *f, bool takes)
{
	const uint64_t skip = f->base % f->page, len = dev->size + skip;
	off_t end = lseek(dev->fd, 0, SEEK_END);
	char *p;

	if (dev->size > MAP_MAX_SIZE || end < 0 || (uint64_t)end > INT64_MAX - 2 * f->page)
		return;
	f->beyond = pages_map(f->page, PROT_READ, MAP_SHARED, dev->fd, ((uint64_t)end / f->page + 1) * f->page);
	if (!f->beyond)
		return;
	f->mapped = dev->size;
	f->tries = WINDOW_TRIES;
	for (unsigned i = 0; i < ARRAY_SIZE(f->window); i++)
		f->window[i] = (struct iovec){ .iov_base = f->trash, .iov_len = sizeof(f->trash) };
	f->windows = pages_get(windows_size(f));
	if (!f->windows)
		return;
	p = takes ? pages_map(len, PROT_READ | PROT_WRITE, MAP_SHARED, dev->fd, f->base - skip) : NULL;
	f->map_takes = p;
	/* not shared, or all of its pages would be looked for, to be write-protected, whenever the kernel writes one to disk */
	if (!p)
		p = pages_map(len, PROT_READ, MAP_PRIVATE, dev->fd, f->base - skip);
	if (!p)
		return;
	(void)madvise(p, (size_t)len, MADV_DONTDUMP);
	(void)munlock(p, (size_t)len);	/* the page cache is not ours to keep */
	dev->page_cache = p;
	dev->page_cache_len = len;
	f->map = p + skip;
}

/*
 * The ways of the data, as measured (make bench): zero copy for direct I/O;
 * through the page cache a copy costs less than registering the client's
 * pages, and lets this thread ask the cache itself.
 */
static void file_choose(struct dev *dev, const struct options *o, struct file *f, const struct stat *st, uint32_t fs, bool direct)
{
	const bool auto_on = direct || o->zero_copy == ZERO_COPY_ON;
	struct io one = { .op = UBLK_IO_OP_READ, .len = dev->block_size };
	char block[4096];

	/* through the page cache it would be a write and a FLUSH, of which the block layer makes one for many */
	dev->fua = direct;
	dev->data_path = auto_on && o->zero_copy != ZERO_COPY_OFF ? DATA_ZERO_COPY : DATA_COPY;
	if (auto_on)
		return;
	one.buf = block;
	if (rw_try(dev, &one, (off_t)f->base) != -EOPNOTSUPP)
		f->read_how = f->write_how = HOW_NOWAIT;
	else if (fs == TMPFS_MAGIC || fs == RAMFS_MAGIC)
		f->read_how = f->write_how = HOW_INLINE;
	f->cached = f->read_how != HOW_RING;
	f->syncs_here = f->cached && !f->never_waits && (f->write_how == HOW_INLINE || is_of_disk(fs, st));
	if (f->cached)
		file_map(dev, f, f->write_how == HOW_INLINE && !dev->read_only && !o->snapshot && st->st_uid == geteuid());
	f->splits = f->map && fs == EXT4_MAGIC;
}

static void file_close(struct dev *dev)
{
	struct file *f = dev->priv;

	file_touch(dev, f);
	pages_put(dev->page_cache, dev->page_cache_len);
	if (f->windows)
		pages_put(f->windows, windows_size(f));
	pages_put(f->beyond, f->page);
	if (f->created_in >= 0 && !dev->used)
		file_uncreate(dev, f);
	fd_close(f->created_in);
	fd_close(dev->fd);
	dev->fd = -1;
	pages_put(dev->priv, sizeof(*f));
	dev->priv = NULL;
}

/* 20 bits of what makes a device of this file at this offset the same device. Not a secret: FNV-1a. */
static uint32_t identity_of(const struct stat *st, uint64_t base)
{
	const bool bdev = S_ISBLK(st->st_mode);
	const uint64_t words[] = { bdev ? st->st_rdev : st->st_dev, bdev ? 0 : st->st_ino, base };
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < sizeof(words); i++)
		hash = (hash ^ ((const unsigned char *)words)[i]) * 0x100000001b3ULL;
	return (uint32_t)(hash >> 44) & DEV_IDENTITY;
}

static int file_identity(const struct options *o, uint32_t *identity)
{
	struct stat st;

	if (stat(o->path, &st))
		return -errno;
	*identity = identity_of(&st, o->offset);
	return 0;
}

static int file_open(struct dev *dev, const struct options *o, const char **why)
{
	struct file *f = pages_map(sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool direct = false;
	struct stat st;
	uint32_t fs;
	int ret;

	if (!f)
		return -ENOMEM;
	f->created_in = -1;
	f->base = o->offset;
	f->never_waits = o->unprivileged;
	f->page = (uint64_t)getpagesize();
	f->max_rw = UINT32_MAX;
	f->unsynced = SYNC_MAX + 1;	/* who knows */
	dev->priv = f;
	dev->read_only = o->read_only;
	dev->block_size = o->block_size ? (uint32_t)o->block_size : 512;
	dev->physical_block_size = 4096;
	dev->max_io = (uint32_t)o->max_io;
	dev->volatile_cache = true;

	dev->fd = o->create ? file_create(o, f) : file_open_path(dev, o, f, why);
	ret = dev->fd < 0 ? dev->fd : 0;
	if (!ret && o->create && ftruncate(dev->fd, (off_t)(o->offset + o->size)))
		ret = -errno;
	/* serving a request is not what the file's owner would call an access */
	if (!ret)
		(void)fcntl(dev->fd, F_SETFL, fcntl(dev->fd, F_GETFL) | O_NOATIME);
	if (!ret && fstat(dev->fd, &st))
		ret = -errno;
	if (!ret)
		dev->identity = identity_of(&st, f->base);
	/* what is on a disk is made for its blocks */
	if (!ret && f->is_bdev && !o->block_size)
		dev->block_size = bdev_block(dev->fd);
	/* not on a block device: udev takes locks there, and O_EXCL is the claim */
	if (!ret && !f->is_bdev)
		ret = file_lock(dev->fd, &st, dev->read_only, why);
	if (!ret)
		direct = o->direct && file_direct(dev, o, &st, f);
	if (!ret)
		ret = file_measure(dev, o, why);
	/* of a disk it would be its node's: devtmpfs has the number of tmpfs */
	fs = f->is_bdev ? 0 : fs_of(dev->fd);
	/* a lock on CIFS keeps out even our own other descriptions */
	dev->syncs = !ret && !dev->read_only && !o->snapshot && fs != CIFS_MAGIC && fs != SMB2_MAGIC;
	if (!ret)
		file_choose(dev, o, f, &st, fs, direct);
	if (!ret)
		file_probe_punch(dev, &st, f);
	if (ret)
		file_close(dev);
	return ret;
}

static uint64_t file_most(const struct dev *dev)
{
	const struct file *f = dev->priv;
	const off_t end = lseek(dev->fd, 0, SEEK_END);

	return end > 0 && (uint64_t)end > f->base ? ((uint64_t)end - f->base) / dev->block_size * dev->block_size : 0;
}

/* What is behind a smaller size stays in the file, and what is behind a larger one is seen, as far as there is something. */
static int file_resize(const struct queue *q, struct dev *dev, uint64_t size, uint64_t *at, const char **why)
{
	const struct file *f = dev->priv;

	(void)at;
	/* one that has lost its end since is not given another by who takes over */
	if (!q || size <= dev->size || size <= file_most(dev))
		return 0;
	if (f->is_bdev || f->base) {
		*why = f->is_bdev ? "more than the block device holds" : "more than the file holds behind --offset";
		return -ENOSPC;
	}
	if (dev->read_only) {
		*why = "more than the file holds, which is open for reading only";
		return -EROFS;
	}
	return ftruncate(dev->fd, (off_t)size) ? -errno : 0;
}

const struct backend backend_file = {
	.name = "file",
	.help = "a disk from a file or a block device",
	.examples = "disk.img -d\n/dev/sdb1 --snapshot -d",
	.operand = "path",
	.open = file_open,
	.close = file_close,
	.queue = file_queue,
	.complete = file_complete,
	.place = file_place,
	.misplaced = file_misplaced,
	.again = file_again,
	.identity = file_identity,
	.resize = file_resize,
	.most = file_most,
};
