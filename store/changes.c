/* SPDX-License-Identifier: MIT */
/* changes: see changes.h. */
#include "store/changes.h"
#include "lib/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC	0x75626c6b63686732ULL	/* "ublkchg2" */

/* head: a page, then what is touched, then the states; all in whole pages */
static uint64_t states_len(uint64_t size, uint64_t page)
{
	return round_up((size + page - 1) / page, page);
}

static uint64_t touched_len(uint64_t size, uint64_t page)
{
	return round_up(states_len(size, page) / page, page);
}

static uint64_t head_len(uint64_t size, uint64_t page)
{
	return page + touched_len(size, page) + states_len(size, page);
}

static void changes_place(struct changes *c, uint64_t size)
{
	char *start = c->ram.base - c->ram.head;

	c->head = (struct changes_head *)start;
	c->touched = (uint8_t *)start + c->ram.page;
	c->states = c->touched + touched_len(size, c->ram.page);
}

static int changes_locks(struct changes *c)
{
	c->locks = pages_get(CHANGES_LOCKS * sizeof(*c->locks));
	for (unsigned i = 0; c->locks && i < CHANGES_LOCKS; i++)
		sem_init(&c->locks[i], 0, 1);
	return c->locks ? 0 : -ENOMEM;
}

int changes_make(struct changes *c, uint64_t size, uint64_t offset, const char **why)
{
	const uint64_t page = (uint64_t)getpagesize();
	int ret = ram_open(&c->ram, CHANGES_NAME, size, head_len(size, page), false, why);

	if (ret)
		return ret;
	c->size = size;
	c->offset = offset;
	changes_place(c, size);
	*c->head = (struct changes_head){ .magic = MAGIC, .size = size, .offset = offset, .page = page };
	ret = changes_locks(c);
	if (ret)
		changes_close(c);
	return ret;
}

int changes_attach(struct changes *c, int fd)
{
	const uint64_t page = (uint64_t)getpagesize();
	struct changes_head head;
	struct stat st;
	char *p;

	*c = (struct changes){ .ram = { .fd = fd, .page = page, .page_shift = (unsigned)__builtin_ctzll(page) } };
	if (fd < 0)
		return fd;
	if (pread(fd, &head, sizeof(head), 0) != sizeof(head) || fstat(fd, &st) || head.magic != MAGIC || head.page != page ||
	    !head.size || head.size > INT64_MAX / 2 || head.offset > INT64_MAX / 2 ||
	    (uint64_t)st.st_size != head_len(head.size, page) + round_up(head.size, page)) {
		changes_close(c);
		return -EINVAL;
	}
	c->ram.head = head_len(head.size, page);
	c->ram.len = c->ram.room = round_up(head.size, page);
	c->size = head.size;
	c->offset = head.offset;
	p = pages_map(c->ram.head + c->ram.len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!p) {
		changes_close(c);
		return -ENOMEM;
	}
	c->ram.base = p + c->ram.head;
	changes_place(c, head.size);
	return 0;
}

void changes_close(struct changes *c)
{
	ram_close(&c->ram);
	pages_put(c->locks, CHANGES_LOCKS * sizeof(*c->locks));
	c->locks = NULL;
}

uint64_t changes_pages(const struct changes *c)
{
	return c->ram.len >> c->ram.page_shift;
}

uint64_t changes_page_len(const struct changes *c, uint64_t page)
{
	const uint64_t off = page << c->ram.page_shift, left = c->size - off;

	return left < c->ram.page ? left : c->ram.page;
}

enum page_state changes_state(const struct changes *c, uint64_t page)
{
	/* a page of the states is not to be taken only to see that there is nothing in it */
	if (!__atomic_load_n(&c->touched[page >> c->ram.page_shift], __ATOMIC_ACQUIRE))
		return PAGE_FILE;
	return __atomic_load_n(&c->states[page], __ATOMIC_ACQUIRE);
}

void changes_lock(struct changes *c, uint64_t stretch)
{
	while (sem_wait(&c->locks[stretch % CHANGES_LOCKS]))
		;	/* EINTR */
}

void changes_unlock(struct changes *c, uint64_t stretch)
{
	sem_post(&c->locks[stretch % CHANGES_LOCKS]);
}

void changes_set(struct changes *c, uint64_t page, enum page_state state)
{
	__atomic_store_n(&c->states[page], state, __ATOMIC_RELEASE);
	__atomic_store_n(&c->touched[page >> c->ram.page_shift], 1, __ATOMIC_RELEASE);
}

int changes_drop(struct changes *c, uint64_t first, uint64_t nr, enum page_state state)
{
	bool any = false;

	for (uint64_t page = first; page < first + nr; page++) {
		any |= state_in_memory(changes_state(c, page));
		changes_set(c, page, state);
	}
	return any ? ram_drop(&c->ram, first << c->ram.page_shift, nr << c->ram.page_shift) : 0;
}

uint64_t changes_notes(const struct changes *c, uint64_t first, uint64_t last)
{
	uint64_t nr = 0;

	for (uint64_t i = first >> c->ram.page_shift; i <= last >> c->ram.page_shift; i++)
		nr += !__atomic_load_n(&c->touched[i], __ATOMIC_RELAXED);
	return nr << c->ram.page_shift;
}

int changes_take_notes(const struct changes *c, uint64_t first, uint64_t last)
{
	const unsigned shift = c->ram.page_shift;
	int ret = ram_populate(&c->ram, c->touched + (first >> shift), c->touched + (last >> shift));

	return ret ? ret : ram_populate(&c->ram, c->states + first, c->states + last);
}

bool changes_send(struct changes *c, uint64_t page, enum page_state state)
{
	uint8_t expected = state;

	return __atomic_compare_exchange_n(&c->states[page], &expected,
					   state == PAGE_MEMORY ? PAGE_MEMORY_SENT : PAGE_ZERO_SENT, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

uint64_t changes_next(const struct changes *c, uint64_t page)
{
	const uint64_t nr = changes_pages(c);

	while (page < nr) {
		if (!__atomic_load_n(&c->touched[page >> c->ram.page_shift], __ATOMIC_ACQUIRE))
			page = ((page >> c->ram.page_shift) + 1) << c->ram.page_shift;
		else if (__atomic_load_n(&c->states[page], __ATOMIC_ACQUIRE) == PAGE_FILE)
			page++;
		else
			break;
	}
	return page;
}
