/* SPDX-License-Identifier: MIT */
/*
 * mailbox: what a server is asked while it serves, and what it answers. A page
 * in a memfd: whoever may look at what the server has open can open it as well,
 * and nobody else, so it has no name that others could take.
 */
#ifndef HOST_MAILBOX_H
#define HOST_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#define MAILBOX_NAME	"ublk-mail"	/* of the memfd */
#define MAILBOX_SIGNAL	SIGURG		/* there is something in it; who does not know of it does not notice */

enum letter_what { LETTER_MOST, LETTER_RESIZE };

/* A question, and then its answer. */
struct letter {
	uint64_t size;		/* bytes: RESIZE: the one to have; the answer to MOST */
	uint32_t what;		/* enum letter_what */
	int32_t res;		/* 0 or -errno */
	char why[160];		/* words for res, or "" */
};

struct mailbox {
	uint32_t asked, answered;	/* of letters, one after the other; each written by one side only */
	uint32_t beat;			/* goes on as long as the server is at it */
	struct letter letter;
};

/* The server's, open until its end; NULL: it cannot be had, and nobody will ask. */
struct mailbox *mailbox_make(void);

/* The server: what it was asked, if it was. */
bool mailbox_read(const struct mailbox *m, struct letter *l);

/* The server: it has not forgotten it. m may be NULL. */
void mailbox_beat(struct mailbox *m);

/* The server: the answer. */
void mailbox_answer(struct mailbox *m, const struct letter *l);

/*
 * The other side: ask, and wait for the answer, ms at most without a beat. fd is
 * the server's memfd, pidfd its process. Returns l->res of the answer, -EBUSY if
 * somebody else is asking, -ESRCH if the server has ended, -ETIME, or another
 * -errno. What a server of somebody else's answers is his word.
 */
int mailbox_ask(int fd, int pidfd, struct letter *l, int ms);

#endif
