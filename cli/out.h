/* SPDX-License-Identifier: MIT */
/* out: stdout, for scripts. In one piece when a verb is done, or a line at a time on a terminal. */
#ifndef OUT_H
#define OUT_H

/* To stdout, no more than 8 KiB at once. An error shows at the end: print_end(). */
__attribute__((format(printf, 1, 2)))
void print(const char *fmt, ...);

/* A string of JSON, with its quotes; what is no UTF-8 in it becomes U+FFFD. */
void json_string(const char *s);

/*
 * Write what is still to be written. Returns 0, or -errno of the first write
 * that failed: the rest was dropped.
 */
int print_end(void);

#endif
