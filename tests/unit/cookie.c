/* SPDX-License-Identifier: MIT */
/* serve/cookie */
#include "tests/unit/test.h"
#define main ublk_main
#include "ublk.c"
#undef main

static void test_cookies(void)
{
	const struct options plain = { 0 }, both = { .direct = true, .resilient = true };
	const uint64_t c = cookie_make(&backend_file, &both);

	CHECK("cookies: type read back, strangers told apart",
	      !strcmp(cookie_type(cookie_make(&backend_mem, &plain)), "mem") && !strcmp(cookie_type(0), "other") &&
	      !strcmp(cookie_type(cookie_make(NULL, &plain)), "other") && !strcmp(cookie_type(c), "file") &&
	      cookie_make(&backend_mem, &plain) != cookie_make(&backend_mem, &plain));
	CHECK("cookies: what recover needs to know, and room for the storage's identity",
	      c & COOKIE_DIRECT && c & COOKIE_RESILIENT && !(c & COOKIE_IDENTITY) &&
	      !(cookie_make(&backend_file, &plain) & (COOKIE_DIRECT | COOKIE_RESILIENT)));
}

int main(void)
{
	test_begin();
	test_cookies();
	return test_end();
}
