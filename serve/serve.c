/* SPDX-License-Identifier: MIT */
/* serve: see serve.h. */
#include "serve/serve.h"
#include "host/fail.h"
#include "serve/background.h"
#include "serve/command.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

int serve(const struct job *job, char **command, bool background)
{
	struct background bg;
	int status;

	if (command)
		return serve_command(job, command);
	if (!background)
		return serve_here(job, -1, -1);
	status = background_start(job, &bg, false);
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
