/* SPDX-License-Identifier: MIT */
/* usage: see usage.h. */
#include "host/usage.h"
#include "host/nodes.h"
#include "lib/read.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* What is looked for: the numbers of a disk and its partitions; none of a disk that is gone, whose name is left. */
struct sought {
	uint32_t id;
	unsigned nr;
	dev_t devnos[1 + 256];
};

static void sought_get(struct sought *s, uint32_t id)
{
	const char *name;
	struct parts p;
	dev_t devno;

	s->id = id;
	s->nr = 0;
	parts_open(&p, id);
	while ((name = parts_next(&p)) && s->nr < ARRAY_SIZE(s->devnos)) {
		devno = node_devno(name);
		if (devno)
			s->devnos[s->nr++] = devno;
	}
	parts_close(&p);
}

static bool sought_has(const struct sought *s, dev_t devno)
{
	for (unsigned i = 0; i < s->nr; i++)
		if (s->devnos[i] == devno)
			return true;
	return false;
}

/*
 * What kind of file that is, and the number of a device's node, or of the device
 * that another one lies on. Asks no server of a filesystem. False: not to be had.
 */
static bool file_kind(int dir, const char *name, mode_t *type, dev_t *devno)
{
	uint32_t stx[64] = { 0 };	/* struct statx: mode is half of word 7, rdev words 32 and 33, dev 34 and 35 */
	uint16_t mode;

	if (syscall(SYS_statx, dir, name, 0x4000 /* AT_STATX_DONT_SYNC */, 1 /* STATX_TYPE */, stx))
		return false;
	memcpy(&mode, &stx[7], sizeof(mode));
	*type = mode & S_IFMT;
	*devno = S_ISBLK(*type) || S_ISCHR(*type) ? makedev(stx[32], stx[33]) : makedev(stx[34], stx[35]);
	return true;
}

/* Is this, by its name, one of the disk's nodes? Of a disk that is gone nothing else is left. */
static bool sought_is(const struct sought *s, int dir, const char *name, const char *target)
{
	mode_t type;
	dev_t devno;

	if (!s->nr && !is_node(target, NODE_BASE, s->id))
		return false;
	return file_kind(dir, name, &type, &devno) && type == S_IFBLK && (!s->nr || sought_has(s, devno));
}

/*
 * A mount of it or of a partition, in the mount namespace that this mountinfo
 * shows: by its number, or, if it is known to be claimed, by its name, as btrfs
 * has a number of its own. Without a claim a name there is anybody's.
 */
static bool usage_mountinfo(const char *mountinfo, const struct sought *s, bool names, char *text, size_t len)
{
	bool found = false;
	struct lines l;
	char *line;

	lines_open(&l, open(mountinfo, O_RDONLY | O_CLOEXEC));
	while (!found && (line = lines_next(&l))) {
		/* 36 35 98:0 / /mnt rw shared:1 - ext4 /dev/ublkb0 rw */
		const char *where = text_word(line, 4), *dash = where, *colon;
		uint64_t maj, min;

		colon = parse_digits(text_word(line, 2), &maj);
		found = colon && *colon == ':' && parse_digits(colon + 1, &min) &&
			sought_has(s, makedev((unsigned)maj, (unsigned)min));
		/* a disk that is gone is not claimed either: then not what a user may mount by that name, which has none */
		if (!s->nr && colon && !maj)
			continue;
		while (names && !found && *dash && strncmp(dash, "- ", 2))
			dash = text_word(dash, 1);
		found = found || (names && is_node(text_word(dash, 2), NODE_BASE, s->id));
		if (found)
			text_print(text, len, "mounted on %.*s", (int)text_until(where, " "), where);
	}
	lines_close(&l);
	return found;
}

/*
 * Mounted anywhere? A server has a mount namespace of its own, and a mount may
 * be in one that neither it nor we are in: every process's is looked at, each once.
 */
static bool usage_mount(const struct sought *s, bool names, char *text, size_t len)
{
	ino_t seen[64];
	unsigned nr = 0;
	char path[300];
	const char *name;
	bool found = usage_mountinfo("/proc/self/mountinfo", s, names, text, len);
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
		found = usage_mountinfo(path, s, names, text, len);
	}
	dir_close(&d);
	return found;
}

/* A device of a btrfs that is mounted, be it not the one that the mount names. */
static bool usage_btrfs(uint32_t id, char *text, size_t len)
{
	const char *name, *part;
	char path[320];
	bool found = false;
	struct dir d, devices;

	dir_open(&d, AT_FDCWD, "/sys/fs/btrfs");
	while (!found && (name = dir_next(&d))) {
		text_print(path, sizeof(path), "%.250s/devices", name);
		if (name[0] == '.' || !dir_open(&devices, d.fd, path))
			continue;
		while (!found && (part = dir_next(&devices)))
			found = is_node(part, "ublkb", id);
		dir_close(&devices);
		if (found)
			text_print(text, len, "part of the mounted btrfs %s", name);
	}
	dir_close(&d);
	return found;
}

static bool usage_swap(const struct sought *s, char *text, size_t len)
{
	bool found = false;
	struct lines l;
	char *line;

	lines_open(&l, open("/proc/swaps", O_RDONLY | O_CLOEXEC));
	while (!found && (line = lines_next(&l))) {
		found = is_node(line, NODE_BASE, s->id);
		line[text_until(line, " \t")] = 0;
		found = found || (line[0] == '/' && s->nr && sought_is(s, AT_FDCWD, line, line));
	}
	lines_close(&l);
	if (found)
		text_print(text, len, "in use as swap");
	return found;
}

static bool usage_holder(uint32_t id, char *text, size_t len)
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

/* Under a loop device? That holds a file, not a claim, and no process has it open. */
static bool usage_loop(const struct sought *s, char *text, size_t len)
{
	char path[320], file[512];
	const char *name;
	bool found = false;
	struct dir d;

	dir_open(&d, AT_FDCWD, "/sys/block");
	while (!found && (name = dir_next(&d))) {
		if (strncmp(name, "loop", 4))
			continue;
		text_print(path, sizeof(path), "/sys/block/%.250s/loop/backing_file", name);
		if (text_read(path, file, sizeof(file)) <= 0)
			continue;
		file[text_until(file, "\n")] = 0;
		found = is_node(file, NODE_BASE, s->id) || sought_is(s, AT_FDCWD, file, file);
		if (found)
			text_print(text, len, "backing %s", name);
	}
	dir_close(&d);
	return found;
}

bool usage_stacked(uint32_t id)
{
	struct sought s;
	char text[160];

	sought_get(&s, id);
	return usage_holder(id, text, sizeof(text)) || usage_loop(&s, text, sizeof(text));
}

bool link_holds(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_mode & 0600;
}

/* Is there a block device's node among the links in this directory of a process, /proc/PID/fd or map_files? */
static bool links_have(const char *pid, const char *what, const struct sought *s)
{
	char path[320], target[NODE_LEN + 16];
	bool found = false;
	const char *name;
	struct dir d;

	text_print(path, sizeof(path), "/proc/%.20s/%s", pid, what);
	dir_open(&d, AT_FDCWD, path);
	while (!found && (name = dir_next(&d))) {
		ssize_t n = readlinkat(d.fd, name, target, sizeof(target) - 1);

		if (n <= 0 || target[0] != '/')
			continue;	/* a pipe, a socket: no file */
		target[n] = 0;
		found = link_holds(d.fd, name) && sought_is(s, d.fd, name, target);
	}
	dir_close(&d);
	return found;
}

/* Not cmdline: reading that one waits for a process that faults on our device. */
static void pid_name(const char *pid, char *name, size_t len)
{
	char path[320];
	ssize_t n;

	text_print(path, sizeof(path), "/proc/%.20s/comm", pid);
	n = text_read(path, name, len);
	name[n > 0 ? n - 1 : 0] = 0;
}

/* A process that has it open or, where what is map_files, mapped. */
static bool usage_process(const struct sought *s, const char *what, const char *words, char *text, size_t len)
{
	bool found = false;
	const char *pid;
	char name[32];
	struct dir d;

	dir_open(&d, AT_FDCWD, "/proc");
	while (!found && (pid = dir_next(&d))) {
		if (!isdigit((unsigned char)pid[0]) || !links_have(pid, what, s))
			continue;
		pid_name(pid, name, sizeof(name));
		text_print(text, len, "%s by process %.20s (%s)", words, pid, name);
		found = true;
	}
	dir_close(&d);
	return found;
}

bool usage_seen(uint32_t id, unsigned how, char *text, size_t len)
{
	struct sought s;

	sought_get(&s, id);
	if (!(how & USAGE_UNCLAIMED) &&
	    (usage_mount(&s, how & USAGE_CLAIMED || !s.nr, text, len) || usage_btrfs(id, text, len) ||
	     usage_swap(&s, text, len) || usage_holder(id, text, len)))
		return true;
	return usage_loop(&s, text, len) ||
	       usage_process(&s, "fd", "opened", text, len) ||
	       (how & USAGE_MAPPED && usage_process(&s, "map_files", "mapped", text, len));
}

/*
 * Has a process one of those devices open, or, unless they are character
 * devices, a file that lies on one? Less than 0: that is not for us to know.
 */
static int pid_has(const char *pid, const struct sought *s, bool chars)
{
	const char *name;
	char path[40];
	mode_t type;
	int found = 0;
	struct dir d;
	dev_t devno;

	text_print(path, sizeof(path), "/proc/%.20s/fd", pid);
	if (!dir_open(&d, AT_FDCWD, path))
		return errno == EACCES || errno == EPERM ? -1 : 0;
	while (!found && (name = dir_next(&d)))
		found = link_holds(d.fd, name) && file_kind(d.fd, name, &type, &devno) && sought_has(s, devno) &&
			(chars ? type == S_IFCHR : type == S_IFBLK || type == S_IFREG);
	dir_close(&d);
	return found;
}

int usage_server(uint32_t id, int pid)
{
	struct sought s = { .id = id, .nr = 1 };
	char text[32];
	const char *name;
	uint64_t n = 0;
	struct dir d;

	text_print(text, sizeof(text), "ublkc%u", id);
	s.devnos[0] = node_devno(text);
	text_print(text, sizeof(text), "%d", pid);
	if (!s.devnos[0] || (pid > 0 && pid_has(text, &s, true)))
		return s.devnos[0] ? pid : 0;
	dir_open(&d, AT_FDCWD, "/proc");
	while (!n && (name = dir_next(&d)))
		if (isdigit((unsigned char)name[0]) && pid_has(name, &s, true) > 0)
			(void)parse_digits(name, &n);
	dir_close(&d);
	return (int)n;
}

/* Add a disk of this name in /sys/block and its partitions. Has it been new? */
static bool sought_add(struct sought *s, const char *disk)
{
	const unsigned before = s->nr;
	const size_t len = strlen(disk);
	const char *name;
	char path[320];
	struct dir d;
	dev_t devno;

	text_print(path, sizeof(path), "/sys/block/%.250s", disk);
	dir_open(&d, AT_FDCWD, path);
	for (name = disk; name && s->nr < ARRAY_SIZE(s->devnos); name = dir_next(&d)) {
		devno = strncmp(name, disk, len) ? 0 : node_devno(name);
		if (devno && !sought_has(s, devno))
			s->devnos[s->nr++] = devno;
	}
	dir_close(&d);
	return s->nr > before;
}

/* Does it hold one of those: as device-mapper and md do, or as a loop device does, whose file may lie on one? */
static bool sought_holds(const struct sought *s, const char *disk)
{
	char path[320], file[512];
	const char *name;
	bool found = false;
	mode_t type;
	struct dir d;
	dev_t devno;

	text_print(path, sizeof(path), "/sys/block/%.250s/slaves", disk);
	dir_open(&d, AT_FDCWD, path);
	while (!found && (name = dir_next(&d)))
		found = name[0] != '.' && sought_has(s, node_devno(name));
	dir_close(&d);
	text_print(path, sizeof(path), "/sys/block/%.250s/loop/backing_file", disk);
	if (!found && text_read(path, file, sizeof(file)) > 0) {
		file[text_until(file, "\n")] = 0;
		found = file_kind(AT_FDCWD, file, &type, &devno) && sought_has(s, devno);
	}
	return found;
}

bool usage_carries(uint32_t id, const int *pids, int nr, int except)
{
	struct sought s;
	const char *name;
	bool more, found = false;
	char pid[16];
	struct dir d;

	sought_get(&s, id);
	do {
		more = false;
		dir_open(&d, AT_FDCWD, "/sys/block");
		while ((name = dir_next(&d)))
			more = (name[0] != '.' && sought_holds(&s, name) && sought_add(&s, name)) || more;
		dir_close(&d);
	} while (more);
	for (int i = 0; i < nr && !found; i++) {
		text_print(pid, sizeof(pid), "%d", pids[i]);
		found = i != except && pids[i] && pid_has(pid, &s, false) > 0;
	}
	return found;
}

bool info_has_server(const struct ublksrv_ctrl_dev_info *info)
{
	return info->state == UBLK_S_DEV_LIVE && usage_server(info->dev_id, info->ublksrv_pid) > 0;
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
