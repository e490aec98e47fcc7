/* SPDX-License-Identifier: MIT */
/* mailbox: see mailbox.h. */
#include "host/mailbox.h"
#include "lib/sys.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TICK_MS	2

static struct mailbox *mailbox_map(int fd)
{
	return pages_map(sizeof(struct mailbox), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

struct mailbox *mailbox_make(void)
{
	const int fd = (int)syscall(SYS_memfd_create, MAILBOX_NAME, 1U /* MFD_CLOEXEC */);
	struct mailbox *m = fd < 0 || ftruncate(fd, sizeof(*m)) ? NULL : mailbox_map(fd);

	if (!m)
		fd_close(fd);
	return m;
}

bool mailbox_read(const struct mailbox *m, struct letter *l)
{
	const uint32_t asked = __atomic_load_n(&m->asked, __ATOMIC_ACQUIRE);

	*l = m->letter;
	return asked != m->answered;
}

void mailbox_beat(struct mailbox *m)
{
	if (m)
		__atomic_add_fetch(&m->beat, 1, __ATOMIC_RELAXED);
}

void mailbox_answer(struct mailbox *m, const struct letter *l)
{
	m->letter = *l;
	__atomic_store_n(&m->answered, m->asked, __ATOMIC_RELEASE);
}

static int mailbox_wait(struct mailbox *m, int pidfd, int ms)
{
	struct pollfd server = { .fd = pidfd, .events = POLLIN };
	int64_t end = now_ms() + ms;
	uint32_t beat = 0, seen;

	while (__atomic_load_n(&m->answered, __ATOMIC_ACQUIRE) != m->asked) {
		if (poll(&server, 1, TICK_MS) > 0)
			return -ESRCH;
		seen = __atomic_load_n(&m->beat, __ATOMIC_RELAXED);
		if (seen != beat)
			end = now_ms() + ms;
		beat = seen;
		if (now_ms() >= end)
			return -ETIME;
	}
	return 0;
}

int mailbox_ask(int fd, int pidfd, struct letter *l, int ms)
{
	struct mailbox *m;
	struct stat st;
	int ret;

	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fstat(fd, &st) || st.st_size != sizeof(*m))
		return -EINVAL;
	m = mailbox_map(fd);
	if (!m)
		return -errno;
	m->letter = *l;
	__atomic_store_n(&m->asked, m->answered + 1, __ATOMIC_RELEASE);
	ret = syscall(SYS_pidfd_send_signal, pidfd, MAILBOX_SIGNAL, NULL, 0) ? -errno : mailbox_wait(m, pidfd, ms);
	if (!ret) {
		*l = m->letter;
		l->why[sizeof(l->why) - 1] = 0;
		ret = l->res > 0 ? -EIO : l->res;
	}
	pages_put(m, sizeof(*m));
	return ret;
}
