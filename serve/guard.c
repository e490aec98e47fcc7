/* SPDX-License-Identifier: MIT */
/*
 * guard: see guard.h.
 *
 * It holds what must survive the servers: the storage, open, and for a RAM disk
 * its memory, which it never touches. It has no ring, no thread, and nothing of
 * the device open, so that whatever befalls a server, the guard can go on. Its
 * signals to stop are handed to the server.
 */
#include "serve/guard.h"
#include "host/nodes.h"
#include "host/process.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"
#include "serve/life.h"
#include "serve/orphan.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHORT_LIFE_MS	500
#define SHORT_LIVES	16	/* in a row, and we give up */
#define BACKOFF_MS	400	/* at most */
#define ASKED_MS	3000	/* a stop that a dying server was asked for */

struct guard {
	struct server *s;	/* as it was before the first one, for the next */
	int signal_fd;
	pid_t pid;		/* of the server */
	int report_fd, hold_fd;	/* its end tells that the server is up, ours that we live; -1: none */
	int64_t up_since;	/* 0: not yet */
	int64_t asked_at;	/* to stop; 0: never */
	int64_t heard_at;	/* see heard_anew() */
	uint32_t heard_from;
	unsigned short_lives;	/* in a row */
	int status;		/* of the announcement */
};

static int guard_spawn(struct guard *g)
{
	struct server *s = g->s;
	int report_fd, hold_fd;

	g->up_since = 0;
	g->pid = server_fork(&report_fd, &hold_fd);
	if (g->pid < 0)
		return g->pid;
	if (g->pid == 0) {
		close(g->signal_fd);
		fd_close(s->report_fd);
		fd_close(s->hold_fd);
		s->report_fd = report_fd;
		s->hold_fd = hold_fd;
		s->guarded = true;
		setsid();	/* the terminal's signals are for the guard */
		server_protect();
		if (s->dev.page_cache)	/* locked with all the rest, but not ours to keep */
			(void)munlock(s->dev.page_cache, s->dev.page_cache_len);
		_exit(server_life(s));
	}
	g->report_fd = report_fd;
	g->hold_fd = hold_fd;
	/* the one before may not have got to it; what it has refused is not asked again */
	if (g->asked_at && now_ms() - g->asked_at < ASKED_MS)
		kill(g->pid, SIGTERM);
	return 0;
}

/* The server is up, or was if it has ended. The first time that is news to others as well. */
static void guard_heard(struct guard *g, bool ended)
{
	struct server *s = g->s;
	struct report report;
	int ret;

	if (read(g->report_fd, &report, sizeof(report)) == sizeof(report)) {
		g->up_since = now_ms();
		if (!s->restart) {
			s->restart = s->recover = s->dev.used = true;
			s->id = report.id;
			s->nr_queues = report.queues;
			s->ctrl.info.queue_depth = report.depth;
			ret = server_announce(s);
			s->report_fd = -1;
			if (ret) {
				g->status = server_fail(s, STEP_PRINT, ret);
				if (!ended)	/* or that pid is another's */
					kill(g->pid, SIGTERM);
			}
		}
	}
	close(g->report_fd);
	g->report_fd = -1;
}

static void guard_ask(struct guard *g)
{
	g->asked_at = now_ms();
	kill(g->pid, SIGTERM);
}

/* Hand on what is meant for the server until it ends. Returns its wait status. */
static int guard_wait(struct guard *g)
{
	struct server *s = g->s;
	struct signalfd_siginfo si;
	int wstatus;
	char c;

	for (;;) {
		struct pollfd p[] = {
			{ .fd = g->signal_fd, .events = POLLIN },
			{ .fd = g->report_fd, .events = POLLIN },
			{ .fd = s->hold_fd, .events = POLLIN },
		};

		if (poll(p, ARRAY_SIZE(p), -1) < 0)
			continue;
		if (p[1].revents)
			guard_heard(g, false);
		if (p[2].revents) {
			if (read(s->hold_fd, &c, 1) != 1)
				guard_ask(g);
			close(s->hold_fd);
			s->hold_fd = -1;
		}
		while (read(g->signal_fd, &si, sizeof(si)) == sizeof(si)) {
			if (si.ssi_signo != SIGCHLD && heard_anew(&g->heard_at, &g->heard_from, si.ssi_pid))
				guard_ask(g);
		}
		if (waitpid(g->pid, &wstatus, WNOHANG) == g->pid)
			break;
	}
	if (g->report_fd >= 0)
		guard_heard(g, true);
	close(g->hold_fd);
	return wstatus;
}

/* The server has died: is another to be started? Waits a little if they die fast. */
static bool guard_restart(struct guard *g, const char *how)
{
	const int64_t lived = g->up_since ? now_ms() - g->up_since : 0;
	int nap = 0;

	g->short_lives = lived < SHORT_LIFE_MS ? g->short_lives + 1 : 0;
	if (g->short_lives >= SHORT_LIVES) {
		say("%s: the server has ended %s, as %u before it did at once: given up",
		    node_path(g->s->id).s, how, g->short_lives - 1);
		return false;
	}
	notice("%s: the server has ended %s: starting another", node_path(g->s->id).s, how);
	if (g->short_lives > 2)
		nap = 25 << (g->short_lives - 3 < 4 ? g->short_lives - 3 : 4);
	nap_ms(nap < BACKOFF_MS ? nap : BACKOFF_MS);
	return true;
}

/* Start servers until one ends because it should, or none lives. Returns the exit status. */
static int guard_run(struct guard *g)
{
	char how[32];
	int ret, wstatus;

	for (;;) {
		text_print(how, sizeof(how), "early");
		ret = guard_spawn(g);
		if (!ret) {
			wstatus = guard_wait(g);
			if (WIFEXITED(wstatus) && WEXITSTATUS(wstatus) != EXIT_AGAIN)
				return WEXITSTATUS(wstatus);
			if (g->status)		/* nobody knows of the device */
				return g->status;
			if (WIFSIGNALED(wstatus))
				text_print(how, sizeof(how), "by signal %d", WTERMSIG(wstatus));
		}
		if (!g->s->restart) {	/* the first never came up */
			if (ret)
				return server_fail(g->s, STEP_DAEMON, ret);
			say("the server ended during start, %s", how);
			return EXIT_FAILURE;
		}
		if (!guard_restart(g, how))
			return EXIT_FAILURE;
	}
}

int guard(struct server *s)
{
	struct guard g = { .s = s, .report_fd = -1, .hold_fd = -1 };
	const bool made = !s->recover;
	int ret, status;

	ret = server_open(s);
	if (!ret) {
		s->ctrl.step = STEP_DAEMON;
		ret = g.signal_fd = signals_open(s->background, true);
	}
	if (ret < 0) {
		status = server_fail(s, s->ctrl.step, ret);
	} else {
		status = guard_run(&g);
	}
	if (s->opened)
		s->be->close(&s->dev);
	/* if it is still there: its clients are to get errors, not to wait for ever */
	if (s->restart || (made && g.pid))
		orphan_remove(s->cookie, s->restart);
	return g.status ? g.status : status;
}
