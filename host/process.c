/* SPDX-License-Identifier: MIT */
/* process: see process.h. */
#include "host/process.h"
#include "host/mailbox.h"
#include "host/memory.h"
#include "host/mounts.h"
#include "lib/read.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ONE_SIGNAL_MS	300	/* as "timeout" sends it: to its child, and to the group that the child is in */

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57		/* Linux 5.6 */
#endif

static char *own_name;
static bool was_closed[3];	/* of stdin, stdout, stderr */

void process_named(char *argv0)
{
	own_name = argv0;
}

/* What reads as nothing and takes everything; without such a node, what refuses both. */
static int null_open(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	return fd >= 0 ? fd : open("/", O_PATH | O_CLOEXEC);
}

void stdio_hold(void)
{
	int fd;

	do {
		fd = null_open();
		if (fd >= 0 && fd <= 2)
			was_closed[fd] = true;
	} while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

bool stdio_was_closed(int fd)
{
	return was_closed[fd];
}

void stdin_to_null(void)
{
	int fd = null_open();

	if (fd > 0) {
		dup2(fd, 0);
		close(fd);
	}
}

void stdio_to_null(void)
{
	int fd = null_open();

	for (int i = 0; i < 3 && fd >= 0; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

struct fd_path fd_path(int fd)
{
	struct fd_path path;

	text_print(path.s, sizeof(path.s), "/proc/self/fd/%d", fd);
	return path;
}

int fd_reopen(int fd, int flags)
{
	fd = open(fd_path(fd).s, flags | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

bool heard_anew(int64_t *at, uint32_t *from, uint32_t pid)
{
	const int64_t now = now_ms();
	const bool anew = !*at || pid != *from || now - *at > ONE_SIGNAL_MS;

	*at = now;
	*from = pid;
	return anew;
}

static sigset_t to_stop;	/* what signals_open() has blocked */

void signals_block(bool on)
{
	sigprocmask(on ? SIG_BLOCK : SIG_UNBLOCK, &to_stop, NULL);
}

int signals_open(bool daemon, bool children)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, children ? SIGCHLD : MAILBOX_SIGNAL);
	/* a shell ignores it for what it starts with &: that is for the terminal's others */
	if (daemon || signal(SIGINT, SIG_DFL) != SIG_IGN)
		sigaddset(&set, SIGINT);
	else
		signal(SIGINT, SIG_IGN);
	/* in the background it means nothing, and nohup ignores it for us */
	if (!daemon && signal(SIGHUP, SIG_IGN) != SIG_IGN) {
		signal(SIGHUP, SIG_DFL);
		sigaddset(&set, SIGHUP);
	} else {
		signal(SIGHUP, SIG_IGN);
	}
	to_stop = set;
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

enum capability {
	CAP_DAC_READ_SEARCH = 2, CAP_IPC_LOCK = 14, CAP_SYS_PTRACE = 19, CAP_SYS_ADMIN = 21, CAP_SYS_RESOURCE = 24,
	CAP_MKNOD = 27,
};
#define CAP_BIT(n)	(1ULL << (n))

struct caps {
	uint64_t effective, permitted;
};

/* The calling thread's capabilities. Kernel: capget(). Returns 0 or -errno. */
static int caps_get(struct caps *caps)
{
	struct { uint32_t version; int pid; } hdr = { .version = 0x20080522 };
	struct { uint32_t effective, permitted, inheritable; } word[2];

	if (syscall(SYS_capget, &hdr, word))
		return -errno;
	caps->effective = word[0].effective | (uint64_t)word[1].effective << 32;
	caps->permitted = word[0].permitted | (uint64_t)word[1].permitted << 32;
	return 0;
}

static int caps_set(const struct caps *caps)
{
	struct { uint32_t version; int pid; } hdr = { .version = 0x20080522 };
	const struct { uint32_t effective, permitted, inheritable; } word[2] = {
		{ (uint32_t)caps->effective, (uint32_t)caps->permitted, 0 },
		{ (uint32_t)(caps->effective >> 32), (uint32_t)(caps->permitted >> 32), 0 },
	};

	return syscall(SYS_capset, &hdr, word) ? -errno : 0;
}

/* Has this process a capability, and not in a user namespace of its own only? */
static bool process_may(enum capability cap)
{
	struct caps caps;
	struct stat st;

	/* the first namespace has this number: include/linux/proc_ns.h */
	return caps_get(&caps) == 0 && caps.effective & CAP_BIT(cap) &&
	       (stat("/proc/self/ns/user", &st) || st.st_ino == 0xeffffffd);
}

static void limit_set(int what, rlim_t need)
{
	struct rlimit limit, wanted;

	if (prlimit(0, what, NULL, &limit) || (limit.rlim_cur >= need))
		return;
	wanted = (struct rlimit){ need, limit.rlim_max < need ? need : limit.rlim_max };
	limit.rlim_cur = limit.rlim_max;	/* as far as anybody may */
	/* musl's setrlimit() stops all threads for it */
	if (prlimit(0, what, &wanted, NULL) && prlimit(0, what, &limit, NULL))
		debug("limit %d: %s", what, strerror(errno));
}

void limits_raise(unsigned queues)
{
	static const int whats[] = { RLIMIT_FSIZE, RLIMIT_CPU, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_NPROC };

	limit_set(RLIMIT_NOFILE, 2 * queues + 64);	/* a ring, and a description of the file */
	for (size_t i = 0; i < ARRAY_SIZE(whats); i++)
		limit_set(whats[i], RLIM_INFINITY);
	/* where it may not be raised, it is an error of the request that meets it, and not the end */
	signal(SIGXFSZ, SIG_IGN);
}

static void oom_protect(void)
{
	static bool done;
	int fd;

	if (done)
		return;
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	done = fd >= 0 && write(fd, "-1000", 5) == 5;
	if (!done)
		debug("oom_score_adj: %s", strerror(errno));
	fd_close(fd);
}

extern char __executable_start[], _end[];	/* of the linker: the program */

/*
 * Have all of the program in memory: what has never run yet, or been written, may
 * have been swapped out to us where it lies in a tmpfs. Linux 5.14.
 */
static void program_take(void)
{
	const uintptr_t page = (uintptr_t)getpagesize();
	char *const start = __executable_start - (uintptr_t)__executable_start % page;
	char *p = _end + (page - 1) - ((uintptr_t)_end + page - 1) % page;

	/* what is written to is at the end */
	while (p > start && !madvise(p - page, page, MADV_POPULATE_WRITE))
		p -= page;
	if (!madvise(start, (size_t)(p - start), MADV_POPULATE_READ))
		return;
	while (p > start) {	/* there are gaps */
		p -= page;
		(void)madvise(p, page, MADV_POPULATE_READ);
	}
}

void server_protect(void)
{
	volatile char stack[32 << 10];
	struct rlimit limit;

	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
		debug("no IO_FLUSHER: %s", strerror(errno));
	/* with a limit instead of the capability, which one in a namespace of its own is not, later mappings would fail */
	if (((prlimit(0, RLIMIT_MEMLOCK, NULL, &limit) || limit.rlim_cur != RLIM_INFINITY) && !process_may(CAP_IPC_LOCK)) ||
	    mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) {
		debug("memory is not locked: %s", strerror(errno));
		memory_not_locked();
	}
	for (size_t i = 0; i < sizeof(stack); i += 4096)
		stack[i] = 0;
	program_take();
	oom_protect();
}

bool process_is_admin(void)
{
	return process_may(CAP_SYS_ADMIN);
}

void server_confine(bool admin, bool nodes)
{
	uint64_t keep = CAP_BIT(CAP_DAC_READ_SEARCH) | CAP_BIT(CAP_SYS_PTRACE) | CAP_BIT(CAP_IPC_LOCK) |
			CAP_BIT(CAP_SYS_ADMIN) | CAP_BIT(CAP_SYS_RESOURCE);
	struct caps caps;
	int ret;

	(void)mkdir("/dev", 0755);	/* where nobody has made one: for the node */
	/* in a namespace of a user's own they can be left, but there is no /dev to go to */
	ret = admin ? mounts_leave() : -EPERM;
	if (ret)
		debug("the caller's mounts are kept: %s", strerror(-ret));
	oom_protect();		/* there may have been no /proc before */
	if (nodes || mounts_caller_dev() >= 0 || mounts_lack_nodes())
		keep |= CAP_BIT(CAP_MKNOD);
	ret = caps_get(&caps);
	caps.effective &= keep;
	caps.permitted &= keep;
	/* of a user's, /proc would not be his any more: nobody but root could list or stop it */
	if (ret || caps_set(&caps) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || (admin && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)))
		debug("privileges are kept: %s", strerror(errno));
	memory_keep();
}

int set_admin(bool on)
{
	struct caps caps;
	int ret = caps_get(&caps);

	if (ret)
		return ret;
	caps.effective = on ? caps.effective | CAP_BIT(CAP_SYS_ADMIN) : caps.effective & ~CAP_BIT(CAP_SYS_ADMIN);
	return caps_set(&caps);
}

void process_stay(void)
{
	enum { RAMFS = 0x858458f6, TMPFS = 0x01021994 };
	struct statfs root;
	bool initramfs = access("/etc/initrd-release", F_OK) == 0;

	if (!initramfs && statfs("/", &root) == 0)
		initramfs = (uint32_t)root.f_type == RAMFS || (uint32_t)root.f_type == TMPFS;
	if (initramfs && own_name && *own_name)
		*own_name = '@';
}

int guard_of(int pid)
{
	char path[64], exe[2][256] = { "", "" }, text[1024];
	const char *line;
	uint64_t n = 0;
	int ppid;

	text_print(path, sizeof(path), "/proc/%d/status", pid);
	(void)text_read(path, text, sizeof(text));
	line = text_line(text, "PPid:");
	ppid = line && parse_digits(line, &n) ? (int)n : 0;
	for (int i = 0; i < 2; i++) {
		text_print(path, sizeof(path), "/proc/%d/exe", i ? ppid : pid);
		if (readlinkat(AT_FDCWD, path, exe[i], sizeof(exe[i]) - 1) < 0)
			return 0;
	}
	return ppid > 1 && !strcmp(exe[0], exe[1]) ? ppid : 0;
}

int pidfd_of(int pid)
{
	if (pid <= 0)
		return -1;
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

bool process_await(int pid, int ms, int *wstatus)
{
	struct pollfd p = { .fd = pidfd_of(pid), .events = POLLIN };
	bool ended = poll(&p, 1, ms) != 0;

	fd_close(p.fd);
	return ended && waitpid(pid, wstatus, WNOHANG) == pid;
}
