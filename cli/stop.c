/* SPDX-License-Identifier: MIT */
/* stop: stop and remove devices. */
#include "serve/stop.h"
#include "cli/find.h"
#include "cli/out.h"
#include "cli/verbs.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "host/usage.h"
#include "lib/say.h"
#include "lib/sys.h"

#include <errno.h>
#include <string.h>

/* The server of each, or 0. Those that are not to be stopped are taken out; returns how many are left. */
static int servers_get(struct ctrl *c, uint32_t *ids, int *pids, int nr)
{
	int ret, left = 0;

	for (int i = 0; i < nr; i++) {
		ctrl_set_deadline(c);
		ret = ctrl_get_info(c, ids[i]);
		if (info_is_not_ours(ret))
			continue;
		ids[left] = ids[i];
		pids[left++] = ret ? 0 : usage_server(ids[i], c->info.ublksrv_pid);
	}
	return left;
}

/* The next one to stop: the last on which none of the others stands. What is dirty on that goes through them. */
static int stop_next(const uint32_t *ids, const int *pids, int nr)
{
	int i = nr - 1;

	while (i > 0 && usage_carries(ids[i], pids, nr, i))
		i--;
	return i;
}

/* All there are, from the top of each stack down. Returns the exit status of the last one that failed. */
static int stop_all(struct ctrl *c, const struct args *a)
{
	int ret, nr, i, *pids, status = 0;
	uint32_t *ids;

	nr = dev_ids(&ids);
	pids = nr ? pages_get((size_t)nr * sizeof(*pids)) : NULL;
	if (nr && !pids)
		return fail("stop", STEP_INFO, ENOMEM, NULL);
	for (int left = servers_get(c, ids, pids, nr); left > 0; left--) {
		i = stop_next(ids, pids, left);
		ret = stop_and_tell(c, ids[i], a->force, a->wait);
		/* one that went by itself is as good as stopped */
		if (ret && ret != EXIT_NO_DEVICE)
			status = ret;
		memmove(ids + i, ids + i + 1, (size_t)(left - i - 1) * sizeof(*ids));
		memmove(pids + i, pids + i + 1, (size_t)(left - i - 1) * sizeof(*pids));
	}
	pages_put(pids, (size_t)nr * sizeof(*pids));
	dev_ids_end(ids);
	return status;
}

/* Those that are named, in that order. */
static int stop_named(struct ctrl *c, const struct args *a)
{
	int ret, status = 0;
	uint32_t id = 0;

	for (int i = 0; i < a->nr; i++) {
		ctrl_set_deadline(c);
		ret = dev_resolve(c, a->operands[i], &id);
		ret = ret ? fail(a->operands[i], c->step, ret, resolve_why(ret)) :
			    stop_and_tell(c, id, a->force, a->wait);
		status = ret ? ret : status;
	}
	return status;
}

static int stop(const struct args *a)
{
	struct ctrl *c = ctrl_own();
	int ret, status = 0;

	ret = ctrl_open_to_look(c);
	if (ret == -ENODEV && !a->all)
		status = fail(a->operands[0], STEP_INFO, ret, resolve_why(ret));
	else if (ret && ret != -ENODEV)
		status = fail("stop", c->step, ret, NULL);
	else if (!ret)
		status = a->all ? stop_all(c, a) : stop_named(c, a);
	ctrl_close(c);
	return status;
}

int verb_stop(const struct args *a)
{
	if (a->all == (a->nr > 0))
		return args_error(a->verb, "name the devices, or say --all");
	/* what a script has open we have open as well, even when it has closed it */
	fds_close_from(3);
	return print_apart(stop, a);
}
