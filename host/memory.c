/* SPDX-License-Identifier: MIT */
/* memory: see memory.h. */
#include "host/memory.h"
#include "lib/read.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define RESERVE_MAX	(256LL << 20)	/* of memory, for the rest of the machine; less if it is small */
#define DIRTY_MS	200		/* see dirty_lately() */

static bool not_locked;
static int meminfo_fd = -1;	/* see memory_keep() */

void memory_not_locked(void)
{
	not_locked = true;
}

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

/*
 * What is dirty makes no room before it is written, perhaps by us. It comes and
 * goes faster than anybody can look, up to a limit that the kernel lowers as
 * memory gets less, but only by a 32nd of the way each 200 ms: so it may soon be
 * again as much as it was lately. Kernel: domain_update_dirty_limit().
 */
static int64_t dirty_lately(int64_t bytes)
{
	static int64_t most, at;	/* any thread's */
	const int64_t now = now_ms();
	int64_t was = __atomic_load_n(&most, __ATOMIC_RELAXED);

	if (bytes < was && now - __atomic_load_n(&at, __ATOMIC_RELAXED) < DIRTY_MS)
		return was;
	if (bytes < was)
		bytes = was - (was - bytes) / 32;
	__atomic_store_n(&at, now, __ATOMIC_RELAXED);
	__atomic_store_n(&most, bytes, __ATOMIC_RELAXED);
	return bytes;
}

void memory_get(struct memory *m)
{
	int fd = meminfo_fd >= 0 ? meminfo_fd : open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	char text[2048];
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	int64_t reserve, dirty;

	if (fd >= 0 && fd != meminfo_fd)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	m->total = meminfo_line(text, "MemTotal:", INT64_MAX);
	/* a --resilient RAM disk is locked where its server has touched it, but all of it is Shmem, as is a root in a tmpfs;
	   what counts twice is no harm: it only matters where nothing is left */
	m->locked = meminfo_line(text, "Unevictable:", 0) + meminfo_line(text, "Shmem:", 0);
	if (not_locked)
		m->locked = m->total;
	m->available = meminfo_line(text, "MemAvailable:", INT64_MAX);
	reserve = m->total / 16 < RESERVE_MAX ? m->total / 16 : RESERVE_MAX;
	m->dirty = meminfo_line(text, "Dirty:", 0) + meminfo_line(text, "Writeback:", 0);
	dirty = dirty_lately(m->dirty);
	m->left = m->available - reserve - dirty - (dirty / 2 < RESERVE_MAX ? dirty / 2 : RESERVE_MAX);
}

/* Of a line of smaps with a mapping's flags, which have two letters each. */
static bool has_flag(const char *line, const char *flag)
{
	while (*line && strncmp(line, flag, 2))
		line = text_word(line, 1);
	return *line;
}

bool memory_of(int pid, uint64_t *bytes)
{
	bool ours = false, found = false;
	uint64_t kib = 0, part = 0;
	char path[40], *line;
	struct lines l;

	text_print(path, sizeof(path), "/proc/%d/smaps", pid);
	*bytes = 0;
	lines_open(&l, open(path, O_RDONLY | O_CLOEXEC));
	while ((line = lines_next(&l))) {
		if (isxdigit((unsigned char)line[0]) && line[text_until(line, " :")] == ' ') {
			ours = !strncmp(text_word(line, 1), "rw-p", 4);
			part = 0;
		} else if (!strncmp(line, "Rss:", 4) || !strncmp(line, "Swap:", 5)) {
			(void)parse_digits(text_word(line, 1), &kib);
			part += kib * 1024;
		} else if (ours && !strncmp(line, "VmFlags:", 8) && has_flag(line, "dc") && has_flag(line, "dd")) {
			found = true;
			*bytes += part;
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
