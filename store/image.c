/* SPDX-License-Identifier: MIT */
/* image: see image.h. */
#include "store/image.h"
#include "lib/say.h"
#include "lib/sys.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define PIECE	(1U << 20)	/* that is read at once */
#define UNIT	4096U		/* that a hole is made of */

static bool is_zero(const char *p, size_t n)
{
	return !p[0] && !memcmp(p, p + 1, n - 1);
}

static size_t unit_len(size_t at, size_t n)
{
	return n - at < UNIT ? n - at : UNIT;
}

/* From at on: how many bytes are alike, in whole units but for the last, all of them zero or none? */
static size_t run_of(const char *piece, size_t at, size_t n, bool *zero)
{
	size_t end = at;

	*zero = is_zero(piece + at, unit_len(at, n));
	do
		end += unit_len(end, n);
	while (end < n && is_zero(piece + end, unit_len(end, n)) == *zero);
	return end - at;
}

/* As many bytes as fit, unless there are no more. Returns bytes or -errno. */
static ssize_t read_all(int fd, char *piece)
{
	size_t n = 0;

	while (n < PIECE) {
		ssize_t got = read(fd, piece + n, PIECE - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

static int image_take(const char *piece, size_t n, uint64_t off, image_put *put, void *to)
{
	size_t len;
	bool zero;
	int ret = 0;

	for (size_t at = 0; at < n && !ret; at += len) {
		len = run_of(piece, at, n, &zero);
		ret = zero ? 0 : put(to, off + at, piece + at, len);
	}
	return ret;
}

/* Over a hole of the file. Where it stands then, in bytes from where it stood at first. */
static uint64_t skip_hole(int fd, off_t start, uint64_t off, uint64_t size)
{
	off_t data = start < 0 ? -1 : lseek(fd, start + (off_t)off, SEEK_DATA);

	if (data < 0 && start >= 0 && errno == ENXIO && lseek(fd, 0, SEEK_END) >= start + (off_t)size)
		return size;	/* nothing but a hole to the end, which is where it was */
	if (data < 0) {
		if (start >= 0)
			(void)lseek(fd, start + (off_t)off, SEEK_SET);
		return off;
	}
	/* data that stays where it is in a page */
	off += (uint64_t)(data - start - (off_t)off) / PIECE * PIECE;
	(void)lseek(fd, start + (off_t)off, SEEK_SET);
	return off;
}

int image_load(int fd, uint64_t size, uint64_t max, image_put *put, void *to, uint64_t *got)
{
	const off_t start = size ? lseek(fd, 0, SEEK_CUR) : -1;
	char *piece = pages_get(PIECE);
	ssize_t n = 1;
	int ret = piece ? 0 : -ENOMEM;

	*got = 0;
	while (!ret && n) {
		*got = skip_hole(fd, start, *got, size);
		if (size && *got >= size)
			break;
		n = read_all(fd, piece);
		if (n < 0)
			ret = (int)n;
		else if (*got + (uint64_t)n > max)
			ret = -EFBIG;
		else
			ret = image_take(piece, (size_t)n, *got, put, to);
		if (!ret) {
			*got += (uint64_t)n;
			if (size)
				progress("loaded", *got < size ? *got : size, size);
		}
	}
	if (!ret && *got < size)
		ret = -EIO;	/* it has lost its end: cut off, or pulled out */
	pages_put(piece, PIECE);
	return ret;
}

static int image_put_piece(int to, const char *piece, size_t n, bool sparse)
{
	size_t len;
	bool zero;
	int ret = 0;

	if (!sparse)
		return write_all(to, piece, n, -1);
	for (size_t at = 0; at < n && !ret; at += len) {
		len = run_of(piece, at, n, &zero);
		if (!zero)
			ret = write_all(to, piece + at, len, -1);
		else if (lseek(to, (off_t)len, SEEK_CUR) < 0)
			ret = -errno;
	}
	return ret;
}

int image_save(int disk, int to, uint64_t size, bool sparse, bool *reads)
{
	char *piece = pages_get(PIECE);
	int ret = piece ? 0 : -ENOMEM;
	ssize_t n;

	*reads = false;
	for (uint64_t off = 0; off < size && !ret; off += (uint64_t)n) {
		n = pread(disk, piece, PIECE, (off_t)off);
		if (n <= 0) {
			*reads = true;
			ret = n ? -errno : -EIO;	/* it has become smaller */
			break;
		}
		ret = image_put_piece(to, piece, (size_t)n, sparse);
		if (!ret)
			progress("saved", off + (uint64_t)n, size);
	}
	if (!ret && sparse && ftruncate(to, (off_t)size))
		ret = -errno;
	pages_put(piece, PIECE);
	return ret;
}
