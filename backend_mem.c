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
 * ram_afford().
 *
 * With --resilient the memory is a memfd, which the server's guard has open as
 * well, so that it outlives a server. There a fault takes a page even to read a
 * hole; so what is not known to be there is read(2), which takes none.
 */
#include "include/backend.h"
#include "host/memory.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "store/image.h"
#include "store/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The loop serves nobody else while pages are given back or zeroed, hence the
 * limits: giving back is fast (page tables only), zeroing costs what a write costs.
 */
#define MAX_DISCARD	(128U << 20)
#define MAX_ZERO_FILL	(1U << 20)
#define MAX_CUT		(1ULL << 30)	/* of what nobody asks for */

struct mem {
	struct ram ram;		/* --resilient: with a descriptor */
	bool keeps;		/* --prealloc: what is there stays */
	uint64_t taken;		/* of that: the bytes that are there, from the start */
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
	unsigned going;		/* calls of mem_drop() under way; any queue's thread */
};

static void mem_close(struct dev *dev)
{
	struct mem *m = dev->priv;

	ram_close(&m->ram);
	pages_put(m->zeroes, dev->max_io);
	pages_put(m->present, m->ram.room >> m->ram.page_shift);
	pages_put(m, sizeof(*m));
	dev->priv = NULL;
}

/*
 * With --resilient in memory of their own: of the kernel's page of zeroes, as of
 * one that is not in the page tables, a copy gives up where this process is being
 * killed, see mem_touch(). Kernel: gup_fast_pte_range() and pte_special().
 */
static int mem_map_zeroes(const struct dev *dev, struct mem *m)
{
	m->zeroes = pages_map(dev->max_io, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!m->zeroes)
		return -errno;
	if (m->ram.fd >= 0)
		memset(m->zeroes, 0, dev->max_io);
	return mprotect(m->zeroes, dev->max_io, PROT_READ) ? -errno : 0;
}

/* As far as there is memory now; its addresses are for all that there can be. */
static int mem_map_present(struct mem *m)
{
	const uint64_t room = m->ram.room >> m->ram.page_shift;

	if (!m->present)
		m->present = pages_map(room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!m->present || mprotect(m->present, m->ram.len >> m->ram.page_shift, PROT_READ | PROT_WRITE))
		return -errno;
	(void)madvise(m->present, (size_t)room, MADV_NOHUGEPAGE);
	return 0;
}

static void mem_warn(uint64_t size)
{
	struct memory memory;

	memory_get(&memory);
	if (size > (uint64_t)memory.available)
		notice("mem: %llu MiB, and of memory %llu MiB are available now: what is more fails with ENOSPC",
			       (unsigned long long)size >> 20, (unsigned long long)memory.available >> 20);
}

/* The pages that a range touches, as a part of m->present. */
static inline unsigned char *mem_pages(const struct mem *m, uint64_t off, uint64_t len, size_t *nr)
{
	const uint64_t first = off >> m->ram.page_shift;

	*nr = ((off + len - 1) >> m->ram.page_shift) - first + 1;
	return m->present + first;
}

static void mem_there(const struct mem *m, uint64_t off, uint64_t len)
{
	size_t nr;
	unsigned char *present = mem_pages(m, off, len, &nr);

	memset(present, 1, nr);
}

/* The same of what is there no more. Of the map nothing is taken for what was never there: it is large as well. */
static void mem_gone(unsigned char *present, size_t nr)
{
	unsigned char *const end = present + nr, *run;

	while ((run = memchr(present, 1, (size_t)(end - present)))) {
		present = memchr(run, 0, (size_t)(end - run));
		if (!present)
			present = end;
		memset(run, 0, (size_t)(present - run));
	}
}

/* The memory that a write may take, in bytes: what is not there of these pages, or the huge pages they become part of. */
static int64_t mem_missing(const struct mem *m, uint64_t off, const unsigned char *present, size_t nr)
{
	const uintptr_t first = (uintptr_t)m->ram.base + off;
	uintptr_t unit, last = 0;
	int64_t units = 0;

	for (size_t i = 0; i < nr; i++) {
		if (present[i])
			continue;
		unit = (first + i * m->ram.page) >> m->ram.take_shift;
		units += unit != last;
		last = unit;
	}
	return units << m->ram.take_shift;
}

static int mem_put(void *to, uint64_t off, const char *data, uint64_t len)
{
	struct mem *m = to;
	const unsigned char *present;
	size_t nr;

	if (!m->keeps) {
		present = mem_pages(m, off, len, &nr);
		if (!ram_afford(&m->ram, mem_missing(m, off, present, nr), false))
			return -ENOMEM;
	}
	/* a guard has no pages in its page tables, and what a server has there it learns by itself: mem_touch() */
	if (m->ram.fd >= 0)
		return pwrite(m->ram.fd, data, len, (off_t)off) == (ssize_t)len ? 0 : -ENOMEM;
	if (!m->keeps)
		mem_there(m, off, len);
	memcpy(m->ram.base + off, data, len);
	return 0;
}

static char why_text[160];	/* what *why points to when it has a figure in it */

/* --load: what the RAM disk begins with, before anybody can see it. */
static int mem_load(const struct dev *dev, struct mem *m, int fd, uint64_t source, const char **why)
{
	uint64_t got;
	int ret = image_load(fd, source, dev->size, mem_put, m, &got);

	if (ret == -EFBIG)
		*why = "it holds more than SIZE";
	if (ret != -ENOMEM)
		return ret;
	text_print(why_text, sizeof(why_text), "no memory is left for it: %llu bytes were loaded", (unsigned long long)got);
	*why = why_text;
	return ret;
}

/*
 * Open what is to be loaded. Its size goes to *size; 0: that is not known before
 * its end. What is more than there is of memory is refused. Returns a descriptor
 * or -errno.
 */
static int mem_source(const struct options *o, uint64_t *size, const char **why)
{
	int fd = o->path_fd ? fcntl(o->path_fd, F_DUPFD_CLOEXEC, 0) : open(o->load, O_RDONLY | O_NOCTTY | O_CLOEXEC);
	struct memory memory;
	struct stat st;
	uint64_t takes;

	*size = 0;
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st)) {
		close(fd);
		return -EIO;
	}
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) {
		const off_t here = lseek(fd, 0, SEEK_CUR), end = lseek(fd, 0, SEEK_END);

		*size = here >= 0 && end > here && lseek(fd, here, SEEK_SET) == here ? (uint64_t)(end - here) : 0;
	}
	takes = S_ISREG(st.st_mode) && !o->huge && (uint64_t)st.st_blocks * 512 < *size ? (uint64_t)st.st_blocks * 512 : *size;
	memory_get(&memory);
	if (o->size && *size > o->size)
		*why = "it holds more than SIZE";
	else if (!o->size && !*size)
		*why = S_ISREG(st.st_mode) ? "it is empty" : "SIZE is missing: how much will come of it cannot be told";
	else if (memory.left < (int64_t)takes)
		*why = "it holds more than is left of memory";
	else
		return fd;
	close(fd);
	return memory.left < (int64_t)takes ? -ENOMEM : -EINVAL;
}

/* --prealloc: take a piece of what is still to be taken up to end. Returns 0 when all is, -EAGAIN, or another -errno. */
static int mem_take(struct mem *m, uint64_t end, const char **why)
{
	const int64_t n = m->taken < end ? ram_take(&m->ram, m->taken, end) : 0;

	if (n < 0) {
		*why = "more than is left of memory, and --prealloc takes it all";
		return (int)n;
	}
	m->taken += (uint64_t)n;
	progress("of memory taken", m->taken, end);
	return m->taken < end ? -EAGAIN : 0;
}

static int mem_open(struct dev *dev, const struct options *o, const char **why)
{
	const uint64_t page = (uint64_t)getpagesize();
	uint64_t source = 0;
	struct mem *m;
	int ret, fd = -1;

	if (o->load)
		fd = mem_source(o, &source, why);
	if (o->load && fd < 0)
		return fd;
	dev->block_size = o->block_size ? (uint32_t)o->block_size : 512;
	dev->physical_block_size = (uint32_t)page;
	dev->size = o->size ? o->size : round_up(source, dev->block_size);
	dev->max_io = (uint32_t)o->max_io;
	dev->max_discard = o->prealloc ? 0 : MAX_DISCARD;
	dev->max_write_zeroes = o->prealloc ? MAX_ZERO_FILL : MAX_DISCARD;
	dev->discard_granularity = (uint32_t)page;
	dev->read_only = o->read_only;
	dev->blank = !o->load;
	dev->data_path = DATA_DIRECT;
	dev->bounce = o->resilient;

	dev->priv = m = pages_get(sizeof(*m));
	if (!m) {
		fd_close(fd);
		return -ENOMEM;
	}
	m->ram.fd = -1;
	m->keeps = o->prealloc;
	ret = ram_open(&m->ram, o->resilient ? MEM_NAME : NULL, dev->size, 0, o->huge, why);
	if (ret)
		goto out;
	ret = mem_map_zeroes(dev, m);
	if (!ret && !m->keeps)
		mem_warn(dev->size);
	if (!ret && m->keeps)
		while ((ret = mem_take(m, m->ram.len, why)) == -EAGAIN)
			;
	if (!ret && (!m->keeps || m->ram.fd >= 0))
		ret = mem_map_present(m);
	if (!ret && o->load)
		ret = mem_load(dev, m, fd, source, why);
out:
	fd_close(fd);
	if (ret)
		mem_close(dev);
	return ret;
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
		n = m->ram.page - (off & (m->ram.page - 1));
		n = n < len ? n : len;
		if (m->present[off >> m->ram.page_shift] || mem_going(m))
			memset(m->ram.base + off, 0, n);
	}
}

/* A WRITE whose copy is still to come: its pages stay what it has made of them. */
static void mem_keep(struct dev *dev, uint64_t off, uint64_t len)
{
	mem_there(dev->priv, off, len);
}

/* Give back whole pages: see m->present for the order of it. */
static int mem_drop(const struct queue *q, struct mem *m, uint64_t off, uint64_t len)
{
	unsigned char *present;
	size_t nr;
	int ret;

	if (!m->present)	/* --prealloc: all of it counts as there */
		return ram_drop(&m->ram, off, len);
	present = mem_pages(m, off, len, &nr);
	__atomic_add_fetch(&m->going, 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);	/* pairs with mem_going() */
	mem_gone(present, nr);
	queue_copying(q, off, len, mem_keep);
	ret = ram_drop(&m->ram, off, len);
	if (ret)
		memset(present, 1, nr);
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
	const uint64_t first = (io->off + m->ram.page - 1) & ~(m->ram.page - 1), end = stop & ~(m->ram.page - 1);
	const bool whole = first < end;
	int ret;

	if (!zero && (!whole || m->keeps))
		return 0;
	if (m->keeps) {
		memset(m->ram.base + io->off, 0, io->len);
		return 0;
	}
	if (m->ram.fd >= 0) {	/* fills the ends as well, and takes no page for that */
		if (whole)
			mem_gone(m->present + (first >> m->ram.page_shift), (end - first) >> m->ram.page_shift);
		return ram_drop(&m->ram, io->off, io->len);
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

/*
 * --resilient: have what is there of a range in this server's page tables, as
 * its own. The driver would have it put there while it copies, and gives up on
 * that if this process is being killed: a READ that is committed already then
 * ends as an error. Here it is not committed yet, and comes again.
 */
static void mem_touch(const struct mem *m, uint64_t off, uint64_t len, int how)
{
	const uint64_t first = off & ~(m->ram.page - 1);

	(void)madvise(m->ram.base + first, (size_t)(off + len - first), how);	/* before 5.14: by the driver */
}

static int mem_write(struct mem *m, struct io *io)
{
	unsigned char *present;
	int64_t missing;
	size_t nr;

	io->buf = m->ram.base + io->off;
	if (!m->present)
		return (int)io->len;
	present = mem_pages(m, io->off, io->len, &nr);
	if (memchr(present, 0, nr)) {
		missing = mem_missing(m, io->off, present, nr);
		/* what an earlier server took costs nothing */
		if (m->ram.fd >= 0 && lseek(m->ram.fd, (off_t)io->off, SEEK_HOLE) >= (off_t)(io->off + io->len))
			missing = 0;
		if (missing && !ram_afford(&m->ram, missing, io->flags & UBLK_IO_F_SWAP))
			return -ENOSPC;
		if (m->ram.fd >= 0)
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

	io->buf = m->ram.base + io->off;
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
		if (lseek(m->ram.fd, off, SEEK_HOLE) < end) {
			data = lseek(m->ram.fd, off, SEEK_DATA);
			if (data < 0 || data >= end)
				io->buf = m->zeroes;
			else if (pread(m->ram.fd, io->buf, io->len, off) != (ssize_t)io->len)
				return -EIO;	/* what is in io->buf is the tag's own buffer */
			return (int)io->len;
		}
		mem_touch(m, io->off, io->len, MADV_POPULATE_READ);
		memset(present, 1, nr);
	}
	io->buf = m->ram.base + io->off;
	return (int)io->len;
}

static int mem_queue(struct queue *q, struct io *io)
{
	struct mem *m = queue_dev(q)->priv;

	switch (io->op) {
	case UBLK_IO_OP_READ:
		return m->ram.fd < 0 ? mem_read(m, io) : mem_read_shared(m, io);
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

/*
 * Give back the pages of a range that nobody can ask for, a piece of it from *at
 * on (0: from its beginning): the loop serves nobody meanwhile. Of a WRITE that
 * has come in before and is copied there later the page is known to be there; so
 * this is done when a device shrinks and again before it grows. Where nobody
 * serves (q is NULL) it is left for that. Returns 0 when all is, -EAGAIN, or
 * another -errno.
 */
static int mem_cut(const struct queue *q, struct mem *m, uint64_t off, uint64_t end, uint64_t *at)
{
	uint64_t n;
	int ret;

	if (*at < off)
		*at = off;
	if (!q || *at >= end)
		return 0;
	n = end - *at < MAX_CUT ? end - *at : MAX_CUT;
	ret = mem_drop(q, m, *at, n);
	*at += n;
	return !ret && *at < end ? -EAGAIN : ret;
}

static int mem_shrink(const struct queue *q, struct mem *m, uint64_t size, uint64_t page, uint64_t *at)
{
	int ret = mem_cut(q, m, page, m->ram.len, at);

	if (ret)
		return ret;
	if (m->taken > page)
		m->taken = page;
	/* what is left of the last page */
	if (size == page)
		return 0;
	if (m->ram.fd >= 0)
		return ram_drop(&m->ram, size, page - size);
	if (m->keeps)
		memset(m->ram.base + size, 0, page - size);
	else
		mem_zero(m, size, page - size);
	return 0;
}

static int mem_resize(const struct queue *q, struct dev *dev, uint64_t size, uint64_t *at, const char **why)
{
	struct mem *m = dev->priv;
	const uint64_t page = round_up(size, m->ram.page), before = round_up(dev->size, m->ram.page);
	const uint64_t was = m->ram.len < page ? m->ram.len : page;
	int ret;

	if (size <= dev->size)
		return mem_shrink(q, m, size, page, at);
	/* addresses that it had before, unless they have begun to be taken */
	ret = before < was && m->taken <= before ? mem_cut(q, m, before, was, at) : 0;
	if (ret)
		return ret;
	ret = ram_grow(&m->ram, size);
	if (!ret && m->present)
		ret = mem_map_present(m);
	if (ret) {
		*why = ret == -ENOMEM ? "no addresses are left for that much, or no memory may be promised" : NULL;
		return ret;
	}
	if (m->keeps && (ret = mem_take(m, page, why)) != 0 && ret != -EAGAIN) {
		(void)ram_drop(&m->ram, before, m->taken - before);
		m->taken = before;
	} else if (!m->keeps && q) {
		mem_warn(size);
	}
	return ret;
}

const struct backend backend_mem = {
	.name = "mem",
	.help = "a RAM disk",
	.examples = "1G -d\n512M -- sh -c 'mkfs.ext4 -q $UBLK_DEV && fsck.ext4 -n $UBLK_DEV'",
	.operand = "size",
	.open = mem_open,
	.close = mem_close,
	.queue = mem_queue,
	.resize = mem_resize,
};
