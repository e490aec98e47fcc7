/* SPDX-License-Identifier: MIT */
/* life: see life.h. */
#include "serve/life.h"
#include "host/fail.h"
#include "host/nodes.h"
#include "host/process.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

pid_t server_fork(int *report_fd, int *hold_fd)
{
	int report[2], hold[2], err;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC))
		return -errno;
	if (pipe2(hold, O_CLOEXEC)) {
		err = errno;
		close(report[0]);
		close(report[1]);
		return -err;
	}
	pid = fork_plain();
	err = errno;
	*report_fd = report[pid == 0];
	*hold_fd = hold[pid != 0];
	close(report[pid != 0]);
	close(hold[pid == 0]);
	if (pid >= 0)
		return pid;
	close(*report_fd);
	close(*hold_fd);
	return -err;
}

static void server_banner(const struct server *s)
{
	char size[32];

	size_text(s->dev.size, size, sizeof(size));
	notice("%s: %s, %s, %u queue%s of %u; Ctrl-C or \"ublk stop %u\" ends it", node_path(s->id).s,
	       s->o->path ? s->o->path : s->be->name, size, s->nr_queues, s->nr_queues > 1 ? "s" : "",
	       s->ctrl.info.queue_depth, s->id);
}

int print_node(uint32_t id)
{
	char line[NODE_LEN];
	const size_t n = text_print(line, sizeof(line), "%s\n", node_path(id).s);

	errno = EIO;	/* for a short write */
	return write(STDOUT_FILENO, line, n) == (ssize_t)n ? 0 : -errno;
}

int server_announce(struct server *s)
{
	const struct report report = {
		.id = s->id, .queues = (uint16_t)s->nr_queues, .depth = s->ctrl.info.queue_depth,
	};
	int ret;

	if (s->report_fd < 0) {
		ret = print_node(s->id);
		if (!ret)
			server_banner(s);
		return ret;
	}
	if (s->background)
		stdio_to_null();
	ret = chdir("/") ? -errno : 0;
	if (!ret && write(s->report_fd, &report, sizeof(report)) != sizeof(report))
		ret = -EPIPE;
	close(s->report_fd);
	return ret;
}

int server_fail(const struct server *s, enum step step, int err)
{
	if (s->added || s->recover)
		return fail(node_path(s->id).s, step, err, s->why);
	return fail(s->o->path ? s->o->path : s->o->load ? s->o->load : s->be->name, step, err, s->why);
}

int server_life(struct server *s)
{
	enum step step;
	int ret, status = 0;

	s->ctrl.step = STEP_DAEMON;
	ret = s->signal_fd = signals_open(s->background || s->guarded, false);
	if (ret >= 0)
		ret = server_reach(s);
	if (!ret && !s->recover)
		ret = probe_fork(s);
	if (!ret)
		ret = server_up(s);
	step = s->ctrl.step;
	if (!ret) {
		step = STEP_PRINT;
		ret = server_announce(s);
	}
	if (ret == -ENODEV && s->restart)
		return 0;	/* stopped in the meantime */
	if (ret)
		status = server_fail(s, step, ret);
	if (ret && s->recover)	/* the device is not ours to remove: it waits for the next one */
		return s->restart ? EXIT_AGAIN : status;
	if (!ret)
		server_run(s);
	ret = server_down(s);
	if (ret && !status)
		status = server_fail(s, s->ctrl.step, ret);
	return status;
}
