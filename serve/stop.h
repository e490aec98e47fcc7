/* SPDX-License-Identifier: MIT */
/* stop: from outside, and seen gone. */
#ifndef STOP_H
#define STOP_H

#include <stdbool.h>
#include <stdint.h>

#include "include/ctrl.h"

/*
 * Stop a device and see it gone, or say why not. wait: seconds for it to become
 * free. Returns the exit status.
 */
int stop_and_tell(struct ctrl *c, uint32_t id, bool force, uint64_t wait);

#endif
