/* SPDX-License-Identifier: MIT */
/* stop-and-del N: STOP_DEV and DEL_DEV of a device; prints the microseconds until both have been answered. */
#include "include/ublk_cmd.h"
#include "uring.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static struct io_uring_sqe *prepare(struct uring *ring, int fd, uint32_t id, unsigned nr)
{
	const struct ublksrv_ctrl_cmd cmd = { .dev_id = id, .queue_id = UINT16_MAX };
	struct io_uring_sqe *sqe = uring_get_sqe(ring);

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = UBLK_IOC(UBLK_IOC_WR, nr, sizeof(cmd));
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	return sqe;
}

int main(int argc, char **argv)
{
	const uint32_t id = argc > 1 ? (uint32_t)atoi(argv[1]) : 0;
	const int fd = open("/dev/ublk-control", O_RDWR);
	struct uring ring = URING_NONE;
	struct io_uring_cqe cqe;
	long from;

	if (fd < 0 || uring_init(&ring, 4, IORING_SETUP_SQE128))
		return 1;
	prepare(&ring, fd, id, UBLK_CMD_STOP_DEV)->flags |= IOSQE_IO_LINK;
	prepare(&ring, fd, id, UBLK_CMD_DEL_DEV);
	from = now_us();
	if (uring_enter(&ring, 2, 10000) < 0)
		return 1;
	printf("%ld\n", now_us() - from);
	while (uring_next_cqe(&ring, &cqe))
		if (cqe.res)
			return 1;
	return 0;
}
