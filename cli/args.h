/* SPDX-License-Identifier: MIT */
/* args: the command line, by a table that is both parser and help. */
#ifndef ARGS_H
#define ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "include/server.h"

/* The verbs that an option is for. */
enum { V_MAKE = 1, V_LIST = 2, V_STOP = 4, V_HELP = 8, V_CHECK = 16, V_RECOVER = 32, V_COPY = 64, V_RESIZE = 128, V_SERVE = V_MAKE | V_RECOVER,
       V_GROUP = 256 /* begins a group of them, for whatever verb */ };

/* What a command line says. */
struct args {
	struct job job;			/* for verbs that serve a device */
	const struct verb *verb;
	bool daemon, all, force, json, help, quiet, verbose;
	uint64_t wait;			/* seconds */
	char **operands;		/* of argv, in order */
	char **command;			/* what is behind "--", or NULL */
	int nr;
	uint64_t given;			/* bit i: option_defs[i] was there */
};

struct verb {
	const char *name;
	unsigned bit;
	int max;			/* operands */
	const char *operands;		/* for the usage line */
	int (*run)(const struct args *a);	/* returns the exit status */
	const struct backend *be;	/* what a device is made of, for verbs that make one */
	const char *help;
	const char *more;		/* what its page says besides, or NULL */
	const char *examples;		/* command lines behind "ublk VERB ", a line each, or NULL */
};

/* Fill *a from the words behind the verb. Returns 0 or EXIT_USAGE, having said why. */
int args_parse(const struct verb *v, struct args *a, int argc, char **argv);

/* One line, status 2. */
__attribute__((format(printf, 2, 3)))
int args_error(const struct verb *v, const char *fmt, ...);

/*
 * The one operand of a verb that makes a device, as the option that it stands
 * for: "mem SIZE" and "mem --size=SIZE" are the same, and one of them there
 * must be. Returns 0 or EXIT_USAGE, having said why.
 */
int args_operand(struct args *a);

/* The name of the operand, for the usage line: "SIZE", "PATH". */
const char *operand_name(const struct backend *be);

/* A verb's page, on stdout. */
int help_verb(const struct verb *v);

#endif
