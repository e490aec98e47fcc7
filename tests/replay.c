/* SPDX-License-Identifier: MIT */
/*
 * replay: reads the log of device-mapper's log-writes target, which holds every
 * write to a device in the order in which it became safe.
 *
 *	replay LOG			list: "INDEX flush", "INDEX fua", "INDEX mark TEXT"
 *	replay LOG TARGET FROM TO	apply entries FROM to TO - 1 to TARGET
 *
 * Format: Documentation/admin-guide/device-mapper/log-writes.rst.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x6a736677736872ULL

enum { FLUSH = 1, FUA = 2, DISCARD = 4, MARK = 8 };

struct super {
	uint64_t magic, version, nr_entries;
	uint32_t sector_size;
};

struct entry {
	uint64_t sector, nr_sectors, flags, data_len;
};

static void must_read(int fd, void *buf, size_t len, off_t off)
{
	if (pread(fd, buf, len, off) != (ssize_t)len)
		err(1, "read log at %lld", (long long)off);
}

static void list(uint64_t i, const struct entry *e, const char *text)
{
	if (e->flags & MARK)
		printf("%" PRIu64 " mark %.*s\n", i, (int)e->data_len, text);
	else if (e->flags & FLUSH)
		printf("%" PRIu64 " flush\n", i);
	else if (e->flags & FUA)
		printf("%" PRIu64 " fua\n", i);
}

static void apply(int log, int target, const struct entry *e, off_t data, uint32_t sector_size)
{
	size_t len = e->nr_sectors * sector_size;
	void *buf;

	if (e->flags & (DISCARD | MARK) || !len)
		return;
	buf = malloc(len);
	if (!buf)
		err(1, "malloc");
	must_read(log, buf, len, data);
	if (pwrite(target, buf, len, (off_t)(e->sector * sector_size)) != (ssize_t)len)
		err(1, "write target");
	free(buf);
}

int main(int argc, char **argv)
{
	uint64_t from = 0, to = 0;
	int log, target = -1;
	struct super s;
	char block[4096];
	off_t off;

	if (argc != 2 && argc != 5)
		errx(2, "usage: replay LOG [TARGET FROM TO]");
	log = open(argv[1], O_RDONLY);
	if (log < 0)
		err(1, "%s", argv[1]);
	if (argc == 5) {
		target = open(argv[2], O_WRONLY);
		if (target < 0)
			err(1, "%s", argv[2]);
		from = strtoull(argv[3], NULL, 10);
		to = strtoull(argv[4], NULL, 10);
	}
	must_read(log, &s, sizeof(s), 0);
	if (s.magic != MAGIC || s.sector_size > sizeof(block))
		errx(1, "%s: no log of dm-log-writes", argv[1]);
	off = s.sector_size;
	for (uint64_t i = 0; i < s.nr_entries; i++) {
		struct entry e;

		must_read(log, block, s.sector_size, off);
		memcpy(&e, block, sizeof(e));
		off += s.sector_size;
		if (target < 0)
			list(i, &e, block + sizeof(e));
		else if (i >= from && i < to)
			apply(log, target, &e, off, s.sector_size);
		if (!(e.flags & (DISCARD | MARK)))
			off += (off_t)(e.nr_sectors * s.sector_size);
	}
	return 0;
}
