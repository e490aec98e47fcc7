/* SPDX-License-Identifier: MIT */
/* uring: see uring.h. */
#include "uring.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_io_uring_setup	/* the same on every architecture but alpha */
#define __NR_io_uring_setup	425
#define __NR_io_uring_enter	426
#define __NR_io_uring_register	427
#endif

/* Flags that change how fast a ring is, not what it does: what to go without, from new kernels to old. */
static const unsigned without[] = {
	0,
	IORING_SETUP_NO_SQARRAY,
	IORING_SETUP_NO_SQARRAY | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER |
		IORING_SETUP_DEFER_TASKRUN,
};

/* struct io_uring_getevents_arg, and the 64-bit timespec that it points to */
struct enter_arg {
	uint64_t sigmask;
	uint32_t sigmask_sz;
	uint32_t pad;
	uint64_t ts;
};

struct enter_timespec {
	int64_t tv_sec;
	long long tv_nsec;
};

static int sys_result(long ret)
{
	return ret < 0 ? -errno : (int)ret;
}

static int sys_setup(unsigned entries, struct io_uring_params *p)
{
	return sys_result(syscall(__NR_io_uring_setup, entries, p));
}

int uring_register(struct uring *ring, unsigned opcode, const void *arg, unsigned nr)
{
	return sys_result(syscall(__NR_io_uring_register, ring->fd, opcode, arg, nr));
}

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

static void *ring_mmap(int fd, size_t len, off_t off)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, off);

	if (p != MAP_FAILED)	/* a child's would keep the ring, and the files registered with it */
		(void)madvise(p, len, MADV_DONTFORK);
	return p;
}

static int ring_map(struct uring *ring, const struct io_uring_params *p)
{
	const unsigned shift = p->flags & IORING_SETUP_SQE128 ? 1 : 0;
	char *base;
	uint32_t *array;

	ring->ring_len = max_size(p->sq_off.array + p->sq_entries * sizeof(uint32_t),
				  p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe));
	base = ring_mmap(ring->fd, ring->ring_len, IORING_OFF_SQ_RING);
	if (base == MAP_FAILED)
		return -errno;
	ring->ring_map = base;

	ring->sqe_len = (p->sq_entries * sizeof(struct io_uring_sqe)) << shift;
	ring->sqe_map = ring_mmap(ring->fd, ring->sqe_len, IORING_OFF_SQES);
	if (ring->sqe_map == MAP_FAILED) {
		ring->sqe_map = NULL;
		return -errno;
	}

	ring->sqes = ring->sqe_map;
	ring->sqe_shift = shift;
	ring->sq_mask = p->sq_entries - 1;
	ring->sq_khead = (uint32_t *)(base + p->sq_off.head);
	ring->sq_ktail = (uint32_t *)(base + p->sq_off.tail);
	ring->cqes = (struct io_uring_cqe *)(base + p->cq_off.cqes);
	ring->cq_mask = p->cq_entries - 1;
	ring->cq_khead = (uint32_t *)(base + p->cq_off.head);
	ring->cq_ktail = (uint32_t *)(base + p->cq_off.tail);
	uring_refill(ring);

	if (p->flags & IORING_SETUP_NO_SQARRAY)
		return 0;
	/* SQEs are used in ring order: the array of indices never changes */
	array = (uint32_t *)(base + p->sq_off.array);
	for (unsigned i = 0; i < p->sq_entries; i++)
		array[i] = i;
	return 0;
}

int uring_init(struct uring *ring, unsigned entries, unsigned flags)
{
	const unsigned need = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_EXT_ARG;
	struct io_uring_params p;
	int ret = -EINVAL;

	*ring = (struct uring)URING_NONE;
	for (unsigned i = 0; ret == -EINVAL && i < sizeof(without) / sizeof(without[0]); i++) {
		p = (struct io_uring_params){ .flags = flags & ~without[i] };
		ret = sys_setup(entries, &p);
	}
	if (ret < 0)
		return ret;
	ring->fd = ret;
	ret = (p.features & need) == need ? ring_map(ring, &p) : -ENOSYS;
	if (ret) {
		uring_exit(ring);
		return ret;
	}
	ring->enter_fd = ring->fd;
	ring->enter_flags = 0;
	if (p.features & IORING_FEAT_NO_IOWAIT)	/* a server that waits for work is idle */
		ring->enter_flags |= IORING_ENTER_NO_IOWAIT;
	return 0;
}

void uring_register_ring(struct uring *ring)
{
	struct io_uring_rsrc_update up = { .offset = UINT32_MAX, .data = (uint64_t)ring->fd };

	if (uring_register(ring, IORING_REGISTER_RING_FDS, &up, 1) != 1)
		return;
	ring->enter_fd = (int)up.offset;
	ring->enter_flags |= IORING_ENTER_REGISTERED_RING;
}

int uring_restrict(struct uring *ring, const struct io_uring_restriction *allowed, unsigned nr)
{
	int ret = uring_register(ring, IORING_REGISTER_RESTRICTIONS, allowed, nr);

	return ret < 0 ? ret : uring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

void uring_exit(struct uring *ring)
{
	struct io_uring_rsrc_update up = { .offset = (uint32_t)ring->enter_fd };

	if (ring->enter_flags & IORING_ENTER_REGISTERED_RING)
		(void)uring_register(ring, IORING_UNREGISTER_RING_FDS, &up, 1);
	if (ring->sqe_map)
		munmap(ring->sqe_map, ring->sqe_len);
	if (ring->ring_map)
		munmap(ring->ring_map, ring->ring_len);
	if (ring->fd >= 0)
		close(ring->fd);
	*ring = (struct uring)URING_NONE;
}

static int ring_enter(struct uring *ring, unsigned wait_nr, unsigned flags, const struct enter_arg *arg)
{
	const unsigned nr = uring_sqes(ring);
	int ret;

	/* pairs with the kernel's acquire of tail: the SQEs are filled before */
	__atomic_store_n(ring->sq_ktail, ring->sq_tail, __ATOMIC_RELEASE);
	ret = sys_result(syscall(__NR_io_uring_enter, ring->enter_fd, nr, wait_nr, ring->enter_flags | flags,
				 arg, arg ? sizeof(*arg) : 0));
	uring_refill(ring);
	return ret;
}

int uring_submit(struct uring *ring)
{
	return ring_enter(ring, 0, 0, NULL);
}

int uring_enter(struct uring *ring, unsigned wait_nr, int timeout_ms)
{
	/* GETEVENTS even when not waiting: it runs what DEFER_TASKRUN held back */
	const unsigned flags = IORING_ENTER_GETEVENTS;
	const struct enter_timespec ts = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = timeout_ms % 1000 * 1000000LL,
	};
	const struct enter_arg arg = { .sigmask_sz = _NSIG / 8, .ts = (uintptr_t)&ts };

	if (timeout_ms < 0)
		return ring_enter(ring, wait_nr, flags, NULL);
	return ring_enter(ring, wait_nr, flags | IORING_ENTER_EXT_ARG, &arg);
}
