/* SPDX-License-Identifier: MIT */
/* steps: what a verb was at when it failed, and what it then exits with. */
#ifndef STEPS_H
#define STEPS_H

/* Exit statuses: ublk(8), "EXIT STATUS" */
enum exit_status {
	EXIT_USAGE = 2,
	EXIT_NO_DRIVER = 3,
	EXIT_PERMISSION = 4,
	EXIT_NO_URING = 5,
	EXIT_IN_USE = 6,
	EXIT_NO_DEVICE = 7,
	EXIT_TIMEOUT = 8,
	EXIT_AGAIN = 75,	/* of a server to its guard: start another; seen by nobody else */
};

/* What a verb was at when it failed: with an errno it makes message and status. */
enum step {
	STEP_CONTROL, STEP_RING, STEP_BACKEND, STEP_ADD, STEP_FEATURE, STEP_PARAMS, STEP_CHAR,
	STEP_AFFINITY, STEP_QUEUE, STEP_START, STEP_NODE, STEP_PRINT, STEP_STOP, STEP_DEL,
	STEP_INFO, STEP_DAEMON, STEP_RECOVER, STEP_REJOIN, STEP_FLUSH, STEP_MKNOD, STEP_SERVER,
	STEP_CHANGES, STEP_COMMIT, STEP_SAVE, STEP_READ, STEP_RESIZE,
};

#endif
