/* SPDX-License-Identifier: MIT */
/* say: what people are told, on stderr, a line at a time. */
#ifndef LIB_SAY_H
#define LIB_SAY_H

#include <stdbool.h>
#include <stdint.h>

extern bool quiet, verbose;	/* -q, -v: set before anything is said */

/* One line on stderr, "ublk: " and this. */
__attribute__((format(printf, 1, 2)))
void say(const char *fmt, ...);

/* The same, but not with --quiet. */
__attribute__((format(printf, 1, 2)))
void notice(const char *fmt, ...);

/* The same, only with --verbose. */
__attribute__((format(printf, 1, 2)))
void debug(const char *fmt, ...);

/* How far something is that takes long, for a person who waits at a terminal. */
void progress(const char *what, uint64_t done, uint64_t all);

/* What the program relies on, in every build. assert() would bring stdio along. */
#define must(cond)	do { if (!(cond)) must_fail(__FILE__, __LINE__, #cond); } while (0)

__attribute__((noreturn, cold))
void must_fail(const char *file, int line, const char *cond);

#endif
