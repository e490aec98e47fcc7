/* SPDX-License-Identifier: MIT */
/* lib/read */
#include "tests/unit/test.h"
#include "lib/read.c"
#include "lib/sys.h"

#include <stdlib.h>

static void test_lines(void)
{
	static const char *const made[] = { "first\n", "\n", "x", "last" };
	const size_t rest = 3 * sizeof(((struct lines *)0)->buf);
	char path[] = "lines.XXXXXX", *line;
	int fd = mkstemp(path);
	struct lines l;
	bool ok = true;

	unlink(path);
	for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
		ok = ok && write(fd, made[i], strlen(made[i])) > 0;
		for (size_t n = 0; i == 2 && n <= rest; n++)
			ok = ok && write(fd, n < rest ? "x" : "\n", 1) == 1;
	}
	lseek(fd, 0, SEEK_SET);
	lines_open(&l, fd);
	ok = ok && (line = lines_next(&l)) && !strcmp(line, "first");
	ok = ok && (line = lines_next(&l)) && !strcmp(line, "");
	ok = ok && (line = lines_next(&l)) && strlen(line) == sizeof(l.buf) - 1 && strspn(line, "x") == strlen(line);
	ok = ok && (line = lines_next(&l)) && !strcmp(line, "last") && !lines_next(&l) && !lines_next(&l);
	lines_close(&l);
	lines_open(&l, -1);
	ok = ok && !lines_next(&l);
	lines_close(&l);
	CHECK("text: lines, one of them too long, the last one without an end", ok);
}

int main(void)
{
	test_begin();
	test_lines();
	return test_end();
}
