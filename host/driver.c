/* SPDX-License-Identifier: MIT */
/* driver: see driver.h. */
#include "host/driver.h"
#include "lib/read.h"
#include "lib/say.h"
#include "lib/sys.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

const struct feature driver_features[] = {
	{ "SUPPORT_ZERO_COPY", "6.15" }, { "URING_CMD_COMP_IN_TASK", "6.0" }, { "NEED_GET_DATA", "6.0" },
	{ "USER_RECOVERY", "6.1" }, { "USER_RECOVERY_REISSUE", "6.1" }, { "UNPRIVILEGED_DEV", "6.3" },
	{ "CMD_IOCTL_ENCODE", "6.4" }, { "USER_COPY", "6.5" }, { "ZONED", "6.6" },
	{ "USER_RECOVERY_FAIL_IO", "6.13" }, { "UPDATE_SIZE", "6.16" }, { "AUTO_BUF_REG", "6.16" },
	{ "QUIESCE", "6.16" }, { "PER_IO_DAEMON", "6.16" }, { "BUF_REG_OFF_DAEMON", "6.17" },
	{ "BATCH_IO", "7.0" }, { "INTEGRITY", "7.0" }, { "SAFE_STOP_DEV", "7.0" },
	{ "NO_AUTO_PART_SCAN", "7.0" }, { "SHMEM_ZC", "7.1" }, { "IO_DESC_SIZE", "7.3" },
};
const size_t driver_nr_features = ARRAY_SIZE(driver_features);

/* Where this kernel's modules lie. Returns a descriptor or -errno. */
static int modules_open(char *dir, size_t len)
{
	struct utsname u;
	int fd;

	if (uname(&u))
		return -errno;
	text_print(dir, len, "/lib/modules/%s", u.release);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/*
 * The file of ublk_drv, relative to that directory, and behind it those it
 * depends on, as modules.dep lists them; or where it usually lies. False: nowhere.
 */
static bool driver_find(int dir, char *files, size_t len)
{
	static const char *const usual[] = { "kernel/drivers/block/", "" };
	static const char *const endings[] = { "", ".xz", ".zst", ".gz" };
	char *line, *name;
	bool found = false;
	struct lines l;
	int fd;

	lines_open(&l, openat(dir, "modules.dep", O_RDONLY | O_CLOEXEC));
	while (!found && (line = lines_next(&l))) {
		name = line + text_until(line, ":");
		if (!*name)
			continue;
		while (name > line && name[-1] != '/')
			name--;
		found = !strncmp(name, "ublk_drv.ko", 11) && strlen(line) < len;
		if (found)
			strcpy(files, line);
	}
	lines_close(&l);
	for (size_t i = 0; i < ARRAY_SIZE(usual) * ARRAY_SIZE(endings) && !found; i++) {
		text_print(files, len, "%sublk_drv.ko%s", usual[i / ARRAY_SIZE(endings)],
			   endings[i % ARRAY_SIZE(endings)]);
		fd = openat(dir, files, O_RDONLY | O_CLOEXEC);
		found = fd >= 0;
		if (found)
			close(fd);
	}
	return found;
}

bool driver_path(char *path, size_t len)
{
	char dir[256], files[4096];
	int fd = modules_open(dir, sizeof(dir));
	bool found = fd >= 0 && driver_find(fd, files, sizeof(files));

	fd_close(fd);
	if (found)
		text_print(path, len, "%s/%.*s", dir, (int)text_until(files, ":"), files);
	return found;
}

/* Load one module; the kernel takes it compressed as well, if built so. */
static bool module_load(int dir, const char *file)
{
	const size_t n = strlen(file);
	/* 4: MODULE_INIT_COMPRESSED_FILE */
	const int flags = n > 3 && !strcmp(file + n - 3, ".ko") ? 0 : 4;
	int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	bool ok = fd >= 0 && (syscall(SYS_finit_module, fd, "", flags) == 0 || errno == EEXIST);

	debug("%s: %s", file, ok ? "loaded" : strerror(errno));
	fd_close(fd);
	return ok;
}

void driver_load(void)
{
	char path[256], files[4096], *file;
	int dir = modules_open(path, sizeof(path));
	bool ok = false;

	if (dir >= 0 && driver_find(dir, files, sizeof(files))) {
		/* the last one depends on nothing, the first one is ublk_drv */
		for (ok = true; ok && (file = strrchr(files, ' ')); *file = 0)
			ok = !file[1] || module_load(dir, file + 1);
		files[text_until(files, ":")] = 0;
		ok = ok && module_load(dir, files);
	}
	fd_close(dir);
	/* a kernel that cannot decompress, or a module in another place */
	if (!ok && access("/sbin/modprobe", X_OK) == 0) {
		pid_t pid = fork_plain();

		if (pid == 0) {
			execve("/sbin/modprobe", (char *[]){ "modprobe", "-q", "ublk_drv", NULL }, (char *[]){ NULL });
			_exit(127);
		}
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
}

bool driver_is_absent(void)
{
	return !access("/sys/class/misc", F_OK) && access("/sys/class/misc/ublk-control", F_OK);
}
