/* SPDX-License-Identifier: MIT */
/*
 * A unit test: a program that includes the room it is about whole, so that its
 * static functions are in reach, and takes the others from build/ublk.a.
 */
#ifndef TEST_H
#define TEST_H

#include <stdbool.h>
#include <stdio.h>

static int failed;

static void result(bool ok, const char *name)
{
	printf("%s - %s\n", ok ? "ok" : "FAIL", name);
	failed += !ok;
}

#define CHECK(name, ok)	result((ok), "unit: " name)

static void test_begin(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
}

static int test_end(void)
{
	return failed != 0;
}

#endif
