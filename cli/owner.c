/* SPDX-License-Identifier: MIT */
/* owner: for udev, which gives a device's nodes to who has made it. */
#include "cli/find.h"
#include "cli/out.h"
#include "cli/verbs.h"
#include "host/fail.h"
#include "lib/say.h"

#include <stdlib.h>

int verb_owner(const struct args *a)
{
	struct ctrl *c = ctrl_own();
	int ret;

	if (!a->nr)
		return args_error(a->verb, "DEV is missing");
	ret = dev_look(c, a->operands[0]);
	if (ret)
		return fail(a->operands[0], c->step, ret, resolve_why(ret));
	if (!(c->info.flags & UBLK_F_UNPRIVILEGED_DEV)) {
		debug("%s: root's", a->operands[0]);
		return EXIT_FAILURE;
	}
	print("%u %u\n", c->info.owner_uid, c->info.owner_gid);
	return 0;
}
