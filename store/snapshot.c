/* SPDX-License-Identifier: MIT */
/*
 * snapshot: a disk that reads from a file and keeps in memory what is written.
 *
 * It stands upon the backend of files, opened for reading only. A READ of what
 * was never changed is that backend's; any other is put together in the tag's
 * buffer, run by run, each from where it is. A WRITE has all its data in the
 * buffer before this meets it, and is copied to memory page by page; what it
 * leaves of a page at either end comes from the file first, into the scratch
 * behind the buffer, on the ring if that has to wait for a disk.
 *
 * So a page is in the file, in memory or zero, and goes from one to the other in
 * one step, under a lock that is held for a copy and never for a disk. Two
 * WRITEs to one page that both need the rest of it both read it: the second to
 * come finds the page in memory, and leaves its rest alone. What was read may be
 * out of date only if a commit has written the page meanwhile, of which epoch tells.
 */
#include "include/backend.h"
#include "host/mailbox.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "store/changes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_DISCARD	(128U << 20)	/* what giving pages back may take long for is bounded */
#ifndef GIVE_STRETCHES
#define GIVE_STRETCHES	256U		/* that are given back at a time: 64 MiB, of pages of 4 KiB */
#endif

extern const struct backend backend_file;

struct snap {
	struct changes changes;
	bool direct;			/* O_DIRECT: a read always waits for a disk */
	bool is_bdev;
};

/* io->way: who hears of an SQE. */
enum way { WAY_FILE, WAY_READ, WAY_WRITE };

/* The ends of a WRITE, and what io->done holds of one. */
enum { HEAD, TAIL };
#define FILLED(end)	(1U << (end))		/* the rest of that page is in the scratch */
#define FILLED_ALL	(FILLED(HEAD) | FILLED(TAIL))
#define FILLS(end)	((unsigned)(end) << 2)	/* the one that is being read, of which */
#define GOT_SHIFT	3			/* so many bytes are there, above that */

static struct snap *snap_of(const struct queue *q)
{
	return queue_dev(q)->over;
}

/* ---- reading the file ---- */

/*
 * Read from the file, at once if its bytes are in the page cache. Returns bytes,
 * 0 at its end, -errno, or IO_QUEUED. slow: it was tried, and has to wait.
 */
static int snap_pread(struct queue *q, struct io *io, void *buf, uint32_t len, uint64_t off, bool slow)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = len };
	const struct snap *s = snap_of(q);
	const uint64_t at = s->changes.offset + off;
	struct io_uring_sqe *sqe;
	int ret = slow || s->direct ? -EAGAIN : rw_nowait(SYS_preadv2, queue_dev(q)->fd, &iov, 1, at);

	if (ret >= 0)
		return ret;
	sqe = io_sqe(q, io);
	sqe->opcode = IORING_OP_READ;
	sqe->addr = (uintptr_t)buf;
	sqe->len = len;
	sqe->off = at;
	if (slow)
		sqe->flags |= IOSQE_ASYNC;
	return IO_QUEUED;
}

/* What an SQE or snap_pread() says of a read: bytes, or -errno; the end of the file is one. */
static int snap_got(int res)
{
	return res ? res : -EIO;
}

static bool is_again(int res)
{
	return res == -EAGAIN || res == -EINTR;
}

/* ---- READ ---- */

/* Where the page's bytes are, for who reads them: sent or not is commit's affair. */
static enum page_state snap_state(const struct changes *c, uint64_t page)
{
	const enum page_state state = changes_state(c, page);

	return state_in_memory(state) ? PAGE_MEMORY : state_is_zero(state) ? PAGE_ZERO : PAGE_FILE;
}

/* How many bytes from off on, len at most, are where those of the first page are? */
static uint32_t snap_run(const struct changes *c, uint64_t off, uint32_t len, enum page_state *state)
{
	const uint64_t end = off + len;
	uint64_t page = off >> c->ram.page_shift, to;

	*state = snap_state(c, page);
	do
		to = ++page << c->ram.page_shift;
	while (to < end && snap_state(c, page) == *state);
	return (uint32_t)((to < end ? to : end) - off);
}

/* Copy what is in memory, or zero, of one stretch. Stops where that is the file's. Returns bytes. */
static uint32_t snap_copy_out(struct changes *c, char *buf, uint64_t off, uint32_t len)
{
	const uint64_t stretch = (off >> c->ram.page_shift) / CHANGES_STRETCH;
	const uint64_t end = (stretch + 1) * CHANGES_STRETCH << c->ram.page_shift;
	uint32_t done = 0, n;
	enum page_state state;

	if (end - off < len)
		len = (uint32_t)(end - off);
	changes_lock(c, stretch);
	for (; done < len; done += n) {
		n = snap_run(c, off + done, len - done, &state);
		if (state == PAGE_FILE)
			break;
		if (state == PAGE_ZERO)
			memset(buf + done, 0, n);
		else
			memcpy(buf + done, c->ram.base + off + done, n);
	}
	changes_unlock(c, stretch);
	return done;
}

/* Go on with a READ from io->done. */
static int snap_read_on(struct queue *q, struct io *io, bool slow)
{
	struct changes *c = &snap_of(q)->changes;
	enum page_state state;
	int got;

	while (io->done < io->len) {
		const uint64_t off = io->off + io->done;
		const uint32_t run = snap_run(c, off, io->len - io->done, &state);
		char *buf = (char *)io->buf + io->done;

		if (state != PAGE_FILE) {
			io->done += snap_copy_out(c, buf, off, io->len - io->done);
			continue;
		}
		got = snap_pread(q, io, buf, run, off, slow);
		if (got == IO_QUEUED)
			return got;
		got = snap_got(got);
		if (got < 0)
			return got;
		io->done += (uint32_t)got;
		slow = false;
	}
	return (int)io->len;
}

static int snap_read(struct queue *q, struct io *io)
{
	enum page_state state;

	if (snap_run(&snap_of(q)->changes, io->off, io->len, &state) == io->len && state == PAGE_FILE) {
		io->way = WAY_FILE;
		return backend_file.queue(q, io);
	}
	io->way = WAY_READ;
	io->done = 0;
	return snap_read_on(q, io, false);
}

/* ---- WRITE, WRITE_ZEROES and DISCARD ---- */

/* The page at one end of a request. */
static uint64_t io_page(const struct changes *c, const struct io *io, int end)
{
	return (end == HEAD ? io->off : io->off + io->len - 1) >> c->ram.page_shift;
}

/* What a request covers of a page: from this byte of it on, to that one. */
static void io_covers(const struct changes *c, const struct io *io, uint64_t page, uint32_t *from, uint32_t *to)
{
	const uint64_t start = page << c->ram.page_shift, len = changes_page_len(c, page);

	*from = io->off > start ? (uint32_t)(io->off - start) : 0;
	*to = io->off + io->len < start + len ? (uint32_t)(io->off + io->len - start) : (uint32_t)len;
}

static bool io_covers_all(const struct changes *c, const struct io *io, uint64_t page)
{
	uint32_t from, to;

	io_covers(c, io, page, &from, &to);
	return from == 0 && to == changes_page_len(c, page);
}

/* Where the rest of the page at one end is read to. */
static char *io_scratch(const struct queue *q, const struct io *io, int end)
{
	const struct changes *c = &snap_of(q)->changes;

	return (char *)io->buf + queue_dev(q)->max_io + (end == HEAD ? 0 : c->ram.page);
}

static uint64_t snap_epoch(const struct changes *c)
{
	return __atomic_load_n(&c->head->epoch, __ATOMIC_ACQUIRE);
}

/*
 * Read the page at one end, if part of it stays what the file has. Returns 0,
 * IO_QUEUED or -errno.
 */
static int snap_fill(struct queue *q, struct io *io, int end, bool slow)
{
	struct changes *c = &snap_of(q)->changes;
	const uint64_t page = io_page(c, io, end);
	const uint32_t len = (uint32_t)changes_page_len(c, page);
	uint32_t have;
	int got;

	if (io->done & FILLED(end) || io_covers_all(c, io, page) || snap_state(c, page) != PAGE_FILE)
		return 0;
	if (end == TAIL && page == io_page(c, io, HEAD))
		return 0;
	if ((io->done & FILLS(TAIL)) != FILLS(end))	/* the other one need not be read any more */
		io->done = (io->done & FILLED_ALL) | FILLS(end);
	for (have = io->done >> GOT_SHIFT; have < len; have = io->done >> GOT_SHIFT) {
		if (!have && !(io->done & FILLED_ALL))	/* of the first of two */
			io->mark = snap_epoch(c);
		got = snap_pread(q, io, io_scratch(q, io, end) + have, len - have, (page << c->ram.page_shift) + have, slow);
		if (got == IO_QUEUED)
			return got;
		got = snap_got(got);
		if (got < 0)
			return got;
		io->done += (uint32_t)got << GOT_SHIFT;
		slow = false;
	}
	io->done = (io->done & FILLED_ALL) | FILLED(end);
	return 0;
}

/*
 * Put a request's part of a page into memory, and what else the page has.
 * Locked. False: that has to be read from the file first.
 */
static bool snap_merge(struct queue *q, const struct io *io, uint64_t page)
{
	struct changes *c = &snap_of(q)->changes;
	const enum page_state state = changes_state(c, page);
	const int end = page == io_page(c, io, HEAD) ? HEAD : TAIL;
	char *at = c->ram.base + (page << c->ram.page_shift);
	uint32_t from, to;

	io_covers(c, io, page, &from, &to);
	if (!state_in_memory(state) && !io_covers_all(c, io, page)) {
		if (state == PAGE_FILE && (!(io->done & FILLED(end)) || io->mark != snap_epoch(c)))
			return false;
		if (state == PAGE_FILE)
			memcpy(at, io_scratch(q, io, end), changes_page_len(c, page));
		else
			memset(at, 0, c->ram.page);
	}
	if (io->op == UBLK_IO_OP_WRITE)
		memcpy(at + from, (char *)io->buf + ((page << c->ram.page_shift) + from - io->off), to - from);
	else
		memset(at + from, 0, to - from);
	changes_set(c, page, PAGE_MEMORY);
	return true;
}

/* Does this page take memory for the request? Zeroes do only where they are a part of a page. */
static bool snap_takes(const struct changes *c, const struct io *io, uint64_t page)
{
	if (io->op != UBLK_IO_OP_WRITE && (io_covers_all(c, io, page) || snap_state(c, page) == PAGE_ZERO))
		return false;
	return snap_state(c, page) != PAGE_MEMORY;
}

/* Where memory for pages from..to could not be had: none of them is kept that holds nothing. */
static void snap_untake(struct changes *c, uint64_t from, uint64_t to)
{
	for (uint64_t page = from; page <= to; page++) {
		changes_lock(c, page / CHANGES_STRETCH);
		if (!state_in_memory(changes_state(c, page)))
			(void)ram_drop(&c->ram, page << c->ram.page_shift, c->ram.page);
		changes_unlock(c, page / CHANGES_STRETCH);
	}
}

/*
 * Memory for all that the request needs, before any of it is changed. Where the
 * kernel has none for a fault, as in a container, that is the end of a server, so
 * it is asked. Returns 0 or -errno.
 */
static int snap_take(struct changes *c, const struct io *io)
{
	const uint64_t first = io_page(c, io, HEAD), last = io_page(c, io, TAIL);
	const uint64_t notes = changes_notes(c, first, last);
	uint64_t nr = 0, gives = 0, from = UINT64_MAX, to = 0;
	const bool writes = io->op == UBLK_IO_OP_WRITE;
	const char *head, *tail;
	int64_t bytes;
	int ret;

	for (uint64_t page = first; page <= last; page++) {
		if (!snap_takes(c, io, page)) {
			gives += !writes && snap_state(c, page) == PAGE_MEMORY && io_covers_all(c, io, page);
			continue;
		}
		nr++;
		from = page < from ? page : from;
		to = page;
	}
	/* noting that all of a large disk is discarded takes some as well, but who makes room is not to want it first */
	bytes = (int64_t)((nr << c->ram.page_shift) + notes) - (int64_t)(gives << c->ram.page_shift);
	if (bytes > 0 && !ram_afford(&c->ram, bytes, io->flags & UBLK_IO_F_SWAP))
		return -ENOSPC;
	if (notes && changes_take_notes(c, first, last))
		return -ENOSPC;
	if (!nr)
		return 0;
	head = c->ram.base + (from << c->ram.page_shift);
	tail = c->ram.base + (to << c->ram.page_shift);
	/* of zeroes two pages at most, at the ends */
	ret = ram_populate(&c->ram, head, writes ? tail : head);
	if (!ret && !writes)
		ret = ram_populate(&c->ram, tail, tail);
	if (ret)
		snap_untake(c, from, writes ? to : from);
	return ret ? -ENOSPC : 0;
}

/* One stretch of a request. Locked. False: something has to be read first. */
static bool snap_change(struct queue *q, const struct io *io, uint64_t first, uint64_t last)
{
	struct changes *c = &snap_of(q)->changes;

	for (uint64_t page = first; page <= last; page++) {
		uint64_t nr = 0;

		while (io->op != UBLK_IO_OP_WRITE && page + nr <= last && io_covers_all(c, io, page + nr))
			nr++;
		if (nr) {
			(void)changes_drop(c, page, nr, PAGE_ZERO);
			page += nr - 1;
		} else if (io->op != UBLK_IO_OP_WRITE && state_is_zero(changes_state(c, page))) {
			continue;
		} else if (!snap_merge(q, io, page)) {
			return false;
		}
	}
	return true;
}

/* Go on with a request that changes something: read what it leaves of the pages at both ends, then do it. */
static int snap_write_on(struct queue *q, struct io *io, bool slow)
{
	struct changes *c = &snap_of(q)->changes;
	const uint64_t last = io_page(c, io, TAIL);
	uint64_t page, to;
	bool done = false;
	int ret;

	while (!done) {
		ret = snap_fill(q, io, HEAD, slow);
		if (!ret)
			ret = snap_fill(q, io, TAIL, slow);
		if (!ret)
			ret = snap_take(c, io);
		if (ret)
			return ret;
		done = true;
		for (page = io_page(c, io, HEAD); page <= last && done; page = to + 1) {
			to = page | (CHANGES_STRETCH - 1);
			to = to < last ? to : last;
			changes_lock(c, page / CHANGES_STRETCH);
			done = snap_change(q, io, page, to);
			changes_unlock(c, page / CHANGES_STRETCH);
		}
		/* a commit has given a page back meanwhile: what was read of it may be old */
		if (!done)
			io->done = 0;
		slow = false;
	}
	return io->op == UBLK_IO_OP_WRITE ? (int)io->len : 0;
}

static int snap_write(struct queue *q, struct io *io)
{
	io->way = WAY_WRITE;
	io->done = 0;
	return snap_write_on(q, io, false);
}

/* ---- commit ---- */

static bool is_sent(enum page_state state)
{
	return state == PAGE_MEMORY_SENT || state == PAGE_ZERO_SENT;
}

/* Pages of a stretch that were sent go back to the file. */
static void snap_give_stretch(struct changes *c, uint64_t stretch)
{
	const uint64_t first = stretch * CHANGES_STRETCH, nr = changes_pages(c);
	const uint64_t end = first + CHANGES_STRETCH < nr ? first + CHANGES_STRETCH : nr;
	bool told = false;

	changes_lock(c, stretch);
	for (uint64_t page = first, run; page < end; page += run ? run : 1) {
		for (run = 0; page + run < end && is_sent(changes_state(c, page + run)); run++)
			;
		if (run && !told)	/* before anybody can see such a page as the file's */
			__atomic_add_fetch(&c->head->epoch, 1, __ATOMIC_RELEASE);
		told |= run;
		if (run)
			(void)changes_drop(c, page, run, PAGE_FILE);
	}
	changes_unlock(c, stretch);
}

/*
 * Commit has written all that was sent to the file, and synced it. A piece at a
 * time, from page *at on: to give back much memory takes its time.
 */
static int snap_give(struct changes *c, uint64_t *at)
{
	const uint64_t nr = changes_pages(c);

	for (unsigned i = 0; i < GIVE_STRETCHES && (*at = changes_next(c, *at)) < nr; i++) {
		snap_give_stretch(c, *at / CHANGES_STRETCH);
		*at = (*at / CHANGES_STRETCH + 1) * CHANGES_STRETCH;
	}
	return *at < nr ? -EAGAIN : 0;
}

/*
 * Commit wants the file to itself, or does not need that any more: others who
 * have a snapshot of it have locked it as this one has. A block device is claimed,
 * and what locks it is udev. To get the one lock the kernel gives up the other.
 */
static int snap_lock(const struct dev *dev, const struct snap *s, int lock, const char **why)
{
	int err;

	if (s->is_bdev || flock(dev->fd, lock | LOCK_NB) == 0)
		return 0;
	err = errno;
	if (err == EOPNOTSUPP || err == ENOLCK || err == EBADF)
		return 0;	/* a filesystem without locks, or, as NFS, without any for who only reads */
	if (flock(dev->fd, LOCK_SH | LOCK_NB))
		notice("the lock on the backing file is lost to somebody else");
	if (err != EWOULDBLOCK)
		return -err;
	*why = "its file is in use: somebody else has locked it, as another snapshot does";
	return -EBUSY;
}

/* What a commit has not got through with can be put right as long as the changes are there. */
static int snap_leave(const struct changes *c, const char **why)
{
	if (!__atomic_load_n(&c->head->unfinished, __ATOMIC_ACQUIRE))
		return 0;
	*why = "in the middle of a commit; if none is running, \"ublk commit\" again, or its file stays a mixture";
	return -EBUSY;
}

static int snap_ask(struct dev *dev, uint32_t what, uint64_t *at, const char **why)
{
	struct snap *s = dev->over;

	switch (what) {
	case LETTER_LOCK:
		return snap_lock(dev, s, LOCK_EX, why);
	case LETTER_UNLOCK:
		return snap_lock(dev, s, LOCK_SH, why);
	case LETTER_GIVE:
		return snap_give(&s->changes, at);
	case LETTER_LEAVE:
		return snap_leave(&s->changes, why);
	default:
		return -EINVAL;
	}
}

/* ---- the backend ---- */

static int snap_queue(struct queue *q, struct io *io)
{
	switch (io->op) {
	case UBLK_IO_OP_READ:
		return snap_read(q, io);
	case UBLK_IO_OP_WRITE:
	case UBLK_IO_OP_DISCARD:
	case UBLK_IO_OP_WRITE_ZEROES:
		return snap_write(q, io);
	case UBLK_IO_OP_FLUSH:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int snap_complete(struct queue *q, struct io *io, int res)
{
	if (io->way == WAY_FILE)
		return backend_file.complete(q, io, res);
	if (!is_again(res))
		res = snap_got(res);
	if (res < 0 && !is_again(res))
		return res;
	if (res > 0)
		io->done += io->way == WAY_READ ? (uint32_t)res : (uint32_t)res << GOT_SHIFT;
	return io->way == WAY_READ ? snap_read_on(q, io, res == -EAGAIN) : snap_write_on(q, io, res == -EAGAIN);
}

static void snap_close(struct dev *dev)
{
	struct snap *s = dev->over;

	if (s)
		changes_close(&s->changes);
	pages_put(s, sizeof(*s));
	dev->over = NULL;
	backend_file.close(dev);
}

static int snap_open(struct dev *dev, const struct options *o, const char **why)
{
	struct options below = *o;
	struct snap *s;
	struct stat st;
	int ret;

	below.read_only = true;
	below.zero_copy = ZERO_COPY_OFF;
	ret = backend_file.open(dev, &below, why);
	if (ret)
		return ret;
	dev->over = s = pages_get(sizeof(*s));
	ret = s ? changes_make(&s->changes, dev->size, o->offset, why) : -ENOMEM;
	if (ret) {
		snap_close(dev);
		return ret;
	}
	s->direct = fcntl(dev->fd, F_GETFL) & O_DIRECT;
	s->is_bdev = fstat(dev->fd, &st) == 0 && S_ISBLK(st.st_mode);
	dev->read_only = o->read_only;
	dev->scratch = (uint32_t)(2 * s->changes.ram.page);
	dev->max_discard = dev->max_write_zeroes = MAX_DISCARD;
	dev->discard_granularity = (uint32_t)s->changes.ram.page;
	dev->physical_block_size = (uint32_t)s->changes.ram.page > 4096 ? 4096 : (uint32_t)s->changes.ram.page;
	/* nothing of it outlives the memory */
	dev->volatile_cache = dev->fua = false;
	return 0;
}

const struct backend backend_snapshot = {
	.name = "snapshot",
	.operand = "path",
	.verb = "file",
	.open = snap_open,
	.close = snap_close,
	.queue = snap_queue,
	.complete = snap_complete,
	.ask = snap_ask,
};
