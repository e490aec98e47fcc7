/* SPDX-License-Identifier: MIT */
/* save: a device's content into a file. */
#include "cli/find.h"
#include "cli/verbs.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "host/process.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "store/image.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STUCK_MS	30000	/* without getting on, and a copy is given up */

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE	1	/* linux/fs.h */
#endif

/* A file that has no name, or a name of ours, until it is whole. */
struct saving {
	int dir;		/* where it is to be */
	int fd;
	const char *name;	/* what it is to be called there */
	char part[300];		/* its name until then; "": none */
};

static bool is_there(const struct saving *s)
{
	struct stat st;

	return fstatat(s->dir, s->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Returns 0 or -errno. */
static int saving_begin(struct saving *s, const char *path)
{
	char dir[4096];

	s->name = path_split(path, dir, sizeof(dir));
	if (!s->name || strlen(s->name) >= sizeof(s->part) - 32)
		return -ENAMETOOLONG;
	if (!*s->name)
		return -EISDIR;
	s->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0)
		return -errno;
	if (is_there(s))
		return -EEXIST;		/* before all of it has been read in vain */
	/* without a name it goes whatever becomes of us, but not every filesystem has that */
	s->fd = openat(s->dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	if (s->fd >= 0)
		return 0;
	for (unsigned i = 0; i < 100 && s->fd < 0; i++) {
		text_print(s->part, sizeof(s->part), ".%s.%u.part", s->name, i);
		s->fd = openat(s->dir, s->part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (s->fd < 0)
			s->part[0] = 0;		/* not ours */
		if (s->fd < 0 && errno != EEXIST)
			return -errno;
	}
	return s->fd < 0 ? -ENOENT : 0;
}

/*
 * It is whole, and gets its name, for good: to sync it may take as long as its
 * disk does. Returns 0 or -errno.
 */
static int saving_name(struct saving *s)
{
	if (fsync(s->fd))
		return -errno;
	if (!s->part[0]) {
		/* the first without CAP_DAC_READ_SEARCH, the second without /proc */
		if (linkat(AT_FDCWD, fd_path(s->fd).s, s->dir, s->name, AT_SYMLINK_FOLLOW) &&
		    (errno != ENOENT || linkat(s->fd, "", s->dir, s->name, AT_EMPTY_PATH)))
			return -errno;
	} else if (syscall(SYS_renameat2, s->dir, s->part, s->dir, s->name, RENAME_NOREPLACE)) {
		if (errno != EINVAL)
			return -errno;
		/* a filesystem that cannot promise it: looked at before, then */
		if (is_there(s))
			return -EEXIST;
		if (syscall(SYS_renameat2, s->dir, s->part, s->dir, s->name, 0))
			return -errno;
	}
	s->part[0] = 0;
	return fsync(s->dir) && errno != EINVAL ? -errno : 0;
}

static struct saving saving = { .dir = -1, .fd = -1 };

static void saving_end(void)
{
	if (saving.part[0])
		(void)unlinkat(saving.dir, saving.part, 0);
	fd_close(saving.fd);
	fd_close(saving.dir);
}

/* Ctrl-C and its like: no part of a file is left behind. */
static void saving_stop(int signo)
{
	saving_end();
	signal(signo, SIG_DFL);
	raise(signo);
}

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

static void signals_catch(void (*handler)(int))
{
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (signal(signals[i], handler) == SIG_IGN)
			(void)signal(signals[i], SIG_IGN);
}

/* What has become of a copy. */
struct copied {
	int ret;
	bool reads;	/* it was the disk that could not be read */
};

__attribute__((noreturn))
static void copy_apart(int disk, int to, uint64_t size, bool sparse, int report_fd)
{
	struct copied copied;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	signals_catch(SIG_DFL);		/* the part of a file is our parent's to remove */
	copied.ret = image_save(disk, to, size, sparse, &copied.reads);
	_exit(write(report_fd, &copied, sizeof(copied)) != sizeof(copied));
}

/*
 * In a process that can be left behind: where the device's server hangs, who
 * reads does not end any more. As long as to, a file, gets on it is waited for;
 * where it is a pipe, what is at its other end may take its time.
 */
static struct copied copy(int disk, int to, uint64_t size, bool sparse)
{
	struct copied copied = { .ret = -ECHILD };
	off_t before, at = 0;
	bool ended;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return (struct copied){ .ret = -errno };
	pid = fork_plain();
	if (pid == 0)
		copy_apart(disk, to, size, sparse, fds[1]);
	close(fds[1]);
	do {
		before = at;
		ended = pid < 0 || process_await(pid, STUCK_MS, NULL);
		at = sparse ? lseek(to, 0, SEEK_CUR) : before + 1;
	} while (!ended && at != before);
	if (!ended) {
		kill(pid, SIGKILL);
		copied = (struct copied){ .ret = -ETIME, .reads = true };
	} else if (read(fds[0], &copied, sizeof(copied)) != sizeof(copied)) {
		copied.ret = -ECHILD;
	}
	close(fds[0]);
	return copied;
}

static struct copied save_to(int disk, uint64_t size, const char *path)
{
	struct copied copied = { 0 };

	if (!strcmp(path, "-") && stdio_was_closed(STDOUT_FILENO))
		return (struct copied){ .ret = -EBADF };
	if (!strcmp(path, "-"))
		return copy(disk, STDOUT_FILENO, size, false);
	signals_catch(saving_stop);
	copied.ret = saving_begin(&saving, path);
	if (!copied.ret)
		copied = copy(disk, saving.fd, size, true);
	if (!copied.ret)
		copied.ret = saving_name(&saving);
	saving_end();
	return copied;
}

/* The node, past its page cache: what is saved is what the device has. */
static int save_open(uint32_t id, uint64_t *size)
{
	int fd = node_open(node_path(id).s, O_RDONLY | O_DIRECT, false);
	off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);

	*size = end > 0 ? (uint64_t)end : 0;
	return fd;
}

int verb_save(const struct args *a)
{
	struct ctrl *c = ctrl_own();
	struct copied copied;
	uint64_t size;
	uint32_t id;
	int ret, fd;

	if (a->nr < 2)
		return args_error(a->verb, a->nr ? "PATH is missing" : "DEV is missing");
	ret = dev_look(c, a->operands[0]);
	if (ret)
		return fail(a->operands[0], c->step, ret, resolve_why(ret));
	id = c->info.dev_id;
	if (c->info.state != UBLK_S_DEV_LIVE)
		return fail(node_path(id).s, STEP_READ, -EIO, "it has no server that would answer");
	signal(SIGXFSZ, SIG_IGN);	/* a limit of the shell's is an error of the write */
	ctrl_close(c);
	fd = save_open(id, &size);
	if (fd < 0)
		return fail(node_path(id).s, STEP_READ, fd, NULL);
	copied = save_to(fd, size, a->operands[1]);
	close(fd);
	if (!copied.ret)
		return 0;
	return copied.reads ? fail(node_path(id).s, STEP_READ, copied.ret, NULL) :
			      fail(a->operands[1], STEP_SAVE, copied.ret, NULL);
}
