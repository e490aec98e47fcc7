/* SPDX-License-Identifier: MIT */
/* find: see find.h. */
#include "cli/find.h"
#include "cli/backends.h"
#include "host/driver.h"
#include "host/memory.h"
#include "host/mounts.h"
#include "host/nodes.h"
#include "host/process.h"
#include "host/usage.h"
#include "lib/read.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "store/changes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

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

/* The same of a process. */
static int server_file(int pid, const char *begins, char *path, size_t len)
{
	struct dir fds;
	int fd;

	text_print(path, len, "/proc/%d/fd", pid);
	if (!dir_open(&fds, AT_FDCWD, path))
		return -errno;
	fd = fds_find(&fds, begins, path, len);
	dir_close(&fds);
	return fd;
}

bool info_backing(const struct ublksrv_ctrl_dev_info *info, int pid, char *path, size_t len, struct stat *st)
{
	const struct backend *be = backend_of(info->ublksrv_flags);
	bool found;
	int fd;

	if (!be || strcmp(be->operand, "path") || pid <= 0)
		return false;	/* in memory, or not ours */
	fd = server_file(pid, NULL, path, len);
	found = fd >= 0 && fstat(fd, st) == 0;
	fd_close(fd);
	return found;
}

#define MEMFD_LEN	32
#define ANSWER_MS	30000	/* that a server may take, as long as it says nothing */

/* How the kernel names a memfd, up to what may follow. */
static void memfd_begins(char begins[MEMFD_LEN], const char *name)
{
	text_print(begins, MEMFD_LEN, "/memfd:%s ", name);
}

/* What the kernel counts of a memfd: with what a snapshot notes of its pages. */
static bool memfd_used(int pid, const char *name, uint64_t *bytes)
{
	char path[4096], begins[MEMFD_LEN];
	struct stat st;
	bool found;
	int fd;

	memfd_begins(begins, name);
	fd = server_file(pid, begins, path, sizeof(path));
	found = fd >= 0 && fstat(fd, &st) == 0;
	if (found)
		*bytes = (uint64_t)st.st_blocks * 512;
	fd_close(fd);
	return found;
}

bool info_used(const struct ublksrv_ctrl_dev_info *info, int pid, uint64_t *bytes)
{
	const char *type = backend_name(info->ublksrv_flags);

	if (pid <= 0)
		return false;
	if (!strcmp(type, "snapshot"))
		return memfd_used(pid, CHANGES_NAME, bytes);
	return !strcmp(type, "mem") && (memfd_used(pid, MEM_NAME, bytes) || memory_of(pid, bytes));
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
	memfd_begins(begins, memfd);
	*mem = fds_find(&fds, begins, path, sizeof(path));
	dir_close(&fds);
	return ret < 0 ? ret : *mem < 0 ? *mem : 0;
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

bool info_is_others(const struct ublksrv_ctrl_dev_info *info)
{
	return info->flags & UBLK_F_UNPRIVILEGED_DEV && process_is_admin() && info->owner_uid != geteuid();
}

bool info_is_not_ours(int err)
{
	return err == -ENODEV || ((err == -EACCES || err == -EPERM) && !process_is_admin());
}

int dev_resolve(struct ctrl *c, const char *name, uint32_t *id)
{
	struct stat want, st;
	char path[4096];
	uint32_t *ids;
	int nr, ret = -ENODEV;

	if (parse_dev(name, id))
		return 0;
	c->step = STEP_INFO;
	if (stat(name, &want) || !(S_ISREG(want.st_mode) || S_ISBLK(want.st_mode)))
		return -ENODEV;
	nr = dev_ids(&ids);
	for (int i = 0; i < nr; i++) {
		/* what another user's server has open says nothing */
		if (ctrl_get_info(c, ids[i]) || info_is_others(&c->info) ||
		    !info_backing(&c->info, usage_server(ids[i], c->info.ublksrv_pid), path, sizeof(path), &st))
			continue;
		if (S_ISBLK(want.st_mode) ? st.st_rdev != want.st_rdev :
		    st.st_dev != want.st_dev || st.st_ino != want.st_ino)
			continue;
		ret = ret ? 0 : -ENOTUNIQ;
		*id = ids[i];
	}
	dev_ids_end(ids);
	return ret;
}

int ctrl_open_to_look(struct ctrl *c)
{
	char path[4096];
	const bool loadable = access(CTRL_NODE, F_OK) && driver_path(path, sizeof(path));
	int ret;

	if (!c->stay)
		mounts_complete();
	ret = ctrl_open(c, false);
	return ret == -ENOENT && c->step == STEP_CONTROL && loadable ? -ENODEV : ret;
}

int dev_look(struct ctrl *c, const char *name)
{
	uint32_t id = 0;
	int ret = ctrl_open_to_look(c);

	if (!ret)
		ret = dev_resolve(c, name, &id);
	return ret ? ret : ctrl_get_info(c, id);
}

int dev_claim(struct ctrl *c, uint32_t id, char *text, size_t len)
{
	int fd, ret = dev_ask(c, id, true, text, len);

	if (ret)
		return ret;
	fd = node_try(node_path(id).s, O_RDONLY | O_EXCL, mounts_lack_nodes());
	return fd < 0 ? -errno : fd;
}

const char *resolve_why(int err)
{
	return err == -ENOTUNIQ ? "several devices show it: name one" :
	       err == -ENODEV ? "no ublk device, nor shown by one" : NULL;
}
