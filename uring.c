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

/* Flags that change how fast a ring is, not what it does. */
#define SPEED_FLAGS (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER | \
		     IORING_SETUP_DEFER_TASKRUN)

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
	return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, off);
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

	/* SQEs are used in ring order: the array of indices never changes */
	array = (uint32_t *)(base + p->sq_off.array);
	for (unsigned i = 0; i < p->sq_entries; i++)
		array[i] = i;
	return 0;
}

int uring_init(struct uring *ring, unsigned entries, unsigned flags)
{
	const unsigned need = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_EXT_ARG;
	struct io_uring_params p = { .flags = flags };
	int ret;

	*ring = (struct uring)URING_NONE;
	ret = sys_setup(entries, &p);
	if (ret == -EINVAL && (flags & SPEED_FLAGS)) {
		p = (struct io_uring_params){ .flags = flags & ~SPEED_FLAGS };
		ret = sys_setup(entries, &p);
	}
	if (ret < 0)
		return ret;
	ring->fd = ret;
	ret = (p.features & need) == need ? ring_map(ring, &p) : -ENOSYS;
	if (ret)
		uring_exit(ring);
	return ret;
}

void uring_exit(struct uring *ring)
{
	if (ring->sqe_map)
		munmap(ring->sqe_map, ring->sqe_len);
	if (ring->ring_map)
		munmap(ring->ring_map, ring->ring_len);
	if (ring->fd >= 0)
		close(ring->fd);
	*ring = (struct uring)URING_NONE;
}

struct io_uring_sqe *uring_get_sqe(struct uring *ring)
{
	/* pairs with the kernel's release of head when it has consumed SQEs */
	unsigned head = __atomic_load_n(ring->sq_khead, __ATOMIC_ACQUIRE);
	struct io_uring_sqe *sqe;

	if (ring->sq_tail - head > ring->sq_mask)
		return NULL;
	sqe = &ring->sqes[(size_t)(ring->sq_tail++ & ring->sq_mask) << ring->sqe_shift];
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

int uring_enter(struct uring *ring, unsigned wait_nr, int timeout_ms)
{
	struct enter_timespec ts = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = timeout_ms % 1000 * 1000000LL,
	};
	struct enter_arg arg = {
		.sigmask_sz = _NSIG / 8,
		.ts = timeout_ms < 0 ? 0 : (uintptr_t)&ts,
	};
	unsigned nr;

	nr = ring->sq_tail - __atomic_load_n(ring->sq_khead, __ATOMIC_ACQUIRE);
	/* pairs with the kernel's acquire of tail: the SQEs are filled before */
	__atomic_store_n(ring->sq_ktail, ring->sq_tail, __ATOMIC_RELEASE);
	/* GETEVENTS even when not waiting: it runs what DEFER_TASKRUN held back */
	return sys_result(syscall(__NR_io_uring_enter, ring->fd, nr, wait_nr,
				  IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
				  &arg, sizeof(arg)));
}

bool uring_next_cqe(struct uring *ring, struct io_uring_cqe *cqe)
{
	/* pairs with the kernel's release of tail: the CQE is written before */
	if (ring->cq_head == __atomic_load_n(ring->cq_ktail, __ATOMIC_ACQUIRE))
		return false;
	*cqe = ring->cqes[ring->cq_head++ & ring->cq_mask];
	/* pairs with the kernel's acquire of head: the slot may be used again */
	__atomic_store_n(ring->cq_khead, ring->cq_head, __ATOMIC_RELEASE);
	return true;
}
