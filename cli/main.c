/* SPDX-License-Identifier: MIT */
/* The command: verbs, and the words that are none. */
#include "cli/backends.h"
#include "cli/out.h"
#include "cli/verbs.h"
#include "host/fail.h"
#include "host/process.h"
#include "lib/sys.h"

#include <signal.h>
#include <stdint.h>
#include <string.h>

#define VERSION		"0.1.0"

/* Besides those of the backends, which make a device. */
static const struct verb verbs[] = {
	{ "list", V_LIST, INT32_MAX, "[DEV...]", verb_list, NULL, "show devices", NULL, "\n--json disk.img" },
	{ "recover", V_RECOVER, 3, "DEV [PATH]", verb_recover, NULL, "serve a device whose server has died", NULL,
	  "0 disk.img -d\ndisk.img -d" },
	{ "stop", V_STOP, INT32_MAX, "DEV... | --all", verb_stop, NULL, "stop and remove devices", NULL,
	  "/dev/ublkb0\n--all --wait=10" },
	{ "resize", V_RESIZE, 2, "DEV SIZE | max", verb_resize, NULL, "let a device grow, also while it is mounted",
	  "max: as large as its file or block device is now. A smaller SIZE cuts the end off, whatever is there;\n"
	  "of a device in use, or of a partition, only with --force. This takes Linux 6.16.\n", "0 2G\ndisk.img max" },
	{ "commit", V_COPY, 1, "DEV", verb_commit, NULL, "write what a --snapshot has changed into its file",
	  "The device is not to be in use. Whatever dies meanwhile but the server or the power, commit can be\n"
	  "run again; a power cut leaves a mixture in the file.\n", "0\ndisk.img" },
	{ "save", V_COPY, 2, "DEV PATH", verb_save, NULL, "the device's content as a new, sparse file; -: to stdout",
	  "A mounted filesystem is saved as a power cut would leave it; fsfreeze(8) before, and it is whole.\n",
	  "0 new.img\n0 - | gzip >disk.gz" },
	{ "owner", V_COPY, 1, "DEV", verb_owner, NULL, "the user and the group that made a device without root, for udev", NULL,
	  "0\nublkc0" },
	{ "check", V_CHECK, 0, "", verb_check, NULL, "what this machine has of what ublk needs", NULL, "\n--json" },
	{ "help", V_HELP, 1, "[VERB]", verb_help, NULL, "this page, or a verb's", NULL, "\nmem" },
};

static struct verb verb_of(const struct backend *be)
{
	return (struct verb){ be->name, V_MAKE, 1, operand_name(be), verb_make, be, be->help, NULL, be->examples };
}

/* The verb of this name. False: there is none. */
static bool verb_find(const char *name, struct verb *v)
{
	const struct backend *be = backend_find(name);

	if (be && be->verb)
		be = NULL;
	if (be)
		*v = verb_of(be);
	for (size_t i = 0; i < ARRAY_SIZE(verbs) && !be; i++) {
		if (!strcmp(verbs[i].name, strcmp(name, "del") ? name : "stop")) {
			*v = verbs[i];
			return true;
		}
	}
	return be;
}

static void help_line(struct verb v)
{
	print("  ublk %-7s %-16s %s\n", v.name, v.operands, v.help);
}

static void help_all(void)
{
	const struct backend *be;

	print("ublk " VERSION ": block devices in user space\n\nusage:\n");
	for (unsigned nr = 0; (be = backend_nr(nr)); nr++)
		if (!be->verb)
			help_line(verb_of(be));
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		help_line(verbs[i]);
	print("  ublk --version\n\n\"ublk help VERB\" or \"ublk VERB --help\" shows a verb's options.\n"
	      "A device is named 0, ublkb0 or /dev/ublkb0, or by its file.\n");
}

int verb_help(const struct args *a)
{
	struct verb v;

	if (!a->nr) {
		help_all();
		return 0;
	}
	if (!verb_find(a->operands[0], &v))
		return args_error(NULL, "help: %s: no such verb", a->operands[0]);
	return help_verb(&v);
}

static int run_verb(const struct verb *v, int argc, char **argv)
{
	struct args a;
	int ret = args_parse(v, &a, argc, argv);

	if (!ret && a.help)
		return help_verb(v);
	return ret ? ret : v->run(&a);
}

/* The words after the program's name. Returns the exit status. */
static int run(int argc, char **argv)
{
	struct verb v;

	if (argc == 0)
		return args_error(NULL, "what is to be done? No verb is given");
	if (verb_find(argv[0], &v))
		return run_verb(&v, argc - 1, argv + 1);
	if (strcmp(argv[0], "--version") && strcmp(argv[0], "--help") && strcmp(argv[0], "-h"))
		return args_error(NULL, "%s: no such verb", argv[0]);
	if (argc > 1)
		return args_error(NULL, "%s: one argument too many", argv[1]);
	if (!strcmp(argv[0], "--version"))
		print("ublk " VERSION "\n");
	else
		help_all();
	return 0;
}

int main(int argc, char **argv)
{
	const char *name = argc ? strrchr(argv[0], '/') : NULL;
	struct verb v;
	int status, ret;

	process_named(argc ? argv[0] : NULL);
	stdio_hold();
	signal(SIGCHLD, SIG_DFL);	/* if ignored, no child would have a status */
	name = name ? name + 1 : argc ? argv[0] : "";
	if (!strncmp(name, "ublk-", 5) && verb_find(name + 5, &v))
		status = run_verb(&v, argc - 1, argv + 1);
	else
		status = run(argc - 1, argv + (argc > 0));
	ret = print_end();
	return ret && !status ? fail("stdout", STEP_PRINT, ret, NULL) : status;
}
