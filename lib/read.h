/* SPDX-License-Identifier: MIT */
/*
 * read: small files at once, larger ones line by line, directories name by
 * name. On the stack, no malloc: whoever is short of memory asks who uses a device.
 */
#ifndef LIB_READ_H
#define LIB_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The begin of a small file, read at once, as a string. Returns its length, or -1 and an empty string. */
ssize_t text_read(const char *path, char *text, size_t len);

/* The number that a file begins with. False, and *n as it was: there is none. */
bool number_read(const char *path, uint64_t *n);

/* A file that is read line by line. */
struct lines {
	int fd;			/* or -1 */
	size_t at, len;		/* of what is in buf: to be handed out next, all */
	char buf[8192];
};

/* Takes the descriptor over; -1 is an empty file. */
void lines_open(struct lines *l, int fd);

/* Closes the descriptor that lines_open() took over. */
void lines_close(struct lines *l);

/*
 * The next line without its end, until the one after it is asked for; cut if
 * it is longer than buf. NULL: no more.
 */
char *lines_next(struct lines *l);

/* As struct lines, a directory name by name. */
struct dir {
	int fd;			/* or -1 */
	size_t at, len;		/* of what is in buf: to be handed out next, all */
	char buf[2048] __attribute__((aligned(8)));
};

/*
 * Open a directory, relative to from as openat() has it. One that is not there
 * is an empty one, for which false is returned.
 */
bool dir_open(struct dir *d, int from, const char *path);

/* Closes the descriptor of dir_open(). */
void dir_close(struct dir *d);

/* The next name, until the one after it is asked for, "." and ".." among them. NULL: no more. */
const char *dir_next(struct dir *d);

/* The first name in a directory that does not begin with a dot. */
bool dir_first(const char *path, char *text, size_t len);

#endif
