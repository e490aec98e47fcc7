/* SPDX-License-Identifier: MIT */
/* commit: the changes of a snapshot into its file. */
#include "cli/backends.h"
#include "cli/find.h"
#include "cli/verbs.h"
#include "host/disk.h"
#include "host/fail.h"
#include "host/mounts.h"
#include "host/nodes.h"
#include "host/process.h"
#include "host/usage.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "store/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define ANSWER_MS	30000	/* that the server may take for a step */

/* A commit under way. */
struct committing {
	uint32_t id;
	int pid;		/* of the server */
	int node;		/* claimed, so that nobody else uses the device */
	struct changes changes;
	const char *why;	/* words for a failure that errno does not tell */
};

/* Send the server a request, for it to look at what we have asked. A disk that is gone ends at its first byte. */
static bool server_poke(int node)
{
	void *block = pages_get(4096);
	const bool ok = block && pread(node, block, 4096, 0) > 0;

	pages_put(block, 4096);
	return ok;
}

static bool server_has_answered(const struct committing *w, bool given, uint64_t *done)
{
	if (given)
		return commit_given(&w->changes, done);
	*done = 0;
	return !__atomic_load_n(&w->changes.head->lock, __ATOMIC_ACQUIRE);
}

/*
 * Have the server see what we have asked, and do it. The requests are sent by a
 * process that can be left behind: a server may never answer them. Returns 0 or -errno.
 */
static int server_answer(const struct committing *w, bool given)
{
	uint64_t done = 0, before;
	int wstatus = 0;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		while (!server_has_answered(w, given, &done))
			if (!server_poke(w->node))
				_exit(1);
		_exit(0);
	}
	do {
		before = done;
		if (process_await(pid, ANSWER_MS, &wstatus))
			return server_has_answered(w, given, &done) ? 0 : -EIO;
	} while (!server_has_answered(w, given, &done) && done > before);
	kill(pid, SIGKILL);
	return -ETIME;
}

/* The device is ours alone from here on. Returns 0 or -errno. */
static int commit_claim(struct ctrl *c, struct committing *w, char *text, size_t len)
{
	int ret = dev_ask(c, w->id, true, text, len);

	c->step = STEP_CHANGES;
	if (ret)
		return ret;
	w->node = node_try(node_path(w->id).s, O_RDONLY | O_EXCL | O_DIRECT, mounts_lack_nodes());
	if (w->node < 0)
		return -errno;
	/* what is dirty in the node's page cache */
	c->step = STEP_FLUSH;
	return fsync(w->node) ? -errno : 0;
}

static int commit_attach(struct ctrl *c, struct committing *w)
{
	int fd;

	c->step = STEP_CHANGES;
	fd = memfd_open(w->pid, CHANGES_NAME);
	return fd < 0 ? fd : changes_attach(&w->changes, fd);
}

/* Alone, also among those who have the file. Returns 0 or -errno. */
static int commit_lock(struct committing *w)
{
	struct changes_head *head = w->changes.head;
	uint64_t done;
	int ret = 0;

	if (!commit_given(&w->changes, &done))	/* what a commit before us has written is not all given back */
		ret = server_answer(w, true);
	if (ret)
		return ret;
	__atomic_store_n(&head->lock, LOCK_TO_WRITE, __ATOMIC_RELEASE);
	ret = server_answer(w, false);
	if (!ret && head->lock_res)
		w->why = "its file is in use: somebody else has locked it, as another snapshot does";
	return ret ? ret : head->lock_res;
}

/* The file, now that it is to be written, and is ours. Returns 0 or -errno. */
static int commit_to_file(struct ctrl *c, struct committing *w)
{
	int ret, fd;

	c->step = STEP_COMMIT;
	fd = backing_open(w->pid, O_RDWR);
	if (fd < 0) {
		w->why = fd == -EROFS || fd == -EACCES || fd == -EPERM ? "its file cannot be opened for writing" : NULL;
		return fd;
	}
	ret = commit_lock(w);
	if (!ret) {
		ret = commit_write(&w->changes, fd);
		if (ret == -EBUSY)
			w->why = "it is being written to";
	}
	close(fd);
	if (ret)
		return ret;
	commit_give(&w->changes);
	ret = server_answer(w, true);
	if (!ret)
		return 0;
	notice("%s: all of it is in the file, but its server has not taken note", node_path(w->id).s);
	return ret == -ETIME ? ret : 0;
}

/* Is it a snapshot that can be committed? NULL, or why not. */
static const char *commit_refused(struct ctrl *c, struct committing *w)
{
	const struct ublksrv_ctrl_dev_info *info = &c->info;

	if (strcmp(backend_name(info->ublksrv_flags), "snapshot"))
		return "not a --snapshot";
	w->pid = usage_server(w->id, info->ublksrv_pid);
	if (info->state != UBLK_S_DEV_LIVE || w->pid <= 0)
		return "it has no server, and its changes are gone with that, or another is about to start";
	if (ctrl_get_params(c, w->id) == 0 && c->params.basic.attrs & UBLK_ATTR_READ_ONLY)
		return "it was made --read-only: there are no changes";
	return NULL;
}

int verb_commit(const struct args *a)
{
	struct committing w = { .node = -1, .changes.ram = RAM_NONE };
	struct ctrl *c = ctrl_own();
	char text[160] = "";
	int ret;

	if (!a->nr)
		return args_error(a->verb, "DEV is missing");
	ret = ctrl_open_to_look(c);
	if (!ret)
		ret = dev_resolve(c, a->operands[0], &w.id);
	if (!ret)
		ret = ctrl_get_info(c, w.id);
	if (ret)
		return fail(a->operands[0], c->step, ret, resolve_why(ret));
	w.why = commit_refused(c, &w);
	if (w.why) {
		c->step = STEP_COMMIT;
		ret = -EINVAL;
	}
	if (!ret)
		ret = commit_claim(c, &w, text, sizeof(text));
	if (!ret)
		ret = commit_attach(c, &w);
	if (!ret)
		ret = commit_to_file(c, &w);
	changes_close(&w.changes);
	fd_close(w.node);
	return ret ? fail(node_path(w.id).s, c->step, ret, text[0] && ret == -EBUSY ? text : w.why) : 0;
}
