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
 *
 * Since 6.12 the kernel maps the zero page for parts of a large page that are
 * all zero when it splits it. When it does so for us, that is our merging, and
 * has to count as such: each of these mappings is memory that may be wanted
 * back.
 */
#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/pagewalk.h>

#include "internal.h"
#include "trace.h"

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
 * struct mmg_split - parts of a large page in one page table
 * @folio: the large page, and whatever it has been split into
 * @parts: they were mapped when it had not been split
 * @zeroed: of these, what maps the zero page now, and is counted
 */
struct mmg_split {
	struct folio *folio;
	DECLARE_BITMAP(parts, MMG_CHUNK_PAGES);
	DECLARE_BITMAP(zeroed, MMG_CHUNK_PAGES);
};

static int mmg_split_before(pmd_t *pmd, unsigned long addr, unsigned long end,
			    struct mm_walk *walk)
{
	unsigned int slot = (addr & ~PMD_MASK) >> PAGE_SHIFT;
	struct mmg_split *split = walk->private;
	pte_t *start, *ptep;
	spinlock_t *ptl;

	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start) {
		/* All of it is mapped as a whole. */
		bitmap_set(split->parts, slot, (end - addr) >> PAGE_SHIFT);
		return 0;
	}
	for (ptep = start; addr < end; ptep++, addr += PAGE_SIZE, slot++) {
		pte_t pte = ptep_get(ptep);
		struct page *page = pte_present(pte) ?
				    vm_normal_page(walk->vma, addr, pte) : NULL;

		if (page && page_folio(page) == split->folio)
			__set_bit(slot, split->parts);
	}
	pte_unmap_unlock(start, ptl);
	return 0;
}

/* As replace_page() does it: a dirty entry tells what merging has put there. */
static int mmg_split_after(pmd_t *pmd, unsigned long addr, unsigned long end,
			   struct mm_walk *walk)
{
	unsigned int slot = (addr & ~PMD_MASK) >> PAGE_SHIFT;
	struct mmg_split *split = walk->private;
	pte_t *start, *ptep;
	spinlock_t *ptl;

	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start)
		return 0;
	for (ptep = start; addr < end; ptep++, addr += PAGE_SIZE, slot++) {
		pte_t pte = ptep_get(ptep);

		if (!test_bit(slot, split->parts) || !pte_present(pte) ||
		    !is_zero_pfn(pte_pfn(pte)) || pte_dirty(pte))
			continue;
		pte = ptep_get_and_clear(walk->mm, addr, ptep);
		set_pte_at(walk->mm, addr, ptep, pte_mkdirty(pte));
		ksm_map_zero_page(walk->mm);
		__set_bit(slot, split->zeroed);
	}
	pte_unmap_unlock(start, ptl);
	return 0;
}

static const struct mm_walk_ops mmg_split_before_ops = {
	.pmd_entry = mmg_split_before,
	.walk_lock = PGWALK_RDLOCK,
};

static const struct mm_walk_ops mmg_split_after_ops = {
	.pmd_entry = mmg_split_after,
	.walk_lock = PGWALK_RDLOCK,
};

/* Pages of a chunk map the zero page, as if they had been merged one by one. */
static void mmg_huge_zeroed(struct mmg_chunk *chunk, const unsigned long *slots)
{
	struct mmg_region *region = chunk->region;
	struct mmg_pass pass = {};
	unsigned int slot;

	for_each_set_bit(slot, slots, MMG_CHUNK_PAGES) {
		unsigned long addr = mmg_slot_addr(chunk, slot);

		/* Of what was merged before, the next scan will tell. */
		if (addr < region->start || addr >= region->end ||
		    mmg_chained(chunk, slot))
			continue;
		if (chunk->marks[slot].state == MMG_INDEXED)
			mmg_index_remove(&region->domain->index,
					 mmg_entry_id(chunk, slot));
		mmg_region_set(chunk, slot, MMG_ZERO, false);
		trace_memmerge_merge(region, addr, ZERO_PAGE(addr), true);
		pass.zeroed++;
	}
	region->totals.zeroed += pass.zeroed;
	mmg_domain_count(region->domain, &pass, 0);
}

/**
 * mmg_huge_split - split a large page to merge a page of it
 * @chunk: that it is in
 * @vma: that it is in; mmap_lock is held
 * @page: of it; the folio is locked, and so is that of the page afterwards
 *
 * Return: whether it has been split. Pages of zeroes in the chunk may map the
 * zero page then, and are MMG_ZERO; @page itself may be one of them.
 */
bool mmg_huge_split(struct mmg_chunk *chunk, struct vm_area_struct *vma,
		    struct page *page)
{
	unsigned long start = max(chunk->start, vma->vm_start);
	unsigned long end = min(chunk->start + PMD_SIZE, vma->vm_end);
	struct mmg_split split = { .folio = page_folio(page) };

	walk_page_range_vma(vma, start, end, &mmg_split_before_ops, &split);
	if (split_huge_page(page))
		return false;
	mmg_huge_set(chunk, false);
	atomic64_inc(&mmg_huge_splits);

	walk_page_range_vma(vma, start, end, &mmg_split_after_ops, &split);
	mmg_huge_zeroed(chunk, split.zeroed);
	return true;
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
