/* SPDX-License-Identifier: MIT */
/* backend_mem, without a kernel */
#include "tests/unit/test.h"
#include "ublk.c"
#include "backend_mem.c"

#include <sys/stat.h>

static bool all_zero(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

static int mem_op(struct queue *q, unsigned op, uint64_t off, uint32_t len, void **buf)
{
	struct io io = { .op = (uint8_t)op, .off = off, .len = len };
	int ret = backend_mem.queue(q, &io);

	if (buf)
		*buf = io.buf;
	return ret;
}

static void test_mem(void)
{
	const struct options o = { .size = 1 << 20, .max_io = 1 << 20 };
	const char *why = NULL;
	struct dev dev = { 0 };
	struct queue q = { .dev = &dev };
	unsigned char seen[2];
	char *base;
	void *p;
	bool ok;

	ok = backend_mem.open(&dev, &o, &why) == 0 && dev.size == 1 << 20 && dev.block_size == 512 &&
	     mem_op(&q, UBLK_IO_OP_WRITE, 0, 4096, &p) == 4096;
	base = p;
	ok = ok && mem_op(&q, UBLK_IO_OP_READ, 4096, 8192, &p) == 8192 && p != base + 4096 && all_zero(p, 8192) &&
	     mem_op(&q, UBLK_IO_OP_READ, 2048, 4096, &p) == 4096 && p == base + 2048;
	CHECK("mem: a read of what nobody wrote is of other zeroes, of the least that somebody wrote is not", ok);
	ok = ok && mem_op(&q, UBLK_IO_OP_WRITE_ZEROES, 65536 - 512, 1024, NULL) == 0 &&
	     mincore(base + 65536 - 4096, 8192, seen) == 0;
	CHECK("mem: write zeroes on parts of pages that nobody wrote takes none", ok && !((seen[0] | seen[1]) & 1));
	CHECK("mem: opens, and names the memory of a request",
	      ok && all_zero(base, 4096) && mem_op(&q, UBLK_IO_OP_WRITE, 12345 * 8, 512, &p) == 512 &&
	      (char *)p == base + 12345 * 8);

	(void)mem_op(&q, UBLK_IO_OP_WRITE, 0, 1 << 20, NULL);
	memset(base, 0xaa, 1 << 20);
	ok = mem_op(&q, UBLK_IO_OP_WRITE_ZEROES, 512, 3 * 4096, NULL) == 0 &&
	     all_zero(base + 512, 3 * 4096) && !all_zero(base, 512) && !all_zero(base + 512 + 3 * 4096, 1) &&
	     (unsigned char)base[511] == 0xaa;
	CHECK("mem: write zeroes, unaligned at both ends, and not a byte more", ok);
	ok = mem_op(&q, UBLK_IO_OP_WRITE_ZEROES, 65536 + 1024, 512, NULL) == 0 &&
	     all_zero(base + 65536 + 1024, 512) && (unsigned char)base[65536 + 1023] == 0xaa &&
	     (unsigned char)base[65536 + 1536] == 0xaa;
	CHECK("mem: write zeroes inside one page", ok);
	ok = mem_op(&q, UBLK_IO_OP_DISCARD, 131072 + 512, 8192, NULL) == 0 &&
	     (unsigned char)base[131072 + 512] == 0xaa && all_zero(base + 131072 + 4096, 4096) &&
	     (unsigned char)base[131072 + 8192] == 0xaa;
	CHECK("mem: discard gives back whole pages only", ok);
	CHECK("mem: flush is done, the unknown is refused",
	      mem_op(&q, UBLK_IO_OP_FLUSH, 0, 0, NULL) == 0 && mem_op(&q, 99, 0, 0, NULL) == -EOPNOTSUPP);
	backend_mem.close(&dev);
	CHECK("mem: closed", !dev.priv);
}

/*
 * The memory of --resilient, against a model: what the kernel would copy is
 * copied here. A second server, that knows nothing of what the first one wrote,
 * sees the same; and nobody's reads take memory.
 */
static bool shared_ops(struct queue *q, char *model, const struct stat *before, unsigned nr)
{
	static char buf[64 << 10];
	struct io io = { 0 };

	for (unsigned i = 0; i < nr; i++) {
		io.off = (uint64_t)(rand() % 2048) * 512;
		io.len = (uint32_t)(1 + rand() % 128) * 512;
		if (io.off + io.len > 1 << 20)
			io.len = (uint32_t)((1 << 20) - io.off);
		io.buf = buf;
		io.op = before ? UBLK_IO_OP_READ : (uint8_t[]){ 0, 1, 1, 3, 5 }[rand() % 5];
		memset(buf, 0x55, sizeof(buf));
		if (backend_mem.queue(q, &io) < 0)
			return false;
		if (io.op == UBLK_IO_OP_READ && memcmp(io.buf, model + io.off, io.len))
			return false;
		if (io.op == UBLK_IO_OP_WRITE)
			memset(io.buf, (int)i, io.len), memset(model + io.off, (int)i, io.len);
		/* this memory's discard zeroes all of the range, if there is a whole page in it */
		if (io.op == UBLK_IO_OP_WRITE_ZEROES || (io.op == UBLK_IO_OP_DISCARD &&
		    (io.off + io.len) / 4096 > (io.off + 4095) / 4096))
			memset(model + io.off, 0, io.len);
	}
	return true;
}

static void test_mem_shared(void)
{
	const struct options o = { .size = 1 << 20, .max_io = 1 << 20, .resilient = true };
	static char model[1 << 20];
	const char *why = NULL;
	struct dev dev = { 0 };
	struct queue q = { .dev = &dev };
	struct stat before, after;
	struct { char *base; uint64_t page, len; int fd; char *zeroes; unsigned char *present; } *m;	/* struct mem */
	void *p = NULL;
	bool ok;

	ok = backend_mem.open(&dev, &o, &why) == 0 && dev.bounce;
	m = dev.priv;
	srand(1);
	ok = ok && mem_op(&q, UBLK_IO_OP_READ, 0, 1 << 20, &p) == 1 << 20 && all_zero(p, 1 << 20) &&
	     fstat(m->fd, &after) == 0 && after.st_blocks == 0;
	CHECK("mem --resilient: reading a device that nobody wrote takes no memory", ok);
	for (unsigned i = 0; i < 200; i++) {	/* every other page of the second half is never written */
		(void)mem_op(&q, UBLK_IO_OP_WRITE, (uint64_t)(i % 64) * 2 * 4096, 4096, &p);
		memset(p, 7, 4096);
		memset(model + (uint64_t)(i % 64) * 2 * 4096, 7, 4096);
	}
	ok = fstat(m->fd, &before) == 0 && shared_ops(&q, model, &before, 2000) &&
	     fstat(m->fd, &after) == 0 && before.st_blocks == after.st_blocks;
	CHECK("mem --resilient: nor does reading holes beside data", ok && before.st_blocks == 64 * 8);
	memset(m->present, 0, 256);
	CHECK("mem --resilient: the next server reads the same", shared_ops(&q, model, &before, 2000) &&
	      fstat(m->fd, &after) == 0 && before.st_blocks == after.st_blocks);
	CHECK("mem --resilient: reads, writes, zeroes as in a model", shared_ops(&q, model, NULL, 20000));
	ok = mem_op(&q, UBLK_IO_OP_DISCARD, 0, 1 << 20, NULL) == 0 &&
	     mem_op(&q, UBLK_IO_OP_READ, 0, 1 << 20, &p) == 1 << 20 && all_zero(p, 1 << 20) &&
	     fstat(m->fd, &after) == 0 && after.st_blocks == 0;
	CHECK("mem --resilient: nor does reading what was discarded", ok);
	backend_mem.close(&dev);
}

static void test_mem_prealloc(void)
{
	const struct options o = { .size = 1 << 20, .max_io = 1 << 20, .prealloc = true };
	unsigned char seen[256];
	const char *why = NULL;
	struct dev dev = { 0 };
	struct queue q = { .dev = &dev };
	void *p = NULL;
	bool ok;

	ok = backend_mem.open(&dev, &o, &why) == 0 && !dev.max_discard && dev.max_write_zeroes &&
	     mem_op(&q, UBLK_IO_OP_READ, 0, 4096, &p) == 4096;
	memset(p, 0xaa, 1 << 20);
	ok = ok && mem_op(&q, UBLK_IO_OP_WRITE_ZEROES, 0, 1 << 20, NULL) == 0 && all_zero(p, 1 << 20) &&
	     mincore(p, 256 * 4096, seen) == 0;
	for (size_t i = 0; ok && i < sizeof(seen); i++)
		ok = seen[i] & 1;
	CHECK("mem --prealloc: zeroes written, no page given back", ok);
	backend_mem.close(&dev);
}

int main(void)
{
	test_begin();
	test_mem();
	test_mem_shared();
	test_mem_prealloc();
	return test_end();
}
