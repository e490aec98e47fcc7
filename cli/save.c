/* SPDX-License-Identifier: MIT */
/* save: a device's content into a file. */
#include "cli/find.h"
#include "cli/verbs.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "store/image.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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
	const char *slash = strrchr(path, '/');
	char dir[4096];

	s->name = slash ? slash + 1 : path;
	if (strlen(path) >= sizeof(dir) || strlen(s->name) >= sizeof(s->part) - 32)
		return -ENAMETOOLONG;
	if (!*s->name)
		return -EISDIR;
	text_print(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	s->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0)
		return -errno;
	if (is_there(s))
		return -EEXIST;		/* before all of it has been read in vain */
	/* without a name it goes whatever becomes of us, but not every filesystem has that */
	s->fd = openat(s->dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	if (s->fd >= 0)
		return 0;
	text_print(s->part, sizeof(s->part), ".%s.%d.part", s->name, (int)getpid());
	s->fd = openat(s->dir, s->part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return s->fd < 0 ? -errno : 0;
}

/* It is whole, and gets its name, for good. Returns 0 or -errno. */
static int saving_name(struct saving *s)
{
	char link[40];

	if (!s->part[0]) {
		text_print(link, sizeof(link), "/proc/self/fd/%d", s->fd);
		if (linkat(AT_FDCWD, link, s->dir, s->name, AT_SYMLINK_FOLLOW))
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

static int save_to(int disk, uint64_t size, const char *path, bool *reads)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	int ret;

	*reads = false;
	if (!strcmp(path, "-"))
		return image_save(disk, STDOUT_FILENO, size, false, reads);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (signal(signals[i], saving_stop) == SIG_IGN)
			(void)signal(signals[i], SIG_IGN);
	ret = saving_begin(&saving, path);
	if (!ret)
		ret = image_save(disk, saving.fd, size, true, reads);
	if (!ret)
		ret = saving_name(&saving);
	saving_end();
	return ret;
}

/* The node, past its page cache: what is saved is what the device has. */
static int save_open(struct ctrl *c, uint32_t id, uint64_t *size)
{
	int fd = node_open(node_path(id).s, O_RDONLY | O_DIRECT);
	off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);

	c->step = STEP_READ;
	*size = end > 0 ? (uint64_t)end : 0;
	return fd;
}

int verb_save(const struct args *a)
{
	struct ctrl *c = ctrl_own();
	bool reads = false;
	uint32_t id = 0;
	uint64_t size;
	int ret, fd = -1;

	if (a->nr < 2)
		return args_error(a->verb, a->nr ? "PATH is missing" : "DEV is missing");
	ret = ctrl_open_to_look(c);
	if (!ret)
		ret = dev_resolve(c, a->operands[0], &id);
	if (!ret)
		ret = ctrl_get_info(c, id);
	if (ret)
		return fail(a->operands[0], c->step, ret, resolve_why(ret));
	ctrl_close(c);
	fd = save_open(c, id, &size);
	if (fd < 0)
		return fail(node_path(id).s, STEP_READ, fd, NULL);
	ret = save_to(fd, size, a->operands[1], &reads);
	close(fd);
	if (!ret)
		return 0;
	return reads ? fail(node_path(id).s, STEP_READ, ret, NULL) : fail(a->operands[1], STEP_SAVE, ret, NULL);
}
