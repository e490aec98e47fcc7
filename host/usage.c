/* SPDX-License-Identifier: MIT */
/* usage: see usage.h. */
#include "host/usage.h"
#include "host/nodes.h"
#include "lib/read.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Does MAJ:MIN, as in mountinfo, belong to the disk or one of its partitions? */
static bool is_devno(const char *devno, size_t len, uint32_t id)
{
	char path[80], line[32];
	bool found = false;
	struct parts p;

	parts_open(&p, id);
	while (!found && parts_next(&p)) {
		text_print(path, sizeof(path), "%s/dev", p.sys);
		found = text_read(path, line, sizeof(line)) > 0 && strcspn(line, "\n") == len &&
			!strncmp(line, devno, len);
	}
	parts_close(&p);
	return found;
}

/*
 * A mount of it or of a partition, in the mount namespace that this mountinfo
 * shows: by its number, as the name may be an alias, or by its name, as btrfs
 * has a number of its own.
 */
static bool usage_mountinfo(const char *mountinfo, uint32_t id, char *text, size_t len)
{
	bool found = false;
	struct lines l;
	char *line;

	lines_open(&l, open(mountinfo, O_RDONLY | O_CLOEXEC));
	while (!found && (line = lines_next(&l))) {
		/* 36 35 98:0 / /mnt rw shared:1 - ext4 /dev/ublkb0 rw */
		const char *devno = text_word(line, 2), *where = text_word(line, 4), *dash = where;

		while (*dash && strncmp(dash, "- ", 2))
			dash = text_word(dash, 1);
		found = is_node(text_word(dash, 2), NODE_BASE, id) || is_devno(devno, strcspn(devno, " "), id);
		if (found)
			text_print(text, len, "mounted on %.*s", (int)strcspn(where, " "), where);
	}
	lines_close(&l);
	return found;
}

/*
 * Mounted anywhere? A server has a mount namespace of its own, and a mount may
 * be in one that neither it nor we are in: every process's is looked at, each once.
 */
static bool usage_mount(uint32_t id, char *text, size_t len)
{
	ino_t seen[64];
	unsigned nr = 0;
	char path[300];
	const char *name;
	bool found = usage_mountinfo("/proc/self/mountinfo", id, text, len);
	struct dir d;

	dir_open(&d, AT_FDCWD, "/proc");
	while (!found && (name = dir_next(&d))) {
		struct stat st;
		unsigned i = 0;

		if (!isdigit((unsigned char)name[0]))
			continue;
		text_print(path, sizeof(path), "/proc/%s/ns/mnt", name);
		if (stat(path, &st))
			continue;
		while (i < nr && seen[i] != st.st_ino)
			i++;
		if (i < nr)
			continue;
		if (nr < ARRAY_SIZE(seen))
			seen[nr++] = st.st_ino;
		text_print(path, sizeof(path), "/proc/%s/mountinfo", name);
		found = usage_mountinfo(path, id, text, len);
	}
	dir_close(&d);
	return found;
}

static bool usage_swap(uint32_t id, char *text, size_t len)
{
	bool found = false;
	struct lines l;
	char *line;

	lines_open(&l, open("/proc/swaps", O_RDONLY | O_CLOEXEC));
	while (!found && (line = lines_next(&l)))
		found = is_node(line, NODE_BASE, id);
	lines_close(&l);
	if (found)
		text_print(text, len, "in use as swap");
	return found;
}

bool usage_holder(uint32_t id, char *text, size_t len)
{
	char path[80], holder[64];
	bool found = false;
	struct parts p;

	parts_open(&p, id);
	while (!found && parts_next(&p)) {
		text_print(path, sizeof(path), "%s/holders", p.sys);
		found = dir_first(path, holder, sizeof(holder));
	}
	parts_close(&p);
	if (found)
		text_print(text, len, "held by %s", holder);
	return found;
}

static bool pid_has_open(const char *pid, const char *base, uint32_t id)
{
	char path[320], target[NODE_LEN + 16];
	bool found = false;
	const char *name;
	struct dir d;

	text_print(path, sizeof(path), "/proc/%s/fd", pid);
	dir_open(&d, AT_FDCWD, path);
	while (!found && (name = dir_next(&d))) {
		ssize_t n;

		text_print(path, sizeof(path), "/proc/%s/fd/%s", pid, name);
		n = readlink(path, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = 0;
		found = is_node(target, base, id);
	}
	dir_close(&d);
	return found;
}

/* Not cmdline: reading that one waits for a process that faults on our device. */
static void pid_name(const char *pid, char *name, size_t len)
{
	char path[320];
	ssize_t n;

	text_print(path, sizeof(path), "/proc/%s/comm", pid);
	n = text_read(path, name, len);
	name[n > 0 ? n - 1 : 0] = 0;
}

bool usage_process(const char *base, uint32_t id, char *text, size_t len)
{
	bool found = false;
	const char *pid;
	char name[32];
	struct dir d;

	dir_open(&d, AT_FDCWD, "/proc");
	while (!found && (pid = dir_next(&d))) {
		if (!isdigit((unsigned char)pid[0]) || !pid_has_open(pid, base, id))
			continue;
		pid_name(pid, name, sizeof(name));
		text_print(text, len, "opened by process %.20s (%s)", pid, name);
		found = true;
	}
	dir_close(&d);
	return found;
}

bool dev_in_use(uint32_t id, char *text, size_t len)
{
	return usage_mount(id, text, len) || usage_swap(id, text, len) ||
	       usage_holder(id, text, len) || usage_process(NODE_BASE, id, text, len);
}

bool info_has_server(const struct ublksrv_ctrl_dev_info *info)
{
	return info->state == UBLK_S_DEV_LIVE && info->ublksrv_pid > 0 && kill(info->ublksrv_pid, 0) == 0;
}

int lock_holder(dev_t dev, ino_t ino)
{
	char *line, want[64];
	struct lines l;
	uint64_t n;
	int pid = 0;

	text_print(want, sizeof(want), "%02x:%02x:%llu ", major(dev), minor(dev), (unsigned long long)ino);
	lines_open(&l, open("/proc/locks", O_RDONLY | O_CLOEXEC));
	while ((line = lines_next(&l)))
		/* 1: FLOCK  ADVISORY  WRITE 708 00:13:1234 0 EOF */
		if (!strncmp(text_word(line, 1), "FLOCK ", 6) && !strncmp(text_word(line, 5), want, strlen(want)) &&
		    parse_digits(text_word(line, 4), &n) && n)
			pid = (int)n;
	lines_close(&l);
	return pid;
}
