/* SPDX-License-Identifier: MIT */
/* commit: see commit.h. */
#include "store/commit.h"
#include "lib/say.h"
#include "lib/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PASSES		4	/* over what changes while it is written */
#define RUN_MAX		256U	/* pages that are written at once */
#define HOLE_MAX	32768U	/* pages that become a hole at once */

struct commit {
	struct changes *c;
	int fd;
	char *buf;		/* as long as what is written at once may be */
	uint64_t buf_len;
	bool no_holes;		/* the file takes none */
	uint64_t done, all;	/* pages, for the progress */
};

static int commit_punch(const struct commit *w, uint64_t off, uint64_t len)
{
	if (w->no_holes)
		return -EOPNOTSUPP;
	return fallocate(w->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)off, (off_t)len) ? -errno : 0;
}

/*
 * Zeroes, as a hole where that can be had. A block device that the snapshot has
 * claimed takes none where a page of its cache there is dirty, or held by a read.
 * Kernel: truncate_bdev_range().
 */
static int commit_zero(struct commit *w, uint64_t off, uint64_t len)
{
	int ret = commit_punch(w, off, len);

	if (ret == -EBUSY) {
		if (fdatasync(w->fd))
			return -errno;
		ret = commit_punch(w, off, len);
	}
	if (!ret)
		return 0;
	w->no_holes |= ret != -EBUSY;
	memset(w->buf, 0, len < w->buf_len ? len : w->buf_len);
	for (uint64_t done = 0, n; done < len; done += n) {
		n = len - done < w->buf_len ? len - done : w->buf_len;
		ret = write_all(w->fd, w->buf, n, (int64_t)(off + done));
		if (ret)
			return ret;
	}
	return 0;
}

/* What is in memory. Read, not mapped: of a page that was given back meanwhile that takes none again. */
static int commit_memory(struct commit *w, uint64_t off, uint64_t len)
{
	const struct ram *r = &w->c->ram;

	errno = EIO;	/* for a short read */
	if (pread(r->fd, w->buf, len, (off_t)(r->head + off)) != (ssize_t)len)
		return -errno;
	return write_all(w->fd, w->buf, len, (int64_t)(w->c->offset + off));
}

/*
 * Mark the page as sent, and those after it, as far as they are zero, or in memory.
 * What is marked already a commit before this one has left: it may have got no
 * further. Returns how many.
 */
static uint64_t commit_mark(struct changes *c, uint64_t page, bool first_pass, bool zero)
{
	const uint64_t nr = changes_pages(c), max = zero ? HOLE_MAX : RUN_MAX;
	uint64_t run = 0;

	for (; run < max && page + run < nr; run++) {
		enum page_state state = changes_state(c, page + run);

		if (state == PAGE_FILE || state_is_zero(state) != zero)
			break;
		if (state == PAGE_MEMORY || state == PAGE_ZERO) {
			if (!changes_send(c, page + run, state))
				break;
		} else if (!first_pass) {
			break;
		}
	}
	return run;
}

/* All that is zero, or all that is in memory, once. Returns the pages written, or -errno. */
static int64_t commit_runs(struct commit *w, bool first, bool zero)
{
	struct changes *c = w->c;
	const unsigned shift = c->ram.page_shift;
	uint64_t run, off, len;
	int64_t written = 0;
	int ret = 0;

	for (uint64_t page = 0; (page = changes_next(c, page)) < changes_pages(c); page += run ? run : 1) {
		run = commit_mark(c, page, first, zero);
		if (!run) {
			/* it has become zero since those were looked for: there is to be another pass */
			written += !zero && changes_state(c, page) == PAGE_ZERO;
			continue;
		}
		off = page << shift;
		len = ((run - 1) << shift) + changes_page_len(c, page + run - 1);
		ret = zero ? commit_zero(w, c->offset + off, len) : commit_memory(w, off, len);
		if (ret)
			return ret;
		written += (int64_t)run;
		w->done += run;
		if (first)
			progress("written", w->done < w->all ? w->done : w->all, w->all);
	}
	return written;
}

/* All that differs once: first what is zero, before writing makes pages dirty that would be in the way. */
static int64_t commit_pass(struct commit *w, bool first)
{
	const int64_t zeroes = commit_runs(w, first, true);
	const int64_t data = zeroes < 0 ? zeroes : commit_runs(w, first, false);

	return data < 0 ? data : zeroes + data;
}

/* Ahead of the first write, and behind the last. */
static void commit_unfinished(struct changes *c, bool on)
{
	__atomic_store_n(&c->head->unfinished, on, __ATOMIC_SEQ_CST);
}

int commit_write(struct changes *c, int fd)
{
	const uint64_t len = (uint64_t)RUN_MAX << c->ram.page_shift;
	struct commit w = { .c = c, .fd = fd, .buf = pages_get(len), .buf_len = len };
	int64_t n = 0;

	if (!w.buf)
		return -ENOMEM;
	for (uint64_t page = 0; (page = changes_next(c, page)) < changes_pages(c); page++)
		w.all++;
	commit_unfinished(c, true);
	for (unsigned i = 0; i < PASSES && (i == 0 || n > 0); i++)
		n = commit_pass(&w, i == 0);
	pages_put(w.buf, len);
	if (n > 0)	/* the last pass found some as well */
		n = -EBUSY;
	if (n == 0 && fdatasync(fd))
		n = -errno;
	if (n == 0)
		commit_unfinished(c, false);
	return (int)n;
}
