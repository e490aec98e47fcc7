/* SPDX-License-Identifier: MIT */
/*
 * overlap: writes a page of a device while another thread discards it or fills
 * it with zeroes, and then looks whether the device knows what it has.
 *
 *	overlap DEVICE ROUNDS	prints the rounds in which it did not; status 1 if any
 *
 * Once both are done either may have been the last. But a READ of the page and
 * one of more than the page must say the same; a sector that is filled with
 * zeroes after that is zero, and stays so when its neighbour is written.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { PAGE = 4096, SECTOR = 512, PAGES = 64 };

static int fd;
static unsigned rounds;
static pthread_barrier_t barrier;
static char small[PAGE] __attribute__((aligned(4096)));
static char large[2 * PAGE] __attribute__((aligned(4096)));
static char aa[PAGE] __attribute__((aligned(4096)));

static off_t page_of(unsigned round)
{
	return (off_t)(round % PAGES) * 2 * PAGE;
}

static void zero(unsigned long how, off_t off, uint64_t len)
{
	uint64_t range[2] = { (uint64_t)off, len };

	if (ioctl(fd, how, range))
		err(2, "discard or zero %lld", (long long)off);
}

/* Waits a little, differently in each round: which of the two is first is to vary. */
static void spin(unsigned n)
{
	for (volatile unsigned i = 0; i < n; i++)
		;
}

static void *discarder(void *arg)
{
	for (unsigned i = 0; i < rounds; i++) {
		pthread_barrier_wait(&barrier);
		spin(i * 7919 % 3000);
		zero(i & 1 ? BLKZEROOUT : BLKDISCARD, page_of(i), PAGE);
		pthread_barrier_wait(&barrier);
	}
	return arg;
}

/* Keeps the server busy elsewhere, so that what the two want comes to it together. */
static void *other(void *arg)
{
	static char page[PAGE] __attribute__((aligned(4096)));

	for (off_t i = 0;; i++)
		if (pwrite(fd, page, PAGE, page_of(PAGES - 1) + (off_t)(2 + i % 64) * PAGE) != PAGE)
			err(2, "write");
	return arg;
}

static void must(ssize_t ret, size_t len)
{
	if (ret != (ssize_t)len)
		err(2, "read or write");
}

/* Does the device say the same however it is asked? */
static int holds(off_t off)
{
	static const char zeroes[SECTOR];

	must(pread(fd, small, PAGE, off), PAGE);
	must(pread(fd, large, 2 * PAGE, off), 2 * PAGE);
	if (memcmp(small, large, PAGE))
		return 0;
	zero(BLKZEROOUT, off + SECTOR, SECTOR);
	must(pwrite(fd, aa, SECTOR, off), SECTOR);
	must(pread(fd, small, PAGE, off), PAGE);
	return !memcmp(small + SECTOR, zeroes, SECTOR) && !memcmp(small, aa, SECTOR);
}

int main(int argc, char **argv)
{
	unsigned wrong = 0;
	pthread_t thread, noise;

	if (argc != 3)
		errx(2, "usage: overlap DEVICE ROUNDS");
	fd = open(argv[1], O_RDWR | O_DIRECT);
	if (fd < 0)
		err(2, "%s", argv[1]);
	rounds = (unsigned)atoi(argv[2]);
	memset(aa, 0xaa, sizeof(aa));
	for (unsigned i = 0; i < PAGES; i++)	/* the pages between them are there */
		must(pwrite(fd, aa, PAGE, page_of(i) + PAGE), PAGE);
	if (pthread_barrier_init(&barrier, NULL, 2) || pthread_create(&thread, NULL, discarder, NULL) ||
	    pthread_create(&noise, NULL, other, NULL))
		errx(2, "no thread");
	for (unsigned i = 0; i < rounds; i++) {
		must(pwrite(fd, aa, PAGE, page_of(i)), PAGE);
		pthread_barrier_wait(&barrier);
		spin(i * 104729 % 3000);
		must(pwrite(fd, aa, PAGE, page_of(i)), PAGE);
		pthread_barrier_wait(&barrier);
		wrong += !holds(page_of(i));
	}
	pthread_join(thread, NULL);
	printf("%u of %u rounds wrong\n", wrong, rounds);
	return wrong != 0;
}
