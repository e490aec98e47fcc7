/* SPDX-License-Identifier: MIT */
/*
 * hold FILE: maps its first page, closes it, says "held" and sleeps: a user that
 * no descriptor shows. hold path FILE: opens it by O_PATH, which holds nothing.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static int map(const char *file)
{
	int fd = open(file, O_RDONLY);
	volatile char *p = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -1;
	(void)*p;
	return close(fd);
}

int main(int argc, char **argv)
{
	if (argc < 2 || (argc == 2 ? map(argv[1]) : open(argv[2], O_PATH)) < 0) {
		perror("hold");
		return 1;
	}
	puts("held");
	fflush(stdout);
	for (;;)
		pause();
}
