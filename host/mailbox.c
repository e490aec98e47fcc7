/* SPDX-License-Identifier: MIT */
/* mailbox: see mailbox.h. */
#include "host/mailbox.h"
#include "lib/sys.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TICK_MS		2
#define LOCK_TRIES	50	/* of a tick: the server has the lock for a moment when it looks who waits */

struct mail *mail_make(void)
{
	static struct mail m;

	m.fd = memfd_make(MAILBOX_NAME, sizeof(*m.box));
	m.box = m.fd < 0 ? NULL : pages_map(sizeof(*m.box), PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	if (m.box)
		return &m;
	fd_close(m.fd);
	return NULL;
}

bool mail_is_awaited(const struct mail *m)
{
	if (flock(m->fd, LOCK_EX | LOCK_NB))
		return true;
	(void)flock(m->fd, LOCK_UN);
	return false;
}

bool mail_read(struct mail *m, struct letter *l)
{
	const uint32_t asked = m ? __atomic_load_n(&m->box->asked, __ATOMIC_ACQUIRE) : 0;

	/* one that is being written, or takes another's place meanwhile, has its signal still to come */
	if (!m || asked % 2 || asked == m->number)
		return false;
	*l = m->box->question;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (__atomic_load_n(&m->box->asked, __ATOMIC_RELAXED) != asked)
		return false;
	m->number = asked;
	return true;
}

void mail_beat(struct mail *m)
{
	if (m)
		__atomic_add_fetch(&m->box->beat, 1, __ATOMIC_RELAXED);
}

void mail_answer(struct mail *m, const struct letter *l)
{
	m->box->answer = *l;
	__atomic_store_n(&m->box->answered, m->number, __ATOMIC_RELEASE);
}

/* By system calls: a mapping of what somebody else can cut short would be the end of us. */
static int mailbox_get(int fd, struct mailbox *m)
{
	return pread(fd, m, sizeof(*m), 0) == sizeof(*m) ? 0 : -EIO;
}

static int mailbox_lock(int fd)
{
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
		if (errno != EWOULDBLOCK || i >= LOCK_TRIES)
			return errno == EWOULDBLOCK ? -EBUSY : -errno;
		nap_ms(TICK_MS);
	}
	return 0;
}

static int mailbox_wait(int fd, int pidfd, uint32_t number, struct mailbox *m, bool trusted, int ms)
{
	struct pollfd server = { .fd = pidfd, .events = POLLIN };
	int64_t end = now_ms() + ms;
	uint32_t beat = m->beat;
	int ret;

	while ((ret = mailbox_get(fd, m)) == 0 && m->answered != number) {
		if (trusted && m->beat != beat)
			end = now_ms() + ms;
		beat = m->beat;
		if (now_ms() >= end)
			return -ETIME;
		if (poll(&server, 1, TICK_MS) > 0)
			return -ESRCH;
	}
	return ret;
}

int mailbox_ask(int fd, int pidfd, struct letter *l, bool trusted, int ms)
{
	uint32_t number[2];	/* while it is being written, and when it is */
	struct mailbox m;
	int ret = mailbox_lock(fd);

	if (!ret)
		ret = mailbox_get(fd, &m);
	if (ret)
		return ret;
	number[0] = m.asked | 1;	/* also of who has died while he wrote */
	number[1] = number[0] + 1;
	ret = write_all(fd, &number[0], sizeof(number[0]), offsetof(struct mailbox, asked));
	if (!ret)
		ret = write_all(fd, l, sizeof(*l), offsetof(struct mailbox, question));
	if (!ret)
		ret = write_all(fd, &number[1], sizeof(number[1]), offsetof(struct mailbox, asked));
	if (!ret && syscall(SYS_pidfd_send_signal, pidfd, MAILBOX_SIGNAL, NULL, 0))
		ret = -errno;
	if (!ret)
		ret = mailbox_wait(fd, pidfd, number[1], &m, trusted, ms);
	if (!ret) {
		*l = m.answer;
		l->why[sizeof(l->why) - 1] = 0;
		ret = l->res > 0 ? -EIO : l->res;
	}
	(void)flock(fd, LOCK_UN);
	return ret;
}
