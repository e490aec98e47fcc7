/* SPDX-License-Identifier: MIT */
/* server: see server.h. */
#include "host/server.h"
#include "host/process.h"
#include "host/usage.h"
#include "lib/read.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_MS	30000	/* that a server may take, as long as it says nothing */

/* A name is whatever somebody has called it: is it on the filesystem that memfds are on, which nobody can mount? */
static bool is_memfd(const struct stat *st)
{
	static struct stat own;		/* one that is gone, of which only the filesystem counts */
	int fd;

	if (!own.st_dev && (fd = memfd_make("", 0)) >= 0) {
		(void)fstat(fd, &own);
		close(fd);
	}
	return S_ISREG(st->st_mode) && own.st_dev && st->st_dev == own.st_dev;
}

/*
 * Of the descriptors in this /proc/PID/fd: the file or block device that a server
 * serves, which is the first one that it has, or the first file whose name begins
 * like this. Its path, as the kernel has it, goes to path. Returns a descriptor
 * that stands for it (O_PATH), or -errno.
 */
static int fds_find(struct dir *fds, const char *begins, char *path, size_t len)
{
	const char *name;
	struct stat st;

	while ((name = dir_next(fds))) {
		ssize_t got;
		uint64_t n;
		int fd;

		if (!parse_number(name, &n) || n < 3 || (fd = openat(fds->fd, name, O_PATH | O_CLOEXEC)) < 0)
			continue;
		got = readlinkat(fds->fd, name, path, len - 1);
		path[got > 0 ? got : 0] = 0;
		if (got > 0 && link_holds(fds->fd, name) && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) &&
		    strncmp(path, "/proc/", 6) &&
		    (begins ? !strncmp(path, begins, strlen(begins)) && is_memfd(&st) : strncmp(path, "/memfd:", 7)))
			return fd;
		close(fd);
	}
	return -ENOENT;
}

#define MEMFD_LEN	32

/* How the kernel names a memfd, up to what may follow; NULL: none. */
static const char *memfd_begins(char begins[MEMFD_LEN], const char *name)
{
	if (!name)
		return NULL;
	text_print(begins, MEMFD_LEN, "/memfd:%s ", name);
	return begins;
}

int server_file(int pid, const char *memfd, char *path, size_t len)
{
	char begins[MEMFD_LEN];
	struct dir fds;
	int fd;

	text_print(path, len, "/proc/%d/fd", pid);
	if (!dir_open(&fds, AT_FDCWD, path))
		return -errno;
	fd = fds_find(&fds, memfd_begins(begins, memfd), path, len);
	dir_close(&fds);
	return fd;
}

int server_files(const struct ublksrv_ctrl_dev_info *info, int pid, const char *memfd, int *mem, int *file)
{
	char path[4096], begins[MEMFD_LEN];
	struct dir fds;
	int ret = 0;

	*mem = -ENOENT;
	if (file)
		*file = -ENOENT;
	text_print(path, sizeof(path), "/proc/%d/fd", pid);
	if (!dir_open(&fds, AT_FDCWD, path)) {
		ret = -errno;	/* a zombie's is nobody's but root's */
		return usage_server(info->dev_id, pid) == pid ? ret : -ESRCH;
	}
	/* now that its descriptors are held it may die, but the number is not another's */
	if (usage_server(info->dev_id, pid) != pid) {
		dir_close(&fds);
		return -ESRCH;
	}
	if (file)
		ret = *file = fds_find(&fds, NULL, path, sizeof(path));
	*mem = fds_find(&fds, memfd_begins(begins, memfd), path, sizeof(path));
	dir_close(&fds);
	return ret < 0 ? ret : *mem < 0 ? *mem : 0;
}

bool info_is_others(const struct ublksrv_ctrl_dev_info *info)
{
	return info->flags & UBLK_F_UNPRIVILEGED_DEV && process_is_admin() && info->owner_uid != geteuid();
}

int letter_send(const struct ublksrv_ctrl_dev_info *info, int *server, struct letter *l, const char **why)
{
	int pidfd, fd, mail, ret;

	if (!*server)
		*server = usage_server(info->dev_id, info->ublksrv_pid);
	*why = "it has no server";
	if (*server <= 0)
		return -ESRCH;
	pidfd = pidfd_of(*server);
	ret = server_files(info, *server, MAILBOX_NAME, &fd, NULL);
	mail = ret ? ret : fd_reopen(fd, O_RDWR);
	ret = mail < 0 ? mail : mailbox_ask(mail, pidfd, l, !info_is_others(info), ANSWER_MS);
	*why = mail == -ENOENT ? "its server is of an earlier ublk, which cannot" :
	       mail >= 0 && ret == -EBUSY && !l->why[0] ? "somebody else is asking its server" :
	       ret == -ESRCH ? "its server has ended meanwhile" :
	       ret && l->why[0] ? l->why : NULL;
	fd_close(mail);
	fd_close(fd);
	fd_close(pidfd);
	return ret;
}
