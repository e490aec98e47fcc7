/* SPDX-License-Identifier: MIT */
/*
 * uring: io_uring by its three system calls.
 *
 * The part of the io_uring ABI that this program uses, under the kernel's own
 * names and numbers, so that it builds with any libc and without kernel
 * headers, and a ring: mapped, filled, entered, reaped. It knows nothing about
 * ublk, allocates nothing, prints nothing, and returns -errno.
 *
 * A ring belongs to the thread that made it; nothing here locks.
 */
#ifndef URING_H
#define URING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ---- ABI: include/uapi/linux/io_uring.h ---- */

struct io_uring_sqe {
	uint8_t opcode;
	uint8_t flags;			/* IOSQE_* */
	uint16_t ioprio;
	int32_t fd;
	union {
		uint64_t off;
		uint32_t cmd_op;	/* IORING_OP_URING_CMD */
	};
	uint64_t addr;
	uint32_t len;
	union {
		uint32_t rw_flags;
		uint32_t fsync_flags;
		uint32_t poll32_events;
	};
	uint64_t user_data;		/* comes back in the CQE */
	uint16_t buf_index;
	uint16_t personality;
	uint32_t file_index;
	uint8_t cmd[16];		/* 80 bytes long on a ring of 128-byte SQEs */
};
_Static_assert(sizeof(struct io_uring_sqe) == 64, "io_uring ABI");
_Static_assert(offsetof(struct io_uring_sqe, user_data) == 32, "io_uring ABI");
_Static_assert(offsetof(struct io_uring_sqe, cmd) == 48, "io_uring ABI");

struct io_uring_cqe {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
};
_Static_assert(sizeof(struct io_uring_cqe) == 16, "io_uring ABI");

struct io_sqring_offsets {
	uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, resv1;
	uint64_t user_addr;
};

struct io_cqring_offsets {
	uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1;
	uint64_t user_addr;
};

struct io_uring_params {
	uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle;
	uint32_t features, wq_fd, resv[3];
	struct io_sqring_offsets sq_off;
	struct io_cqring_offsets cq_off;
};
_Static_assert(sizeof(struct io_uring_params) == 120, "io_uring ABI");

enum {
	IORING_OFF_SQ_RING = 0,
	IORING_OFF_SQES = 0x10000000,

	IORING_SETUP_R_DISABLED = 1 << 6,	/* 5.10 */
	IORING_SETUP_COOP_TASKRUN = 1 << 8,	/* 5.19 */
	IORING_SETUP_SQE128 = 1 << 10,		/* 5.19 */
	IORING_SETUP_SINGLE_ISSUER = 1 << 12,	/* 6.0 */
	IORING_SETUP_DEFER_TASKRUN = 1 << 13,	/* 6.1 */
	IORING_SETUP_NO_SQARRAY = 1 << 16,	/* 6.6 */

	IORING_FEAT_SINGLE_MMAP = 1 << 0,
	IORING_FEAT_EXT_ARG = 1 << 8,
	IORING_FEAT_NO_IOWAIT = 1 << 17,

	IORING_ENTER_GETEVENTS = 1 << 0,
	IORING_ENTER_EXT_ARG = 1 << 3,
	IORING_ENTER_REGISTERED_RING = 1 << 4,	/* 5.18 */
	IORING_ENTER_NO_IOWAIT = 1 << 7,	/* 6.15 */

	IORING_REGISTER_BUFFERS = 0,
	IORING_UNREGISTER_BUFFERS = 1,
	IORING_REGISTER_FILES = 2,
	IORING_UNREGISTER_FILES = 3,
	IORING_REGISTER_RESTRICTIONS = 11,
	IORING_REGISTER_ENABLE_RINGS = 12,
	IORING_REGISTER_BUFFERS2 = 15,
	IORING_REGISTER_RING_FDS = 20,
	IORING_UNREGISTER_RING_FDS = 21,
	IORING_RSRC_REGISTER_SPARSE = 1 << 0,

	IOSQE_FIXED_FILE = 1 << 0,
	IOSQE_IO_LINK = 1 << 2,
	IOSQE_ASYNC = 1 << 4,
	IOSQE_CQE_SKIP_SUCCESS = 1 << 6,	/* 5.17 */
};

enum {
	IORING_RESTRICTION_REGISTER_OP = 0,
	IORING_RESTRICTION_SQE_OP = 1,
	IORING_RESTRICTION_SQE_FLAGS_ALLOWED = 2,
};

struct io_uring_restriction {
	uint16_t opcode;		/* IORING_RESTRICTION_* */
	uint8_t value;			/* an operation, or flags */
	uint8_t resv;
	uint32_t resv2[3];
};
_Static_assert(sizeof(struct io_uring_restriction) == 16, "io_uring ABI");

struct io_uring_rsrc_update {
	uint32_t offset, resv;
	uint64_t data;
};

struct io_uring_rsrc_register {
	uint32_t nr, flags;
	uint64_t resv2, data, tags;
};

enum {
	IORING_FSYNC_DATASYNC = 1 << 0,
	IORING_RWF_DSYNC = 1 << 1,			/* sqe.rw_flags: include/uapi/linux/fs.h */

	IORING_OP_FSYNC = 3,
	IORING_OP_READ_FIXED = 4,
	IORING_OP_WRITE_FIXED = 5,
	IORING_OP_POLL_ADD = 6,
	IORING_OP_FALLOCATE = 17,
	IORING_OP_READ = 22,
	IORING_OP_WRITE = 23,
	IORING_OP_URING_CMD = 46,
};

/* ---- a ring ---- */

struct uring {
	int fd;				/* -1: no ring */
	int enter_fd;			/* the same, or its number among its thread's registered rings */
	unsigned enter_flags;		/* IORING_ENTER_*, of every call */

	/* submission: [*sq_khead, sq_tail) is filled, the kernel moves khead */
	struct io_uring_sqe *sqes;
	unsigned sqe_shift;		/* 0, or 1 with IORING_SETUP_SQE128 */
	unsigned sq_tail, sq_mask;
	unsigned sq_left;		/* SQEs that can be filled; the kernel gives more when it is entered */
	const uint32_t *sq_khead;
	uint32_t *sq_ktail;

	/* completion: [cq_head, *cq_ktail) is to be reaped, we move khead */
	const struct io_uring_cqe *cqes;
	unsigned cq_head, cq_mask;
	uint32_t *cq_khead;
	const uint32_t *cq_ktail;

	void *ring_map, *sqe_map;	/* what uring_exit() unmaps */
	size_t ring_len, sqe_len;
};

/* A ring that uring_exit() may be called on and uring_init() has yet to make. */
#define URING_NONE { .fd = -1 }

/*
 * Make a ring of at least `entries` SQEs (rounded up to a power of two) and
 * twice as many CQEs. `flags` are tried as they are, then without those that
 * only make it faster, for kernels that do not know them.
 * Returns 0, -ENOSYS (io_uring not built in), -EPERM (sysctl
 * kernel.io_uring_disabled, or a seccomp filter), -EINVAL, -ENOMEM, -EMFILE.
 * On failure nothing is held. Kernel: io_uring_setup().
 */
int uring_init(struct uring *ring, unsigned entries, unsigned flags);

/*
 * Unmap and close. Both matter: a mapping keeps the ring alive, and the ring
 * keeps every file registered with it open.
 */
void uring_exit(struct uring *ring);

/* The SQE of this number, counted from the first that was ever filled. */
static inline struct io_uring_sqe *uring_sqe_at(const struct uring *ring, unsigned nr)
{
	return &ring->sqes[(size_t)(nr & ring->sq_mask) << ring->sqe_shift];
}

/* SQEs filled that the kernel has not taken: after uring_enter(), normally none. */
static inline unsigned uring_sqes(const struct uring *ring)
{
	/* pairs with the kernel's release of head when it has consumed SQEs */
	return ring->sq_tail - __atomic_load_n(ring->sq_khead, __ATOMIC_ACQUIRE);
}

/* To be called when the kernel has been entered: what it has taken can be filled again. */
static inline void uring_refill(struct uring *ring)
{
	ring->sq_left = ring->sq_mask + 1 - uring_sqes(ring);
}

/*
 * The next SQE, its first 64 bytes zeroed; the caller fills it before the next
 * uring_enter(). Returns NULL when all are taken: a caller that sized the ring
 * for what it can have in hand may assert that this does not happen.
 */
static inline struct io_uring_sqe *uring_get_sqe(struct uring *ring)
{
	struct io_uring_sqe *sqe;

	if (!ring->sq_left)
		return NULL;
	ring->sq_left--;
	sqe = uring_sqe_at(ring, ring->sq_tail++);
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

/* The SQE that uring_get_sqe() gave out last. */
static inline struct io_uring_sqe *uring_last_sqe(const struct uring *ring)
{
	return uring_sqe_at(ring, ring->sq_tail - 1);
}

/*
 * Hand the filled SQEs to the kernel and, with wait_nr > 0, sleep until that
 * many CQEs are there or timeout_ms is over (negative: no limit).
 * Returns the number of SQEs taken (0 or more), -ETIME, -EINTR, -EBUSY,
 * -EAGAIN or another -errno; SQEs not taken stay for the next call.
 */
int uring_enter(struct uring *ring, unsigned wait_nr, int timeout_ms);

/* Hand the filled SQEs to the kernel and do nothing else: with DEFER_TASKRUN no CQE comes of it yet. */
int uring_submit(struct uring *ring);

/*
 * Register the ring with the calling thread, so that entering it does not look
 * up its file each time. From then on only this thread may enter it. Before
 * 5.18 nothing happens. Kernel: io_ringfd_register().
 */
void uring_register_ring(struct uring *ring);

/*
 * For a ring made with IORING_SETUP_R_DISABLED: from now on it does what is
 * listed and nothing else, and can be entered. Returns 0 or -errno.
 */
int uring_restrict(struct uring *ring, const struct io_uring_restriction *allowed, unsigned nr);

/* The last SQE that the kernel has taken, as it was filled; not before the first uring_enter(). */
static inline const struct io_uring_sqe *uring_last_taken(const struct uring *ring)
{
	return uring_sqe_at(ring, __atomic_load_n(ring->sq_khead, __ATOMIC_ACQUIRE) - 1);
}

/* CQEs that wait to be taken. */
static inline unsigned uring_cqes(const struct uring *ring)
{
	/* pairs with the kernel's release of tail: the CQEs are written before */
	return __atomic_load_n(ring->cq_ktail, __ATOMIC_ACQUIRE) - ring->cq_head;
}

/* Take one of those. Its slot stays as it is until uring_give_back(). */
static inline const struct io_uring_cqe *uring_take_cqe(struct uring *ring)
{
	return &ring->cqes[ring->cq_head++ & ring->cq_mask];
}

/* The slots of all CQEs that have been taken may be used again. */
static inline void uring_give_back(struct uring *ring)
{
	/* pairs with the kernel's acquire of head: the CQEs are read before */
	__atomic_store_n(ring->cq_khead, ring->cq_head, __ATOMIC_RELEASE);
}

/* Take one CQE if there is one. False: there is none. */
static inline bool uring_next_cqe(struct uring *ring, struct io_uring_cqe *cqe)
{
	if (!uring_cqes(ring))
		return false;
	*cqe = *uring_take_cqe(ring);
	uring_give_back(ring);
	return true;
}

/* io_uring_register() on this ring. Returns 0 or more, or -errno. */
int uring_register(struct uring *ring, unsigned opcode, const void *arg, unsigned nr);

#endif
