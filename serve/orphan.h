/* SPDX-License-Identifier: MIT */
/* orphan: a device that its server left behind. */
#ifndef ORPHAN_H
#define ORPHAN_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Remove the device with this cookie, if there is one: restart, if its server
 * has been up. In a process of its own, three seconds at most, and again if
 * that is killed: whoever has killed the servers may still be at it.
 */
void orphan_remove(uint64_t cookie, bool restart);

#endif
