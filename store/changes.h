/* SPDX-License-Identifier: MIT */
/*
 * changes: what a snapshot has changed of its file, page by page, and where
 * each page's bytes are to be had. It lies in a memfd, so that it outlives a
 * server (--resilient), and that "ublk commit" can write it into the file while
 * the device goes on.
 *
 * Two processes look at it. The server's threads change pages, each under the
 * lock of its stretch (changes_lock()). Commit takes no lock and changes only the
 * state of a page: "sent" means that the file has it as well, or will when commit
 * has synced it. Whoever has changed a page takes that mark off: so commit,
 * which marks a page before it reads it, sends what has changed meanwhile again.
 * When all are sent and synced commit says so, and the server gives them back.
 */
#ifndef STORE_CHANGES_H
#define STORE_CHANGES_H

#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/ram.h"

/* Where a page's bytes are. */
enum page_state {
	PAGE_FILE,		/* in the file: never written, or committed */
	PAGE_MEMORY,
	PAGE_ZERO,		/* nowhere: it was discarded or zeroed */
	PAGE_MEMORY_SENT,	/* in memory, and on its way to the file */
	PAGE_ZERO_SENT,
};

/* The first page of the memfd. */
struct changes_head {
	uint64_t magic;
	uint64_t size;		/* of the device, bytes */
	uint64_t offset;	/* in the file */
	uint64_t page;		/* bytes */
	uint64_t epoch;		/* counts the times that pages have gone back to the file; changed by the server */
	uint64_t unfinished;	/* the file is neither old nor new: a commit is at it, or has not got through */
};

#define CHANGES_NAME	"ublk-changes"		/* of the memfd */
#define CHANGES_LOCKS	64

struct changes {
	struct ram ram;
	uint64_t size, offset;	/* as the head has them: others may write there */
	struct changes_head *head;
	uint8_t *states;	/* enum page_state, a byte a page, see changes_state() */
	uint8_t *touched;	/* a byte for each page of states: 1 if there is anything but PAGE_FILE */
	sem_t *locks;		/* this process's: a server that is killed leaves none locked to the next */
};

/* Take memory for the changes of a device of so many bytes, at offset in its file. Returns 0 or -errno. */
int changes_make(struct changes *c, uint64_t size, uint64_t offset, const char **why);

/* Map those of another process, from the memfd. Takes fd over, which may be -errno. Returns 0 or -errno, fd closed. */
int changes_attach(struct changes *c, int fd);

void changes_close(struct changes *c);

/* Of a page of which no other thread is to say anything until it is unlocked: see changes_lock(). */
enum page_state changes_state(const struct changes *c, uint64_t page);

static inline bool state_in_memory(enum page_state state)
{
	return state == PAGE_MEMORY || state == PAGE_MEMORY_SENT;
}

static inline bool state_is_zero(enum page_state state)
{
	return state == PAGE_ZERO || state == PAGE_ZERO_SENT;
}

/* Pages that one lock is for, and that lie side by side. */
#define CHANGES_STRETCH	64U

/* Server: nobody else changes pages of this stretch, which is page / CHANGES_STRETCH, or gives them back. */
void changes_lock(struct changes *c, uint64_t stretch);
void changes_unlock(struct changes *c, uint64_t stretch);

/* Server, locked: say where the page's bytes are. */
void changes_set(struct changes *c, uint64_t page, enum page_state state);

/*
 * Server, locked: these pages of one stretch are zero, or in the file, from now
 * on: state. What they have of memory is given back; -errno: that failed, and
 * means no more than that.
 */
int changes_drop(struct changes *c, uint64_t first, uint64_t nr, enum page_state state);

/* Commit: mark a page as sent, if it is in this state, PAGE_MEMORY or PAGE_ZERO. */
bool changes_send(struct changes *c, uint64_t page, enum page_state state);

/* Bytes of memory that noting something of these pages would take. */
uint64_t changes_notes(const struct changes *c, uint64_t first, uint64_t last);

/* Take that memory. Returns 0 or -errno. */
int changes_take_notes(const struct changes *c, uint64_t first, uint64_t last);

/* The next page from this one on that is not PAGE_FILE; at or beyond the last one: there is none. */
uint64_t changes_next(const struct changes *c, uint64_t page);

/* Of the device. */
uint64_t changes_pages(const struct changes *c);

/* A page's bytes: a whole one but for the device's last. */
uint64_t changes_page_len(const struct changes *c, uint64_t page);

#endif
