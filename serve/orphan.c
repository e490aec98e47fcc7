/* SPDX-License-Identifier: MIT */
/* orphan: see orphan.h. */
#include "serve/orphan.h"
#include "host/mounts.h"
#include "host/nodes.h"
#include "host/process.h"
#include "host/usage.h"
#include "include/ctrl.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "serve/cookie.h"

#include <sys/wait.h>
#include <unistd.h>

#define ORPHAN_MS	3000	/* that removing it may take */

/*
 * The server died on its way up, and may have left a half-made device that
 * nobody else will remove. Found by its cookie: even the server itself did not
 * know the number if it died between ADD_DEV and the answer. If it may have
 * been up, not one that somebody else has taken over with ublk recover.
 */
static void orphan_remove_here(uint64_t cookie, bool restart)
{
	struct ctrl *c = ctrl_own();
	uint32_t *ids;
	int nr = dev_ids(&ids);

	if (nr && ctrl_open(c, false))
		nr = 0;
	for (int i = 0; i < nr; i++) {
		if (ctrl_get_info(c, ids[i]) || (c->info.ublksrv_flags ^ cookie) & ~COOKIE_IDENTITY ||
		    (restart && info_has_server(&c->info)))
			continue;
		if (!dev_del(c, ids[i]) && !ctrl_wait_gone(c, ids[i], c->info.ublksrv_flags, 2000))
			nodes_forget(ids[i]);
	}
	ctrl_close(c);
	dev_ids_end(ids);
}

/*
 * In a process of its own, as the driver of Linux 6.2 to 6.18 or so hangs, and
 * with it whoever asks it anything about the device, if the server dies while
 * START_DEV reads the partition table. Whoever waits for us is not to hang.
 * False: somebody has killed that process.
 */
static bool orphan_try(uint64_t cookie, bool restart)
{
	pid_t pid = fork_plain();
	int wstatus = 0;

	if (pid == 0) {
		fds_close_from(3);	/* who waits for one of them to close is not to wait for us */
		stdio_to_null();
		mounts_complete();
		orphan_remove_here(cookie, restart);
		_exit(0);
	}
	if (pid > 0 && !process_await(pid, ORPHAN_MS, &wstatus))
		say("the driver hangs on the half-made device, which stays: see dmesg");
	return !WIFSIGNALED(wstatus);
}

void orphan_remove(uint64_t cookie, bool restart)
{
	for (int tries = 0; tries < 3 && !orphan_try(cookie, restart); tries++)
		continue;
}
