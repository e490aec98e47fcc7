/* SPDX-License-Identifier: MIT */
/*
 * image: the content of a disk in one piece, from a file or into one. What is
 * zero is neither written nor taken memory for.
 */
#ifndef STORE_IMAGE_H
#define STORE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

/* Where image_load() puts n bytes, in units of 4 KiB but for the last. Returns 0 or -errno. */
typedef int image_put(void *to, uint64_t off, const char *data, uint64_t n);

/*
 * Read all there is to read from fd, from where it stands, and hand out what is
 * not zero. size: how much that will be, for the progress; 0: not known, as of a
 * pipe. *got, in bytes, counts what has been read.
 * Returns 0, -EFBIG at the first byte beyond max, -EIO if it ends before size, or
 * -errno, of put() as well.
 */
int image_load(int fd, uint64_t size, uint64_t max, image_put *put, void *to, uint64_t *got);

/*
 * Copy size bytes of a disk to a new file, for the caller to sync; sparse: leave
 * holes where it is zero. Returns 0 or -errno; *reads: it was the disk that could
 * not be read.
 */
int image_save(int disk, int to, uint64_t size, bool sparse, bool *reads);

#endif
