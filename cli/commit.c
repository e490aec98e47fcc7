/* SPDX-License-Identifier: MIT */
/* commit: the changes of a snapshot into its file. */
#include "cli/backends.h"
#include "cli/find.h"
#include "cli/verbs.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "host/process.h"
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

#define ANSWER_MS	30000	/* that the server may take for a step */

/* A commit under way. */
struct committing {
	struct ublksrv_ctrl_dev_info info;
	int pid;		/* of the server */
	int node;		/* claimed, so that nobody else uses the device */
	int file;		/* O_PATH: what the server has open */
	struct changes changes;
	const char *why;	/* words for a failure that errno does not tell */
};

static bool server_has_answered(const struct committing *w, bool given, uint64_t *done)
{
	*done = 0;
	if (given)
		return commit_given(&w->changes, done);
	return !__atomic_load_n(&w->changes.head->lock, __ATOMIC_ACQUIRE);
}

/*
 * Send the server requests, for it to look at what we have asked, until it has
 * done it. One that ends in an error, as of a bad sector, is as good, but not
 * again and again: a disk that is gone has no byte to read.
 */
__attribute__((noreturn))
static void server_poke(const struct committing *w, bool given)
{
	void *block = pages_get(4096);
	uint64_t done, before = UINT64_MAX;

	while (block && !server_has_answered(w, given, &done)) {
		if (pread(w->node, block, 4096, 0) <= 0 && done == before)
			break;
		before = done;
	}
	_exit(0);
}

/* Have the server do what we have asked. In a process that can be left behind: it may never answer. Returns 0 or -errno. */
static int server_answer(const struct committing *w, bool given)
{
	uint64_t done = 0, before;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		server_poke(w, given);
	do {
		before = done;
		if (process_await(pid, ANSWER_MS, NULL))
			return server_has_answered(w, given, &done) ? 0 : -EIO;
	} while (!server_has_answered(w, given, &done) && done > before);
	kill(pid, SIGKILL);
	return -ETIME;
}

/* The device is ours alone from here on. Returns 0 or -errno. */
static int commit_claim(struct ctrl *c, struct committing *w, char *text, size_t len)
{
	w->node = dev_claim(c, w->info.dev_id, O_DIRECT, text, len);
	return w->node < 0 ? w->node : dev_flush(c, w->info.dev_id);
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

static int commit_ask(struct committing *w, enum lock_ask lock)
{
	__atomic_store_n(&w->changes.head->lock, lock, __ATOMIC_RELEASE);
	return server_answer(w, false);
}

/* Alone, also among those who have the file. Returns 0 or -errno. */
static int commit_lock(struct committing *w)
{
	uint64_t done;
	int ret = 0;

	if (!commit_given(&w->changes, &done))	/* what a commit before us has written is not all given back */
		ret = server_answer(w, true);
	if (!ret)
		ret = commit_ask(w, LOCK_TO_WRITE);
	if (!ret)
		ret = w->changes.head->lock_res;
	if (ret == -EWOULDBLOCK)
		w->why = "its file is in use: somebody else has locked it, as another snapshot does";
	return ret;
}

/* All of it into the file, for good, and out of memory. Returns 0 or -errno. */
static int commit_all(struct committing *w, int fd)
{
	int ret = commit_write(&w->changes, fd);

	if (ret == -EBUSY)
		w->why = "it is being written to";
	if (ret)
		return ret;
	commit_give(&w->changes);
	ret = server_answer(w, true);
	if (ret)
		notice("%s: all of it is in the file, but its server has not taken note", node_path(w->info.dev_id).s);
	return ret == -ETIME ? ret : 0;
}

/* The file is opened for writing only now. */
static int commit_to_file(struct committing *w)
{
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
	ret = commit_lock(w);
	if (!ret)
		ret = commit_all(w, fd);
	close(fd);
	/* whatever has become of it: the next snapshot of the file need not wait for this one to go */
	(void)commit_ask(w, LOCK_TO_READ);
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
		return "it has no server, and its changes are gone with that, or another is about to start";
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
	return commit_to_file(w);
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
