/* SPDX-License-Identifier: MIT */
/* command: see command.h. */
#include "serve/command.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "host/process.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "serve/background.h"
#include "serve/stop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The environment, with two more in place of what it has by these names; NULL: no memory. setenv() is large. */
static char **command_env(char *dev, char *id)
{
	size_t nr = 0;
	char **env;

	while (environ[nr])
		nr++;
	env = pages_get((nr + 3) * sizeof(*env));
	if (!env)
		return NULL;
	nr = 0;
	for (char **e = environ; *e; e++)
		if (strncmp(*e, "UBLK_DEV=", 9) && strncmp(*e, "UBLK_ID=", 8))
			env[nr++] = *e;
	env[nr++] = dev;
	env[nr++] = id;
	return env;
}

/* In the child: become COMMAND, as a shell would start it. */
__attribute__((noreturn))
static void command_exec(char **command, uint32_t id, const sigset_t *mask)
{
	char dev[16 + NODE_LEN], number[32], **env;

	text_print(dev, sizeof(dev), "UBLK_DEV=%s", node_path(id).s);
	text_print(number, sizeof(number), "UBLK_ID=%u", id);
	signal(SIGPIPE, SIG_DFL);
	env = command_env(dev, number);
	if (env && !sigprocmask(SIG_SETMASK, mask, NULL))
		execvpe(command[0], command, env);
	say("%s: %s", command[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/*
 * Wait for COMMAND, handing on the signals that are meant to stop us. Those
 * of a terminal (SI_KERNEL) have reached it already. The second one kills it.
 */
static int command_wait(pid_t pid, const sigset_t *set, bool *force)
{
	int64_t at = 0;
	uint32_t from = 0;
	unsigned signals = 0;
	siginfo_t si;
	int wstatus;

	for (;;) {
		if (sigwaitinfo(set, &si) < 0)
			continue;
		if (si.si_signo != SIGCHLD) {
			if (!heard_anew(&at, &from, (uint32_t)si.si_pid))
				continue;
			*force = ++signals > 1;
			if (*force)
				kill(pid, SIGKILL);
			else if (si.si_code != SI_KERNEL)
				kill(pid, si.si_signo);
		} else if (waitpid(pid, &wstatus, WNOHANG) == pid) {
			break;
		}
	}
	return WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : 128 + WTERMSIG(wstatus);
}

static int command_run(char **command, uint32_t id, bool *force)
{
	sigset_t set, old;
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, &old);
	pid = fork_plain();
	if (pid == 0)
		command_exec(command, id, &old);
	if (pid < 0)
		return fail(command[0], STEP_DAEMON, errno, NULL);
	return command_wait(pid, &set, force);
}

int serve_command(const struct job *job, char **command)
{
	struct ctrl *c = ctrl_own();
	struct background bg;
	bool force = false;
	int ret, stopped, status = background_start(job, &bg, true);

	if (status)
		return status;
	status = command_run(command, bg.report.id, &force);
	ret = ctrl_open(c, false);
	stopped = ret ? fail("stop", c->step, ret, NULL) : stop_and_tell(c, bg.report.id, force, 0);
	ctrl_close(c);
	if (stopped == EXIT_IN_USE) {
		notice("%s stays until it is free and \"ublk stop %u\"", node_path(bg.report.id).s, bg.report.id);
		if (write(bg.hold_fd, "", 1) != 1)
			return EXIT_FAILURE;
	}
	return stopped && stopped != EXIT_NO_DEVICE ? stopped : status;
}
