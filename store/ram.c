/* SPDX-License-Identifier: MIT */
/* ram: see ram.h. */
#include "store/ram.h"
#include "host/memory.h"
#include "lib/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM		(16ULL << 40)	/* what a RAM disk may grow to, if the machine has addresses for it */
#define STEP		(64ULL << 20)	/* of ram_take() */
#define GRANT		(64LL << 20)	/* taken before the kernel is asked again what is left; less of little: */
#define SHARES		512		/* as so many RAM disks may be told the same at the same time, */
#define GRANT_MS	200		/* which is as long as that is good for */

/*
 * As many addresses as there may be, for memory that grows. They cost nothing, but
 * where they are few or counted there are to be some left for all the rest.
 */
static uint64_t ram_room(uint64_t all)
{
	struct rlimit limit;

	if (SIZE_MAX <= UINT32_MAX || prlimit(0, RLIMIT_AS, NULL, &limit) || limit.rlim_cur != RLIM_INFINITY)
		return all;
	return all > ROOM ? all : ROOM;
}

static int ram_map(struct ram *r, const char *name)
{
	const uint64_t all = r->head + r->len;
	uint64_t room = r->head ? all : ram_room(all);
	char *p = NULL;

	if (name) {
		r->fd = memfd_make(name, all);
		if (r->fd < 0)
			return r->fd;
	}
	for (; !p && room >= all; room = room / 2 < all && room > all ? all : room / 2) {
		p = pages_map(room, name ? PROT_READ | PROT_WRITE : PROT_NONE,
			      MAP_NORESERVE | (name ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS), r->fd, 0);
		r->room = room - r->head;
	}
	if (!p)
		return -errno;
	r->base = p + r->head;
	return name || mprotect(p, all, PROT_READ | PROT_WRITE) == 0 ? 0 : -errno;
}

int ram_grow(struct ram *r, uint64_t size)
{
	const uint64_t len = round_up(size, r->page);

	if (len <= r->len)
		return 0;
	if (len > r->room)
		return -ENOMEM;
	if (r->fd >= 0 ? ftruncate(r->fd, (off_t)len) : mprotect(r->base + r->len, len - r->len, PROT_READ | PROT_WRITE))
		return -errno;
	r->len = len;
	return 0;
}

int ram_open(struct ram *r, const char *name, uint64_t size, uint64_t head, bool huge, const char **why)
{
	const uint64_t page = (uint64_t)getpagesize();
	int ret;

	*r = (struct ram){
		.len = round_up(size, page),
		.head = head,
		.page = page,
		.page_shift = (unsigned)__builtin_ctzll(page),
		/* the largest that a fault takes: as much as one page of page table entries, of 8 bytes, can map */
		.take_shift = (unsigned)__builtin_ctzll(huge ? page / 8 * page : page),
		.fd = -1,
	};
	ret = ram_map(r, name);
	if (ret) {
		*why = r->len > SIZE_MAX ? "a 32-bit program has no addresses for that much" :
		       "the kernel does not map that much memory (vm.overcommit_memory, ulimit -v)";
		ram_close(r);
		return ret;
	}
	/* not by default: one sector written would take 2 MiB. EINVAL: kernel without */
	(void)madvise(r->base, r->room, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	(void)madvise(r->base, r->room, MADV_DONTDUMP);	/* the users' data is not for core files */
	if (!name)
		(void)madvise(r->base, r->room, MADV_DONTFORK);	/* and no child's copy of it */
	return 0;
}

void ram_close(struct ram *r)
{
	if (r->base)
		pages_put(r->base - r->head, r->head + r->room);
	r->base = NULL;
	fd_close(r->fd);
	r->fd = -1;
}

bool ram_afford(struct ram *r, int64_t bytes, bool swap)
{
	const int64_t now = now_ms();
	struct memory memory;
	int64_t left;

	if (__atomic_sub_fetch(&r->budget, bytes, __ATOMIC_RELAXED) >= 0 && !swap &&
	    now < __atomic_load_n(&r->granted, __ATOMIC_RELAXED) + GRANT_MS)
		return true;
	memory_get(&memory);
	left = memory.left;
	if (left < bytes && (swap || memory.locked > memory.total / 2)) {
		__atomic_store_n(&r->budget, 0, __ATOMIC_RELAXED);
		return false;
	}
	left = left / SHARES < GRANT ? left / SHARES : GRANT;
	__atomic_store_n(&r->budget, left > bytes ? left - bytes : 0, __ATOMIC_RELAXED);
	__atomic_store_n(&r->granted, now, __ATOMIC_RELAXED);
	return true;
}

int64_t ram_take(const struct ram *r, uint64_t off, uint64_t end)
{
	const uint64_t n = end - off < STEP ? end - off : STEP;
	struct memory memory;
	struct stat st;

	/* what an earlier server has taken is there */
	if (r->fd >= 0 && fstat(r->fd, &st) == 0 && (uint64_t)st.st_blocks * 512 >= end)
		return (int64_t)(end - off);
	memory_get(&memory);
	if (memory.left < (int64_t)(end - off))
		return -ENOMEM;
	return madvise(r->base + off, n, MADV_POPULATE_WRITE) ? -errno : (int64_t)n;
}

int ram_populate(const struct ram *r, const void *first, const void *last)
{
	const uintptr_t from = (uintptr_t)first & ~(r->page - 1), end = (uintptr_t)last + 1;

	return madvise((void *)from, end - from, MADV_POPULATE_WRITE) && errno != EINVAL ? -errno : 0;
}

int ram_drop(const struct ram *r, uint64_t off, uint64_t len)
{
	if (r->fd >= 0)
		return fallocate(r->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)(r->head + off), (off_t)len) ?
		       -errno : 0;
	return madvise(r->base + off, len, MADV_DONTNEED_LOCKED) ? -errno : 0;
}
