/* SPDX-License-Identifier: MIT */
/* image: what is loaded and saved, and of what not */
#include "tests/unit/test.h"
#include "store/image.c"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SIZE (5U << 20)

static char bytes[SIZE], got[SIZE];
static uint64_t put_bytes;
static uint64_t put_max;	/* there is memory for no more */

static int put(void *to, uint64_t off, const char *data, uint64_t n)
{
	if (put_bytes + n > put_max)
		return -ENOMEM;
	memcpy((char *)to + off, data, n);
	put_bytes += n;
	return 0;
}

/* A file with 4 KiB of data in each MiB, and a last byte. */
static int sparse_file(void)
{
	int fd = memfd_create("image", 0);

	memset(bytes, 0, sizeof(bytes));
	for (unsigned i = 0; i < SIZE; i += 1 << 20)
		memset(bytes + i + 8192, 1 + (int)(i >> 20), 4096);
	bytes[SIZE - 1] = 7;
	for (unsigned i = 0; i < SIZE; i += 1 << 20)
		if (pwrite(fd, bytes + i + 8192, 4096, i + 8192) != 4096)
			return -1;
	return pwrite(fd, bytes + SIZE - 1, 1, SIZE - 1) == 1 ? fd : -1;
}

static int load(int fd, uint64_t size, uint64_t max, uint64_t *n)
{
	put_bytes = 0;
	memset(got, 0, sizeof(got));
	return image_load(fd, size, max, put, got, n);
}

static bool pipe_from(const char *p, size_t len, int *fd)
{
	int fds[2];

	if (pipe(fds))
		return false;
	*fd = fds[0];
	if (fork() == 0)
		_exit(write_all(fds[1], p, len, -1) != 0);
	close(fds[1]);
	return true;
}

static void test_load(void)
{
	int fd = sparse_file(), in;
	uint64_t n;
	bool ok;

	put_max = UINT64_MAX;
	ok = load(fd, SIZE, SIZE, &n) == 0 && n == SIZE && !memcmp(got, bytes, SIZE);
	CHECK("load: a sparse file, only what is not zero of it", ok && put_bytes == 6 * 4096);
	ok = lseek(fd, 0, SEEK_SET) == 0 && pipe_from(bytes, SIZE, &in) && load(in, 0, SIZE, &n) == 0 && n == SIZE && !memcmp(got, bytes, SIZE);
	CHECK("load: the same from a pipe", ok && put_bytes == 6 * 4096);
	ok = pipe_from(bytes, SIZE, &in) && load(in, 0, SIZE - 1, &n) == -EFBIG;
	CHECK("load: more than there is room for", ok);
	put_max = 3 * 4096;
	ok = lseek(fd, 0, SEEK_SET) == 0 && load(fd, SIZE, SIZE, &n) == -ENOMEM && n < SIZE;
	CHECK("load: no memory, at the piece where that is so", ok && n == 3 << 20);
	put_max = UINT64_MAX;
	ok = lseek(fd, 4097, SEEK_SET) == 4097 && load(fd, SIZE - 4097, SIZE, &n) == 0 && !memcmp(got, bytes + 4097, SIZE - 4097);
	CHECK("load: from where the descriptor stands", ok);
	ok = ftruncate(fd, 2 << 20) == 0 && lseek(fd, 0, SEEK_SET) == 0 && load(fd, SIZE, SIZE, &n) == -EIO;
	CHECK("load: a file that has lost its end is an error", ok);
	ok = ftruncate(fd, 0) == 0 && ftruncate(fd, SIZE) == 0 && lseek(fd, 0, SEEK_SET) == 0 && load(fd, SIZE, SIZE, &n) == 0 && !put_bytes;
	CHECK("load: nothing but a hole", ok);
	close(fd);
}

static void test_save(void)
{
	int fd = sparse_file(), to = memfd_create("saved", 0);
	struct stat st;
	bool reads, ok;

	ok = image_save(fd, to, SIZE, true, &reads) == 0 && fstat(to, &st) == 0 && st.st_size == SIZE && st.st_blocks == 6 * 8 &&
	     pread(to, got, SIZE, 0) == SIZE && !memcmp(got, bytes, SIZE);
	CHECK("save: sparse, and the same", ok);
	ok = image_save(fd, to, SIZE + 1, true, &reads) == -EIO && reads;
	CHECK("save: a disk that ends early is its error", ok);
	close(to);
	to = open("/dev/full", O_WRONLY);
	ok = image_save(fd, to, SIZE, false, &reads) == -ENOSPC && !reads;
	CHECK("save: and no space is not", ok);
	close(to);
	close(fd);
}

int main(void)
{
	test_begin();
	quiet = true;
	test_load();
	test_save();
	return test_end();
}
