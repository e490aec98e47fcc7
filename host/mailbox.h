/* SPDX-License-Identifier: MIT */
/*
 * mailbox: what a server is asked while it serves, and what it answers. A page
 * in a memfd: whoever may look at what the server has open can open it as well,
 * and nobody else, so it has no name that others could take. Who asks has it
 * locked, from the question until he has the answer. What nobody waits for any
 * more is not begun, but for LETTER_UNLOCK.
 */
#ifndef HOST_MAILBOX_H
#define HOST_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#define MAILBOX_NAME	"ublk-mail"	/* of the memfd */
#define MAILBOX_SIGNAL	SIGURG		/* there is something in it; who does not know of it does not notice */

enum letter_what {
	LETTER_MOST,		/* how large could it be? */
	LETTER_RESIZE,
	/* of a commit, see the backend's ask() */
	LETTER_LOCK,		/* it wants the file to itself */
	LETTER_UNLOCK,
	LETTER_GIVE,		/* what was sent is in the file for good */
	LETTER_LEAVE,		/* is anything lost if it goes now? */
};

/* A question, or an answer. */
struct letter {
	uint64_t size;		/* bytes: RESIZE: the one to have; the answer to MOST */
	uint32_t what;		/* enum letter_what */
	int32_t res;		/* of an answer: 0 or -errno */
	char why[160];		/* words for res, or "" */
};

struct mailbox {
	uint32_t asked;		/* number of the question, by who asks; odd while it is being written */
	uint32_t answered;	/* of the one that the answer is to, by the server */
	uint32_t beat;		/* goes on as long as the server is at it */
	struct letter question, answer;
};

/* The server's end, which it has one of. */
struct mail {
	int fd;			/* the memfd */
	struct mailbox *box;
	uint32_t number;	/* of the question that was read last */
};

/* Make it, for as long as the process lives. NULL: it cannot be had. */
struct mail *mail_make(void);

/* What it was asked, if it was and has not been read yet. m may be NULL. */
bool mail_read(struct mail *m, struct letter *l);

/* Does somebody wait for it still? */
bool mail_is_awaited(const struct mail *m);

/* It has not been forgotten. m may be NULL. */
void mail_beat(struct mail *m);

/* The answer to what was read. */
void mail_answer(struct mail *m, const struct letter *l);

/*
 * The other side: ask, and wait for the answer, ms at most, or, of a server that
 * is trusted, so long without a beat. fd is its memfd, opened for both, pidfd its
 * process. Returns l->res of the answer, which is no more than its word, -EBUSY if
 * somebody else is asking, -ESRCH if it has ended, -ETIME, or another -errno.
 */
int mailbox_ask(int fd, int pidfd, struct letter *l, bool trusted, int ms);

#endif
