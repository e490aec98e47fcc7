/* SPDX-License-Identifier: MIT */
/* background: see background.h. */
#include "serve/background.h"
#include "host/fail.h"
#include "host/process.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "serve/guard.h"
#include "serve/orphan.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int serve_here(const struct job *job, int report_fd, int hold_fd)
{
	static struct server server;	/* until the end of the process: a thread may still hang on it */
	struct server *s = &server;

	*s = (struct server){
		.be = job->be,
		.o = &job->o,
		.ctrl = CTRL_NONE,
		.cookie = job->cookie,
		.recover = job->recover,
		.id = (uint32_t)job->o.id,
		.char_fd = -1,
		.dev.fd = -1,
		.probe_fd = -1,
		.report_fd = report_fd,
		.hold_fd = hold_fd,
		.background = report_fd >= 0,
	};
	sem_init(&s->ready, 0, 0);
	if (report_fd < 0)	/* what the caller left open is not ours to keep open */
		fds_close_but(3, job->o.path_fd);
	process_stay();
	limits_raise((unsigned)job->o.queues);
	server_protect();
	return job->o.resilient ? guard(s) : server_life(s);
}

/* Wait until the server has made its device. Returns the exit status. */
static int background_wait(struct background *bg, int report_fd)
{
	int wstatus = 0;
	ssize_t n;

	/* without a limit: the server has one for every step */
	do
		n = read(report_fd, &bg->report, sizeof(bg->report));
	while (n < 0 && errno == EINTR);
	if (n == sizeof(bg->report))
		return 0;
	while (waitpid(bg->pid, &wstatus, 0) < 0 && errno == EINTR)
		;
	if (!bg->job->recover)
		orphan_remove(bg->job->cookie, false);
	if (WIFEXITED(wstatus) && WEXITSTATUS(wstatus))
		return WEXITSTATUS(wstatus);	/* and it has said why */
	say("the server ended during start, by signal %d%s%s", WIFSIGNALED(wstatus) ? WTERMSIG(wstatus) : 0,
	    WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGKILL ? " (out of memory?)" : "",
	    bg->job->recover ? "" : ": nothing was created");
	return EXIT_FAILURE;
}

/* The server's side of the fork: leave the caller's session and descriptors, and serve. */
__attribute__((noreturn))
static void background_serve(const struct job *job, int report_fd, int hold_fd)
{
	enum { REPORT = 3, HOLD = 4, FREE = 5 };
	int hold = hold_fd < 0 ? -1 : HOLD;
	struct job own = *job;

	/* out of each other's way first; what the caller left open goes */
	report_fd = fcntl(report_fd, F_DUPFD, FREE);
	hold_fd = hold_fd < 0 ? -1 : fcntl(hold_fd, F_DUPFD, FREE);
	own.o.path_fd = job->o.path_fd ? fcntl(job->o.path_fd, F_DUPFD_CLOEXEC, FREE) : 0;
	if (own.o.path_fd < 0)
		own.o.path_fd = 0;
	if (dup3(report_fd, REPORT, O_CLOEXEC) < 0 || (hold >= 0 && dup3(hold_fd, HOLD, O_CLOEXEC) < 0))
		_exit(EXIT_FAILURE);
	fds_close_but(hold < 0 ? HOLD : FREE, own.o.path_fd);
	setsid();
	umask(077);
	_exit(serve_here(&own, REPORT, hold));
}

int background_start(const struct job *job, struct background *bg, bool hold)
{
	int report_fd, hold_fd, status;

	*bg = (struct background){ .job = job, .hold_fd = -1 };
	bg->pid = server_fork(&report_fd, &hold_fd);
	if (bg->pid < 0)
		return fail(job->be->name, STEP_DAEMON, -bg->pid, NULL);
	if (bg->pid == 0)
		background_serve(job, report_fd, hold ? hold_fd : -1);
	if (job->o.path_fd)	/* the server's alone: what it loads from may be pulled out after that */
		close(job->o.path_fd);
	if (hold)
		bg->hold_fd = hold_fd;
	else
		close(hold_fd);
	status = background_wait(bg, report_fd);
	close(report_fd);
	return status;
}
