/* SPDX-License-Identifier: MIT */
/* nodes: see nodes.h. */
#include "host/nodes.h"
#include "host/mounts.h"
#include "include/ublk_cmd.h"
#include "lib/read.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MADE_MS		2000	/* that making a node may take */
#define GIVEN_MS	10000	/* that giving it to its owner may take, which a busy udev does */

struct node_path node_path(uint32_t id)
{
	struct node_path path;

	text_print(path.s, sizeof(path.s), NODE_BASE "%u", id);
	return path;
}

void parts_open(struct parts *p, uint32_t id)
{
	text_print(p->disk, sizeof(p->disk), "ublkb%u", id);
	text_print(p->sys, sizeof(p->sys), "/sys/block/%s", p->disk);
	p->done = false;
	dir_open(&p->d, AT_FDCWD, p->sys);
}

void parts_close(struct parts *p)
{
	dir_close(&p->d);
}

const char *parts_next(struct parts *p)
{
	const char *name;

	if (p->done)
		return NULL;
	/* a partition's name begins with the disk's */
	while ((name = dir_next(&p->d)) && strncmp(name, "ublkb", 5))
		;
	text_print(p->sys, sizeof(p->sys), "/sys/block/%s%s%s", p->disk, name ? "/" : "", name ? name : "");
	p->done = !name;
	return name ? name : p->disk;
}

uint64_t parts_end(uint32_t id)
{
	char path[sizeof(((struct parts *)0)->sys) + 8];
	uint64_t start, sectors, end = 0;
	struct parts p;

	parts_open(&p, id);
	while (strcmp(parts_next(&p), p.disk)) {
		text_print(path, sizeof(path), "%s/start", p.sys);
		if (!number_read(path, &start))
			continue;
		text_print(path, sizeof(path), "%s/size", p.sys);
		if (number_read(path, &sectors) && start + sectors > end)
			end = start + sectors;
	}
	parts_close(&p);
	return end * 512;
}

bool parse_dev(const char *s, uint32_t *id)
{
	uint64_t n;

	if (!strncmp(s, "/dev/", 5))
		s += 5;
	if (!strncmp(s, "ublkb", 5) || !strncmp(s, "ublkc", 5))
		s += 5;
	if (!parse_number(s, &n) || n >= UBLK_MAX_UBLKS)
		return false;
	*id = (uint32_t)n;
	return true;
}

bool is_node(const char *path, const char *base, uint32_t id)
{
	char node[NODE_LEN];
	const size_t n = text_print(node, sizeof(node), "%s%u", base, id);

	if (strncmp(path, node, n))
		return false;
	path += n;
	if (*path == 'p' && isdigit((unsigned char)path[1]))
		for (path++; isdigit((unsigned char)*path); path++)
			;
	return !*path || isspace((unsigned char)*path);
}

dev_t node_devno(const char *name)
{
	const char *class = !strncmp(name, "ublkc", 5) ? "ublk-char" : strcmp(name, "ublk-control") ? "block" : "misc";
	char path[80], text[32] = "";
	const char *colon;
	uint64_t maj, min;

	text_print(path, sizeof(path), "/sys/class/%s/%s/dev", class, name);
	(void)text_read(path, text, sizeof(text));
	colon = parse_digits(text, &maj);
	return colon && *colon == ':' && parse_digits(colon + 1, &min) ? makedev(maj, min) : 0;
}

/* What a path is to be by its name: the type of its node, and its device's number as /sys has it, or 0. */
static void node_meant(const char *path, mode_t *type, dev_t *devno)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	*type = strncmp(name, "ublkb", 5) ? S_IFCHR : S_IFBLK;
	*devno = node_devno(name);
}

/* Make a node, unless it is there; path is relative to dir, or absolute. Returns 0 or -errno. */
static int node_make(int dir, const char *path)
{
	struct stat st;
	mode_t type;
	dev_t devno;

	node_meant(path, &type, &devno);
	if (!devno)
		return -ENOENT;
	if (mknodat(dir, path, type | 0600, devno) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) || (st.st_mode & S_IFMT) != type)
		return -EEXIST;
	if (st.st_rdev == devno)
		return 0;
	/* of a device that is gone: its name is ours now */
	return unlinkat(dir, path, 0) || mknodat(dir, path, type | 0600, devno) ? -errno : 0;
}

int nodes_make(uint32_t id)
{
	const int dev = mounts_caller_dev();
	const char *name;
	struct parts p;
	int ret = 0, one;

	if (dev < 0)
		return 0;
	parts_open(&p, id);
	while ((name = parts_next(&p))) {
		one = node_make(dev, name);
		ret = ret ? ret : one;
	}
	parts_close(&p);
	return ret;
}

void nodes_forget(uint32_t id)
{
	const int dev = mounts_caller_dev();
	const char *name;
	struct stat st;
	struct dir d;

	if (access("/sys/class/misc", F_OK))
		return;		/* node_devno() could not tell */
	dir_open(&d, dev, dev >= 0 ? "." : "/dev");
	while ((name = dir_next(&d)))
		if ((is_node(name, "ublkb", id) || is_node(name, "ublkc", id)) && !node_devno(name) &&
		    fstatat(d.fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)))
			(void)unlinkat(d.fd, name, 0);
	dir_close(&d);
}

/* Is this the device of that name, as far as /sys knows it? */
static bool node_is_meant(const struct stat *st, const char *path)
{
	mode_t type;
	dev_t devno;

	node_meant(path, &type, &devno);
	return (st->st_mode & S_IFMT) == type && (!devno || st->st_rdev == devno);
}

int node_try(const char *path, int flags, bool ours)
{
	struct stat st, opened;
	int fd;

	if (lstat(path, &st)) {
		if (errno != ENOENT || !ours)
			return -1;
		if (node_make(AT_FDCWD, path) || lstat(path, &st)) {
			errno = ENOENT;
			return -1;
		}
	}
	/* before opening, as that may wait, or do something, and after it, as a name may be another's by then */
	if (node_is_meant(&st, path)) {
		fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0 || (fstat(fd, &opened) == 0 && opened.st_rdev == st.st_rdev && !((opened.st_mode ^ st.st_mode) & S_IFMT)))
			return fd;
		close(fd);
	}
	errno = EEXIST;
	return -1;
}

int node_open(const char *path, int flags, bool given)
{
	int64_t end = now_ms() + (given ? GIVEN_MS : MADE_MS);
	int fd;

	for (;;) {
		fd = node_try(path, flags, mounts_lack_nodes());
		if (fd >= 0)
			return fd;
		if ((errno != EBUSY && errno != ENOENT && !(given && errno == EACCES)) || now_ms() > end)
			return -errno;
		nap_ms(2);
	}
}

int dev_ids(uint32_t **ids)
{
	const char *name;
	struct dir d;
	int nr = 0, i;

	/* as many as there can be: memory is taken as it is filled */
	*ids = pages_get(UBLK_MAX_UBLKS * sizeof(**ids));
	if (!dir_open(&d, AT_FDCWD, "/sys/class/ublk-char"))
		dir_open(&d, AT_FDCWD, "/dev");		/* no sysfs */
	while (*ids && nr < UBLK_MAX_UBLKS && (name = dir_next(&d))) {
		uint32_t id;

		if (strncmp(name, "ublkc", 5) || !parse_dev(name, &id))
			continue;
		for (i = nr++; i > 0 && (*ids)[i - 1] > id; i--)
			(*ids)[i] = (*ids)[i - 1];
		(*ids)[i] = id;
	}
	dir_close(&d);
	return nr;
}

void dev_ids_end(uint32_t *ids)
{
	pages_put(ids, UBLK_MAX_UBLKS * sizeof(*ids));
}
