/* SPDX-License-Identifier: MIT */
/* memory: see memory.h. */
#include "host/memory.h"
#include "lib/read.h"
#include "lib/text.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RESERVE_MAX	(256LL << 20)	/* of memory, for the rest of the machine; less if it is small */

static int meminfo_fd = -1;	/* see memory_keep() */

/* A line of /proc/meminfo in bytes, or what is said instead. */
static int64_t meminfo_line(const char *text, const char *name, int64_t otherwise)
{
	const char *line = text_line(text, name);
	uint64_t kib = 0;

	if (!line)
		return otherwise;
	(void)parse_digits(line, &kib);
	return (int64_t)kib * 1024;
}

void memory_get(struct memory *m)
{
	int fd = meminfo_fd >= 0 ? meminfo_fd : open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	char text[2048];
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	int64_t reserve, shmem;

	if (fd >= 0 && fd != meminfo_fd)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	m->total = meminfo_line(text, "MemTotal:", INT64_MAX);
	/* a --resilient RAM disk is locked where its server has touched it, but all of it is Shmem */
	m->locked = meminfo_line(text, "Mlocked:", 0);
	shmem = meminfo_line(text, "Shmem:", 0);
	if (m->locked < shmem)
		m->locked = shmem;
	m->available = meminfo_line(text, "MemAvailable:", INT64_MAX);
	reserve = m->total / 32 < RESERVE_MAX ? m->total / 32 : RESERVE_MAX;
	m->left = m->available - reserve;
}

/* The length of the mapping that a line of smaps begins, if it is private and writable: else 0. */
static uint64_t mapping_len(const char *line)
{
	uint64_t ends[2] = { 0, 0 };
	const char *c = line;

	/* 7f0000000000-7f0004000000 rw-p 00000000 00:00 0 */
	for (int i = 0; i < 2; i++, c++)
		for (; isxdigit((unsigned char)*c); c++)
			ends[i] = ends[i] << 4 | (uint64_t)(isdigit((unsigned char)*c) ? *c - '0' : (*c | 0x20) - 'a' + 10);
	return strncmp(c, "rw-p", 4) ? 0 : ends[1] - ends[0];
}

bool memory_of(int pid, uint64_t len, uint64_t *bytes)
{
	bool inside = false, found = false;
	char path[40], *line;
	uint64_t kib = 0;
	struct lines l;

	text_print(path, sizeof(path), "/proc/%d/smaps", pid);
	*bytes = 0;
	lines_open(&l, open(path, O_RDONLY | O_CLOEXEC));
	while ((line = lines_next(&l))) {
		if (isxdigit((unsigned char)line[0]) && line[strcspn(line, " :")] == ' ') {
			inside = mapping_len(line) == len;
			found |= inside;
		} else if (inside && (!strncmp(line, "Rss:", 4) || !strncmp(line, "Swap:", 5))) {
			(void)parse_digits(text_word(line, 1), &kib);
			*bytes += kib * 1024;
		}
	}
	lines_close(&l);
	return found;
}

void memory_keep(void)
{
	struct memory memory;

	if (meminfo_fd < 0)
		meminfo_fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	memory_get(&memory);
}
