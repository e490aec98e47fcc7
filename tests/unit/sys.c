/* SPDX-License-Identifier: MIT */
/* lib/sys.c: mappings of sizes that may be more than there are addresses for */
#include "tests/unit/test.h"
#include "lib/sys.c"

int main(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	const uint64_t huge = (1ULL << 32) + (1 << 20);
	char *p;

	test_begin();
	CHECK("pages: what 32 bit cannot hold is refused, not cut",
	      map_refused(huge, 0, UINT32_MAX) == ENOMEM && map_refused(1ULL << 32, 0, UINT32_MAX) == ENOMEM &&
	      !map_refused(UINT32_MAX, 0, UINT32_MAX) && !map_refused(huge, 0, UINT64_MAX) &&
	      !map_refused(1 << 20, huge, UINT32_MAX));
	CHECK("pages: an offset that no file has is refused",
	      map_refused(4096, 1ULL << 63, UINT64_MAX) == EOVERFLOW &&
	      map_refused(4096, INT64_MAX - 4094, UINT64_MAX) == EOVERFLOW &&
	      !map_refused(4095, INT64_MAX - 4095, UINT64_MAX));
	errno = 0;
	CHECK("pages: refused with NULL and errno", !pages_map(4096, PROT_READ, flags, -1, UINT64_MAX) && errno == EOVERFLOW &&
	      !pages_map(UINT64_MAX / 2, PROT_READ, flags, -1, 0) && errno == ENOMEM);
	p = pages_map(huge, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (sizeof(size_t) == 4) {
		CHECK("pages: 4 GiB and more, on 32 bit: none", !p && errno == ENOMEM);
	} else {
		p[huge - 1] = 1;
		CHECK("pages: 4 GiB and more: all of it", !p[0]);
	}
	pages_put(p, huge);
	return test_end();
}
