/* SPDX-License-Identifier: MIT */
/* memory: see memory.h. */
#include "host/memory.h"
#include "lib/text.h"

#include <fcntl.h>
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

void memory_keep(void)
{
	struct memory memory;

	if (meminfo_fd < 0)
		meminfo_fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	memory_get(&memory);
}
