// SPDX-License-Identifier: GPL-2.0-only
/*
 * What every byte of a worker's memory must be.
 *
 * The content of a page is a function of a small number, its id: one of a few
 * bases, and one of a few patches of some bytes at some offset. So pages of
 * all workers are equal again and again, many differ in a few bytes only, and
 * every byte can be checked.
 */
#include "torture.h"

#define BASES		12		/* 0 is zero */
#define PATCHES		24		/* 0 is none */

static unsigned char bases[BASES][PAGE];

struct rng rng_for(unsigned int actor, unsigned long n)
{
	return rng_at(board->opt.seed, actor, n);
}

unsigned int pick(struct rng *rng, const struct kind *kinds, unsigned int count)
{
	unsigned int i, sum = 0, point;

	for (i = 0; i < count; i++)
		sum += kinds[i].weight;
	point = rng_below(rng, sum);
	for (i = 0; point >= kinds[i].weight; i++)
		point -= kinds[i].weight;
	return i;
}

void contents_init(void)
{
	unsigned int i;

	for (i = 1; i < BASES; i++)
		fill(bases[i], 1000 + i);
	/* Some that differ from others in their last, or first, byte. */
	for (i = 2; i < BASES; i += 4) {
		memcpy(bases[i], bases[i - 1], PAGE);
		bases[i][PAGE - 1] ^= 0x80;
	}
	memcpy(bases[BASES - 1], bases[0], PAGE);
	bases[BASES - 1][0] = 1;
}

/* The bytes of patch @patch, a number that is not 0. */
static void patch_range(uint32_t patch, unsigned int *offset,
			unsigned int *length)
{
	uint64_t x = mix(patch * 77);

	*offset = x % PAGE;
	*length = 1 + (x >> 32) % 200;
	if (*offset + *length > PAGE)
		*length = PAGE - *offset;
}

uint32_t content_pick(struct rng *rng)
{
	uint32_t base = rng_below(rng, BASES);

	/* Half of the pages are one of very few. */
	if (rng_next(rng) % 2)
		return base % 3;
	return rng_next(rng) % 4 ? base : content_patch(rng, base);
}

/* Another content, which differs from @id by patches only. */
uint32_t content_patch(struct rng *rng, uint32_t id)
{
	return (id & 0xff) | rng_below(rng, PATCHES) << 8;
}

/* The bytes in which the content may differ from that of its base. */
void content_range(uint32_t id, unsigned int *offset, unsigned int *length)
{
	*offset = 0;
	*length = 0;
	if (id >> 8)
		patch_range(id >> 8, offset, length);
}

void content_make(unsigned char *page, uint32_t id)
{
	unsigned int offset, length, i;

	memcpy(page, bases[id & 0xff], PAGE);
	content_range(id, &offset, &length);
	for (i = 0; i < length; i++)
		page[offset + i] = mix(id * 131 + i);
}

unsigned char *at(const struct area *a, unsigned long page)
{
	return a->mem + page * PAGE;
}

/* Note the present operation in a page's history. */
void touched(struct area *a, unsigned long page)
{
	struct page_model *p = &a->page[page];

	p->when[p->at] = a->n;
	p->what[p->at] = a->kind;
	p->at = (p->at + 1) % HISTORY;
}

/* The page has a new content. */
void now(struct area *a, unsigned long page, enum page_state state, uint32_t id)
{
	a->page[page].state = state;
	a->page[page].id = id;
	a->page[page].version++;
	touched(a, page);
}

/* What was mapped at a page is mapped there no more. */
void gone(struct area *a, unsigned long page)
{
	if (a->pinned == (long)page)
		a->pin_valid = false;
}

__attribute__((noreturn))
static void wrong(struct area *a, unsigned long page, unsigned int offset,
		  const unsigned char *got, const unsigned char *want,
		  const char *how)
{
	const struct page_model *p = &a->page[page];
	unsigned int i, bytes = 0;
	char history[256] = "", map[128], what[128];
	uint64_t entry = 0, now_is = 0;
	size_t used = 0;
	int file;

	/* What is mapped there, and does it look the same by another way? */
	snprintf(map, sizeof(map), "/proc/%d/pagemap", (int)getpid());
	file = open(map, O_RDONLY | O_CLOEXEC);
	if (pread(file, &entry, 8, (uintptr_t)at(a, page) / PAGE * 8) != 8 ||
	    pread(a->mem_file, &now_is, 8, (uintptr_t)at(a, page) +
		  (offset & ~7U)) != 8)
		entry = ~0ULL;
	close(file);

	for (i = 0; i < PAGE; i++)
		bytes += got[i] != want[i];
	for (i = 0; i < HISTORY; i++) {
		unsigned int k = (p->at + i) % HISTORY;

		if (p->when[k])
			used += snprintf(history + used, sizeof(history) - used,
					 " %lu:%s", p->when[k],
					 work_kinds[p->what[k]].name);
		if (used >= sizeof(history))
			break;
	}
	snprintf(what, sizeof(what), "page %lu (%p), offset %u, read by %s",
		 page, (void *)at(a, page), offset, how);
	snprintf(map, sizeof(map), "%s, pagemap %#llx, mem %#llx",
		 a->is_child ? "a child" : "the worker itself",
		 (unsigned long long)entry, (unsigned long long)now_is);
	die("worker %u, operation %lu (%s), %s: want %#x, got %#x; %u differ; id %#x%s; %s; did:%s",
	    a->actor, a->n, work_kinds[a->kind].name, what, want[offset],
	    got[offset], bytes, p->id, p->state == EITHER ? " or zero" : "",
	    map, history);
}

/* @got is what was read of a page: compare every byte. */
void check_bytes(struct area *a, unsigned long page, const unsigned char *got,
		 const char *how)
{
	unsigned char want[PAGE] __attribute__((aligned(8)));
	struct page_model *p = &a->page[page];
	unsigned int i;

	atomic_fetch_add(&board->bytes, PAGE);
	content_make(want, p->id);
	if (!memcmp(got, want, PAGE))
		return;
	if (p->state == EITHER && !memcmp(got, bases[0], PAGE)) {
		/* It was given up, and is not coming back. */
		now(a, page, DATA, 0);
		return;
	}
	for (i = 0; got[i] == want[i]; i++)
		;
	wrong(a, page, i, got, want, how);
}

void check_page(struct area *a, unsigned long page)
{
	unsigned char got[PAGE] __attribute__((aligned(8)));
	struct page_model *p = &a->page[page];

	if (p->state == HOLE)
		return;
	if (p->prot & PROT_READ) {
		/* What was given up may become zero half-way, and only once. */
		do {
			memcpy(got, at(a, page), PAGE);
		} while (p->state == EITHER && memcmp(got, at(a, page), PAGE));
		check_bytes(a, page, got, "load");
	} else if (pread(a->mem_file, got, PAGE, (uintptr_t)at(a, page)) ==
		   (ssize_t)PAGE) {
		check_bytes(a, page, got, "/proc/self/mem");
	} else {
		die("worker %u, operation %lu: page %lu cannot be read: %s",
		    a->actor, a->n, page, strerror(errno));
	}
}

void check_area(struct area *a)
{
	unsigned long i;

	for (i = 0; i < AREA_PAGES; i++)
		check_page(a, i);
}

struct span run_pick(struct rng *rng, unsigned long longest)
{
	struct span run = {
		.first = rng_below(rng, AREA_PAGES),
		.count = 1 + rng_below(rng, longest),
	};

	if (run.first + run.count > AREA_PAGES)
		run.count = AREA_PAGES - run.first;
	return run;
}
