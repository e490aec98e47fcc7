/* SPDX-License-Identifier: MIT */
/*
 * model: reads, writes, discards and zeroes a device at random, many at once, and
 * compares all of it with a model in memory.
 *
 *	model DEVICE OPS THREADS SEED FILE	FILE has what is on the device now, and
 *						will have what is to be on it. Status 1:
 *						the device is not as the model; prints where
 *	model DEVICE 0 0 0 FILE			only compares
 *	model ... nodiscard			zeroes, but discards nothing: of part of a page
 *						that need not become zeroes
 *
 * Requests under way at the same time share pages, but no sectors unless they
 * only read: what comes of that nobody promises. A request is of 512 bytes to
 * 1 MiB, most of them small.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SECTOR = 512, LARGEST = 1 << 20 };

static int fd;
static uint64_t size;
static char *model;
static int16_t *users;		/* of each sector: -1 is being changed, else how many read it */
static long ops_left;
static unsigned wrong;
static int discards = 1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

struct request {
	enum { READ, WRITE, DISCARD, ZERO } op;
	uint64_t off, len;
};

static uint32_t draw(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*seed >> 33);
}

/* Take the sectors of a request, or none: another one has some. */
static int take(const struct request *r)
{
	const uint64_t first = r->off / SECTOR, end = first + r->len / SECTOR;
	int ok = ops_left > 0;

	for (uint64_t s = first; s < end && ok; s++)
		ok = r->op == READ ? users[s] >= 0 : users[s] == 0;
	for (uint64_t s = first; s < end && ok; s++)
		users[s] = r->op == READ ? users[s] + 1 : -1;
	ops_left -= ok;
	return ok;
}

static void give_back(const struct request *r)
{
	for (uint64_t s = r->off / SECTOR; s < (r->off + r->len) / SECTOR; s++)
		users[s] = r->op == READ ? users[s] - 1 : 0;
}

static int differs(const char *buf, const struct request *r)
{
	for (uint64_t i = 0; i < r->len; i += SECTOR) {
		if (!memcmp(buf + i, model + r->off + i, SECTOR))
			continue;
		printf("at %llu: %02x, not %02x; a read of %llu from %llu\n", (unsigned long long)(r->off + i), (unsigned char)buf[i],
		       (unsigned char)model[r->off + i], (unsigned long long)r->len, (unsigned long long)r->off);
		return 1;
	}
	return 0;
}

static void run(const struct request *r, char *buf, uint64_t *seed)
{
	uint64_t range[2] = { r->off, r->len };

	switch (r->op) {
	case READ:
		if (pread(fd, buf, r->len, (off_t)r->off) != (ssize_t)r->len)
			err(2, "read %llu at %llu", (unsigned long long)r->len, (unsigned long long)r->off);
		wrong += differs(buf, r);
		return;
	case WRITE:
		for (uint64_t i = 0; i < r->len; i += 4)
			*(uint32_t *)(buf + i) = draw(seed) | 1;
		if (pwrite(fd, buf, r->len, (off_t)r->off) != (ssize_t)r->len)
			err(2, "write %llu at %llu", (unsigned long long)r->len, (unsigned long long)r->off);
		memcpy(model + r->off, buf, r->len);
		return;
	case DISCARD:
	case ZERO:
		if (ioctl(fd, r->op == ZERO ? BLKZEROOUT : BLKDISCARD, range))
			err(2, "discard or zero %llu at %llu", (unsigned long long)r->len, (unsigned long long)r->off);
		memset(model + r->off, 0, r->len);
		return;
	}
}

static void choose(struct request *r, uint64_t *seed)
{
	static const int ops[] = { READ, READ, READ, WRITE, WRITE, WRITE, DISCARD, ZERO };
	const uint64_t sectors = size / SECTOR;
	uint64_t nr = 1 + draw(seed) % (draw(seed) % 8 ? 24 : draw(seed) % 4 ? 256 : LARGEST / SECTOR);

	r->op = ops[draw(seed) % 8];
	if (r->op == DISCARD && !discards)
		r->op = ZERO;
	r->off = draw(seed) % sectors * SECTOR;
	r->len = nr * SECTOR < size - r->off ? nr * SECTOR : size - r->off;
}

static void *worker(void *arg)
{
	uint64_t seed = (uintptr_t)arg;
	struct request r;
	void *buf;
	int taken;

	if (posix_memalign(&buf, 4096, LARGEST))
		errx(2, "no memory");
	for (;;) {
		choose(&r, &seed);
		pthread_mutex_lock(&mutex);
		if (ops_left <= 0)
			break;
		taken = take(&r);
		pthread_mutex_unlock(&mutex);
		if (!taken)
			continue;
		run(&r, buf, &seed);
		pthread_mutex_lock(&mutex);
		give_back(&r);
		pthread_mutex_unlock(&mutex);
	}
	pthread_mutex_unlock(&mutex);
	free(buf);
	return NULL;
}

static void compare(void)
{
	struct request r = { .op = READ };
	uint64_t seed = 0;
	void *buf;

	if (posix_memalign(&buf, 4096, LARGEST))
		errx(2, "no memory");
	for (; r.off < size; r.off += r.len) {
		r.len = size - r.off < LARGEST ? size - r.off : LARGEST;
		run(&r, buf, &seed);
	}
	free(buf);
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	int nr, file;

	discards = argc == 6;
	if (argc != 6 && argc != 7)
		errx(2, "usage: model DEVICE OPS THREADS SEED FILE [nodiscard]");
	fd = open(argv[1], O_RDWR | O_DIRECT);
	file = open(argv[5], O_RDWR);
	if (fd < 0 || file < 0)
		err(2, "%s", fd < 0 ? argv[1] : argv[5]);
	size = (uint64_t)lseek(fd, 0, SEEK_END);
	if ((uint64_t)lseek(file, 0, SEEK_END) < size)
		errx(2, "%s is smaller than the device", argv[5]);
	model = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	users = calloc(size / SECTOR, sizeof(*users));
	if (model == MAP_FAILED || !users)
		err(2, "memory");
	ops_left = atol(argv[2]);
	nr = atoi(argv[3]);
	for (int i = 0; i < nr && i < 64; i++)
		if (pthread_create(&threads[i], NULL, worker, (void *)(uintptr_t)(atol(argv[4]) * 64 + i)))
			errx(2, "no thread");
	for (int i = 0; i < nr && i < 64; i++)
		pthread_join(threads[i], NULL);
	if (!wrong)
		compare();
	return wrong != 0;
}
