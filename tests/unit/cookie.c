/* SPDX-License-Identifier: MIT */
/* serve/cookie */
#include "tests/unit/test.h"
#include "serve/cookie.c"

static void test_cookies(void)
{
	const struct options plain = { 0 }, both = { .direct = true, .resilient = true };
	const uint64_t c = cookie_make(1, &both);

	CHECK("cookies: type read back, strangers told apart",
	      !cookie_type(cookie_make(0, &plain)) && cookie_type(c) == 1 && cookie_is_ours(c) && !cookie_is_ours(0) &&
	      cookie_make(0, &plain) != cookie_make(0, &plain));
	CHECK("cookies: what recover needs to know, and room for the storage's identity",
	      c & COOKIE_DIRECT && c & COOKIE_RESILIENT && !(c & COOKIE_IDENTITY) &&
	      !(cookie_make(1, &plain) & (COOKIE_DIRECT | COOKIE_RESILIENT)));
}

int main(void)
{
	test_begin();
	test_cookies();
	return test_end();
}
