/* SPDX-License-Identifier: MIT */
/* A ring in plain memory, whose kernel is the test. */
#ifndef FAKE_H
#define FAKE_H

#include "uring.h"

#define FAKE_ENTRIES 4

struct fake {
	struct uring ring;
	uint32_t sq_head, sq_tail, cq_head, cq_tail;
	struct io_uring_sqe sqes[2 * FAKE_ENTRIES];
	struct io_uring_cqe cqes[FAKE_ENTRIES];
};

static void fake_init(struct fake *f, uint32_t start, unsigned shift)
{
	memset(f, 0, sizeof(*f));
	f->sq_head = f->sq_tail = f->cq_head = f->cq_tail = start;
	f->ring = (struct uring){
		.fd = -1, .sqes = f->sqes, .sqe_shift = shift, .sq_tail = start,
		.sq_mask = FAKE_ENTRIES - 1, .sq_khead = &f->sq_head, .sq_ktail = &f->sq_tail,
		.cqes = f->cqes, .cq_head = start, .cq_mask = FAKE_ENTRIES - 1,
		.cq_khead = &f->cq_head, .cq_ktail = &f->cq_tail,
	};
	uring_refill(&f->ring);
}

/* The kernel takes all SQEs. */
static inline void fake_take(struct fake *f, struct uring *ring)
{
	f->sq_head = ring->sq_tail;
	uring_refill(ring);
}

#endif
