/* SPDX-License-Identifier: MIT */
/* stop: see stop.h. */
#include "serve/stop.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "host/process.h"
#include "host/server.h"
#include "host/usage.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "serve/cookie.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define RESTART_MS	2000	/* that a guard may take, see guard_restart() */

/* c->info of the device, as it is when no guard is about to start its next server: that is to write what is dirty. */
static int stop_look(struct ctrl *c, uint32_t id)
{
	const int64_t until = now_ms() + RESTART_MS;
	int ret;

	for (;;) {
		ret = ctrl_get_info(c, id);
		if (ret || c->info.state != UBLK_S_DEV_QUIESCED || !cookie_is_ours(c->info.ublksrv_flags) ||
		    !(c->info.ublksrv_flags & COOKIE_RESILIENT) || now_ms() >= until)
			return ret;
		nap_ms(20);
	}
}

/*
 * A snapshot's server is asked whether anything is lost if it goes: -EBUSY and
 * why, or nothing is known against it. One that has died may have a successor.
 */
static int stop_spares(struct ctrl *c, char *text, size_t len)
{
	struct letter l = { .what = LETTER_LEAVE };
	const char *why;
	int ret, pid = 0;

	if (!(c->info.ublksrv_flags & COOKIE_SNAPSHOT) || info_is_others(&c->info))
		return 0;
	c->step = STEP_STOP;
	ret = letter_send(&c->info, &pid, &l, &why);
	ctrl_set_deadline(c);
	if (c->info.ublksrv_flags & COOKIE_RESILIENT && (ret == -ESRCH || ret == -ENOENT))
		ret = -EBUSY;
	if (ret != -EBUSY)
		return ret == -ETIME ? ret : 0;
	text_print(text, len, "%s", why);
	return ret;
}

/* STOP_DEV, when the device is free: wait seconds at most, and as long as udev may have it. */
static int stop_ask(struct ctrl *c, uint32_t id, bool force, uint64_t wait, char *text, size_t len)
{
	const int64_t wait_ms = (int64_t)wait * 1000, end = now_ms() + (wait_ms > GRACE_MS ? wait_ms : GRACE_MS);
	int ret;

	for (;;) {
		ret = force ? 0 : stop_spares(c, text, len);
		if (!ret)
			ret = dev_stop(c, id, force, text, len);
		if (ret != -EBUSY || now_ms() >= end)
			return ret;
		nap_ms(50);
		ctrl_set_deadline(c);	/* it counts from when the device is free */
	}
}

/* Wait until a process has ended; -1: there is none. Closes its descriptor. */
static int stop_await(struct ctrl *c, int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int ret = 0;

	if (pidfd < 0)
		return 0;
	c->step = STEP_SERVER;
	ret = poll(&p, 1, ctrl_left(c)) == 0 ? -ETIME : 0;
	close(pidfd);
	return ret;
}

/*
 * A device that is not dead. Ours ends with its device, and removes it; another
 * server may have more of them.
 */
static int stop_served(struct ctrl *c, uint32_t id, bool force, uint64_t wait, char *text, size_t len)
{
	const uint64_t cookie = c->info.ublksrv_flags;
	const bool ours = cookie_is_ours(cookie) && c->info.state == UBLK_S_DEV_LIVE;
	const int pid = ours ? usage_server(id, c->info.ublksrv_pid) : 0;
	int pidfd = pidfd_of(pid);
	int guard_fd = pidfd >= 0 && cookie & COOKIE_RESILIENT ? pidfd_of(guard_of(pid)) : -1;
	int ret = stop_ask(c, id, force, wait, text, len);

	if (ret) {
		fd_close(pidfd);
		fd_close(guard_fd);
		return ret;
	}
	ret = stop_await(c, pidfd);
	if (ret)
		fd_close(guard_fd);
	return ret ? ret : stop_await(c, guard_fd);
}

/*
 * One look at the device, and what its state asks for. Returns 0 when it can be
 * removed, or -errno; -ENODEV if it is no more what it was, which a server that
 * dies meanwhile comes to.
 */
static int stop_try(struct ctrl *c, uint32_t id, bool force, uint64_t wait, char *text, size_t len)
{
	int pid;

	if (c->info.state != UBLK_S_DEV_DEAD)
		return stop_served(c, id, force, wait, text, len);
	/* not one whose server is about to start it: before 7.x the driver would not survive */
	pid = force ? 0 : usage_server(id, 0);
	if (!pid)
		return 0;
	text_print(text, len, "being started by process %d", pid);
	c->step = STEP_STOP;
	return -EBUSY;
}

/* Stop one device and see it gone. Returns 0 or -errno; with -EBUSY text says by what it is in use. */
static int stop_one(struct ctrl *c, uint32_t id, bool force, uint64_t wait, char *text, size_t len)
{
	uint64_t cookie;
	int ret;

	ctrl_set_deadline(c);
	ret = stop_look(c, id);
	if (ret)
		return ret;
	cookie = c->info.ublksrv_flags;
	while ((ret = stop_try(c, id, force, wait, text, len)) == -ENODEV && ctrl_left(c)) {
		ret = stop_look(c, id);
		if (ret || c->info.ublksrv_flags != cookie)
			break;		/* gone by itself */
		nap_ms(2);
	}
	if (ret == -ENODEV)
		ret = ctrl_is_gone(c, id, cookie) ? 0 : -ETIME;
	else if (ret == 0)
		ret = dev_remove(c, id, cookie);
	if (ret == 0)
		nodes_forget(id);
	return ret;
}

int stop_and_tell(struct ctrl *c, uint32_t id, bool force, uint64_t wait)
{
	char text[160] = "";
	int ret = stop_one(c, id, force, wait, text, sizeof(text));

	if (ret)
		return fail(node_path(id).s, c->step, ret, text[0] && ret == -EBUSY ? text : NULL);
	debug("%s: gone", node_path(id).s);
	return 0;
}
