/* SPDX-License-Identifier: MIT */
/* ram: see ram.h. */
#include "store/ram.h"
#include "host/memory.h"
#include "lib/say.h"
#include "lib/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GRANT		(64LL << 20)	/* taken before the kernel is asked again what is left; less of little: */
#define SHARES		64		/* as so many RAM disks may be told the same at the same time */

static int ram_map(struct ram *r, const char *name)
{
	const uint64_t all = r->head + r->len;
	char *p;

	if (name) {
		r->fd = (int)syscall(SYS_memfd_create, name, 1U /* MFD_CLOEXEC */);
		if (r->fd < 0 || ftruncate(r->fd, (off_t)all))
			return -errno;
	}
	p = pages_map(all, PROT_READ | PROT_WRITE, MAP_NORESERVE | (name ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS),
		      r->fd, 0);
	if (!p)
		return -errno;
	r->base = p + r->head;
	return 0;
}

int ram_open(struct ram *r, const char *name, uint64_t size, uint64_t head, bool huge, const char **why)
{
	const uint64_t page = (uint64_t)getpagesize();
	int ret;

	*r = (struct ram){
		.len = (size + page - 1) / page * page,
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
	(void)madvise(r->base, r->len, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	(void)madvise(r->base, r->len, MADV_DONTDUMP);	/* the users' data is not for core files */
	if (!name)
		(void)madvise(r->base, r->len, MADV_DONTFORK);	/* and no child's copy of it */
	return 0;
}

void ram_close(struct ram *r)
{
	if (r->base)
		pages_put(r->base - r->head, r->head + r->len);
	r->base = NULL;
	fd_close(r->fd);
	r->fd = -1;
}

bool ram_afford(struct ram *r, int64_t bytes, bool swap)
{
	struct memory memory;
	int64_t left;

	if (__atomic_sub_fetch(&r->budget, bytes, __ATOMIC_RELAXED) >= 0 && !swap)
		return true;
	memory_get(&memory);
	left = memory.left;
	if (left < bytes && (swap || memory.locked > memory.total / 2)) {
		__atomic_store_n(&r->budget, 0, __ATOMIC_RELAXED);
		return false;
	}
	left = left / SHARES < GRANT ? left / SHARES : GRANT;
	__atomic_store_n(&r->budget, left > bytes ? left - bytes : 0, __ATOMIC_RELAXED);
	return true;
}

int ram_take_all(const struct ram *r)
{
	const uint64_t step = 64 << 20;
	struct memory memory;

	for (uint64_t off = 0; off < r->len; off += step) {
		uint64_t n = r->len - off < step ? r->len - off : step;

		memory_get(&memory);
		if (memory.left < (int64_t)(r->len - off))
			return -ENOMEM;
		if (madvise(r->base + off, n, MADV_POPULATE_WRITE))
			return -errno;
		progress("of memory taken", off + n, r->len);
	}
	return 0;
}

int ram_drop(const struct ram *r, uint64_t off, uint64_t len)
{
	if (r->fd >= 0)
		return fallocate(r->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)(r->head + off), (off_t)len) ?
		       -errno : 0;
	return madvise(r->base + off, len, MADV_DONTNEED_LOCKED) ? -errno : 0;
}
