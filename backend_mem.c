/* SPDX-License-Identifier: MIT */
/*
 * mem: a RAM disk in one mapping.
 *
 * Nothing is copied here. queue() tells where in the mapping the bytes of a
 * request lie, and the kernel copies between there and its client's pages.
 * The mapping is sparse: a page is taken when it is first written, a read of
 * what was never written reads zeroes that are mapped elsewhere, and a
 * discarded page is given back. So a device may be far larger than memory; what
 * would take the last of that is refused with -ENOSPC before it is taken, see
 * mem_afford().
 *
 * With --resilient the memory is a memfd, which the server's guard has open as
 * well, so that it outlives a server. There a fault takes a page even to read a
 * hole; so what is not known to be there is read(2), which takes none.
 */
#include "include/backend.h"
#include "host/memory.h"
#include "lib/say.h"
#include "lib/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The loop serves nobody else while pages are given back or zeroed, hence the
 * limits: giving back is fast (page tables only), zeroing costs what a write costs.
 */
#define MAX_DISCARD	(128U << 20)
#define MAX_ZERO_FILL	(1U << 20)

#define GRANT		(64LL << 20)	/* taken before the kernel is asked again what is left; less of little: */
#define SHARES		64		/* as so many RAM disks may be told the same at the same time */

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22	/* Linux 5.14 */
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23	/* Linux 5.14 */
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24	/* Linux 5.18 */
#endif
#ifndef SEEK_DATA
#define SEEK_DATA		3
#define SEEK_HOLE		4
#endif
#ifndef FALLOC_FL_PUNCH_HOLE
#define FALLOC_FL_KEEP_SIZE	1	/* linux/falloc.h: not every libc has it */
#define FALLOC_FL_PUNCH_HOLE	2
#endif

struct mem {
	char *base;
	uint64_t page;		/* bytes */
	uint64_t len;		/* of the mapping: dev->size in whole pages */
	int fd;			/* --resilient: the memory; else -1 */
	bool keeps;		/* --prealloc: what is there stays */
	char *zeroes;		/* max_io bytes that nobody writes */

	/*
	 * A byte for each page: 1 if it is there. NULL with --prealloc, where
	 * all are, unless with --resilient, where they are not yet in this
	 * server's page tables. Any queue's thread. A 1 may be out of date, which
	 * costs memory or time. So may a 0 with --resilient, where the kernel
	 * knows better. Without, a 0 says of each page, at any time and
	 * whatever is under way, that it reads as zeroes: unless pages are
	 * going, when a 0 says nothing.
	 *
	 * A WRITE makes it 1 before it names the page, and the kernel makes the
	 * page later. A DISCARD, in mem_drop(), makes it 0, finds the WRITEs
	 * whose copy is still to come and makes theirs 1 again, and has the
	 * pages taken away after that. So of a WRITE that meets it
	 *  - either the copy was made before the search: it is taken away
	 *    before the 0 counts;
	 *  - or the search finds it: 1;
	 *  - or it begins after the 0 was stored, sees it, and stores a 1,
	 *    which only another DISCARD takes away, and that one searches again.
	 * While the 0 and the old page are there together, going is not 0, and
	 * who reads or zeroes turns to the page itself.
	 */
	unsigned char *present;
	unsigned page_shift;	/* of page */
	unsigned take_shift;	/* of the bytes that the first write to a page may take: itself, or a huge one */
	int64_t budget;		/* bytes; any queue's thread */
	unsigned going;		/* calls of mem_drop() under way; any queue's thread */
};

/*
 * May so many bytes more be taken? There is no telling beforehand whether the
 * kernel will find a page, and where it does not it looks for one for ever, or
 * kills a process to get one. So it is asked now and then what is left. If that
 * is little because of RAM disks, whose memory is locked, the rest is not ours;
 * if because of others, they will be made to give some back. What is swapped
 * out to us gets none of the last: it is to make room, not to wait for it.
 */
static bool mem_afford(struct mem *m, int64_t bytes, bool swap)
{
	struct memory memory;
	int64_t left;

	if (__atomic_sub_fetch(&m->budget, bytes, __ATOMIC_RELAXED) >= 0 && !swap)
		return true;
	memory_get(&memory);
	left = memory.left;
	if (left < bytes && (swap || memory.locked > memory.total / 2)) {
		__atomic_store_n(&m->budget, 0, __ATOMIC_RELAXED);
		return false;
	}
	left = left / SHARES < GRANT ? left / SHARES : GRANT;
	__atomic_store_n(&m->budget, left > bytes ? left - bytes : 0, __ATOMIC_RELAXED);
	return true;
}

/*
 * Touch every page, with progress. The kernel would go
 * through with it and kill whoever is in the way, so all that is still to come
 * must be left at each step. Returns 0 or -errno.
 */
static int mem_prealloc(const struct mem *m)
{
	const uint64_t step = 64 << 20;
	struct memory memory;

	for (uint64_t off = 0; off < m->len; off += step) {
		uint64_t n = m->len - off < step ? m->len - off : step;

		memory_get(&memory);
		if (memory.left < (int64_t)(m->len - off))
			return -ENOMEM;
		if (madvise(m->base + off, n, MADV_POPULATE_WRITE))
			return -errno;
		progress("of memory taken", off + n, m->len);
	}
	return 0;
}

static void mem_close(struct dev *dev)
{
	struct mem *m = dev->priv;

	pages_put(m->base, m->len);
	pages_put(m->zeroes, dev->max_io);
	fd_close(m->fd);
	pages_put(m->present, m->len >> m->page_shift);
	pages_put(m, sizeof(*m));
	dev->priv = NULL;
}

/* Private to this process, or shared with the guard and with the servers after this one. */
static int mem_map(struct dev *dev, struct mem *m)
{
	const bool shared = dev->bounce;

	if (shared) {
		m->fd = (int)syscall(SYS_memfd_create, "ublk-mem", 1U /* MFD_CLOEXEC */);
		if (m->fd < 0 || ftruncate(m->fd, (off_t)m->len))
			return -errno;
	}
	m->zeroes = pages_map(dev->max_io, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!m->zeroes)
		return -errno;
	m->base = pages_map(m->len, PROT_READ | PROT_WRITE,
			    MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS), m->fd, 0);
	return m->base ? 0 : -errno;
}

static int mem_map_present(struct mem *m)
{
	const uint64_t len = m->len >> m->page_shift;

	m->present = pages_map(len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!m->present)
		return -errno;
	(void)madvise(m->present, (size_t)len, MADV_NOHUGEPAGE);
	return 0;
}

static void mem_warn(const struct dev *dev)
{
	struct memory memory;

	memory_get(&memory);
	if (dev->size > (uint64_t)memory.available)
		notice("mem: %llu MiB are more than the %llu MiB of memory that are available now: "
			       "once those are written, more fails with ENOSPC",
			       (unsigned long long)dev->size >> 20, (unsigned long long)memory.available >> 20);
}

static int mem_open(struct dev *dev, const struct options *o, const char **why)
{
	const uint64_t page = (uint64_t)getpagesize();
	struct mem *m;
	int ret;

	dev->block_size = o->block_size ? (uint32_t)o->block_size : 512;
	dev->physical_block_size = (uint32_t)page;
	dev->size = o->size;
	dev->max_io = (uint32_t)o->max_io;
	dev->max_discard = o->prealloc ? 0 : MAX_DISCARD;
	dev->max_write_zeroes = o->prealloc ? MAX_ZERO_FILL : MAX_DISCARD;
	dev->discard_granularity = (uint32_t)page;
	dev->read_only = o->read_only;
	dev->data_path = DATA_DIRECT;
	dev->bounce = o->resilient;

	dev->priv = m = pages_get(sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->fd = -1;
	m->keeps = o->prealloc;
	m->page = page;
	m->page_shift = (unsigned)__builtin_ctzll(page);
	/* the largest that a fault takes: as much as one page of page table entries, of 8 bytes, can map */
	m->take_shift = (unsigned)__builtin_ctzll(o->huge ? page / 8 * page : page);
	m->len = (o->size + page - 1) / page * page;
	ret = mem_map(dev, m);
	if (ret) {
		*why = m->len > SIZE_MAX ? "a 32-bit program has no addresses for that much" :
		       "the kernel does not map that much memory (vm.overcommit_memory, ulimit -v)";
		goto out;
	}
	/* not by default: one sector written would take 2 MiB. EINVAL: kernel without */
	(void)madvise(m->base, m->len, o->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	(void)madvise(m->base, m->len, MADV_DONTDUMP);	/* the users' data is not for core files */
	if (m->fd < 0)
		(void)madvise(m->base, m->len, MADV_DONTFORK);	/* and no child's copy of it */
	if (o->prealloc) {
		ret = mem_prealloc(m);
		if (ret)
			*why = "more than is left of memory, and --prealloc takes it all";
	} else {
		mem_warn(dev);
	}
	if (!ret && (!m->keeps || m->fd >= 0))
		ret = mem_map_present(m);
out:
	if (ret)
		mem_close(dev);
	return ret;
}

/* The pages that a range touches, as a part of m->present. */
static inline unsigned char *mem_pages(const struct mem *m, uint64_t off, uint64_t len, size_t *nr)
{
	const uint64_t first = off >> m->page_shift;

	*nr = ((off + len - 1) >> m->page_shift) - first + 1;
	return m->present + first;
}

/* With a 0 in m->present: are pages going, so that it says nothing? */
static inline bool mem_going(const struct mem *m)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);	/* pairs with mem_drop(): who has read its 0 reads its count */
	return __atomic_load_n(&m->going, __ATOMIC_RELAXED);
}

/* Fill with zeroes what is there of a range: the rest reads as such, and is to take no page for it. */
static void mem_zero(const struct mem *m, uint64_t off, uint64_t len)
{
	uint64_t n;

	for (; len; off += n, len -= n) {
		n = m->page - (off & (m->page - 1));
		n = n < len ? n : len;
		if (m->present[off >> m->page_shift] || mem_going(m))
			memset(m->base + off, 0, n);
	}
}

/* A WRITE whose copy is still to come: its pages stay what it has made of them. */
static void mem_keep(struct dev *dev, uint64_t off, uint64_t len)
{
	size_t nr;
	unsigned char *present = mem_pages(dev->priv, off, len, &nr);

	memset(present, 1, nr);
}

/* Give back whole pages: see m->present for the order of it. */
static int mem_drop(const struct queue *q, struct mem *m, uint64_t off, uint64_t len)
{
	size_t nr;
	unsigned char *present = mem_pages(m, off, len, &nr);
	int ret = 0;

	__atomic_add_fetch(&m->going, 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);	/* pairs with mem_going() */
	memset(present, 0, nr);
	queue_copying(q, off, len, mem_keep);
	if (madvise(m->base + off, len, MADV_DONTNEED_LOCKED)) {
		ret = -errno;
		memset(present, 1, nr);
	}
	__atomic_sub_fetch(&m->going, 1, __ATOMIC_RELEASE);
	return ret;
}

/*
 * DISCARD and WRITE_ZEROES: give back the whole pages of a range; reads of them
 * are zeroes from then on. WRITE_ZEROES fills the parts of pages at both ends.
 */
static int mem_give_back(const struct queue *q, struct mem *m, const struct io *io)
{
	const bool zero = io->op == UBLK_IO_OP_WRITE_ZEROES;
	const uint64_t stop = io->off + io->len;
	const uint64_t first = (io->off + m->page - 1) & ~(m->page - 1), end = stop & ~(m->page - 1);
	const bool whole = first < end;
	int ret;

	if (!zero && (!whole || m->keeps))
		return 0;
	if (m->keeps) {
		memset(m->base + io->off, 0, io->len);
		return 0;
	}
	if (m->fd >= 0) {	/* fills the ends as well, and takes no page for that */
		if (whole)
			memset(m->present + (first >> m->page_shift), 0, (end - first) >> m->page_shift);
		return fallocate(m->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)io->off, (off_t)io->len) ? -errno : 0;
	}
	if (!whole) {
		mem_zero(m, io->off, io->len);
		return 0;
	}
	ret = mem_drop(q, m, first, end - first);
	if (zero) {
		mem_zero(m, io->off, first - io->off);
		mem_zero(m, end, stop - end);
	}
	return ret;
}

/* The memory that a write may take, in bytes: what is not there of these pages, or the huge pages they become part of. */
static int64_t mem_missing(const struct mem *m, uint64_t off, const unsigned char *present, size_t nr)
{
	const uintptr_t first = (uintptr_t)m->base + off;
	uintptr_t unit, last = 0;
	int64_t units = 0;

	for (size_t i = 0; i < nr; i++) {
		if (present[i])
			continue;
		unit = (first + i * m->page) >> m->take_shift;
		units += unit != last;
		last = unit;
	}
	return units << m->take_shift;
}

/*
 * --resilient: have what is there of a range in this server's page tables, as
 * its own. The driver would have it put there while it copies, and gives up on
 * that if this process is being killed: a READ that is committed already then
 * ends as an error. Here it is not committed yet, and comes again.
 */
static void mem_touch(const struct mem *m, uint64_t off, uint64_t len, int how)
{
	const uint64_t first = off & ~(m->page - 1);

	(void)madvise(m->base + first, (size_t)(off + len - first), how);	/* before 5.14: by the driver */
}

static int mem_write(struct mem *m, struct io *io)
{
	unsigned char *present;
	int64_t missing;
	size_t nr;

	io->buf = m->base + io->off;
	if (!m->present)
		return (int)io->len;
	present = mem_pages(m, io->off, io->len, &nr);
	if (memchr(present, 0, nr)) {
		missing = mem_missing(m, io->off, present, nr);
		/* what an earlier server took costs nothing */
		if (m->fd >= 0 && lseek(m->fd, (off_t)io->off, SEEK_HOLE) >= (off_t)(io->off + io->len))
			missing = 0;
		if (missing && !mem_afford(m, missing, io->flags & UBLK_IO_F_SWAP))
			return -ENOSPC;
		if (m->fd >= 0)
			mem_touch(m, io->off, io->len, MADV_POPULATE_WRITE);
		memset(present, 1, nr);
	}
	return (int)io->len;
}

/*
 * Where nothing was written there is not even to be a page table for the read:
 * those of a whole 1 TiB would take 2 GiB.
 */
static inline int mem_read(const struct mem *m, struct io *io)
{
	const unsigned char *present;
	size_t nr;

	io->buf = m->base + io->off;
	if (m->present) {
		present = mem_pages(m, io->off, io->len, &nr);
		if (!memchr(present, 1, nr) && !mem_going(m))
			io->buf = m->zeroes;
	}
	return (int)io->len;
}

/* --resilient: is all of it there, nothing, or some? The kernel knows of pages that an earlier server took. */
static int mem_read_shared(const struct mem *m, struct io *io)
{
	const off_t off = (off_t)io->off, end = off + (off_t)io->len;
	size_t nr;
	unsigned char *present = m->present ? mem_pages(m, io->off, io->len, &nr) : NULL;
	off_t data;

	if (present && memchr(present, 0, nr)) {
		if (lseek(m->fd, off, SEEK_HOLE) < end) {
			data = lseek(m->fd, off, SEEK_DATA);
			if (data < 0 || data >= end)
				io->buf = m->zeroes;
			else if (pread(m->fd, io->buf, io->len, off) != (ssize_t)io->len)
				return -EIO;	/* what is in io->buf is the tag's own buffer */
			return (int)io->len;
		}
		mem_touch(m, io->off, io->len, MADV_POPULATE_READ);
		memset(present, 1, nr);
	}
	io->buf = m->base + io->off;
	return (int)io->len;
}

static int mem_queue(struct queue *q, struct io *io)
{
	struct mem *m = queue_dev(q)->priv;

	switch (io->op) {
	case UBLK_IO_OP_READ:
		return m->fd < 0 ? mem_read(m, io) : mem_read_shared(m, io);
	case UBLK_IO_OP_WRITE:
		return mem_write(m, io);
	case UBLK_IO_OP_FLUSH:
		return 0;
	case UBLK_IO_OP_DISCARD:
	case UBLK_IO_OP_WRITE_ZEROES:
		/* NOUNMAP or not: whether pages are kept is --prealloc's to say */
		return mem_give_back(q, m, io);
	default:
		return -EOPNOTSUPP;
	}
}

const struct backend backend_mem = {
	.name = "mem",
	.help = "a RAM disk",
	.operand = "size",
	.open = mem_open,
	.close = mem_close,
	.queue = mem_queue,
};
