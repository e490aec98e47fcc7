/* SPDX-License-Identifier: MIT */
/* list: devices, for people and as JSON. */
#include "cli/backends.h"
#include "cli/find.h"
#include "cli/out.h"
#include "cli/verbs.h"
#include "host/driver.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "host/usage.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>

static const char *state_name(unsigned state)
{
	static const char *const names[] = {
		[UBLK_S_DEV_DEAD] = "dead", [UBLK_S_DEV_LIVE] = "live",
		[UBLK_S_DEV_QUIESCED] = "quiesced", [UBLK_S_DEV_FAIL_IO] = "fail-io",
	};

	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

/* What list shows of a device, and both its printers take. */
struct listed {
	struct ublksrv_ctrl_dev_info info;
	struct ublk_param_basic basic;
	int pid;		/* 0: no server */
	uint64_t used;		/* bytes of memory; UINT64_MAX: none, or not known */
	char backing[4096];	/* "": none */
};

static int list_get(struct ctrl *c, uint32_t id, struct listed *l)
{
	struct stat st;
	int ret = ctrl_get_info(c, id);

	if (ret)
		return ret;
	*l = (struct listed){ .info = c->info };
	ret = ctrl_get_params(c, id);
	if (ret == -ETIME)
		return ret;
	if (!ret && c->params.types & UBLK_PARAM_TYPE_BASIC)
		l->basic = c->params.basic;
	if (l->info.state == UBLK_S_DEV_LIVE)
		l->pid = usage_server(id, l->info.ublksrv_pid);
	if (!info_backing(&l->info, l->pid, l->backing, sizeof(l->backing), &st))
		l->backing[0] = 0;
	if (!info_used(&l->info, l->pid, &l->used))
		l->used = UINT64_MAX;
	return 0;
}

static void list_row(const struct listed *l, bool first)
{
	char size[32], used[32] = "-", pid[16] = "-", backing[sizeof(l->backing)];

	if (first)
		print("%-14s %-8s %7s %-8s %7s %6s %5s %2s %7s %s\n", "NODE", "TYPE", "SIZE", "STATE",
		       "PID", "QUEUES", "DEPTH", "RO", "USED", "BACKING");
	size_text(l->basic.dev_sectors << SECTOR_SHIFT, size, sizeof(size));
	if (l->used != UINT64_MAX)
		size_text(l->used, used, sizeof(used));
	if (l->pid)
		text_print(pid, sizeof(pid), "%d", l->pid);
	text_escape(backing, sizeof(backing), l->backing);
	print("%-14s %-8s %7s %-8s %7s %6u %5u %2u %7s %s\n", node_path(l->info.dev_id).s, backend_name(l->info.ublksrv_flags),
	       size, state_name(l->info.state), pid, l->info.nr_hw_queues, l->info.queue_depth,
	       l->basic.attrs & UBLK_ATTR_READ_ONLY, used, backing[0] ? backing : "-");
}

static void list_json(const struct listed *l, bool first)
{
	const struct ublksrv_ctrl_dev_info *i = &l->info;
	const char *comma = "";

	print("%s\n  {\"id\": %u, \"node\": \"%s\", \"char\": \"/dev/ublkc%u\", "
	       "\"type\": \"%s\", \"size\": %llu, \"state\": \"%s\", \"pid\": ", first ? "" : ",",
	       i->dev_id, node_path(i->dev_id).s, i->dev_id, backend_name(i->ublksrv_flags),
	       (unsigned long long)l->basic.dev_sectors << SECTOR_SHIFT, state_name(i->state));
	print(l->pid ? "%d" : "null", l->pid);
	print(", \"queues\": %u, \"depth\": %u, \"block_size\": %u, \"read_only\": %s, \"backing\": ",
	       i->nr_hw_queues, i->queue_depth, 1U << l->basic.logical_bs_shift,
	       l->basic.attrs & UBLK_ATTR_READ_ONLY ? "true" : "false");
	if (l->backing[0])
		json_string(l->backing);
	else
		print("null");
	if (l->used != UINT64_MAX)
		print(", \"used\": %llu", (unsigned long long)l->used);
	else
		print(", \"used\": null");
	print(", \"features\": [");
	for (size_t n = 0; n < driver_nr_features; n++) {
		if (i->flags >> n & 1) {
			print("%s\"%s\"", comma, driver_features[n].name);
			comma = ", ";
		}
	}
	print("]}");
}

static int list(const struct args *a)
{
	void (*show)(const struct listed *l, bool first) = a->json ? list_json : list_row;
	struct ctrl *c = ctrl_own();
	uint32_t *ids = NULL, id;
	struct listed l;
	int ret, nr, status = 0, printed = 0;

	ret = ctrl_open_to_look(c);
	if (ret && ret != -ENODEV)
		return fail("list", c->step, ret, NULL);
	if (a->json)
		print("{\"devices\": [");
	if (ret && a->nr)
		status = fail(a->operands[0], STEP_INFO, ret, resolve_why(ret));
	nr = ret ? 0 : a->nr ? a->nr : dev_ids(&ids);
	for (int i = 0; i < nr; i++) {
		ctrl_set_deadline(c);	/* one that does not answer is not to cost the others theirs */
		id = a->nr ? 0 : ids[i];
		ret = a->nr ? dev_resolve(c, a->operands[i], &id) : 0;
		if (!ret)
			ret = list_get(c, id, &l);
		if (!ret)
			show(&l, !printed++);
		else if (a->nr || !info_is_not_ours(ret))
			status = fail(a->nr ? a->operands[i] : node_path(id).s, c->step, ret, resolve_why(ret));
	}
	if (a->json)
		print("%s]}\n", printed ? "\n" : "");
	dev_ids_end(ids);
	return status;
}

int verb_list(const struct args *a)
{
	return print_apart(list, a);
}
