// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - regions: registered ranges, their entries and marks
 */
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "internal.h"
#include "trace.h"

/**
 * mmg_range_check - is this a range of user memory that can be registered
 * @start: first byte
 * @length: bytes
 * @task_size: end of the user address space
 *
 * Return: 0; -EINVAL if not page aligned or empty; -EOVERFLOW if it wraps,
 * leaves the address space, or is larger than a domain can be.
 */
int mmg_range_check(u64 start, u64 length, unsigned long task_size)
{
	u64 end;

	if (!PAGE_ALIGNED(start) || !PAGE_ALIGNED(length) || !length)
		return -EINVAL;
	if (check_add_overflow(start, length, &end) || end > task_size)
		return -EOVERFLOW;
	if (length >> PAGE_SHIFT > MMG_MAX_PAGES)
		return -EOVERFLOW;
	return 0;
}

/**
 * mmg_region_new - make a region
 * @domain: that it is for
 * @mm: address space
 * @start: first byte, see mmg_range_check()
 * @length: bytes
 *
 * Return: the region, not yet in the domain's list, or NULL without memory.
 */
struct mmg_region *mmg_region_new(struct mmg_domain *domain,
				  struct mm_struct *mm, unsigned long start,
				  unsigned long length)
{
	struct mmg_region *region = kzalloc(sizeof(*region),
					    GFP_KERNEL_ACCOUNT);

	if (!region)
		return NULL;

	region->domain = domain;
	region->start = start;
	region->end = start + length;
	region->cursor = start;
	xa_init_flags(&region->chunks, XA_FLAGS_ACCOUNT);
	mmgrab(mm);
	region->mm = mm;
	return region;
}

static struct kmem_cache *mmg_chunks;

/**
 * mmg_region_start - get ready, before anything else of this file is used
 *
 * Return: 0 or -ENOMEM.
 */
int mmg_region_start(void)
{
	mmg_chunks = kmem_cache_create("memmerge_chunk",
				       sizeof(struct mmg_chunk), 0,
				       SLAB_ACCOUNT, NULL);
	return mmg_chunks ? 0 : -ENOMEM;
}

/**
 * mmg_region_stop - undo mmg_region_start()
 */
void mmg_region_stop(void)
{
	kmem_cache_destroy(mmg_chunks);
}

/**
 * mmg_chunk_free - free a chunk
 * @domain: of the chunk
 * @chunk: with no entry on a chain, and no longer in its region's array
 */
void mmg_chunk_free(struct mmg_domain *domain, struct mmg_chunk *chunk)
{
	mmg_index_remove_chunk(&domain->index, chunk);
	kfree(chunk->entries);
	kmem_cache_free(mmg_chunks, chunk);
}

/*
 * A chunk leaves its region. One with entries on chains is left to the reverse
 * map: the last entry that leaves its chain takes its chunk along.
 */
static void mmg_region_lose(struct mmg_region *region, struct mmg_chunk *chunk)
{
	struct mmg_domain *domain = region->domain;
	unsigned int slot;

	xa_erase(&region->chunks, chunk->start >> PMD_SHIFT);
	mmg_huge_set(chunk, false);
	for (slot = 0; slot < MMG_CHUNK_PAGES; slot++) {
		struct mmg_mark *mark = &chunk->marks[slot];

		region->nr[mark->state]--;
		domain->nr_zero -= mark->state == MMG_ZERO;
		region->nr_changed -= mark->changed;
		mmg_region_set_cold(chunk, slot, false);
		if (mark->state != MMG_INDEXED)
			continue;
		mmg_index_remove(&domain->index,
				 mmg_entry_id(chunk, slot));
		mark->state = MMG_SEEN;
	}
	region->nr_chunks--;
	if (chunk->chained) {
		chunk->region = NULL;
		domain->nr_detached++;
	} else {
		mmg_chunk_free(domain, chunk);
	}
}

/**
 * mmg_region_forget - free what the engine remembers of the pages
 * @region: whose pages stay as they are
 */
void mmg_region_forget(struct mmg_region *region)
{
	struct mmg_chunk *chunk;
	unsigned long i;

	xa_for_each(&region->chunks, i, chunk) {
		mmg_region_lose(region, chunk);
		cond_resched();
	}
}

/* Forget an entry of a page that is not, or no longer, to be merged. */
static void mmg_region_drop_entry(struct mmg_region *region,
				  struct mmg_chunk *chunk, unsigned int slot)
{
	enum mmg_state state = MMG_NONE;

	if (mmg_chained(chunk, slot)) {
		if (mmg_rmap_leave(chunk, slot) == MMG_STAYS)
			state = MMG_KEPT;
	} else if (chunk->marks[slot].state == MMG_INDEXED) {
		mmg_index_remove(&region->domain->index,
				 mmg_entry_id(chunk, slot));
	}
	mmg_region_set(chunk, slot, state, false);
}

/**
 * mmg_region_drop - free what the engine remembers of the pages of a range
 * @region: whose pages stay as they are
 * @start: first byte
 * @end: behind the last byte
 *
 * As mmg_region_forget(), but what nothing is mapped at any more leaves its
 * chain, and the chunks at both ends stay if they have pages outside of the
 * range.
 */
void mmg_region_drop(struct mmg_region *region, unsigned long start,
		     unsigned long end)
{
	struct mmg_chunk *chunk;
	unsigned long i;

	if (start >= end)
		return;
	xa_for_each_range(&region->chunks, i, chunk, start >> PMD_SHIFT,
			  (end - 1) >> PMD_SHIFT) {
		unsigned long addr = max(start, chunk->start);
		unsigned long stop = min(end, chunk->start + PMD_SIZE);
		bool whole = stop - addr == PMD_SIZE;

		for (; addr < stop; addr += PAGE_SIZE) {
			unsigned int slot = (addr - chunk->start) >> PAGE_SHIFT;

			if (chunk->marks[slot].state == MMG_NONE)
				continue;
			mmg_region_drop_entry(region, chunk, slot);
			cond_resched();
		}
		if (whole)
			mmg_region_lose(region, chunk);
	}
}

/* The same for an entry whose page has been given its own copy. */
static void mmg_entry_unmerged(struct mmg_region *region,
			       struct mmg_chunk *chunk, unsigned int slot)
{
	struct mmg_shared *shared;

	if (mmg_chained(chunk, slot) &&
	    mmg_rmap_leave(chunk, slot) == MMG_STAYS) {
		/* It may come back from the swap cache, as a copy. */
		shared = mmg_shared_by_id(region->domain,
					  chunk->entries[slot].shared);
		WRITE_ONCE(shared->copies, true);
		mmg_region_set(chunk, slot, MMG_KEPT, false);
	} else if (chunk->marks[slot].state != MMG_INDEXED) {
		mmg_region_set(chunk, slot, MMG_NONE, false);
	}
}

/**
 * mmg_region_unmerged - forget that pages of a range were merged
 * @region: whose pages have been given their own copies
 * @start: first byte
 * @end: behind the last byte
 */
void mmg_region_unmerged(struct mmg_region *region, unsigned long start,
			 unsigned long end)
{
	struct mmg_chunk *chunk;
	unsigned long i;

	xa_for_each_range(&region->chunks, i, chunk, start >> PMD_SHIFT,
			  (end - 1) >> PMD_SHIFT) {
		unsigned long addr = max(start, chunk->start);
		unsigned long stop = min(end, chunk->start + PMD_SIZE);

		for (; addr < stop; addr += PAGE_SIZE) {
			mmg_entry_unmerged(region, chunk,
					   (addr - chunk->start) >> PAGE_SHIFT);
			cond_resched();
		}
	}
}

/**
 * mmg_region_free - free a region
 * @region: that is in no list
 */
void mmg_region_free(struct mmg_region *region)
{
	mmg_region_forget(region);
	xa_destroy(&region->chunks);
	mmdrop(region->mm);
	kfree(region);
}

/**
 * mmg_region_chunk - get the chunk of an address
 * @region: that the address is in
 * @addr: any address of the chunk
 *
 * Return: the chunk, made if it is not there; NULL without memory.
 */
struct mmg_chunk *mmg_region_chunk(struct mmg_region *region,
				   unsigned long addr)
{
	unsigned long i = addr >> PMD_SHIFT;
	struct mmg_chunk *chunk = xa_load(&region->chunks, i);

	if (chunk)
		return chunk;

	chunk = kmem_cache_zalloc(mmg_chunks, GFP_KERNEL | __GFP_NOWARN);
	if (!chunk)
		return NULL;
	chunk->region = region;
	chunk->start = addr & PMD_MASK;
	chunk->entries = kcalloc(MMG_CHUNK_PAGES, sizeof(*chunk->entries),
				 GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!chunk->entries)
		goto err_chunk;
	if (mmg_index_add_chunk(&region->domain->index, chunk))
		goto err_entries;
	if (xa_is_err(xa_store(&region->chunks, i, chunk,
			       GFP_KERNEL_ACCOUNT | __GFP_NOWARN)))
		goto err_index;

	region->nr_chunks++;
	region->nr[MMG_NONE] += MMG_CHUNK_PAGES;
	return chunk;

err_index:
	mmg_index_remove_chunk(&region->domain->index, chunk);
err_entries:
	kfree(chunk->entries);
err_chunk:
	kmem_cache_free(mmg_chunks, chunk);
	return NULL;
}

/**
 * mmg_region_trim - free a chunk that remembers nothing
 * @region: of the chunk
 * @chunk: with a region; freed if nothing is known of any of its pages
 */
void mmg_region_trim(struct mmg_region *region, struct mmg_chunk *chunk)
{
	unsigned int slot;

	for (slot = 0; slot < MMG_CHUNK_PAGES; slot++)
		if (chunk->marks[slot].state != MMG_NONE ||
		    chunk->marks[slot].changed)
			return;
	mmg_region_lose(region, chunk);
}

/**
 * mmg_region_set - note what is known of a page now
 * @chunk: of the page, with a region
 * @slot: of the page; taking its entry out of the index or off its chain, or
 *	putting it there, is the caller's
 * @state: new state
 * @changed: the content differs from what was read the last time
 */
void mmg_region_set(struct mmg_chunk *chunk, unsigned int slot,
		    enum mmg_state state, bool changed)
{
	struct mmg_region *region = chunk->region;
	struct mmg_mark *mark = &chunk->marks[slot];

	region->nr[mark->state]--;
	region->nr[state]++;
	if (mark->state == MMG_ZERO)
		region->domain->nr_zero--;
	if (state == MMG_ZERO)
		region->domain->nr_zero++;
	if (changed != mark->changed)
		region->nr_changed += changed ? 1 : -1;
	if (state != mark->state &&
	    (state == MMG_INDEXED || mark->state == MMG_INDEXED)) {
		mmg_region_set_cold(chunk, slot, false);
		chunk->entries[slot].wait = 0;
	}
	mark->state = state;
	mark->changed = changed;
}

/**
 * mmg_region_set_cold - note whether a page can be told to be unchanged
 * @chunk: of the page, with a region
 * @slot: of the page, which waits in the index if @cold
 * @cold: it can
 */
void mmg_region_set_cold(struct mmg_chunk *chunk, unsigned int slot, bool cold)
{
	struct mmg_mark *mark = &chunk->marks[slot];

	if (cold != mark->cold)
		chunk->region->nr_cold += cold ? 1 : -1;
	mark->cold = cold;
}

/**
 * mmg_region_pass - note that all of a region has been scanned
 * @region: that was scanned from its start to its end
 * @pass: what was done
 */
void mmg_region_pass(struct mmg_region *region, const struct mmg_pass *pass)
{
	region->last = *pass;
	region->passes++;
	trace_memmerge_pass(region, pass);
}

/**
 * mmg_region_metadata - memory that a region takes
 * @region: to look at
 *
 * Return: bytes, without the share in the domain's index.
 */
unsigned long mmg_region_metadata(const struct mmg_region *region)
{
	/* What the array takes depends on how far apart they are; at least: */
	unsigned long nodes = DIV_ROUND_UP(region->nr_chunks, XA_CHUNK_SIZE);

	return sizeof(*region) + region->nr_chunks * MMG_CHUNK_BYTES +
	       nodes * sizeof(struct xa_node);
}
