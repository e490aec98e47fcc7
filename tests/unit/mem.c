/* SPDX-License-Identifier: MIT */
/* backend_mem, without a kernel */
#include "tests/unit/test.h"
#include "ublk.c"

/* Memory may go a little later than it was asked for, for others to come in between. */
static bool goes_late;

static int late_madvise(void *p, size_t len, int advice)
{
	if (goes_late)
		nap_ms(0);
	return madvise(p, len, advice);
}

#define madvise late_madvise
#include "store/ram.c"
#include "backend_mem.c"
#undef madvise
#include "tests/unit/fake.h"

#include <sys/resource.h>
#include <sys/stat.h>

static bool all_zero(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/* Queues whose kernel is the test: what they say of a WRITE's memory is told apart from the copy. */
enum { RACERS = 3, RACER_TAGS = 4, RACE_PAGES = 8, RACE_IO = 64 << 10 };

struct racer {
	struct queue *q;
	struct fake fake;
	struct ublksrv_io_desc iods[RACER_TAGS];
	struct io ios[RACER_TAGS], *held[RACER_TAGS];
	char bufs[RACER_TAGS * RACE_IO];	/* --resilient */
	enum { IDLE, TOLD, COPIED } is[RACER_TAGS];
	unsigned char value[RACER_TAGS];
	unsigned seed;
	bool ok;
};

static struct dev race_dev;
static struct queue race_queues[RACERS];
static struct server race_server = { .queues = race_queues, .nr_queues = RACERS };
static struct racer racers[RACERS];

static bool race_open(const struct options *o, bool paired)
{
	const char *why;

	memset(racers, 0, sizeof(racers));
	for (unsigned i = 0; i < RACERS; i++) {
		struct racer *r = &racers[i];

		fake_init(&r->fake, 0, 0);
		for (unsigned tag = 0; tag < RACER_TAGS; tag++)
			r->ios[tag].tag = (uint16_t)tag;
		race_queues[i] = (struct queue){
			.ring = r->fake.ring, .iods = r->iods, .ios = r->ios, .bufs = r->bufs, .held = r->held, .s = &race_server,
			.dev = &race_dev, .be = &backend_mem, .q_id = (uint16_t)i, .depth = RACER_TAGS,
			.can_pair = paired, .page = 4096,
		};
		r->q = &race_queues[i];
		r->seed = i;
		r->ok = true;
	}
	memset(&race_dev, 0, sizeof(race_dev));
	return backend_mem.open(&race_dev, o, &why) == 0;
}

/* The driver has this request; what the kernel is told of its memory is in ios[tag].buf. */
static struct io *race_begin(struct racer *r, unsigned tag, unsigned op, uint64_t sector, uint32_t sectors)
{
	struct io *io = &r->ios[tag];

	r->iods[tag] = (struct ublksrv_io_desc){ .op_flags = op, .start_sector = sector, .nr_sectors = sectors };
	io->state = IO_FETCHED;
	io_event(r->q, io, op == UBLK_IO_OP_WRITE ? UBLK_IO_RES_NEED_GET_DATA : UBLK_IO_RES_OK);
	fake_take(&r->fake, &r->q->ring);
	return io;
}

static void race_end(struct racer *r, unsigned tag)
{
	io_get_data_event(r->q, &r->ios[tag], UBLK_IO_RES_OK);
	fake_take(&r->fake, &r->q->ring);
}

static int mem_op(struct queue *q, unsigned op, uint64_t off, uint32_t len, void **buf)
{
	struct io io = { .op = (uint8_t)op, .off = off, .len = len };
	int ret = backend_mem.queue(q, &io);

	if (buf)
		*buf = io.buf;
	return ret;
}

static void test_mem(void)
{
	const struct options o = { .size = 1 << 20, .max_io = 1 << 20 };
	const char *why = NULL;
	struct dev dev = { 0 };
	struct server s = { 0 };
	struct queue q = { .dev = &dev, .s = &s };
	unsigned char seen[2];
	char *base;
	void *p;
	bool ok;

	ok = backend_mem.open(&dev, &o, &why) == 0 && dev.size == 1 << 20 && dev.block_size == 512 &&
	     mem_op(&q, UBLK_IO_OP_WRITE, 0, 4096, &p) == 4096;
	base = p;
	ok = ok && mem_op(&q, UBLK_IO_OP_READ, 4096, 8192, &p) == 8192 && p != base + 4096 && all_zero(p, 8192) &&
	     mem_op(&q, UBLK_IO_OP_READ, 2048, 4096, &p) == 4096 && p == base + 2048;
	CHECK("mem: a read of what nobody wrote is of other zeroes, of the least that somebody wrote is not", ok);
	ok = ok && mem_op(&q, UBLK_IO_OP_WRITE_ZEROES, 65536 - 512, 1024, NULL) == 0 &&
	     mincore(base + 65536 - 4096, 8192, seen) == 0;
	CHECK("mem: write zeroes on parts of pages that nobody wrote takes none", ok && !((seen[0] | seen[1]) & 1));
	CHECK("mem: opens, and names the memory of a request",
	      ok && all_zero(base, 4096) && mem_op(&q, UBLK_IO_OP_WRITE, 12345 * 8, 512, &p) == 512 &&
	      (char *)p == base + 12345 * 8);

	(void)mem_op(&q, UBLK_IO_OP_WRITE, 0, 1 << 20, NULL);
	memset(base, 0xaa, 1 << 20);
	ok = mem_op(&q, UBLK_IO_OP_WRITE_ZEROES, 512, 3 * 4096, NULL) == 0 &&
	     all_zero(base + 512, 3 * 4096) && !all_zero(base, 512) && !all_zero(base + 512 + 3 * 4096, 1) &&
	     (unsigned char)base[511] == 0xaa;
	CHECK("mem: write zeroes, unaligned at both ends, and not a byte more", ok);
	ok = mem_op(&q, UBLK_IO_OP_WRITE_ZEROES, 65536 + 1024, 512, NULL) == 0 &&
	     all_zero(base + 65536 + 1024, 512) && (unsigned char)base[65536 + 1023] == 0xaa &&
	     (unsigned char)base[65536 + 1536] == 0xaa;
	CHECK("mem: write zeroes inside one page", ok);
	ok = mem_op(&q, UBLK_IO_OP_DISCARD, 131072 + 512, 8192, NULL) == 0 &&
	     (unsigned char)base[131072 + 512] == 0xaa && all_zero(base + 131072 + 4096, 4096) &&
	     (unsigned char)base[131072 + 8192] == 0xaa;
	CHECK("mem: discard gives back whole pages only", ok);
	CHECK("mem: flush is done, the unknown is refused",
	      mem_op(&q, UBLK_IO_OP_FLUSH, 0, 0, NULL) == 0 && mem_op(&q, 99, 0, 0, NULL) == -EOPNOTSUPP);
	backend_mem.close(&dev);
	CHECK("mem: closed", !dev.priv);
}

/*
 * The memory of --resilient, against a model: what the kernel would copy is
 * copied here. A second server, that knows nothing of what the first one wrote,
 * sees the same; and nobody's reads take memory.
 */
static bool shared_ops(struct queue *q, char *model, const struct stat *before, unsigned nr)
{
	static char buf[64 << 10];
	struct io io = { 0 };

	for (unsigned i = 0; i < nr; i++) {
		io.off = (uint64_t)(rand() % 2048) * 512;
		io.len = (uint32_t)(1 + rand() % 128) * 512;
		if (io.off + io.len > 1 << 20)
			io.len = (uint32_t)((1 << 20) - io.off);
		io.buf = buf;
		io.op = before ? UBLK_IO_OP_READ : (uint8_t[]){ 0, 1, 1, 3, 5 }[rand() % 5];
		memset(buf, 0x55, sizeof(buf));
		if (backend_mem.queue(q, &io) < 0)
			return false;
		if (io.op == UBLK_IO_OP_READ && memcmp(io.buf, model + io.off, io.len))
			return false;
		if (io.op == UBLK_IO_OP_WRITE)
			memset(io.buf, (int)i, io.len), memset(model + io.off, (int)i, io.len);
		/* this memory's discard zeroes all of the range, if there is a whole page in it */
		if (io.op == UBLK_IO_OP_WRITE_ZEROES || (io.op == UBLK_IO_OP_DISCARD &&
		    (io.off + io.len) / 4096 > (io.off + 4095) / 4096))
			memset(model + io.off, 0, io.len);
	}
	return true;
}

/* Does reading there take a page fault? */
static bool faults_at(const volatile char *p)
{
	struct rusage before, after;

	getrusage(RUSAGE_SELF, &before);
	getrusage(RUSAGE_SELF, &before);	/* itself not counted */
	(void)*p;
	getrusage(RUSAGE_SELF, &after);
	return after.ru_minflt != before.ru_minflt;
}

static void test_mem_shared(void)
{
	const struct options o = { .size = 1 << 20, .max_io = 1 << 20, .resilient = true };
	static char model[1 << 20];
	const char *why = NULL;
	struct dev dev = { 0 };
	struct server s = { 0 };
	struct queue q = { .dev = &dev, .s = &s };
	struct stat before, after;
	struct mem *m;
	void *p = NULL;
	bool ok;

	ok = backend_mem.open(&dev, &o, &why) == 0 && dev.bounce;
	m = dev.priv;
	srand(1);
	ok = ok && mem_op(&q, UBLK_IO_OP_READ, 0, 1 << 20, &p) == 1 << 20 && all_zero(p, 1 << 20) &&
	     fstat(m->ram.fd, &after) == 0 && after.st_blocks == 0;
	CHECK("mem --resilient: reading a device that nobody wrote takes no memory", ok);
	for (unsigned i = 0; i < 200; i++) {	/* every other page of the second half is never written */
		(void)mem_op(&q, UBLK_IO_OP_WRITE, (uint64_t)(i % 64) * 2 * 4096, 4096, &p);
		memset(p, 7, 4096);
		memset(model + (uint64_t)(i % 64) * 2 * 4096, 7, 4096);
	}
	ok = fstat(m->ram.fd, &before) == 0 && shared_ops(&q, model, &before, 2000) &&
	     fstat(m->ram.fd, &after) == 0 && before.st_blocks == after.st_blocks;
	CHECK("mem --resilient: nor does reading holes beside data", ok && before.st_blocks == 64 * 8);
	memset(m->present, 0, 256);
	CHECK("mem --resilient: the next server reads the same", shared_ops(&q, model, &before, 2000) &&
	      fstat(m->ram.fd, &after) == 0 && before.st_blocks == after.st_blocks);
	/* as a new server finds it: nothing in its page tables */
	ok = madvise(m->ram.base, 1 << 20, MADV_DONTNEED) == 0;
	memset(m->present, 0, 256);
	ok = ok && mem_op(&q, UBLK_IO_OP_READ, 0, 4096, &p) == 4096 && p == m->ram.base;
	CHECK("mem --resilient: a page is touched before the driver is told its address", ok && !faults_at(p));
	CHECK("mem --resilient: reads, writes, zeroes as in a model", shared_ops(&q, model, NULL, 20000));
	ok = mem_op(&q, UBLK_IO_OP_DISCARD, 0, 1 << 20, NULL) == 0 &&
	     mem_op(&q, UBLK_IO_OP_READ, 0, 1 << 20, &p) == 1 << 20 && all_zero(p, 1 << 20) &&
	     fstat(m->ram.fd, &after) == 0 && after.st_blocks == 0;
	CHECK("mem --resilient: nor does reading what was discarded", ok);
	backend_mem.close(&dev);
}

/*
 * Requests of three queues, one step at a time: a WRITE is told, and copied, and
 * heard of, with others in between. Each READ is as the model has it at that moment.
 */
static bool race_steps(unsigned steps)
{
	static unsigned char model[RACE_PAGES * 4096];

	memset(model, 0, sizeof(model));
	for (unsigned i = 0; i < steps; i++) {
		struct racer *r = &racers[rand() % RACERS];
		const unsigned tag = (unsigned)rand() % RACER_TAGS;
		const uint32_t sectors = rand() % 3 ? 1 + (uint32_t)rand() % 3 : 8 * (1 + (uint32_t)rand() % 3);
		const uint64_t sector = (uint64_t)rand() % (RACE_PAGES * 8 - sectors + 1) / (sectors < 8 ? 1 : 8) * (sectors < 8 ? 1 : 8);
		const unsigned op = (unsigned char[]){ UBLK_IO_OP_READ, UBLK_IO_OP_READ, UBLK_IO_OP_WRITE, UBLK_IO_OP_DISCARD,
						       UBLK_IO_OP_WRITE_ZEROES }[rand() % 5];
		struct io *io = &r->ios[tag];

		if (r->is[tag] == TOLD) {
			r->is[tag] = COPIED;
			memset(io->buf, r->value[tag], io->len);
			memset(model + io->off, r->value[tag], io->len);
			continue;
		}
		if (r->is[tag] == COPIED) {
			r->is[tag] = IDLE;
			race_end(r, tag);
			continue;
		}
		io = race_begin(r, tag, op, sector, sectors);
		if (op == UBLK_IO_OP_WRITE) {
			r->is[tag] = TOLD;
			r->value[tag] = (unsigned char)i;
		} else if (op == UBLK_IO_OP_READ) {
			if (memcmp(io->buf, model + io->off, io->len))
				return false;
		} else {
			/* discard is of whole pages, which ours are if they are no less */
			if (op == UBLK_IO_OP_WRITE_ZEROES || sectors >= 8)
				memset(model + io->off, 0, io->len);
		}
	}
	return true;
}

static bool race_zeroes_left(void)
{
	const struct mem *m = race_dev.priv;

	for (unsigned i = 0; i < RACE_PAGES; i++)
		if (!m->present[i] && !all_zero(m->ram.base + i * 4096, 4096))
			return false;
	return true;
}

/*
 * Three threads upon the same two pages, of which each has a sector for itself.
 * Only it writes there and fills with zeroes, but all of them discard the page:
 * so what it reads is what it has written, until that is zero, and then it
 * stays zero, until it writes again.
 */
static void *race_thread(void *arg)
{
	struct racer *r = arg;
	const unsigned mine = r->q->q_id;
	unsigned char now[2] = { 0, 0 };

	for (unsigned i = 0; i < 30000 && r->ok; i++) {
		const unsigned page = (unsigned)rand_r(&r->seed) & 1;
		const uint64_t sector = page * 8 + mine;
		const unsigned char value = (unsigned char)(i % 255 + 1);
		const volatile unsigned char *seen;
		unsigned char c;

		switch (rand_r(&r->seed) % 8) {
		case 0:
		case 1:
			/* a byte: the kernel's copy holds on to the page, ours may go on in the next one */
			*(volatile unsigned char *)race_begin(r, 0, UBLK_IO_OP_WRITE, sector, 1)->buf = value;
			now[page] = value;
			if (i & 1)	/* else its answer is there before this is known */
				race_end(r, 0);
			break;
		case 2:
			(void)race_begin(r, 1, UBLK_IO_OP_WRITE_ZEROES, sector, 1);
			now[page] = 0;
			break;
		case 3:
			(void)race_begin(r, 1, UBLK_IO_OP_DISCARD, page * 8, 8);
			now[page] = 0;
			break;
		case 4:
		default:
			seen = r->seed & 1 ? race_begin(r, 1, UBLK_IO_OP_READ, sector, 1)->buf :
			       (unsigned char *)race_begin(r, 1, UBLK_IO_OP_READ, 0, 16)->buf + sector * 512;
			c = *seen;
			now[page] = c ? now[page] : 0;
			r->ok = c == now[page];
		}
	}
	return NULL;
}

static bool race_threads(void)
{
	pthread_t threads[RACERS];
	bool ok = true;

	for (unsigned i = 0; i < RACERS; i++)
		ok = ok && !pthread_create(&threads[i], NULL, race_thread, &racers[i]);
	for (unsigned i = 0; ok && i < RACERS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < RACERS; i++)
		ok = ok && racers[i].ok;
	return ok && race_zeroes_left();
}

static void test_mem_race(void)
{
	struct options o = { .size = RACE_PAGES * 4096, .max_io = RACE_IO };
	bool ok = true;

	for (unsigned i = 0; i < 20 && ok; i++) {
		ok = race_open(&o, i & 1) && race_steps(5000) && race_zeroes_left();
		backend_mem.close(&race_dev);
	}
	CHECK("mem: what is discarded and zeroed while a write is under way, as in a model", ok);
	ok = true;
	for (unsigned i = 0; i < 2 && ok; i++) {
		ok = race_open(&o, true);
		goes_late = i;
		ok = ok && race_threads();
		goes_late = false;
		backend_mem.close(&race_dev);
	}
	CHECK("mem: the same by three threads: what was zero stays zero", ok);
	o.resilient = true;
	ok = race_open(&o, false) && race_steps(20000);
	backend_mem.close(&race_dev);
	CHECK("mem --resilient: the same as in a model", ok);
}

static void test_mem_prealloc(void)
{
	const struct options o = { .size = 1 << 20, .max_io = 1 << 20, .prealloc = true };
	unsigned char seen[256];
	const char *why = NULL;
	struct dev dev = { 0 };
	struct server s = { 0 };
	struct queue q = { .dev = &dev, .s = &s };
	void *p = NULL;
	bool ok;

	ok = backend_mem.open(&dev, &o, &why) == 0 && !dev.max_discard && dev.max_write_zeroes &&
	     mem_op(&q, UBLK_IO_OP_READ, 0, 4096, &p) == 4096;
	memset(p, 0xaa, 1 << 20);
	ok = ok && mem_op(&q, UBLK_IO_OP_WRITE_ZEROES, 0, 1 << 20, NULL) == 0 && all_zero(p, 1 << 20) &&
	     mincore(p, 256 * 4096, seen) == 0;
	for (size_t i = 0; ok && i < sizeof(seen); i++)
		ok = seen[i] & 1;
	CHECK("mem --prealloc: zeroes written, no page given back", ok);
	backend_mem.close(&dev);
}

/* As a server after the first finds it: the memory is there, and nothing of it in its page tables. */
static void test_mem_prealloc_shared(void)
{
	const struct options o = { .size = 1 << 20, .max_io = 1 << 20, .prealloc = true, .resilient = true };
	const char *why = NULL;
	struct dev dev = { 0 };
	struct server s = { 0 };
	struct queue q = { .dev = &dev, .s = &s };
	char *p = NULL;
	bool ok;

	ok = backend_mem.open(&dev, &o, &why) == 0 && !dev.max_discard &&
	     mem_op(&q, UBLK_IO_OP_WRITE, 0, 4096, (void **)&p) == 4096;
	memset(p, 0xaa, 1 << 20);
	ok = ok && madvise(p, 1 << 20, MADV_DONTNEED) == 0 &&
	     mem_op(&q, UBLK_IO_OP_READ, 8192, 4096, (void **)&p) == 4096 && !faults_at(p);
	CHECK("mem --prealloc --resilient: a page is touched before the driver is told its address", ok);
	ok = mem_op(&q, UBLK_IO_OP_WRITE_ZEROES, 0, 1 << 20, NULL) == 0 &&
	     mem_op(&q, UBLK_IO_OP_READ, 0, 1 << 20, (void **)&p) == 1 << 20 && all_zero(p, 1 << 20);
	CHECK("mem --prealloc --resilient: zeroes are zeroes", ok);
	backend_mem.close(&dev);
}

/* A RAM disk is as large as it was asked for, or there is none: on 32 bit no part of it. */
static void test_mem_large(void)
{
	const uint64_t size = (1ULL << 32) + (1 << 20);
	const struct options o = { .size = size, .max_io = 1 << 20 };
	const char *why = NULL;
	struct server s = { 0 };
	struct dev dev = { 0 };
	struct queue q = { .dev = &dev, .s = &s };
	void *first = NULL, *last = NULL;
	bool ok;
	int ret;

	ret = backend_mem.open(&dev, &o, &why);
	if (sizeof(size_t) == 4) {
		ok = ret == -ENOMEM && why && strstr(why, "32-bit");
	} else {
		ok = ret == 0 && mem_op(&q, UBLK_IO_OP_WRITE, 0, 4096, &first) == 4096 &&
		     mem_op(&q, UBLK_IO_OP_WRITE, size - 4096, 4096, &last) == 4096 &&
		     (uintptr_t)last - (uintptr_t)first == size - 4096;
		backend_mem.close(&dev);
	}
	CHECK("mem: 4 GiB and more, all of it or none", ok);
}

int main(void)
{
	test_begin();
	test_mem();
	test_mem_shared();
	test_mem_race();
	test_mem_prealloc();
	test_mem_prealloc_shared();
	test_mem_large();
	return test_end();
}
