/* SPDX-License-Identifier: MIT */
/*
 * /init of an initramfs that holds this, /ublk and the driver: no shell, and of
 * /dev, /proc and /sys what each round mounts. Prints what a case prints.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define NODE "/dev/ublkb0"
enum { DEV = 1, PROC = 2, SYS = 4, NO_DIRS = 8 };

static struct utsname uts;
static char out[8192];		/* of the last run(), both streams */
static const char *round_name;

static void check(bool ok, const char *fmt, ...)
{
	char what[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (ok)
		printf("ok - bare, %s: %s\n", round_name, what);
	else
		printf("FAIL - bare, %s: %s: %s (last: %s)\n", round_name, what, out, strerror(errno));
}

/* /ublk with these arguments. Returns its exit status; the output goes to a file, which a daemon may keep. */
static int run(const char *a, const char *b, const char *c, const char *d)
{
	int fd = open("/out", O_RDWR | O_CREAT | O_TRUNC, 0600), wstatus = 0;
	ssize_t n;
	pid_t pid = fork();

	if (pid == 0) {
		dup2(fd, 1);
		dup2(fd, 2);
		close(fd);
		execle("/ublk", "ublk", a, b, c, d, (char *)NULL, (char *[]){ NULL });
		_exit(127);
	}
	while (waitpid(pid, &wstatus, 0) < 0 && errno == EINTR)
		;
	n = pread(fd, out, sizeof(out) - 1, 0);
	out[n > 0 ? n : 0] = 0;
	close(fd);
	return WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : 128 + WTERMSIG(wstatus);
}

/* Write a pattern, have it reach the device, read it back past the page cache. */
static bool works(void)
{
	static char a[1 << 20], b[1 << 20];
	int fd = open(NODE, O_RDWR);
	bool ok;

	memset(a, 0x5a, sizeof(a));
	ok = fd >= 0 && pwrite(fd, a, sizeof(a), 4096) == sizeof(a) && fsync(fd) == 0 &&
	     posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 && pread(fd, b, sizeof(b), 4096) == sizeof(b) &&
	     !memcmp(a, b, sizeof(a));
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Kill the server; the client waits for the next one. */
static bool replaced(void)
{
	int pid = 0;

	return run("list", "0", NULL, NULL) == 0 &&
	       sscanf(out, "%*[^\n]\n%*s %*s %*s %*s %d", &pid) == 1 && pid > 1 && kill(pid, SIGKILL) == 0 && works();
}

static int lines(const char *s)
{
	int n = 0;

	while ((s = strchr(s, '\n')) != NULL)
		n++, s++;
	return n;
}

static void unload(void)
{
	for (int i = 0; i < 500 && syscall(SYS_delete_module, "ublk_drv", 0) && errno != ENOENT; i++)
		usleep(10000);
}

static void enter(const char *name, int mounts)
{
	round_name = name;
	if (mounts & NO_DIRS)
		check(!rename("/dev", "/dev.off") && !rename("/proc", "/proc.off") && !rename("/sys", "/sys.off"), "set up");
	if (mounts & DEV)
		check(!mount("dev", "/dev", "devtmpfs", 0, NULL), "devtmpfs");
	if (mounts & PROC)
		check(!mount("proc", "/proc", "proc", 0, NULL), "proc");
	if (mounts & SYS)
		check(!mount("sys", "/sys", "sysfs", 0, NULL), "sysfs");
}

static void leave(int mounts)
{
	if (mounts & DEV)
		check(!umount("/dev"), "/dev is free");
	if (mounts & PROC)
		check(!umount("/proc"), "/proc is free");
	if (mounts & SYS)
		check(!umount("/sys"), "/sys is free");
	if (mounts & NO_DIRS) {
		rmdir("/dev");
		check(!rename("/dev.off", "/dev") && !rename("/proc.off", "/proc") && !rename("/sys.off", "/sys"), "tear down");
	}
}

/* A device's life, and the driver loaded for it from this directory. */
static void life(const char *name, int mounts, const char *modules)
{
	char release[128];
	struct stat st;

	snprintf(release, sizeof(release), "/lib/modules/%s", uts.release);
	unlink(release);
	if (symlink(modules, release))
		perror(release);
	enter(name, mounts);
	check(run("mem", "16M", "-d", "--no-modprobe") == 3 && lines(out) == 1, "--no-modprobe: no driver, one line");
	check(run("mem", "16M", "-d", NULL) == 0 && !strcmp(out, NODE "\n"), "mem -d");
	check(stat(NODE, &st) == 0 && S_ISBLK(st.st_mode) && (st.st_mode & 07777) == 0600, "a node, 0600");
	check(works(), "write, read");
	check(run("list", NULL, NULL, NULL) == 0 && strstr(out, NODE) && strstr(out, "live"), "list");
	check(run("check", NULL, NULL, NULL) == 0, "check");
	check(run("stop", "0", NULL, NULL) == 0, "stop");
	check(stat(NODE, &st) && errno == ENOENT, "the node is gone");
	check(run("file", "/img", "-d", "--resilient") == 0 && !strcmp(out, NODE "\n"), "file --resilient");
	check(works(), "write, read");
	for (int i = 0; i < 3; i++)
		check(replaced(), "a server that dies has a successor, %d", i);
	check(run("stop", NODE, NULL, NULL) == 0, "stop");
	check(stat(NODE, &st) && errno == ENOENT, "the node is gone");
	unload();
	if (strstr(modules, "needs"))
		check(!syscall(SYS_delete_module, "brd", 0), "brd was loaded as well");
	leave(mounts);
}

/* Where the node cannot be made nothing is. */
static void no_node(void)
{
	enter("/dev read-only", 0);
	check(!mount("dev", "/dev", "tmpfs", MS_RDONLY, NULL), "set up");
	check(run("mem", "16M", "-d", NULL) == 1 && lines(out) == 1 && strstr(out, "make the node"), "mem: one line");
	check(run("list", NULL, NULL, NULL) == 0 && !strstr(out, "ublkb"), "nothing is left");
	check(!umount("/dev"), "/dev is free");
	unload();
}

int main(void)
{
	static const char *const dirs[] = { "/dev", "/proc", "/sys", "/lib", "/lib/modules" };
	int fd = open("/img", O_RDWR | O_CREAT, 0600);

	setvbuf(stdout, NULL, _IOLBF, 0);
	uname(&uts);
	printf("guest: init %s\n", uts.release);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		mkdir(dirs[i], 0755);
	if (ftruncate(fd, 8 << 20))
		perror("/img");
	close(fd);
	life("no /dev, /proc, /sys", 0, "/modules/plain");
	life("not even the directories", NO_DIRS, "/modules/plain");
	life("all mounted", DEV | PROC | SYS, "/modules/plain");
	life("only /dev", DEV, "/modules/plain");
	life("only /proc", PROC, "/modules/plain");
	life("only /sys", SYS, "/modules/plain");
	life("compressed", 0, "/modules/compressed");
	life("without modules.dep", 0, "/modules/usual");
	life("with what it depends on", 0, "/modules/needs");
	no_node();
	printf("guest: done\n");
	tcdrain(1);
	reboot(RB_POWER_OFF);
	return 1;
}
