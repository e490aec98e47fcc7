/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target for the parsers of sizes, numbers, device names and command
 * lines. With clang: -fsanitize=fuzzer,address,undefined. Without: built with
 * -DFUZZ_MAIN it makes its own inputs, "fuzz [RUNS]".
 */
#define main ublk_main
#include "cli/main.c"
#include "cli/args.c"
#include "cli/make.c"
#undef main
#include "host/nodes.h"
#include "lib/text.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void fuzz_numbers(const char *text)
{
	char back[32];
	uint64_t v = 0;
	uint32_t id;

	if (parse_size(text, &v)) {
		assert(text[0] >= '0' && text[0] <= '9');
		size_text(v, back, sizeof(back));
		assert(strlen(back) < 10);
	}
	if (parse_number(text, &v)) {
		uint64_t sized = ~v;

		assert(parse_size(text, &sized) && sized == v);
		assert(strspn(text, "0123456789") == strlen(text));
	}
	if (parse_dev(text, &id))
		assert(id < UBLK_MAX_UBLKS);
	(void)is_node(text, NODE_BASE, 0);
}

static void fuzz_line(char *text)
{
	char *argv[24];
	int argc = 0;
	struct args a;

	for (char *w = text; w && argc < 24;) {
		argv[argc++] = w;
		w = strchr(w, ' ');
		if (w)
			*w++ = 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(verbs) + 2; i++) {
		const struct verb made = verb_of(backend_nr(i % 2));
		const struct verb *v = i < ARRAY_SIZE(verbs) ? &verbs[i] : &made;
		char *copy[24];
		int ret;

		memcpy(copy, argv, sizeof(copy));
		ret = args_parse(v, &a, argc, copy);
		assert(ret == 0 || ret == EXIT_USAGE);
		if (ret || a.help)
			continue;
		assert(a.nr <= argc && a.nr <= v->max);
		if (!v->be || make_args(&a))
			continue;
		assert(a.job.o.queues >= 1 && a.job.o.queues <= UBLK_MAX_NR_QUEUES);
		assert(a.job.o.qdepth >= 1 && a.job.o.qdepth <= UBLK_MAX_QUEUE_DEPTH);
		assert(!a.job.o.block_size || (a.job.o.block_size >= 512 && a.job.o.block_size <= 4096));
		assert(strcmp(v->be->name, "mem") || (a.job.o.size >= 512 && a.job.o.size % 512 == 0));
		assert(strcmp(v->be->name, "file") || (a.job.o.path && *a.job.o.path));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool silent;
	char *text = malloc(size + 1);

	if (!silent && !getenv("FUZZ_LOUD"))
		dup2(open("/dev/null", O_WRONLY), STDERR_FILENO), silent = true;
	memcpy(text, data, size);
	text[size] = 0;
	fuzz_numbers(text);
	fuzz_line(text);
	free(text);
	return 0;
}

#ifdef FUZZ_MAIN
static const char *const words[] = {
	"--size=", "--queues=", "--qdepth=", "--id=", "--block-size=", "--max-io=", "--offset=", "--path=",
	"--zero-copy=", "--wait=", "--daemon", "-d", "-dq", "--", "-", "--help", "--json", "--create", "--direct",
	"1G", "512", "4K", "4KiB", "10MB", "18446744073709551615", "16383P", "auto", "on", "off", "x", "/dev/ublkb0",
	"ublkc1", "-1", "0", "=", " ", ".", "T", "p", "\xff", "\xd9\xa1",
};

int main(int argc, char **argv)
{
	unsigned long runs = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
	uint64_t x = 88172645463325252ULL;	/* xorshift: the same inputs every time */

	for (unsigned long i = 0; i < runs; i++) {
		char text[256] = "";
		unsigned n;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		n = 1 + x % 8;
		for (uint64_t r = x; n--; r = r >> 7 | r << 57) {
			strncat(text, words[r % ARRAY_SIZE(words)], sizeof(text) - strlen(text) - 1);
			if (r >> 9 & 1)
				strncat(text, " ", sizeof(text) - strlen(text) - 1);
			if ((r >> 11 & 7) == 0)
				text[r >> 20 & 15] = (char)(r >> 30);
		}
		LLVMFuzzerTestOneInput((uint8_t *)text, strlen(text));
	}
	printf("ok - unit: parsers: %lu made-up inputs under ASan and UBSan\n", runs);
	return 0;
}
#endif
