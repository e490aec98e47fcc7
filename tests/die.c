/* SPDX-License-Identifier: MIT */
/*
 * For a build of ublk whose server in the background dies by SIGKILL at the
 * Nth of its ring operations: DIE_AT=N in the environment. Linked with
 * -Wl,--wrap=uring_init,--wrap=uring_enter,--wrap=uring_register.
 */
#include "../uring.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

int __real_uring_init(struct uring *ring, unsigned entries, unsigned flags);
int __real_uring_enter(struct uring *ring, unsigned wait_nr, int timeout_ms);
int __real_uring_register(struct uring *ring, unsigned opcode, const void *arg, unsigned nr);
int __wrap_uring_init(struct uring *ring, unsigned entries, unsigned flags);
int __wrap_uring_enter(struct uring *ring, unsigned wait_nr, int timeout_ms);
int __wrap_uring_register(struct uring *ring, unsigned opcode, const void *arg, unsigned nr);

/* The server leads its session; the process that waits for it does not. */
static void step(void)
{
	static int n;
	const char *at = getenv("DIE_AT");

	if (at && getsid(0) == getpid() && ++n == atoi(at))
		raise(SIGKILL);
}

int __wrap_uring_init(struct uring *ring, unsigned entries, unsigned flags)
{
	step();
	return __real_uring_init(ring, entries, flags);
}

/* Counted before and after: the operation may have been done when it dies. */
int __wrap_uring_enter(struct uring *ring, unsigned wait_nr, int timeout_ms)
{
	int ret;

	step();
	ret = __real_uring_enter(ring, wait_nr, timeout_ms);
	step();
	return ret;
}

int __wrap_uring_register(struct uring *ring, unsigned opcode, const void *arg, unsigned nr)
{
	step();
	return __real_uring_register(ring, opcode, arg, nr);
}
