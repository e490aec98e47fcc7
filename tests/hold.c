/* SPDX-License-Identifier: MIT */
/* hold FILE: maps its first page, closes it, says "held" and sleeps: a user that no descriptor shows. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
	volatile char *p = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED) {
		perror(argc == 2 ? argv[1] : "hold FILE");
		return 1;
	}
	(void)*p;
	close(fd);
	puts("held");
	fflush(stdout);
	for (;;)
		pause();
}
