/* SPDX-License-Identifier: MIT */
/* find: see find.h. */
#include "cli/find.h"
#include "cli/backends.h"
#include "host/driver.h"
#include "host/memory.h"
#include "host/mounts.h"
#include "host/nodes.h"
#include "host/process.h"
#include "host/server.h"
#include "host/usage.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "store/changes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

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

/* What the kernel counts of a memfd: with what a snapshot notes of its pages. */
static bool memfd_used(int pid, const char *name, uint64_t *bytes)
{
	char path[4096];
	struct stat st;
	bool found;
	int fd;

	fd = server_file(pid, name, path, sizeof(path));
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
	const int64_t end = now_ms() + GRACE_MS;
	int ret;

	for (;;) {
		ret = dev_ask(c, id, true, text, len);
		if (!ret) {
			ret = node_try(node_path(id).s, O_RDONLY | O_EXCL, mounts_lack_nodes());
			ret = ret < 0 ? -errno : ret;
		}
		if (ret != -EBUSY || now_ms() >= end)
			return ret;
		nap_ms(50);
	}
}

const char *resolve_why(int err)
{
	return err == -ENOTUNIQ ? "several devices show it: name one" :
	       err == -ENODEV ? "no ublk device, nor shown by one" : NULL;
}
