/* SPDX-License-Identifier: MIT */
/* serve: see serve.h. */
#include "serve/serve.h"
#include "host/fail.h"
#include "host/process.h"
#include "serve/background.h"
#include "serve/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/*
 * What the path means to the caller: it may be a descriptor of his, and he may
 * have mounts of his own. An error is the backend's to tell, when it opens it.
 */
static void job_look(struct job *job)
{
	const struct options *o = &job->o;
	int fd = -1;

	if (o->load)
		fd = strcmp(o->load, "-") ? open(o->load, O_RDONLY | O_NOCTTY | O_CLOEXEC) : fcntl(0, F_DUPFD_CLOEXEC, 3);
	else if (o->path && !o->create)
		fd = open(o->path, O_PATH | O_CLOEXEC);
	job->o.path_fd = fd < 0 ? 0 : fd;
}

/* In the background: the node is on stdout, or there is no device. */
static int serve_behind(const struct job *job)
{
	struct background bg;
	int status = background_start(job, &bg, false);

	if (status || !print_node(bg.report.id))
		return status;
	/* nobody will ever know of it: better that it had not been made */
	status = fail("stdout", STEP_PRINT, errno, NULL);
	if (!job->recover) {
		kill(bg.pid, SIGTERM);
		waitpid(bg.pid, NULL, 0);
	}
	return status;
}

int serve(const struct job *job, char **command, bool background)
{
	struct job held = *job;

	held.o.unprivileged = !process_is_admin();
	job_look(&held);
	if (command)
		return serve_command(&held, command);
	return background ? serve_behind(&held) : serve_here(&held, -1, -1);
}
