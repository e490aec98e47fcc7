/* SPDX-License-Identifier: MIT */
/*
 * mem: a RAM disk in one anonymous mapping.
 *
 * Nothing is copied here. queue() tells where in the mapping the bytes of a
 * request lie, and the kernel copies between there and its client's pages.
 * The mapping is sparse: a page is taken when it is first written, a read of
 * a page that was never written reads the kernel's one page of zeroes, and a
 * discarded page is given back. So a device may be far larger than memory.
 */
#include "backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The loop serves nobody else while pages are given back or zeroed, hence the
 * limits: giving back is fast (page tables only), zeroing costs what a write costs.
 */
#define MAX_DISCARD	(128U << 20)
#define MAX_ZERO_FILL	(1U << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23	/* Linux 5.14 */
#endif

struct mem {
	char *base;
	uint64_t page;		/* bytes */
	uint64_t len;		/* of the mapping: dev->size in whole pages */
	bool keep_pages;	/* --prealloc: never give a page back */
};

/* Touch every page, with progress for a person who waits. */
static int mem_prealloc(const struct mem *m, bool quiet)
{
	const uint64_t step = 64 << 20;
	const bool show = !quiet && isatty(STDERR_FILENO);

	for (uint64_t off = 0; off < m->len; off += step) {
		uint64_t n = m->len - off < step ? m->len - off : step;

		if (madvise(m->base + off, n, MADV_POPULATE_WRITE)) {
			int err = -errno;

			if (show && off)
				fputc('\n', stderr);
			return err;
		}
		if (show)
			fprintf(stderr, "\r%3d %% of memory taken%s", (int)((off + n) * 100 / m->len),
				off + n == m->len ? "\n" : "");
	}
	return 0;
}

static void mem_close(struct dev *dev)
{
	struct mem *m = dev->priv;

	if (m && m->base)
		munmap(m->base, m->len);
	free(m);
	dev->priv = NULL;
}

static int mem_open(struct dev *dev, const struct options *o, const char **why)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct mem *m;
	void *base;
	int ret = 0;

	dev->block_size = o->block_size ? (uint32_t)o->block_size : 512;
	dev->physical_block_size = (uint32_t)page;
	dev->size = o->size;
	dev->max_io = (uint32_t)o->max_io;
	dev->max_discard = o->prealloc ? 0 : MAX_DISCARD;
	dev->max_write_zeroes = o->prealloc ? MAX_ZERO_FILL : MAX_DISCARD;
	dev->discard_granularity = (uint32_t)page;
	dev->read_only = o->read_only;
	dev->data_path = DATA_DIRECT;

	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	dev->priv = m;
	m->page = page;
	m->keep_pages = o->prealloc;
	m->len = (o->size + page - 1) / page * page;
	base = mmap(NULL, m->len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) {
		ret = -errno;
		*why = "the kernel does not map that much memory (vm.overcommit_memory, ulimit -v)";
		goto out;
	}
	m->base = base;
	/* not by default: one sector written would take 2 MiB. EINVAL: kernel without */
	(void)madvise(base, m->len, o->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	(void)madvise(base, m->len, MADV_DONTDUMP);	/* the users' data is not for core files */
	if (o->prealloc) {
		ret = mem_prealloc(m, o->quiet);
		if (ret)
			*why = "not enough memory to take it all at once (--prealloc)";
	}
out:
	if (ret)
		mem_close(dev);
	return ret;
}

/*
 * Give back the whole pages of a range: reads of them are zeroes from then on.
 * With zero the parts of pages at both ends are filled, so that all of it is.
 */
static int mem_give_back(const struct mem *m, uint64_t off, uint64_t len, bool zero)
{
	uint64_t first = (off + m->page - 1) / m->page * m->page;
	uint64_t end = (off + len) / m->page * m->page;

	if (m->keep_pages || first >= end) {
		if (zero)
			memset(m->base + off, 0, len);
		return 0;
	}
	if (madvise(m->base + first, end - first, MADV_DONTNEED))
		return -errno;
	if (zero) {
		memset(m->base + off, 0, first - off);
		memset(m->base + end, 0, off + len - end);
	}
	return 0;
}

static int mem_queue(struct queue *q, struct io *io)
{
	const struct mem *m = queue_dev(q)->priv;

	switch (io->op) {
	case UBLK_IO_OP_READ:
	case UBLK_IO_OP_WRITE:
		io->buf = m->base + io->off;
		return (int)io->len;
	case UBLK_IO_OP_FLUSH:
		return 0;
	case UBLK_IO_OP_DISCARD:
		return mem_give_back(m, io->off, io->len, false);
	case UBLK_IO_OP_WRITE_ZEROES:
		/* NOUNMAP or not: whether pages are kept is --prealloc's to say */
		return mem_give_back(m, io->off, io->len, true);
	default:
		return -EOPNOTSUPP;
	}
}

const struct backend backend_mem = {
	.name = "mem",
	.open = mem_open,
	.close = mem_close,
	.queue = mem_queue,
};
