/* SPDX-License-Identifier: MIT */
/* cookie: see cookie.h. */
#include "serve/cookie.h"
#include "lib/sys.h"

#include <sys/syscall.h>
#include <unistd.h>

#define COOKIE_MARK		0x75ULL		/* 'u', bits 56 to 63 */
#define COOKIE_TYPE_SHIFT	52
#define COOKIE_RANDOM_SHIFT	20
_Static_assert(COOKIE_IDENTITY < 1ULL << COOKIE_RANDOM_SHIFT, "the bits of a cookie");

uint64_t cookie_make(unsigned type, const struct options *o)
{
	uint64_t r = 0;

	if (syscall(SYS_getrandom, &r, sizeof(r), 1 /* GRND_NONBLOCK */) != sizeof(r))
		r = (uint64_t)now_ms() << 40 ^ (uint64_t)getpid() << 36;
	return COOKIE_MARK << 56 | (uint64_t)type << COOKIE_TYPE_SHIFT | (o->direct ? COOKIE_DIRECT : 0) |
	       (o->resilient ? COOKIE_RESILIENT : 0) | (o->snapshot ? COOKIE_SNAPSHOT : 0) | r >> 36 << COOKIE_RANDOM_SHIFT;
}

bool cookie_is_ours(uint64_t cookie)
{
	return cookie >> 56 == COOKIE_MARK;
}

unsigned cookie_type(uint64_t cookie)
{
	return cookie >> COOKIE_TYPE_SHIFT & 0xf;
}
