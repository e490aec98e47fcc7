/* SPDX-License-Identifier: MIT */
/* out: stdout, for scripts. In one piece when a verb is done, or a line at a time on a terminal. */
#ifndef OUT_H
#define OUT_H

struct args;

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

/*
 * Run a verb, and print_end(), in a process that can be left behind: where the
 * driver hangs on a device, whoever has asked it about that does not end any
 * more, not even by SIGKILL. Returns the verb's exit status.
 */
int print_apart(int (*run)(const struct args *a), const struct args *a);

#endif
