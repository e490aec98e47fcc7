/* SPDX-License-Identifier: MIT */
/* say: see say.h. */
#include "lib/say.h"
#include "lib/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

bool quiet, verbose;
static bool unfinished;		/* progress() has left a line open */

/*
 * In one piece, so that lines of several programs do not mix. Whatever stands
 * in it, names, paths and what a command line had, may be a stranger's.
 */
__attribute__((format(printf, 1, 0)))
static void say_line(const char *fmt, va_list ap)
{
	char text[1024], line[1024] = "\nublk: ", *const from = line + !unfinished;
	size_t n = 7;

	text_vprint(text, sizeof(text), fmt, ap);
	n += text_escape(line + n, sizeof(line) - 1 - n, text);
	line[n++] = '\n';
	unfinished = false;
	if (write(STDERR_FILENO, from, (size_t)(line + n - from)) < 0)
		return;		/* nobody to tell */
}

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_line(fmt, ap);
	va_end(ap);
}

void notice(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (!quiet)
		say_line(fmt, ap);
	va_end(ap);
}

void debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (verbose)
		say_line(fmt, ap);
	va_end(ap);
}

void progress(const char *what, uint64_t done, uint64_t all)
{
	static unsigned shown;
	const unsigned percent = all ? (unsigned)(done * 100 / all) : 0;
	char text[64];
	size_t n;

	/* a console may be slow */
	if (quiet || !all || (unfinished && percent == shown && done != all) || !isatty(STDERR_FILENO))
		return;
	shown = percent;
	n = text_print(text, sizeof(text), "\r%3u %% %s%s", percent, what, done == all ? "\n" : "");
	unfinished = done != all;
	if (write(STDERR_FILENO, text, n) < 0)
		return;		/* nobody to tell */
}

void must_fail(const char *file, int line, const char *cond)
{
	say("%s:%d: not so: %s", file, line, cond);
	abort();
}
