// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - huge pages: split one only when enough of it would merge
 *
 * A huge page saves its process TLB misses and page faults, and a part of it
 * can only be merged when it is split. A chunk is the range of one page table,
 * so a huge page is all of a chunk. Each scan of it marks the pages that would
 * merge: those that are all zero, those of which there is a shared page, and
 * those of which there is an equal; and a scan elsewhere marks those that it
 * finds an equal of. Only when there are huge_split_pages of them is the page
 * split, by the first of them that is merged.
 *
 * What is marked counts until the page itself is scanned again. Counting comes
 * before merging, a chunk at a time, so that none is left out that came first;
 * but pages of one huge page that are equal to each other are only found one
 * after the other, and the first of them have to wait for the next pass.
 */
#include <linux/atomic.h>

#include "internal.h"

static atomic64_t mmg_huge_splits = ATOMIC64_INIT(0);

/**
 * mmg_huge_pays - is a huge page worth splitting
 * @wanted: how many of its pages would merge
 * @least: how many it has to be, 0 for never
 *
 * Return: whether it is.
 */
bool mmg_huge_pays(unsigned int wanted, unsigned int least)
{
	return least && wanted >= least;
}

/**
 * mmg_huge_set - note whether a chunk is a huge page
 * @chunk: of a domain whose lock is held
 * @huge: whether it is
 */
void mmg_huge_set(struct mmg_chunk *chunk, bool huge)
{
	struct mmg_domain *domain = chunk->region->domain;

	if (chunk->huge == huge)
		return;
	chunk->huge = huge;
	if (huge)
		domain->nr_huge++;
	else
		domain->nr_huge--;
}

/**
 * mmg_huge_seen - begin to count anew
 * @chunk: of which a part has been looked at
 * @first: first slot of that part
 * @end: behind its last slot
 * @huge: whether it is a huge page
 */
void mmg_huge_seen(struct mmg_chunk *chunk, unsigned int first,
		   unsigned int end, bool huge)
{
	unsigned int slot;

	mmg_huge_set(chunk, huge);
	for (slot = first; chunk->wanted && slot < end; slot++) {
		chunk->wanted -= chunk->marks[slot].wanted;
		chunk->marks[slot].wanted = 0;
	}
}

/**
 * mmg_huge_want - a page of a chunk would merge if that was split
 * @chunk: that may be a huge page
 * @slot: of the page
 */
void mmg_huge_want(struct mmg_chunk *chunk, unsigned int slot)
{
	struct mmg_mark *mark = &chunk->marks[slot];

	if (!chunk->huge || mark->wanted)
		return;
	mark->wanted = 1;
	chunk->wanted++;
}

/**
 * mmg_huge_may_split - may a large page be split to merge a page of it
 * @chunk: that it is in
 *
 * Return: whether it may. One that is not mapped as a whole saves its process
 * little, and is only left alone when none is to be split.
 */
bool mmg_huge_may_split(const struct mmg_chunk *chunk)
{
	unsigned int least = READ_ONCE(mmg_tunables.huge_split_pages);

	return chunk->huge ? mmg_huge_pays(chunk->wanted, least) : least;
}

/**
 * mmg_huge_was_split - note that a large page has been split
 * @chunk: that it was in
 */
void mmg_huge_was_split(struct mmg_chunk *chunk)
{
	mmg_huge_set(chunk, false);
	atomic64_inc(&mmg_huge_splits);
}

/**
 * mmg_huge_split_count - how many large pages have been split
 *
 * Return: since the module was loaded.
 */
u64 mmg_huge_split_count(void)
{
	return atomic64_read(&mmg_huge_splits);
}

#ifdef CONFIG_MEMMERGE_KUNIT_TEST
#include "huge_kunit.c"
#endif
