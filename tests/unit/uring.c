/* SPDX-License-Identifier: MIT */
/* uring */
#include "tests/unit/test.h"
#include "tests/unit/fake.h"
#include <errno.h>

static bool ring_fills(uint32_t start, unsigned shift)
{
	struct io_uring_sqe *sqe;
	struct fake f;
	bool ok = true;

	fake_init(&f, start, shift);
	for (unsigned i = 0; i < FAKE_ENTRIES; i++) {
		sqe = uring_get_sqe(&f.ring);
		ok = ok && sqe == &f.sqes[((start + i) % FAKE_ENTRIES) << shift];
	}
	ok = ok && !uring_get_sqe(&f.ring);		/* full */
	f.sq_head++;					/* the kernel took one */
	uring_refill(&f.ring);
	sqe = uring_get_sqe(&f.ring);
	ok = ok && sqe == &f.sqes[(start % FAKE_ENTRIES) << shift] && !uring_get_sqe(&f.ring);
	return ok;
}

static bool ring_reaps(uint32_t start)
{
	struct io_uring_cqe cqe;
	struct fake f;
	bool ok;

	fake_init(&f, start, 0);
	ok = !uring_next_cqe(&f.ring, &cqe);
	for (unsigned i = 0; i < FAKE_ENTRIES; i++)
		f.cqes[(start + i) % FAKE_ENTRIES].user_data = i;
	f.cq_tail += FAKE_ENTRIES;
	for (unsigned i = 0; i < FAKE_ENTRIES; i++)
		ok = ok && uring_next_cqe(&f.ring, &cqe) && cqe.user_data == i &&
		     f.cq_head == start + i + 1;	/* each slot given back at once */
	return ok && !uring_next_cqe(&f.ring, &cqe);
}

static void test_ring(void)
{
	CHECK("ring: SQEs in order, full, again after the kernel took one",
	      ring_fills(0, 0) && ring_fills(3, 0) && ring_fills(0, 1));
	CHECK("ring: indices wrap at 32 bits", ring_fills(UINT32_MAX - 1, 0) && ring_fills(UINT32_MAX, 1));
	CHECK("ring: CQEs in order, slots given back", ring_reaps(0) && ring_reaps(UINT32_MAX - 1));
}

static void test_ring_for_real(void)
{
	struct uring ring = URING_NONE;
	struct io_uring_cqe cqe;
	bool ok = true;
	int ret = uring_init(&ring, 5, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

	if (ret == -ENOSYS || ret == -EPERM) {
		printf("skip - unit: a real ring: io_uring is not to be had here\n");
		return;
	}
	for (unsigned i = 0; i < 1000 && ok && !ret; i++) {
		uring_get_sqe(&ring)->user_data = i;	/* opcode 0 is NOP */
		ok = uring_enter(&ring, 1, 1000) == 1 && uring_next_cqe(&ring, &cqe) &&
		     cqe.user_data == i && cqe.res == 0;
	}
	ok = ok && !ret && uring_enter(&ring, 1, 10) == -ETIME;
	uring_exit(&ring);
	uring_exit(&ring);	/* again does no harm */
	CHECK("ring: 1000 NOPs through the kernel, a timeout, exit", ok);
}

int main(void)
{
	test_begin();
	test_ring();
	test_ring_for_real();
	return test_end();
}
