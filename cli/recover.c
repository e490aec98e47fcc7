/* SPDX-License-Identifier: MIT */
/* recover: take over a device whose server has died. */
#include "cli/backends.h"
#include "cli/find.h"
#include "cli/verbs.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "serve/cookie.h"
#include "serve/serve.h"

#include <errno.h>

/* Is a device with this cookie made of the storage that these options name? As far as 20 bits tell. */
static bool recover_is_of(uint64_t cookie, const struct options *o)
{
	const struct backend *be = backend_of(cookie);
	uint32_t identity;

	return be && be->identity && be->identity(o, &identity) == 0 && (cookie & COOKIE_IDENTITY) == identity;
}

/*
 * A device that waits for a server, by its number, its node, or its storage.
 * c->info is then its. Returns 0, -ENODEV, or -ENOTUNIQ.
 */
static int recover_find(struct ctrl *c, const char *name, const struct options *o, uint32_t *id)
{
	uint32_t *ids;
	int nr, ret = -ENODEV;

	c->step = STEP_INFO;
	if (parse_dev(name, id))
		return ctrl_get_info(c, *id);
	nr = dev_ids(&ids);
	for (int i = 0; i < nr; i++) {
		if (ctrl_get_info(c, ids[i]) || !recover_is_of(c->info.ublksrv_flags, o))
			continue;
		ret = ret ? 0 : -ENOTUNIQ;
		*id = ids[i];
	}
	dev_ids_end(ids);
	return ret ? ret : ctrl_get_info(c, *id);
}

/* What the kernel knows of the device is as it was, whatever the command line says. */
static int recover_options(struct ctrl *c, uint32_t id, struct options *o)
{
	const struct ublksrv_ctrl_dev_info *info = &c->info;
	const struct ublk_param_basic *basic = &c->params.basic;
	int ret = ctrl_get_params(c, id);

	if (ret)
		return ret;
	o->id = id;
	o->size = basic->dev_sectors << SECTOR_SHIFT;
	o->block_size = 1U << basic->logical_bs_shift;
	o->read_only = basic->attrs & UBLK_ATTR_READ_ONLY;
	o->max_io = info->max_io_buf_bytes;
	o->queues = info->nr_hw_queues;
	o->qdepth = info->queue_depth;
	o->direct |= (info->ublksrv_flags & COOKIE_DIRECT) != 0;
	o->resilient |= (info->ublksrv_flags & COOKIE_RESILIENT) != 0;
	o->zero_copy = info->flags & UBLK_F_AUTO_BUF_REG ? ZERO_COPY_ON : ZERO_COPY_OFF;
	return 0;
}

/* Why it cannot be recovered with these options, or NULL. */
static const char *recover_refused(const struct ublksrv_ctrl_dev_info *info, const struct options *o)
{
	const struct backend *be = backend_of(info->ublksrv_flags);
	uint32_t identity;

	if (!be)
		return "another program's device: only that knows what it is made of";
	if (!be->identity)
		return "what it held was in its servers' memory and is gone with them; \"ublk stop --force\" removes it";
	if (!(info->flags & UBLK_F_USER_RECOVERY))
		return "it was not made to wait for a server (--recoverable); \"ublk stop\" removes it";
	/* looked at again when it is open, but there other things may fail first */
	if (o->path && be->identity(o, &identity) == 0 && identity != (info->ublksrv_flags & COOKIE_IDENTITY))
		return NOT_THE_SAME;
	return NULL;
}

int verb_recover(const struct args *a)
{
	struct ctrl *c = ctrl_own();
	struct job job = a->job;
	struct options *o = &job.o;
	const char *why, *name = a->operands[0];
	int nr = 1, ret;
	uint32_t id = 0;

	if (!a->nr)
		return args_error(a->verb, "DEV is missing");
	if (nr < a->nr && backend_find(a->operands[nr]))
		nr++;
	if (nr < a->nr && !o->path)
		o->path = a->operands[nr++];
	if (nr < a->nr)
		return args_error(a->verb, "%s: one argument too many", a->operands[nr]);
	if (!o->path && !parse_dev(name, &id))
		o->path = name;
	c->stay = true;
	ret = ctrl_open_to_look(c);
	if (!ret)
		ret = recover_find(c, name, o, &id);
	why = ret ? resolve_why(ret) : recover_refused(&c->info, o);
	if (!ret && why)
		ret = -EINVAL;
	if (!ret && !o->path)
		return args_error(a->verb, "PATH is missing: of which file is %s?", name);
	if (!ret)
		ret = recover_options(c, id, o);
	if (ret)
		ret = fail(name, ret == -EINVAL ? STEP_RECOVER : c->step, ret, why);
	job.be = backend_of(c->info.ublksrv_flags);
	job.cookie = c->info.ublksrv_flags;
	job.recover = true;
	ctrl_close(c);
	return ret ? ret : serve(&job, a->command, a->daemon);
}
