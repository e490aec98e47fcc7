/* SPDX-License-Identifier: MIT */
/* snapshot: pages of the file, in memory and zero, against a model, and the commit of them */
#include "tests/unit/test.h"
#include "ublk.c"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* The kernel has no memory for what is to be populated, from this time on; -1: it has. */
static int populates = -1;
static int test_madvise(void *p, size_t len, int advice)
{
	if (advice == MADV_POPULATE_WRITE && populates >= 0 && populates-- == 0) {
		populates = 0;
		(void)madvise(p, 4096, advice);		/* it has got some */
		errno = ENOMEM;
		return -1;
	}
	return madvise(p, len, advice);
}

/* So many times a hole is refused, as of a block device whose pages are dirty. */
static unsigned busy, punched;
static off_t punched_beside;		/* what is there is looked at, each time */
static char beside[4096];
static int test_fallocate(int fd, int mode, off_t off, off_t len)
{
	(void)!pread(fd, beside, sizeof(beside), punched_beside);
	if (busy) {
		busy--;
		errno = EBUSY;
		return -1;
	}
	punched++;
	return fallocate(fd, mode, off, len);
}

#define GIVE_STRETCHES 1
#define madvise test_madvise
#define fallocate test_fallocate
#include "store/commit.c"
#undef fallocate
#include "store/ram.c"
#undef madvise
#include "store/changes.c"
#include "store/snapshot.c"
#include "tests/unit/fake.h"

#define SIZE		((1U << 20) - 512)	/* its last page is no whole one */
#define SECTORS		(SIZE / 512)
#define OFFSET		1536U			/* in the file */
#define TAGS		8
#define IO_MAX		(64U << 10)
#define BUF		(IO_MAX + 2 * 4096)

static char model[SIZE], file_bytes[SIZE];
static char bufs[TAGS][BUF];

struct tag {
	struct io io;
	bool busy;
	bool on_ring;
	struct io_uring_sqe sqe;
};

struct bench {
	struct dev dev;
	struct server server;
	struct queue queue;
	struct fake fake;
	struct tag tags[TAGS];
	int fd;				/* the file, to write */
	uint8_t writing[SECTORS], reading[SECTORS];	/* by requests under way */
	unsigned seed;
	uint64_t bad_page;		/* of the file: cannot be read; UINT64_MAX: none */
};

static unsigned draw(struct bench *b, unsigned below)
{
	b->seed = b->seed * 1103515245 + 12345;
	return (b->seed >> 16) % below;
}

static bool bench_open(struct bench *b, unsigned seed)
{
	static char path[64];
	struct options o = { .path = path, .offset = OFFSET, .max_io = IO_MAX, .snapshot = true };
	const char *why = NULL;

	memset(b, 0, sizeof(*b));
	b->seed = seed;
	b->bad_page = UINT64_MAX;
	b->fd = memfd_create("file", 0);
	for (unsigned i = 0; i < SIZE; i++)
		model[i] = file_bytes[i] = (char)(draw(b, 255) + 1);
	if (ftruncate(b->fd, OFFSET) || pwrite(b->fd, file_bytes, SIZE, OFFSET) != SIZE)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", b->fd);
	quiet = true;
	if (backend_snapshot.open(&b->dev, &o, &why))
		return false;
	fake_init(&b->fake, 0, 0);
	b->queue = (struct queue){ .dev = &b->dev, .s = &b->server, .ring = b->fake.ring };
	return b->dev.size == SIZE && b->dev.scratch == 2 * 4096;
}

static void bench_close(struct bench *b)
{
	backend_snapshot.close(&b->dev);
	close(b->fd);
}

static bool file_is(struct bench *b, const char *bytes)
{
	static char got[SIZE];

	return pread(b->fd, got, SIZE, OFFSET) == SIZE && !memcmp(got, bytes, SIZE);
}

static void sectors_mark(struct bench *b, const struct io *io, int by)
{
	uint8_t *map = io->op == UBLK_IO_OP_READ ? b->reading : b->writing;

	for (uint64_t s = io->off / 512; s < (io->off + io->len) / 512; s++)
		map[s] = (uint8_t)(map[s] + by);
}

/* Would these sectors be another request's as well? What the outcome is then, is nobody's promise. */
static bool sectors_clash(const struct bench *b, const struct io *io)
{
	for (uint64_t s = io->off / 512; s < (io->off + io->len) / 512; s++)
		if (b->writing[s] || (io->op != UBLK_IO_OP_READ && b->reading[s]))
			return true;
	return false;
}

/* What queue() or complete() has said. False: wrong. */
static bool tag_said(struct bench *b, struct tag *t, int res, bool fails)
{
	struct io *io = &t->io;
	const bool has_data = io->op == UBLK_IO_OP_READ || io->op == UBLK_IO_OP_WRITE;

	t->on_ring = res == IO_QUEUED || res == IO_QUEUED_LAST;
	if (t->on_ring) {
		t->sqe = b->fake.sqes[(b->queue.ring.sq_tail - 1) & b->fake.ring.sq_mask];
		fake_take(&b->fake, &b->queue.ring);
		return t->sqe.opcode == IORING_OP_READ;
	}
	sectors_mark(b, io, -1);
	t->busy = false;
	if (fails)
		return res == -EIO || res == (has_data ? (int)io->len : 0);
	if (res != (has_data ? (int)io->len : 0))
		return false;
	if (io->op == UBLK_IO_OP_READ)
		return !memcmp(io->buf, model + io->off, io->len);
	if (io->op == UBLK_IO_OP_WRITE)
		memcpy(model + io->off, bufs[io->tag], io->len);
	else
		memset(model + io->off, 0, io->len);
	return true;
}

/* Start a request of any kind, unless its sectors are taken. */
static bool bench_start(struct bench *b, unsigned tag)
{
	static const uint8_t ops[] = { UBLK_IO_OP_READ, UBLK_IO_OP_READ, UBLK_IO_OP_WRITE, UBLK_IO_OP_WRITE,
				       UBLK_IO_OP_WRITE, UBLK_IO_OP_DISCARD, UBLK_IO_OP_WRITE_ZEROES };
	struct tag *t = &b->tags[tag];
	const uint64_t mark = t->io.mark;
	struct io io = { .tag = (uint16_t)tag, .op = ops[draw(b, sizeof(ops))], .buf = bufs[tag], .mark = mark };

	io.off = draw(b, SECTORS) * 512ULL;
	io.len = (1 + draw(b, draw(b, 4) ? 12 : IO_MAX / 512)) * 512;
	if (io.len > SIZE - io.off)
		io.len = (uint32_t)(SIZE - io.off);
	if (sectors_clash(b, &io))
		return true;
	for (unsigned i = 0; i < io.len; i++)
		bufs[tag][i] = (char)(draw(b, 255) + 1);
	t->io = io;
	t->busy = true;
	sectors_mark(b, &io, 1);
	return tag_said(b, t, backend_snapshot.queue(&b->queue, &t->io), false);
}

/* The kernel ends a read: whole, short, or to be tried again. */
static bool bench_end(struct bench *b, struct tag *t)
{
	const unsigned how = draw(b, 10);
	uint32_t len = t->sqe.len;
	int res;

	if (how == 0) {
		res = draw(b, 2) ? -EAGAIN : -EINTR;
	} else {
		if (how < 4)
			len = 1 + draw(b, len);
		res = (int)pread(b->fd, (void *)(uintptr_t)t->sqe.addr, len, (off_t)t->sqe.off);
	}
	return tag_said(b, t, backend_snapshot.complete(&b->queue, &t->io, res), false);
}

static bool bench_step(struct bench *b)
{
	const unsigned tag = draw(b, TAGS);
	struct tag *t = &b->tags[tag];

	if (!t->busy)
		return bench_start(b, tag);
	return !t->on_ring || bench_end(b, t);
}

static bool bench_drain(struct bench *b)
{
	bool busy = true;

	while (busy) {
		busy = false;
		for (unsigned i = 0; i < TAGS; i++) {
			busy |= b->tags[i].busy;
			if (b->tags[i].busy && !bench_end(b, &b->tags[i]))
				return false;
		}
	}
	return true;
}

/* Read all of it. */
static bool bench_is_model(struct bench *b)
{
	struct tag *t = &b->tags[0];

	for (uint64_t off = 0; off < SIZE; off += IO_MAX) {
		t->io = (struct io){ .op = UBLK_IO_OP_READ, .off = off, .buf = bufs[0],
				     .len = SIZE - off < IO_MAX ? (uint32_t)(SIZE - off) : IO_MAX };
		t->busy = true;
		sectors_mark(b, &t->io, 1);
		if (!tag_said(b, t, backend_snapshot.queue(&b->queue, &t->io), false))
			return false;
		while (t->busy)
			if (!bench_end(b, t))
				return false;
	}
	return true;
}

static struct changes *bench_changes(struct bench *b)
{
	return &((struct snap *)b->dev.over)->changes;
}

static bool changes_none(struct bench *b)
{
	return changes_next(bench_changes(b), 0) >= changes_pages(bench_changes(b));
}

static void test_model(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 1);

	for (unsigned i = 0; ok && i < 100000; i++)
		ok = bench_step(b);
	CHECK("snapshot: reads, writes and zeroes that share pages, as in a model", ok && bench_drain(b) && bench_is_model(b));
	CHECK("snapshot: the file is as it was", file_is(b, file_bytes));
	bench_close(b);
}

/* Memory is taken for what is written, and not for what is read or zeroed. */
static void test_memory(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 2) && bench_is_model(b);
	struct stat before, after;
	struct io io = { .op = UBLK_IO_OP_WRITE, .off = 512, .len = 512, .buf = bufs[1] };
	const int fd = bench_changes(b)->ram.fd;

	ok = ok && fstat(fd, &before) == 0 && backend_snapshot.queue(&b->queue, &io) == IO_QUEUED;
	fake_take(&b->fake, &b->queue.ring);
	ok = ok && pread(b->fd, bufs[1] + IO_MAX, 4096, OFFSET) == 4096 &&
	     backend_snapshot.complete(&b->queue, &io, 4096) == 512 && fstat(fd, &after) == 0;
	/* the page, one of the states, one of what is touched */
	CHECK("snapshot: a page is taken when it is written", ok && after.st_blocks - before.st_blocks <= 3 * 8);
	io = (struct io){ .op = UBLK_IO_OP_DISCARD, .len = 8192 };
	ok = backend_snapshot.queue(&b->queue, &io) == 0 && fstat(fd, &before) == 0;
	CHECK("snapshot: and given back when it is discarded", ok && after.st_blocks - before.st_blocks == 8);
	bench_close(b);
}

/* A page whose rest cannot be read is not written, in no part; what is in memory goes on. */
static void test_bad_sector(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 3);
	struct io io = { .op = UBLK_IO_OP_WRITE, .off = 4096 + 512, .len = 8192, .buf = bufs[1] };

	ok = ok && backend_snapshot.queue(&b->queue, &io) == IO_QUEUED;
	fake_take(&b->fake, &b->queue.ring);
	ok = ok && pread(b->fd, bufs[1] + IO_MAX, 4096, OFFSET + 4096) == 4096 &&
	     backend_snapshot.complete(&b->queue, &io, 4096) == IO_QUEUED;	/* the last page's rest */
	fake_take(&b->fake, &b->queue.ring);
	ok = ok && backend_snapshot.complete(&b->queue, &io, -EIO) == -EIO;
	CHECK("snapshot: a write to a page whose rest cannot be read fails whole", ok && changes_none(b) && bench_is_model(b));
	io = (struct io){ .op = UBLK_IO_OP_WRITE, .off = 4096, .len = 8192, .buf = bufs[1] };
	ok = backend_snapshot.queue(&b->queue, &io) == 8192;
	io = (struct io){ .op = UBLK_IO_OP_READ, .off = 4096, .len = 12288, .buf = bufs[2] };
	ok = ok && backend_snapshot.queue(&b->queue, &io) == IO_QUEUED && b->fake.sqes[(b->queue.ring.sq_tail - 1) & 3].len == 4096;
	fake_take(&b->fake, &b->queue.ring);
	ok = ok && backend_snapshot.complete(&b->queue, &io, 0) == -EIO;
	io = (struct io){ .op = UBLK_IO_OP_READ, .off = 4096, .len = 8192, .buf = bufs[2] };
	ok = ok && backend_snapshot.queue(&b->queue, &io) == 8192;
	CHECK("snapshot: a read error, or the end of the file, is of who reads there", ok);
	bench_close(b);
}

/* The server gives back a piece of what was sent. Is there more? */
static bool give(struct bench *b, uint64_t *at)
{
	const char *why = NULL;

	return backend_snapshot.ask(queue_dev(&b->queue), LETTER_GIVE, at, &why) == -EAGAIN;
}

static bool give_all(struct bench *b)
{
	uint64_t at = 0;

	while (give(b, &at))
		;
	return true;
}

/* Commit, in steps, while requests are under way. */
static void test_commit(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 4);
	struct changes *c = bench_changes(b);
	uint64_t at;

	for (unsigned round = 0; ok && round < 200; round++) {
		for (unsigned i = 0; ok && i < 300; i++)
			ok = bench_step(b);
		ok = ok && commit_write(c, b->fd) == 0;
		if (draw(b, 4) == 0)
			continue;	/* it was killed, with all marked as sent */
		for (at = 0; ok && give(b, &at);)
			ok = bench_step(b);
	}
	ok = ok && bench_drain(b) && bench_is_model(b);
	CHECK("commit: what goes on meanwhile is as in a model", ok);
	ok = ok && commit_write(c, b->fd) == 0 && file_is(b, model);
	CHECK("commit: the file is as the model", ok);
	give_all(b);
	CHECK("commit: all is given back, and reads as the file", ok && bench_is_model(b) && changes_none(b));
	bench_close(b);
}

/* What changes while it is sent is sent again. */
static void test_commit_late(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 5);
	struct changes *c = bench_changes(b);
	struct io io = { .op = UBLK_IO_OP_WRITE, .len = 8192, .buf = bufs[1] };

	memset(bufs[1], 1, 8192);
	memset(model, 1, 8192);
	ok = ok && backend_snapshot.queue(&b->queue, &io) == 8192 && commit_mark(c, 0, true, false) == 2;
	memset(bufs[1], 2, 4096);
	memset(model, 2, 4096);
	io = (struct io){ .op = UBLK_IO_OP_WRITE, .len = 4096, .buf = bufs[1] };
	ok = ok && backend_snapshot.queue(&b->queue, &io) == 4096;
	/* of the first page's old content: as if it had been written */
	ok = ok && pwrite(b->fd, model + 4096, 4096, OFFSET + 4096) == 4096 && give_all(b) && bench_is_model(b) &&
	     changes_state(c, 0) == PAGE_MEMORY && changes_state(c, 1) == PAGE_FILE;
	CHECK("commit: a page that has changed since it was sent stays in memory", ok);
	bench_close(b);
}

/* What was in memory when zeroes were looked for, and is zero when the rest is. */
static void test_commit_between(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 11);
	struct changes *c = bench_changes(b);
	struct commit w = { .c = c, .fd = b->fd, .buf = bufs[2], .buf_len = 4096 };
	struct io io = { .op = UBLK_IO_OP_WRITE, .len = 4096, .buf = bufs[1] };

	ok = ok && backend_snapshot.queue(&b->queue, &io) == 4096 && commit_runs(&w, true, true) == 0;
	io = (struct io){ .op = UBLK_IO_OP_DISCARD, .len = 4096 };
	memset(model, 0, 4096);
	ok = ok && backend_snapshot.queue(&b->queue, &io) == 0 && commit_runs(&w, true, false) > 0;
	CHECK("commit: what becomes zero in the middle has another pass", ok && commit_pass(&w, false) == 1 && file_is(b, model));
	bench_close(b);
}

/* A commit that has marked pages and died before it wrote them. */
static void test_commit_dead(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 8);
	struct changes *c = bench_changes(b);
	struct io io = { .op = UBLK_IO_OP_WRITE, .len = 8192, .buf = bufs[1] };

	memset(bufs[1], 1, 8192);
	memset(model, 1, 8192);
	ok = ok && backend_snapshot.queue(&b->queue, &io) == 8192 && commit_mark(c, 0, true, false) == 2;
	CHECK("commit: what a dead one has only marked is written by the next", ok && commit_write(c, b->fd) == 0 && file_is(b, model));
	bench_close(b);
}

/* Whether it may go: 0, or -EBUSY and why. */
static bool leave_is(struct bench *b, int res)
{
	const char *why = NULL;
	uint64_t at = 0;

	return backend_snapshot.ask(queue_dev(&b->queue), LETTER_LEAVE, &at, &why) == res && !why == !res;
}

/* One that the file takes not all of. */
static void test_commit_unfinished(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 12);
	struct changes *c = bench_changes(b);
	struct io io = { .op = UBLK_IO_OP_WRITE, .len = 4096, .buf = bufs[1] };
	const int none = ok ? open(fd_path(b->fd).s, O_RDONLY | O_CLOEXEC) : -1;	/* which takes nothing */

	ok = ok && commit_write(c, none) == 0 && leave_is(b, 0);
	CHECK("commit: nothing is unfinished where nothing has changed", ok);
	memset(bufs[1], 1, 4096);
	memset(model, 1, 4096);
	ok = ok && backend_snapshot.queue(&b->queue, &io) == 4096 && leave_is(b, 0) && commit_write(c, none) == -EBADF;
	CHECK("commit: one that has failed half-way is known to be unfinished", ok && leave_is(b, -EBUSY));
	CHECK("commit: until it is through", ok && commit_write(c, b->fd) == 0 && leave_is(b, 0) && file_is(b, model));
	close(none);
	bench_close(b);
}

/* A block device that takes no holes for a while, or at all. */
static void test_commit_busy(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 9);
	struct changes *c = bench_changes(b);
	struct io io;

	punched = 0;
	punched_beside = OFFSET;
	for (unsigned i = 0; i < 3; i++) {	/* a page written, one discarded, three times */
		io = (struct io){ .op = UBLK_IO_OP_WRITE, .off = i * 8192, .len = 4096, .buf = bufs[1] };
		memset(bufs[1], 1, 4096);
		memset(model + i * 8192, 1, 4096);
		ok = ok && backend_snapshot.queue(&b->queue, &io) == 4096;
		io = (struct io){ .op = UBLK_IO_OP_DISCARD, .off = i * 8192 + 4096, .len = 4096 };
		memset(model + i * 8192 + 4096, 0, 4096);
		ok = ok && backend_snapshot.queue(&b->queue, &io) == 0;
	}
	busy = 3;	/* the first of them twice, the second once */
	ok = ok && commit_write(c, b->fd) == 0 && !busy && punched == 2 && file_is(b, model);
	CHECK("commit: a hole that is refused for a while is tried again, or written", ok);
	CHECK("commit: and comes before what is written beside it", ok && !memcmp(beside, file_bytes, sizeof(beside)));
	bench_close(b);
}

/* The kernel has no memory: an error, and nothing is changed, nor taken. */
static void test_no_memory(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 10);
	struct io ios[] = {
		{ .op = UBLK_IO_OP_DISCARD, .off = 8192, .len = 8192 },
		{ .op = UBLK_IO_OP_WRITE, .off = 8192, .len = 16384, .buf = bufs[1] },
		{ .op = UBLK_IO_OP_WRITE, .off = 8192, .len = 16384, .buf = bufs[1] },
	};
	const int fd = bench_changes(b)->ram.fd;
	struct stat before, after;

	for (unsigned i = 0; i < ARRAY_SIZE(ios); i++) {
		populates = i < 2 ? 0 : 2;	/* of the notes; of the pages */
		ok = ok && fstat(fd, &before) == 0 && backend_snapshot.queue(&b->queue, &ios[i]) == -ENOSPC &&
		     changes_none(b) && bench_is_model(b);
	}
	ok = ok && fstat(fd, &after) == 0;
	CHECK("snapshot: memory that the kernel has not is ENOSPC, also for notes", ok);
	/* but one that it has got for notes */
	CHECK("snapshot: and no page is kept for it", ok && after.st_blocks - before.st_blocks <= 8);
	populates = -1;
	ok = backend_snapshot.queue(&b->queue, &ios[1]) == 16384;
	CHECK("snapshot: and it goes on when there is some", ok);
	bench_close(b);
}

/* A fill that was read before a commit has written the page is old. */
static void test_commit_fill(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 6);
	struct changes *c = bench_changes(b);
	struct io slow = { .op = UBLK_IO_OP_WRITE, .off = 0, .len = 512, .buf = bufs[1] }, io;

	ok = ok && backend_snapshot.queue(&b->queue, &slow) == IO_QUEUED;
	fake_take(&b->fake, &b->queue.ring);
	ok = ok && pread(b->fd, bufs[1] + IO_MAX, 4096, OFFSET) == 4096;	/* but its CQE comes late */
	memset(bufs[2], 9, 4096);
	io = (struct io){ .op = UBLK_IO_OP_WRITE, .len = 4096, .buf = bufs[2] };
	ok = ok && backend_snapshot.queue(&b->queue, &io) == 4096 && commit_write(c, b->fd) == 0 && give_all(b);
	ok = ok && changes_state(c, 0) == PAGE_FILE;
	ok = ok && backend_snapshot.complete(&b->queue, &slow, 4096) == IO_QUEUED;	/* it is read once more */
	fake_take(&b->fake, &b->queue.ring);
	ok = ok && pread(b->fd, bufs[1] + IO_MAX, 4096, OFFSET) == 4096 && backend_snapshot.complete(&b->queue, &slow, 4096) == 512;
	memset(bufs[1], 0, 1);
	io = (struct io){ .op = UBLK_IO_OP_READ, .off = 512, .len = 3584, .buf = bufs[3] };
	ok = ok && backend_snapshot.queue(&b->queue, &io) == 3584 && !memcmp(bufs[3], bufs[2], 3584);
	CHECK("commit: what was read of a page before it was committed is not used", ok);
	bench_close(b);
}

/* The next server finds the changes, and commit finds them from outside. */
static void test_attach(void)
{
	struct bench *b = &(struct bench){ 0 };
	bool ok = bench_open(b, 7);
	struct changes other = { .ram = RAM_NONE };

	for (unsigned i = 0; ok && i < 2000; i++)
		ok = bench_step(b);
	ok = ok && bench_drain(b) && changes_attach(&other, dup(bench_changes(b)->ram.fd)) == 0 && commit_write(&other, b->fd) == 0 &&
	     file_is(b, model);
	CHECK("commit: by another process, from the memory that it has opened", ok);
	changes_close(&other);
	ok = ftruncate(bench_changes(b)->ram.fd, 4096) == 0 && changes_attach(&other, dup(bench_changes(b)->ram.fd)) == -EINVAL;
	CHECK("commit: memory that is not what its head says is refused", ok);
	bench_close(b);
}

int main(void)
{
	test_begin();
	test_model();
	test_memory();
	test_no_memory();
	test_bad_sector();
	test_commit();
	test_commit_late();
	test_commit_between();
	test_commit_unfinished();
	test_commit_dead();
	test_commit_busy();
	test_commit_fill();
	test_attach();
	return test_end();
}
