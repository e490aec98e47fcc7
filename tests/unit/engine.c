/* SPDX-License-Identifier: MIT */
/* ublk.c: requests and commits, without a driver */
#include "tests/unit/test.h"
#include "ublk.c"
#include "tests/unit/fake.h"

/* ---- control command numbers ---- */

static void test_encoding(void)
{
	CHECK("command numbers, both encodings",
	      cmd_encode(ENC_IOCTL, UBLK_CMD_ADD_DEV, 32) == 0xc0207504 &&
	      cmd_encode(ENC_IOCTL, UBLK_CMD_GET_FEATURES, 32) == 0x80207513 &&
	      cmd_encode(ENC_IOCTL, UBLK_IO_FETCH_REQ, 16) == 0xc0107520 &&
	      cmd_encode(ENC_LEGACY, UBLK_CMD_ADD_DEV, 32) == 4);
}

/* ---- requests: what the loop lets through ---- */

static struct ublksrv_io_desc test_iods[4];
static struct dev test_dev = {
	.size = 1 << 20, .block_size = 512, .max_io = 64 << 10, .max_discard = 1 << 20,
	.max_write_zeroes = 1 << 20,
};
static struct server test_server = { .nr_queues = 1 };
static char test_bufs[4 * (64 << 10)];
static uint32_t test_rooms[4];
static uint16_t test_unused[4], test_spent[4];
static struct io *test_waits[4];
static struct queue test_queue = {
	.iods = test_iods, .dev = &test_dev, .s = &test_server, .bufs = test_bufs, .buf_len = 64 << 10,
	.rooms = test_rooms, .unused = test_unused, .spent = test_spent, .waits = test_waits,
};

static int check_iod(unsigned op, uint64_t sector, uint32_t sectors)
{
	struct io io = { .tag = 2 };

	test_iods[2] = (struct ublksrv_io_desc){ .op_flags = op, .start_sector = sector, .nr_sectors = sectors };
	io_read_iod(&test_queue, &io);
	return io_check(&test_dev, &io);
}

static void test_io_check(void)
{
	CHECK("requests inside the device pass",
	      !check_iod(UBLK_IO_OP_READ, 0, 8) && !check_iod(UBLK_IO_OP_WRITE, 2047, 1) &&
	      !check_iod(UBLK_IO_OP_DISCARD, 0, 2048) && !check_iod(UBLK_IO_OP_FLUSH, 0, 0) &&
	      !check_iod(UBLK_IO_OP_FLUSH, UINT64_MAX, UINT32_MAX));
	CHECK("requests outside the device are errors",
	      check_iod(UBLK_IO_OP_READ, 2048, 1) == -EIO && check_iod(UBLK_IO_OP_READ, 2047, 2) == -EIO &&
	      check_iod(UBLK_IO_OP_WRITE, UINT64_MAX, 1) == -EIO &&
	      check_iod(UBLK_IO_OP_WRITE, UINT64_MAX >> 9, 1) == -EIO &&
	      check_iod(UBLK_IO_OP_READ, 1ULL << 55, 8) == -EIO &&
	      check_iod(UBLK_IO_OP_DISCARD, 1, 2048) == -EIO &&
	      check_iod(UBLK_IO_OP_DISCARD, 8, UINT32_MAX) == -EIO);
	CHECK("empty, overlong and unknown requests are errors",
	      check_iod(UBLK_IO_OP_READ, 0, 0) == -EIO && check_iod(UBLK_IO_OP_READ, 0, 129) == -EIO &&
	      check_iod(UBLK_IO_OP_READ, 0, UINT32_MAX) == -EIO && check_iod(4, 0, 1) == -EOPNOTSUPP &&
	      check_iod(255, 0, 1) == -EOPNOTSUPP);
	test_dev.read_only = true;
	test_dev.block_size = 4096;
	CHECK("writes to a read-only device and part blocks are errors",
	      check_iod(UBLK_IO_OP_WRITE, 0, 8) == -EIO && check_iod(UBLK_IO_OP_WRITE_ZEROES, 0, 8) == -EIO &&
	      check_iod(UBLK_IO_OP_READ, 0, 8) == 0 && check_iod(UBLK_IO_OP_READ, 0, 1) == -EIO);
	test_dev.read_only = false;
	test_dev.block_size = 512;
}

/* ---- commits: each request once, whole or as an error ---- */

static struct io test_ios[4], test_late[4], *test_held[4];
static int backend_result;
static unsigned completed;	/* calls of canned_complete() */
static bool keep_held;		/* the turn goes on */
static bool keep_spent;		/* the kernel has not seen the commits */

/* No request is under way, and the next one is tag 1's. */
static void fresh(void)
{
	memset(test_ios, 0, sizeof(test_ios));
	for (uint16_t i = 0; i < 4; i++) {
		test_ios[i].tag = i;
		test_rooms[i] = 64 << 10;
		test_unused[i] = i;
	}
	test_queue.nr_unused = 4;
	test_queue.nr_spent = test_queue.nr_waits = test_queue.getting = 0;
	test_queue.freed = false;
}

static int canned_queue(struct queue *q, struct io *io)
{
	io->buf = (void *)0x1000;
	if (backend_result == IO_QUEUED_LAST)
		(void)io_sqe(q, io);
	return backend_result;
}

static int canned_complete(struct queue *q, struct io *io, int res)
{
	(void)q, (void)io;
	completed++;
	return res;
}

static const struct backend canned = { .name = "canned", .queue = canned_queue, .complete = canned_complete };

/* The commands that a CQE leads to: how many, and the last one. */
static unsigned commands(struct fake *f, uint64_t user_data, int res, struct ublksrv_io_cmd *cmd, uint32_t *op)
{
	struct io_uring_cqe cqe = { .user_data = user_data, .res = res };
	uint32_t before = f->ring.sq_tail;
	const struct io_uring_sqe *sqe;
	unsigned nr;

	test_queue.ring = f->ring;
	queue_dispatch(&test_queue, &cqe);
	if (!keep_held)
		queue_commit_held(&test_queue);
	f->ring = test_queue.ring;
	if (f->ring.sq_tail == before)
		return 0;
	sqe = &f->sqes[(f->ring.sq_tail - 1) & f->ring.sq_mask];
	memcpy(cmd, sqe->cmd, sizeof(*cmd));
	*op = sqe->cmd_op;
	fake_take(f, &f->ring);
	nr = f->ring.sq_tail - before;
	test_queue.ring = f->ring;
	if (!keep_spent)
		queue_bufs(&test_queue);
	f->ring = test_queue.ring;
	return nr;
}

/* A request of op, 8 sectors long, answered with res: what is committed? */
static int committed(unsigned op, int res)
{
	struct ublksrv_io_cmd cmd;
	struct fake f;
	uint32_t cmd_op;

	fake_init(&f, 0, 0);
	fresh();
	test_iods[1] = (struct ublksrv_io_desc){ .op_flags = op, .nr_sectors = 8 };
	backend_result = res;
	if (commands(&f, user_data_pack(KIND_IO, 1), 0, &cmd, &cmd_op) != 1 || cmd_op != 0x21 || cmd.tag != 1 ||
	    test_ios[1].state != IO_FETCHED)
		return INT32_MIN;
	return cmd.result;
}

/* GET_DATA and commit at once, for a request in one page. */
static void test_pairs(struct fake *f)
{
	const uint64_t news = user_data_pack(KIND_IO, 1), got = user_data_pack(KIND_GET_DATA, 1);
	struct io *io = &test_ios[1];
	struct ublksrv_io_cmd cmd;
	uint32_t op;
	bool ok;

	test_dev.data_path = DATA_DIRECT;
	test_queue.can_pair = true;
	test_queue.page = 4096;
	backend_result = 4096;
	fresh();
	ok = commands(f, news, 1, &cmd, &op) == 2 && op == 0x21 && cmd.result == 4096 && test_queue.expected == 1 &&
	     commands(f, got, 0, &cmd, &op) == 0 && io->state == IO_FETCHED &&
	     commands(f, news, 1, &cmd, &op) == 2 && commands(f, got, 0, &cmd, &op) == 0 &&
	     commands(f, news, 0, &cmd, &op) == 1 && cmd.result == 4096;
	CHECK("pair: a WRITE of one page is asked for and committed in one go", ok);
	CHECK("pair: a turn waits for no CQE that has come already, whichever turn has taken it", test_queue.expected == 0);
	ok = commands(f, news, 1, &cmd, &op) == 2 && commands(f, news, -EBUSY, &cmd, &op) == 0 &&
	     io->state == IO_GET_DATA && commands(f, got, 1, &cmd, &op) == 2 && op == 0x21 &&
	     commands(f, got, 0, &cmd, &op) == 0 && io->state == IO_FETCHED && test_queue.can_pair;
	CHECK("pair: GET_DATA that finds no memory comes again", ok && test_queue.expected == 0);
	ok = commands(f, news, 1, &cmd, &op) == 2 && commands(f, news, -EBUSY, &cmd, &op) == 0 &&
	     commands(f, got, 0, &cmd, &op) == 1 && op == 0x21 && cmd.result == 4096 && io->state == IO_FETCHED;
	CHECK("pair: a GET_DATA that is answered later is committed later", ok);
	ok = commands(f, news, 1, &cmd, &op) == 2 && commands(f, news, -EBUSY, &cmd, &op) == 0;
	test_iods[1].op_flags = UBLK_IO_OP_DISCARD;
	backend_result = 0;
	ok = ok && commands(f, got, 0, &cmd, &op) == 1 && op == 0x21 && io->op == UBLK_IO_OP_DISCARD && cmd.result == 0;
	CHECK("pair: another request may come in the place of one that found no memory", ok);
	test_iods[1].op_flags = UBLK_IO_OP_WRITE;
	test_queue.can_pair = false;
	backend_result = 4096;
	ok = commands(f, news, 1, &cmd, &op) == 1 && op == 0x22 && commands(f, got, 0, &cmd, &op) == 1 && op == 0x21;
	CHECK("pair: not with a driver that may not take it", ok);
	test_queue.can_pair = true;
	test_iods[1].nr_sectors = 9;
	backend_result = 9 * 512;
	ok = commands(f, news, 1, &cmd, &op) == 1 && op == 0x22 && commands(f, got, 0, &cmd, &op) == 1 && op == 0x21;
	CHECK("pair: not for a WRITE of two pages, whose copy may fall short", ok);
	test_iods[1].nr_sectors = 8;
	backend_result = -ENOSPC;
	ok = commands(f, news, 1, &cmd, &op) == 1 && op == 0x22 && commands(f, got, 0, &cmd, &op) == 1 &&
	     cmd.result == -ENOSPC;
	CHECK("pair: not for an error", ok);
}

static void *place_at;		/* what canned_place() says */
static unsigned misplaced;

static void *canned_place(const struct queue *q, const struct io *io)
{
	(void)q, (void)io;
	return place_at;
}

static void canned_misplaced(const struct queue *q, const struct io *io)
{
	(void)q, (void)io;
	place_at = NULL;
	misplaced++;
}

static const struct backend placing = {
	.name = "placing", .queue = canned_queue, .complete = canned_complete, .place = canned_place, .misplaced = canned_misplaced,
};

/* WRITEs whose data goes to where the backend keeps it, and those that go the other way. */
static void test_places(struct fake *f)
{
	const uint64_t news = user_data_pack(KIND_IO, 1), got = user_data_pack(KIND_GET_DATA, 1);
	struct io *io = &test_ios[1];
	struct ublksrv_io_cmd cmd;
	uint32_t op;
	bool ok;

	test_queue.be = &placing;
	test_dev.data_path = DATA_COPY;
	test_iods[1] = (struct ublksrv_io_desc){ .op_flags = UBLK_IO_OP_WRITE, .nr_sectors = 8 };
	backend_result = -EIO;	/* whoever asks queue() sees that */
	fresh();
	place_at = (void *)0x2000;
	ok = commands(f, news, 1, &cmd, &op) == 2 && op == 0x21 && cmd.result == 4096 && test_queue.expected == 1 &&
	     f->sqes[(f->ring.sq_tail - 2) & f->ring.sq_mask].cmd_op == 0x22 && io->buf == place_at &&
	     commands(f, got, 0, &cmd, &op) == 0 && io->state == IO_FETCHED && !misplaced;
	CHECK("place: a WRITE goes to the backend's memory, and is done", ok);
	place_at = (void *)0x2800;
	ok = commands(f, news, 1, &cmd, &op) == 1 && op == 0x22 && cmd.addr == 0x2800 &&
	     commands(f, got, 0, &cmd, &op) == 1 && op == 0x21 && cmd.result == 4096;
	CHECK("place: in two pages it is done when the data is there", ok);
	ok = commands(f, news, 1, &cmd, &op) == 1 && op == 0x22 && (test_iods[1].nr_sectors = 7) &&
	     commands(f, got, 0, &cmd, &op) == 1 && cmd.result == -EIO && misplaced == 1;
	CHECK("place: a copy that fell short is an error", ok);
	misplaced = 0;
	test_iods[1].nr_sectors = 8;
	place_at = (void *)0x2000;
	backend_result = 4096;
	ok = commands(f, news, 1, &cmd, &op) == 2 && commands(f, news, -EBUSY, &cmd, &op) == 0 && !misplaced &&
	     commands(f, got, 1, &cmd, &op) == 1 && misplaced == 1 && op == 0x22 && !io->placed &&
	     cmd.addr == (uintptr_t)(test_bufs + 3 * (64 << 10)) && commands(f, got, 0, &cmd, &op) == 1 && cmd.result == 4096;
	CHECK("place: where nothing could be copied the backend is told, and asked to write", ok && !test_queue.expected);
	place_at = (void *)0x2800;
	ok = commands(f, news, 1, &cmd, &op) == 1;
	test_iods[1] = (struct ublksrv_io_desc){ .op_flags = UBLK_IO_OP_READ, .nr_sectors = 8 };
	ok = ok && commands(f, got, 0, &cmd, &op) == 1 && misplaced == 2 && op == 0x21 && io->op == UBLK_IO_OP_READ;
	CHECK("place: the same where another request has come instead", ok);
	place_at = (void *)0x2000;
	test_iods[1] = (struct ublksrv_io_desc){ .op_flags = UBLK_IO_OP_WRITE, .nr_sectors = 8, .start_sector = 1 << 20 };
	ok = commands(f, news, 1, &cmd, &op) == 1 && op == 0x22 && cmd.addr != 0x2000 && commands(f, got, 0, &cmd, &op) == 1 &&
	     cmd.result == -EIO;
	CHECK("place: not outside the device", ok);
	test_queue.be = &canned;
	test_iods[1] = (struct ublksrv_io_desc){ .op_flags = UBLK_IO_OP_WRITE, .nr_sectors = 8 };
}

/* A WRITE of 8 sectors comes for a tag: where is its data to go? 0: it waits. */
static uint64_t buf_for(struct fake *f, unsigned tag)
{
	struct ublksrv_io_cmd cmd;
	uint32_t op;

	test_iods[tag] = (struct ublksrv_io_desc){ .op_flags = UBLK_IO_OP_WRITE, .nr_sectors = 8, .start_sector = 8 * tag };
	if (!commands(f, user_data_pack(KIND_IO, tag), 1, &cmd, &op))
		return test_ios[tag].state == IO_WAITS ? 0 : UINT64_MAX;
	return op == 0x22 && cmd.tag == tag ? cmd.addr : UINT64_MAX;
}

/* The data of a tag's WRITE is there. Is it committed? */
static bool buf_got(struct fake *f, unsigned tag)
{
	struct ublksrv_io_cmd cmd;
	uint32_t op;

	return commands(f, user_data_pack(KIND_GET_DATA, tag), 0, &cmd, &op) == 1 && op == 0x21 && cmd.tag == tag &&
	       cmd.result == 4096;
}

/* Which commands has queue_bufs() given out for those who have waited? As digits, the tags. */
static unsigned buf_waited(struct fake *f)
{
	const uint32_t before = f->ring.sq_tail;
	unsigned tags = 0;

	test_queue.ring = f->ring;
	queue_bufs(&test_queue);
	f->ring = test_queue.ring;
	for (uint32_t i = before; i < f->ring.sq_tail; i++)
		tags = 10 * tags + (unsigned)(f->sqes[i & f->ring.sq_mask].user_data >> 8);
	fake_take(f, &f->ring);
	return tags;
}

/* The buffers of DATA_COPY. */
static void test_buffers(struct fake *f)
{
	const uint64_t first = (uintptr_t)test_bufs + 3 * (64 << 10), second = first - (64 << 10);
	bool ok;

	test_dev.data_path = DATA_COPY;
	test_queue.be = &canned;
	backend_result = 4096;
	fresh();
	ok = buf_for(f, 1) == first && buf_for(f, 2) == second && buf_got(f, 1) && buf_for(f, 3) == first && buf_got(f, 3) &&
	     buf_got(f, 2) && buf_for(f, 0) == second && buf_got(f, 0);
	CHECK("buffers: the one that was used last is used first", ok && test_queue.nr_unused == 4);
	fresh();
	keep_spent = true;
	ok = buf_for(f, 1) == first && buf_got(f, 1) && buf_for(f, 2) == second;
	keep_spent = false;
	ok = ok && buf_got(f, 2) && buf_for(f, 3) >= second;
	CHECK("buffers: not used again before the kernel has seen the commit", ok);
	fresh();
	keep_spent = true;
	test_queue.getting = GET_DATA_MAX - 4096;
	ok = buf_for(f, 1) == first && !buf_for(f, 2) && !buf_for(f, 3);
	test_queue.getting = GET_DATA_MAX - 4096;
	ok = ok && buf_waited(f) == 23 && buf_got(f, 2) && buf_got(f, 3) && buf_got(f, 1);
	CHECK("buffers: not too much data is copied in one system call, and the rest in the next", ok);
	fresh();
	test_queue.getting = 1;
	test_queue.waits[test_queue.nr_waits++] = &test_ios[2];
	test_ios[2].state = IO_WAITS;
	test_ios[2].res = UBLK_IO_RES_NEED_GET_DATA;
	test_iods[2] = (struct ublksrv_io_desc){ .op_flags = UBLK_IO_OP_WRITE, .nr_sectors = 128 };
	ok = buf_waited(f) == 2 && test_queue.getting == 128 * 512;
	keep_spent = false;
	CHECK("buffers: what has been copied, or was to be, holds up nobody", ok);
	fresh();
	test_queue.nr_unused = 1;
	ok = buf_for(f, 1) != 0 && !buf_for(f, 2) && !buf_for(f, 3) && !buf_waited(f);
	keep_spent = true;
	ok = ok && buf_got(f, 1) && buf_waited(f) == 2 && test_ios[3].state == IO_WAITS && buf_got(f, 2) && buf_waited(f) == 3 &&
	     buf_got(f, 3) && !test_queue.nr_waits;
	keep_spent = false;
	CHECK("buffers: who has waited longest is the first to have one", ok);
	fresh();
	test_rooms[1] = test_rooms[2] = test_rooms[3] = 0;
	test_queue.may_take = 8192;
	ok = buf_for(f, 1) == first && test_rooms[3] == 4096 && test_queue.may_take == 4096 && buf_got(f, 1) &&
	     buf_for(f, 2) == first && test_queue.may_take == 4096 && buf_got(f, 2);
	CHECK("buffers: memory is taken as far as they are used, once", ok);
	fresh();
	test_rooms[3] = test_rooms[2] = test_queue.may_take = 0;
	test_queue.no_memory = true;
	ok = buf_for(f, 1) == (uintptr_t)test_bufs + (64 << 10) && !test_rooms[3] && !test_queue.no_memory;
	CHECK("buffers: where there is no memory those that are full, and nobody looks again before the ring is entered", ok);
	fresh();
	test_queue.nr_unused = 0;
	for (uint16_t i = 0; i < 4; i++)
		queue_put_buf(&test_queue, (uint16_t[]){ 3, 1, 2, 0 }[i]);
	ok = test_unused[0] + test_unused[1] == 1 && test_queue.nr_unused == 4;
	CHECK("buffers: those that are full from the start come last", ok);
	fresh();
	test_queue.late = test_late;
	ok = buf_for(f, 1) == first && test_ios[1].since;
	test_ios[1].since = 0;
	test_iods[1].op_flags = UBLK_IO_OP_READ;
	ok = ok && buf_got(f, 1) && test_ios[1].op == UBLK_IO_OP_READ && test_ios[1].since;
	test_queue.late = NULL;
	CHECK("given up: a request in the place of another has come when it came", ok);
}

/* What would be acknowledged although one that was given up may still undo it. */
static void test_meets(void)
{
	struct io io = { .op = UBLK_IO_OP_FLUSH };

	test_server.queues = &test_queue;
	test_server.nr_queues = 1;
	test_queue.depth = 4;
	test_ios[2] = (struct io){ .op = UBLK_IO_OP_WRITE, .off = 4096, .len = 4096, .lost = true, .state = IO_SERVED };
	CHECK("given up: a FLUSH does not meet a WRITE", !io_meets_lost(&test_queue, &io));
	io = (struct io){ .op = UBLK_IO_OP_WRITE, .off = 0, .len = 4608 };
	CHECK("given up: a WRITE meets one where it writes", io_meets_lost(&test_queue, &io));
	test_ios[2] = (struct io){ .op = UBLK_IO_OP_FLUSH, .lost = true, .state = IO_SERVED };
	CHECK("given up: a WRITE does not meet a FLUSH", !io_meets_lost(&test_queue, &io));
	io = (struct io){ .op = UBLK_IO_OP_FLUSH };
	CHECK("given up: a FLUSH does", io_meets_lost(&test_queue, &io));
	test_ios[2].state = IO_FETCHED;
	CHECK("given up: not one that is back", !io_meets_lost(&test_queue, &io));
	test_ios[2] = (struct io){ 0 };
	test_queue.depth = 0;
}

/* The commit linked to the backend's operation. */
static void test_chains(struct fake *f)
{
	const unsigned chain = IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
	const uint64_t news = user_data_pack(KIND_IO, 1), done = user_data_pack(KIND_BACKEND, 1);
	struct io *io = &test_ios[1];
	struct ublksrv_io_cmd cmd;
	uint32_t op;
	bool ok;

	test_dev.data_path = DATA_ZERO_COPY;
	test_queue.few = true;
	test_iods[1].op_flags = UBLK_IO_OP_READ;
	backend_result = IO_QUEUED_LAST;
	fresh();
	ok = commands(f, news, 0, &cmd, &op) == 2 && op == 0x21 && cmd.result == 4096 &&
	     (f->sqes[(f->ring.sq_tail - 2) & f->ring.sq_mask].flags & chain) == chain &&
	     !(f->sqes[(f->ring.sq_tail - 1) & f->ring.sq_mask].flags & chain) &&
	     commands(f, news, 0, &cmd, &op) == 2;
	CHECK("chain: the commit follows the operation, then comes the next request", ok);
	ok = commands(f, done, -EIO, &cmd, &op) == 1 && op == 0x21 && cmd.result == -EIO && io->state == IO_FETCHED;
	CHECK("chain: when the operation fails its error is committed", ok);
	test_queue.few = false;
	ok = commands(f, news, 0, &cmd, &op) == 1 && commands(f, done, 4096, &cmd, &op) == 1 && cmd.result == 4096;
	CHECK("chain: not among many requests", ok);
	completed = 0;
	ok = commands(f, news, 0, &cmd, &op) == 1 && commands(f, done, 4096, &cmd, &op) == 1 && !completed &&
	     commands(f, news, 0, &cmd, &op) == 1 && commands(f, done, 512, &cmd, &op) == 1 && completed == 1 &&
	     cmd.result == -EIO;
	CHECK("last: only of a failed or short operation the backend is told", ok);
	keep_held = true;
	ok = commands(f, news, 0, &cmd, &op) == 1 && commands(f, done, 4096, &cmd, &op) == 0 &&
	     test_queue.nr_held == 1 && io->state == IO_SERVED;
	keep_held = false;
	test_queue.ring = f->ring;
	queue_commit_held(&test_queue);
	f->ring = test_queue.ring;
	fake_take(f, &f->ring);
	CHECK("held: among many requests a commit waits for the end of the turn", ok && io->state == IO_FETCHED &&
	      !test_queue.nr_held);
	test_queue.few = true;
	test_dev.data_path = DATA_COPY;
	ok = commands(f, news, 0, &cmd, &op) == 1 && commands(f, done, 4096, &cmd, &op) == 1 && cmd.result == 4096;
	CHECK("chain: not with DATA_COPY", ok);
}

static void test_commit(void)
{
	struct ublksrv_io_cmd cmd;
	uint32_t op;
	struct fake f;

	test_queue.ios = test_ios;
	test_queue.held = test_held;
	test_queue.be = &canned;
	test_queue.cmd_commit = 0x21;
	test_queue.cmd_get_data = 0x22;
	test_queue.live = 4;
	test_queue.can_pair = false;
	CHECK("commit: whole results and errors as they are",
	      committed(UBLK_IO_OP_READ, 4096) == 4096 && committed(UBLK_IO_OP_WRITE, -ENOSPC) == -ENOSPC &&
	      committed(UBLK_IO_OP_DISCARD, 0) == 0 && committed(UBLK_IO_OP_FLUSH, -EIO) == -EIO);
	CHECK("commit: a short result is an error",
	      committed(UBLK_IO_OP_WRITE, 2048) == -EIO && committed(UBLK_IO_OP_READ, 0) == -EIO &&
	      committed(UBLK_IO_OP_READ, 8192) == -EIO);

	fake_init(&f, 0, 0);
	fresh();
	test_iods[1] = (struct ublksrv_io_desc){ .op_flags = UBLK_IO_OP_WRITE, .nr_sectors = 8 };
	backend_result = IO_QUEUED;
	CHECK("commit: not before the backend has finished, then once",
	      commands(&f, user_data_pack(KIND_IO, 1), 0, &cmd, &op) == 0 &&
	      commands(&f, user_data_pack(KIND_BACKEND, 1), 4096, &cmd, &op) == 1 && cmd.result == 4096);

	fake_init(&f, 0, 0);
	backend_result = 4096;
	test_dev.data_path = DATA_DIRECT;
	fresh();
	CHECK("get data, direct: asked for with the backend's address, then committed",
	      commands(&f, user_data_pack(KIND_IO, 1), 1, &cmd, &op) == 1 && op == 0x22 && cmd.addr == 0x1000 &&
	      commands(&f, user_data_pack(KIND_GET_DATA, 1), 0, &cmd, &op) == 1 && op == 0x21 && cmd.result == 4096);
	fresh();
	CHECK("get data, direct: a copy that fell short is an error",
	      commands(&f, user_data_pack(KIND_IO, 1), 1, &cmd, &op) == 1 &&
	      (test_iods[1].nr_sectors = 7) &&
	      commands(&f, user_data_pack(KIND_GET_DATA, 1), 0, &cmd, &op) == 1 && cmd.result == -EIO);
	test_dev.data_path = DATA_COPY;
	test_iods[1].nr_sectors = 8;
	fresh();
	backend_result = -ENOSPC;
	CHECK("get data, copy: into a buffer, and only then to the backend",
	      commands(&f, user_data_pack(KIND_IO, 1), 1, &cmd, &op) == 1 && op == 0x22 &&
	      cmd.addr == (uintptr_t)(test_bufs + 3 * (64 << 10)) &&
	      commands(&f, user_data_pack(KIND_GET_DATA, 1), 0, &cmd, &op) == 1 && cmd.result == -ENOSPC);
	fresh();
	test_iods[1].start_sector = 1 << 20;
	backend_result = 4096;
	CHECK("get data, copy: a request outside the device is an error",
	      commands(&f, user_data_pack(KIND_IO, 1), 1, &cmd, &op) == 1 && op == 0x22 &&
	      commands(&f, user_data_pack(KIND_GET_DATA, 1), 0, &cmd, &op) == 1 && op == 0x21 && cmd.result == -EIO);
	test_iods[1].start_sector = 0;
	test_pairs(&f);
	test_places(&f);
	test_buffers(&f);
	test_meets();
	test_chains(&f);
	CHECK("abort: the tag is gone and nothing is sent",
	      commands(&f, user_data_pack(KIND_IO, 1), -ENODEV, &cmd, &op) == 0 &&
	      test_ios[1].state == IO_GONE && test_queue.live == 3);
}

/* ---- slices of the processor ---- */

/* Are they to be short after so many more sleeps, with so many requests between any two? */
static bool is_quick(struct queue *q, unsigned sleeps, unsigned requests)
{
	while (sleeps--) {
		q->committed += requests;
		queue_pace(q);
	}
	return q->singles == SINGLES;
}

static void test_pace(void)
{
	struct queue q = { .singles = 0 };

	CHECK("one request at a time, for a while: short slices",
	      !is_quick(&q, SINGLES - 1, 1) && is_quick(&q, 1, 1) && is_quick(&q, 10 * SINGLES, 1) && is_quick(&q, 1, 0));
	CHECK("two at once: the usual ones, and not short again at once",
	      !is_quick(&q, 1, 2) && !is_quick(&q, SINGLES - 1, 1) && !is_quick(&q, 1, 64) && !is_quick(&q, SINGLES - 1, 1) &&
	      is_quick(&q, 1, 1));
}

int main(void)
{
	test_begin();
	test_encoding();
	test_io_check();
	test_commit();
	test_pace();
	return test_end();
}
