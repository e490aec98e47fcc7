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
#include "host/disk.h"
#include "host/driver.h"
#include "host/fail.h"
#include "host/mailbox.h"
#include "host/memory.h"
#include "host/mounts.h"
#include "host/nodes.h"
#include "host/process.h"
#include "host/usage.h"
#include "include/backend.h"
#include "include/server.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_MS	30000		/* nothing waits longer, unless the user says so */
#define PAUSE_MS	1000		/* before one who waits for a device to stop is told so */
#define DYING_MS	10000		/* that a killed process may take to close its files: drivers before 6.7 look every 5 s */
#define PROBE_END_MS	1000		/* that the probe may take to end, where it has not been asked for anything */

/* ---- queues, tags and the loop ---- */

enum io_state { IO_FETCHED, IO_WAITS, IO_GET_DATA, IO_SERVED, IO_LAST, IO_PAIRED, IO_CHAINED, IO_GONE };

/* What a CQE on a queue's ring belongs to: the low byte of user_data. */
enum kind { KIND_IO, KIND_GET_DATA, KIND_BACKEND, KIND_CTRL, KIND_SIGNAL, KIND_PROBE, KIND_HOLD, KIND_CHILD };

static uint64_t user_data_pack(enum kind kind, unsigned tag)
{
	return (uint64_t)tag << 8 | kind;
}

#define FEW			4	/* CQEs in a turn up to which a chain costs less: make bench */
#define SINGLES			64	/* sleeps until one request at a time is taken for the rule: see queue_pace() */
#define SHORT_SLICE		100000	/* ns, the least that the scheduler takes: __setparam_fair() */
#define HAND_OVER		16	/* SQEs of the backend that are worth a system call: see queue_reap() */
#define TASK_WORK		20	/* events that become CQEs in one system call, if there are so many */
#define MAX_ROUNDS		3	/* that a commit is held for: see queue_turn() */
#define FULL_BUFS		2	/* see io_find_buf() */
#define TAKE_MEMORY		(1U << 20) /* bytes that the queues may take for their buffers without another look */
#define GET_DATA_MAX		(1U << 20) /* bytes that the driver is to copy to buffers in one system call */
#define QUEUE_SPARE_SQES	8	/* besides two a tag: the polls of thread 0 */
#define KEEP_MS			25000	/* see io_give_up() */
#define LOOK_MS			1000U
enum { CHAR_FILE, BACKING_FILE };	/* registered files: /dev/ublkcN, dev->fd */

/* Kernel: struct sched_attr of linux/sched/types.h, as libcs have it or not. */
struct task_sched {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;	/* runtime: the slice of a task without deadlines, ns, 0 the usual; 6.12 */
};

struct queue {
	/* hot: touched by every request */
	const struct ublksrv_io_desc *iods;	/* written by the driver */
	struct io *ios;
	struct server *s;
	struct dev *dev;
	const struct backend *be;
	uint32_t cmd_fetch, cmd_commit, cmd_get_data;	/* encoded */
	unsigned live;				/* tags that are not IO_GONE */
	unsigned expected;			/* CQEs still to come that a turn brings besides news: IO_PAIRED */
	unsigned reaped;			/* CQEs, when the ring was entered last */
	bool can_pair;				/* GET_DATA is answered on the spot */
	bool few, was_few;			/* this turn has little to do, and so had the last; see queue_enter() */
	uint64_t paced;				/* of committed, when it slept last */
	unsigned singles;			/* sleeps with one request at most between them, up to now; SINGLES at most */
	unsigned backend_sqes;			/* that io_sqe() has given out since the ring was entered */
	unsigned below;				/* of those, and of all before, the ones that have not ended; not with chains */
	struct io *late;			/* without root: stand-ins, see io_give_up(); else NULL */
	uint32_t looked;			/* when they were looked for, in ms */
	struct io **held;			/* requests that are done, to be committed in this turn */
	unsigned nr_held;
	uintptr_t page;				/* bytes */
	uint64_t committed;			/* requests; other threads read it */
	uint16_t q_id, depth;
	struct uring ring;			/* hot as well, but behind what short instructions reach */

	uint64_t iods_len;
	char *bufs;				/* DATA_COPY, dev->bounce: as many as tags */
	size_t buf_len;				/* of each: max_io and the backend's scratch */
	uint32_t *rooms;			/* of each: bytes that memory has been taken for */
	uint16_t *unused, *spent;		/* numbers of buffers, see io_find_buf() and queue_bufs() */
	unsigned nr_unused, nr_spent;
	uint32_t may_take;			/* bytes of memory, see queue_take_memory() */
	bool no_memory;				/* as it has been found since the ring was entered */
	uint32_t getting;			/* bytes, since the ring was entered: see GET_DATA_MAX */
	struct io **waits;			/* for a buffer, the first one first */
	unsigned nr_waits;
	bool freed;				/* what they wait for may be there */
	cpu_set_t cpus;				/* --cpu-affinity */
	pthread_t thread;			/* not for queue 0 */
	int err;				/* of queue_start() in its thread */
	bool watch_ctrl;			/* queue 0: a poll of the control ring is armed */
	int fd;					/* see queue_fd() */
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
	say("%s: queue %u: %s; this server ends here", node_path(q->s->id).s, q->q_id, text);
	_exit(q->s->guarded ? EXIT_AGAIN : EXIT_FAILURE);
}

struct dev *queue_dev(const struct queue *q)
{
	return q->dev;
}

int queue_fd(const struct queue *q)
{
	return q->fd;
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

/* The commit of what is in its buffer, if it has one, is on its way to the kernel. */
static inline void io_spend_buf(struct queue *q, struct io *io)
{
	if (!io->has_buf)
		return;
	q->spent[q->nr_spent++] = io->nr_buf;
	q->freed = true;
	io->has_buf = false;
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
	io_spend_buf(q, io);
	io->state = IO_FETCHED;
	io_command(q, io, KIND_IO, q->cmd_commit, res);
}

/* May the backend see this request? 0 or -errno. Without overflow for any iod. */
static inline int io_check(const struct dev *dev, const struct io *io)
{
	const uint64_t size = dev_size(dev);
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
	if (io->off > size || io->len > size - io->off)
		return -EIO;
	if (!io->len || io->len > longest || (io->off | io->len) & (dev->block_size - 1))
		return longest ? -EIO : -EOPNOTSUPP;
	return 0;
}

/* Until queue() or io_take_buf() says better. */
static void *io_default_buf(const struct queue *q, const struct io *io)
{
	if (q->dev->data_path == DATA_ZERO_COPY)
		return NULL;
	return q->dev->bounce && !io->late ? q->bufs + io->tag * q->buf_len : q->s->sink;
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
	io->buf = io_default_buf(q, io);
}

/* Is the data of this WRITE too much for one system call, with that of those before? */
static bool queue_gets_enough(const struct queue *q, const struct io *io)
{
	return q->getting && q->getting + io->len > GET_DATA_MAX;
}

/* A buffer is not used any more. Those that are full from the start are to be the last ones taken. */
static void queue_put_buf(struct queue *q, uint16_t nr)
{
	unsigned i = q->nr_unused;

	if (nr < FULL_BUFS)
		for (i = 0; i < q->nr_unused && q->unused[i] < FULL_BUFS; i++)
			;
	q->unused[q->nr_unused++] = q->unused[i];
	q->unused[i] = nr;
}

/* Have room for len bytes, if there is memory. To look for it costs as much as some requests, so it is for more than one. */
static void queue_take_memory(struct queue *q, uint32_t *room, uint32_t len)
{
	const uint32_t more = len - *room, ahead = TAKE_MEMORY / q->s->nr_queues;
	struct memory memory;

	if (q->may_take < more && !q->no_memory) {
		memory_get(&memory);
		q->no_memory = memory.left <= (int64_t)more + ahead;
		if (!q->no_memory)
			q->may_take = more + ahead;
	}
	if (q->may_take < more)
		return;
	q->may_take -= more;
	*room = len;
}

/*
 * A buffer for the data of a READ or WRITE, and what the backend wants besides: of
 * the unused ones the one that was used last, so that few are, and what is
 * copied twice is still in the CPU's cache. Memory is taken for as much of it as is
 * used. Where little is left no more is taken: what would free some may be this
 * very request, to a swap file or of a dirty page. Then those are used that
 * have enough; a few, which come last, have from the start. False: none is to be
 * had, and the request comes again when one is.
 */
__attribute__((noinline))
static bool io_find_buf(struct queue *q, struct io *io, int res)
{
	const uint32_t data = io->len < q->dev->max_io ? io->len : q->dev->max_io;
	const uint32_t len = (io->op <= UBLK_IO_OP_WRITE ? data : 0) + q->dev->scratch;
	const bool to_get = res == UBLK_IO_RES_NEED_GET_DATA;
	unsigned i;

	if (!len)
		return true;
	/* it may have one: of a WRITE that went to another tag, see io_is_another() */
	if (io->has_buf) {
		queue_put_buf(q, io->nr_buf);
		q->freed = true;
	}
	i = to_get && queue_gets_enough(q, io) ? 0 : q->nr_unused;
	if (i && q->rooms[q->unused[i - 1]] < len)
		queue_take_memory(q, &q->rooms[q->unused[i - 1]], len);
	while (i && q->rooms[q->unused[i - 1]] < len)
		i--;
	io->has_buf = i;
	if (!i) {
		io->state = IO_WAITS;
		io->res = res;
		q->waits[q->nr_waits++] = io;
		return false;
	}
	if (to_get)
		q->getting += io->len;
	io->nr_buf = q->unused[i - 1];
	q->unused[i - 1] = q->unused[--q->nr_unused];
	io->buf = q->bufs + io->nr_buf * q->buf_len;
	return true;
}

static inline bool io_take_buf(struct queue *q, struct io *io, int res)
{
	return q->dev->data_path != DATA_COPY || io->late || io_find_buf(q, io, res);
}

/*
 * Would this one write where one that was given up may still write, in whichever
 * queue? It must not be acknowledged, and then be undone. Of one that ends
 * meanwhile too much is found, which is an error more.
 */
static bool io_meets_lost(const struct queue *q, const struct io *io)
{
	const struct server *s = q->s;

	if (io->op == UBLK_IO_OP_READ)
		return false;
	for (const struct queue *other = s->queues; other < s->queues + s->nr_queues; other++) {
		for (unsigned tag = 0; tag < other->depth; tag++) {
			const volatile struct io *lost = &other->ios[tag];

			if (!__atomic_load_n(&lost->lost, __ATOMIC_ACQUIRE) || lost->state == IO_FETCHED)
				continue;
			/* or, of two FLUSHes, the one that nobody hears of might be told of an error */
			if (io->op == UBLK_IO_OP_FLUSH ? lost->op == UBLK_IO_OP_FLUSH || lost->flags & UBLK_IO_F_FUA :
			    lost->op != UBLK_IO_OP_READ && lost->off < io->off + io->len && io->off < lost->off + lost->len)
				return true;
		}
	}
	return false;
}

/* Hand a request to the backend. Returns what queue() says, or -errno. */
static int io_start(struct queue *q, struct io *io)
{
	int ret = io->late ? -ETIMEDOUT : io_check(q->dev, io);

	if (!ret && __atomic_load_n(&q->s->lost, __ATOMIC_RELAXED) && io_meets_lost(q, io))
		ret = -ETIMEDOUT;
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

/*
 * Without root the driver kills a server that has kept a request for 30 s, and
 * with it the device. So its client gets an error before that. What the request
 * has under way goes on in the tag's slot, with its buffer; until that ends
 * (io_back()), the tag's commands and its next requests are a stand-in's, which
 * answers all of them with the same error.
 */
static void io_give_up(struct queue *q, struct io *io)
{
	struct io *late = &q->late[io->tag];

	*late = *io;
	late->late = true;
	late->has_buf = false;
	late->buf = q->s->sink;
	late->state = IO_SERVED;
	__atomic_add_fetch(&q->s->lost, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&io->lost, true, __ATOMIC_RELEASE);
	io_commit(q, late, -ETIMEDOUT);
	queue_count(q, 1);
}

/*
 * What a request that was given up has under way has come back. Nothing more is
 * done for it: others may have written there since. Only of an error that tells
 * of what was written before the backend must hear.
 */
static void io_back(struct queue *q, struct io *io, int res)
{
	if (io->op == UBLK_IO_OP_FLUSH || io->flags & UBLK_IO_F_FUA)
		res = q->be->complete(q, io, res);
	else
		res = 0;
	io->state = res == IO_QUEUED || res == IO_QUEUED_LAST ? IO_SERVED : IO_FETCHED;
	if (io->state != IO_FETCHED)
		return;
	io_spend_buf(q, io);
	__atomic_sub_fetch(&q->s->lost, 1, __ATOMIC_RELAXED);
}

/* Whose a command of this tag is: as soon as what was lost is back and nothing of the stand-in is under way, its own. */
static inline struct io *io_of(struct queue *q, unsigned tag)
{
	struct io *io = &q->ios[tag];

	if (!io->lost)
		return io;
	io->lost = io->state != IO_FETCHED || q->late[tag].state != IO_FETCHED;
	return io->lost ? &q->late[tag] : io;
}

/* An SQE of the backend has ended. Among many, what is done is committed later: see queue_turn(). */
static void io_complete(struct queue *q, struct io *io, int res)
{
	const bool whole = io->state == IO_LAST && res == (int)io->len;

	q->below--;
	if (io->lost) {		/* its client has an answer */
		io_back(q, io, res);
		return;
	}
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
 * The kernel is told where the data of a WRITE goes, and copies it at a time of
 * its own: what a backend notes when it names the memory is out of date where
 * that memory is taken away in between, by any queue's thread. So the WRITE can
 * be found from before queue() until the kernel says that it has copied: who
 * searches for it, having stored something, finds it, or queue() sees that.
 */
static inline void io_copy_begins(struct io *io)
{
	/* pairs with the acquire in queue_copying(): off and len are this request's */
	__atomic_store_n(&io->copying, true, __ATOMIC_RELEASE);
	/* pairs with the fence there: one of the two sees what the other has stored */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* The kernel has copied, or will not. Too late is as good: see queue_copying(). */
static inline void io_copy_ends(struct io *io)
{
	__atomic_store_n(&io->copying, false, __ATOMIC_RELEASE);
}

/*
 * The requests of other threads change meanwhile. What is read of one that has
 * ended, or of two, is a range that nobody asked for; it is inside of what is
 * asked for, and to find too much is allowed.
 */
void queue_copying(const struct queue *q, uint64_t off, uint64_t len,
		   void (*found)(struct dev *dev, uint64_t off, uint64_t len))
{
	const struct server *s = q->s;
	const uint64_t end = off + len;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);	/* pairs with io_copy_begins() */
	for (const struct queue *other = s->queues; other < s->queues + s->nr_queues; other++) {
		for (unsigned tag = 0; tag < other->depth; tag++) {
			const volatile struct io *io = &other->ios[tag];
			uint64_t from, to;

			if (!__atomic_load_n(&io->copying, __ATOMIC_ACQUIRE))
				continue;
			from = io->off;
			to = from < end ? from + io->len : 0;
			from = from > off ? from : off;
			to = to < end ? to : end;
			if (from < to)
				found(q->dev, from, to - from);
		}
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);	/* the kernel is asked to give back what was not found after that */
}

/* The data of a WRITE that ends in an error, which the driver takes only once it has copied it to somewhere. */
static void io_get_no_data(struct queue *q, struct io *io, int err)
{
	io->buf = q->s->sink;
	io->res = err;
	io->state = IO_GET_DATA;
	io_command(q, io, KIND_GET_DATA, q->cmd_get_data, -1);
}

/* May the kernel copy the data of this WRITE to where the backend keeps it? If so it is in io->buf. */
static bool io_place(const struct queue *q, struct io *io)
{
	void *p;

	if (q->dev->data_path != DATA_COPY || io->late || __atomic_load_n(&q->s->lost, __ATOMIC_RELAXED) || io_check(q->dev, io))
		return false;
	p = q->be->place(q, io);
	if (p)
		io->buf = p;
	return p;
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
	io->placed = q->be->place && io_place(q, io);
	if (!io->placed && !io_take_buf(q, io, UBLK_IO_RES_NEED_GET_DATA))
		return;
	if (direct)
		io_copy_begins(io);
	/* else when the data is there */
	io->res = direct ? io_start(q, io) : io->placed ? (int)io->len : 0;
	if (direct && io->res < 0) {
		io_copy_ends(io);
		io_get_no_data(q, io, io->res);
		return;
	}
	io->state = IO_GET_DATA;
	io_command(q, io, KIND_GET_DATA, q->cmd_get_data, -1);
	if ((direct || io->placed) && q->can_pair && io_in_one_page(q, io)) {
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
	if (!whole && io->placed)
		q->be->misplaced(q, io);
	if (io->res >= 0 && !whole)
		io->res = -EIO;
	else if (io->res >= 0 && q->dev->data_path != DATA_DIRECT && !io->placed)
		io->res = io_start(q, io);
	io_finish(q, io, io->res);
}

/* A request has come for this tag: see io_give_up(). */
static void io_came(struct queue *q, unsigned tag)
{
	if (q->late)
		q->ios[tag].since = (uint32_t)now_ms();
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
		io_spend_buf(q, io);
		io->state = IO_GONE;
		q->live--;
		return;
	case -EBUSY:
		/* the GET_DATA before this commit goes on: its own CQE will come */
		if (io->state == IO_PAIRED) {
			q->expected--;
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
	const bool paired = io->state == IO_PAIRED;
	const bool news = res != UBLK_IO_RES_OK || (!paired && io_is_another(q, io));

	io_copy_ends(io);
	if (paired)
		q->expected--;
	if (news && io->placed)
		q->be->misplaced(q, io);
	if (news) {
		io_came(q, io->tag);
		io_event(q, io, res);
	} else if (paired) {
		io->state = IO_FETCHED;
		queue_count(q, 1);
	} else {
		io_got_data(q, io);
	}
}

struct io_uring_sqe *io_sqe(struct queue *q, const struct io *io)
{
	struct io_uring_sqe *sqe = queue_sqe(q);

	q->backend_sqes++;
	q->below++;
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
		if (si.ssi_signo == MAILBOX_SIGNAL)
			q->s->mailed = true;
		else if (q->s->guarded && si.ssi_pid == (uint32_t)getppid())
			q->s->handed++;
		else if (heard_anew(&q->s->heard_at, &q->s->heard_from, si.ssi_pid))
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
		notice("%s: its guard has died: if this server dies nobody starts another", node_path(s->id).s);
		s->guarded = false;
	} else if (read(s->hold_fd, &c, 1) != 1) {
		s->direct++;
		s->signals++;
	}
}

static void queue_dispatch(struct queue *q, const struct io_uring_cqe *cqe)
{
	const unsigned tag = (unsigned)(cqe->user_data >> 8);

	switch ((enum kind)(cqe->user_data & 0xff)) {
	case KIND_IO:
		io_came(q, tag);
		io_event(q, io_of(q, tag), cqe->res);
		return;
	case KIND_GET_DATA:
		io_get_data_event(q, io_of(q, tag), cqe->res);
		return;
	case KIND_BACKEND:
		io_complete(q, &q->ios[tag], cqe->res);
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
	case KIND_CHILD:
		return;			/* ctrl_await() looks itself */
	}
}

static void queue_commit_held(struct queue *q)
{
	for (unsigned i = 0; i < q->nr_held; i++)
		io_commit(q, q->held[i], q->held[i]->res);
	queue_count(q, q->nr_held);
	q->nr_held = 0;
}

/*
 * The kernel has what was in these buffers, and has been told what to copy to
 * others. Who has waited for that goes on, in that order, and who still cannot waits on.
 */
static void queue_bufs(struct queue *q)
{
	const unsigned nr = q->nr_waits;

	while (q->nr_spent)
		queue_put_buf(q, q->spent[--q->nr_spent]);
	q->freed = q->no_memory = false;
	q->getting = q->nr_waits = 0;
	for (unsigned i = 0; i < nr; i++) {
		struct io *io = q->waits[i];

		if (io->res == UBLK_IO_RES_NEED_GET_DATA && queue_gets_enough(q, io))
			q->waits[q->nr_waits++] = io;
		else
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
	if ((q->freed || q->getting) && !uring_sqes(&q->ring))
		queue_bufs(q);
}

static void queue_hand_over(struct queue *q)
{
	(void)uring_submit(&q->ring);	/* what was not taken goes with the next ones */
	queue_entered(q);
}

void queue_push(struct queue *q)
{
	queue_commit_held(q);
	if (uring_sqes(&q->ring))
		queue_hand_over(q);
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
		queue_hand_over(q);
	}
	uring_give_back(&q->ring);
}

/*
 * A client that puts many requests under way is not to be interrupted at each
 * of them: as a batch task the server takes its turn when the client sleeps or
 * another CPU is free, and serves what has come together by then. slice: ns, 0
 * the usual, see queue_pace(). Where the policy is not what it was, the user has
 * chosen one, which stays.
 */
static void queue_be_batch(uint32_t was, uint64_t slice)
{
	struct task_sched sched;

	if (syscall(SYS_sched_getattr, 0, &sched, sizeof(sched), 0) || sched.policy != was)
		return;
	sched.policy = SCHED_BATCH;
	sched.runtime = slice;
	if (syscall(SYS_sched_setattr, 0, &sched, 0))
		debug("sched_setattr: %s", strerror(errno));
}

/*
 * Before a sleep. A client that waits for each of its requests is best
 * interrupted as it sends one: it then finds the answer before it has gone to
 * sleep for it. The scheduler of 7.3 (6.12's does not) is more often so quick for
 * a batch task that asks for short slices, which gets no larger share by that.
 * Clients with many requests under way would be interrupted at each of them: with
 * those, more than one is done between two sleeps.
 */
static void queue_pace(struct queue *q)
{
	const bool was_rule = q->singles == SINGLES;

	if (q->committed - q->paced > 1)
		q->singles = 0;
	else if (!was_rule)
		q->singles++;
	q->paced = q->committed;
	if ((q->singles == SINGLES) != was_rule)
		queue_be_batch(SCHED_BATCH, was_rule ? 0 : SHORT_SLICE);
}

/* Hand over what was prepared, and deal with all that is there then. Returns 0 or -ETIME. */
static int queue_enter(struct queue *q, unsigned wait_nr, int timeout_ms)
{
	bool few;
	int ret;

	if (wait_nr)
		queue_pace(q);
	ret = uring_enter(&q->ring, wait_nr, timeout_ms);
	queue_entered(q);
	if (wait_nr) {
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

/* Give up what has been here for too long. */
static void queue_give_up(struct queue *q)
{
	const uint32_t now = (uint32_t)now_ms();

	if (now - q->looked < LOOK_MS)
		return;
	q->looked = now;
	for (unsigned tag = 0; tag < q->depth; tag++) {
		struct io *io = &q->ios[tag];

		if ((io->state == IO_SERVED || io->state == IO_LAST) && !io->lost && now - io->since >= KEEP_MS)
			io_give_up(q, io);
	}
	for (unsigned i = 0; i < q->nr_waits; i++) {
		struct io *io = q->waits[i];

		if (now - io->since < KEEP_MS)
			continue;
		memmove(q->waits + i, q->waits + i + 1, (--q->nr_waits - i) * sizeof(*q->waits));
		i--;
		if (io->res == UBLK_IO_RES_NEED_GET_DATA) {	/* an error cannot be committed yet */
			io_get_no_data(q, io, -ETIMEDOUT);
			continue;
		}
		io->state = IO_SERVED;
		io_commit(q, io, -ETIMEDOUT);
		queue_count(q, 1);
	}
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
	/* once these commands are with the kernel requests can go on that nothing else would come for */
	const bool frees = (q->freed || q->getting) && q->nr_waits;
	const bool look = q->late && (q->below || q->nr_waits) && (unsigned)timeout_ms > LOOK_MS;
	int ret = queue_enter(q, frees ? 0 : 1 + q->expected, look ? (int)LOOK_MS : timeout_ms);

	for (int i = 0; i < MAX_ROUNDS && q->nr_held && (uring_sqes(&q->ring) || q->reaped >= TASK_WORK); i++)
		(void)queue_enter(q, 0, -1);	/* without a timeout there is no -ETIME */
	queue_commit_held(q);
	if (q->late)
		queue_give_up(q);
	return look ? 0 : ret;
}

static void queue_loop(struct queue *q)
{
	while (q->live)
		queue_turn(q, -1);
}

/* ---- a queue from its start to its end ---- */

/* The stride and size of the descriptor arrays: ublk_ch_mmap() demands them. */
static uint64_t iods_size(unsigned depth)
{
	return round_up(depth * sizeof(struct ublksrv_io_desc), (uint64_t)getpagesize());
}

static uint64_t bufs_size(const struct queue *q)
{
	return (uint64_t)q->depth * q->buf_len;
}

static int queue_map_bufs(struct queue *q)
{
	uint64_t len;
	void *p;

	q->buf_len = (size_t)q->dev->max_io + q->dev->scratch;
	len = bufs_size(q);
	p = pages_get(len);
	if (!p)
		return -errno;
	q->bufs = p;
	/* a tag that has only seen 4 KiB requests is to cost 4 KiB. EINVAL: kernel without */
	(void)madvise(p, (size_t)len, MADV_NOHUGEPAGE);
	/* nor be copied for a child that does not look at it */
	(void)madvise(p, (size_t)len, MADV_DONTFORK);
	if (q->dev->data_path != DATA_COPY)
		return 0;
	for (unsigned nr = 0; nr < q->depth; nr++) {
		q->unused[q->nr_unused++] = (uint16_t)nr;
		if (nr >= FULL_BUFS)
			continue;
		memset(q->bufs + nr * q->buf_len, 0, q->buf_len);
		q->rooms[nr] = (uint32_t)q->buf_len;
	}
	return 0;
}

/* Of ios, without root as many again, and behind them what else there is for each tag. */
static uint64_t ios_size(const struct queue *q)
{
	return (uint64_t)q->depth * (sizeof(*q->ios) * (1 + q->s->o->unprivileged) + sizeof(*q->held) + sizeof(*q->waits) +
				     sizeof(*q->rooms) + sizeof(*q->unused) + sizeof(*q->spent));
}

static int queue_map(struct queue *q)
{
	const uint64_t stride = iods_size(UBLK_MAX_QUEUE_DEPTH);
	void *p;

	q->ios = pages_get(ios_size(q));
	if (!q->ios)
		return -ENOMEM;
	q->late = q->s->o->unprivileged ? q->ios + q->depth : NULL;
	q->held = (struct io **)(q->ios + q->depth * (1 + q->s->o->unprivileged));
	q->waits = q->held + q->depth;
	q->rooms = (uint32_t *)(q->waits + q->depth);
	q->unused = (uint16_t *)(q->rooms + q->depth);
	q->spent = q->unused + q->depth;
	p = pages_map(iods_size(q->depth), PROT_READ, MAP_SHARED | MAP_POPULATE, q->s->char_fd, q->q_id * stride);
	if (!p)
		return -errno;
	q->iods = p;
	q->iods_len = iods_size(q->depth);
	(void)madvise(p, (size_t)q->iods_len, MADV_DONTFORK);	/* a child's would keep /dev/ublkcN open */
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
	const int fds[] = { [CHAR_FILE] = q->s->char_fd, [BACKING_FILE] = q->fd };
	const struct io_uring_rsrc_register sparse = {
		.nr = q->depth,
		.flags = IORING_RSRC_REGISTER_SPARSE,
	};
	int ret = uring_register(&q->ring, IORING_REGISTER_FILES, fds, q->fd < 0 ? 1 : 2);

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
 * Everything a queue needs, up to its FETCH commands with the kernel. Runs in
 * the thread that will run the loop. Returns 0 or -errno; queue_end() undoes it.
 */
static int queue_start(struct queue *q)
{
	int ret;

	queue_be_batch(SCHED_OTHER, 0);
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
	pages_put((void *)q->iods, q->iods_len);
	if (!q->below)		/* or what was given up writes there still */
		pages_put(q->bufs, bufs_size(q));
	q->iods = NULL;
	q->bufs = NULL;
}

/* Once all queues have ended: the others may still look for a tag of this one, see queue_copying(). */
static void queue_free(struct queue *q)
{
	pages_put(q->ios, ios_size(q));
	q->held = NULL;
	q->waits = NULL;
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

struct ctrl *ctrl_own(void)
{
	static struct ctrl c;

	/* at run time: one that is not zero at first would be in the file, cpus and all */
	c = (struct ctrl)CTRL_NONE;
	return &c;
}

static void ctrl_reap(struct ctrl *c)
{
	struct io_uring_cqe cqe;

	while (uring_next_cqe(&c->ring, &cqe)) {
		if (c->del == DEL_SENT && cqe.user_data == c->del_data) {
			c->del = DEL_ANSWERED;
			c->del_res = cqe.res;
		}
		if (cqe.user_data != c->seq)
			continue;	/* given up on */
		c->res = cqe.res;
		c->answered = true;
	}
}

void ctrl_set_deadline(struct ctrl *c)
{
	c->since = now_ms();
	c->told = 0;
	c->deadline = c->since + DEADLINE_MS;
}

int ctrl_left(const struct ctrl *c)
{
	int64_t left = c->deadline - now_ms();

	return left > 0 ? (int)left : 0;
}

/*
 * How long to wait, in ms, before it is looked again; 0: no more. Who waits at a
 * terminal until a stop has written what is dirty (tells) is told so after a
 * second, and each time twice as late.
 */
static int ctrl_pause(struct ctrl *c, bool tells)
{
	const int left = ctrl_left(c);
	struct memory m;

	tells = tells && (c->step == STEP_STOP || c->step == STEP_FLUSH);
	if (tells && now_ms() - c->since >= PAUSE_MS << c->told && isatty(STDERR_FILENO)) {
		c->told++;
		memory_get(&m);
		notice("%s: what is dirty is being written, %llu MiB at most", node_path(c->info.dev_id).s,
		       (unsigned long long)m.dirty >> 20);
	}
	return left < PAUSE_MS ? left : PAUSE_MS;
}

/* A turn of the loop while something else is waited for, which may put off the deadline. */
static void ctrl_turn(struct ctrl *c, int timeout_ms)
{
	uint64_t served = queues_committed(c->serving);

	queue_turn(c->serving, timeout_ms);
	if (c->patient && queues_committed(c->serving) != served)
		c->deadline = now_ms() + DEADLINE_MS;
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
			ret = uring_enter(&c->ring, 1, ctrl_pause(c, true));
			if (ret < 0 && ret != -ETIME && ret != -EINTR)
				return ret;
			continue;
		}
		/* every time: the poll may have fired for the command before */
		queue_watch_ctrl(c->serving);
		ctrl_turn(c, ctrl_pause(c, true));
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
		     nr == UBLK_CMD_DEL_DEV_ASYNC || nr == UBLK_CMD_GET_DEV_INFO2;

	if (enc == ENC_LEGACY)
		return nr;
	return UBLK_IOC(reads ? UBLK_IOC_R : UBLK_IOC_WR, nr, size);
}

/*
 * A device that was made without privileges is asked by the path of its
 * character device, root as well. Kernel: ublk_ctrl_uring_cmd_permission().
 */
static void ctrl_stage(struct ctrl *c, struct ublksrv_ctrl_cmd *cmd)
{
	memset(&c->staged, 0, sizeof(c->staged));
	text_print(c->staged.path, sizeof(c->staged.path), "/dev/ublkc%u", cmd->dev_id);
	memcpy(c->staged.buf, (const void *)(uintptr_t)cmd->addr, cmd->len);
	cmd->addr = (uintptr_t)&c->staged;
	cmd->len += sizeof(c->staged.path);
	cmd->dev_path_len = sizeof(c->staged.path);
}

void ctrl_by_path(struct ctrl *c, uint32_t id)
{
	c->by_path = true;
	c->path_id = id;
}

static struct io_uring_sqe *ctrl_prepare(struct ctrl *c, enum encoding enc, unsigned nr, struct ublksrv_ctrl_cmd cmd)
{
	struct io_uring_sqe *sqe = ctrl_sqe(c, IORING_OP_URING_CMD, c->fd);

	if (c->by_path && cmd.dev_id == c->path_id) {
		ctrl_stage(c, &cmd);
		nr = nr == UBLK_CMD_GET_DEV_INFO ? UBLK_CMD_GET_DEV_INFO2 : nr;
	}
	sqe->cmd_op = cmd_encode(enc, nr, sizeof(cmd));
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	return sqe;
}

static int ctrl_try(struct ctrl *c, enum encoding enc, unsigned nr, const struct ublksrv_ctrl_cmd *cmd)
{
	const bool by_path = c->by_path && cmd->dev_id == c->path_id;
	int ret;

	(void)ctrl_prepare(c, enc, nr, *cmd);
	ret = ctrl_wait(c);
	if (ret >= 0 && by_path)
		memcpy((void *)(uintptr_t)cmd->addr, c->staged.buf, cmd->len);
	return ret;
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
	fd_close(c->fd);
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

	int ret;

	c->step = STEP_INFO;
	ret = ctrl_send(c, UBLK_CMD_GET_DEV_INFO, cmd);
	if (ret != -EINVAL || (c->by_path && c->path_id == id))
		return ret;
	ctrl_by_path(c, id);
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
	int ret = ctrl_get_info(c, id);

	/* one of ours whose number is another user's by now is not ours to ask */
	if ((ret == -EACCES || ret == -EPERM) && c->by_path && c->path_id == id)
		return true;
	return ret == -ENODEV || c->info.ublksrv_flags != cookie;
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

/*
 * Wait for a child, serving meanwhile if we are a server. One that only asks
 * something is not worth more than the deadline, however many requests come,
 * and is of no use any more when another signal tells us to stop. Returns its
 * exit status, -ETIME, -EINTR for that, or another -errno.
 */
static int ctrl_await(struct ctrl *c, pid_t pid, bool asks)
{
	const struct server *s = c->serving ? c->serving->s : NULL;
	const unsigned signals = s ? s->signals : 0;
	const bool patient = c->patient;
	struct pollfd p = { .fd = pidfd_of(pid), .events = POLLIN };
	int wstatus = 0, ret = 0;
	pid_t got;

	c->patient = patient && !asks;
	if (s && p.fd >= 0)
		queue_poll(c->serving, p.fd, KIND_CHILD);
	while ((got = waitpid(pid, &wstatus, WNOHANG)) == 0 && !ret) {
		/* without a descriptor there is no end to be told of, only to be looked for */
		const int left = ctrl_pause(c, !asks), ms = p.fd >= 0 || left < 5 ? left : 5;

		if (!left)
			ret = -ETIME;
		else if (asks && s && s->signals != signals)
			ret = -EINTR;
		else if (s)
			ctrl_turn(c, ms);
		else
			(void)poll(&p, 1, ms);
	}
	fd_close(p.fd);
	c->patient = patient;
	if (got < 0)
		return -errno;
	if (got == 0 && asks)
		kill(pid, SIGKILL);
	return got == 0 ? ret : WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : EXIT_FAILURE;
}

/* On a device that can be recovered STOP_DEV throws that away: the driver fails all requests before it lets the block layer sync. */
int dev_flush(struct ctrl *c, uint32_t id)
{
	pid_t pid;

	c->step = STEP_FLUSH;
	pid = fork_plain();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		fds_close_from(3);
		stdio_to_null();	/* it may be left behind */
		_exit(disk_flush(id) ? EXIT_FAILURE : 0);
	}
	return ctrl_await(c, pid, false);
}

int dev_ask(struct ctrl *c, uint32_t id, bool live, char *text, size_t len)
{
	enum { FREE, FAILED, USED };
	const unsigned how = c->features & UBLK_F_SAFE_STOP_DEV ? 0 : USAGE_MAPPED;
	ssize_t n = 0;
	int fds[2], ret;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork_plain();
	if (pid == 0) {
		if (dup2(fds[1], 3) < 0)
			_exit(FAILED);
		fds_close_from(4);
		stdio_to_null();	/* it may be left behind */
		/* one that waits for a server must not be opened: that may read from it */
		if (!(live ? disk_in_use : usage_seen)(id, how, text, len))
			_exit(FREE);
		_exit(write(3, text, strlen(text)) < 0 ? FAILED : USED);
	}
	ret = pid < 0 ? -errno : ctrl_await(c, pid, true);
	close(fds[1]);
	if (ret == USED)
		n = read(fds[0], text, len - 1);
	text[n > 0 ? n : 0] = 0;
	close(fds[0]);
	return ret < 0 ? ret : ret == FREE ? 0 : ret == USED ? -EBUSY : -ECHILD;
}

/*
 * STOP_DEV and, from outside, DEL_DEV linked to it: that waits until the number
 * is free, which nothing else tells, and has to find the device for it, so it
 * must be there before the last reference is dropped. Drivers that cannot be
 * asked for features (before 6.5) are left without: they may wait unkillably.
 * It goes by the number alone, so the link is to follow at once: would this
 * process stand still in between until the server has freed the number and
 * another device has taken it, that would go.
 * Kernel: ublk_ctrl_del_dev(), ublk_cdev_rel().
 */
static int ctrl_stop(struct ctrl *c, unsigned nr, uint32_t id)
{
	const struct ublksrv_ctrl_cmd cmd = { .dev_id = id, .queue_id = UINT16_MAX };
	struct io_uring_sqe *del;

	if (c->serving || !c->features)
		return ctrl_simple(c, STEP_STOP, nr, id, 0);
	c->step = STEP_STOP;
	ctrl_prepare(c, c->enc, nr, cmd)->flags |= IOSQE_IO_LINK;
	del = ctrl_prepare(c, c->enc, UBLK_CMD_DEL_DEV, cmd);
	/* its answer may come when c->seq has gone on, or never, with another one sent meanwhile */
	c->del_data = 1ULL << 32 | c->seq--;
	del->user_data = c->del_data;
	c->del = DEL_SENT;
	return ctrl_wait(c);
}

int dev_stop(struct ctrl *c, uint32_t id, bool force, char *text, size_t len)
{
	const bool safe = !force && c->features & UBLK_F_SAFE_STOP_DEV;
	bool live, recovers, look;
	int ret = ctrl_get_info(c, id);

	if (ret)
		return ret;
	live = c->info.state == UBLK_S_DEV_LIVE;
	recovers = c->info.flags & UBLK_F_USER_RECOVERY;
	c->step = STEP_STOP;
	/* where the kernel itself says no, who has it is looked for after that: it takes longer than to stop */
	look = !force && (!safe || recovers);
	ret = look ? dev_ask(c, id, live, text, len) : 0;
	if (ret == -ETIME && safe) {	/* whoever made looking take that long is not to keep the device: the kernel knows */
		ctrl_set_deadline(c);
		ret = 0;
	}
	if (ret)
		return ret;
	/* by force: what lies in the caches of device-mapper or loop above it would come too late */
	if (live && (force || recovers)) {
		ret = dev_flush(c, id);
		if (ret > 0)
			notice("%s: not all that is dirty could be written", node_path(id).s);
		else if (ret == -ETIME && force)
			ctrl_set_deadline(c);
		else if (ret)
			return ret;
	}
	ret = ctrl_stop(c, safe ? UBLK_CMD_TRY_STOP_DEV : UBLK_CMD_STOP_DEV, id);
	if (ret != -EBUSY)
		return ret;
	if (!look)
		ret = dev_ask(c, id, live, text, len);
	c->step = STEP_STOP;
	if (ret == -EINTR || (ret == -EBUSY && !look))
		return ret;
	text_print(text, len, "opened by a process that /proc does not show");
	return -EBUSY;
}

/*
 * One on which the driver hangs is not asked to go: that would wait for ever
 * with the lock that every ADD_DEV and DEL_DEV takes, and no device could be
 * made or removed any more. Kernel: ublk_ctl_mutex; GET_PARAMS takes the
 * device's own.
 */
int dev_del(struct ctrl *c, uint32_t id)
{
	int ret = ctrl_get_params(c, id);
	char text[160];

	if (ret == -ETIME)
		return ret;
	ret = ctrl_simple(c, STEP_DEL, UBLK_CMD_DEL_DEV_ASYNC, id, 0);
	if (ret == -EOPNOTSUPP || ret == -EINVAL) {
		/* whoever has it open is to get errors, not to wait as well */
		(void)ctrl_simple(c, STEP_STOP, UBLK_CMD_STOP_DEV, id, 0);
		while (usage_seen(id, USAGE_MAPPED, text, sizeof(text))) {
			if (!ctrl_left(c))
				return -EBUSY;
			nap_ms(50);
		}
		ret = ctrl_simple(c, STEP_DEL, UBLK_CMD_DEL_DEV, id, 0);
	}
	return ret == -ENODEV ? 0 : ret;
}

/*
 * Wait for the DEL_DEV that follows STOP_DEV. It goes on waiting where somebody
 * takes the number at once, so that is looked for. Returns 0 if the number is or
 * was free, -ETIME, or -EAGAIN: there was none, or it came too late.
 */
static int ctrl_wait_del(struct ctrl *c, uint32_t id, uint64_t cookie)
{
	while (c->del == DEL_SENT) {
		if (ctrl_get_info(c, id) == 0 && c->info.ublksrv_flags != cookie)
			return 0;
		c->step = STEP_DEL;
		if (!ctrl_left(c))
			return -ETIME;
		if (c->del == DEL_SENT)
			(void)uring_enter(&c->ring, 1, 20);
		ctrl_reap(c);
	}
	return c->del == DEL_ANSWERED && c->del_res == 0 ? 0 : -EAGAIN;
}

int dev_remove(struct ctrl *c, uint32_t id, uint64_t cookie)
{
	int ret = ctrl_wait_del(c, id, cookie);

	c->del = DEL_NONE;
	if (ret != -EAGAIN)
		return ret;
	ret = ctrl_is_gone(c, id, cookie) ? 0 : dev_del(c, id);
	return ret ? ret : ctrl_wait_gone(c, id, cookie, ctrl_left(c));
}

/* ---- the life of a device, from the server's side ---- */

/* What a device is to do, by what the kernel can and the user may. Returns 0 or -errno. */
static int server_want(struct server *s, uint64_t *want)
{
	const struct options *o = s->o;
	const uint64_t features = s->ctrl.features;

	if (s->dev.data_path == DATA_ZERO_COPY && !(features & UBLK_F_AUTO_BUF_REG)) {
		if (o->zero_copy == ZERO_COPY_ON) {
			s->why = "this kernel has no zero copy (AUTO_BUF_REG, Linux 6.16)";
			return -EOPNOTSUPP;
		}
		s->dev.data_path = DATA_COPY;
	}
	/* before 6.16 a server that is killed with all tags in hand leaves clients that nobody can */
	if (o->unprivileged && !(features & UBLK_F_QUIESCE)) {
		s->why = "without root this takes Linux 6.16 or later";
		s->ctrl.step = STEP_ADD;
		return -EPERM;
	}
	if (o->unprivileged && s->dev.data_path == DATA_ZERO_COPY)
		s->dev.data_path = DATA_COPY;
	*want = s->dev.data_path == DATA_ZERO_COPY ? UBLK_F_AUTO_BUF_REG : UBLK_F_NEED_GET_DATA;
	*want |= features & UBLK_F_NO_AUTO_PART_SCAN;
	if (o->recoverable || o->resilient)
		*want |= UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;
	if (o->unprivileged)
		*want |= UBLK_F_UNPRIVILEGED_DEV;
	s->rescan = *want & UBLK_F_NO_AUTO_PART_SCAN && !o->no_part_scan && !o->unprivileged && !s->dev.blank;
	return 0;
}

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
	ret = server_want(s, &want);
	if (ret)
		return ret;
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
	if (o->unprivileged)
		ctrl_by_path(c, s->id);
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
		notice("%s: %u queues instead of %u, one for each CPU", node_path(s->id).s,
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
	s->char_fd = node_open(path, O_RDWR, s->o->unprivileged);
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
			.fd = i < MAX_DESCRIBED && s->described[i] ? s->described[i] : s->dev.fd,
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
	pid_t server;
	uint32_t nr_requests;	/* see server_nr_requests(); 0: as it is */
	bool rescan, unprivileged;
};

struct probe_answer {
	enum step step;
	int res;
};

static struct probe_answer probe_start(const struct probe_order *p, int ctrl_fd)
{
	struct probe_answer a = { .step = STEP_NODE };
	struct ctrl *c = ctrl_own();

	c->fd = ctrl_fd;
	if (!p->unprivileged)
		(void)mounts_leave();	/* to where the node is sure to appear */
	a.res = ctrl_open(c, false);
	if (p->unprivileged)
		ctrl_by_path(c, p->id);
	if (!a.res)
		a.res = ctrl_simple(c, STEP_START, UBLK_CMD_START_DEV, p->id, (uint64_t)p->server);
	if (a.res) {
		a.step = c->step;
		return a;
	}
	if (p->nr_requests)
		disk_limit(p->id, p->nr_requests);
	a.res = disk_try(p->id, p->block_size, p->rescan, p->unprivileged);
	return a;
}

int probe_fork(struct server *s)
{
	struct probe_answer answer;
	struct probe_order order;
	int fds[2], ret;

	s->ctrl.step = STEP_DAEMON;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	s->probe_pid = fork_plain();
	if (s->probe_pid < 0) {
		ret = -errno;
		close(fds[0]);
		close(fds[1]);
		return ret;
	}
	if (s->probe_pid > 0) {
		close(fds[1]);
		s->probe_fd = fds[0];
		return 0;
	}
	stdio_to_null();
	if (dup2(fds[1], 3) < 0)	/* in place of what was opened first, which is never the control node */
		_exit(EXIT_FAILURE);
	fds_close_but(4, s->ctrl.fd);	/* also the caller's /dev: it makes no nodes */
	if (read(3, &order, sizeof(order)) != sizeof(order))
		_exit(0);	/* the server had no need of it */
	answer = probe_start(&order, s->ctrl.fd);
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
		.id = s->id, .block_size = s->dev.block_size, .server = getpid(), .rescan = s->rescan,
		.unprivileged = s->o->unprivileged, .nr_requests = server_nr_requests(s),
	};
	const int fd = s->probe_fd;
	struct probe_answer answer;

	s->ctrl.step = STEP_START;
	if (write(fd, &order, sizeof(order)) != sizeof(order))
		return -errno;
	s->probe_fd = -1;
	queue_poll(&s->queues[0], fd, KIND_PROBE);
	while (!s->probed)
		if (queue_turn(&s->queues[0], ctrl_left(&s->ctrl)))
			return -ETIME;
	if (read(fd, &answer, sizeof(answer)) != sizeof(answer))
		return -EPIPE;	/* it died, perhaps with the node open: not to be waited for */
	close(fd);
	while (waitpid(s->probe_pid, NULL, 0) < 0 && errno == EINTR)
		;
	s->ctrl.step = answer.step;
	return answer.res;
}

/* Nothing of what was loaded from stays open. */
static void load_forget(const struct options *o)
{
	if (o->path_fd)
		close(o->path_fd);
	if (!strcmp(o->load, "-"))
		stdin_to_null();
}

int server_open(struct server *s)
{
	const int64_t end = now_ms() + DYING_MS;
	int ret;

	s->ctrl.step = STEP_BACKEND;
	/* a server that has just died may still have it locked */
	while ((ret = s->be->open(&s->dev, s->o, &s->why)) == -EBUSY && s->recover && now_ms() < end)
		nap_ms(20);
	if (ret)
		return ret;
	s->opened = true;
	if (s->o->load)		/* which may be pulled out now */
		load_forget(s->o);
	s->dev.used = s->recover;
	if (s->recover && (s->cookie & DEV_IDENTITY) != s->dev.identity) {
		s->why = NOT_THE_SAME;
		return -EINVAL;
	}
	s->cookie |= s->dev.identity;
	return 0;
}

/* Serve, and let who waits know, between two pieces of what takes long. False: the device is to go. */
static bool server_goes_on(struct server *s, unsigned signals)
{
	mail_beat(s->mail);
	ctrl_turn(&s->ctrl, 0);
	return s->ctrl.serving->live && s->signals == signals;
}

/*
 * Have the backend follow a size that is not dev->size, serving meanwhile. What
 * it is to give up nobody may ask for any more when it does, and what is new it
 * has before anybody can. Returns 0 or -errno; -ECANCELED: the device is to go.
 */
static int server_fit(struct server *s, uint64_t size)
{
	const struct queue *q = s->ctrl.serving;
	const unsigned signals = s->signals;
	uint64_t at = 0;
	int ret;

	if (size < s->dev.size)
		__atomic_store_n(&s->dev.size, size, __ATOMIC_RELAXED);
	while ((ret = s->be->resize(q, &s->dev, size, &at, &s->why)) == -EAGAIN)
		if (q && !server_goes_on(s, signals))
			return -ECANCELED;
	/* the driver announces it after this, in a system call */
	if (!ret)
		__atomic_store_n(&s->dev.size, size, __ATOMIC_RELAXED);
	return ret;
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
	uint64_t size;
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
	/* the guard has it as it was made */
	ret = s->restart ? ctrl_get_params(c, s->id) : 0;
	size = c->params.basic.dev_sectors << SECTOR_SHIFT;
	if (!ret && s->restart && size != s->dev.size)
		ret = server_fit(s, size);
	return ret ? ret : server_open_char(s);
}

/* Without root nobody but who has the node may say anything of the device. */
static int server_make(struct server *s)
{
	int ret = server_add(s);

	if (!ret)
		ret = server_open_char(s);
	return ret ? ret : server_set_params(s);
}

/*
 * Before privileges go: after that another user's file would not be opened again.
 * And after it: before that there may be no /proc. With a guard queue 0 has its own as well, and the guard's is asked by who comes
 * after a server that was killed.
 */
static void server_describe(struct server *s)
{
	const int flags = s->dev.syncs ? fcntl(s->dev.fd, F_GETFL) & (O_ACCMODE | O_DIRECT | O_NOATIME) : 0;
	int fd;

	for (unsigned i = !s->guarded; s->dev.syncs && i < s->o->queues && i < MAX_DESCRIBED; i++) {
		if (s->described[i])
			continue;
		fd = fd_reopen(s->dev.fd, flags | O_CLOEXEC | O_NOCTTY);
		if (fd < 0) {
			debug("%s: queues share a description: %s", s->be->name, strerror(-fd));
			break;
		}
		s->described[i] = fd;
	}
}

int server_reach(struct server *s)
{
	const struct options *o = s->o;
	int ret = ctrl_open_node(&s->ctrl, !o->no_modprobe && !s->recover);

	/* it may be there when we have a /dev of our own, unless /sys says that there is no driver */
	if (ret == -ENOENT && !driver_is_absent())
		return 0;
	if (!ret && !o->unprivileged && (s->opened || (!o->path && !o->load)))
		(void)mounts_leave();
	return ret;
}

int server_up(struct server *s)
{
	struct ctrl *c = &s->ctrl;
	int ret = 0;

	if (!s->opened) {	/* a guard has opened it for us */
		/* which may take long, and nothing is there yet that would stay behind */
		signals_block(s->o->create);
		ret = server_open(s);
		signals_block(true);
	}
	if (ret)
		return ret;
	server_describe(s);
	server_confine(!s->o->unprivileged, c->fd < 0);	/* before there is a ring: the kernel's workers for it would stay behind */
	server_describe(s);
	if (s->restart && s->be->again)
		s->be->again(&s->dev);
	ret = ctrl_open(c, false);
	if (ret)
		return ret;
	/* never read, and written only with what cannot be used: no page is kept for it */
	s->sink = pages_map(s->dev.max_io, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!s->sink)
		return -errno;
	ret = s->recover ? server_rejoin(s) : server_make(s);
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
		s->mail = mail_make();
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

	if (s->probe_fd >= 0) {		/* not needed: what it has open is not to be busy when we have ended */
		close(s->probe_fd);
		(void)process_await(s->probe_pid, PROBE_END_MS, NULL);
	}
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
	for (unsigned i = 0; s->queues && i < s->nr_queues; i++)
		queue_free(&s->queues[i]);
	fd_close(s->char_fd);
	if (s->added && !marked && !ctrl_is_gone(c, s->id, s->cookie))
		ret = dev_del(c, s->id);
	/* who has stopped it from outside waits for the number himself, and for us */
	if (s->added && !ret && (s->signals || !s->dev.used))
		ret = ctrl_wait_gone(c, s->id, s->cookie, marked ? 2000 : ctrl_left(c));
	if (ret == -ETIME && marked)
		ret = 0;	/* still open somewhere: it goes with the last close */
	if (s->added && !ret && mounts_caller_dev() >= 0)
		nodes_forget(s->id);
	if (s->opened)
		s->be->close(&s->dev);
	ctrl_close(c);
	pages_put(s->queues, s->nr_queues * sizeof(*s->queues));
	return ret;
}

/* What only the backend can answer, see its ask(). Returns 0 or -errno, with s->why for it or NULL. */
static int server_ask(struct server *s, uint32_t what)
{
	const unsigned signals = s->signals;
	uint64_t at = 0;
	int ret = -EINVAL;

	while (s->be->ask && (ret = s->be->ask(&s->dev, what, &at, &s->why)) == -EAGAIN)
		if (!server_goes_on(s, signals))
			return -ECANCELED;
	return ret;
}

/* STOP_DEV, unless the backend would lose something by it, or somebody uses the device. Then text says so. */
static int server_stop(struct server *s, bool force, char *text, size_t len)
{
	if (!force && server_ask(s, LETTER_LEAVE) == -EBUSY) {
		text_print(text, len, "%s", s->why);
		s->why = NULL;
		return -EBUSY;
	}
	return dev_stop(&s->ctrl, s->id, force, text, len);
}

/*
 * A signal asked us to stop. 0: stopped, or as good as; -EBUSY: in use. What
 * has it open for a moment only, as udev does after each writer, is waited for.
 */
static int server_asked(struct server *s, bool force)
{
	const int64_t grace = now_ms() + GRACE_MS;
	char text[160];
	int ret;

	ctrl_set_deadline(&s->ctrl);
	s->ctrl.patient = true;
	while ((ret = server_stop(s, force, text, sizeof(text))) == -EBUSY && now_ms() < grace)
		queue_turn(&s->queues[0], 10);
	if (ret == -EBUSY)
		notice("%s is %s: still serving; a second signal stops it all the same", node_path(s->id).s, text);
	else if (ret && ret != -ENODEV && ret != -EINTR)
		(void)fail(node_path(s->id).s, s->ctrl.step, ret, NULL);
	return ret;
}

/*
 * Kernel: ublk_ctrl_set_size(), which announces it on the spot and looks at
 * nothing. If that fails, dev->size stays as large as it has become: the driver
 * asks for nothing that is beyond its own. What shrinks, whoever asks has claimed
 * for as long as he waits.
 */
static int server_resize(struct server *s, uint64_t size)
{
	const uint64_t before = s->dev.size;
	int ret = 0;

	if (!size || size % s->dev.block_size || size > INT64_MAX || !s->be->resize)
		return -EINVAL;
	if (size > before)
		ret = server_fit(s, size);
	if (!ret && !mail_is_awaited(s->mail))
		ret = -ECANCELED;
	if (!ret)
		ret = ctrl_simple(&s->ctrl, STEP_RESIZE, UBLK_CMD_UPDATE_SIZE, s->id, size >> SECTOR_SHIFT);
	if (!ret && size < before)
		ret = server_fit(s, size);
	return ret;
}

/* What is in the mailbox. */
static void server_mail(struct server *s)
{
	struct letter l;

	s->mailed = false;
	if (!mail_read(s->mail, &l) || (l.what != LETTER_UNLOCK && !mail_is_awaited(s->mail)))
		return;
	s->ctrl.patient = false;
	ctrl_set_deadline(&s->ctrl);
	switch (l.what) {
	case LETTER_RESIZE:
		l.res = server_resize(s, l.size);
		break;
	case LETTER_MOST:
		l.size = s->be->most ? s->be->most(&s->dev) : 0;
		l.res = 0;
		break;
	default:
		l.res = server_ask(s, l.what);
	}
	text_print(l.why, sizeof(l.why), "%s", l.res && s->why ? s->why : "");
	s->why = NULL;
	mail_answer(s->mail, &l);
}

void server_run(struct server *s)
{
	struct queue *q = &s->queues[0];
	unsigned seen = 0;

	while (q->live) {
		int ret;

		if (s->mailed) {
			server_mail(s);
			continue;
		}
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
