/* SPDX-License-Identifier: MIT */
/* backends: all there are. Each is a verb that makes a device, and a type in list. */
#ifndef BACKENDS_H
#define BACKENDS_H

#include <stdint.h>

#include "include/backend.h"

/* The one of this number, from 0; NULL: there is none. */
const struct backend *backend_nr(unsigned nr);

/* The backend of this name, or NULL. */
const struct backend *backend_find(const char *name);

/* Its number, which is the type in its devices' cookies. */
unsigned backend_type(const struct backend *be);

/* What the device with this cookie is made of, or NULL if it is not ours. */
const struct backend *backend_of(uint64_t cookie);

/* The type of a device with this cookie, for list: "other" if it is not ours. */
const char *backend_name(uint64_t cookie);

#endif
