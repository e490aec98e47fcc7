/* SPDX-License-Identifier: MIT */
/* resize: another size for a device that is served. */
#include "cli/backends.h"
#include "cli/find.h"
#include "cli/verbs.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "host/server.h"
#include "host/usage.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <string.h>

/* A resize under way. */
struct resizing {
	uint32_t id;
	uint64_t size;		/* to have, bytes; 0: as much as there is */
	uint64_t before;	/* that it has */
	int server;		/* process, that both questions are for; 0: not asked yet */
	int node;		/* of a device that shrinks: claimed, so that nobody else uses it; or -1 */
	struct letter letter;
	const char *why;	/* words for a failure that errno does not tell */
};

/* Why it cannot be resized, or NULL. */
static const char *resize_refused(const struct ctrl *c)
{
	const struct backend *be = backend_of(c->info.ublksrv_flags);

	if (!(c->features & UBLK_F_UPDATE_SIZE))
		return "this takes Linux 6.16 or later";
	if (!be)
		return "another program's device: only that can resize it";
	if (!be->resize)
		return "a snapshot is as large as its file was when it was made";
	if (!info_has_server(&c->info))
		return "it has no server: that has died, or another is about to start";
	return NULL;
}

static int resize_ask(const struct ctrl *c, struct resizing *r, enum letter_what what)
{
	r->letter = (struct letter){ .what = what, .size = r->size };
	return letter_send(&c->info, &r->server, &r->letter, &r->why);
}

/* The size to have, where that is what there is. Returns 0 or -errno. */
static int resize_most(const struct ctrl *c, struct resizing *r)
{
	int ret = resize_ask(c, r, LETTER_MOST);

	r->size = r->letter.size;
	if (ret || r->size)
		return ret;
	r->why = "max is for files and block devices: give a SIZE";
	return -EINVAL;
}

/* To shrink takes what is there from whoever uses it: nobody may, nor begin to until it is done. */
static int resize_claim(struct ctrl *c, struct resizing *r, char *text, size_t len)
{
	if (parts_end(r->id) > r->size) {
		r->why = "a partition ends behind that; --force cuts it off";
		return -EINVAL;
	}
	r->node = dev_claim(c, r->id, text, len);
	return r->node < 0 ? r->node : 0;
}

/* Has it the size? If not, err is why, or it is an error that there is none. */
static int resize_check(struct ctrl *c, const struct resizing *r, int err)
{
	int ret;

	ctrl_set_deadline(c);
	ret = ctrl_get_info(c, r->id);
	if (!ret)
		ret = ctrl_get_params(c, r->id);
	if (!ret && (c->info.state == UBLK_S_DEV_DEAD || c->params.basic.dev_sectors != r->size >> SECTOR_SHIFT))
		ret = err ? err : -EIO;
	return ret;
}

/* Every step of it, c->step saying which. Returns 0 or -errno. */
static int resize(struct ctrl *c, struct resizing *r, bool force, char *text, size_t len)
{
	int ret = 0;

	r->why = resize_refused(c);
	if (r->why)
		return -EINVAL;
	if (!r->size)
		ret = resize_most(c, r);
	ctrl_set_deadline(c);
	if (!ret)
		ret = ctrl_get_params(c, r->id);
	if (ret)
		return ret;
	r->before = c->params.basic.dev_sectors << SECTOR_SHIFT;
	if (r->size % (1U << c->params.basic.logical_bs_shift)) {
		r->why = "SIZE is not a multiple of its block size";
		return -EINVAL;
	}
	if (r->size < r->before && !force)
		ret = resize_claim(c, r, text, len);
	if (ret || r->size == r->before)
		return ret;
	ret = resize_ask(c, r, LETTER_RESIZE);
	/* the kernel's word is what counts: a server's next one has the size if the kernel had it before the end of the first */
	return ret && ret != -ESRCH ? ret : resize_check(c, r, ret);
}

int verb_resize(const struct args *a)
{
	struct resizing r = { .node = -1 };
	struct ctrl *c = ctrl_own();
	char text[160] = "", sizes[2][32];
	int ret;

	if (a->nr < 2)
		return args_error(a->verb, a->nr ? "SIZE is missing" : "DEV is missing");
	if (strcmp(a->operands[1], "max") && (!parse_size(a->operands[1], &r.size) || !r.size || r.size > 1ULL << 62))
		return args_error(a->verb, "\"%s\" is not a size (a whole number, with K, M, G, T or P), nor max", a->operands[1]);
	ret = dev_look(c, a->operands[0]);
	if (ret)
		return fail(a->operands[0], c->step, ret, resolve_why(ret));
	r.id = c->info.dev_id;
	ret = resize(c, &r, a->force, text, sizeof(text));
	fd_close(r.node);
	if (ret)
		return fail(node_path(r.id).s, STEP_RESIZE, ret, text[0] && ret == -EBUSY ? text : r.why);
	size_text(r.before, sizes[0], sizeof(sizes[0]));
	size_text(r.size, sizes[1], sizeof(sizes[1]));
	if (r.size < r.before)
		notice("%s: shrunk from %s to %s: what lay behind that is cut off", node_path(r.id).s, sizes[0], sizes[1]);
	else
		debug("%s: %s before, now %s", node_path(r.id).s, sizes[0], sizes[1]);
	return 0;
}
