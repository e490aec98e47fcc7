/* SPDX-License-Identifier: MIT */
/* verbs: a file each. All return the exit status, having said what failed. */
#ifndef VERBS_H
#define VERBS_H

#include "cli/args.h"

/* mem, file: make a device, serve it, remove it. */
int verb_make(const struct args *a);
/* list: a table or JSON of devices. */
int verb_list(const struct args *a);
/* resize: another size for a device that is served. */
int verb_resize(const struct args *a);
/* recover: take over a device whose server has died. */
int verb_recover(const struct args *a);
/* stop, del: stop and remove devices. */
int verb_stop(const struct args *a);
/* commit: the changes of a snapshot into its file. */
int verb_commit(const struct args *a);
/* save: a device's content into a file. */
int verb_save(const struct args *a);
/* owner: who has made a device without root, for udev. */
int verb_owner(const struct args *a);
/* check: what this machine has of what ublk needs. Returns what making a RAM disk would. */
int verb_check(const struct args *a);
/* help: all verbs, or one. */
int verb_help(const struct args *a);

#endif
