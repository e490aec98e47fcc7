/* SPDX-License-Identifier: MIT */
/* args: see args.h. */
#include "cli/args.h"
#include "cli/out.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <stdarg.h>
#include <stddef.h>
#include <string.h>

enum opt_type { OPT_FLAG, OPT_NUMBER, OPT_SIZE, OPT_STRING, OPT_CHOICE };

/* What most need first: a verb's page has them in this order, with an empty line before each V_GROUP. */
static const struct option_def {
	const char *name;
	char letter;
	uint8_t type;			/* enum opt_type */
	uint16_t where;			/* in struct args */
	uint16_t verbs;
	uint16_t min;
	uint64_t max;
	const char *arg;
	const char *only;		/* the backend that it is for; NULL: all */
	const char *help;
} option_defs[] = {
#define FIELD(f) offsetof(struct args, f)
#define DEVICE(f) offsetof(struct args, job.o.f)
	{ "size", 0, OPT_SIZE, DEVICE(size), V_SERVE, 512, 1ULL << 62, "SIZE", NULL,
	  "mem: the same as SIZE; file: how much of it to show, or to make" },
	{ "path", 0, OPT_STRING, DEVICE(path), V_SERVE, 0, 0, "PATH", "file",
	  "the same as PATH: a regular file or a block device" },
	{ "load", 0, OPT_STRING, DEVICE(load), V_MAKE, 0, 0, "PATH", "mem",
	  "begin with the content of a file, a block device or, with -, standard input" },
	{ "create", 0, OPT_FLAG, DEVICE(create), V_MAKE, 0, 0, NULL, "file",
	  "make a new sparse file of --size" },
	{ "snapshot", 0, OPT_FLAG, DEVICE(snapshot), V_MAKE, 0, 0, NULL, "file",
	  "keep in memory what is written, and only read PATH; see \"ublk help commit\"" },
	{ "offset", 0, OPT_SIZE, DEVICE(offset), V_SERVE, 0, 1ULL << 62, "SIZE", "file",
	  "where in the file the device begins; with --direct a multiple of the block size; default: 0" },
	{ "read-only", 'r', OPT_FLAG, DEVICE(read_only), V_SERVE, 0, 0, NULL, NULL,
	  "the block layer refuses writes; a file is opened for reading only" },
	{ "daemon", 'd', OPT_FLAG, FIELD(daemon), V_SERVE, 0, 0, NULL, NULL,
	  "print the node and return; the server stays in the background" },
	{ "id", 0, OPT_NUMBER, DEVICE(id), V_MAKE, 0, UBLK_MAX_UBLKS - 1, "N", NULL,
	  "device number; default: the lowest free one" },
	{ "all", 0, OPT_FLAG, FIELD(all), V_STOP, 0, 0, NULL, NULL,
	  "every device that ublk or another server made" },
	{ "force", 0, OPT_FLAG, FIELD(force), V_STOP | V_RESIZE, 0, 0, NULL, NULL,
	  "even if it is in use; ublk stop still writes dirty pages" },
	{ "wait", 0, OPT_NUMBER, FIELD(wait), V_STOP, 0, 86400, "SECONDS", NULL,
	  "wait for it to become free; default: 0" },
	{ "json", 0, OPT_FLAG, FIELD(json), V_LIST | V_CHECK, 0, 0, NULL, NULL,
	  "for scripts" },
	{ "prealloc", 0, OPT_FLAG, DEVICE(prealloc), V_GROUP | V_MAKE, 0, 0, NULL, "mem",
	  "take all memory at once and keep it; default: as it is written, back on discard" },
	{ "huge", 0, OPT_FLAG, DEVICE(huge), V_MAKE, 0, 0, NULL, "mem",
	  "ask for transparent huge pages" },
	{ "resilient", 0, OPT_FLAG, DEVICE(resilient), V_SERVE, 0, 0, NULL, NULL,
	  "if the server dies, a parent starts another, and clients see a pause" },
	{ "recoverable", 0, OPT_FLAG, DEVICE(recoverable), V_SERVE, 0, 0, NULL, "file",
	  "if the server dies, clients wait for \"ublk recover\"; default: they get errors" },
	{ "no-part-scan", 0, OPT_FLAG, DEVICE(no_part_scan), V_SERVE, 0, 0, NULL, NULL,
	  "do not look for partitions" },
	{ "no-modprobe", 0, OPT_FLAG, DEVICE(no_modprobe), V_SERVE, 0, 0, NULL, NULL,
	  "do not load the driver" },
	{ "direct", 0, OPT_FLAG, DEVICE(direct), V_GROUP | V_SERVE, 0, 0, NULL, "file",
	  "bypass the page cache (O_DIRECT), if the file takes it" },
	{ "zero-copy", 0, OPT_CHOICE, DEVICE(zero_copy), V_SERVE, 0, 0, "auto|on|off", "file",
	  "move data straight between the client's pages and the file; default: auto" },
	{ "queues", 0, OPT_NUMBER, DEVICE(queues), V_SERVE, 1, UBLK_MAX_NR_QUEUES, "N", NULL,
	  "hardware queues, each with a ring and a thread; default: 1" },
	{ "cpu-affinity", 0, OPT_FLAG, DEVICE(cpu_affinity), V_SERVE, 0, 0, NULL, NULL,
	  "pin each queue's thread to the CPUs whose requests the queue takes" },
	{ "qdepth", 0, OPT_NUMBER, DEVICE(qdepth), V_SERVE, 1, UBLK_MAX_QUEUE_DEPTH, "N", NULL,
	  "requests in flight in a queue; default: 128" },
	{ "max-io", 0, OPT_SIZE, DEVICE(max_io), V_SERVE, 4096, 32 << 20, "SIZE", NULL,
	  "largest request; default: 1M" },
	{ "block-size", 0, OPT_SIZE, DEVICE(block_size), V_SERVE, 512, 4096, "N", NULL,
	  "logical block size, a power of two; default: 512, or a block device's own" },
	{ "quiet", 'q', OPT_FLAG, FIELD(quiet), V_GROUP | V_SERVE | V_STOP | V_LIST | V_COPY | V_RESIZE, 0, 0, NULL, NULL,
	  "errors only" },
	{ "verbose", 'v', OPT_FLAG, FIELD(verbose), V_SERVE | V_STOP | V_LIST | V_COPY | V_RESIZE, 0, 0, NULL, NULL,
	  "say what is done" },
	{ "help", 'h', OPT_FLAG, FIELD(help), V_SERVE | V_STOP | V_LIST | V_CHECK | V_HELP | V_COPY | V_RESIZE, 0, 0, NULL, NULL,
	  "this page" },
#undef DEVICE
#undef FIELD
};

_Static_assert(ARRAY_SIZE(option_defs) <= 64, "args.given");

static const struct option_def *option_find(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++)
		if (strlen(option_defs[i].name) == len && !strncmp(option_defs[i].name, name, len))
			return &option_defs[i];
	return NULL;
}

const char *operand_name(const struct backend *be)
{
	return option_find(be->operand, strlen(be->operand))->arg;
}

/* Does the verb take this option? */
static bool option_is_of(const struct option_def *d, const struct verb *v)
{
	return d->verbs & v->bit && (!d->only || !v->be || !strcmp(d->only, v->be->name));
}

static const struct option_def *option_find_letter(char c)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++)
		if (c && option_defs[i].letter == c)
			return &option_defs[i];
	return NULL;
}

int args_error(const struct verb *v, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	text_vprint(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (v)
		say("%s: %s; see \"ublk help %s\"", v->name, text, v->name);
	else
		say("%s; see \"ublk help\"", text);
	return EXIT_USAGE;
}

/* Which of "auto|on|off" is this? */
static bool choice_find(const char *choices, const char *value, uint64_t *which)
{
	const size_t len = strlen(value);
	uint64_t n = 0;

	for (const char *c = choices; c; n++) {
		size_t l = text_until(c, "|");

		if (l == len && !strncmp(c, value, len)) {
			*which = n;
			return true;
		}
		c = c[l] ? c + l + 1 : NULL;
	}
	return false;
}

/* A value into its place. word is what the user wrote, for the message. */
static int option_store(const struct verb *v, struct args *a, const struct option_def *d,
			const char *word, const char *value)
{
	void *where = (char *)a + d->where;
	const uint64_t bit = 1ULL << (d - option_defs);
	uint64_t n = 0;
	bool ok;

	if (a->given & bit)
		return args_error(v, "%s: --%s is given twice", word, d->name);
	a->given |= bit;
	switch (d->type) {
	case OPT_FLAG:
		*(bool *)where = true;
		return 0;
	case OPT_STRING:
		*(const char **)where = value;
		return *value ? 0 : args_error(v, "%s: --%s is empty", word, d->name);
	case OPT_CHOICE:
		if (choice_find(d->arg, value, where))
			return 0;
		return args_error(v, "%s: \"%s\" is not one of %s", word, value, d->arg);
	case OPT_NUMBER:
	case OPT_SIZE:
		break;
	}
	ok = d->type == OPT_SIZE ? parse_size(value, &n) : parse_number(value, &n);
	if (!ok || n < d->min || n > d->max)
		return args_error(v, "%s: \"%s\" is not a %s from %llu to %llu", word, value,
				   d->type == OPT_SIZE ? "size (a whole number, with K, M, G, T or P)" : "number",
				   (unsigned long long)d->min, (unsigned long long)d->max);
	*(uint64_t *)where = n;
	return 0;
}

/* --name, --name=value, --name value. *i moves on if the next word is the value. */
static int option_long(const struct verb *v, struct args *a, int argc, char **argv, int *i)
{
	const char *word = argv[*i], *name = word + 2;
	size_t len = text_until(name, "=");
	const char *value = name[len] ? name + len + 1 : NULL;
	const struct option_def *d = option_find(name, len);

	if (!d || !option_is_of(d, v))
		return args_error(v, "%s: no such option", word);
	if (d->type == OPT_FLAG) {
		if (value)
			return args_error(v, "%s: --%s takes no value", word, d->name);
	} else if (!value) {
		if (*i + 1 >= argc)
			return args_error(v, "%s: the value is missing: --%s=%s", word, d->name, d->arg);
		value = argv[++*i];
	}
	return option_store(v, a, d, word, value);
}

/* -d, -dq: only flags have letters */
static int option_letters(const struct verb *v, struct args *a, const char *word)
{
	for (const char *c = word + 1; *c; c++) {
		const struct option_def *d = option_find_letter(*c);
		int ret;

		if (!d || !option_is_of(d, v))
			return args_error(v, "%s: no such option", word);
		ret = option_store(v, a, d, word, NULL);
		if (ret)
			return ret;
	}
	return 0;
}

int args_parse(const struct verb *v, struct args *a, int argc, char **argv)
{
	int ret = 0;

	*a = (struct args){
		.job = {
			.be = v->be,
			.o = { .id = ID_ANY, .queues = 1, .qdepth = 128, .max_io = 1 << 20 },
		},
		.verb = v,
		.operands = argv,
	};
	for (int i = 0; i < argc && !ret; i++) {
		if (!strcmp(argv[i], "--") && v->be) {
			a->command = argv + i + 1;
			if (i + 1 == argc)
				ret = args_error(v, "--: the command is missing");
			break;
		}
		if (!strncmp(argv[i], "--", 2) && argv[i][2])
			ret = option_long(v, a, argc, argv, &i);
		else if (argv[i][0] == '-' && argv[i][1])
			ret = option_letters(v, a, argv[i]);
		else if (a->nr == v->max)
			ret = args_error(v, "%s: one argument too many", argv[i]);
		else
			a->operands[a->nr++] = argv[i];
		if (a->help)
			return 0;
	}
	quiet = a->quiet;
	verbose = a->verbose;
	return ret;
}

int args_operand(struct args *a)
{
	const struct verb *v = a->verb;
	const struct option_def *d = option_find(v->be->operand, strlen(v->be->operand));

	if (a->nr)
		return option_store(v, a, d, v->operands, a->operands[0]);
	if (a->job.o.load)	/* which has a size of its own */
		return 0;
	return a->given & 1ULL << (d - option_defs) ? 0 : args_error(v, "%s is missing", v->operands);
}

/* What stands behind the verb in each, a line each. */
static void help_examples(const struct verb *v)
{
	const char *line = v->examples, *end;

	print("\nexamples:\n");
	do {
		end = line + text_until(line, "\n");
		print("  ublk %s%s%.*s\n", v->name, end > line ? " " : "", (int)(end - line), line);
		line = end + 1;
	} while (*end);
}

int help_verb(const struct verb *v)
{
	const char *between = "options:\n";
	char left[40];

	print("usage: ublk %s %s [options]%s\n\n%s\n%s\n", v->name, v->operands,
	       v->be ? " [-- COMMAND [ARG...]]" : "", v->help, v->more ? v->more : "");
	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++) {
		const struct option_def *d = &option_defs[i];

		if (d->verbs & V_GROUP && !*between)
			between = "\n";
		if (!option_is_of(d, v))
			continue;
		text_print(left, sizeof(left), "%c%c%c --%s%s%s", d->letter ? '-' : ' ',
			 d->letter ? d->letter : ' ', d->letter ? ',' : ' ', d->name,
			 d->arg ? "=" : "", d->arg ? d->arg : "");
		print("%s  %-27s %s\n", between, left, d->help);
		between = "";
	}
	if (v->examples)
		help_examples(v);
	return 0;
}
