/* SPDX-License-Identifier: MIT */
/* check: what this machine has of what ublk needs, one line each. */
#include "cli/out.h"
#include "cli/verbs.h"
#include "host/driver.h"
#include "host/fail.h"
#include "host/mounts.h"
#include "host/nodes.h"
#include "host/process.h"
#include "include/ctrl.h"
#include "lib/read.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The lines of check, and what creating a RAM disk would return. */
struct checks {
	bool json, first;
	int status;
};

__attribute__((format(printf, 4, 5)))
static void check_line(struct checks *r, const char *state, const char *item, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	text_vprint(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!r->json) {
		print("%-8s %-24s %s\n", state, item, text);
		return;
	}
	print("%s\n  {\"item\": \"%s\", \"state\": \"%s\", \"text\": ", r->first ? "" : ",", item, state);
	json_string(text);
	print("}");
	r->first = false;
}

/* Kernels whose driver is known to be broken, by the begin of their release. */
static const struct { const char *release, *text; } bad_kernels[] = {
	{ "6.18.4-", "ADD_DEV crashes the driver: use 6.18.6 or later" },
	{ "6.18.4+", "ADD_DEV crashes the driver: use 6.18.6 or later" },
	{ "6.18.5-", "ADD_DEV crashes the driver: use 6.18.6 or later" },
	{ "6.18.5+", "ADD_DEV crashes the driver: use 6.18.6 or later" },
	{ "6.17.0-1015-", "ADD_DEV crashes the driver of this build" },
	{ "6.17.0-1017-", "ADD_DEV crashes the driver of this build" },
	{ "6.17.0-1018-", "ADD_DEV crashes the driver of this build" },
	{ "6.0.", "DEL_DEV waits uninterruptibly while a device is open" },
	{ "6.1.", "DEL_DEV waits uninterruptibly while a device is open; a dead server is noticed after 5 s" },
	{ "6.2.", "DEL_DEV waits uninterruptibly while a device is open; a dead server is noticed after 5 s" },
	{ "6.6.", "a dead server is noticed after 5 s" },
};

static void check_kernel(struct checks *r)
{
	const char *bad = NULL;
	struct utsname u;

	if (uname(&u))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(bad_kernels); i++) {
		const char *release = bad_kernels[i].release;

		if (!strncmp(u.release, release, strlen(release)))
			bad = bad_kernels[i].text;
	}
	check_line(r, bad ? "limited" : "ok", "kernel", "%s%s%s", u.release, bad ? ": " : "", bad ? bad : "");
}

static bool check_driver(struct checks *r, const char *path)
{
	if (access("/sys/module/ublk_drv", F_OK) == 0 || access(CTRL_NODE, F_OK) == 0) {
		check_line(r, "ok", "driver", "%s", access("/sys/module/ublk_drv/initstate", F_OK) == 0 ?
			   "loaded, module ublk_drv" : "built into the kernel");
		return true;
	}
	if (path) {
		const bool admin = process_is_admin();

		check_line(r, admin ? "ok" : "missing", "driver", "not loaded; %s it from %s", admin ? "ublk loads" : "root can load", path);
		r->status = admin ? 0 : EXIT_PERMISSION;
	} else {
		check_line(r, "missing", "driver", "no module ublk_drv for this kernel: "
			   "it takes CONFIG_BLK_DEV_UBLK, Linux 6.0 or later");
		r->status = EXIT_NO_DRIVER;
	}
	return false;
}

static void check_limit(struct checks *r)
{
	static const char path[] = "/sys/module/ublk_drv/parameters/ublks_max";
	uint64_t max;

	if (number_read(path, &max))
		check_line(r, "ok", "device limit", "%u (%s), on 6.15 and later for unprivileged devices only",
			   (unsigned)max, path);
}

static void check_features(struct checks *r, const struct ctrl *c)
{
	const bool zero_copy = c->features & UBLK_F_AUTO_BUF_REG;

	if (!c->features)
		check_line(r, "limited", "features", "unknown: the driver does not tell before Linux 6.5");
	for (size_t i = 0; c->features && i < driver_nr_features; i++) {
		bool there = c->features >> i & 1;

		check_line(r, there ? "ok" : "missing", driver_features[i].name, "Linux %s%s",
			   driver_features[i].since, there ? "" : " or later has it");
	}
	check_line(r, "ok", "mem", "uses NEED_GET_DATA: the kernel copies from and to the RAM disk's own pages");
	check_line(r, zero_copy ? "ok" : "limited", "file", zero_copy ? "uses AUTO_BUF_REG: zero copy" :
		   "copies through a buffer for each request: zero copy takes Linux 6.16");
}

/* What users need to make devices, one line a condition; asked: c knows the driver. Can they? */
static bool check_users(struct checks *r, const struct ctrl *c, bool asked)
{
	static const char *const dirs[] = { "/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib" };
	const bool kernel = c->features & UBLK_F_QUIESCE;
	bool rule = false, open;
	char path[64];
	struct stat st;

	if (asked)	/* one that does not tell its features is an earlier one */
		check_line(r, kernel ? "ok" : "missing", "without root: kernel", "Linux 6.16%s", kernel ? "" : " or later lets users make devices");
	open = stat(CTRL_NODE, &st) == 0 && (process_is_admin() ? st.st_mode & 02 || st.st_uid || (st.st_mode & 020 && st.st_gid) :
								  access(CTRL_NODE, R_OK | W_OK) == 0);
	check_line(r, open ? "ok" : "missing", "without root: control", CTRL_NODE "%s", open ? " admits users" :
		   ": to admit a group, chgrp it and chmod 660, or have a rule of udev's do it");
	for (size_t i = 0; i < ARRAY_SIZE(dirs) && !rule; i++) {
		text_print(path, sizeof(path), "%s/udev/rules.d/60-ublk.rules", dirs[i]);
		rule = access(path, F_OK) == 0;
	}
	if (!rule)
		check_line(r, "missing", "without root: nodes", "no 60-ublk.rules of udev's: root has to give a device's nodes to its owner");
	else if (access("/run/udev/control", F_OK))
		check_line(r, "limited", "without root: nodes", "%s is there, but no udev runs", path);
	else
		check_line(r, "ok", "without root: nodes", "%s gives them to their owner", path);
	return kernel;
}

/* Returns as uring_init(). */
static int check_uring(struct checks *r)
{
	struct uring ring = URING_NONE;
	int ret = uring_init(&ring, 4, IORING_SETUP_SQE128);

	uring_exit(&ring);
	if (ret == -ENOSYS)
		check_line(r, "missing", "io_uring", "not built into this kernel (CONFIG_IO_URING)");
	else if (ret)
		check_line(r, "missing", "io_uring", "%s: %s", strerror(-ret), uring_forbidden());
	else
		check_line(r, "ok", "io_uring", "available");
	return ret;
}

/* The control node, and what the driver tells if it can be asked. */
static void check_control(struct checks *r, bool uring)
{
	const bool admin = process_is_admin();
	struct ctrl *c = ctrl_own();
	bool asked;
	int ret = ctrl_open_node(c, false);

	if (ret == -ENOENT && mounts_leave() == 0)
		ret = ctrl_open_node(c, false);
	if (ret) {
		bool denied = ret == -EACCES || ret == -EPERM;

		check_line(r, denied ? "denied" : "missing", "control node", CTRL_NODE ": %s%s",
			   strerror(-ret), denied ? "; " HINT_ROOT : "");
		r->status = denied ? EXIT_PERMISSION : EXIT_NO_DRIVER;
		if (denied)
			(void)check_users(r, c, false);
		return;
	}
	check_line(r, "ok", "control node", CTRL_NODE);
	check_limit(r);
	asked = uring && ctrl_open(c, false) == 0;
	if (asked)
		check_features(r, c);
	r->status = check_users(r, c, asked) || admin ? 0 : EXIT_PERMISSION;
	ctrl_close(c);
}

int verb_check(const struct args *a)
{
	struct checks r = { .json = a->json, .first = true };
	char path[4096];
	bool loadable;
	int uring;

	if (r.json)
		print("{\"checks\": [");
	loadable = driver_path(path, sizeof(path));
	mounts_complete();
	check_kernel(&r);
	uring = check_uring(&r);
	if (check_driver(&r, loadable ? path : NULL))
		check_control(&r, !uring);
	if (uring && !r.status)
		r.status = EXIT_NO_URING;
	if (r.json)
		print("\n], \"status\": %d}\n", r.status);
	return r.status;
}
