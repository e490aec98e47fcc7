/* SPDX-License-Identifier: MIT */
/* cli/args */
#include "tests/unit/test.h"
#define main ublk_main
#include "cli/args.c"
#include "cli/main.c"
#undef main
#include "serve/cookie.h"

#include <fcntl.h>
#include <unistd.h>

static void test_option_tables(void)
{
	const struct backend *be;
	bool ok = true;
	struct verb v;

	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++) {
		const struct option_def *d = &option_defs[i];

		ok = ok && option_find(d->name, strlen(d->name)) == d;	/* no name twice */
		ok = ok && (!d->letter || option_find_letter(d->letter) == d);
		ok = ok && (!d->letter || d->type == OPT_FLAG);
		ok = ok && d->verbs && d->help && d->min <= d->max;
		ok = ok && (d->type == OPT_FLAG) == !d->arg;
		ok = ok && d->where + (d->type == OPT_FLAG ? sizeof(bool) : sizeof(uint64_t)) <=
			   sizeof(struct args);
		if (!ok) {
			printf("# option %s\n", d->name);
			break;
		}
	}
	CHECK("option table: unique names and letters, ranges, places", ok);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		ok = ok && verb_find(verbs[i].name, &v) && v.run == verbs[i].run && v.run && v.help;
	for (unsigned nr = 0; (be = backend_nr(nr)); nr++)
		ok = ok && !strcmp(backend_name(cookie_make(nr, &(struct options){ 0 })), be->name) &&
		     (be->verb ? !verb_find(be->name, &v) && verb_find(be->verb, &v) :
				 verb_find(be->name, &v) && v.be == be && v.run == verb_make && v.help);
	CHECK("verb table, of verbs and of backends", ok && !strcmp(backend_name(0), "other") && !verb_find("", &v));
}

/* Parse a command line given as one string. Returns the status. */
static int parse_line(const char *verb, const char *line, struct args *a)
{
	static char copy[256];
	static struct verb v;
	char *argv[16];
	int argc = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok(copy, " "); w && argc < 16; w = strtok(NULL, " "))
		argv[argc++] = w;
	return verb_find(verb, &v) ? args_parse(&v, a, argc, argv) : -1;
}

static void test_args(void)
{
	struct args a;

	CHECK("options: long, with = and without, letters together",
	      parse_line("mem", "1G --queues=4 --qdepth 64 -dq --block-size=4K", &a) == 0 &&
	      a.nr == 1 && !strcmp(a.operands[0], "1G") && a.job.o.queues == 4 && a.job.o.qdepth == 64 &&
	      a.daemon && a.quiet && a.job.o.block_size == 4096 && a.job.o.id == ID_ANY);
	CHECK("options: defaults",
	      parse_line("mem", "", &a) == 0 && a.job.o.queues == 1 && a.job.o.qdepth == 128 &&
	      a.job.o.max_io == 1 << 20 && !a.daemon && !a.job.o.read_only);
	quiet = verbose = false;
}

static const struct { const char *verb, *line; } bad_lines[] = {
	{ "mem", "--queues=0" }, { "mem", "--queues=4097" }, { "mem", "--queues=-1" },
	{ "mem", "--queues=" }, { "mem", "--queues" }, { "mem", "--queues=1K" },
	{ "mem", "--qdepth=0" }, { "mem", "--qdepth=4097" }, { "mem", "--size=0" },
	{ "mem", "--size=511" }, { "mem", "--size=99999P" }, { "mem", "--id=1048576" },
	{ "mem", "--block-size=256" }, { "mem", "--block-size=8K" }, { "mem", "--max-io=1K" },
	{ "mem", "--max-io=33M" }, { "mem", "1G 2G" }, { "mem", "--daemon=yes" }, { "mem", "--force" },
	{ "mem", "--nonsense" }, { "mem", "-x" }, { "mem", "-dx" }, { "mem", "--queues=1 --queues=2" },
	{ "stop", "--queues=1" }, { "stop", "--wait=x" }, { "stop", "--wait=99999" }, { "list", "-d" },
	{ "list", "--all" },
};

static void test_bad_args(void)
{
	bool ok = true;
	struct args a;
	int err = dup(2), null = open("/dev/null", O_WRONLY);

	dup2(null, 2);		/* the messages are checked in the VM */
	for (size_t i = 0; i < ARRAY_SIZE(bad_lines); i++) {
		int ret = parse_line(bad_lines[i].verb, bad_lines[i].line, &a);

		if (ret != EXIT_USAGE) {
			printf("# %s %s: %d\n", bad_lines[i].verb, bad_lines[i].line, ret);
			ok = false;
		}
	}
	dup2(err, 2);
	close(err);
	close(null);
	CHECK("options: wrong ones are status 2", ok);
}

int main(void)
{
	test_begin();
	test_option_tables();
	test_args();
	test_bad_args();
	return test_end();
}
