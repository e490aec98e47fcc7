/* SPDX-License-Identifier: MIT */
/*
 * The contract between the loop and a backend. Whoever writes another backend
 * needs this page and no other (but for ask()); README works through one in 40 lines.
 *
 * A backend answers requests. It sees bytes, never sectors, and never sees a
 * ring, a tag's state or the driver. The loop has checked every request before
 * the backend meets it: it lies inside the device, is a multiple of the block
 * size and no longer than the limits that open() set.
 *
 * Only the loop commits a request to the kernel, once: whatever queue() or
 * complete() returns that is not IO_QUEUED or IO_QUEUED_LAST is the result. READ and WRITE are
 * whole or an error, never short: a backend goes on until it has all of it.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "include/ublk_cmd.h"
#include "uring.h"

struct queue;			/* private to the loop: pass it on, that is all */

/* What the user asked for, as far as it is a device's; sizes in bytes. */
struct options {
	uint64_t size;
	uint64_t block_size;	/* 0: not given */
	uint64_t max_io;
	uint64_t id;		/* ID_ANY: the lowest free one */
	uint64_t queues;
	uint64_t qdepth;
	bool cpu_affinity, read_only, no_part_scan, no_modprobe;
	bool recoverable;	/* file: the device waits when its server dies */
	bool resilient;		/* the same, and a parent that starts the next one */
	bool unprivileged;	/* the user may not have what root has: no request is to stay away for long */
	bool prealloc, huge;	/* mem */
	const char *load;	/* mem: what it begins with; "-": standard input */
	const char *path;	/* file: this and the next six */
	bool snapshot;		/* it is only read, and what is written stays in memory */
	int path_fd;		/* what path (O_PATH) or load (to read) was for the caller; 0: not opened. Not open()'s to close */
	uint64_t offset;
	bool direct, create;
	uint64_t zero_copy;	/* ZERO_COPY_* */
};

enum { ZERO_COPY_AUTO, ZERO_COPY_ON, ZERO_COPY_OFF };

/*
 * How the data of a READ or a WRITE travels between the kernel and a backend.
 * A backend that asks for DATA_ZERO_COPY must be able to do DATA_COPY as well:
 * it gets that where the kernel (before 6.16) cannot, and finds it in
 * dev->data_path from the first request on.
 */
enum data_path {
	DATA_COPY,	/* through io->buf, a buffer that the request has to its end; a READ
			   may be answered with io->buf set to other memory, as below */
	DATA_DIRECT,	/* the kernel copies from and to memory that queue() names */
	DATA_ZERO_COPY,	/* the client's own pages: registered buffer number io->tag of the ring */
};

#define DEV_IDENTITY	0xfffffU	/* 20 bits */

/*
 * A block device as its backend describes it. open() fills it in, and from
 * then on it does not change, but for its size: every queue's thread reads it. With
 * options.resilient open() is called in the parent that holds what must survive
 * a server; each server is a child of that, forked with all of it in place.
 */
struct dev {
	uint64_t size;			/* bytes, a multiple of block_size; dev_size() in a queue's thread */
	uint32_t block_size;		/* logical: 512 to 4096, a power of two */
	uint32_t physical_block_size;	/* what the backing likes best */
	uint32_t max_io;		/* longest READ or WRITE */
	uint32_t max_discard;		/* longest DISCARD; 0: there is none */
	uint32_t max_write_zeroes;	/* longest WRITE_ZEROES; 0: there is none */
	uint32_t discard_granularity;	/* bytes; not 0 if either of them is not 0 */
	enum data_path data_path;
	bool read_only;
	bool blank;			/* zeroes all over: no partitions to look for */
	bool volatile_cache;		/* what is written is safe only after FLUSH */
	bool fua;			/* a WRITE with UBLK_IO_F_FUA is safe when answered */
	uint32_t dma_align;		/* of memory in a request, bytes; 0: the driver's default */
	int fd;				/* what io_sqe() operates on, or -1 */
	bool syncs;			/* fd is synced: each queue is to have a description of its own of what it is */
	uint32_t identity;		/* DEV_IDENTITY: bits that tell this storage from others; see recover */
	bool bounce;			/* DATA_DIRECT: each tag has a buffer in io->buf as well, to copy
					   to or from where queue() has no memory to name */
	uint32_t scratch;		/* DATA_COPY: bytes of the backend's own behind the max_io of io->buf */
	void *page_cache;		/* a mapping of page cache, not to be locked, or NULL */
	uint64_t page_cache_len;
	bool used;			/* the loop's word to close(): what open() made has become a device */
	void *priv;			/* the backend's own */
	void *over;			/* of one that is made upon another, whose priv is the other's */
};

/* The size as it is now. What a request was checked by is not less than what it needs, unless the device shrinks. */
static inline uint64_t dev_size(const struct dev *dev)
{
	return __atomic_load_n(&dev->size, __ATOMIC_RELAXED);
}

/* One request, as it lies in its tag's slot. */
struct io {
	uint64_t off;			/* bytes from the start of the device */
	uint32_t len;			/* bytes; 0 for FLUSH */
	uint32_t flags;			/* UBLK_IO_F_* */
	uint16_t tag;
	uint8_t op;			/* UBLK_IO_OP_* */
	uint8_t state;			/* the loop's own */
	int32_t res;			/* the loop's own */
	uint16_t nr_buf;		/* the loop's own: the buffer that it has, if has_buf */
	bool has_buf;
	uint32_t done;			/* the backend's own: bytes finished */
	bool copying;			/* the loop's own: see queue_copying() */
	bool placed;			/* the loop's own: the data of a WRITE goes to where place() has said */
	bool lost, late;		/* the loop's own: see io_give_up() */
	uint32_t since;			/* the loop's own: when it came in, in ms */
	uint8_t way;			/* the backend's own */
	uint64_t mark;			/* the backend's own, kept from one request of the tag to the next */
	void *buf;			/* DATA_COPY: the data; DATA_DIRECT: set by queue() */
};

/* From queue() and complete(): not done, an SQE of this request is under way. */
#define IO_QUEUED (-0x7fffffff)

/*
 * The same, and if that SQE succeeds the request is done: a READ or WRITE of
 * all io->len bytes. complete() hears of it only if it fails or falls short.
 */
#define IO_QUEUED_LAST (-0x7ffffffe)

struct backend {
	const char *name;	/* the verb, and the type that list shows */
	const char *help;	/* a few words on it */
	const char *examples;	/* what may stand behind the verb, a line each, or NULL */
	const char *operand;	/* the option that the verb's one argument stands for: "size", "path" */
	const char *verb;	/* NULL: its name. Else it is made by another's verb, with an option */

	/*
	 * Take the options, get hold of the storage, fill in *dev. Returns 0 or
	 * -errno, holding nothing; *why is then a few words for the user, or
	 * NULL when the errno says it all. Called once, before any thread.
	 * Without a path or --load the caller's mounts may have been left.
	 */
	int (*open)(struct dev *dev, const struct options *o, const char **why);

	/* Let go of what open() took. No request is under way. */
	void (*close)(struct dev *dev);

	/*
	 * Start a request, in the thread of its queue. Returns the bytes read
	 * or written (io->len; 0 for the other operations), -errno, or IO_QUEUED(_LAST).
	 * With DATA_DIRECT a READ or WRITE sets io->buf and returns io->len at
	 * once: the kernel then copies io->len bytes from or to that memory.
	 */
	int (*queue)(struct queue *q, struct io *io);

	/*
	 * An SQE of this request has finished with res. Returns as queue()
	 * does. NULL for a backend that never returns IO_QUEUED. Of a request
	 * whose client has been told meanwhile that it failed (without root, see
	 * io_give_up()) it hears only where that is a FLUSH or has FUA; so
	 * nothing that must be given back may hang on it.
	 */
	int (*complete)(struct queue *q, struct io *io, int res);

	/*
	 * DATA_COPY: memory that the kernel is to copy the data of a WRITE to, io->len
	 * bytes of it, instead of io->buf: the request is then done, and queue() does
	 * not see it. NULL: it is to be copied to io->buf, and queue() called. If
	 * nothing could be copied there misplaced() is told, and the WRITE comes
	 * again. NULL, both: there is no such memory.
	 */
	void *(*place)(const struct queue *q, const struct io *io);
	void (*misplaced)(const struct queue *q, const struct io *io);

	/* With options.resilient, in a server that comes after one which has died, before its first request. May be NULL. */
	void (*again)(struct dev *dev);

	/*
	 * dev->identity of the storage that these options name, without opening
	 * it. Returns 0 or -errno. NULL for a backend that cannot be recovered.
	 */
	int (*identity)(const struct options *o, uint32_t *identity);

	/*
	 * Have room for a size that is more than dev->size, or let go of what is
	 * behind one that dev->size has become. In the thread of queue 0, while
	 * all of them serve; q is that, or NULL in a server that takes over a
	 * device which has had the size before. Returns 0, -EAGAIN to be called
	 * again when requests have been served (*at is 0 at first, and kept from
	 * call to call), or another -errno with *why as of open(), and the device
	 * goes on as it was. NULL: its devices stay as large as they are.
	 */
	int (*resize)(const struct queue *q, struct dev *dev, uint64_t size, uint64_t *at, const char **why);

	/*
	 * What else others may ask of a device, as enum letter_what of
	 * host/mailbox.h has it. Called, and called again, as resize() is.
	 */
	int (*ask)(struct dev *dev, uint32_t what, uint64_t *at, const char **why);

	/* The largest dev->size that the storage has room for as it is, in bytes. NULL: that is nothing but dev->size. */
	uint64_t (*most)(const struct dev *dev);
};

/* The device that a queue belongs to. */
struct dev *queue_dev(const struct queue *q);

/*
 * What io_sqe() operates on in this queue: dev->fd, or with dev->syncs a
 * description of its own of the same, if there is one. The kernel reports a
 * failed writeback once to each.
 */
int queue_fd(const struct queue *q);

/* Hand over all that is done: the thread is about to be away for a while. */
void queue_push(struct queue *q);

/*
 * DATA_DIRECT: calls found() with the part inside of this range of each WRITE,
 * of all queues, whose data the kernel may still have to copy to the memory
 * that queue() named. For a backend that takes such memory away from under it,
 * and keeps a note of what is there. Such a WRITE is found, or its data was
 * copied before this call, or its queue() comes later and sees all that was
 * stored before this call. It may be found a little longer, when its client has
 * its answer already. What found() stores is there before what follows the call.
 */
void queue_copying(const struct queue *q, uint64_t off, uint64_t len,
		   void (*found)(struct dev *dev, uint64_t off, uint64_t len));

/*
 * A zeroed SQE for this request on dev->fd, its user_data and fd filled in:
 * queue() or complete() fills in the rest and returns IO_QUEUED. One at a time.
 * The ring takes the operations that queue_allowed[] in ublk.c lists.
 */
struct io_uring_sqe *io_sqe(struct queue *q, const struct io *io);

#endif
