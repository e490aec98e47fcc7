/* SPDX-License-Identifier: MIT */
/* stop: stop and remove devices. */
#include "serve/stop.h"
#include "cli/find.h"
#include "cli/verbs.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "lib/say.h"
#include "lib/sys.h"

#include <errno.h>

int verb_stop(const struct args *a)
{
	struct ctrl *c = ctrl_own();
	uint32_t *ids = NULL, id;
	int ret, nr, status = 0;

	if (a->all == (a->nr > 0)) {
		say("stop: name the devices, or say --all; see \"ublk help stop\"");
		return EXIT_USAGE;
	}
	/* what a script has open we have open as well, even when it has closed it */
	fds_close_from(3);
	ret = ctrl_open_to_look(c);
	if (ret == -ENODEV && !a->all)
		status = fail(a->operands[0], STEP_INFO, ret, resolve_why(ret));
	else if (ret && ret != -ENODEV)
		status = fail("stop", c->step, ret, NULL);
	nr = ret ? 0 : a->all ? dev_ids(&ids) : a->nr;
	for (int i = 0; i < nr; i++) {
		/* all: the highest first, as one may be made of a lower one */
		id = a->all ? ids[nr - 1 - i] : 0;
		ret = a->all ? 0 : dev_resolve(c, a->operands[i], &id);
		ret = ret ? fail(a->operands[i], c->step, ret, resolve_why(ret)) :
			    stop_and_tell(c, id, a->force, a->wait);
		/* with --all, one that went by itself is as good as stopped */
		if (ret && !(a->all && ret == EXIT_NO_DEVICE))
			status = ret;
	}
	dev_ids_end(ids);
	ctrl_close(c);
	return status;
}
