/* SPDX-License-Identifier: MIT */
/*
 * server: the process behind a device, as others see it: what it has open, and
 * what it says when it is asked.
 */
#ifndef HOST_SERVER_H
#define HOST_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include "host/mailbox.h"
#include "include/ublk_cmd.h"

/*
 * Of a process: the memfd of this name, or, if that is NULL, the file or block
 * device that it serves. Its path, as the kernel has it, goes to path. Returns a
 * descriptor that stands for it (O_PATH), or -errno.
 */
int server_file(int pid, const char *memfd, char *path, size_t len);

/*
 * Of a device's server, process pid: the memfd of this name, and, if file is not
 * NULL, what it serves. Descriptors that stand for them (O_PATH), or -errno in
 * one. Returns 0 or -errno; -ESRCH: that is not its server.
 */
int server_files(const struct ublksrv_ctrl_dev_info *info, int pid, const char *memfd, int *mem, int *file);

/*
 * Ask a device's server, and wait for its answer, which *l becomes: so long as
 * the server says that it is at it, or, of another user's, half a minute. *server
 * is the process to ask, or 0: whichever serves it, which it becomes. Returns 0 or
 * -errno with *why, words for it or NULL; -ESRCH: it has no such server, or no
 * more, -ENOENT: that cannot be asked, or not yet.
 */
int letter_send(const struct ublksrv_ctrl_dev_info *info, int *server, struct letter *l, const char **why);

/* For root: made by another user, whose word all is that its server has to say. Others get no further than their own. */
bool info_is_others(const struct ublksrv_ctrl_dev_info *info);

#endif
