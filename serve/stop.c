/* SPDX-License-Identifier: MIT */
/* stop: see stop.h. */
#include "serve/stop.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "host/process.h"
#include "host/usage.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "serve/cookie.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define RESTART_MS	2000	/* that a guard may take, see guard_restart() */

/*
 * Stop one device and see it gone. Our own servers remove their device
 * themselves once it is stopped; others exit and leave it, dead.
 */
static int stop_one(struct ctrl *c, uint32_t id, bool force, uint64_t wait, char *text, size_t len)
{
	int64_t end = now_ms() + (int64_t)wait * 1000;
	int64_t grace = now_ms() + GRACE_MS;
	uint64_t cookie;
	int pidfd = -1, guard_fd = -1;
	int ret;

	ctrl_set_deadline(c);
	ret = ctrl_get_info(c, id);
	if (ret)
		return ret;
	cookie = c->info.ublksrv_flags;
	/* between two servers of a guard: the next one is to write what is dirty */
	for (int64_t until = now_ms() + RESTART_MS; c->info.state == UBLK_S_DEV_QUIESCED && cookie_is_ours(cookie) &&
	     cookie & COOKIE_RESILIENT && now_ms() < until; ) {
		nap_ms(20);
		ret = ctrl_get_info(c, id);
		if (ret)
			return ret;
	}
	/* not one whose server is about to start it: before 7.x the driver would not survive */
	if (c->info.state == UBLK_S_DEV_DEAD && !force && usage_process("/dev/ublkc", id, text, len)) {
		c->step = STEP_STOP;
		return -EBUSY;
	}
	if (c->info.state != UBLK_S_DEV_DEAD) {
		/* ours ends with its device; another may have more of them */
		if (cookie_is_ours(cookie) && c->info.state == UBLK_S_DEV_LIVE)
			pidfd = pidfd_of(c->info.ublksrv_pid);
		if (pidfd >= 0 && cookie & COOKIE_RESILIENT)
			guard_fd = pidfd_of(guard_of(c->info.ublksrv_pid));
		while ((ret = dev_stop(c, id, force, text, len)) == -EBUSY &&
		       now_ms() < (end > grace ? end : grace)) {
			nap_ms(50);
			ctrl_set_deadline(c);	/* it counts from when the device is free */
		}
	}
	for (int i = 0; i < 2; i++) {
		struct pollfd p = { .fd = i ? guard_fd : pidfd, .events = POLLIN };

		if (p.fd < 0)
			continue;
		if (ret == 0) {
			c->step = STEP_DEL;
			ret = poll(&p, 1, ctrl_left(c)) == 0 ? -ETIME : 0;
		}
		close(p.fd);
	}
	if (ret == 0 && !ctrl_is_gone(c, id, cookie))
		ret = dev_del(c, id);
	if (ret == 0)
		ret = ctrl_wait_gone(c, id, cookie, ctrl_left(c));
	if (ret == 0)
		nodes_forget(id);
	return ret;
}

int stop_and_tell(struct ctrl *c, uint32_t id, bool force, uint64_t wait)
{
	char node[NODE_LEN], text[160] = "";
	int ret = stop_one(c, id, force, wait, text, sizeof(text));

	text_print(node, sizeof(node), "/dev/ublkb%u", id);
	if (ret)
		return fail(node, c->step, ret, text[0] && ret == -EBUSY ? text : NULL);
	debug("%s: gone", node);
	return 0;
}
