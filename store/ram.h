/* SPDX-License-Identifier: MIT */
/*
 * ram: memory as large as a device, of which pages are taken as they are
 * touched and given back, and the last of the machine's is left alone. A RAM
 * disk is made of it, and what a snapshot has changed.
 */
#ifndef STORE_RAM_H
#define STORE_RAM_H

#include <stdbool.h>
#include <stdint.h>

struct ram {
	char *base;		/* of len bytes, page by page zero until written */
	uint64_t len;		/* in whole pages */
	uint64_t room;		/* of addresses from base on, for len to grow: at least len */
	uint64_t head;		/* bytes in front of base, mapped and in fd as well: the owner's own */
	uint64_t page;		/* bytes */
	unsigned page_shift;	/* of page */
	unsigned take_shift;	/* of the bytes that the first write to a page may take: itself, or a huge one */
	int fd;			/* a memfd, shared with processes forked after this; -1: the memory is this one's */
	int64_t budget;		/* bytes; any queue's thread; no more than GRANT_MS after */
	int64_t granted;	/* this, of now_ms() */
};

#define RAM_NONE { .fd = -1 }
#define MEM_NAME "ublk-mem"	/* of the memfd of a RAM disk, where it has one */

/*
 * Map memory for size bytes, and head bytes, a multiple of the page, in front of
 * them: what has such a head cannot grow. With a name it is a memfd of that name; without, memory of this process
 * that a child's copy does not have. huge: ask for huge pages. Returns 0 or
 * -errno, holding nothing; why is then a few words for the user.
 */
int ram_open(struct ram *r, const char *name, uint64_t size, uint64_t head, bool huge, const char **why);

/* Have size bytes at least, where all is. Returns 0 or -errno; -ENOMEM: there are no addresses left for them. */
int ram_grow(struct ram *r, uint64_t size);

/* Give all of it back, also of one that was never opened: RAM_NONE. */
void ram_close(struct ram *r);

/*
 * May so many bytes more be taken? There is no telling beforehand whether the
 * kernel will find a page, and where it does not it looks for one for ever, or
 * kills a process to get one. So it is asked now and then what is left. If that
 * is little because of RAM disks, whose memory is locked, the rest is not ours;
 * if because of others, they will be made to give some back. What is swapped
 * out to us (swap) gets none of the last: it is to make room, not to wait for it.
 */
bool ram_afford(struct ram *r, int64_t bytes, bool swap);

/*
 * Touch the pages from off to end, or as many as take a moment. The kernel would
 * go through with it and kill whoever is in the way, so all that is still to come
 * must be left at each step. Returns the bytes or -errno.
 */
int64_t ram_take(const struct ram *r, uint64_t off, uint64_t end);

/*
 * Take memory for the pages that hold the bytes from first to last, where a fault
 * that gets none could not be answered. Returns 0, also in a kernel that does not
 * know how (before 5.14), or -errno: it may have got some.
 */
int ram_populate(const struct ram *r, const void *first, const void *last);

/*
 * Give back whole pages, which are zero from then on; of a memfd any bytes: the
 * parts of pages at both ends become zero. Returns 0 or -errno.
 */
int ram_drop(const struct ram *r, uint64_t off, uint64_t len);

#endif
