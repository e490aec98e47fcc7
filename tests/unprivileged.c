/* SPDX-License-Identifier: MIT */
/* unprivileged: ADD_DEV of a device that belongs to whoever runs this; prints its number, and leaves it unstarted. */
#include "include/ublk_cmd.h"
#include "uring.h"

#include <fcntl.h>
#include <stdio.h>

int main(void)
{
	struct ublksrv_ctrl_dev_info info = {
		.nr_hw_queues = 1, .queue_depth = 16, .max_io_buf_bytes = 1 << 20, .dev_id = UINT32_MAX, .ublksrv_pid = -1,
		.flags = 1ULL << 5,	/* UBLK_F_UNPRIVILEGED_DEV */
	};
	const struct ublksrv_ctrl_cmd cmd = {
		.dev_id = UINT32_MAX, .queue_id = UINT16_MAX, .addr = (uintptr_t)&info, .len = sizeof(info),
	};
	struct uring ring = URING_NONE;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe cqe = { .res = -1 };
	int fd = open("/dev/ublk-control", O_RDWR);

	if (fd < 0 || uring_init(&ring, 4, IORING_SETUP_SQE128))
		return 1;
	sqe = uring_get_sqe(&ring);
	memset((char *)ring.sqe_map, 0, ring.sqe_len);	/* SQEs of 128 bytes */
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = UBLK_IOC(UBLK_IOC_WR, UBLK_CMD_ADD_DEV, sizeof(cmd));
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	if (uring_enter(&ring, 1, 10000) < 0 || !uring_next_cqe(&ring, &cqe) || cqe.res < 0) {
		printf("%d\n", cqe.res);
		return 1;
	}
	printf("%u\n", info.dev_id);
	return 0;
}
