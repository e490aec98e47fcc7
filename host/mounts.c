/* SPDX-License-Identifier: MIT */
/* mounts: see mounts.h. */
#include "host/mounts.h"
#include "lib/read.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* see mounts.h */
static int caller_dev = -1;
static bool mounts_left;
static bool makes_nodes;

bool mounts_are_left(void)
{
	return mounts_left;
}

int mounts_caller_dev(void)
{
	return caller_dev;
}

bool mounts_lack_nodes(void)
{
	return makes_nodes;
}

/* A path in mountinfo: \040 and its like become what they stand for. */
static void octal_decode(char *path)
{
	char *to = path;

	for (const char *from = path; *from; to++) {
		if (*from == '\\' && from[1] && from[2] && from[3]) {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + from[3] - '0');
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = 0;
}

/* Detach what is mounted below the caller's root, the last first. Ours are not below that path. */
static void mounts_detach(void)
{
	unsigned nr = UINT32_MAX, i;
	char path[4096] = "", *line;
	struct lines l;

	/* the file anew for each: what is below the one before is gone as well */
	do {
		lines_open(&l, open("proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
		for (i = 0; i < nr && (line = lines_next(&l)); i++) {
			const char *where = text_word(line, 4);

			text_print(path, sizeof(path), "%.*s", (int)text_until(where, " "), where);
		}
		lines_close(&l);
		octal_decode(path);
		if (i && strcmp(path, "/"))
			(void)umount2(path, MNT_DETACH);
		nr = i - 1;
	} while (i > 1);
}

/*
 * In a mount namespace that is ours alone: a root of tmpfs with /dev, /proc and
 * /sys, as far as the kernel has them, and nothing else. Built on top of the
 * caller's root, which need not have a directory to build it in; "/.." leads there.
 */
static int mounts_replace(void)
{
	static const struct { const char *dir, *type; } own[] = {
		{ "dev", "devtmpfs" }, { "proc", "proc" }, { "sys", "sysfs" },
	};

	makes_nodes = false;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("ublk", "/", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=700") || chdir("/.."))
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
		if (mkdir(own[i].dir, 0700))
			return -errno;
		if (mount(own[i].type, own[i].dir, own[i].type, MS_NOSUID | MS_NOEXEC, NULL) && i == 0)
			makes_nodes = true;
	}
	/* what was the root is then above the new one */
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		return umount2(".", MNT_DETACH) || chdir("/") ? -errno : 0;
	/* the root is an initramfs, which cannot be moved and need not be freed */
	mounts_detach();
	return chroot(".") || chdir("/") ? -errno : 0;
}

static bool is_mount_root(int fd)
{
	uint64_t stx[32] = { 0 };	/* struct statx: attributes are the second */

	return syscall(SYS_statx, fd, "", 0x1000 /* AT_EMPTY_PATH */, 0, stx) == 0 &&
	       stx[1] & 0x2000 /* STATX_ATTR_MOUNT_ROOT, 5.8 */;
}

/*
 * Leave the caller's mounts. A server that is the last process in a mount
 * namespace in which its own device is mounted would unmount that as it exits,
 * when nobody is left to serve it. And a copy of the caller's mounts would keep
 * every filesystem in it busy. So neither: before any thread is made, as a
 * mount namespace is a thread's own. It is also how to get at /proc, /sys and
 * the driver's nodes where the caller has none of them mounted; then its /dev
 * stays open, for the node that it is to see.
 */
static int mounts_leave_now(void)
{
	int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int root = open("/", O_PATH | O_CLOEXEC), cwd = open(".", O_PATH | O_CLOEXEC);
	int dev = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat theirs, ours;
	int ret = 0;

	if (root < 0 || cwd < 0) {
		ret = -errno;
	} else if (!is_mount_root(root)) {
		ret = -EINVAL;	/* a chroot to a mere directory: what is outside of it cannot be left */
	} else if (unshare(CLONE_NEWNS)) {
		ret = -errno;
	} else {
		ret = mounts_replace();
		/* setns() leads to the namespace's root, which in a chroot is not the caller's */
		if (ret && (home < 0 || setns(home, CLONE_NEWNS) || fchdir(root) || chroot(".") || fchdir(cwd)))
			debug("back to the caller's mounts: %s", strerror(errno));
	}
	makes_nodes &= !ret;
	/* all devtmpfs are one */
	if (!ret && dev >= 0 && (makes_nodes || fstat(dev, &theirs) || stat("/dev", &ours) ||
				 theirs.st_dev != ours.st_dev)) {
		caller_dev = dev;
		dev = -1;
	}
	for (size_t i = 0; i < 4; i++) {
		const int fds[] = { home, root, cwd, dev };

		fd_close(fds[i]);
	}
	return ret;
}

int mounts_leave(void)
{
	int ret = mounts_left ? 0 : mounts_leave_now();

	mounts_left = !ret;
	return ret;
}

void mounts_complete(void)
{
	if (access("/proc/self", F_OK) || access("/sys/class", F_OK)) {
		int ret = mounts_leave();

		debug("no /proc or no /sys here: %s", ret ? strerror(-ret) : "mounted, for this process");
	}
}
