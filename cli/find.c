/* SPDX-License-Identifier: MIT */
/* find: see find.h. */
#include "cli/find.h"
#include "cli/backends.h"
#include "host/driver.h"
#include "host/memory.h"
#include "host/mounts.h"
#include "host/nodes.h"
#include "host/usage.h"
#include "lib/read.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "store/changes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/*
 * A descriptor of a server: the file or block device that it serves, which is
 * the first one that it has, or a file whose name begins like this. Its path, as
 * the kernel has it, goes to path. Opens it with these flags. Returns a
 * descriptor or -errno.
 */
static int server_file(int pid, const char *begins, char *path, size_t len, int flags)
{
	int fd = -ENOENT;
	const char *name;
	struct stat st;
	struct dir d;

	text_print(path, len, "/proc/%d/fd", pid);
	if (!dir_open(&d, AT_FDCWD, path))
		return -errno;
	while (fd == -ENOENT && (name = dir_next(&d))) {
		ssize_t got;
		uint64_t n;

		if (!parse_number(name, &n) || n < 3 || fstatat(d.fd, name, &st, 0) ||
		    !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
			continue;
		got = readlinkat(d.fd, name, path, len - 1);
		path[got > 0 ? got : 0] = 0;
		if (got <= 0 || (begins && strncmp(path, begins, strlen(begins))))
			continue;
		fd = openat(d.fd, name, flags | O_CLOEXEC | O_NOCTTY);
		fd = fd < 0 ? -errno : fd;
	}
	dir_close(&d);
	return fd;
}

bool info_backing(const struct ublksrv_ctrl_dev_info *info, int pid, char *path, size_t len, struct stat *st)
{
	const struct backend *be = backend_of(info->ublksrv_flags);
	bool found;
	int fd;

	if (!be || strcmp(be->operand, "path") || pid <= 0)
		return false;	/* in memory, or not ours */
	fd = server_file(pid, NULL, path, len, O_PATH);
	found = fd >= 0 && fstat(fd, st) == 0;
	fd_close(fd);
	return found;
}

/* What the kernel counts of a memfd: with what a snapshot notes of its pages. */
static bool memfd_used(int pid, const char *name, uint64_t *bytes)
{
	char path[4096], begins[64];
	struct stat st;
	bool found;
	int fd;

	text_print(begins, sizeof(begins), "/memfd:%s ", name);
	fd = server_file(pid, begins, path, sizeof(path), O_PATH);
	found = fd >= 0 && fstat(fd, &st) == 0;
	if (found)
		*bytes = (uint64_t)st.st_blocks * 512;
	fd_close(fd);
	return found;
}

bool info_used(const struct ublksrv_ctrl_dev_info *info, int pid, uint64_t size, uint64_t *bytes)
{
	const char *type = backend_name(info->ublksrv_flags);
	const uint64_t page = (uint64_t)getpagesize();

	if (pid <= 0)
		return false;
	if (!strcmp(type, "snapshot"))
		return memfd_used(pid, CHANGES_NAME, bytes);
	return !strcmp(type, "mem") && (memfd_used(pid, MEM_NAME, bytes) || memory_of(pid, (size + page - 1) / page * page, bytes));
}

int backing_open(int pid, int flags)
{
	char path[4096];

	return server_file(pid, NULL, path, sizeof(path), flags);
}

int memfd_open(int pid, const char *name)
{
	char path[4096], begins[64];

	text_print(begins, sizeof(begins), "/memfd:%s ", name);
	return server_file(pid, begins, path, sizeof(path), O_RDWR);
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
		if (ctrl_get_info(c, ids[i]) ||
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

const char *resolve_why(int err)
{
	return err == -ENOTUNIQ ? "several devices show it: name one" :
	       err == -ENODEV ? "no ublk device, nor shown by one" : NULL;
}
