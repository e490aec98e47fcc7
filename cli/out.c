/* SPDX-License-Identifier: MIT */
/* out: see out.h. */
#include "cli/out.h"
#include "lib/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

/* What verbs print: in one piece when they are done, or a line at a time on a terminal. */
static struct out {
	char text[16384];
	size_t len;
	int err;	/* the errno of the first write that failed; the rest is dropped */
} out;

static void print_flush(void)
{
	for (size_t done = 0; done < out.len && !out.err; ) {
		ssize_t n;

		errno = EIO;	/* for nothing written */
		n = write(STDOUT_FILENO, out.text + done, out.len - done);
		if (n > 0)
			done += (size_t)n;
		else
			out.err = errno;
	}
	out.len = 0;
}

void print(const char *fmt, ...)
{
	va_list ap;

	if (out.len > sizeof(out.text) / 2)
		print_flush();
	va_start(ap, fmt);
	out.len += text_vprint(out.text + out.len, sizeof(out.text) - out.len, fmt, ap);
	va_end(ap);
	if (out.len && out.text[out.len - 1] == '\n' && isatty(STDOUT_FILENO))
		print_flush();
}

void json_string(const char *s)
{
	unsigned n;

	print("\"");
	for (; *s; s += n ? n : 1) {
		n = text_char(s);
		if (*s == '"' || *s == '\\')
			print("\\%c", *s);
		else if (n)
			print("%.*s", (int)n, s);
		else
			print("\\u%04x", (unsigned char)*s < 0x80 ? *s : 0xfffd);
	}
	print("\"");
}

int print_end(void)
{
	print_flush();
	return -out.err;
}
