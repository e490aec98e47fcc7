/* SPDX-License-Identifier: MIT */
/* command: a device for as long as a command runs. */
#ifndef COMMAND_H
#define COMMAND_H

#include "include/server.h"

/*
 * The device lives as long as COMMAND. Returns its status, or the one of what
 * failed. The server is a process of its own, so that it can stay behind if
 * COMMAND leaves the device in use; if this process is killed, the server sees
 * the end of hold_fd and stops.
 */
int serve_command(const struct job *job, char **command);

#endif
