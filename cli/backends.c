/* SPDX-License-Identifier: MIT */
/* backends: see backends.h. */
#include "cli/backends.h"
#include "lib/sys.h"
#include "serve/cookie.h"

#include <string.h>

extern const struct backend backend_mem, backend_file, backend_snapshot;

/* By the type in a cookie, so the order is for good: new ones go to the end. */
static const struct backend *const backends[] = { &backend_mem, &backend_file, &backend_snapshot };
_Static_assert(ARRAY_SIZE(backends) <= COOKIE_TYPES, "a cookie has no room for that many");

const struct backend *backend_nr(unsigned nr)
{
	return nr < ARRAY_SIZE(backends) ? backends[nr] : NULL;
}

const struct backend *backend_find(const char *name)
{
	const struct backend *be;

	for (unsigned nr = 0; (be = backend_nr(nr)); nr++)
		if (!strcmp(be->name, name))
			break;
	return be;
}

unsigned backend_type(const struct backend *be)
{
	unsigned type = 0;

	while (backends[type] != be)
		type++;
	return type;
}

const struct backend *backend_of(uint64_t cookie)
{
	return cookie_is_ours(cookie) ? backend_nr(cookie_type(cookie)) : NULL;
}

const char *backend_name(uint64_t cookie)
{
	const struct backend *be = backend_of(cookie);

	return be ? be->name : "other";
}
