/* SPDX-License-Identifier: MIT */
/*
 * Unit tests: what can be tested without the driver. The program is included
 * whole, so that its static functions are in reach.
 */
#define main ublk_main
#include "../ublk.c"
#undef main

#include <stdio.h>

static int failed;

static void result(bool ok, const char *name)
{
	printf("%s - %s\n", ok ? "ok" : "FAIL", name);
	failed += !ok;
}

#define CHECK(name, ok)	result((ok), "unit: " name)

/* ---- sizes, numbers, device names ---- */

static const struct {
	const char *text;
	bool ok;
	uint64_t value;
} sizes[] = {
	{ "0", true, 0 }, { "1", true, 1 }, { "512", true, 512 }, { "08", true, 8 },
	{ "1K", true, 1024 }, { "1k", true, 1024 }, { "1KiB", true, 1024 }, { "1KB", true, 1000 },
	{ "1kb", true, 1000 }, { "3M", true, 3 << 20 }, { "3MB", true, 3000000 },
	{ "1G", true, 1ULL << 30 }, { "2T", true, 2ULL << 40 }, { "1P", true, 1ULL << 50 },
	{ "1PB", true, 1000000000000000ULL }, { "16383P", true, 16383ULL << 50 },
	{ "18446744073709551615", true, UINT64_MAX },
	{ "18446744073709551616", false, 0 }, { "16384P", false, 0 },
	{ "99999999999999999999999999", false, 0 }, { "", false, 0 }, { "K", false, 0 },
	{ "-1", false, 0 }, { "+1", false, 0 }, { " 1", false, 0 }, { "1 ", false, 0 },
	{ "1.5G", false, 0 }, { "1,5G", false, 0 }, { "0x10", false, 0 }, { "1e9", false, 0 },
	{ "1B", false, 0 }, { "1KK", false, 0 }, { "1Ki", false, 0 }, { "1KiBs", false, 0 },
	{ "1E", false, 0 }, { "1Z", false, 0 }, { "1bK", false, 0 }, { "\xd9\xa1", false, 0 },
};

static void test_sizes(void)
{
	bool ok = true, numbers;
	uint64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		v = 0;
		if (parse_size(sizes[i].text, &v) != sizes[i].ok || (sizes[i].ok && v != sizes[i].value)) {
			printf("# parse_size(\"%s\") = %llu\n", sizes[i].text, (unsigned long long)v);
			ok = false;
		}
	}
	CHECK("size parser: table", ok);

	numbers = parse_number("4096", &v) && v == 4096 && !parse_number("4K", &v) &&
		  !parse_number("", &v) && !parse_number("-0", &v);
	CHECK("number parser takes digits only", numbers);
}

static void test_size_text(void)
{
	static const struct { uint64_t n; const char *text; } rows[] = {
		{ 512, "512B" }, { 1024, "1K" }, { 1536, "1.5K" }, { 1ULL << 30, "1G" },
		{ 1ULL << 40, "1T" }, { (1ULL << 30) - 1, "1023.9M" }, { UINT64_MAX, "15.9E" },
	};
	bool ok = true;
	char text[32];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_text(rows[i].n, text, sizeof(text));
		if (strcmp(text, rows[i].text)) {
			printf("# size_text(%llu) = %s\n", (unsigned long long)rows[i].n, text);
			ok = false;
		}
	}
	CHECK("sizes for people", ok);
}

/* ---- text ---- */

/* The same from text_print() and snprintf(), with room for all of it and with less? */
#define SAME(...) do {								\
	char ours[64], libcs[64];						\
										\
	for (size_t len = 1; len <= sizeof(ours); len++) {			\
		int n = snprintf(libcs, len, __VA_ARGS__);			\
		size_t got = text_print(ours, len, __VA_ARGS__);		\
										\
		if (strcmp(ours, libcs) || got != strlen(libcs)) {		\
			printf("# \"%s\", not \"%s\" (%d)\n", ours, libcs, n);	\
			ok = false;						\
		}								\
	}									\
} while (0)

static void test_text_print(void)
{
	const int numbers[] = { 0, 1, 9, 10, 255, 4096, -1, INT32_MAX, INT32_MIN };
	const unsigned long long wide[] = { 0, 1ULL << 32, UINT64_MAX, 10000000000000000000ULL };
	volatile int zero = 0;		/* or the compiler warns that a text is cut */
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		SAME("<%d|%u|%x>", numbers[i] + zero, (unsigned)(numbers[i] + zero), (unsigned)numbers[i]);
		SAME("%3d|%7u|%-7u|%02x|%04x", numbers[i] + zero, (unsigned)numbers[i], (unsigned)numbers[i],
		     (unsigned)numbers[i], (unsigned)numbers[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wide); i++)
		SAME("%llu 0x%llx", wide[i] + (unsigned)zero, wide[i]);
	SAME("%s%s", "", "text" + zero);
	SAME("[%-8s][%8s][%2s][%-2s]", "five5" + zero, "five5", "long", "long");
	SAME("[%.*s][%.20s][%.2s][%.*s]", 3 + zero, "abcdef", "ghi", "jkl", 0, "mno");
	SAME("%c%c 100 %% of %s", 'x', 'y' + zero, "it");
	CHECK("text: as a libc's, whole and cut", ok);
}

static void test_lines(void)
{
	static const char *const made[] = { "first\n", "\n", "x", "last" };
	const size_t rest = 3 * sizeof(((struct lines *)0)->buf);
	char path[] = "lines.XXXXXX", *line;
	int fd = mkstemp(path);
	struct lines l;
	bool ok = true;

	unlink(path);
	for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
		ok = ok && write(fd, made[i], strlen(made[i])) > 0;
		for (size_t n = 0; i == 2 && n <= rest; n++)
			ok = ok && write(fd, n < rest ? "x" : "\n", 1) == 1;
	}
	lseek(fd, 0, SEEK_SET);
	lines_open(&l, fd);
	ok = ok && (line = lines_next(&l)) && !strcmp(line, "first");
	ok = ok && (line = lines_next(&l)) && !strcmp(line, "");
	ok = ok && (line = lines_next(&l)) && strlen(line) == sizeof(l.buf) - 1 && strspn(line, "x") == strlen(line);
	ok = ok && (line = lines_next(&l)) && !strcmp(line, "last") && !lines_next(&l) && !lines_next(&l);
	lines_close(&l);
	lines_open(&l, -1);
	ok = ok && !lines_next(&l);
	lines_close(&l);
	CHECK("text: lines, one of them too long, the last one without an end", ok);
}

static void test_words(void)
{
	static const char text[] = "Name:\tPPid: 3\nPPid:\t42\nMemTotal:     17 kB\n";
	uint64_t n = 0;
	bool ok;

	ok = !strcmp(text_word("a  bc d", 0), "a  bc d") && !strcmp(text_word("a  bc d", 1), "bc d") &&
	     !strcmp(text_word("a  bc d", 2), "d") && !*text_word("a  bc d", 3) && !*text_word("", 9);
	ok = ok && text_line(text, "PPid:") && parse_digits(text_line(text, "PPid:"), &n) && n == 42;
	ok = ok && parse_digits(text_line(text, "MemTotal:"), &n) && n == 17 && !text_line(text, "kB");
	CHECK("text: words, and lines by their name", ok);
}

static void test_dev_names(void)
{
	uint32_t id = 7;

	CHECK("device names",
	      parse_dev("0", &id) && id == 0 && parse_dev("ublkb12", &id) && id == 12 &&
	      parse_dev("/dev/ublkb3", &id) && id == 3 && parse_dev("/dev/ublkc4", &id) && id == 4 &&
	      !parse_dev("", &id) && !parse_dev("/dev/ublkb", &id) && !parse_dev("/dev/sda", &id) &&
	      !parse_dev("ublkb0p1", &id) && !parse_dev("1048576", &id) && !parse_dev("-1", &id));
	CHECK("nodes and partitions of a device",
	      is_node("/dev/ublkb1", NODE_BASE, 1) && is_node("/dev/ublkb1p2", NODE_BASE, 1) &&
	      is_node("/dev/ublkb1 (deleted)", NODE_BASE, 1) && is_node("/dev/ublkb1p2\tpartition", NODE_BASE, 1) &&
	      !is_node("/dev/ublkb12", NODE_BASE, 1) && !is_node("/dev/ublkb1p", NODE_BASE, 1) && !is_node("/dev/ublkb1x", NODE_BASE, 1) &&
	      !is_node("/dev/ublkb", NODE_BASE, 1) && !is_node("/dev/ublkc1", NODE_BASE, 1));
}

/* ---- the option tables ---- */

static void test_option_tables(void)
{
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(option_defs); i++) {
		const struct option_def *d = &option_defs[i];

		ok = ok && option_find(d->name, strlen(d->name)) == d;	/* no name twice */
		ok = ok && (!d->letter || option_find_letter(d->letter) == d);
		ok = ok && (!d->letter || d->type == OPT_FLAG);
		ok = ok && d->verbs && d->help && d->min <= d->max;
		ok = ok && (d->type == OPT_FLAG) == !d->arg;
		ok = ok && d->where + (d->type == OPT_FLAG ? sizeof(bool) : sizeof(uint64_t)) <=
			   sizeof(struct options);
		if (!ok) {
			printf("# option %s\n", d->name);
			break;
		}
	}
	CHECK("option table: unique names and letters, ranges, places", ok);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		ok = ok && verb_find(verbs[i].name) == &verbs[i] && verbs[i].run && verbs[i].help;
	CHECK("verb table", ok);
}

/* Parse a command line given as one string. Returns the status. */
static int parse_line(const char *verb, const char *line, struct args *a)
{
	static char copy[256];
	char *argv[16];
	int argc = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok(copy, " "); w && argc < 16; w = strtok(NULL, " "))
		argv[argc++] = w;
	return args_parse(verb_find(verb), a, argc, argv);
}

static void test_args(void)
{
	struct args a;

	CHECK("options: long, with = and without, letters together",
	      parse_line("mem", "1G --queues=4 --qdepth 64 -dq --block-size=4K", &a) == 0 &&
	      a.nr == 1 && !strcmp(a.operands[0], "1G") && a.o.queues == 4 && a.o.qdepth == 64 &&
	      a.o.daemon && a.o.quiet && a.o.block_size == 4096 && a.o.id == ID_ANY);
	CHECK("options: defaults",
	      parse_line("mem", "", &a) == 0 && a.o.queues == 1 && a.o.qdepth == 128 &&
	      a.o.max_io == 1 << 20 && !a.o.daemon && !a.o.read_only);
	quiet = verbose = false;
}

static const struct { const char *verb, *line; } bad_lines[] = {
	{ "mem", "--queues=0" }, { "mem", "--queues=4097" }, { "mem", "--queues=-1" },
	{ "mem", "--queues=" }, { "mem", "--queues" }, { "mem", "--queues=1K" },
	{ "mem", "--qdepth=0" }, { "mem", "--qdepth=4097" }, { "mem", "--size=0" },
	{ "mem", "--size=511" }, { "mem", "--size=99999P" }, { "mem", "--id=1048576" },
	{ "mem", "--block-size=256" }, { "mem", "--block-size=8K" }, { "mem", "--max-io=1K" },
	{ "mem", "--max-io=33M" }, { "mem", "1G 2G" }, { "mem", "--daemon=yes" }, { "mem", "--force" },
	{ "mem", "--nonsense" }, { "mem", "-x" }, { "mem", "-dx" }, { "mem", "--queues=1 --queues=2" },
	{ "stop", "--queues=1" }, { "stop", "--wait=x" }, { "stop", "--wait=99999" }, { "list", "-d" },
	{ "list", "--all" },
};

static void test_bad_args(void)
{
	bool ok = true;
	struct args a;
	int err = dup(2), null = open("/dev/null", O_WRONLY);

	dup2(null, 2);		/* the messages are checked in the VM */
	for (size_t i = 0; i < ARRAY_SIZE(bad_lines); i++) {
		int ret = parse_line(bad_lines[i].verb, bad_lines[i].line, &a);

		if (ret != EXIT_USAGE) {
			printf("# %s %s: %d\n", bad_lines[i].verb, bad_lines[i].line, ret);
			ok = false;
		}
	}
	dup2(err, 2);
	close(err);
	close(null);
	CHECK("options: wrong ones are status 2", ok);
}

/* ---- control command numbers ---- */

static void test_encoding(void)
{
	CHECK("command numbers, both encodings",
	      cmd_encode(ENC_IOCTL, UBLK_CMD_ADD_DEV, 32) == 0xc0207504 &&
	      cmd_encode(ENC_IOCTL, UBLK_CMD_GET_FEATURES, 32) == 0x80207513 &&
	      cmd_encode(ENC_IOCTL, UBLK_IO_FETCH_REQ, 16) == 0xc0107520 &&
	      cmd_encode(ENC_LEGACY, UBLK_CMD_ADD_DEV, 32) == 4);
}

static void test_cookies(void)
{
	const struct options plain = { 0 }, both = { .direct = true, .resilient = true };
	const uint64_t c = cookie_make(&backend_file, &both);

	CHECK("cookies: type read back, strangers told apart",
	      !strcmp(cookie_type(cookie_make(&backend_mem, &plain)), "mem") && !strcmp(cookie_type(0), "other") &&
	      !strcmp(cookie_type(cookie_make(NULL, &plain)), "other") && !strcmp(cookie_type(c), "file") &&
	      cookie_make(&backend_mem, &plain) != cookie_make(&backend_mem, &plain));
	CHECK("cookies: what recover needs to know, and room for the storage's identity",
	      c & COOKIE_DIRECT && c & COOKIE_RESILIENT && !(c & COOKIE_IDENTITY) &&
	      !(cookie_make(&backend_file, &plain) & (COOKIE_DIRECT | COOKIE_RESILIENT)));
}

/* ---- ring arithmetic, on a ring in plain memory ---- */

#define FAKE_ENTRIES 4

struct fake {
	struct uring ring;
	uint32_t sq_head, sq_tail, cq_head, cq_tail;
	struct io_uring_sqe sqes[2 * FAKE_ENTRIES];
	struct io_uring_cqe cqes[FAKE_ENTRIES];
};

static void fake_init(struct fake *f, uint32_t start, unsigned shift)
{
	memset(f, 0, sizeof(*f));
	f->sq_head = f->sq_tail = f->cq_head = f->cq_tail = start;
	f->ring = (struct uring){
		.fd = -1, .sqes = f->sqes, .sqe_shift = shift, .sq_tail = start,
		.sq_mask = FAKE_ENTRIES - 1, .sq_khead = &f->sq_head, .sq_ktail = &f->sq_tail,
		.cqes = f->cqes, .cq_head = start, .cq_mask = FAKE_ENTRIES - 1,
		.cq_khead = &f->cq_head, .cq_ktail = &f->cq_tail,
	};
	uring_refill(&f->ring);
}

/* The kernel takes all SQEs. */
static void fake_take(struct fake *f, struct uring *ring)
{
	f->sq_head = ring->sq_tail;
	uring_refill(ring);
}

static bool ring_fills(uint32_t start, unsigned shift)
{
	struct io_uring_sqe *sqe;
	struct fake f;
	bool ok = true;

	fake_init(&f, start, shift);
	for (unsigned i = 0; i < FAKE_ENTRIES; i++) {
		sqe = uring_get_sqe(&f.ring);
		ok = ok && sqe == &f.sqes[((start + i) % FAKE_ENTRIES) << shift];
	}
	ok = ok && !uring_get_sqe(&f.ring);		/* full */
	f.sq_head++;					/* the kernel took one */
	uring_refill(&f.ring);
	sqe = uring_get_sqe(&f.ring);
	ok = ok && sqe == &f.sqes[(start % FAKE_ENTRIES) << shift] && !uring_get_sqe(&f.ring);
	return ok;
}

static bool ring_reaps(uint32_t start)
{
	struct io_uring_cqe cqe;
	struct fake f;
	bool ok;

	fake_init(&f, start, 0);
	ok = !uring_next_cqe(&f.ring, &cqe);
	for (unsigned i = 0; i < FAKE_ENTRIES; i++)
		f.cqes[(start + i) % FAKE_ENTRIES].user_data = i;
	f.cq_tail += FAKE_ENTRIES;
	for (unsigned i = 0; i < FAKE_ENTRIES; i++)
		ok = ok && uring_next_cqe(&f.ring, &cqe) && cqe.user_data == i &&
		     f.cq_head == start + i + 1;	/* each slot given back at once */
	return ok && !uring_next_cqe(&f.ring, &cqe);
}

static void test_ring(void)
{
	CHECK("ring: SQEs in order, full, again after the kernel took one",
	      ring_fills(0, 0) && ring_fills(3, 0) && ring_fills(0, 1));
	CHECK("ring: indices wrap at 32 bits", ring_fills(UINT32_MAX - 1, 0) && ring_fills(UINT32_MAX, 1));
	CHECK("ring: CQEs in order, slots given back", ring_reaps(0) && ring_reaps(UINT32_MAX - 1));
}

static void test_ring_for_real(void)
{
	struct uring ring = URING_NONE;
	struct io_uring_cqe cqe;
	bool ok = true;
	int ret = uring_init(&ring, 5, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

	if (ret == -ENOSYS || ret == -EPERM) {
		printf("skip - unit: a real ring: io_uring is not to be had here\n");
		return;
	}
	for (unsigned i = 0; i < 1000 && ok && !ret; i++) {
		uring_get_sqe(&ring)->user_data = i;	/* opcode 0 is NOP */
		ok = uring_enter(&ring, 1, 1000) == 1 && uring_next_cqe(&ring, &cqe) &&
		     cqe.user_data == i && cqe.res == 0;
	}
	ok = ok && !ret && uring_enter(&ring, 1, 10) == -ETIME;
	uring_exit(&ring);
	uring_exit(&ring);	/* again does no harm */
	CHECK("ring: 1000 NOPs through the kernel, a timeout, exit", ok);
}

/* ---- requests: what the loop lets through ---- */

static struct ublksrv_io_desc test_iods[4];
static struct dev test_dev = {
	.size = 1 << 20, .block_size = 512, .max_io = 64 << 10, .max_discard = 1 << 20,
	.max_write_zeroes = 1 << 20,
};
static struct server test_server;
static char test_bufs[4 * (64 << 10)];
static struct queue test_queue = {
	.iods = test_iods, .dev = &test_dev, .s = &test_server, .bufs = test_bufs,
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

static struct io test_ios[4], *test_held[4];
static int backend_result;
static unsigned completed;	/* calls of canned_complete() */
static bool keep_held;		/* the turn goes on */

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
	return f->ring.sq_tail - before;
}

/* A request of op, 8 sectors long, answered with res: what is committed? */
static int committed(unsigned op, int res)
{
	struct ublksrv_io_cmd cmd;
	struct fake f;
	uint32_t cmd_op;

	fake_init(&f, 0, 0);
	test_ios[1] = (struct io){ .tag = 1, .state = IO_FETCHED };
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
	*io = (struct io){ .tag = 1, .state = IO_FETCHED };
	ok = commands(f, news, 1, &cmd, &op) == 2 && op == 0x21 && cmd.result == 4096 && test_queue.expected == 1 &&
	     commands(f, got, 0, &cmd, &op) == 0 && io->state == IO_FETCHED &&
	     commands(f, news, 1, &cmd, &op) == 2 && commands(f, got, 0, &cmd, &op) == 0 &&
	     commands(f, news, 0, &cmd, &op) == 1 && cmd.result == 4096;
	CHECK("pair: a WRITE of one page is asked for and committed in one go", ok);
	ok = commands(f, news, 1, &cmd, &op) == 2 && commands(f, news, -EBUSY, &cmd, &op) == 0 &&
	     io->state == IO_GET_DATA && commands(f, got, 1, &cmd, &op) == 2 && op == 0x21 &&
	     commands(f, got, 0, &cmd, &op) == 0 && io->state == IO_FETCHED && test_queue.can_pair;
	CHECK("pair: GET_DATA that finds no memory comes again", ok);
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
	*io = (struct io){ .tag = 1, .state = IO_FETCHED };
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
	test_ios[1] = (struct io){ .tag = 1, .state = IO_FETCHED };
	test_iods[1] = (struct ublksrv_io_desc){ .op_flags = UBLK_IO_OP_WRITE, .nr_sectors = 8 };
	backend_result = IO_QUEUED;
	CHECK("commit: not before the backend has finished, then once",
	      commands(&f, user_data_pack(KIND_IO, 1), 0, &cmd, &op) == 0 &&
	      commands(&f, user_data_pack(KIND_BACKEND, 1), 4096, &cmd, &op) == 1 && cmd.result == 4096);

	fake_init(&f, 0, 0);
	backend_result = 4096;
	test_dev.data_path = DATA_DIRECT;
	test_ios[1] = (struct io){ .tag = 1, .state = IO_FETCHED };
	CHECK("get data, direct: asked for with the backend's address, then committed",
	      commands(&f, user_data_pack(KIND_IO, 1), 1, &cmd, &op) == 1 && op == 0x22 && cmd.addr == 0x1000 &&
	      commands(&f, user_data_pack(KIND_GET_DATA, 1), 0, &cmd, &op) == 1 && op == 0x21 && cmd.result == 4096);
	test_ios[1] = (struct io){ .tag = 1, .state = IO_FETCHED };
	CHECK("get data, direct: a copy that fell short is an error",
	      commands(&f, user_data_pack(KIND_IO, 1), 1, &cmd, &op) == 1 &&
	      (test_iods[1].nr_sectors = 7) &&
	      commands(&f, user_data_pack(KIND_GET_DATA, 1), 0, &cmd, &op) == 1 && cmd.result == -EIO);
	test_dev.data_path = DATA_COPY;
	test_iods[1].nr_sectors = 8;
	test_ios[1] = (struct io){ .tag = 1, .state = IO_FETCHED };
	backend_result = -ENOSPC;
	CHECK("get data, copy: into the tag's own buffer, and only then to the backend",
	      commands(&f, user_data_pack(KIND_IO, 1), 1, &cmd, &op) == 1 && op == 0x22 &&
	      cmd.addr == (uintptr_t)(test_bufs + (64 << 10)) &&
	      commands(&f, user_data_pack(KIND_GET_DATA, 1), 0, &cmd, &op) == 1 && cmd.result == -ENOSPC);
	test_ios[1] = (struct io){ .tag = 1, .state = IO_FETCHED };
	test_iods[1].start_sector = 1 << 20;
	backend_result = 4096;
	CHECK("get data, copy: a request outside the device is an error",
	      commands(&f, user_data_pack(KIND_IO, 1), 1, &cmd, &op) == 1 && op == 0x22 &&
	      commands(&f, user_data_pack(KIND_GET_DATA, 1), 0, &cmd, &op) == 1 && op == 0x21 && cmd.result == -EIO);
	test_iods[1].start_sector = 0;
	test_pairs(&f);
	test_chains(&f);
	CHECK("abort: the tag is gone and nothing is sent",
	      commands(&f, user_data_pack(KIND_IO, 1), -ENODEV, &cmd, &op) == 0 &&
	      test_ios[1].state == IO_GONE && test_queue.live == 3);
}

/* ---- mem without a kernel ---- */

static bool all_zero(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
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
	struct queue q = { .dev = &dev };
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

static void test_mem_shared(void)
{
	const struct options o = { .size = 1 << 20, .max_io = 1 << 20, .resilient = true };
	static char model[1 << 20];
	const char *why = NULL;
	struct dev dev = { 0 };
	struct queue q = { .dev = &dev };
	struct stat before, after;
	struct { char *base; uint64_t page, len; int fd; char *zeroes; unsigned char *present; } *m;	/* struct mem */
	void *p = NULL;
	bool ok;

	ok = backend_mem.open(&dev, &o, &why) == 0 && dev.bounce;
	m = dev.priv;
	srand(1);
	ok = ok && mem_op(&q, UBLK_IO_OP_READ, 0, 1 << 20, &p) == 1 << 20 && all_zero(p, 1 << 20) &&
	     fstat(m->fd, &after) == 0 && after.st_blocks == 0;
	CHECK("mem --resilient: reading a device that nobody wrote takes no memory", ok);
	for (unsigned i = 0; i < 200; i++) {	/* every other page of the second half is never written */
		(void)mem_op(&q, UBLK_IO_OP_WRITE, (uint64_t)(i % 64) * 2 * 4096, 4096, &p);
		memset(p, 7, 4096);
		memset(model + (uint64_t)(i % 64) * 2 * 4096, 7, 4096);
	}
	ok = fstat(m->fd, &before) == 0 && shared_ops(&q, model, &before, 2000) &&
	     fstat(m->fd, &after) == 0 && before.st_blocks == after.st_blocks;
	CHECK("mem --resilient: nor does reading holes beside data", ok && before.st_blocks == 64 * 8);
	memset(m->present, 0, 256);
	CHECK("mem --resilient: the next server reads the same", shared_ops(&q, model, &before, 2000) &&
	      fstat(m->fd, &after) == 0 && before.st_blocks == after.st_blocks);
	CHECK("mem --resilient: reads, writes, zeroes as in a model", shared_ops(&q, model, NULL, 20000));
	ok = mem_op(&q, UBLK_IO_OP_DISCARD, 0, 1 << 20, NULL) == 0 &&
	     mem_op(&q, UBLK_IO_OP_READ, 0, 1 << 20, &p) == 1 << 20 && all_zero(p, 1 << 20) &&
	     fstat(m->fd, &after) == 0 && after.st_blocks == 0;
	CHECK("mem --resilient: nor does reading what was discarded", ok);
	backend_mem.close(&dev);
}

static void test_mem_prealloc(void)
{
	const struct options o = { .size = 1 << 20, .max_io = 1 << 20, .prealloc = true };
	unsigned char seen[256];
	const char *why = NULL;
	struct dev dev = { 0 };
	struct queue q = { .dev = &dev };
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

/* ---- file: what it makes of results, without a disk that misbehaves ---- */

static struct queue file_q;
static struct fake file_fake;
static struct io file_io;

/* The SQE that the last call left, or NULL if it left none. */
static const struct io_uring_sqe *file_sqe(void)
{
	uint32_t tail = file_q.ring.sq_tail;

	if (file_fake.sq_head == tail)
		return NULL;
	fake_take(&file_fake, &file_q.ring);
	return &file_fake.sqes[(tail - 1) & file_q.ring.sq_mask];
}

static int file_begin(unsigned op, uint32_t flags)
{
	file_io = (struct io){ .op = (uint8_t)op, .flags = flags, .off = 8192, .len = 4096, .tag = 3,
			       .buf = test_bufs };
	if (op == UBLK_IO_OP_FLUSH)
		file_io.len = 0;
	return backend_file.queue(&file_q, &file_io);
}

static int file_end(int res)
{
	return backend_file.complete(&file_q, &file_io, res);
}

static void test_file_results(void)
{
	const struct io_uring_sqe *s;
	bool ok;

	ok = file_begin(UBLK_IO_OP_READ, 0) == IO_QUEUED_LAST && (s = file_sqe()) && s->opcode == IORING_OP_READ &&
	     s->off == 65536 + 8192 && s->len == 4096 && s->addr == (uintptr_t)test_bufs &&
	     s->fd == BACKING_FILE && s->user_data == user_data_pack(KIND_BACKEND, 3);
	CHECK("file: a READ goes to its place in the window", ok && file_end(4096) == 4096 && !file_sqe());
	ok = file_begin(UBLK_IO_OP_WRITE, 0) == IO_QUEUED_LAST && file_sqe() && file_end(512) == IO_QUEUED &&
	     (s = file_sqe()) && s->opcode == IORING_OP_WRITE && s->off == 65536 + 8192 + 512 &&
	     s->len == 3584 && s->addr == (uintptr_t)test_bufs + 512 && !s->rw_flags &&
	     file_end(1) == IO_QUEUED && (s = file_sqe()) && s->len == 3583 && file_end(3583) == 4096;
	CHECK("file: a short result is continued until whole", ok);
	ok = file_begin(UBLK_IO_OP_WRITE, 0) == IO_QUEUED_LAST && file_sqe() && file_end(512) == IO_QUEUED &&
	     file_sqe() && file_end(-ENOSPC) == -ENOSPC && !file_sqe();
	CHECK("file: short, then no space: an error, not a short result", ok);
	ok = file_begin(UBLK_IO_OP_READ, 0) == IO_QUEUED_LAST && file_sqe() && file_end(-EINTR) == IO_QUEUED_LAST &&
	     (s = file_sqe()) && !(s->flags & IOSQE_ASYNC) && file_end(-EAGAIN) == IO_QUEUED_LAST &&
	     (s = file_sqe()) && s->flags & IOSQE_ASYNC && s->len == 4096 && file_end(4096) == 4096;
	CHECK("file: EINTR and EAGAIN are tried again", ok);
	quiet = true;
	ok = file_begin(UBLK_IO_OP_READ, 0) == IO_QUEUED_LAST && file_sqe() && file_end(1024) == IO_QUEUED &&
	     file_sqe() && file_end(0) == -EIO;
	quiet = false;
	CHECK("file: the end of the file inside a READ is an error",
	      ok && file_begin(UBLK_IO_OP_WRITE, 0) == IO_QUEUED_LAST && file_sqe() && file_end(0) == -EIO);
	ok = file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && (s = file_sqe()) &&
	     s->rw_flags == IORING_RWF_DSYNC && file_end(4096) == 4096;
	CHECK("file: FUA writes are RWF_DSYNC", ok);
	ok = file_begin(UBLK_IO_OP_DISCARD, 0) == IO_QUEUED && (s = file_sqe()) && s->opcode == IORING_OP_FALLOCATE &&
	     s->len == 3 && s->off == 65536 + 8192 && s->addr == 4096 && file_end(0) == 0 &&
	     file_begin(UBLK_IO_OP_WRITE_ZEROES, 0) == IO_QUEUED && (s = file_sqe()) && s->len == 3 &&
	     file_end(-EOPNOTSUPP) == -EOPNOTSUPP &&
	     file_begin(UBLK_IO_OP_WRITE_ZEROES, UBLK_IO_F_NOUNMAP) == IO_QUEUED && (s = file_sqe()) &&
	     s->len == 0x11 && file_end(0) == 0;
	CHECK("file: discard and write-zeroes make holes, NOUNMAP makes zeroes", ok);
	ok = file_begin(UBLK_IO_OP_FLUSH, 0) == IO_QUEUED && (s = file_sqe()) && s->opcode == IORING_OP_FSYNC &&
	     s->fsync_flags == IORING_FSYNC_DATASYNC && !s->off && !s->len && file_end(0) == 0;
	CHECK("file: FLUSH is fdatasync of all of it", ok);
	ok = file_begin(UBLK_IO_OP_FLUSH, 0) == IO_QUEUED && file_sqe() && file_end(-EIO) == -EIO &&
	     file_begin(UBLK_IO_OP_FLUSH, 0) == -EIO && !file_sqe() &&
	     file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == -EIO && !file_sqe() &&
	     file_begin(UBLK_IO_OP_WRITE, 0) == IO_QUEUED_LAST && file_sqe() && file_end(4096) == 4096;
	CHECK("file: the first fsync error stays, for FLUSH and FUA", ok);
}

/* Through the page cache of a file in memory: answered at once, without a ring. */
static void test_file_inline(void)
{
	struct options o = { .max_io = 1 << 20 };
	struct dev dev = { .fd = -1 };
	const char *why = NULL;
	int fd = memfd_create("unit", 0);
	char path[32];
	int mapped = 0, ret = 0;
	bool ok;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	o.path = path;
	ok = fd >= 0 && ftruncate(fd, 1 << 20) == 0 && backend_file.open(&dev, &o, &why) == 0 &&
	     dev.data_path == DATA_COPY;
	file_q.dev = &dev;
	for (off_t off = 0; off < 1 << 20 && ok; off += 65536)
		ok = pwrite(fd, test_bufs, 65536, off) == 65536;
	memset(test_bufs, 'x', 4096);
	ok = ok && file_begin(UBLK_IO_OP_WRITE, 0) == 4096 && !file_sqe() && pread(fd, test_bufs + 4096, 4096, 8192) == 4096 &&
	     memcmp(test_bufs, test_bufs + 4096, 4096) == 0;
	memset(test_bufs, 0, 4096);
	for (int i = 0; i < 8 && ok; i++) {	/* the later ones from the mapping */
		ok = file_begin(UBLK_IO_OP_READ, 0) == 4096 && !file_sqe() && *(char *)file_io.buf == 'x' &&
		     memcmp(file_io.buf, test_bufs + 4096, 4096) == 0;
		mapped += file_io.buf != test_bufs;
	}
	CHECK("file: what the page cache has and takes needs no ring", ok);
	CHECK("file: a window that is read again and again is mapped, if all of it is cached", ok && mapped > 0);
	ok = ok && file_begin(UBLK_IO_OP_WRITE, UBLK_IO_F_FUA) == IO_QUEUED && file_sqe() && file_end(4096) == 4096;
	CHECK("file: a FUA write is the ring's all the same", ok);
	quiet = true;
	ok = ok && ftruncate(fd, 8192 + 512) == 0;
	/* for a second what was found out before may hold */
	for (int i = 0; i < 200 && (ret = file_begin(UBLK_IO_OP_READ, 0)) == 4096; i++)
		usleep(10000);
	ok = ok && ret == IO_QUEUED && file_sqe() && file_end(0) == -EIO &&
	     file_begin(UBLK_IO_OP_READ, 0) == IO_QUEUED && file_sqe() && file_end(0) == -EIO;
	quiet = false;
	CHECK("file: a READ beyond the end of a truncated file is an error, not a fault", ok);
	backend_file.close(&dev);
	close(fd);
}

static void test_file(void)
{
	static const char path[] = "unit-test.img";
	struct options o = { .path = path, .size = 1 << 20, .offset = 65536, .max_io = 1 << 20, .create = true,
			     .zero_copy = ZERO_COPY_ON };	/* all by the ring */
	const char *why = NULL;
	struct dev dev = { .fd = -1 }, other = { .fd = -1 };
	struct stat st;

	unlink(path);
	CHECK("file: created, sparse, of the size asked for",
	      backend_file.open(&dev, &o, &why) == 0 && dev.size == 1 << 20 && stat(path, &st) == 0 &&
	      st.st_size == 65536 + (1 << 20) && st.st_blocks == 0 && dev.volatile_cache && dev.fua);
	o.create = false;
	CHECK("file: a second writer is refused, and told by whom",
	      backend_file.open(&other, &o, &why) == -EBUSY && why && strstr(why, "locked"));
	fake_init(&file_fake, 0, 0);
	file_q = (struct queue){ .ring = file_fake.ring, .dev = &dev };
	dev.data_path = DATA_COPY;
	test_file_results();
	test_file_inline();
	dev.came_up = true;
	backend_file.close(&dev);
	CHECK("file: stays when its device has been in use", stat(path, &st) == 0);
	unlink(path);
	o.create = true;
	dev = (struct dev){ .fd = -1 };
	CHECK("file: goes again when nothing came of it",
	      backend_file.open(&dev, &o, &why) == 0 && (backend_file.close(&dev), stat(path, &st) < 0));
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	test_sizes();
	test_size_text();
	test_text_print();
	test_lines();
	test_words();
	test_dev_names();
	test_option_tables();
	test_args();
	test_bad_args();
	test_encoding();
	test_cookies();
	test_ring();
	test_ring_for_real();
	test_io_check();
	test_commit();
	test_mem();
	test_mem_shared();
	test_mem_prealloc();
	test_file();
	return failed != 0;
}
