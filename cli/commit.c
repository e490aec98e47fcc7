/* SPDX-License-Identifier: MIT */
/* commit: the changes of a snapshot into its file. */
#include "cli/backends.h"
#include "cli/find.h"
#include "cli/verbs.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "host/process.h"
#include "host/server.h"
#include "host/usage.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "serve/cookie.h"
#include "store/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUCCESSOR_MS	30000	/* that a server which has died may take to have one that answers */
#define TICK_MS		5

/* A commit under way. */
struct committing {
	struct ublksrv_ctrl_dev_info info;
	int pid;		/* of the server */
	int node;		/* claimed, so that nobody else uses the device */
	int file;		/* O_PATH: what the server has open */
	struct changes changes;
	struct letter letter;
	const char *why;	/* words for a failure that errno does not tell */
};

/*
 * A server that dies meanwhile has a successor (--resilient), which is asked then,
 * or none; one that was to stop and did not is asked again. Returns 0 or -errno.
 */
static int commit_ask(struct ctrl *c, struct committing *w, enum letter_what what, struct letter *l, const char **why)
{
	int64_t end = 0;
	int ret;

	for (;;) {
		*l = (struct letter){ .what = what };
		ret = letter_send(&w->info, &w->pid, l, why);
		end = end ? end : now_ms() + SUCCESSOR_MS;
		if ((ret != -ESRCH && ret != -ENOENT && ret != -ECANCELED) || now_ms() >= end)
			break;
		ctrl_set_deadline(c);
		if (ctrl_get_info(c, w->info.dev_id) || c->info.state == UBLK_S_DEV_DEAD)
			break;
		w->info = c->info;
		w->pid = 0;
		nap_ms(TICK_MS);
	}
	c->step = STEP_COMMIT;
	return ret;
}

/* The device is ours alone from here on. Returns 0 or -errno. */
static int commit_claim(struct ctrl *c, struct committing *w, char *text, size_t len)
{
	int ret = w->node = dev_claim(c, w->info.dev_id, text, len);

	if (ret >= 0)
		ret = dev_flush(c, w->info.dev_id);
	if (ret > 0)
		w->why = "not all that was dirty could be written to it, and is lost (memory full?): check the disk before you commit again";
	return ret > 0 ? -EIO : ret;
}

/* The changes, and the file that they are of: that the device was made of, whatever its server has open. */
static int commit_attach(struct committing *w)
{
	struct options o = { 0 };
	struct fd_path path;
	uint32_t identity;
	int fd, ret = server_files(&w->info, w->pid, CHANGES_NAME, &fd, &w->file);

	if (!ret)
		ret = changes_attach(&w->changes, fd_reopen(fd, O_RDWR));
	fd_close(fd);
	if (ret == -EINVAL)
		w->why = "its server is of another version of ublk; \"ublk save\" keeps what the disk has";
	if (ret)
		return ret;
	path = fd_path(w->file);
	o.path = path.s;
	o.offset = w->changes.offset;
	ret = backend_find("file")->identity(&o, &identity);
	if (!ret && identity != (w->info.ublksrv_flags & COOKIE_IDENTITY))
		ret = -EINVAL;
	w->why = ret == -EINVAL ? "its server does not have the file that it was made of" : NULL;
	return ret;
}

/* All of it into the file, for good, and out of memory. Returns 0 or -errno. */
static int commit_all(struct ctrl *c, struct committing *w, int fd)
{
	int ret = commit_write(&w->changes, fd);

	if (ret == -EBUSY)
		w->why = "it is being written to";
	if (ret)
		return ret;
	ret = commit_ask(c, w, LETTER_GIVE, &w->letter, &w->why);
	if (ret)
		notice("%s: all of it is in the file, but its server has not taken note", node_path(w->info.dev_id).s);
	return ret == -ETIME ? ret : 0;
}

/* The file is opened for writing only now. */
static int commit_to_file(struct ctrl *c, struct committing *w)
{
	struct letter last;	/* whose words nobody wants: those of what went wrong stay */
	const char *unsaid;
	struct stat st;
	int ret, fd;

	if (fstat(w->file, &st) == 0 && S_ISREG(st.st_mode) && !st.st_nlink) {
		w->why = "its file has been removed: \"ublk save\" makes a new one";
		return -ENOENT;
	}
	fd = fd_reopen(w->file, O_RDWR);
	if (fd < 0) {
		w->why = fd == -EROFS || fd == -EACCES || fd == -EPERM ? "its file cannot be opened for writing" : NULL;
		return fd;
	}
	/* alone, also among those who have the file */
	ret = commit_ask(c, w, LETTER_LOCK, &w->letter, &w->why);
	if (!ret) {
		ret = commit_all(c, w, fd);
		/* whatever has become of it: the next snapshot of the file need not wait for this one to go */
		(void)commit_ask(c, w, LETTER_UNLOCK, &last, &unsaid);
	}
	close(fd);
	return ret;
}

/* Is it a snapshot that can be committed? NULL, or why not. */
static const char *commit_refused(struct ctrl *c, struct committing *w)
{
	const struct ublksrv_ctrl_dev_info *info = &w->info;

	if (strcmp(backend_name(info->ublksrv_flags), "snapshot"))
		return "not a --snapshot";
	/* it would be his choice what is written, and to which file, and ours by what right */
	if (info_is_others(info))
		return "another user's";
	w->pid = usage_server(info->dev_id, info->ublksrv_pid);
	if (info->state != UBLK_S_DEV_LIVE || w->pid <= 0)
		return "its server has died, and the changes with it, unless --resilient is just starting another";
	if (ctrl_get_params(c, info->dev_id) == 0 && c->params.basic.attrs & UBLK_ATTR_READ_ONLY)
		return "it was made --read-only: there are no changes";
	return NULL;
}

/* Every step of it, c->step saying which. Returns 0 or -errno. */
static int commit(struct ctrl *c, struct committing *w, char *text, size_t len)
{
	int ret;

	c->step = STEP_COMMIT;
	w->why = commit_refused(c, w);
	if (w->why)
		return -EINVAL;
	c->step = STEP_CHANGES;
	ret = commit_claim(c, w, text, len);
	if (ret)
		return ret;
	c->step = STEP_CHANGES;
	ret = commit_attach(w);
	if (ret)
		return ret;
	c->step = STEP_COMMIT;
	return commit_to_file(c, w);
}

int verb_commit(const struct args *a)
{
	struct committing w = { .node = -1, .file = -1, .changes.ram = RAM_NONE };
	struct ctrl *c = ctrl_own();
	char text[160] = "";
	int ret;

	if (!a->nr)
		return args_error(a->verb, "DEV is missing");
	signal(SIGXFSZ, SIG_IGN);	/* a limit of the shell's is an error of the write */
	ret = dev_look(c, a->operands[0]);
	if (ret)
		return fail(a->operands[0], c->step, ret, resolve_why(ret));
	w.info = c->info;
	ret = commit(c, &w, text, sizeof(text));
	changes_close(&w.changes);
	fd_close(w.file);
	fd_close(w.node);
	return ret ? fail(node_path(w.info.dev_id).s, c->step, ret, text[0] && ret == -EBUSY ? text : w.why) : 0;
}
