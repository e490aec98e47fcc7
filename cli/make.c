/* SPDX-License-Identifier: MIT */
/* mem, file and their like: a verb for each backend. */
#include "cli/backends.h"
#include "cli/verbs.h"
#include "host/process.h"
#include "lib/say.h"
#include "serve/cookie.h"
#include "serve/serve.h"

#include <string.h>
#include <unistd.h>

static int make_check_snapshot(const struct verb *v, const struct options *o)
{
	if (o->create)
		return args_error(v, "--snapshot: not together with --create: nothing is ever written to PATH");
	if (o->recoverable)
		return args_error(v, "--recoverable: the changes of a --snapshot are memory and go with the server; "
				  "--resilient keeps them");
	if (o->zero_copy == ZERO_COPY_ON)
		return args_error(v, "--zero-copy=on: not together with --snapshot");
	return 0;
}

/* What the table cannot say about one option, or says only about two together. */
static int make_check(const struct args *a)
{
	const struct verb *v = a->verb;
	const struct options *o = &a->job.o;
	const unsigned bs = o->block_size ? (unsigned)o->block_size : 512;

	if (bs & (bs - 1))
		return args_error(v, "--block-size=%u: not a power of two", bs);
	if (o->max_io % 4096)
		return args_error(v, "--max-io=%u: not a multiple of 4096", (unsigned)o->max_io);
	/* the driver rounds it down to whole pages */
	if (o->max_io < (unsigned)getpagesize())
		return args_error(v, "--max-io=%u: less than a page, which is %u here", (unsigned)o->max_io,
				   (unsigned)getpagesize());
	if (o->direct && o->offset % bs)
		return args_error(v, "--offset=%llu: not a multiple of the block size, %u, as --direct needs",
				   (unsigned long long)o->offset, bs);
	if (o->size % bs && (!strcmp(v->be->operand, "size") || o->create))
		return args_error(v, "SIZE: %llu is not a multiple of the block size, %u",
				   (unsigned long long)o->size, bs);
	if (o->create && !o->size)
		return args_error(v, "--create: how large is it to be? --size=SIZE");
	if (a->daemon && a->command)
		return args_error(v, "--daemon: not together with a command");
	if (o->create && o->read_only)
		return args_error(v, "--create: a new file is of no use --read-only");
	return o->snapshot ? make_check_snapshot(v, o) : 0;
}

static int make_args(struct args *a)
{
	int ret = args_operand(a);

	return ret ? ret : make_check(a);
}

/* What the driver keeps for root. Returns 0, or the exit status, having said why. */
static int make_check_user(const struct verb *v, const struct options *o)
{
	const char *what = o->recoverable ? "recoverable" : o->resilient ? "resilient" : o->zero_copy == ZERO_COPY_ON ? "zero-copy=on" : NULL;

	if (!what || process_is_admin())
		return 0;
	say("%s: --%s: the driver has it for root only", v->name, what);
	return EXIT_PERMISSION;
}

int verb_make(const struct args *a)
{
	struct args made = *a;
	int ret = make_args(&made);

	if (!ret)
		ret = make_check_user(a->verb, &made.job.o);
	if (ret)
		return ret;
	if (made.job.o.snapshot)
		made.job.be = backend_find("snapshot");
	made.job.cookie = cookie_make(backend_type(made.job.be), &made.job.o);
	return serve(&made.job, made.command, made.daemon);
}
