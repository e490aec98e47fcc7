/* SPDX-License-Identifier: MIT */
/* read: see read.h. */
#include "lib/read.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t text_read(const char *path, char *text, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, len - 1);

	fd_close(fd);
	text[n > 0 ? n : 0] = 0;
	return n;
}

bool number_read(const char *path, uint64_t *n)
{
	char text[32];

	(void)text_read(path, text, sizeof(text));
	return parse_digits(text, n);
}

void lines_open(struct lines *l, int fd)
{
	l->fd = fd;
	l->at = l->len = 0;
}

void lines_close(struct lines *l)
{
	fd_close(l->fd);
}

char *lines_next(struct lines *l)
{
	char *line, *end, c;

	while (!(end = memchr(l->buf + l->at, '\n', l->len - l->at))) {
		ssize_t n;

		l->len -= l->at;
		memmove(l->buf, l->buf + l->at, l->len);
		l->at = 0;
		n = read(l->fd, l->buf + l->len, sizeof(l->buf) - 1 - l->len);
		if (n > 0) {
			l->len += (size_t)n;
			continue;
		}
		if (!l->len)
			return NULL;
		/* buf is full, which read() has taken for the end, or it is the end */
		while (read(l->fd, &c, 1) == 1 && c != '\n')
			;
		end = l->buf + l->len++;
		break;
	}
	*end = 0;
	line = l->buf + l->at;
	l->at = (size_t)(end + 1 - l->buf);
	return line;
}

bool dir_open(struct dir *d, int from, const char *path)
{
	d->fd = openat(from, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d->at = d->len = 0;
	return d->fd >= 0;
}

void dir_close(struct dir *d)
{
	fd_close(d->fd);
}

const char *dir_next(struct dir *d)
{
	struct entry {		/* Kernel: struct linux_dirent64 */
		uint64_t ino, off;
		uint16_t len;
		uint8_t type;
		char name[];
	} *e;

	if (d->at == d->len) {
		long n = syscall(SYS_getdents64, d->fd, d->buf, sizeof(d->buf));

		if (n <= 0)
			return NULL;
		d->len = (size_t)n;
		d->at = 0;
	}
	e = (struct entry *)(d->buf + d->at);
	d->at += e->len;
	return e->name;
}

bool dir_first(const char *path, char *text, size_t len)
{
	const char *name;
	struct dir d;

	dir_open(&d, AT_FDCWD, path);
	while ((name = dir_next(&d)) && name[0] == '.')
		;
	if (name)
		text_print(text, len, "%s", name);
	dir_close(&d);
	return name;
}
