/* SPDX-License-Identifier: MIT */
/* make: what is refused on a machine with other pages than this one's */
#include "tests/unit/test.h"

#include <unistd.h>

static int page = 4096;

#define getpagesize() page
#include "cli/make.c"
#undef getpagesize

extern const struct backend backend_file;

int main(void)
{
	static const struct verb verb = { .name = "file", .be = &backend_file };
	struct args a = { .verb = &verb, .job.o = { .max_io = 4096, .path = "x" } };
	bool ok;

	test_begin();
	if (!freopen("/dev/null", "w", stderr))
		return 1;
	ok = make_check(&a) == 0;
	page = 65536;
	ok = ok && make_check(&a) == EXIT_USAGE;
	a.job.o.max_io = 65536;
	CHECK("make: --max-io is a page at least", ok && make_check(&a) == 0);
	return test_end();
}
