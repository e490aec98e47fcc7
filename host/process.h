/* SPDX-License-Identifier: MIT */
/* process: what a server must not do to the machine, nor the machine to it. */
#ifndef HOST_PROCESS_H
#define HOST_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* Its name, argv[0], as the process list shows it, for process_stay(); NULL: it has none. */
void process_named(char *argv0);

/* 0, 1 and 2 are open, whatever the caller did: a device must not land there. */
void stdio_hold(void);

/* 0, 1 and 2 stay open, whatever comes: a backing file must not land there. */
void stdio_to_null(void);

/* A name for what a descriptor stands for, as long as there is a /proc. */
struct fd_path { char s[32]; };
struct fd_path fd_path(int fd);

/* Open what a descriptor stands for, as an O_PATH one does. Returns another one or -errno. */
int fd_reopen(int fd, int flags);

/* 0 is nothing from now on. */
void stdin_to_null(void);

/* Had the caller closed this one of 0, 1 and 2? */
bool stdio_was_closed(int fd);

/*
 * Signals that stop a server, and the end of children; blocked before any
 * thread is made. Returns a signalfd, which does not block, or -errno.
 */
int signals_open(bool daemon, bool children);

/* Off: those signals end this process, as they end any other. On: signals_open()'s descriptor has them again. */
void signals_block(bool on);

/*
 * Is the signal to stop that process pid has sent now another one, or the last
 * one once more? *at and *from are the last one's, 0 if there was none, and
 * become this one's.
 */
bool heard_anew(int64_t *at, uint32_t *from, uint32_t pid);

/*
 * The shell's limits are not for a server that others depend on: none but room
 * for so many queues' rings and what else it has open. What may not be raised is left.
 */
void limits_raise(unsigned queues);

/*
 * Memory may get short, and what frees it may be a write to our own device. So
 * no page of a server is had by writing to a disk (IO_FLUSHER), none of those it
 * has is taken away (locked as they are touched: not all of a RAM disk at once),
 * and the OOM killer, who would free nothing but the data, picks others. What
 * may not be done, without root, is left.
 */
void server_protect(void);

/*
 * What is not needed any more once the storage is open goes: mounts, and all
 * privileges but those to remove the device (SYS_ADMIN), to see who uses it, to
 * lock memory, to write where only root may (SYS_RESOURCE, also for IO_FLUSHER),
 * and to make nodes where nobody else does (nodes: the control node as well).
 * A user (no admin) keeps his mounts. No core file either: it would hold the
 * users' data. What fails is left.
 */
void server_confine(bool admin, bool nodes);

/* May this process make devices: has it CAP_SYS_ADMIN, and not in a user namespace of its own? */
bool process_is_admin(void);

/*
 * Without CAP_SYS_ADMIN in effect while a queue's last tag is fetched, the
 * driver does not scan for partitions: the only way before NO_AUTO_PART_SCAN
 * (7.0). Returns 0 or -errno. Kernel: ublk_mark_io_ready().
 */
int set_admin(bool on);

/*
 * Whoever switches from an initramfs to the real root, or shuts down, kills
 * what is left, but by a convention of systemd's not those whose name begins
 * with @: the storage it lies on would go. Only for what an initramfs starts.
 */
void process_stay(void);

/* The guard of a server of ours, which has the storage open longer than that; 0: it has none. */
int guard_of(int pid);

/* A descriptor of a process, or -1. */
int pidfd_of(int pid);

/*
 * Wait until a child has ended, ms at most. *wstatus, unless that is NULL, is
 * then as waitpid() has it. False: it has not ended, and may never.
 */
bool process_await(int pid, int ms, int *wstatus);

#endif
