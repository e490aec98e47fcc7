/* SPDX-License-Identifier: MIT */
/* out: see out.h. */
#include "cli/out.h"
#include "host/fail.h"
#include "host/process.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
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

#define END_MS	1000	/* that an ending process may take */

/* The verb's side of the fork. What waits for our stdout to be closed is not to wait for us. */
__attribute__((noreturn))
static void apart(int (*run)(const struct args *a), const struct args *a, int status_fd)
{
	int status, ret;

	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);	/* whoever stops the command stops the verb */
	status = run(a);
	ret = print_end();
	if (ret && !status)
		status = fail("stdout", STEP_PRINT, ret, NULL);
	stdio_to_null();
	_exit(write(status_fd, &status, sizeof(status)) != sizeof(status));
}

int print_apart(int (*run)(const struct args *a), const struct args *a)
{
	int fds[2], ret, status;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return fail("ublk", STEP_DAEMON, errno, NULL);
	pid = fork_plain();
	if (pid == 0)
		apart(run, a, fds[1]);
	ret = errno;
	close(fds[1]);
	if (pid < 0)
		status = fail("ublk", STEP_DAEMON, ret, NULL);
	else if (read(fds[0], &status, sizeof(status)) != sizeof(status))
		status = fail("ublk", STEP_DAEMON, ECHILD, NULL);
	close(fds[0]);
	/* if it can end, what it has open is not to be busy, nor itself to be found, when we have ended */
	if (pid > 0)
		(void)process_await(pid, END_MS, NULL);
	return status;
}
