/* SPDX-License-Identifier: MIT */
/*
 * ublk: block devices in user space, on Linux's ublk driver.
 *
 * THE LIFE OF A DEVICE
 *
 *	ADD_DEV		the driver makes /dev/ublkcN; info comes back with what it
 *			granted: flags it lacks are cleared, queues clipped
 *	SET_PARAMS	size, block sizes, limits
 *	open, mmap	/dev/ublkcN: an array of request descriptors per queue
 *	FETCH		one command for each tag of each queue, from its thread
 *	START_DEV	the driver makes /dev/ublkbN. It sleeps until every tag is
 *			fetched, and up to 6.18 or so it reads the partition table
 *			through this very program before it returns
 *	...		requests are served
 *	STOP_DEV	the driver has the clients' dirty pages written, again
 *			through this program, removes /dev/ublkbN, and ends every
 *			fetched tag with -ENODEV
 *	DEL_DEV		/dev/ublkcN goes; the number is free once nobody has the
 *			character device open, mapped or registered with a ring
 *
 * A server that waits for START_DEV or STOP_DEV without serving meanwhile
 * waits for ever. So control commands are in flight like any other operation:
 * they have a ring of their own (they need 128-byte SQEs), queue 0's ring
 * polls that ring's fd, and ctrl_wait() turns queue 0's loop until the answer
 * is there. A program that only sends commands has no queue, and waits plainly.
 * START_DEV is sent by the probe, a process that ends when the device is
 * announced: see struct probe_order for why.
 *
 * THE LIFE OF A TAG
 *
 *	 IO_FETCHED --CQE 0: a request--> IO_SERVED --commit--> IO_FETCHED
 *	 IO_FETCHED --CQE 1: a WRITE, its data not copied yet-->
 *	 IO_GET_DATA --CQE 0: copied--> IO_SERVED
 *	 IO_FETCHED --CQE 0 or 1, no buffer free--> IO_WAITS --one free--> as above
 *	 IO_SERVED --the backend's last operation--> IO_LAST --CQE: all of it--> IO_SERVED
 *	 IO_FETCHED --CQE -ENODEV--> IO_GONE, for good
 *
 * COMMIT_AND_FETCH gives the result of one request and asks for the next in
 * one command, so a tag has one SQE or one request, never both. io_commit() is
 * the only place that sends it. Two short cuts save a round through the kernel
 * by sending the commit along with what it waits for:
 *
 *	 IO_PAIRED	behind a GET_DATA that the driver answers on the spot
 *	 IO_CHAINED	linked to the backend's operation, to follow if it succeeds
 *
 * THREADS
 *
 * Thread 0 serves queue 0, the control commands and the signals. Every further
 * queue has a thread that runs the same loop on its own ring and ends when all
 * its tags are gone. The driver wants all commands of a queue from one task.
 *
 * With -d and with a COMMAND, the process that the shell waits for is not the
 * server: struct background.
 *
 * WHEN A SERVER DIES
 *
 * The driver fails its clients' requests and removes /dev/ublkbN, unless the
 * device was made to wait: --recoverable. Then the next server finds it
 * QUIESCED, and
 *
 *	START_USER_RECOVERY	the old server's character device must be closed
 *	open, mmap, FETCH	as above, with the queues and limits that it has
 *	END_USER_RECOVERY	what was under way comes again, then what has waited
 *
 * With --resilient a guard holds what must survive the server and starts the
 * next one: struct guard.
 */
#include "include/backend.h"
#include "serve/cookie.h"
#include "serve/life.h"
#include "serve/orphan.h"
#include "serve/guard.h"
#include "serve/background.h"
#include "serve/stop.h"
#include "serve/command.h"
#include "serve/serve.h"
#include "include/server.h"
#include "host/mounts.h"
#include "host/nodes.h"
#include "host/driver.h"
#include "host/memory.h"
#include "host/usage.h"
#include "host/disk.h"
#include "host/process.h"
#include "host/fail.h"
#include "lib/read.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VERSION		"0.1.0"

#define DEADLINE_MS	30000		/* nothing waits longer, unless the user says so */

/* ---- queues, tags and the loop ---- */

enum io_state { IO_FETCHED, IO_WAITS, IO_GET_DATA, IO_SERVED, IO_LAST, IO_PAIRED, IO_CHAINED, IO_GONE };

/* What a CQE on a queue's ring belongs to: the low byte of user_data. */
enum kind { KIND_IO, KIND_GET_DATA, KIND_BACKEND, KIND_CTRL, KIND_SIGNAL, KIND_PROBE, KIND_HOLD };

static uint64_t user_data_pack(enum kind kind, unsigned tag)
{
	return (uint64_t)tag << 8 | kind;
}

#define FEW			4	/* CQEs in a turn up to which a chain costs less: make bench */
#define HAND_OVER		16	/* SQEs of the backend that are worth a system call: see queue_reap() */
#define TASK_WORK		20	/* events that become CQEs in one system call, if there are so many */
#define MAX_ROUNDS		3	/* that a commit is held for: see queue_turn() */
#define SPARE_BUFS		2	/* see io_take_buf() */
#define QUEUE_SPARE_SQES	8	/* besides two a tag: the polls of thread 0 */
enum { CHAR_FILE, BACKING_FILE };	/* registered files: /dev/ublkcN, dev->fd */

struct queue {
	/* hot: touched by every request */
	struct uring ring;
	const struct ublksrv_io_desc *iods;	/* written by the driver */
	struct io *ios;
	struct server *s;
	struct dev *dev;
	const struct backend *be;
	uint32_t cmd_fetch, cmd_commit, cmd_get_data;	/* encoded */
	unsigned live;				/* tags that are not IO_GONE */
	unsigned expected;			/* CQEs that the next turn brings besides news: IO_PAIRED */
	unsigned reaped;			/* CQEs, when the ring was entered last */
	bool can_pair;				/* GET_DATA is answered on the spot */
	bool few, was_few;			/* this turn has little to do, and so had the last; see queue_enter() */
	unsigned backend_sqes;			/* that io_sqe() has given out since the ring was entered */
	struct io **held;			/* requests that are done, to be committed in this turn */
	unsigned nr_held;
	uintptr_t page;				/* bytes */
	uint64_t committed;			/* requests; other threads read it */

	uint16_t q_id, depth;
	size_t iods_len;
	char *bufs;				/* DATA_COPY, dev->bounce: depth * max_io, and the spare ones */
	bool spare_used[SPARE_BUFS];
	unsigned spares_done;			/* bit i: the commit of what is in i has not reached the kernel */
	struct io **waits;			/* for a spare buffer, the first one first */
	unsigned nr_waits;
	cpu_set_t cpus;				/* --cpu-affinity */
	pthread_t thread;			/* not for queue 0 */
	int err;				/* of queue_start() in its thread */
	bool watch_ctrl;			/* queue 0: a poll of the control ring is armed */
};

/* A bug of ours or of the driver. The process must go, for the device to go. */
__attribute__((noreturn, format(printf, 2, 3)))
static void queue_die(const struct queue *q, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	text_vprint(text, sizeof(text), fmt, ap);
	va_end(ap);
	say("/dev/ublkb%u: queue %u: %s; this server ends here", q->s->id, q->q_id, text);
	_exit(q->s->guarded ? EXIT_AGAIN : EXIT_FAILURE);
}

struct dev *queue_dev(const struct queue *q)
{
	return q->dev;
}

/* Requests served by all queues: how thread 0 sees that there is progress. */
static uint64_t queues_committed(struct queue *q0)
{
	const struct server *s = q0->s;
	uint64_t sum = 0;

	for (unsigned i = 0; i < s->nr_queues; i++)
		sum += __atomic_load_n(&s->queues[i].committed, __ATOMIC_RELAXED);
	return sum;
}

static inline struct io_uring_sqe *queue_sqe(struct queue *q)
{
	struct io_uring_sqe *sqe = uring_get_sqe(&q->ring);

	/* the ring has two for each tag: a commit, and what it is paired with or chained to */
	must(sqe);
	return sqe;
}

static void queue_count(struct queue *q, unsigned nr)
{
	__atomic_store_n(&q->committed, q->committed + nr, __ATOMIC_RELAXED);
}

/* The one place where a data command is made. */
static inline void io_command(struct queue *q, struct io *io, enum kind kind, uint32_t cmd_op, int result)
{
	struct io_uring_sqe *sqe = queue_sqe(q);
	const struct ublksrv_io_cmd cmd = {
		.q_id = q->q_id,
		.tag = io->tag,
		.result = result,
		.addr = (uintptr_t)io->buf,
	};

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->fd = CHAR_FILE;
	sqe->cmd_op = cmd_op;
	if (q->dev->data_path == DATA_ZERO_COPY)
		sqe->addr = io->tag;	/* struct ublk_auto_buf_reg: the buffer to register as */
	sqe->user_data = user_data_pack(kind, io->tag);
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
}

/* The commit of what is in its spare buffer, if it has one, is on its way to the kernel. */
static inline void io_spare_done(struct queue *q, struct io *io)
{
	if (!io->spare)
		return;
	q->spares_done |= 1U << (io->spare - 1);
	io->spare = 0;
}

/*
 * The one place where a request is committed: whole, or as an error. The
 * driver takes a short WRITE for a whole one (7.3), and requeues or loops on
 * it before.
 */
static inline void io_commit(struct queue *q, struct io *io, int res)
{
	const bool has_data = io->op == UBLK_IO_OP_READ || io->op == UBLK_IO_OP_WRITE;

	must(io->state == IO_SERVED);
	if (res > 0 && !has_data)
		res = 0;
	if (res >= 0 && has_data && (uint32_t)res != io->len)
		res = -EIO;
	io_spare_done(q, io);
	io->state = IO_FETCHED;
	io_command(q, io, KIND_IO, q->cmd_commit, res);
}

/* May the backend see this request? 0 or -errno. Without overflow for any iod. */
static inline int io_check(const struct dev *dev, const struct io *io)
{
	uint32_t longest;

	switch (io->op) {
	case UBLK_IO_OP_READ:
	case UBLK_IO_OP_WRITE:
		longest = dev->max_io;
		break;
	case UBLK_IO_OP_DISCARD:
		longest = dev->max_discard;
		break;
	case UBLK_IO_OP_WRITE_ZEROES:
		longest = dev->max_write_zeroes;
		break;
	case UBLK_IO_OP_FLUSH:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
	if (dev->read_only && io->op != UBLK_IO_OP_READ)
		return -EIO;
	if (io->off > dev->size || io->len > dev->size - io->off)
		return -EIO;
	if (!io->len || io->len > longest || (io->off | io->len) & (dev->block_size - 1))
		return longest ? -EIO : -EOPNOTSUPP;
	return 0;
}

static void *io_default_buf(const struct queue *q, const struct io *io)
{
	switch (q->dev->data_path) {
	case DATA_DIRECT:
		if (!q->dev->bounce)
			return q->s->sink;	/* until queue() says better */
		/* fall through */
	case DATA_COPY:
		return q->bufs + (size_t)io->tag * q->dev->max_io;
	case DATA_ZERO_COPY:
		break;
	}
	return NULL;
}

/*
 * Read the descriptor, once, into the tag's slot. If the bytes of its sectors
 * do not fit it gets an offset that io_check() refuses.
 */
static inline void io_read_iod(const struct queue *q, struct io *io)
{
	const struct ublksrv_io_desc iod = q->iods[io->tag];
	const bool fits = !(iod.start_sector >> (64 - SECTOR_SHIFT) | iod.nr_sectors >> (32 - SECTOR_SHIFT));

	io->op = iod.op_flags & 0xff;
	io->flags = iod.op_flags & ~0xffU;
	io->off = fits ? iod.start_sector << SECTOR_SHIFT : UINT64_MAX;
	io->len = io->op == UBLK_IO_OP_FLUSH ? 0 : iod.nr_sectors << SECTOR_SHIFT;
	if (q->dev->data_path != DATA_ZERO_COPY)
		io->buf = io_default_buf(q, io);
}

/*
 * A buffer for the data of a READ or WRITE. Each tag has one, of which memory is
 * taken as far as it is used. Where little is left no more is taken: what would
 * free some may be this very request, to a swap file or of a dirty page. Then a
 * few spare ones go round that are there from the start. False: none is free,
 * and the request comes again when one is.
 */
__attribute__((noinline))
static bool io_find_buf(struct queue *q, struct io *io, int res)
{
	const uint32_t len = io->len < q->dev->max_io ? io->len : q->dev->max_io;
	struct memory memory;

	if (len <= io->room || io->op > UBLK_IO_OP_WRITE)
		return true;
	memory_get(&memory);
	if (memory.left > (int64_t)len) {
		io->room = len;
		return true;
	}
	/* one may be there already: of a WRITE that went to another tag, see io_is_another() */
	for (unsigned i = 0; i < SPARE_BUFS && !io->spare; i++) {
		if (!q->spare_used[i]) {
			q->spare_used[i] = true;
			io->spare = i + 1;
		}
	}
	if (io->spare) {
		io->buf = q->bufs + (size_t)(q->depth + io->spare - 1) * q->dev->max_io;
		return true;
	}
	io->state = IO_WAITS;
	io->res = res;
	q->waits[q->nr_waits++] = io;
	return false;
}

static inline bool io_take_buf(struct queue *q, struct io *io, int res)
{
	return q->dev->data_path != DATA_COPY || io_find_buf(q, io, res);
}

/* Hand a request to the backend. Returns what queue() says, or -errno. */
static int io_start(struct queue *q, struct io *io)
{
	int ret = io_check(q->dev, io);

	return ret ? ret : q->be->queue(q, io);
}

/*
 * Have the kernel commit by itself when the SQE that the backend has prepared
 * has succeeded. If it fails or falls short its own CQE says so, and the
 * commit is dropped without one: IOSQE_CQE_SKIP_SUCCESS works on the chain.
 */
static void io_chain(struct queue *q, struct io *io)
{
	uring_last_sqe(&q->ring)->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
	io_commit(q, io, (int)io->len);
	io->state = IO_CHAINED;
}

/*
 * What a backend has returned. A chain saves a round, but costs more than a
 * commit among many does. Not with DATA_COPY: the first drivers want no commit
 * from a worker thread, where a chain may end up; those with zero copy do.
 */
static inline void io_finish(struct queue *q, struct io *io, int res)
{
	if (res == IO_QUEUED)
		return;
	if (res != IO_QUEUED_LAST)
		io_commit(q, io, res);
	else if (q->few && q->dev->data_path == DATA_ZERO_COPY)
		io_chain(q, io);
	else
		io->state = IO_LAST;
	if (io->state != IO_LAST)
		queue_count(q, 1);
}

/* An SQE of the backend has ended. Among many, what is done is committed later: see queue_turn(). */
static void io_complete(struct queue *q, struct io *io, int res)
{
	const bool whole = io->state == IO_LAST && res == (int)io->len;

	io->state = IO_SERVED;
	if (!whole)
		res = q->be->complete(q, io, res);
	if (q->few || res == IO_QUEUED || res == IO_QUEUED_LAST) {
		io_finish(q, io, res);
		return;
	}
	io->res = res;
	q->held[q->nr_held++] = io;
}

/*
 * A copy falls short where memory for a page cannot be had, at that page. So a
 * request within one page is copied as a whole or not at all, and there is
 * nothing to look for in between.
 */
static bool io_in_one_page(const struct queue *q, const struct io *io)
{
	const uintptr_t first = (uintptr_t)io->buf, last = first + io->len - 1;

	return (first ^ last) < q->page;
}

/*
 * The driver has a WRITE, and wants to know where its data is to go. A backend
 * with memory of its own says so by answering; the request is then done when
 * the data is there. An error cannot be committed yet: the data is taken all
 * the same. This comes again if nothing could be copied.
 */
static void io_get_data(struct queue *q, struct io *io)
{
	const bool direct = q->dev->data_path == DATA_DIRECT;

	io_read_iod(q, io);
	if (!io_take_buf(q, io, UBLK_IO_RES_NEED_GET_DATA))
		return;
	io->res = direct ? io_start(q, io) : io_check(q->dev, io);
	if (direct && io->res < 0)
		io->buf = q->s->sink;
	io->state = IO_GET_DATA;
	io_command(q, io, KIND_GET_DATA, q->cmd_get_data, -1);
	if (direct && io->res >= 0 && q->can_pair && io_in_one_page(q, io)) {
		io->state = IO_SERVED;
		io_commit(q, io, io->res);
		io->state = IO_PAIRED;
		q->expected++;
	}
}

/*
 * The data of a WRITE is there. If memory ran out the copy fell short, and the
 * descriptor now speaks of a shorter request; that is why even DATA_COPY asks
 * for its data: a copy made beforehand falls short and nobody can tell.
 */
static void io_got_data(struct queue *q, struct io *io)
{
	bool whole = q->iods[io->tag].nr_sectors == io->len >> SECTOR_SHIFT;

	io->state = IO_SERVED;
	if (io->res >= 0 && !whole)
		io->res = -EIO;
	else if (io->res >= 0 && q->dev->data_path != DATA_DIRECT)
		io->res = q->be->queue(q, io);
	io_finish(q, io, io->res);
}

/* The driver has something for a tag: the states at the head of this file. */
static inline void io_event(struct queue *q, struct io *io, int res)
{
	switch (res) {
	case UBLK_IO_RES_OK:
		io->state = IO_SERVED;
		io_read_iod(q, io);
		if (io_take_buf(q, io, res))
			io_finish(q, io, io_start(q, io));
		return;
	case UBLK_IO_RES_NEED_GET_DATA:
		io_get_data(q, io);
		return;
	case UBLK_IO_RES_ABORT:
		io_spare_done(q, io);
		io->state = IO_GONE;
		q->live--;
		return;
	case -EBUSY:
		/* the GET_DATA before this commit goes on: its own CQE will come */
		if (io->state == IO_PAIRED) {
			io->state = IO_GET_DATA;
			return;
		}
	}
	queue_die(q, "tag %u in state %u: unexpected result %d", io->tag, io->state, res);
}

/*
 * Where no data could be copied the driver takes the WRITE back, and with an
 * I/O scheduler it may come again with another tag, and another request here.
 */
static bool io_is_another(const struct queue *q, const struct io *io)
{
	const struct ublksrv_io_desc *iod = &q->iods[io->tag];

	return (iod->op_flags & 0xff) != io->op || iod->start_sector != io->off >> SECTOR_SHIFT;
}

/*
 * A GET_DATA command has ended: with the data or, if there was no memory for
 * it, with the next request, or with an abort.
 */
static void io_get_data_event(struct queue *q, struct io *io, int res)
{
	if (res != UBLK_IO_RES_OK) {
		io_event(q, io, res);
	} else if (io->state == IO_PAIRED) {
		io->state = IO_FETCHED;
		queue_count(q, 1);
	} else if (io_is_another(q, io)) {
		io_event(q, io, res);
	} else {
		io_got_data(q, io);
	}
}

struct io_uring_sqe *io_sqe(struct queue *q, const struct io *io)
{
	struct io_uring_sqe *sqe = queue_sqe(q);

	q->backend_sqes++;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->fd = BACKING_FILE;
	sqe->user_data = user_data_pack(KIND_BACKEND, io->tag);
	return sqe;
}

static void queue_poll(struct queue *q, int fd, enum kind kind)
{
	struct io_uring_sqe *sqe = queue_sqe(q);

	sqe->opcode = IORING_OP_POLL_ADD;
	sqe->fd = fd;
	sqe->poll32_events = POLLIN;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	sqe->poll32_events = (uint32_t)POLLIN << 16;	/* the ABI swaps its halves */
#endif
	sqe->user_data = user_data_pack(kind, 0);
}

/* Queue 0: wake up when the control ring has an answer. */
static void queue_watch_ctrl(struct queue *q)
{
	if (q->watch_ctrl)
		return;
	q->watch_ctrl = true;
	queue_poll(q, q->s->ctrl.ring.fd, KIND_CTRL);
}

static void queue_signal(struct queue *q)
{
	struct signalfd_siginfo si;

	while (read(q->s->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (q->s->guarded && si.ssi_pid == (uint32_t)getppid())
			q->s->handed++;
		else
			q->s->direct++;
	}
	q->s->signals = q->s->handed > q->s->direct ? q->s->handed : q->s->direct;
	queue_poll(q, q->s->signal_fd, KIND_SIGNAL);
}

/*
 * The process that runs COMMAND has died, which is to stop us, or lets go of
 * us. If a guard has died we go on: nobody has asked for an end.
 */
static void queue_hold(struct queue *q)
{
	struct server *s = q->s;
	char c;

	if (s->guarded) {
		notice("/dev/ublkb%u: its guard has died: if this server dies nobody starts another", s->id);
		s->guarded = false;
	} else if (read(s->hold_fd, &c, 1) != 1) {
		s->direct++;
		s->signals++;
	}
}

static void queue_dispatch(struct queue *q, const struct io_uring_cqe *cqe)
{
	struct io *io = &q->ios[cqe->user_data >> 8];

	switch ((enum kind)(cqe->user_data & 0xff)) {
	case KIND_IO:
		io_event(q, io, cqe->res);
		return;
	case KIND_GET_DATA:
		io_get_data_event(q, io, cqe->res);
		return;
	case KIND_BACKEND:
		io_complete(q, io, cqe->res);
		return;
	case KIND_CTRL:
		q->watch_ctrl = false;	/* ctrl_wait() looks itself */
		return;
	case KIND_SIGNAL:
		queue_signal(q);
		return;
	case KIND_PROBE:
		q->s->probed = true;
		return;
	case KIND_HOLD:
		queue_hold(q);
		return;
	}
}

static void queue_commit_held(struct queue *q)
{
	for (unsigned i = 0; i < q->nr_held; i++)
		io_commit(q, q->held[i], q->held[i]->res);
	queue_count(q, q->nr_held);
	q->nr_held = 0;
}

static bool queue_spare_free(const struct queue *q)
{
	return memchr(q->spare_used, false, sizeof(q->spare_used));
}

/*
 * The kernel has what was in these spare buffers: others have waited for them.
 * All of those, as long as one is free: where there is memory again they take none.
 */
static void queue_spares(struct queue *q)
{
	struct io *io;

	for (unsigned i = 0; i < SPARE_BUFS; i++)
		if (q->spares_done >> i & 1)
			q->spare_used[i] = false;
	q->spares_done = 0;
	while (q->nr_waits && queue_spare_free(q)) {
		io = q->waits[0];
		memmove(q->waits, q->waits + 1, --q->nr_waits * sizeof(*q->waits));
		io_event(q, io, io->res);
	}
}

/* To be called when the ring has been entered. */
static void queue_entered(struct queue *q)
{
	/* for want of memory not all were taken: a commit must not go without what it follows */
	if (uring_sqes(&q->ring) && uring_last_taken(&q->ring)->flags & IOSQE_IO_LINK)
		queue_die(q, "the kernel has no memory for requests");
	q->backend_sqes = 0;
	if (q->spares_done && !uring_sqes(&q->ring))
		queue_spares(q);
}

/*
 * Deal with all CQEs. The block layer takes tags of the disk below for as many
 * operations as it gets in one system call, but only if one word of its bitmap
 * has them all, which is 16 where the disk's queue is 64 deep. It looks for
 * each tag by itself otherwise, and that costs more than the system calls.
 */
static void queue_reap(struct queue *q)
{
	q->reaped = uring_cqes(&q->ring);
	for (unsigned nr = q->reaped; nr; nr--) {
		queue_dispatch(q, uring_take_cqe(&q->ring));
		if (q->backend_sqes < HAND_OVER)
			continue;
		uring_give_back(&q->ring);
		(void)uring_submit(&q->ring);	/* what was not taken goes with the next ones */
		queue_entered(q);
	}
	uring_give_back(&q->ring);
}

/* Hand over what was prepared, and deal with all that is there then. Returns 0 or -ETIME. */
static int queue_enter(struct queue *q, unsigned wait_nr, int timeout_ms)
{
	int ret = uring_enter(&q->ring, wait_nr, timeout_ms);
	bool few;

	queue_entered(q);
	if (wait_nr) {
		q->expected = 0;
		/* a sleep may end with the first of many: only the second of two short turns is one */
		few = uring_cqes(&q->ring) <= FEW;
		q->few = few && q->was_few;
		q->was_few = few;
	}
	queue_reap(q);
	if (ret >= 0 || ret == -EINTR || ret == -EAGAIN || ret == -EBUSY)
		return 0;
	if (ret != -ETIME)
		queue_die(q, "io_uring_enter: %s", strerror(-ret));
	return ret;
}

/*
 * One turn of the loop: hand over what was prepared, sleep until something is
 * there, deal with all of it. Returns 0, or -ETIME after timeout_ms.
 *
 * Where there are new requests as well as finished ones, the new ones are
 * handed over first, and what they find done at once is committed with the
 * rest: the first commit wakes the client, which then finds more to do and
 * comes back with more. The same where the kernel may have more to tell.
 */
static int queue_turn(struct queue *q, int timeout_ms)
{
	/* with these commits requests can go on that nothing else would come for */
	const bool frees_spare = q->spares_done && q->nr_waits;
	int ret = queue_enter(q, frees_spare ? 0 : 1 + q->expected, timeout_ms);

	for (int i = 0; i < MAX_ROUNDS && q->nr_held && (uring_sqes(&q->ring) || q->reaped >= TASK_WORK); i++)
		(void)queue_enter(q, 0, -1);	/* without a timeout there is no -ETIME */
	queue_commit_held(q);
	return ret;
}

static void queue_loop(struct queue *q)
{
	while (q->live)
		queue_turn(q, -1);
}

/* ---- a queue from its start to its end ---- */

/* The stride and size of the descriptor arrays: ublk_ch_mmap() demands them. */
static size_t iods_size(unsigned depth)
{
	const size_t page = (size_t)getpagesize();

	return (depth * sizeof(struct ublksrv_io_desc) + page - 1) / page * page;
}

static size_t bufs_size(const struct queue *q)
{
	return ((size_t)q->depth + SPARE_BUFS) * q->dev->max_io;
}

static int queue_map_bufs(struct queue *q)
{
	const size_t len = bufs_size(q);
	void *p = pages_get(len);

	if (!p)
		return -errno;
	q->bufs = p;
	/* a tag that has only seen 4 KiB requests is to cost 4 KiB. EINVAL: kernel without */
	(void)madvise(p, len, MADV_NOHUGEPAGE);
	/* nor be copied for a child that does not look at it */
	(void)madvise(p, len, MADV_DONTFORK);
	if (q->dev->data_path == DATA_COPY)
		memset(q->bufs + (size_t)q->depth * q->dev->max_io, 0, (size_t)SPARE_BUFS * q->dev->max_io);
	return 0;
}

/* Of ios, and behind them held and waits. */
static size_t ios_size(const struct queue *q)
{
	return q->depth * (sizeof(*q->ios) + sizeof(*q->held) + sizeof(*q->waits));
}

static int queue_map(struct queue *q)
{
	const off_t stride = (off_t)iods_size(UBLK_MAX_QUEUE_DEPTH);
	void *p;

	q->ios = pages_get(ios_size(q));
	if (!q->ios)
		return -ENOMEM;
	q->held = (struct io **)(q->ios + q->depth);
	q->waits = q->held + q->depth;
	p = mmap(NULL, iods_size(q->depth), PROT_READ, MAP_SHARED | MAP_POPULATE,
		 q->s->char_fd, q->q_id * stride);
	if (p == MAP_FAILED)
		return -errno;
	q->iods = p;
	q->iods_len = iods_size(q->depth);
	(void)madvise(p, q->iods_len, MADV_DONTFORK);	/* a child's would keep /dev/ublkcN open */
	return q->dev->data_path == DATA_COPY || q->dev->bounce ? queue_map_bufs(q) : 0;
}

/*
 * With zero copy the kernel describes each request's pages to the ring: up to
 * IO_CACHED_SEGMENTS of them in a piece of memory that the ring keeps for the
 * next request, more in one that is allocated, which a device that memory is
 * waiting for must not do. So requests have no more segments, and the ring gets
 * its pieces now, from buffers that are registered and given up again.
 * It keeps IO_CACHED_MAX: a --qdepth beyond that has no such promise.
 * io_uring/rsrc.c io_kernel_buffer_init().
 */
enum { IO_CACHED_SEGMENTS = 32, IO_CACHED_MAX = 128 };

static void queue_warm(struct queue *q)
{
	static char page;
	struct iovec bufs[IO_CACHED_MAX];
	const unsigned n = q->depth < IO_CACHED_MAX ? q->depth : IO_CACHED_MAX;

	for (unsigned i = 0; i < n; i++)
		bufs[i] = (struct iovec){ &page, 1 };
	if (uring_register(&q->ring, IORING_REGISTER_BUFFERS, bufs, n) == 0)
		(void)uring_register(&q->ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

static int queue_register(struct queue *q)
{
	const int fds[] = { [CHAR_FILE] = q->s->char_fd, [BACKING_FILE] = q->dev->fd };
	const struct io_uring_rsrc_register sparse = {
		.nr = q->depth,
		.flags = IORING_RSRC_REGISTER_SPARSE,
	};
	int ret = uring_register(&q->ring, IORING_REGISTER_FILES, fds, q->dev->fd < 0 ? 1 : 2);

	if (!ret && q->dev->data_path == DATA_ZERO_COPY) {
		queue_warm(q);
		ret = uring_register(&q->ring, IORING_REGISTER_BUFFERS2, &sparse, sizeof(sparse));
	}
	return ret;
}

/* All that a queue's ring is ever asked for: whoever takes this process over gets no more out of it. */
static const struct io_uring_restriction queue_allowed[] = {
	{ .opcode = IORING_RESTRICTION_SQE_OP, .value = IORING_OP_URING_CMD },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .value = IORING_OP_READ },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .value = IORING_OP_WRITE },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .value = IORING_OP_READ_FIXED },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .value = IORING_OP_WRITE_FIXED },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .value = IORING_OP_FSYNC },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .value = IORING_OP_FALLOCATE },
	{ .opcode = IORING_RESTRICTION_SQE_OP, .value = IORING_OP_POLL_ADD },
	{ .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
	  .value = IOSQE_FIXED_FILE | IOSQE_IO_LINK | IOSQE_ASYNC | IOSQE_CQE_SKIP_SUCCESS },
	{ .opcode = IORING_RESTRICTION_REGISTER_OP, .value = IORING_UNREGISTER_FILES },
	{ .opcode = IORING_RESTRICTION_REGISTER_OP, .value = IORING_UNREGISTER_RING_FDS },
};

static void queue_fetch_all(struct queue *q)
{
	for (unsigned tag = 0; tag < q->depth; tag++) {
		struct io *io = &q->ios[tag];

		io->tag = (uint16_t)tag;
		io->state = IO_FETCHED;
		io->buf = io_default_buf(q, io);
		io_command(q, io, KIND_IO, q->cmd_fetch, -1);
	}
	q->live = q->depth;
}

/*
 * A client that puts many requests under way is not to be interrupted at each
 * of them: as a batch task the server takes its turn when the client sleeps or
 * another CPU is free, and serves what has come together by then. A policy that
 * the user has chosen stays. By the system calls: musl has only stubs.
 */
static void queue_be_batch(void)
{
	const struct sched_param param = { 0 };

	if (syscall(SYS_sched_getscheduler, 0) == SCHED_OTHER &&
	    syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &param))
		debug("no SCHED_BATCH: %s", strerror(errno));
}

/*
 * Everything a queue needs, up to its FETCH commands with the kernel. Runs in
 * the thread that will run the loop. Returns 0 or -errno; queue_end() undoes it.
 */
static int queue_start(struct queue *q)
{
	int ret;

	queue_be_batch();
	if (q->s->o->cpu_affinity && CPU_COUNT(&q->cpus) &&
	    sched_setaffinity(0, sizeof(q->cpus), &q->cpus))
		debug("queue %u: its CPUs are offline, left where it is", q->q_id);
	ret = uring_init(&q->ring, 2 * q->depth + QUEUE_SPARE_SQES,
			 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN |
			 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_NO_SQARRAY | IORING_SETUP_R_DISABLED);
	if (!ret) {
		uring_register_ring(&q->ring);
		ret = queue_register(q);
	}
	if (!ret)
		ret = uring_restrict(&q->ring, queue_allowed, ARRAY_SIZE(queue_allowed));
	if (!ret)
		ret = queue_map(q);
	if (ret)
		return ret;
	queue_fetch_all(q);
	ret = uring_enter(&q->ring, 0, -1);
	return ret < 0 ? ret : 0;
}

/* Drop every reference of this queue on /dev/ublkcN: DEL_DEV waits for them. */
static void queue_end(struct queue *q)
{
	if (q->ring.fd >= 0)
		(void)uring_register(&q->ring, IORING_UNREGISTER_FILES, NULL, 0);
	uring_exit(&q->ring);
	if (q->iods)
		munmap((void *)q->iods, q->iods_len);
	if (q->bufs)
		munmap(q->bufs, bufs_size(q));
	if (q->ios)
		munmap(q->ios, ios_size(q));
	q->held = NULL;
	q->waits = NULL;
	q->iods = NULL;
	q->bufs = NULL;
	q->ios = NULL;
}

static void *queue_thread(void *arg)
{
	struct queue *q = arg;

	q->err = queue_start(q);
	sem_post(&q->s->ready);
	if (!q->err)
		queue_loop(q);
	queue_end(q);
	return NULL;
}

/* ---- control commands ---- */

void ctrl_init(struct ctrl *c)
{
	*c = (struct ctrl)CTRL_NONE;
}

static void ctrl_reap(struct ctrl *c)
{
	struct io_uring_cqe cqe;

	while (uring_next_cqe(&c->ring, &cqe)) {
		if (cqe.user_data != c->seq)
			continue;	/* given up on */
		c->res = cqe.res;
		c->answered = true;
	}
}

void ctrl_set_deadline(struct ctrl *c)
{
	c->deadline = now_ms() + DEADLINE_MS;
}

int ctrl_left(const struct ctrl *c)
{
	int64_t left = c->deadline - now_ms();

	return left > 0 ? (int)left : 0;
}

/* A turn of the loop while something else is waited for, which may put off the deadline. */
static void ctrl_turn(struct ctrl *c, int timeout_ms)
{
	uint64_t served = queues_committed(c->serving);

	queue_turn(c->serving, timeout_ms);
	if (c->patient && queues_committed(c->serving) != served)
		ctrl_set_deadline(c);
}

/*
 * Send the SQE just filled and wait for its CQE, serving meanwhile. Returns
 * its res, or -ETIME: the operation is then still in flight.
 */
static int ctrl_wait(struct ctrl *c)
{
	int ret;

	c->answered = false;
	ret = uring_enter(&c->ring, 0, -1);
	if (ret < 0)
		return ret;
	for (;;) {
		ctrl_reap(c);
		if (c->answered)
			return c->res;
		if (!ctrl_left(c))
			return -ETIME;
		if (!c->serving) {
			ret = uring_enter(&c->ring, 1, ctrl_left(c));
			if (ret < 0 && ret != -ETIME && ret != -EINTR)
				return ret;
			continue;
		}
		/* every time: the poll may have fired for the command before */
		queue_watch_ctrl(c->serving);
		ctrl_turn(c, ctrl_left(c));
	}
}

static struct io_uring_sqe *ctrl_sqe(struct ctrl *c, uint8_t opcode, int fd)
{
	struct io_uring_sqe *sqe = uring_get_sqe(&c->ring);

	/* one command at a time, besides some given up on: there is always room */
	must(sqe);
	memset(sqe, 0, sizeof(*sqe) << c->ring.sqe_shift);
	sqe->opcode = opcode;
	sqe->fd = fd;
	sqe->user_data = ++c->seq;
	return sqe;
}

static uint32_t cmd_encode(enum encoding enc, unsigned nr, size_t size)
{
	/* as the kernel has them: what only reads back is _IOR, the rest _IOWR */
	bool reads = nr == UBLK_CMD_GET_QUEUE_AFFINITY || nr == UBLK_CMD_GET_DEV_INFO ||
		     nr == UBLK_CMD_GET_PARAMS || nr == UBLK_CMD_GET_FEATURES ||
		     nr == UBLK_CMD_DEL_DEV_ASYNC;

	if (enc == ENC_LEGACY)
		return nr;
	return UBLK_IOC(reads ? UBLK_IOC_R : UBLK_IOC_WR, nr, size);
}

static int ctrl_try(struct ctrl *c, enum encoding enc, unsigned nr,
		    const struct ublksrv_ctrl_cmd *cmd)
{
	struct io_uring_sqe *sqe = ctrl_sqe(c, IORING_OP_URING_CMD, c->fd);

	sqe->cmd_op = cmd_encode(enc, nr, sizeof(*cmd));
	memcpy(sqe->cmd, cmd, sizeof(*cmd));
	return ctrl_wait(c);
}

/*
 * One control command. Returns its res or -ETIME. A driver that does not know
 * the ioctl encoding looks the device up before it says so, which makes
 * -ENODEV ambiguous: as long as no command has succeeded, the other numbering
 * is tried as well. Kernel: ublk_ctrl_uring_cmd().
 */
static int ctrl_send(struct ctrl *c, unsigned nr, struct ublksrv_ctrl_cmd cmd)
{
	int ret;

	if (nr != UBLK_CMD_GET_QUEUE_AFFINITY)
		cmd.queue_id = UINT16_MAX;
	if (c->enc != ENC_UNKNOWN)
		return ctrl_try(c, c->enc, nr, &cmd);

	ret = ctrl_try(c, ENC_IOCTL, nr, &cmd);
	if (ret >= 0)
		c->enc = ENC_IOCTL;
	if (ret != -EOPNOTSUPP && ret != -ENODEV)
		return ret;
	if (nr == UBLK_CMD_GET_FEATURES)
		return ret;	/* younger than the encoding */
	ret = ctrl_try(c, ENC_LEGACY, nr, &cmd);
	if (ret >= 0)
		c->enc = ENC_LEGACY;
	return ret;
}

void ctrl_close(struct ctrl *c)
{
	uring_exit(&c->ring);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static int ctrl_try_node(struct ctrl *c)
{
	c->step = STEP_CONTROL;
	c->fd = node_try(CTRL_NODE, O_RDWR, mounts_are_left());
	return c->fd < 0 ? -errno : 0;
}

int ctrl_open_node(struct ctrl *c, bool load)
{
	int ret = ctrl_try_node(c);

	if ((ret == -ENOENT || ret == -ENODEV || ret == -ENXIO) && load) {
		driver_load();
		ret = ctrl_try_node(c);
	}
	return ret;
}

int ctrl_open(struct ctrl *c, bool load)
{
	struct ublksrv_ctrl_cmd cmd = { .dev_id = UINT32_MAX };
	int ret;

	ctrl_set_deadline(c);
	ret = c->fd >= 0 ? 0 : ctrl_open_node(c, load);
	/* is it only that nobody has made the node? */
	if (ret == -ENOENT && !c->stay && !mounts_are_left() && mounts_leave() == 0)
		ret = ctrl_try_node(c);
	if (ret)
		return ret;
	c->step = STEP_RING;
	ret = uring_init(&c->ring, 8, IORING_SETUP_SQE128);
	if (ret)
		return ret;

	cmd.addr = (uintptr_t)&c->features_buf;
	cmd.len = UBLK_FEATURES_LEN;
	if (ctrl_send(c, UBLK_CMD_GET_FEATURES, cmd) == 0)
		c->features = c->features_buf;
	return 0;
}

int ctrl_get_info(struct ctrl *c, uint32_t id)
{
	struct ublksrv_ctrl_cmd cmd = {
		.dev_id = id,
		.addr = (uintptr_t)&c->info,
		.len = sizeof(c->info),
	};

	c->step = STEP_INFO;
	return ctrl_send(c, UBLK_CMD_GET_DEV_INFO, cmd);
}

int ctrl_get_params(struct ctrl *c, uint32_t id)
{
	struct ublksrv_ctrl_cmd cmd = {
		.dev_id = id,
		.addr = (uintptr_t)&c->params,
		.len = sizeof(c->params),
	};

	c->step = STEP_INFO;
	c->params = (struct ublk_params){ .len = sizeof(c->params) };
	return ctrl_send(c, UBLK_CMD_GET_PARAMS, cmd);
}

/* A command that has no buffer. data is the server's pid for START_DEV, else 0. */
static int ctrl_simple(struct ctrl *c, enum step step, unsigned nr, uint32_t id, uint64_t data)
{
	struct ublksrv_ctrl_cmd cmd = { .dev_id = id, .data = { data } };

	c->step = step;
	return ctrl_send(c, nr, cmd);
}

bool ctrl_is_gone(struct ctrl *c, uint32_t id, uint64_t cookie)
{
	return ctrl_get_info(c, id) == -ENODEV || c->info.ublksrv_flags != cookie;
}

int ctrl_wait_gone(struct ctrl *c, uint32_t id, uint64_t cookie, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;

	while (!ctrl_is_gone(c, id, cookie)) {
		if (now_ms() >= end) {
			c->step = STEP_DEL;
			return -ETIME;
		}
		nap_ms(2);
	}
	/* the driver drops the device, then frees its number, and of that it does not tell */
	nap_ms(5);
	return 0;
}

/* ---- stop and remove ---- */

/* Wait for a child, serving meanwhile if we are a server. Returns its exit status, or -ETIME. */
static int ctrl_await(struct ctrl *c, pid_t pid)
{
	int wstatus = 0;

	while (waitpid(pid, &wstatus, WNOHANG) == 0) {
		if (!ctrl_left(c))
			return -ETIME;
		if (c->serving)
			ctrl_turn(c, 5);
		else
			nap_ms(5);
	}
	return WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : EXIT_FAILURE;
}

/*
 * Have what is dirty on a device written through its server. On a device that
 * can be recovered STOP_DEV does not do that, it throws it away: the driver
 * fails all requests before it lets the block layer sync. In a process of its
 * own, since it waits for the server, which may be us.
 */
static int dev_flush(struct ctrl *c, uint32_t id)
{
	pid_t pid;
	int ret;

	c->step = STEP_FLUSH;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		(void)syscall(SYS_close_range, 3, ~0U, 0);
		_exit(disk_flush(id) ? EXIT_FAILURE : 0);
	}
	ret = ctrl_await(c, pid);
	if (ret > 0)
		notice("/dev/ublkb%u: not all that is dirty could be written", id);
	return ret < 0 ? ret : 0;
}

int dev_stop(struct ctrl *c, uint32_t id, bool force, char *text, size_t len)
{
	bool safe = !force && c->features & UBLK_F_SAFE_STOP_DEV;
	bool live;
	int ret = ctrl_get_info(c, id);

	if (ret)
		return ret;
	live = c->info.state == UBLK_S_DEV_LIVE;
	c->step = STEP_STOP;
	/* one that waits for a server must not be opened: that may read from it */
	if (!force && (dev_in_use(id, text, len) || (live && !c->serving && disk_claimed(id, text, len))))
		return -EBUSY;
	if (live && c->info.flags & UBLK_F_USER_RECOVERY) {
		ret = dev_flush(c, id);
		if (ret)
			return ret;
	}
	ret = ctrl_simple(c, STEP_STOP, safe ? UBLK_CMD_TRY_STOP_DEV : UBLK_CMD_STOP_DEV, id, 0);
	if (ret == -EBUSY)
		text_print(text, len, "opened by a process that /proc does not show");
	return ret;
}

int dev_del(struct ctrl *c, uint32_t id)
{
	int ret = ctrl_simple(c, STEP_DEL, UBLK_CMD_DEL_DEV_ASYNC, id, 0);
	char text[160];

	if (ret == -EOPNOTSUPP || ret == -EINVAL) {
		while (dev_in_use(id, text, sizeof(text))) {
			if (!ctrl_left(c))
				return -EBUSY;
			nap_ms(50);
		}
		ret = ctrl_simple(c, STEP_DEL, UBLK_CMD_DEL_DEV, id, 0);
	}
	return ret == -ENODEV ? 0 : ret;
}

/* ---- the life of a device, from the server's side ---- */

/* Ask for features and find out which were granted. */
static int server_add(struct server *s)
{
	const struct options *o = s->o;
	struct ctrl *c = &s->ctrl;
	struct ublksrv_ctrl_cmd cmd = {
		.dev_id = (uint32_t)o->id,
		.addr = (uintptr_t)&c->info,
		.len = sizeof(c->info),
	};
	uint64_t want;
	int ret;

	c->step = STEP_FEATURE;
	if (s->dev.data_path == DATA_ZERO_COPY && !(c->features & UBLK_F_AUTO_BUF_REG)) {
		s->why = "this kernel has no zero copy (AUTO_BUF_REG, Linux 6.16)";
		if (o->zero_copy == ZERO_COPY_ON)
			return -EOPNOTSUPP;
		s->why = NULL;
		s->dev.data_path = DATA_COPY;
	}
	want = s->dev.data_path == DATA_ZERO_COPY ? UBLK_F_AUTO_BUF_REG : UBLK_F_NEED_GET_DATA;
	want |= c->features & UBLK_F_NO_AUTO_PART_SCAN;
	if (o->recoverable || o->resilient)
		want |= UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;
	s->rescan = want & UBLK_F_NO_AUTO_PART_SCAN && !o->no_part_scan;
	c->info = (struct ublksrv_ctrl_dev_info){
		.nr_hw_queues = (uint16_t)o->queues,
		.queue_depth = (uint16_t)o->qdepth,
		.max_io_buf_bytes = s->dev.max_io,
		.dev_id = (uint32_t)o->id,
		.ublksrv_pid = -1,
		.flags = want,
		.ublksrv_flags = s->cookie,
	};
	c->step = STEP_ADD;
	ret = ctrl_send(c, UBLK_CMD_ADD_DEV, cmd);
	if (ret)
		return ret;

	s->added = true;
	s->id = c->info.dev_id;
	/* 6.4 takes both encodings but has no GET_FEATURES to tell */
	if (c->info.flags & UBLK_F_CMD_IOCTL_ENCODE)
		c->enc = ENC_IOCTL;
	debug("device %u added, features 0x%llx, asked for 0x%llx", s->id,
	      (unsigned long long)c->info.flags, (unsigned long long)want);
	c->step = STEP_FEATURE;
	if ((c->info.flags & want) != want)
		return -EOPNOTSUPP;
	if (c->info.max_io_buf_bytes < s->dev.max_io)
		s->dev.max_io = c->info.max_io_buf_bytes;
	s->nr_queues = c->info.nr_hw_queues;
	if (s->nr_queues < o->queues)
		notice("/dev/ublkb%u: %u queues instead of %u, one for each CPU", s->id,
		       s->nr_queues, (unsigned)o->queues);
	return 0;
}

static uint8_t shift_of(uint32_t n)
{
	return (uint8_t)__builtin_ctz(n);
}

static int server_set_params(struct server *s)
{
	const struct dev *d = &s->dev;
	struct ctrl *c = &s->ctrl;
	struct ublksrv_ctrl_cmd cmd = {
		.dev_id = s->id,
		.addr = (uintptr_t)&c->params,
		.len = sizeof(c->params),
	};

	c->params = (struct ublk_params){
		.len = sizeof(c->params),
		.types = UBLK_PARAM_TYPE_BASIC,
		.basic = {
			.attrs = (d->read_only ? UBLK_ATTR_READ_ONLY : 0) |
				 (d->volatile_cache ? UBLK_ATTR_VOLATILE_CACHE : 0) |
				 (d->fua ? UBLK_ATTR_FUA : 0),
			.logical_bs_shift = shift_of(d->block_size),
			.physical_bs_shift = shift_of(d->physical_block_size),
			.io_min_shift = shift_of(d->physical_block_size),
			.io_opt_shift = shift_of(d->physical_block_size),
			.max_sectors = d->max_io >> SECTOR_SHIFT,
			.dev_sectors = d->size >> SECTOR_SHIFT,
		},
	};
	if (d->max_discard || d->max_write_zeroes) {
		c->params.types |= UBLK_PARAM_TYPE_DISCARD;
		c->params.discard = (struct ublk_param_discard){
			.discard_granularity = d->discard_granularity,
			.max_discard_sectors = d->max_discard >> SECTOR_SHIFT,
			.max_write_zeroes_sectors = d->max_write_zeroes >> SECTOR_SHIFT,
			.max_discard_segments = 1,
		};
	}
	if (d->data_path == DATA_ZERO_COPY && d->dma_align) {
		c->params.types |= UBLK_PARAM_TYPE_DMA_ALIGN;
		c->params.dma.alignment = d->dma_align - 1;
	}
	if (d->data_path == DATA_ZERO_COPY) {
		c->params.types |= UBLK_PARAM_TYPE_SEGMENT;
		c->params.seg = (struct ublk_param_segment){
			.seg_boundary_mask = UINT32_MAX,
			.max_segment_size = UINT32_MAX,
			.max_segments = IO_CACHED_SEGMENTS,
		};
	}
	c->step = STEP_PARAMS;
	return ctrl_send(c, UBLK_CMD_SET_PARAMS, cmd);
}

static int server_open_char(struct server *s)
{
	char path[NODE_LEN];

	s->ctrl.step = STEP_CHAR;
	text_print(path, sizeof(path), "/dev/ublkc%u", s->id);
	s->char_fd = node_open(path, O_RDWR);
	return s->char_fd < 0 ? s->char_fd : 0;
}

static int server_get_affinity(struct server *s, struct queue *q)
{
	struct ctrl *c = &s->ctrl;
	struct ublksrv_ctrl_cmd cmd = {
		.dev_id = s->id,
		.queue_id = q->q_id,
		.addr = (uintptr_t)c->cpus,
		.len = sizeof(c->cpus),
		.data = { q->q_id },
	};
	int ret;

	c->step = STEP_AFFINITY;
	ret = ctrl_send(c, UBLK_CMD_GET_QUEUE_AFFINITY, cmd);
	CPU_ZERO(&q->cpus);
	if (ret == -EINVAL)
		return 0;	/* more CPUs than fit here: left where it is */
	if (ret < 0)
		return ret;
	memcpy(&q->cpus, c->cpus,
	       sizeof(q->cpus) < sizeof(c->cpus) ? sizeof(q->cpus) : sizeof(c->cpus));
	return 0;
}

static int server_make_queues(struct server *s)
{
	const bool legacy = s->ctrl.enc == ENC_LEGACY;
	const size_t size = sizeof(struct ublksrv_io_cmd);

	s->queues = pages_get(s->nr_queues * sizeof(*s->queues));
	if (!s->queues)
		return -ENOMEM;
	for (unsigned i = 0; i < s->nr_queues; i++) {
		struct queue *q = &s->queues[i];
		enum encoding enc = legacy ? ENC_LEGACY : ENC_IOCTL;
		int ret;

		*q = (struct queue){
			.ring = URING_NONE,
			.s = s,
			.dev = &s->dev,
			.be = s->be,
			.q_id = (uint16_t)i,
			.depth = s->ctrl.info.queue_depth,
			/* 6.17: all drivers that have it answer GET_DATA on the spot, or refuse the commit */
			.can_pair = s->ctrl.features & UBLK_F_BUF_REG_OFF_DAEMON,
			.page = (uintptr_t)getpagesize(),
			.cmd_fetch = cmd_encode(enc, UBLK_IO_FETCH_REQ, size),
			.cmd_commit = cmd_encode(enc, UBLK_IO_COMMIT_AND_FETCH_REQ, size),
			.cmd_get_data = cmd_encode(enc, UBLK_IO_NEED_GET_DATA, size),
		};
		ret = s->o->cpu_affinity ? server_get_affinity(s, q) : 0;
		if (ret)
			return ret;
	}
	return 0;
}

/* Queue 0 in this thread, the others in theirs, all fetched when it returns 0. */
static int server_start_queues(struct server *s)
{
	bool hide = s->o->no_part_scan && !(s->ctrl.features & UBLK_F_NO_AUTO_PART_SCAN);
	int ret = server_make_queues(s);

	if (ret)
		return ret;
	s->ctrl.step = STEP_QUEUE;
	for (unsigned i = 1; i < s->nr_queues && !ret; i++) {
		ret = -pthread_create(&s->queues[i].thread, NULL, queue_thread, &s->queues[i]);
		s->nr_threads += !ret;
	}
	if (!ret && hide)
		ret = set_admin(false);
	if (!ret)
		ret = queue_start(&s->queues[0]);
	if (hide)
		(void)set_admin(true);	/* it is ours to raise again */
	if (!ret) {
		queue_poll(&s->queues[0], s->signal_fd, KIND_SIGNAL);
		if (s->hold_fd >= 0)
			queue_poll(&s->queues[0], s->hold_fd, KIND_HOLD);
		s->ctrl.serving = &s->queues[0];
	}
	/* whatever happened: none of them fetches once this has returned */
	for (unsigned i = 1; i <= s->nr_threads; i++) {
		while (sem_wait(&s->ready))
			;	/* EINTR */
	}
	for (unsigned i = 1; i <= s->nr_threads && !ret; i++)
		ret = s->queues[i].err;
	return ret;
}

/*
 * The probe: a process that sends START_DEV, then opens and reads the node, and
 * finds the partitions where the driver was told not to (server_add()). All of
 * that waits for requests which the server has to answer, and up to 6.18 or so
 * START_DEV itself reads the partition table. So if the server is killed
 * meanwhile, whoever waits must not be a part of it, neither a thread nor a
 * kernel worker of its rings: it would keep the server from closing
 * /dev/ublkcN, and wait for ever for requests which only that close aborts.
 */
struct probe_order {
	uint32_t id, block_size;
	uint32_t nr_requests;	/* see server_nr_requests(); 0: as it is */
	bool rescan;
};

struct probe_answer {
	enum step step;
	int res;
};

static struct probe_answer probe_start(const struct probe_order *p)
{
	static struct ctrl c;	/* static: see struct ctrl */
	struct probe_answer a = { .step = STEP_NODE };

	ctrl_init(&c);
	(void)mounts_leave();	/* to where the node is sure to appear */
	a.res = ctrl_open(&c, false);
	if (!a.res)
		a.res = ctrl_simple(&c, STEP_START, UBLK_CMD_START_DEV, p->id, (uint64_t)getppid());
	if (a.res) {
		a.step = c.step;
		return a;
	}
	if (p->nr_requests)
		disk_limit(p->id, p->nr_requests);
	a.res = disk_try(p->id, p->block_size, p->rescan);
	return a;
}

int probe_fork(pid_t *pid)
{
	struct probe_answer answer;
	struct probe_order order;
	int fds[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	*pid = fork();
	if (*pid < 0) {
		ret = -errno;
		close(fds[0]);
		close(fds[1]);
		return ret;
	}
	if (*pid > 0) {
		close(fds[1]);
		return fds[0];
	}
	stdio_to_null();
	if (dup2(fds[1], 3) < 0)
		_exit(EXIT_FAILURE);
	(void)syscall(SYS_close_range, 4, ~0U, 0);
	if (read(3, &order, sizeof(order)) != sizeof(order))
		_exit(0);	/* the server had no need of it */
	answer = probe_start(&order);
	_exit(write(3, &answer, sizeof(answer)) != sizeof(answer));
}

/*
 * Before 6.15 or so a driver notices a dead server by a command that it finds
 * to cancel. Where a queue has a request for each of its tags in the server's
 * hands there is none, and its clients hang for good. So clients get one tag
 * less; the block layer's least is 4. Kernel: ublk_uring_cmd_cancel_fn().
 */
static uint32_t server_nr_requests(const struct server *s)
{
	const unsigned depth = s->ctrl.info.queue_depth;

	return s->ctrl.features & UBLK_F_QUIESCE || depth < 5 ? 0 : depth - 1;
}

/* Have the probe start the device, and serve meanwhile. */
static int server_start(struct server *s)
{
	const struct probe_order order = {
		.id = s->id, .block_size = s->dev.block_size, .rescan = s->rescan,
		.nr_requests = server_nr_requests(s),
	};
	struct probe_answer answer;

	s->ctrl.step = STEP_START;
	if (write(s->probe_fd, &order, sizeof(order)) != sizeof(order))
		return -errno;
	queue_poll(&s->queues[0], s->probe_fd, KIND_PROBE);
	while (!s->probed)
		if (queue_turn(&s->queues[0], ctrl_left(&s->ctrl)))
			return -ETIME;
	if (read(s->probe_fd, &answer, sizeof(answer)) != sizeof(answer))
		return -EPIPE;	/* it died, perhaps with the node open: not to be waited for */
	close(s->probe_fd);
	while (waitpid(s->probe_pid, NULL, 0) < 0 && errno == EINTR)
		;
	s->ctrl.step = answer.step;
	return answer.res;
}

int server_open(struct server *s)
{
	int ret;

	s->ctrl.step = STEP_BACKEND;
	ret = s->be->open(&s->dev, s->o, &s->why);
	if (ret)
		return ret;
	s->opened = true;
	s->dev.used = s->recover;
	if (s->recover && (s->cookie & DEV_IDENTITY) != s->dev.identity) {
		s->why = NOT_THE_SAME;
		return -EINVAL;
	}
	s->cookie |= s->dev.identity;
	return 0;
}

/*
 * Take over a device whose server has died, with the queues, limits and way of
 * the data that it has. Until the dead one's descriptors are closed, and its
 * operations ended, the driver says EBUSY. Returns 0, -ENODEV if the device is
 * gone, -EBUSY if its server is alive, or another -errno.
 */
static int server_rejoin(struct server *s)
{
	const int64_t soon = now_ms() + 1000;
	struct ctrl *c = &s->ctrl;
	int ret;

	for (;;) {
		ret = ctrl_get_info(c, s->id);
		if (!ret && (c->info.ublksrv_flags != s->cookie || c->info.state == UBLK_S_DEV_DEAD))
			ret = -ENODEV;
		if (!ret)
			ret = ctrl_simple(c, STEP_RECOVER, UBLK_CMD_START_USER_RECOVERY, s->id, 0);
		c->step = STEP_RECOVER;
		if (ret != -EBUSY)
			break;
		if (!s->restart && now_ms() > soon && info_has_server(&c->info)) {
			s->why = "its server is alive";
			return ret;
		}
		if (!ctrl_left(c))
			return -ETIME;
		nap_ms(5);
	}
	if (ret == -EINVAL)
		s->why = "it was not made to wait for a server (--recoverable), or one has died before it had taken over";
	if (ret)
		return ret;
	s->nr_queues = c->info.nr_hw_queues;
	if (c->info.max_io_buf_bytes < s->dev.max_io)
		s->dev.max_io = c->info.max_io_buf_bytes;
	if (s->dev.data_path == DATA_ZERO_COPY && !(c->info.flags & UBLK_F_AUTO_BUF_REG))
		s->dev.data_path = DATA_COPY;
	if (c->info.flags & UBLK_F_CMD_IOCTL_ENCODE)
		c->enc = ENC_IOCTL;
	return 0;
}

static int server_make(struct server *s)
{
	int ret = server_add(s);

	return ret ? ret : server_set_params(s);
}

int server_up(struct server *s)
{
	struct ctrl *c = &s->ctrl;
	int ret;

	ret = ctrl_open_node(c, !s->o->no_modprobe && !s->recover);
	/* it may be there when we have a /dev of our own, unless /sys says that there is no driver */
	if (ret && (ret != -ENOENT || driver_is_absent()))
		return ret;
	ret = s->opened ? 0 : server_open(s);	/* a guard has opened it for us */
	if (ret)
		return ret;
	server_confine(c->fd < 0);	/* before there is a ring: the kernel's workers for it would stay behind */
	ret = ctrl_open(c, false);
	if (ret)
		return ret;
	/* never read, and written only with what cannot be used: no page is kept for it */
	s->sink = mmap(NULL, s->dev.max_io, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->sink == MAP_FAILED) {
		s->sink = NULL;
		return -errno;
	}
	ret = s->recover ? server_rejoin(s) : server_make(s);
	if (!ret)
		ret = server_open_char(s);
	if (!ret)
		ret = server_start_queues(s);
	if (!ret && s->recover)
		ret = ctrl_simple(c, STEP_REJOIN, UBLK_CMD_END_USER_RECOVERY, s->id, (uint64_t)getpid());
	else if (!ret)
		ret = server_start(s);
	s->added |= !ret;	/* from now on it is ours to remove */
	s->dev.used |= !ret;
	if (!ret) {
		c->step = STEP_MKNOD;
		ret = nodes_make(s->id);
	}
	return ret;
}

/* Let the tags go: they end by STOP_DEV, whoever sent it. */
static int server_drain(struct server *s)
{
	struct ctrl *c = &s->ctrl;
	int ret = 0;

	c->patient = true;
	ctrl_set_deadline(c);
	if (s->queues && c->serving) {
		struct queue *q = &s->queues[0];

		if (q->live)
			ret = ctrl_simple(c, STEP_STOP, UBLK_CMD_STOP_DEV, s->id, 0);
		while (!ret && q->live)
			ret = queue_turn(q, ctrl_left(c));
		c->serving = NULL;
	} else if (s->nr_threads) {
		/* queue 0 never came up; the threads' tags still have to go */
		ret = ctrl_simple(c, STEP_STOP, UBLK_CMD_STOP_DEV, s->id, 0);
	}
	return ret;
}

int server_down(struct server *s)
{
	struct ctrl *c = &s->ctrl;
	bool marked = false;
	int ret = 0;

	if (s->added) {
		ret = server_drain(s);
		if (ret && ret != -ENODEV)
			return ret;	/* tags are in flight: the end of the process takes them */
		marked = ctrl_simple(c, STEP_DEL, UBLK_CMD_DEL_DEV_ASYNC, s->id, 0) == 0;
		ret = 0;
	}
	for (unsigned i = 1; i <= s->nr_threads; i++)
		pthread_join(s->queues[i].thread, NULL);
	if (s->queues)
		queue_end(&s->queues[0]);
	if (s->char_fd >= 0)
		close(s->char_fd);
	if (s->added && !marked && !ctrl_is_gone(c, s->id, s->cookie))
		ret = dev_del(c, s->id);
	if (s->added && !ret)
		ret = ctrl_wait_gone(c, s->id, s->cookie, marked ? 2000 : ctrl_left(c));
	if (ret == -ETIME && marked)
		ret = 0;	/* still open somewhere: it goes with the last close */
	if (s->added && !ret && mounts_caller_dev() >= 0)
		nodes_forget(s->id);
	if (s->opened)
		s->be->close(&s->dev);
	ctrl_close(c);
	if (s->queues)
		munmap(s->queues, s->nr_queues * sizeof(*s->queues));
	return ret;
}

/*
 * A signal asked us to stop. 0: stopped, or as good as; -EBUSY: in use. What
 * has it open for a moment only, as udev does after each writer, is waited for.
 */
static int server_asked(struct server *s, bool force)
{
	const int64_t grace = now_ms() + GRACE_MS;
	char node[NODE_LEN], text[160];
	int ret;

	ctrl_set_deadline(&s->ctrl);
	s->ctrl.patient = true;
	while ((ret = dev_stop(&s->ctrl, s->id, force, text, sizeof(text))) == -EBUSY &&
	       now_ms() < grace)
		queue_turn(&s->queues[0], 10);
	text_print(node, sizeof(node), NODE_BASE "%u", s->id);
	if (ret == -EBUSY)
		notice("%s is %s: still serving; a second signal stops it all the same", node, text);
	else if (ret && ret != -ENODEV)
		(void)fail(node, s->ctrl.step, ret, NULL);
	return ret;
}

void server_run(struct server *s)
{
	struct queue *q = &s->queues[0];
	unsigned seen = 0;

	while (q->live) {
		int ret;

		if (s->signals == seen) {
			queue_turn(q, -1);
			continue;
		}
		seen = s->signals;
		ret = server_asked(s, seen > 1);
		if (!ret || ret == -ENODEV)
			return;		/* server_down() does the rest, or says why not */
	}
}

/* ---- cli/out ---- */

/* What verbs print: in one piece when they are done, or a line at a time on a terminal. */
static struct out {
	char text[16384];
	size_t len;
	int err;	/* the errno of the first write that failed; the rest is dropped */
} out;

static void print_flush(void)
{
	for (size_t done = 0; done < out.len && !out.err; ) {
		ssize_t n;

		errno = EIO;	/* for nothing written */
		n = write(STDOUT_FILENO, out.text + done, out.len - done);
		if (n > 0)
			done += (size_t)n;
		else
			out.err = errno;
	}
	out.len = 0;
}

/* To stdout, no more than half of out.text at once. An error shows at the end, see main(). */
__attribute__((format(printf, 1, 2)))
static void print(const char *fmt, ...)
{
	va_list ap;

	if (out.len > sizeof(out.text) / 2)
		print_flush();
	va_start(ap, fmt);
	out.len += text_vprint(out.text + out.len, sizeof(out.text) - out.len, fmt, ap);
	va_end(ap);
	if (out.len && out.text[out.len - 1] == '\n' && isatty(STDOUT_FILENO))
		print_flush();
}

static void json_string(const char *s)
{
	print("\"");
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			print("\\%c", *s);
		else if ((unsigned char)*s < ' ')
			print("\\u%04x", *s);
		else
			print("%c", *s);
	}
	print("\"");
}

static int print_end(void)
{
	print_flush();
	return -out.err;
}

/* ---- cli/backends ---- */

extern const struct backend backend_mem, backend_file;

/* By the type in a cookie, so the order is for good: new ones go to the end. */
static const struct backend *const backends[] = { &backend_mem, &backend_file };
_Static_assert(ARRAY_SIZE(backends) <= COOKIE_TYPES, "a cookie has no room for that many");

static const struct backend *backend_nr(unsigned nr)
{
	return nr < ARRAY_SIZE(backends) ? backends[nr] : NULL;
}

/* The backend of this name, or NULL. */
static const struct backend *backend_find(const char *name)
{
	const struct backend *be;

	for (unsigned nr = 0; (be = backend_nr(nr)); nr++)
		if (!strcmp(be->name, name))
			break;
	return be;
}

/* Its number in a cookie. */
static unsigned backend_type(const struct backend *be)
{
	unsigned type = 0;

	while (backends[type] != be)
		type++;
	return type;
}

/* What the device with this cookie is made of, or NULL if it is not ours. */
static const struct backend *backend_of(uint64_t cookie)
{
	return cookie_is_ours(cookie) ? backend_nr(cookie_type(cookie)) : NULL;
}

static const char *backend_name(uint64_t cookie)
{
	const struct backend *be = backend_of(cookie);

	return be ? be->name : "other";
}

/* ---- cli/args ---- */

enum { V_MAKE = 1, V_LIST = 2, V_STOP = 4, V_HELP = 8, V_CHECK = 16, V_RECOVER = 32, V_SERVE = V_MAKE | V_RECOVER };

/* What a command line says. */
struct args {
	struct job job;			/* for verbs that serve a device */
	const struct verb *verb;
	bool daemon, all, force, json, help, quiet, verbose;
	uint64_t wait;			/* seconds */
	char **operands;		/* of argv, in order */
	char **command;			/* what is behind "--", or NULL */
	int nr;
	uint64_t given;			/* bit i: option_defs[i] was there */
};

struct verb {
	const char *name;
	unsigned bit;
	const char *operands;		/* for the usage line */
	int max;			/* how many */
	int (*run)(const struct args *a);	/* returns the exit status */
	const struct backend *be;	/* what a device is made of, for verbs that make one */
	const char *help;
};

enum opt_type { OPT_FLAG, OPT_NUMBER, OPT_SIZE, OPT_STRING, OPT_CHOICE };

static const struct option_def {
	const char *name;
	char letter;
	enum opt_type type;
	const char *arg;
	size_t where;			/* in struct args */
	uint64_t min, max;
	unsigned verbs;
	const char *only;		/* the backend that it is for; NULL: all */
	const char *help;
} option_defs[] = {
#define FIELD(f) offsetof(struct args, f)
#define DEVICE(f) offsetof(struct args, job.o.f)
	{ "size", 0, OPT_SIZE, "SIZE", DEVICE(size), 512, 1ULL << 62, V_SERVE, NULL,
	  "mem: the same as SIZE; file: how much of it to show, or to make" },
	{ "id", 0, OPT_NUMBER, "N", DEVICE(id), 0, UBLK_MAX_UBLKS - 1, V_MAKE, NULL,
	  "device number; default: the lowest free one" },
	{ "queues", 0, OPT_NUMBER, "N", DEVICE(queues), 1, UBLK_MAX_NR_QUEUES, V_SERVE, NULL,
	  "hardware queues, each with a ring and a thread; default: 1" },
	{ "qdepth", 0, OPT_NUMBER, "N", DEVICE(qdepth), 1, UBLK_MAX_QUEUE_DEPTH, V_SERVE, NULL,
	  "requests in flight in a queue; default: 128" },
	{ "cpu-affinity", 0, OPT_FLAG, NULL, DEVICE(cpu_affinity), 0, 0, V_SERVE, NULL,
	  "pin each queue's thread to the CPUs whose requests the queue takes" },
	{ "block-size", 0, OPT_SIZE, "N", DEVICE(block_size), 512, 4096, V_SERVE, NULL,
	  "logical block size, a power of two; default: 512" },
	{ "max-io", 0, OPT_SIZE, "SIZE", DEVICE(max_io), 4096, 32 << 20, V_SERVE, NULL,
	  "largest request; default: 1M" },
	{ "read-only", 'r', OPT_FLAG, NULL, DEVICE(read_only), 0, 0, V_SERVE, NULL,
	  "the block layer refuses writes; a file is opened for reading only" },
	{ "recoverable", 0, OPT_FLAG, NULL, DEVICE(recoverable), 0, 0, V_SERVE, "file",
	  "if the server dies, clients wait for \"ublk recover\"; default: they get errors" },
	{ "resilient", 0, OPT_FLAG, NULL, DEVICE(resilient), 0, 0, V_SERVE, NULL,
	  "if the server dies, a parent starts another, and clients see a pause" },
	{ "no-part-scan", 0, OPT_FLAG, NULL, DEVICE(no_part_scan), 0, 0, V_SERVE, NULL,
	  "do not look for partitions" },
	{ "no-modprobe", 0, OPT_FLAG, NULL, DEVICE(no_modprobe), 0, 0, V_SERVE, NULL,
	  "do not load the driver" },
	{ "prealloc", 0, OPT_FLAG, NULL, DEVICE(prealloc), 0, 0, V_MAKE, "mem",
	  "take all memory at once and keep it; default: as it is written, back on discard" },
	{ "huge", 0, OPT_FLAG, NULL, DEVICE(huge), 0, 0, V_MAKE, "mem",
	  "ask for transparent huge pages" },
	{ "path", 0, OPT_STRING, "PATH", DEVICE(path), 0, 0, V_SERVE, "file",
	  "the same as PATH: a regular file or a block device" },
	{ "direct", 0, OPT_FLAG, NULL, DEVICE(direct), 0, 0, V_SERVE, "file",
	  "bypass the page cache (O_DIRECT), if the file takes it" },
	{ "offset", 0, OPT_SIZE, "SIZE", DEVICE(offset), 0, 1ULL << 62, V_SERVE, "file",
	  "where in the file the device begins, a multiple of the block size; default: 0" },
	{ "create", 0, OPT_FLAG, NULL, DEVICE(create), 0, 0, V_MAKE, "file",
	  "make a new sparse file of --size" },
	{ "zero-copy", 0, OPT_CHOICE, "auto|on|off", DEVICE(zero_copy), 0, 0, V_SERVE, "file",
	  "move data straight between the client's pages and the file; default: auto" },
	{ "daemon", 'd', OPT_FLAG, NULL, FIELD(daemon), 0, 0, V_SERVE, NULL,
	  "print the node and return; the server stays in the background" },
	{ "all", 0, OPT_FLAG, NULL, FIELD(all), 0, 0, V_STOP, NULL,
	  "every device that ublk or another server made" },
	{ "force", 0, OPT_FLAG, NULL, FIELD(force), 0, 0, V_STOP, NULL,
	  "even if it is in use; dirty pages are still written" },
	{ "wait", 0, OPT_NUMBER, "SECONDS", FIELD(wait), 0, 86400, V_STOP, NULL,
	  "wait for it to become free; default: 0" },
	{ "json", 0, OPT_FLAG, NULL, FIELD(json), 0, 0, V_LIST | V_CHECK, NULL,
	  "for scripts" },
	{ "quiet", 'q', OPT_FLAG, NULL, FIELD(quiet), 0, 0, V_SERVE | V_STOP | V_LIST, NULL,
	  "errors only" },
	{ "verbose", 'v', OPT_FLAG, NULL, FIELD(verbose), 0, 0, V_SERVE | V_STOP | V_LIST, NULL,
	  "say what is done" },
	{ "help", 'h', OPT_FLAG, NULL, FIELD(help), 0, 0, V_SERVE | V_STOP | V_LIST | V_CHECK | V_HELP, NULL,
	  "this page" },
#undef DEVICE
#undef FIELD
};

_Static_assert(ARRAY_SIZE(option_defs) <= 64, "args.given");

static const struct option_def *option_find(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++)
		if (strlen(option_defs[i].name) == len && !strncmp(option_defs[i].name, name, len))
			return &option_defs[i];
	return NULL;
}

static const char *operand_name(const struct backend *be)
{
	return option_find(be->operand, strlen(be->operand))->arg;
}

/* Does the verb take this option? */
static bool option_is_of(const struct option_def *d, const struct verb *v)
{
	return d->verbs & v->bit && (!d->only || !v->be || !strcmp(d->only, v->be->name));
}

static const struct option_def *option_find_letter(char c)
{
	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++)
		if (c && option_defs[i].letter == c)
			return &option_defs[i];
	return NULL;
}

/* One line, status 2. */
__attribute__((format(printf, 2, 3)))
static int args_error(const struct verb *v, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	text_vprint(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (v)
		say("%s: %s; see \"ublk help %s\"", v->name, text, v->name);
	else
		say("%s; see \"ublk help\"", text);
	return EXIT_USAGE;
}

/* Which of "auto|on|off" is this? */
static bool choice_find(const char *choices, const char *value, uint64_t *which)
{
	const size_t len = strlen(value);
	uint64_t n = 0;

	for (const char *c = choices; c; n++) {
		size_t l = strcspn(c, "|");

		if (l == len && !strncmp(c, value, len)) {
			*which = n;
			return true;
		}
		c = c[l] ? c + l + 1 : NULL;
	}
	return false;
}

/* A value into its place. word is what the user wrote, for the message. */
static int option_store(const struct verb *v, struct args *a, const struct option_def *d,
			const char *word, const char *value)
{
	void *where = (char *)a + d->where;
	const uint64_t bit = 1ULL << (d - option_defs);
	uint64_t n = 0;
	bool ok;

	if (a->given & bit)
		return args_error(v, "%s: --%s is given twice", word, d->name);
	a->given |= bit;
	switch (d->type) {
	case OPT_FLAG:
		*(bool *)where = true;
		return 0;
	case OPT_STRING:
		*(const char **)where = value;
		return *value ? 0 : args_error(v, "%s: --%s is empty", word, d->name);
	case OPT_CHOICE:
		if (choice_find(d->arg, value, where))
			return 0;
		return args_error(v, "%s: \"%s\" is not one of %s", word, value, d->arg);
	case OPT_NUMBER:
	case OPT_SIZE:
		break;
	}
	ok = d->type == OPT_SIZE ? parse_size(value, &n) : parse_number(value, &n);
	if (!ok || n < d->min || n > d->max)
		return args_error(v, "%s: \"%s\" is not a %s from %llu to %llu", word, value,
				   d->type == OPT_SIZE ? "size (a whole number, with K, M, G, T or P)" : "number",
				   (unsigned long long)d->min, (unsigned long long)d->max);
	*(uint64_t *)where = n;
	return 0;
}

/* --name, --name=value, --name value. *i moves on if the next word is the value. */
static int option_long(const struct verb *v, struct args *a, int argc, char **argv, int *i)
{
	const char *word = argv[*i], *name = word + 2;
	size_t len = strcspn(name, "=");
	const char *value = name[len] ? name + len + 1 : NULL;
	const struct option_def *d = option_find(name, len);

	if (!d || !option_is_of(d, v))
		return args_error(v, "%s: no such option", word);
	if (d->type == OPT_FLAG) {
		if (value)
			return args_error(v, "%s: --%s takes no value", word, d->name);
	} else if (!value) {
		if (*i + 1 >= argc)
			return args_error(v, "%s: the value is missing: --%s=%s", word, d->name, d->arg);
		value = argv[++*i];
	}
	return option_store(v, a, d, word, value);
}

/* -d, -dq: only flags have letters */
static int option_letters(const struct verb *v, struct args *a, const char *word)
{
	for (const char *c = word + 1; *c; c++) {
		const struct option_def *d = option_find_letter(*c);
		int ret;

		if (!d || !option_is_of(d, v))
			return args_error(v, "%s: no such option", word);
		ret = option_store(v, a, d, word, NULL);
		if (ret)
			return ret;
	}
	return 0;
}

/* Fill *a from the words behind the verb. Returns 0 or EXIT_USAGE, having said why. */
static int args_parse(const struct verb *v, struct args *a, int argc, char **argv)
{
	int ret = 0;

	*a = (struct args){
		.job = {
			.be = v->be,
			.o = { .id = ID_ANY, .queues = 1, .qdepth = 128, .max_io = 1 << 20 },
		},
		.verb = v,
		.operands = argv,
	};
	for (int i = 0; i < argc && !ret; i++) {
		if (!strcmp(argv[i], "--") && v->be) {
			a->command = argv + i + 1;
			if (i + 1 == argc)
				ret = args_error(v, "--: the command is missing");
			break;
		}
		if (!strncmp(argv[i], "--", 2) && argv[i][2])
			ret = option_long(v, a, argc, argv, &i);
		else if (argv[i][0] == '-' && argv[i][1])
			ret = option_letters(v, a, argv[i]);
		else if (a->nr == v->max)
			ret = args_error(v, "%s: one argument too many", argv[i]);
		else
			a->operands[a->nr++] = argv[i];
		if (a->help)
			return 0;
	}
	quiet = a->quiet;
	verbose = a->verbose;
	return ret;
}

/* What the table cannot say about one option, or says only about two together. */
static int make_check(const struct args *a)
{
	const struct verb *v = a->verb;
	const struct options *o = &a->job.o;
	const unsigned bs = o->block_size ? (unsigned)o->block_size : 512;

	if (bs & (bs - 1))
		return args_error(v, "--block-size=%u: not a power of two", bs);
	if (o->max_io % 4096)
		return args_error(v, "--max-io=%u: not a multiple of 4096", (unsigned)o->max_io);
	if (o->offset % bs)
		return args_error(v, "--offset=%llu: not a multiple of the block size, %u",
				   (unsigned long long)o->offset, bs);
	if (o->size % bs && (!strcmp(v->be->operand, "size") || o->create))
		return args_error(v, "SIZE: %llu is not a multiple of the block size, %u",
				   (unsigned long long)o->size, bs);
	if (o->create && !o->size)
		return args_error(v, "--create: how large is it to be? --size=SIZE");
	if (a->daemon && a->command)
		return args_error(v, "--daemon: not together with a command");
	if (o->create && o->read_only)
		return args_error(v, "--create: a new file is of no use --read-only");
	return 0;
}

/* "mem SIZE" and "mem --size=SIZE" are the same; one of them there must be. */
static int make_args(struct args *a)
{
	const struct verb *v = a->verb;
	const struct option_def *d = option_find(v->be->operand, strlen(v->be->operand));
	int ret = 0;

	if (a->nr)
		ret = option_store(v, a, d, v->operands, a->operands[0]);
	else if (!(a->given & 1ULL << (d - option_defs)))
		ret = args_error(v, "%s is missing", v->operands);
	return ret ? ret : make_check(a);
}

static int help_verb(const struct verb *v)
{
	char left[40];

	print("usage: ublk %s %s [options]%s\n\n%s\n\noptions:\n", v->name, v->operands,
	       v->be ? " [-- COMMAND [ARG...]]" : "", v->help);
	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++) {
		const struct option_def *d = &option_defs[i];

		if (!option_is_of(d, v))
			continue;
		text_print(left, sizeof(left), "%c%c%c --%s%s%s", d->letter ? '-' : ' ',
			 d->letter ? d->letter : ' ', d->letter ? ',' : ' ', d->name,
			 d->arg ? "=" : "", d->arg ? d->arg : "");
		print("  %-27s %s\n", left, d->help);
	}
	return 0;
}

/* ---- cli/find ---- */

/*
 * The backing of a device of ours: the file or block device that its server
 * has open. Returns whether there is one.
 */
static bool info_backing(const struct ublksrv_ctrl_dev_info *info, char *path, size_t len,
			 struct stat *st)
{
	const struct backend *be = backend_of(info->ublksrv_flags);
	char fd_path[64];
	bool found = false;
	const char *name;
	struct dir d;

	if (!be || !be->identity || info->ublksrv_pid <= 0)
		return false;	/* in memory, or not ours */
	text_print(fd_path, sizeof(fd_path), "/proc/%d/fd", info->ublksrv_pid);
	dir_open(&d, AT_FDCWD, fd_path);
	while (!found && (name = dir_next(&d))) {
		ssize_t got;
		uint64_t n;

		if (!parse_number(name, &n) || n < 3 || fstatat(d.fd, name, st, 0) ||
		    !(S_ISREG(st->st_mode) || S_ISBLK(st->st_mode)))
			continue;
		got = readlinkat(d.fd, name, path, len - 1);
		found = got > 0;
		path[found ? got : 0] = 0;
	}
	dir_close(&d);
	return found;
}

/*
 * A device by any of its names: number, node, or the file that it shows.
 * Returns 0, -ENODEV, or -ENOTUNIQ if several devices show that file.
 */
static int dev_resolve(struct ctrl *c, const char *name, uint32_t *id)
{
	struct stat want, st;
	char path[4096];
	uint32_t *ids;
	int nr, ret = -ENODEV;

	if (parse_dev(name, id))
		return 0;
	c->step = STEP_INFO;
	if (stat(name, &want) || !(S_ISREG(want.st_mode) || S_ISBLK(want.st_mode)))
		return -ENODEV;
	nr = dev_ids(&ids);
	for (int i = 0; i < nr; i++) {
		if (ctrl_get_info(c, ids[i]) || !info_backing(&c->info, path, sizeof(path), &st))
			continue;
		if (S_ISBLK(want.st_mode) ? st.st_rdev != want.st_rdev :
		    st.st_dev != want.st_dev || st.st_ino != want.st_ino)
			continue;
		ret = ret ? 0 : -ENOTUNIQ;
		*id = ids[i];
	}
	dev_ids_end(ids);
	return ret;
}

/*
 * Open the control plane to look at devices, without loading the driver: not
 * loaded, though it could be, means that there are none. Returns 0 or -errno,
 * -ENODEV for that.
 */
static int ctrl_open_to_look(struct ctrl *c)
{
	char path[4096];
	const bool loadable = access(CTRL_NODE, F_OK) && driver_path(path, sizeof(path));
	int ret;

	if (!c->stay)
		mounts_complete();
	ret = ctrl_open(c, false);
	return ret == -ENOENT && c->step == STEP_CONTROL && loadable ? -ENODEV : ret;
}

static const char *resolve_why(int err)
{
	return err == -ENOTUNIQ ? "several devices show it: name one" :
	       err == -ENODEV ? "no ublk device, nor shown by one" : NULL;
}

/* ---- cli/make ---- */

static int verb_make(const struct args *a)
{
	struct args made = *a;
	int ret = make_args(&made);

	if (ret)
		return ret;
	made.job.cookie = cookie_make(backend_type(made.job.be), &made.job.o);
	return serve(&made.job, made.command, made.daemon);
}

/* ---- cli/list ---- */

static const char *state_name(unsigned state)
{
	static const char *const names[] = {
		[UBLK_S_DEV_DEAD] = "dead", [UBLK_S_DEV_LIVE] = "live",
		[UBLK_S_DEV_QUIESCED] = "quiesced", [UBLK_S_DEV_FAIL_IO] = "fail-io",
	};

	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

/* What list shows of a device, and both its printers take. */
struct listed {
	struct ublksrv_ctrl_dev_info info;
	struct ublk_param_basic basic;
	int pid;		/* 0: no server */
	char backing[4096];	/* "": none */
};

static int list_get(struct ctrl *c, uint32_t id, struct listed *l)
{
	struct stat st;
	int ret = ctrl_get_info(c, id);

	if (ret)
		return ret;
	*l = (struct listed){ .info = c->info };
	if (ctrl_get_params(c, id) == 0 && c->params.types & UBLK_PARAM_TYPE_BASIC)
		l->basic = c->params.basic;
	/* 6.12 keeps the pid of a server that is long dead */
	if (l->info.state == UBLK_S_DEV_LIVE && l->info.ublksrv_pid > 0)
		l->pid = l->info.ublksrv_pid;
	if (!l->pid || !info_backing(&l->info, l->backing, sizeof(l->backing), &st))
		l->backing[0] = 0;
	return 0;
}

static void list_row(const struct listed *l, bool first)
{
	char node[NODE_LEN], size[32], pid[16] = "-";

	if (first)
		print("%-14s %-5s %7s %-8s %7s %6s %5s %2s %s\n", "NODE", "TYPE", "SIZE", "STATE",
		       "PID", "QUEUES", "DEPTH", "RO", "BACKING");
	text_print(node, sizeof(node), "/dev/ublkb%u", l->info.dev_id);
	size_text(l->basic.dev_sectors << SECTOR_SHIFT, size, sizeof(size));
	if (l->pid)
		text_print(pid, sizeof(pid), "%d", l->pid);
	print("%-14s %-5s %7s %-8s %7s %6u %5u %2u %s\n", node, backend_name(l->info.ublksrv_flags),
	       size, state_name(l->info.state), pid, l->info.nr_hw_queues, l->info.queue_depth,
	       l->basic.attrs & UBLK_ATTR_READ_ONLY, l->backing[0] ? l->backing : "-");
}

static void list_json(const struct listed *l, bool first)
{
	const struct ublksrv_ctrl_dev_info *i = &l->info;
	const char *comma = "";

	print("%s\n  {\"id\": %u, \"node\": \"/dev/ublkb%u\", \"char\": \"/dev/ublkc%u\", "
	       "\"type\": \"%s\", \"size\": %llu, \"state\": \"%s\", \"pid\": ", first ? "" : ",",
	       i->dev_id, i->dev_id, i->dev_id, backend_name(i->ublksrv_flags),
	       (unsigned long long)l->basic.dev_sectors << SECTOR_SHIFT, state_name(i->state));
	print(l->pid ? "%d" : "null", l->pid);
	print(", \"queues\": %u, \"depth\": %u, \"block_size\": %u, \"read_only\": %s, \"backing\": ",
	       i->nr_hw_queues, i->queue_depth, 1U << l->basic.logical_bs_shift,
	       l->basic.attrs & UBLK_ATTR_READ_ONLY ? "true" : "false");
	if (l->backing[0])
		json_string(l->backing);
	else
		print("null");
	print(", \"features\": [");
	for (size_t n = 0; n < driver_nr_features; n++) {
		if (i->flags >> n & 1) {
			print("%s\"%s\"", comma, driver_features[n].name);
			comma = ", ";
		}
	}
	print("]}");
}

static int verb_list(const struct args *a)
{
	void (*show)(const struct listed *l, bool first) = a->json ? list_json : list_row;
	static struct ctrl c;	/* static: see struct ctrl */
	uint32_t *ids = NULL, id;
	struct listed l;
	int status = 0, nr, printed = 0;
	int ret;

	ctrl_init(&c);
	ret = ctrl_open_to_look(&c);
	if (ret && ret != -ENODEV) {
		status = fail("list", c.step, ret, NULL);
		goto out;
	}
	if (a->json)
		print("{\"devices\": [");
	if (ret && a->nr)
		status = fail(a->operands[0], STEP_INFO, ret, resolve_why(ret));
	nr = ret ? 0 : a->nr ? a->nr : dev_ids(&ids);
	for (int i = 0; i < nr; i++) {
		id = a->nr ? 0 : ids[i];
		ret = a->nr ? dev_resolve(&c, a->operands[i], &id) : 0;
		if (!ret)
			ret = list_get(&c, id, &l);
		if (!ret)
			show(&l, !printed++);
		else if (a->nr || ret != -ENODEV)	/* it may go while we look */
			status = fail(a->nr ? a->operands[i] : "list", c.step, ret, resolve_why(ret));
	}
	if (a->json)
		print("%s]}\n", printed ? "\n" : "");
out:
	dev_ids_end(ids);
	ctrl_close(&c);
	return status;
}

/* ---- cli/recover ---- */

/* Is a device with this cookie made of the storage that these options name? As far as 20 bits tell. */
static bool recover_is_of(uint64_t cookie, const struct options *o)
{
	const struct backend *be = backend_of(cookie);
	uint32_t identity;

	return be && be->identity && be->identity(o, &identity) == 0 && (cookie & COOKIE_IDENTITY) == identity;
}

/*
 * A device that waits for a server, by its number, its node, or its storage.
 * c->info is then its. Returns 0, -ENODEV, or -ENOTUNIQ.
 */
static int recover_find(struct ctrl *c, const char *name, const struct options *o, uint32_t *id)
{
	uint32_t *ids;
	int nr, ret = -ENODEV;

	c->step = STEP_INFO;
	if (parse_dev(name, id))
		return ctrl_get_info(c, *id);
	nr = dev_ids(&ids);
	for (int i = 0; i < nr; i++) {
		if (ctrl_get_info(c, ids[i]) || !recover_is_of(c->info.ublksrv_flags, o))
			continue;
		ret = ret ? 0 : -ENOTUNIQ;
		*id = ids[i];
	}
	dev_ids_end(ids);
	return ret ? ret : ctrl_get_info(c, *id);
}

/* What the kernel knows of the device is as it was, whatever the command line says. */
static int recover_options(struct ctrl *c, uint32_t id, struct options *o)
{
	const struct ublksrv_ctrl_dev_info *info = &c->info;
	const struct ublk_param_basic *basic = &c->params.basic;
	int ret = ctrl_get_params(c, id);

	if (ret)
		return ret;
	o->id = id;
	o->size = basic->dev_sectors << SECTOR_SHIFT;
	o->block_size = 1U << basic->logical_bs_shift;
	o->read_only = basic->attrs & UBLK_ATTR_READ_ONLY;
	o->max_io = info->max_io_buf_bytes;
	o->queues = info->nr_hw_queues;
	o->qdepth = info->queue_depth;
	o->direct |= (info->ublksrv_flags & COOKIE_DIRECT) != 0;
	o->resilient |= (info->ublksrv_flags & COOKIE_RESILIENT) != 0;
	o->zero_copy = info->flags & UBLK_F_AUTO_BUF_REG ? ZERO_COPY_ON : ZERO_COPY_OFF;
	return 0;
}

/* Why it cannot be recovered with these options, or NULL. */
static const char *recover_refused(const struct ublksrv_ctrl_dev_info *info, const struct options *o)
{
	const struct backend *be = backend_of(info->ublksrv_flags);
	uint32_t identity;

	if (!be)
		return "another program's device: only that knows what it is made of";
	if (!be->identity)
		return "what it held was in its servers' memory and is gone with them; \"ublk stop --force\" removes it";
	if (!(info->flags & UBLK_F_USER_RECOVERY))
		return "it was not made to wait for a server (--recoverable); \"ublk stop\" removes it";
	/* looked at again when it is open, but there other things may fail first */
	if (o->path && be->identity(o, &identity) == 0 && identity != (info->ublksrv_flags & COOKIE_IDENTITY))
		return NOT_THE_SAME;
	return NULL;
}

/* ublk recover DEV [file] [PATH] */
static int verb_recover(const struct args *a)
{
	static struct ctrl c;	/* static: see struct ctrl */
	struct job job = a->job;
	struct options *o = &job.o;
	const char *why, *name = a->operands[0];
	int nr = 1, ret;
	uint32_t id = 0;

	ctrl_init(&c);
	if (!a->nr)
		return args_error(a->verb, "DEV is missing");
	if (nr < a->nr && backend_find(a->operands[nr]))
		nr++;
	if (nr < a->nr && !o->path)
		o->path = a->operands[nr++];
	if (nr < a->nr)
		return args_error(a->verb, "%s: one argument too many", a->operands[nr]);
	if (!o->path && !parse_dev(name, &id))
		o->path = name;
	c.stay = true;
	ret = ctrl_open_to_look(&c);
	if (!ret)
		ret = recover_find(&c, name, o, &id);
	why = ret ? resolve_why(ret) : recover_refused(&c.info, o);
	if (!ret && why)
		ret = -EINVAL;
	if (!ret && !o->path)
		return args_error(a->verb, "PATH is missing: of which file is %s?", name);
	if (!ret)
		ret = recover_options(&c, id, o);
	if (ret)
		ret = fail(name, ret == -EINVAL ? STEP_RECOVER : c.step, ret, why);
	job.be = backend_of(c.info.ublksrv_flags);
	job.cookie = c.info.ublksrv_flags;
	job.recover = true;
	ctrl_close(&c);
	return ret ? ret : serve(&job, a->command, a->daemon);
}

/* ---- cli/stop ---- */

static int verb_stop(const struct args *a)
{
	static struct ctrl c;	/* static: see struct ctrl */
	uint32_t *ids = NULL, id;
	int ret, nr, status = 0;

	ctrl_init(&c);
	if (a->all == (a->nr > 0)) {
		say("stop: name the devices, or say --all; see \"ublk help stop\"");
		return EXIT_USAGE;
	}
	/* what a script has open we have open as well, even when it has closed it */
	(void)syscall(SYS_close_range, 3, ~0U, 0);
	ret = ctrl_open_to_look(&c);
	if (ret == -ENODEV && !a->all)
		status = fail(a->operands[0], STEP_INFO, ret, resolve_why(ret));
	else if (ret && ret != -ENODEV)
		status = fail("stop", c.step, ret, NULL);
	nr = ret ? 0 : a->all ? dev_ids(&ids) : a->nr;
	for (int i = 0; i < nr; i++) {
		/* all: the highest first, as one may be made of a lower one */
		id = a->all ? ids[nr - 1 - i] : 0;
		ret = a->all ? 0 : dev_resolve(&c, a->operands[i], &id);
		ret = ret ? fail(a->operands[i], c.step, ret, resolve_why(ret)) :
			    stop_and_tell(&c, id, a->force, a->wait);
		/* with --all, one that went by itself is as good as stopped */
		if (ret && !(a->all && ret == EXIT_NO_DEVICE))
			status = ret;
	}
	dev_ids_end(ids);
	ctrl_close(&c);
	return status;
}

/* ---- cli/check ---- */

/* The lines of check, and what creating a RAM disk would return. */
struct checks {
	bool json, first;
	int status;
};

__attribute__((format(printf, 4, 5)))
static void check_line(struct checks *r, const char *state, const char *item, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	text_vprint(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!r->json) {
		print("%-8s %-24s %s\n", state, item, text);
		return;
	}
	print("%s\n  {\"item\": \"%s\", \"state\": \"%s\", \"text\": ", r->first ? "" : ",", item, state);
	json_string(text);
	print("}");
	r->first = false;
}

/* Kernels whose driver is known to be broken, by the begin of their release. */
static const struct { const char *release, *text; } bad_kernels[] = {
	{ "6.18.4-", "ADD_DEV crashes the driver: use 6.18.6 or later" },
	{ "6.18.4+", "ADD_DEV crashes the driver: use 6.18.6 or later" },
	{ "6.18.5-", "ADD_DEV crashes the driver: use 6.18.6 or later" },
	{ "6.18.5+", "ADD_DEV crashes the driver: use 6.18.6 or later" },
	{ "6.17.0-1015-", "ADD_DEV crashes the driver of this build" },
	{ "6.17.0-1017-", "ADD_DEV crashes the driver of this build" },
	{ "6.17.0-1018-", "ADD_DEV crashes the driver of this build" },
	{ "6.0.", "DEL_DEV waits uninterruptibly while a device is open" },
	{ "6.1.", "DEL_DEV waits uninterruptibly while a device is open; a dead server is noticed after 5 s" },
	{ "6.2.", "DEL_DEV waits uninterruptibly while a device is open; a dead server is noticed after 5 s" },
	{ "6.6.", "a dead server is noticed after 5 s" },
};

static void check_kernel(struct checks *r)
{
	const char *bad = NULL;
	struct utsname u;

	if (uname(&u))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(bad_kernels); i++) {
		const char *release = bad_kernels[i].release;

		if (!strncmp(u.release, release, strlen(release)))
			bad = bad_kernels[i].text;
	}
	check_line(r, bad ? "limited" : "ok", "kernel", "%s%s%s", u.release, bad ? ": " : "", bad ? bad : "");
}

static bool check_driver(struct checks *r, const char *path)
{
	if (access("/sys/module/ublk_drv", F_OK) == 0 || access(CTRL_NODE, F_OK) == 0) {
		check_line(r, "ok", "driver", "%s", access("/sys/module/ublk_drv/initstate", F_OK) == 0 ?
			   "loaded, module ublk_drv" : "built into the kernel");
		return true;
	}
	if (path) {
		check_line(r, "ok", "driver", "not loaded; ublk loads it from %s", path);
		r->status = geteuid() ? EXIT_PERMISSION : 0;
	} else {
		check_line(r, "missing", "driver", "no module ublk_drv for this kernel: "
			   "it takes CONFIG_BLK_DEV_UBLK, Linux 6.0 or later");
		r->status = EXIT_NO_DRIVER;
	}
	return false;
}

static void check_limit(struct checks *r)
{
	static const char path[] = "/sys/module/ublk_drv/parameters/ublks_max";
	uint64_t max;

	if (number_read(path, &max))
		check_line(r, "ok", "device limit", "%u (%s), on 6.15 and later for unprivileged devices only",
			   (unsigned)max, path);
}

static void check_features(struct checks *r, const struct ctrl *c)
{
	const bool zero_copy = c->features & UBLK_F_AUTO_BUF_REG;

	if (!c->features)
		check_line(r, "limited", "features", "unknown: the driver does not tell before Linux 6.5");
	for (size_t i = 0; c->features && i < driver_nr_features; i++) {
		bool there = c->features >> i & 1;

		check_line(r, there ? "ok" : "missing", driver_features[i].name, "Linux %s%s",
			   driver_features[i].since, there ? "" : " or later has it");
	}
	check_line(r, "ok", "mem", "uses NEED_GET_DATA: the kernel copies from and to the RAM disk's own pages");
	check_line(r, zero_copy ? "ok" : "limited", "file", zero_copy ? "uses AUTO_BUF_REG: zero copy" :
		   "copies through a buffer for each request: zero copy takes Linux 6.16");
}

/* Everything that creating a device needs, one line each. */
static int verb_check(const struct args *a)
{
	struct checks r = { .json = a->json, .first = true };
	static struct ctrl c;	/* static: see struct ctrl */
	struct uring ring = URING_NONE;
	char path[4096];
	bool loadable;
	int ret;

	ctrl_init(&c);
	if (r.json)
		print("{\"checks\": [");
	loadable = driver_path(path, sizeof(path));
	mounts_complete();
	check_kernel(&r);
	ret = uring_init(&ring, 4, IORING_SETUP_SQE128);
	uring_exit(&ring);
	if (ret == -ENOSYS)
		check_line(&r, "missing", "io_uring", "not built into this kernel (CONFIG_IO_URING)");
	else if (ret)
		check_line(&r, "missing", "io_uring", "%s: %s", strerror(-ret), uring_forbidden());
	else
		check_line(&r, "ok", "io_uring", "available");
	if (check_driver(&r, loadable ? path : NULL)) {
		int node = ctrl_open_node(&c, false);

		if (node == -ENOENT && mounts_leave() == 0)
			node = ctrl_open_node(&c, false);
		if (node) {
			bool denied = node == -EACCES || node == -EPERM;

			check_line(&r, denied ? "denied" : "missing", "control node", CTRL_NODE ": %s%s",
				   strerror(-node), denied ? "; " HINT_ROOT : "");
			r.status = denied ? EXIT_PERMISSION : EXIT_NO_DRIVER;
		} else {
			check_line(&r, geteuid() ? "limited" : "ok", "control node", CTRL_NODE "%s",
				   geteuid() ? ": opens, but making a device takes CAP_SYS_ADMIN" : "");
			check_limit(&r);
			if (!ret && ctrl_open(&c, false) == 0)
				check_features(&r, &c);
		}
	}
	if (ret && !r.status)
		r.status = EXIT_NO_URING;
	if (r.json)
		print("\n], \"status\": %d}\n", r.status);
	ctrl_close(&c);
	return r.status;
}

/* ---- cli/main ---- */

static int verb_help(const struct args *a);

/* Besides those of the backends, which make a device. */
static const struct verb verbs[] = {
	{ "list", V_LIST, "[DEV...]", INT32_MAX, verb_list, NULL, "show devices" },
	{ "recover", V_RECOVER, "DEV [PATH]", 3, verb_recover, NULL, "serve a device whose server has died" },
	{ "stop", V_STOP, "DEV... | --all", INT32_MAX, verb_stop, NULL, "stop and remove devices" },
	{ "check", V_CHECK, "", 0, verb_check, NULL, "what this machine has of what ublk needs" },
	{ "help", V_HELP, "[VERB]", 1, verb_help, NULL, "this page, or a verb's" },
};

static struct verb verb_of(const struct backend *be)
{
	return (struct verb){ be->name, V_MAKE, operand_name(be), 1, verb_make, be, be->help };
}

/* The verb of this name. False: there is none. */
static bool verb_find(const char *name, struct verb *v)
{
	const struct backend *be = backend_find(name);

	if (be)
		*v = verb_of(be);
	for (size_t i = 0; i < ARRAY_SIZE(verbs) && !be; i++) {
		if (!strcmp(verbs[i].name, strcmp(name, "del") ? name : "stop")) {
			*v = verbs[i];
			return true;
		}
	}
	return be;
}

static void help_line(struct verb v)
{
	print("  ublk %-7s %-16s %s\n", v.name, v.operands, v.help);
}

static void help_all(void)
{
	const struct backend *be;

	print("ublk " VERSION ": block devices in user space\n\nusage:\n");
	for (unsigned nr = 0; (be = backend_nr(nr)); nr++)
		help_line(verb_of(be));
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		help_line(verbs[i]);
	print("  ublk --version\n\n\"ublk help VERB\" or \"ublk VERB --help\" shows a verb's options.\n"
	      "A device is named 0, ublkb0 or /dev/ublkb0.\n");
}

static int verb_help(const struct args *a)
{
	struct verb v;

	if (!a->nr) {
		help_all();
		return 0;
	}
	if (!verb_find(a->operands[0], &v))
		return args_error(NULL, "help: %s: no such verb", a->operands[0]);
	return help_verb(&v);
}

static int run_verb(const struct verb *v, int argc, char **argv)
{
	struct args a;
	int ret = args_parse(v, &a, argc, argv);

	if (!ret && a.help)
		return help_verb(v);
	return ret ? ret : v->run(&a);
}

/* The words after the program's name. Returns the exit status. */
static int run(int argc, char **argv)
{
	struct verb v;

	if (argc == 0)
		return args_error(NULL, "what is to be done? No verb is given");
	if (verb_find(argv[0], &v))
		return run_verb(&v, argc - 1, argv + 1);
	if (strcmp(argv[0], "--version") && strcmp(argv[0], "--help") && strcmp(argv[0], "-h"))
		return args_error(NULL, "%s: no such verb", argv[0]);
	if (argc > 1)
		return args_error(NULL, "%s: one argument too many", argv[1]);
	if (!strcmp(argv[0], "--version"))
		print("ublk " VERSION "\n");
	else
		help_all();
	return 0;
}

int main(int argc, char **argv)
{
	const char *name = argc ? strrchr(argv[0], '/') : NULL;
	struct verb v;
	int status, ret;

	process_named(argc ? argv[0] : NULL);
	stdio_hold();
	signal(SIGCHLD, SIG_DFL);	/* if ignored, no child would have a status */
	name = name ? name + 1 : argc ? argv[0] : "";
	if (!strncmp(name, "ublk-", 5) && verb_find(name + 5, &v))
		status = run_verb(&v, argc - 1, argv + 1);
	else
		status = run(argc - 1, argv + (argc > 0));
	ret = print_end();
	return ret && !status ? fail("stdout", STEP_PRINT, ret, NULL) : status;
}
