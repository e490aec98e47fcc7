/* SPDX-License-Identifier: MIT */
/* fail: see fail.h. */
#include "host/fail.h"
#include "lib/read.h"
#include "lib/say.h"
#include "lib/sys.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char *const step_names[] = {
	[STEP_CONTROL] = "open /dev/ublk-control",
	[STEP_RING] = "io_uring_setup",
	[STEP_BACKEND] = "open",
	[STEP_ADD] = "ADD_DEV",
	[STEP_FEATURE] = "negotiate features",
	[STEP_PARAMS] = "SET_PARAMS",
	[STEP_CHAR] = "open character device",
	[STEP_AFFINITY] = "GET_QUEUE_AFFINITY",
	[STEP_QUEUE] = "set up queue",
	[STEP_START] = "START_DEV",
	[STEP_NODE] = "open and read the node",
	[STEP_PRINT] = "print the node",
	[STEP_STOP] = "STOP_DEV",
	[STEP_DEL] = "DEL_DEV",
	[STEP_INFO] = "GET_DEV_INFO",
	[STEP_DAEMON] = "start a process",
	[STEP_RECOVER] = "START_USER_RECOVERY",
	[STEP_REJOIN] = "END_USER_RECOVERY",
	[STEP_FLUSH] = "write what is dirty",
	[STEP_MKNOD] = "make the node",
	[STEP_SERVER] = "wait for its server",
	[STEP_CHANGES] = "look for its changes",
	[STEP_COMMIT] = "write the changes",
	[STEP_SAVE] = "write",
	[STEP_READ] = "read",
	[STEP_RESIZE] = "resize",
};

#define HINT_DRIVER "the driver ublk_drv is not loaded and ublk has not loaded it: " \
		    "see \"ublk check\", or try \"modprobe ublk_drv\""
#define HINT_LIMIT "the limit is in /sys/module/ublk_drv/parameters/ublks_max"
#define HINT_CRASH "see dmesg: the driver of Linux 6.18.4, 6.18.5 and some 6.17 builds crashes here"

#define HINT_GIVEN "nobody has given you the node, see \"ublk check\"; root can remove the device: ublk stop"
#define HINT_YOURS "it is not yours: its owner or root can do that"
#define HINT_NODE "what is in /dev by that name is not the device: remove it"

static const struct remedy {
	uint8_t step, err, status;	/* enum step, an errno, enum exit_status */
	const char *hint;
} remedies[] = {
	{ STEP_CONTROL, ENOENT, EXIT_NO_DRIVER, HINT_DRIVER },
	{ STEP_CONTROL, ENODEV, EXIT_NO_DRIVER, HINT_DRIVER },
	{ STEP_CONTROL, ENXIO, EXIT_NO_DRIVER, HINT_DRIVER },
	{ STEP_CONTROL, EACCES, EXIT_PERMISSION, HINT_ROOT },
	{ STEP_CONTROL, EPERM, EXIT_PERMISSION, HINT_ROOT },
	{ STEP_RING, ENOSYS, EXIT_NO_URING, "this kernel is built without io_uring (CONFIG_IO_URING)" },
	{ STEP_RING, EPERM, EXIT_NO_URING, NULL },	/* uring_forbidden() names the cause */
	{ STEP_RING, EACCES, EXIT_NO_URING, NULL },
	{ STEP_CHANGES, EACCES, EXIT_PERMISSION, HINT_ROOT },
	{ STEP_CHANGES, EBUSY, EXIT_IN_USE, NULL },
	{ STEP_COMMIT, EACCES, EXIT_PERMISSION, NULL },
	{ STEP_COMMIT, EPERM, EXIT_PERMISSION, NULL },
	{ STEP_COMMIT, EBUSY, EXIT_IN_USE, NULL },
	{ STEP_SAVE, EACCES, EXIT_PERMISSION, NULL },
	{ STEP_SAVE, EPERM, EXIT_PERMISSION, NULL },
	{ STEP_SAVE, EEXIST, EXIT_FAILURE, "remove it first" },
	{ STEP_RESIZE, EACCES, EXIT_PERMISSION, HINT_ROOT },
	{ STEP_RESIZE, EBUSY, EXIT_IN_USE, NULL },
	{ STEP_BACKEND, EACCES, EXIT_PERMISSION, NULL },
	{ STEP_BACKEND, EPERM, EXIT_PERMISSION, NULL },
	{ STEP_BACKEND, EBUSY, EXIT_IN_USE, NULL },
	{ STEP_ADD, EPERM, EXIT_PERMISSION, HINT_ROOT },
	{ STEP_ADD, EACCES, EXIT_FAILURE, HINT_LIMIT },
	{ STEP_ADD, EEXIST, EXIT_FAILURE, "that number is taken, see \"ublk list\"" },
	{ STEP_ADD, ENOSPC, EXIT_FAILURE, "no free device number" },
	{ STEP_ADD, ETIME, EXIT_TIMEOUT, HINT_CRASH },
	{ STEP_CONTROL, EEXIST, EXIT_NO_DRIVER, HINT_NODE },
	{ STEP_CHAR, EEXIST, EXIT_FAILURE, HINT_NODE },
	{ STEP_CHAR, EACCES, EXIT_PERMISSION, HINT_GIVEN },
	{ STEP_NODE, EACCES, EXIT_PERMISSION, HINT_GIVEN },
	{ STEP_NODE, EEXIST, EXIT_FAILURE, HINT_NODE },
	{ STEP_MKNOD, EEXIST, EXIT_FAILURE, HINT_NODE },
	{ STEP_SERVER, ETIME, EXIT_TIMEOUT, "it has not ended: is it stopped, frozen, or waiting for a disk?" },
	{ STEP_CHAR, EBUSY, EXIT_FAILURE, "another program opened it first" },
	{ STEP_INFO, ENODEV, EXIT_NO_DEVICE, NULL },
	{ STEP_INFO, EPERM, EXIT_PERMISSION, HINT_YOURS },
	{ STEP_INFO, EACCES, EXIT_PERMISSION, HINT_YOURS },
	{ STEP_RECOVER, ENODEV, EXIT_NO_DEVICE, NULL },
	{ STEP_RECOVER, EPERM, EXIT_PERMISSION, HINT_ROOT },
	{ STEP_RECOVER, EBUSY, EXIT_IN_USE, NULL },
	{ STEP_STOP, ENODEV, EXIT_NO_DEVICE, NULL },
	{ STEP_STOP, EBUSY, EXIT_IN_USE, NULL },
	{ STEP_STOP, ETIME, EXIT_TIMEOUT, "its dirty pages may still be on their way, or its server hangs" },
	{ STEP_DEL, EBUSY, EXIT_TIMEOUT, "stopped, but not removed while somebody has it open: "
	  "try \"ublk stop\" again" },
	{ STEP_DEL, ETIME, EXIT_TIMEOUT, "somebody still has the device open; it goes when they close it" },
};

const char *uring_forbidden(void)
{
	char text[2];

	(void)text_read("/proc/sys/kernel/io_uring_disabled", text, sizeof(text));
	if (text[0] == '2')
		return "io_uring is switched off: sysctl kernel.io_uring_disabled=0";
	if (text[0] == '1')
		return "io_uring is for privileged users only here: sysctl kernel.io_uring_disabled=0, or run as root";
	return "a seccomp filter forbids io_uring: containers need a profile that allows it";
}

int fail(const char *object, enum step step, int err, const char *why)
{
	int status = EXIT_FAILURE;
	const char *hint = NULL;

	if (err < 0)
		err = -err;
	if (err == ETIME) {
		status = EXIT_TIMEOUT;
		if (!why)
			why = "no answer within the time limit";
	}
	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++) {
		if (remedies[i].step == step && remedies[i].err == err) {
			status = remedies[i].status;
			hint = remedies[i].hint;
			if (status == EXIT_NO_URING && !hint)
				hint = uring_forbidden();
			break;
		}
	}
	say("%s: %s: %s%s%s", object, step_names[step], why ? why : strerror(err),
	    hint ? "; " : "", hint ? hint : "");
	return status;
}
