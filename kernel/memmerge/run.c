// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - runs: what lies behind a page that was merged often merges, too
 *
 * Equal memory mostly comes in pieces larger than a page: the same file, the
 * same program, a machine that began as a copy of another. So when a page has
 * been merged, the pages behind it are held against those behind its equal, one
 * by one, without their content being hashed first. A run of them is looked up,
 * write-protected, compared and replaced as one, with a few holds of locks for
 * all rather than for each.
 *
 * This is the short way, for pages that only one process maps, with nothing
 * special about them. What it leaves alone goes the long way through merge.c,
 * as if nobody had tried; so it gives up on any doubt, and of two address
 * spaces it only tries to lock the second.
 */
#include <linux/bitmap.h>
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/pagewalk.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "internal.h"
#include "trace.h"

/**
 * struct mmg_side - consecutive pages of one address space
 * @mm: address space, with a reference, mmap_lock held for read
 * @vma: around all of them
 * @chunk: of their entries
 * @slot: of the first one
 * @nr: how many
 * @held: the pages that the caller has seen there, on whose references this
 *	relies; NULL: whatever is there, with references of its own
 * @pages: those that are there, their folios small and locked, or NULL
 * @ptes: what pages_wrprotect() left behind
 * @ready: which ones it has protected
 */
struct mmg_side {
	struct mm_struct *mm;
	struct vm_area_struct *vma;
	struct mmg_chunk *chunk;
	unsigned int slot;
	unsigned int nr;
	struct page **held;
	struct page *pages[MMG_RUN];
	pte_t ptes[MMG_RUN];
	DECLARE_BITMAP(ready, MMG_RUN);
};

/**
 * struct mmg_run - pages that may merge, and with what
 * @domain: of all of them
 * @here: the pages to be replaced
 * @there: their equals, if those wait in the index; no @chunk: they do not
 * @zero: all of them are to map the zero page
 * @shared: otherwise, the shared page of each; of @there, once it is one
 * @kpages: what to replace each by
 * @looks: where the index has those of @there
 * @pending: pages before the present one that are to map its shared page, too
 * @mates: how many of @there have become shared pages
 */
struct mmg_run {
	struct mmg_domain *domain;
	struct mmg_side here;
	struct mmg_side there;
	bool zero;
	struct mmg_shared *shared[MMG_RUN];
	struct page *kpages[MMG_RUN];
	struct mmg_look looks[MMG_RUN];
	unsigned int pending;
	unsigned int mates;
};

static unsigned long mmg_side_addr(const struct mmg_side *side, unsigned int i)
{
	return mmg_slot_addr(side->chunk, side->slot + i);
}

/* An ordinary page in its place, that can be locked without waiting? */
static void mmg_side_take(struct mmg_side *side, unsigned int i, pte_t pte)
{
	struct folio *folio;
	struct page *page;

	if (!pte_present(pte))
		return;
	page = vm_normal_page(side->vma, mmg_side_addr(side, i), pte);
	if (!page || (side->held && side->held[i] != page))
		return;
	folio = page_folio(page);
	if (folio_test_large(folio) || !folio_test_anon(folio) ||
	    folio_test_ksm(folio) || folio_is_zone_device(folio) ||
	    PageHWPoison(page) || !folio_trylock(folio))
		return;
	if (!side->held)
		folio_get(folio);
	side->pages[i] = page;
}

static int mmg_side_walk(pmd_t *pmd, unsigned long addr, unsigned long end,
			 struct mm_walk *walk)
{
	struct mmg_side *side = walk->private;
	pte_t *start, *ptep;
	unsigned int i = 0;
	spinlock_t *ptl;

	/* Not in a huge page: this then finds no table. */
	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start)
		return 0;
	for (ptep = start; addr < end; ptep++, addr += PAGE_SIZE, i++)
		mmg_side_take(side, i, ptep_get(ptep));
	pte_unmap_unlock(start, ptl);
	return 0;
}

static const struct mm_walk_ops mmg_side_ops = {
	.pmd_entry = mmg_side_walk,
	.walk_lock = PGWALK_RDLOCK,
};

/*
 * Lock the pages of a side and make them read-only. Returns how many there may
 * be, as many as there were or fewer. mmg_side_end() has to be called.
 */
static unsigned int mmg_side_begin(struct mmg_side *side)
{
	const unsigned long start = mmg_side_addr(side, 0);

	memset(side->pages, 0, side->nr * sizeof(*side->pages));
	side->vma = vma_lookup(side->mm, start);
	if (!side->vma ||
	    mmg_vma_skip(side->chunk->region, side->vma) != MMG_NR_SKIPS)
		return 0;
	side->nr = min_t(unsigned long, side->nr,
			 (side->vma->vm_end - start) >> PAGE_SHIFT);
	walk_page_range_vma(side->vma, start, mmg_side_addr(side, side->nr),
			    &mmg_side_ops, side);
	if (!pages_wrprotect(side->vma, start, side->pages, side->nr,
			     side->ptes, side->ready))
		return 0;
	return side->nr;
}

static void mmg_side_end(struct mmg_side *side)
{
	unsigned int i;

	for (i = 0; i < side->nr; i++) {
		struct page *page = side->pages[i];

		if (!page)
			continue;
		unlock_page(page);
		if (!side->held)
			put_page(page);
	}
}

static bool mmg_mm_lock(struct mm_struct *mm, bool wait)
{
	if (!mmget_not_zero(mm))
		return false;
	if (wait)
		mmap_read_lock(mm);
	else if (!mmap_read_trylock(mm))
		goto out;
	return true;
out:
	mmput_async(mm);
	return false;
}

static void mmg_mm_unlock(struct mm_struct *mm)
{
	mmap_read_unlock(mm);
	mmput_async(mm);
}

/* Lock the shared page for a page of the run, unless the one before has it. */
static bool mmg_run_join(struct mmg_run *run, unsigned int i)
{
	struct mmg_shared *shared = run->shared[i];
	struct folio *folio;

	if (i && run->shared[i - 1] == shared) {
		run->kpages[i] = run->kpages[i - 1];
		return mmg_shared_takes(shared, ++run->pending);
	}
	run->pending = 0;
	folio = mmg_shared_get(shared);
	if (!folio)
		return false;
	if (!folio_trylock(folio))
		goto out;
	run->kpages[i] = folio_page(folio, 0);
	if (mmg_folio_is(folio, shared) && mmg_shared_takes(shared, 0))
		return true;
	folio_unlock(folio);
out:
	folio_put(folio);
	run->kpages[i] = NULL;
	return false;
}

/* Give back what mmg_run_join() got for the first pages of the run. */
static void mmg_run_leave(struct mmg_run *run, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct page *page = run->kpages[i];

		if (!page || (i && run->kpages[i - 1] == page))
			continue;
		unlock_page(page);
		put_page(page);
	}
}

/* The equal waits in the index: make it a shared page. */
static bool mmg_run_share(struct mmg_run *run, unsigned int i)
{
	struct mmg_side *there = &run->there;
	unsigned int slot = there->slot + i;
	struct mmg_shared *shared;

	/*
	 * Others wait for these folios: no waiting for memory. And it may not
	 * have had its turn to join the shared page that there is.
	 */
	shared = mmg_shared_new(there->chunk, slot, &run->looks[i],
				GFP_NOWAIT);
	if (!shared)
		return false;
	mmg_region_set(there->chunk, slot, MMG_SEEN, false);
	if (!mmg_share(shared, there->chunk, slot, there->pages[i])) {
		mmg_shared_free(shared);
		return false;
	}
	trace_memmerge_merge(there->chunk->region, mmg_side_addr(there, i),
			     there->pages[i], false);
	there->chunk->region->totals.merged++;
	run->mates++;
	run->shared[i] = shared;
	return true;
}

/* Are a page and its equal the same? The next ones are fetched meanwhile. */
static bool mmg_run_same(const struct mmg_run *run, unsigned int i)
{
	struct page *page = run->here.pages[i], *equal = run->kpages[i];
	const struct page *next = NULL, *next_equal = NULL;

	if (i + 1 < run->here.nr) {
		next = run->here.pages[i + 1];
		if (run->there.chunk)
			next_equal = i + 1 < run->there.nr ?
				     run->there.pages[i + 1] : NULL;
		else if (!run->zero)
			next_equal =
				&READ_ONCE(run->shared[i + 1]->folio)->page;
	}
	return mmg_same(page, equal, next ?: page, next_equal ?: equal);
}

/* Hold a page against its equal: is it one? */
static bool mmg_run_compare(struct mmg_run *run, unsigned int i)
{
	struct mmg_side *here = &run->here;

	if (!test_bit(i, here->ready))
		return false;
	if (run->there.chunk) {
		if (!test_bit(i, run->there.ready))
			return false;
		run->kpages[i] = run->there.pages[i];
	} else if (run->zero) {
		run->kpages[i] = ZERO_PAGE(mmg_side_addr(here, i));
	} else if (!mmg_run_join(run, i)) {
		return false;
	}
	if (PageHWPoison(here->pages[i]) || PageHWPoison(run->kpages[i]))
		return false;
	return (run->zero || mmg_node_same(here->pages[i],
					   page_folio(run->kpages[i]))) &&
	       mmg_run_same(run, i);
}

/* A page has an equal: prepare for its replacement. */
static bool mmg_run_link(struct mmg_run *run, unsigned int i)
{
	struct mmg_side *here = &run->here;

	if (!mmg_guard_take(run->domain, 1))
		return false;
	if (run->zero)
		return true;
	if (run->there.chunk && !mmg_run_share(run, i))
		goto out;
	if (mmg_rmap_link(run->shared[i], here->chunk, here->slot + i,
			  here->vma->anon_vma,
			  linear_page_index(here->vma, mmg_side_addr(here, i))))
		return true;
out:
	mmg_guard_give(run->domain, 1);
	return false;
}

/* The first equals are going to become shared pages: have the index fetched. */
static void mmg_run_fetch(struct mmg_run *run, unsigned int nr)
{
	const struct mmg_side *there = &run->there;
	unsigned int i;

	static_assert(MMG_RUN <= MMG_INDEX_FETCH);
	for (i = 0; i < nr; i++)
		run->looks[i].hash =
			there->chunk->entries[there->slot + i].hash;
	mmg_index_fetch(&run->domain->index, run->looks, nr);
}

/*
 * Merge as many pages as are equal, from the first one on, and drop the
 * caller's references to them, if there are any. @merged has a bit for each that was merged, as
 * good as always all of them.
 */
static unsigned int mmg_run_merge(struct mmg_run *run, unsigned long *merged)
{
	struct mmg_side *here = &run->here;
	unsigned int i, nr, locked;

	nr = mmg_side_begin(here);
	/* No more than can be needed: a write to a protected page is a fault. */
	nr = find_first_zero_bit(here->ready, nr);
	run->there.nr = nr;
	if (run->there.chunk && nr)
		nr = mmg_side_begin(&run->there);
	for (i = 0; i < nr; i++) {
		run->kpages[i] = NULL;
		if (!mmg_run_compare(run, i))
			break;
	}
	locked = min(i + 1, nr);
	/* Now, as what is fetched would not last through all these pages. */
	if (run->there.chunk)
		mmg_run_fetch(run, i);
	for (nr = i, i = 0; i < nr; i++)
		if (!mmg_run_link(run, i))
			break;
	nr = i;

	bitmap_zero(merged, MMG_RUN);
	bitmap_set(merged, 0, nr);
	if (nr)
		replace_pages(here->vma, mmg_side_addr(here, 0), here->pages,
			      run->kpages, nr, here->ptes, merged);
	for (i = 0; i < nr; i++) {
		if (test_bit(i, merged)) {
			trace_memmerge_merge(here->chunk->region,
					     mmg_side_addr(here, i),
					     run->kpages[i], run->zero);
		} else if (!run->zero) {
			mmg_rmap_unlink(run->shared[i],
					mmg_entry_id(here->chunk,
						     here->slot + i),
					MMG_SEEN);
		}
		/* What maps the zero page is counted as such. */
		if (run->zero || !test_bit(i, merged))
			mmg_guard_give(run->domain, 1);
	}

	if (run->there.chunk)
		mmg_side_end(&run->there);
	else if (!run->zero)
		mmg_run_leave(run, locked);
	mmg_side_end(here);
	/* All that was replaced is freed by this, or has been just now. */
	if (here->held)
		release_pages(here->held, nr);
	return nr;
}

/*
 * Which page is it that the page before the run was merged with, just now?
 * Returns false if none; @chunk and @slot are of the page behind it, unless
 * that is the zero page.
 */
static bool mmg_run_equal(struct mmg_run *run, const struct mmg_batch *batch,
			  struct mmg_chunk **chunk, unsigned int *slot)
{
	unsigned int last = run->here.slot - 1;
	u32 next = run->here.chunk->next[last];

	if (!mmg_batch_merged(batch, run->here.chunk, last))
		return false;
	if (run->here.chunk->marks[last].state == MMG_ZERO) {
		run->zero = true;
		return true;
	}
	/* A merge puts an entry on the chain in front of that of its equal. */
	if (next == MMG_NIL)
		return false;
	*slot = mmg_id_slot(next) + 1;
	*chunk = mmg_index_chunk(&run->domain->index, next);
	return true;
}

/* By what is known of it, may a page that was seen be tried? */
static bool mmg_run_fits(const struct mmg_run *run,
			 const struct mmg_batch *batch, unsigned int slot,
			 bool patient)
{
	const struct mmg_mark *mark = &run->here.chunk->marks[slot];

	return batch->saw[slot] == MMG_SAW_PAGE &&
	       mark->state == batch->state[slot] &&
	       mark->state <= MMG_SEEN && !mark->changed &&
	       !(patient && run->here.chunk->entries[slot].wait);
}

/*
 * Fill in what the pages from @slot on would merge with. Returns how many of
 * them the run can have, at most @nr. Of pages that have been read the hash
 * tells the most that differ, which then need not be locked to find that.
 */
static unsigned int mmg_run_plan(struct mmg_run *run,
				 const struct mmg_batch *batch,
				 unsigned int slot, unsigned int nr,
				 bool patient)
{
	struct mmg_chunk *here = run->here.chunk, *there = NULL;
	const bool read = !run->here.held;
	unsigned int behind = 0, i;

	run->zero = false;
	run->there.chunk = NULL;
	run->here.slot = slot;
	if (!mmg_run_equal(run, batch, &there, &behind) ||
	    (there && there->huge))
		return 0;

	for (i = 0; i < nr && mmg_run_fits(run, batch, slot + i, patient); i++) {
		struct mmg_shared *shared;
		u64 hash = batch->hash[slot + i];

		if (read && run->zero != batch->zero[slot + i])
			break;
		if (run->zero)
			continue;
		/* It would be in the run itself: one content again and again? */
		if (there == here && behind < slot && behind + i >= slot) {
			if (behind + 1 < slot || run->there.chunk ||
			    (read && run->shared[i - 1]->hash != hash))
				break;
			run->shared[i] = run->shared[i - 1];
			continue;
		}
		if (behind + i >= MMG_CHUNK_PAGES)
			break;
		shared = there->marks[behind + i].state != MMG_SHARED ? NULL :
			 mmg_shared_by_id(run->domain,
					  there->entries[behind + i].shared);
		if (shared && !run->there.chunk) {
			if (read && shared->hash != hash)
				break;
			run->shared[i] = shared;
		} else if (!shared && (!i || run->there.chunk) &&
			   there->marks[behind + i].state == MMG_INDEXED) {
			if (read && there->entries[behind + i].hash != hash)
				break;
			run->there.chunk = there;
			run->there.slot = behind;
		} else {
			break;
		}
	}
	return i;
}

/**
 * mmg_run_new - get work space for runs
 *
 * Return: the work space, or NULL without memory.
 */
struct mmg_run *mmg_run_new(void)
{
	return kvmalloc(sizeof(struct mmg_run), GFP_KERNEL_ACCOUNT);
}

/**
 * mmg_run_free - give work space back
 * @run: that mmg_run_new() returned
 */
void mmg_run_free(struct mmg_run *run)
{
	kvfree(run);
}

/**
 * mmg_run_try - merge pages behind one that has just been merged
 * @batch: what was seen of them
 * @chunk: of the pages
 * @slot: of the first one to try, not 0
 * @end: behind the last one that may be tried
 * @read: they have been read; else the caller has references to them, which
 *	are given back of all that are in @ran
 * @patient: leave pages alone whose sharing did not last
 * @ran: out, what was done
 *
 * Return: whether it is worth to try the ones behind those, too.
 */
bool mmg_run_try(struct mmg_batch *batch, struct mmg_chunk *chunk,
		 unsigned int slot, unsigned int end, bool read, bool patient,
		 struct mmg_ran *ran)
{
	struct mmg_run *run = batch->run;
	struct mm_struct *mm = chunk->region->mm, *other;
	unsigned int nr;
	u64 locked;

	memset(ran, 0, sizeof(*ran));
	run->domain = chunk->region->domain;
	run->mates = 0;
	run->here.chunk = chunk;
	run->here.held = read ? NULL : batch->pages + slot;
	nr = mmg_run_plan(run, batch, slot, min(end - slot, batch->most),
			  patient);
	batch->most = MMG_RUN_FIRST;
	if (!nr)
		return false;
	if (run->there.chunk)
		mmg_shared_reserve(run->domain, nr);
	if (!mmg_mm_lock(mm, true))
		return false;
	locked = mmg_hold_begin();

	run->here.nr = nr;
	run->there.held = NULL;
	other = run->there.chunk ? run->there.chunk->region->mm : mm;
	if (other == mm || mmg_mm_lock(other, false)) {
		run->here.mm = mm;
		run->there.mm = other;
		ran->pages = mmg_run_merge(run, ran->merged);
		if (other != mm)
			mmg_mm_unlock(other);
	}
	mmg_mm_unlock(mm);
	mmg_hold_end(MMG_HOLD_FOLIO, locked);

	ran->zero = run->zero;
	ran->mates = run->mates;
	if (ran->pages < nr)
		return false;
	batch->most = min(2 * nr, MMG_RUN);
	return true;
}
