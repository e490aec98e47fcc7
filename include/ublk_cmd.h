/* SPDX-License-Identifier: MIT */
/*
 * The part of the ublk ABI that this program uses, under the kernel's own
 * names and numbers (include/uapi/linux/ublk_cmd.h), so that it builds without
 * kernel headers. Sectors here are always 512 bytes.
 */
#ifndef UBLK_CMD_H
#define UBLK_CMD_H

#include <stddef.h>
#include <stdint.h>

/*
 * Commands. On Linux 6.4 and later they are encoded like ioctls, with the size
 * of the structure that travels in the SQE; 6.0 to 6.3 know the bare numbers only.
 */
enum {
	UBLK_CMD_GET_QUEUE_AFFINITY = 0x01,
	UBLK_CMD_GET_DEV_INFO = 0x02,
	UBLK_CMD_ADD_DEV = 0x04,
	UBLK_CMD_DEL_DEV = 0x05,
	UBLK_CMD_START_DEV = 0x06,
	UBLK_CMD_STOP_DEV = 0x07,
	UBLK_CMD_SET_PARAMS = 0x08,
	UBLK_CMD_GET_PARAMS = 0x09,
	UBLK_CMD_START_USER_RECOVERY = 0x10,
	UBLK_CMD_END_USER_RECOVERY = 0x11,
	UBLK_CMD_GET_DEV_INFO2 = 0x12,	/* 6.3 */
	UBLK_CMD_GET_FEATURES = 0x13,	/* 6.5 */
	UBLK_CMD_DEL_DEV_ASYNC = 0x14,	/* 6.9 */
	UBLK_CMD_UPDATE_SIZE = 0x15,	/* 6.16 */
	UBLK_CMD_TRY_STOP_DEV = 0x17,	/* 7.0 */

	UBLK_IO_FETCH_REQ = 0x20,
	UBLK_IO_COMMIT_AND_FETCH_REQ = 0x21,
	UBLK_IO_NEED_GET_DATA = 0x22,
};

/* _IOC(): direction 1 is write, 2 is read, both as the kernel defines them */
#define UBLK_IOC(dir, nr, size)	((uint32_t)(dir) << 30 | (uint32_t)(size) << 16 | 'u' << 8 | (nr))
#define UBLK_IOC_R		2
#define UBLK_IOC_WR		3

/* What the driver can do and what a device is to do: info.flags, GET_FEATURES */
#define UBLK_F_NEED_GET_DATA		(1ULL << 2)
#define UBLK_F_USER_RECOVERY		(1ULL << 3)	/* 6.1 */
#define UBLK_F_USER_RECOVERY_REISSUE	(1ULL << 4)	/* 6.1 */
#define UBLK_F_UNPRIVILEGED_DEV		(1ULL << 5)	/* 6.3 */
#define UBLK_F_CMD_IOCTL_ENCODE		(1ULL << 6)
#define UBLK_F_UPDATE_SIZE		(1ULL << 10)	/* 6.16 */
#define UBLK_F_AUTO_BUF_REG		(1ULL << 11)	/* 6.16 */
#define UBLK_F_QUIESCE			(1ULL << 12)	/* 6.16 */
#define UBLK_F_BUF_REG_OFF_DAEMON	(1ULL << 14)	/* 6.17 */
#define UBLK_F_SAFE_STOP_DEV		(1ULL << 17)
#define UBLK_F_NO_AUTO_PART_SCAN	(1ULL << 18)

#define UBLK_FEATURES_LEN	8	/* bytes that GET_FEATURES writes */

/* info.state */
#define UBLK_S_DEV_DEAD		0
#define UBLK_S_DEV_LIVE		1
#define UBLK_S_DEV_QUIESCED	2
#define UBLK_S_DEV_FAIL_IO	3

/* Result of a FETCH or COMMIT: what the driver wants of the tag */
#define UBLK_IO_RES_OK			0
#define UBLK_IO_RES_NEED_GET_DATA	1
#define UBLK_IO_RES_ABORT		(-ENODEV)

#define UBLK_MAX_QUEUE_DEPTH	4096
#define UBLK_MAX_NR_QUEUES	4096
#define UBLK_MAX_UBLKS		(1 << 20)

/* Control command: in the SQE of a command to /dev/ublk-control */
struct ublksrv_ctrl_cmd {
	uint32_t dev_id;
	uint16_t queue_id;	/* 0xffff where the command is not for a queue */
	uint16_t len;		/* of the buffer at addr */
	uint64_t addr;
	uint64_t data[1];
	uint16_t dev_path_len;
	uint16_t pad;
	uint32_t reserved;
};
_Static_assert(sizeof(struct ublksrv_ctrl_cmd) == 32, "ublk ABI");

/* ADD_DEV, GET_DEV_INFO */
struct ublksrv_ctrl_dev_info {
	uint16_t nr_hw_queues;
	uint16_t queue_depth;
	uint16_t state;
	uint16_t io_desc_size;
	uint32_t max_io_buf_bytes;
	uint32_t dev_id;
	int32_t ublksrv_pid;
	uint32_t pad1;
	uint64_t flags;
	uint64_t ublksrv_flags;	/* ours: the driver keeps it and hands it back */
	uint32_t owner_uid;
	uint32_t owner_gid;
	uint64_t reserved1;
	uint64_t reserved2;
};
_Static_assert(sizeof(struct ublksrv_ctrl_dev_info) == 64, "ublk ABI");

#define UBLK_ATTR_READ_ONLY		(1 << 0)
#define UBLK_ATTR_VOLATILE_CACHE	(1 << 2)
#define UBLK_ATTR_FUA			(1 << 3)

struct ublk_param_basic {
	uint32_t attrs;
	uint8_t logical_bs_shift;
	uint8_t physical_bs_shift;
	uint8_t io_opt_shift;
	uint8_t io_min_shift;
	uint32_t max_sectors;
	uint32_t chunk_sectors;
	uint64_t dev_sectors;
	uint64_t virt_boundary_mask;
};
_Static_assert(sizeof(struct ublk_param_basic) == 32, "ublk ABI");

struct ublk_param_discard {
	uint32_t discard_alignment;
	uint32_t discard_granularity;
	uint32_t max_discard_sectors;
	uint32_t max_write_zeroes_sectors;
	uint16_t max_discard_segments;
	uint16_t reserved0;
};
_Static_assert(sizeof(struct ublk_param_discard) == 20, "ublk ABI");

struct ublk_param_devt {
	uint32_t char_major;
	uint32_t char_minor;
	uint32_t disk_major;
	uint32_t disk_minor;
};

struct ublk_param_zoned {
	uint32_t unused[8];
};

struct ublk_param_dma_align {
	uint32_t alignment;	/* a mask: 511 for 512 bytes */
	uint8_t pad[4];
};

struct ublk_param_segment {
	uint64_t seg_boundary_mask;
	uint32_t max_segment_size;	/* bytes */
	uint16_t max_segments;
	uint8_t pad[2];
};

#define UBLK_PARAM_TYPE_BASIC	(1 << 0)
#define UBLK_PARAM_TYPE_DISCARD	(1 << 1)
#define UBLK_PARAM_TYPE_DMA_ALIGN (1 << 4)	/* 6.15 */
#define UBLK_PARAM_TYPE_SEGMENT	(1 << 5)	/* 6.16 */

/* SET_PARAMS, GET_PARAMS: the driver takes a shorter structure than its own */
struct ublk_params {
	uint32_t len;
	uint32_t types;		/* UBLK_PARAM_TYPE_* that are filled in */
	struct ublk_param_basic basic;
	struct ublk_param_discard discard;
	struct ublk_param_devt devt;
	struct ublk_param_zoned zoned;
	struct ublk_param_dma_align dma;
	struct ublk_param_segment seg;
};
_Static_assert(sizeof(struct ublk_params) == 136, "ublk ABI");
_Static_assert(offsetof(struct ublk_params, dma) == 108, "ublk ABI");
_Static_assert(offsetof(struct ublk_params, seg) == 120, "ublk ABI");

#define UBLK_IO_OP_READ		0
#define UBLK_IO_OP_WRITE	1
#define UBLK_IO_OP_FLUSH	2
#define UBLK_IO_OP_DISCARD	3
#define UBLK_IO_OP_WRITE_ZEROES	5

#define UBLK_IO_F_FUA		(1U << 13)
#define UBLK_IO_F_NOUNMAP	(1U << 15)
#define UBLK_IO_F_SWAP		(1U << 16)

/* One request, written by the driver into the array mapped from /dev/ublkcN */
struct ublksrv_io_desc {
	uint32_t op_flags;	/* bits 0-7 UBLK_IO_OP_*, the rest UBLK_IO_F_* */
	uint32_t nr_sectors;
	uint64_t start_sector;
	uint64_t addr;
};
_Static_assert(sizeof(struct ublksrv_io_desc) == 24, "ublk ABI");

/* Data command: in the SQE of a command to /dev/ublkcN */
struct ublksrv_io_cmd {
	uint16_t q_id;
	uint16_t tag;
	int32_t result;		/* COMMIT: bytes or -errno */
	uint64_t addr;		/* where the data of the request is or is to go */
};
_Static_assert(sizeof(struct ublksrv_io_cmd) == 16, "ublk ABI");

#endif
