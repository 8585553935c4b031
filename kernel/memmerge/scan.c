// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the policy: look at pages, find equal ones, have them merged
 *
 * A chunk at a time: see what is there and take references to its pages under
 * one page table lock, drop all locks of the mm, read and hash the pages, give
 * the references back, and only then take the domain's lock and decide. Two
 * equal pages are merged the first time both have been seen; a page whose
 * sharing did not last is left alone for a while, longer each time.
 *
 * A page that waits in the index, and that some passes found unchanged, is
 * write-protected before it is read once more. From then on it is cold: as
 * long as its page table entry is clean and read-only, nobody can have written
 * it, and it need not be read, nor even its struct page be looked at. A page
 * that is written after all is not protected again for a while, longer each
 * time: who writes now and then pays few faults for it.
 *
 * That a page is cold is a hint, as its hash is. It may hold something else:
 * written by a device for which it was pinned before it was protected, or
 * another page that came there, read-only, and has the same tag. Then it is
 * not found by what it holds now, until it is read in its turn, which each
 * cold page is once in MMG_REREAD passes. It is never merged wrongly, as every
 * byte is compared before, see merge.c.
 */
#include <linux/bitmap.h>
#include <linux/highmem.h>
#include <linux/huge_mm.h>
#include <linux/pagewalk.h>
#include <linux/sched/mm.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/wait_bit.h>

#include "internal.h"
#include "trace.h"

/* Each cold page is read once in so many passes, a power of two. */
#define MMG_REREAD	64

/* Pages that have been read, and are decided about under one hold of a lock. */
#define MMG_DECIDE	MMG_INDEX_FETCH

/*
 * Where pages merge, so many are read before they are decided about, as those
 * behind them may not have to be. Where none does, twice as many each time.
 */
#define MMG_READ_FIRST	2U

/* So many more are read while another scan has the lock of the domain. */
#define MMG_READ_ON	8U

/**
 * struct mmg_chunk_scan - scan of a part of one chunk
 * @region: of the chunk
 * @chunk: that is scanned
 * @batch: what is there
 * @end: slot behind the last one of the part
 * @unread: slot from which on pages have not been read, and are held for it
 * @fetched: slot up to which the index was told what is going to be looked for
 * @turn: which cold pages are read in this pass
 * @zero_pages: pages of zeroes shall map the zero page
 * @huge: it is mapped as a huge page
 * @large: it has parts of large pages, which cannot be split while any of them
 *	is held
 * @full: the guard lets nothing be merged: leave alone what is not merged
 * @done: what was done
 * @mates: of the pages merged, those that an earlier scan had looked at
 * @unshared: shared pages found to have been written
 * @patient: leave alone what has to wait; explicit scans do not
 */
struct mmg_chunk_scan {
	struct mmg_region *region;
	struct mmg_chunk *chunk;
	struct mmg_batch *batch;
	unsigned int end;
	unsigned int unread;
	unsigned int fetched;
	unsigned int turn;
	bool zero_pages;
	bool huge;
	bool large;
	bool full;
	struct mmg_pass done;
	u64 mates;
	u64 unshared;
	bool patient;
};

/**
 * mmg_backoff - how long to leave a page alone
 * @breaks: how often its sharing did not last, from 1
 *
 * Return: passes of the scanner.
 */
u8 mmg_backoff(u8 breaks)
{
	return (1U << min_t(u8, breaks, MMG_MAX_BREAKS)) - 1;
}

/**
 * mmg_heat - note that a cold page was written
 * @chunk: of the page
 * @slot: of the page, which is MMG_INDEXED; it is not write-protected again for
 *	a while, longer each time unless the protection had lasted
 */
void mmg_heat(struct mmg_chunk *chunk, unsigned int slot)
{
	struct mmg_entry *entry = &chunk->entries[slot];
	struct mmg_mark *mark = &chunk->marks[slot];

	if (entry->warm >= MMG_LASTED)
		mark->heats = 0;
	if (mark->heats < MMG_MAX_HEATS)
		mark->heats++;
	entry->warm = (1U << mark->heats) - 1;
	mark->calm = 0;
}

static u16 mmg_tag(unsigned long pfn)
{
	return pfn ^ pfn >> 16;
}

static struct mmg_entry *mmg_scan_entry(struct mmg_chunk_scan *scan,
					unsigned int slot)
{
	return &scan->chunk->entries[slot];
}

static struct mmg_mark *mmg_scan_mark(struct mmg_chunk_scan *scan,
				      unsigned int slot)
{
	return &scan->chunk->marks[slot];
}

/*
 * Set the state of an entry that is on no chain, and keep the index in step
 * with it.
 */
static void mmg_scan_set(struct mmg_chunk_scan *scan, unsigned int slot,
			 enum mmg_state state, bool changed)
{
	struct mmg_index *index = &scan->region->domain->index;
	enum mmg_state before = mmg_scan_mark(scan, slot)->state;
	u32 id = mmg_entry_id(scan->chunk, slot);

	if (before == MMG_INDEXED && state != MMG_INDEXED)
		mmg_index_remove(index, id);
	else if (before != MMG_INDEXED && state == MMG_INDEXED)
		mmg_index_insert(index, id);
	mmg_region_set(scan->chunk, slot, state, changed);
}

/* A page is not merged: count it, and why. */
static void mmg_scan_skip(struct mmg_chunk_scan *scan, unsigned int slot,
			  enum mmg_skip skip)
{
	scan->done.skip[skip]++;
	trace_memmerge_skip(scan->region, mmg_slot_addr(scan->chunk, slot), skip);
}

static void mmg_saw_range(struct mmg_chunk_scan *scan, unsigned long addr,
			  unsigned long end, enum mmg_skip skip)
{
	unsigned int slot = (addr - scan->chunk->start) >> PAGE_SHIFT;

	memset(&scan->batch->saw[slot], skip, (end - addr) >> PAGE_SHIFT);
}

/* One page, seen under the page table lock. */
static unsigned int mmg_see_page(struct mmg_chunk_scan *scan, unsigned int slot,
				 struct page *page)
{
	struct folio *folio = page_folio(page);
	struct mmg_shared *shared;

	if (folio_is_zone_device(folio) || PageHWPoison(page))
		return MMG_SKIP_SPECIAL;
	if (!folio_test_anon(folio))
		return MMG_SKIP_FILE;
	if (folio_test_ksm(folio)) {
		shared = mmg_page_shared(page);
		if (!shared || shared->domain != scan->region->domain)
			return MMG_SKIP_FOREIGN;
		scan->batch->hash[slot] = shared->id;
		return MMG_SAW_SHARED;
	}
	if (scan->full && scan->batch->state[slot] <= MMG_INDEXED)
		return MMG_SKIP_GUARD;
	scan->large |= folio_test_large(folio);
	folio_get(folio);
	scan->batch->pages[slot] = page;
	return MMG_SAW_PAGE;
}

/* A page table entry that maps nothing. */
static enum mmg_skip mmg_see_swap(pte_t pte)
{
	swp_entry_t entry;

	if (!is_swap_pte(pte))
		return MMG_SKIP_ABSENT;
	entry = pte_to_swp_entry(pte);
	if (!non_swap_entry(entry))
		return MMG_SKIP_SWAPPED;
	if (is_migration_entry(entry))
		return MMG_SKIP_BUSY;
	return is_hwpoison_entry(entry) ? MMG_SKIP_SPECIAL : MMG_SKIP_ABSENT;
}

/* Shall a page, which has been seen to be ordinary, be write-protected? */
static bool mmg_see_calm(struct mmg_chunk_scan *scan, unsigned int slot,
			 const struct vm_area_struct *vma, struct page *page)
{
	const struct mmg_mark *mark = mmg_scan_mark(scan, slot);

	/* A debugger writes into what is not writable without any trace. */
	return mark->state == MMG_INDEXED && !mark->cold &&
	       mark->calm == MMG_CALM && !mmg_scan_entry(scan, slot)->warm &&
	       vma->vm_flags & VM_WRITE &&
	       !folio_maybe_dma_pinned(page_folio(page));
}

static unsigned int mmg_see_pte(struct mmg_chunk_scan *scan, unsigned int slot,
				struct vm_area_struct *vma, unsigned long addr,
				pte_t pte)
{
	struct mmg_batch *batch = scan->batch;
	struct page *page;
	unsigned int saw;

	if (!pte_present(pte))
		return mmg_see_swap(pte);
	if (mmg_scan_mark(scan, slot)->cold) {
		batch->written[slot] = pte_write(pte) || pte_dirty(pte);
		if (!batch->written[slot] && !pte_special(pte) &&
		    mmg_scan_entry(scan, slot)->tag == mmg_tag(pte_pfn(pte)) &&
		    (slot ^ scan->turn) % MMG_REREAD)
			return MMG_SAW_COLD;
	}
	if (is_ksm_zero_pte(pte))
		return MMG_SAW_ZERO;
	page = vm_normal_page(vma, addr, pte);
	if (!page)
		return MMG_SKIP_ABSENT;
	saw = mmg_see_page(scan, slot, page);
	if (saw == MMG_SAW_PAGE && mmg_see_calm(scan, slot, vma, page))
		batch->protect[slot] = page;
	return saw;
}

/* Write-protect what shall be, of the slots that have just been seen. */
static void mmg_protect(struct mmg_chunk_scan *scan, struct vm_area_struct *vma,
			unsigned int first, unsigned int end)
{
	struct mmg_batch *batch = scan->batch;
	DECLARE_BITMAP(done, MMG_CHUNK_PAGES);
	unsigned int i;

	while (first < end && !batch->protect[first])
		first++;
	while (first < end && !batch->protect[end - 1])
		end--;
	if (first == end)
		return;
	if (!pages_wrprotect(vma, mmg_slot_addr(scan->chunk, first),
			     batch->protect + first, end - first, NULL, done))
		return;
	for_each_set_bit(i, done, end - first)
		batch->protected[first + i] = true;
}

static bool mmg_see_huge(struct mmg_chunk_scan *scan, pmd_t *pmdp,
			 unsigned long addr, unsigned long end,
			 struct mm_walk *walk)
{
	unsigned int slot = (addr - scan->chunk->start) >> PAGE_SHIFT;
	spinlock_t *ptl;
	bool huge;
	pmd_t pmd;

	if (!pmd_trans_huge(pmdp_get_lockless(pmdp)))
		return false;

	ptl = pmd_lock(walk->mm, pmdp);
	pmd = pmdp_get(pmdp);
	huge = pmd_present(pmd) && pmd_trans_huge(pmd);
	if (huge) {
		struct page *page = pmd_page(pmd) +
				    ((addr & ~PMD_MASK) >> PAGE_SHIFT);

		/* Not the huge zero page. */
		scan->huge = folio_test_anon(page_folio(page));
		for (; addr < end; addr += PAGE_SIZE, page++, slot++) {
			/* Not anonymous: the huge zero page. */
			scan->batch->saw[slot] =
				folio_test_anon(page_folio(page)) ?
				mmg_see_page(scan, slot, page) :
				MMG_SKIP_ABSENT;
		}
	}
	spin_unlock(ptl);
	return huge;
}

static int mmg_see_table(pmd_t *pmd, unsigned long addr, unsigned long end,
			 struct mm_walk *walk)
{
	struct mmg_chunk_scan *scan = walk->private;
	unsigned int slot = (addr - scan->chunk->start) >> PAGE_SHIFT;
	unsigned int first = slot;
	pte_t *start, *ptep;
	spinlock_t *ptl;
	u64 locked;

	if (mmg_see_huge(scan, pmd, addr, end, walk))
		return 0;

	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start) {
		mmg_saw_range(scan, addr, end, MMG_SKIP_ABSENT);
		return 0;
	}
	locked = mmg_hold_begin();
	for (ptep = start; addr < end; ptep++, addr += PAGE_SIZE, slot++)
		scan->batch->saw[slot] = mmg_see_pte(scan, slot, walk->vma,
						     addr, ptep_get(ptep));
	pte_unmap_unlock(start, ptl);
	mmg_hold_end(MMG_HOLD_TABLE, locked);
	mmg_protect(scan, walk->vma, first, slot);
	return 0;
}

static int mmg_see_hole(unsigned long addr, unsigned long end, int depth,
			struct mm_walk *walk)
{
	mmg_saw_range(walk->private, addr, end, MMG_SKIP_ABSENT);
	return 0;
}

static const struct mm_walk_ops mmg_see_ops = {
	.pmd_entry = mmg_see_table,
	.pte_hole = mmg_see_hole,
	.walk_lock = PGWALK_RDLOCK,
};

/* See what is in [start, end), and take references to what may be merged. */
static void mmg_see(struct mmg_chunk_scan *scan, unsigned long start,
		    unsigned long end)
{
	struct mm_struct *mm = scan->region->mm;
	struct vm_area_struct *vma;
	u64 locked;

	mmap_read_lock(mm);
	locked = mmg_hold_begin();
	while (start < end) {
		unsigned long stop = end;
		enum mmg_skip skip = MMG_SKIP_ABSENT;

		vma = find_vma(mm, start);
		if (vma && vma->vm_start > start) {
			stop = min(end, vma->vm_start);
		} else if (vma) {
			stop = min(end, vma->vm_end);
			skip = mmg_vma_skip(scan->region, vma);
		}
		if (skip == MMG_NR_SKIPS)
			walk_page_range_vma(vma, start, stop, &mmg_see_ops,
					    scan);
		else
			mmg_saw_range(scan, start, stop, skip);
		start = stop;
	}
	mmap_read_unlock(mm);
	mmg_hold_end(MMG_HOLD_MMAP, locked);
}

/* The content of the page at a slot or behind it that is read next, or NULL. */
static const void *mmg_read_next(const struct mmg_batch *batch,
				 unsigned int slot, unsigned int end)
{
	while (slot < end && batch->saw[slot] != MMG_SAW_PAGE)
		slot++;
	return slot < end ? page_address(batch->pages[slot]) : NULL;
}

/* Read the pages and give the references back. */
static void mmg_read(struct mmg_chunk_scan *scan, unsigned int first,
		     unsigned int end)
{
	const struct mmg_domain *domain = scan->region->domain;
	struct mmg_batch *batch = scan->batch;
	unsigned int slot;

	for (slot = first; slot < end; slot++) {
		struct page *page = batch->pages[slot];
		const void *next;
		void *addr;

		if (batch->saw[slot] != MMG_SAW_PAGE)
			continue;
		next = mmg_read_next(batch, slot + 1, end);
		addr = kmap_local_page(page);
		batch->zero[slot] = scan->zero_pages &&
				    !memchr_inv(addr, 0, PAGE_SIZE);
		batch->hash[slot] = batch->zero[slot] ? 0 :
				    mmg_hash(addr, mmg_page_key(domain, page),
					     next ?: addr);
		kunmap_local(addr);
		put_page(page);
		cond_resched();
	}
}

/*
 * Merge @slot, whose hash is known, with the indexed page @id of equal hash.
 * The page @next is wanted next. Returns 0, or -1 - enum mmg_skip when @slot
 * could not be merged.
 */
static int mmg_merge_indexed(struct mmg_chunk_scan *scan, unsigned int slot,
			     u32 id, const struct page *next)
{
	struct mmg_domain *domain = scan->region->domain;
	struct mmg_chunk *mate = mmg_index_chunk(&domain->index, id);
	unsigned int mate_slot = mmg_id_slot(id);
	struct mmg_shared *shared;
	int err;

	if (mate->huge && !mmg_huge_may_split(mate))
		return -1 - MMG_SKIP_HUGE;
	mmg_shared_reserve(domain, 1);
	shared = mmg_shared_new(mate, mate_slot, NULL, GFP_KERNEL);
	if (!shared)
		return -1 - MMG_SKIP_NOMEM;

	/* Further on in what is being scanned, it must not be held for that. */
	if (mate == scan->chunk && mate_slot >= scan->unread &&
	    mate_slot < scan->end &&
	    scan->batch->saw[mate_slot] == MMG_SAW_PAGE) {
		put_page(scan->batch->pages[mate_slot]);
		scan->batch->saw[mate_slot] = MMG_SAW_EQUAL;
	}

	/*
	 * If the other page is not what it was, it has no place in the index:
	 * its own turn will tell, and this one takes its place.
	 */
	mmg_region_set(mate, mate_slot, MMG_SEEN, true);

	err = mmg_merge_first(mate, mate_slot, shared,
			      scan->batch->pages[slot]);
	if (err) {
		mmg_shared_free(shared);
		return err;
	}
	mate->region->totals.merged++;
	scan->done.merged++;
	scan->mates++;

	return mmg_merge_shared(scan->chunk, slot, shared, next);
}

/*
 * Take an entry off its chain if its page is not the shared page any more.
 * Returns MMG_STAYS with the entry MMG_KEPT if that is not possible; that its
 * page was written is then kept in mind until it leaves.
 */
static enum mmg_left mmg_scan_leave(struct mmg_chunk_scan *scan,
				    unsigned int slot, bool written)
{
	const struct mmg_mark *mark = mmg_scan_mark(scan, slot);
	bool before = mark->state == MMG_KEPT && mark->changed;
	enum mmg_left left = mmg_rmap_leave(scan->chunk, slot);

	if (left == MMG_STAYS)
		mmg_region_set(scan->chunk, slot, MMG_KEPT, written || before);
	return left;
}

/* The page maps a shared page of the domain. */
static void mmg_decide_shared(struct mmg_chunk_scan *scan, unsigned int slot)
{
	struct mmg_entry *entry = mmg_scan_entry(scan, slot);
	u32 id = scan->batch->hash[slot];
	struct mmg_shared *shared;

	if (mmg_chained(scan->chunk, slot) && entry->shared == id) {
		mmg_region_set(scan->chunk, slot, MMG_SHARED, false);
		return;
	}
	if (mmg_chained(scan->chunk, slot) &&
	    mmg_scan_leave(scan, slot, false) == MMG_STAYS)
		return;
	/* Its mapping came from another one, whose entry is on the chain. */
	shared = mmg_shared_by_id(scan->region->domain, id);
	mmg_scan_set(scan, slot, shared ? MMG_MAPPED : MMG_NONE, false);
	if (shared)
		entry->hash = shared->hash;
}

/* The page cannot be merged, or is not there. */
static void mmg_decide_skip(struct mmg_chunk_scan *scan, unsigned int slot,
			    enum mmg_skip skip)
{
	mmg_scan_skip(scan, slot, skip);
	/*
	 * On its way from one frame to another, and the same behind that; or
	 * not looked at.
	 */
	if (skip == MMG_SKIP_BUSY || skip == MMG_SKIP_GUARD)
		return;
	if (mmg_chained(scan->chunk, slot) &&
	    mmg_scan_leave(scan, slot, false) == MMG_STAYS)
		return;
	mmg_scan_set(scan, slot, MMG_NONE, false);
}

static void mmg_decide_zero(struct mmg_chunk_scan *scan, unsigned int slot)
{
	if (mmg_chained(scan->chunk, slot) &&
	    mmg_scan_leave(scan, slot, false) == MMG_STAYS)
		return;
	mmg_scan_set(scan, slot, MMG_ZERO, false);
}

/*
 * Was an ordinary page that has been read a merged one before, and written
 * since? One that came back from swap was not written. Its shared page is gone
 * then, and its content what it was.
 */
static bool mmg_was_written(struct mmg_chunk_scan *scan, unsigned int slot,
			    enum mmg_state before)
{
	bool same = mmg_scan_entry(scan, slot)->hash == scan->batch->hash[slot];

	switch (before) {
	case MMG_ZERO:
		return true;
	case MMG_SHARED:
		return mmg_scan_mark(scan, slot)->state != MMG_MAPPED || !same;
	case MMG_MAPPED:
		return !same;
	default:
		return false;
	}
}

/* A page was read: was it a cold one that has been written, or has moved? */
static void mmg_decide_warm(struct mmg_chunk_scan *scan, unsigned int slot)
{
	unsigned long pfn = page_to_pfn(scan->batch->pages[slot]);

	if (!mmg_scan_mark(scan, slot)->cold)
		return;
	if (scan->batch->written[slot]) {
		mmg_heat(scan->chunk, slot);
	} else {
		if (mmg_scan_entry(scan, slot)->tag == mmg_tag(pfn))
			return;
		mmg_scan_entry(scan, slot)->warm = 0;
	}
	mmg_region_set_cold(scan->chunk, slot, false);
}

/*
 * A page that waits in the index was read and found unchanged; the next time
 * it may not have to be.
 */
static void mmg_decide_calm(struct mmg_chunk_scan *scan, unsigned int slot)
{
	struct mmg_entry *entry = mmg_scan_entry(scan, slot);
	struct mmg_mark *mark = mmg_scan_mark(scan, slot);
	struct page *page = scan->batch->pages[slot];

	mmg_scan_set(scan, slot, MMG_INDEXED, false);
	if (mark->cold)
		return;
	if (scan->batch->protected[slot]) {
		entry->warm = 0;
		entry->tag = mmg_tag(page_to_pfn(page));
		mmg_region_set_cold(scan->chunk, slot, true);
	} else if (scan->batch->protect[slot]) {
		/* Somebody has a reference, and may keep it for long. */
		mmg_heat(scan->chunk, slot);
	} else if (entry->warm) {
		entry->warm--;
	} else if (mark->calm < MMG_CALM) {
		mark->calm++;
	}
}

/* A page is known to be as it was when it was read. */
static void mmg_decide_cold(struct mmg_chunk_scan *scan, unsigned int slot)
{
	struct mmg_entry *entry = mmg_scan_entry(scan, slot);

	if (entry->warm < MMG_LASTED)
		entry->warm++;
	scan->done.unread++;
}

/*
 * A page would merge, with the indexed page @id or without one. Returns whether
 * a huge page is in the way.
 */
static bool mmg_huge_want_both(struct mmg_chunk_scan *scan, unsigned int slot,
			       u32 id)
{
	struct mmg_chunk *chunk = scan->chunk;

	mmg_huge_want(chunk, slot);
	if (id != MMG_NIL) {
		chunk = mmg_index_chunk(&scan->region->domain->index, id);
		mmg_huge_want(chunk, mmg_id_slot(id));
	}
	return scan->chunk->huge || chunk->huge;
}

/*
 * Merge a page that has been read: with the zero page, with @shared, or with
 * the indexed page @id, as far as the guard lets us. Returns 0, or -1 - enum
 * mmg_skip.
 */
static int mmg_merge(struct mmg_chunk_scan *scan, unsigned int slot,
		     struct mmg_shared *shared, u32 id)
{
	struct mmg_domain *domain = scan->region->domain;
	bool zero = scan->batch->zero[slot];
	const struct page *next;
	int err;

	if (scan->chunk->huge && !mmg_huge_may_split(scan->chunk)) {
		mmg_huge_want_both(scan, slot, id);
		return -1 - MMG_SKIP_HUGE;
	}
	if (!mmg_guard_take(domain, 1))
		return -1 - MMG_SKIP_GUARD;
	/* Where one page merges, the one beside it often does. */
	next = scan->batch->pages[slot];
	if (slot + 1 < scan->end && scan->batch->saw[slot + 1] == MMG_SAW_PAGE)
		next = scan->batch->pages[slot + 1];
	if (zero)
		err = mmg_merge_zero(scan->chunk, slot, next);
	else if (shared)
		err = mmg_merge_shared(scan->chunk, slot, shared, next);
	else
		err = mmg_merge_indexed(scan, slot, id, next);
	/* What maps the zero page is counted as such. */
	if (err || zero)
		mmg_guard_give(domain, 1);
	return err;
}

/* A page that was merged has been written. */
static void mmg_decide_break(struct mmg_chunk_scan *scan, unsigned int slot)
{
	struct mmg_mark *mark = mmg_scan_mark(scan, slot);

	scan->unshared++;
	trace_memmerge_unshare(scan->region, mmg_slot_addr(scan->chunk, slot));
	mark->breaks = min(mark->breaks + 1, MMG_MAX_BREAKS);
	/* Or when it leaves the chain, see mmg_rmap_unlink(). */
	if (!mmg_chained(scan->chunk, slot))
		mmg_scan_entry(scan, slot)->wait = mmg_backoff(mark->breaks);
}

/* Decide about one page that was read. */
static void mmg_decide_page(struct mmg_chunk_scan *scan, unsigned int slot)
{
	struct mmg_domain *domain = scan->region->domain;
	struct mmg_entry *entry = mmg_scan_entry(scan, slot);
	struct mmg_mark *mark = mmg_scan_mark(scan, slot);
	enum mmg_state before = mark->state;
	bool zero = scan->batch->zero[slot];
	u64 hash = scan->batch->hash[slot];
	struct mmg_shared *shared = NULL;
	enum mmg_left left = MMG_LEFT;
	int err = -1 - MMG_NR_SKIPS;	/* no equal */
	bool changed;
	u8 warm = 0;
	u32 id = MMG_NIL;

	mmg_decide_warm(scan, slot);
	if (mmg_chained(scan->chunk, slot))
		left = mmg_scan_leave(scan, slot, before == MMG_SHARED);
	changed = mmg_was_written(scan, slot, before);
	if (changed)
		mmg_decide_break(scan, slot);
	else if (before == MMG_SEEN || before == MMG_INDEXED)
		changed = entry->hash != hash;
	if (changed || before == MMG_NONE ||
	    (before != MMG_INDEXED && left != MMG_STAYS && entry->wait))
		scan->done.news++;
	if (left == MMG_STAYS) {
		mmg_scan_skip(scan, slot, MMG_SKIP_BUSY);
		return;
	}

	if (before == MMG_INDEXED) {
		if (!changed && !zero) {
			/* Whoever waits and is equal will find this one. */
			if (domain->index.shared.count)
				mmg_shared_find(domain, hash, &shared);
			if (!shared) {
				mmg_decide_calm(scan, slot);
				return;
			}
		}
		warm = mark->cold ? 0 : entry->warm;
		mmg_scan_set(scan, slot, MMG_SEEN, changed);
	}
	entry->hash = hash;
	mark->calm = 0;

	if (scan->patient && entry->wait) {
		entry->wait--;
		scan->done.waited++;
		mmg_scan_set(scan, slot, MMG_SEEN, true);
		return;
	}

	if (!zero && !shared &&
	    mmg_shared_claim(scan->chunk, slot, scan->batch->look[slot],
			     &shared, &id)) {
		mmg_region_set(scan->chunk, slot, MMG_INDEXED, changed);
		entry->warm = warm;
		return;
	}

	mmg_scan_set(scan, slot, MMG_SEEN, changed);
	if (zero || shared || id != MMG_NIL)
		err = mmg_merge(scan, slot, shared, id);
	if (!err && zero) {
		scan->done.zeroed++;
		mmg_scan_set(scan, slot, MMG_ZERO, false);
	} else if (!err) {
		scan->done.merged++;
	} else if (err != -1 - MMG_NR_SKIPS) {
		mmg_scan_skip(scan, slot, -1 - err);
	}
	/* One entry a hash: the rest of equal ones has its turn again. */
	if (err && !zero &&
	    (id == MMG_NIL || mmg_index_find(&domain->index, hash, &shared) == MMG_NIL)) {
		mmg_scan_set(scan, slot, MMG_INDEXED, changed);
		entry->warm = warm;
	}
}

/*
 * Before anything is merged: which pages would, that need a huge page split,
 * here or where their equal is? Returns whether there are any.
 */
static bool mmg_count_huge(struct mmg_chunk_scan *scan, unsigned int first,
			   unsigned int end)
{
	struct mmg_domain *domain = scan->region->domain;
	struct mmg_batch *batch = scan->batch;
	u32 own = scan->chunk->id << MMG_CHUNK_SHIFT;
	unsigned int slot;
	bool any = false;

	if (!scan->huge && !scan->chunk->huge && !READ_ONCE(domain->nr_huge))
		return false;

	mmg_domain_lock(domain);
	mmg_huge_seen(scan->chunk, first, end, scan->huge);
	for (slot = first; domain->nr_huge && slot < end; slot++) {
		struct mmg_shared *shared = NULL;
		u32 id = MMG_NIL;

		if (batch->saw[slot] != MMG_SAW_PAGE)
			continue;
		if (!batch->zero[slot])
			id = mmg_shared_find(domain, batch->hash[slot],
					     &shared);
		if (shared)
			id = MMG_NIL;
		else if (!batch->zero[slot] &&
			 (id == MMG_NIL || id == own + slot))
			continue;
		any |= mmg_huge_want_both(scan, slot, id);
	}
	mmg_domain_unlock(domain);
	return any;
}

static void mmg_decide(struct mmg_chunk_scan *scan, unsigned int slot)
{
	/*
	 * Merged with another page since it was seen, by this or another scan,
	 * or unmerged: what was seen does not count.
	 */
	if (mmg_scan_mark(scan, slot)->state != scan->batch->state[slot])
		return;

	switch (scan->batch->saw[slot]) {
	case MMG_SAW_PAGE:
		mmg_decide_page(scan, slot);
		break;
	case MMG_SAW_COLD:
		mmg_decide_cold(scan, slot);
		break;
	case MMG_SAW_SHARED:
		mmg_decide_shared(scan, slot);
		break;
	case MMG_SAW_ZERO:
		mmg_decide_zero(scan, slot);
		break;
	case MMG_SAW_EQUAL:
		break;
	default:
		mmg_decide_skip(scan, slot, scan->batch->saw[slot]);
		break;
	}
}

/* The index is large: what pages need of it shall be there at their turn. */
static noinline_for_stack void mmg_decide_fetch(struct mmg_chunk_scan *scan,
						unsigned int slot,
						unsigned int end)
{
	struct mmg_index *index = &scan->region->domain->index;
	struct mmg_batch *batch = scan->batch;
	unsigned int nr = 0;

	for (; slot < end && nr < MMG_DECIDE; slot++) {
		batch->look[slot] = NULL;
		if (batch->saw[slot] != MMG_SAW_PAGE || batch->zero[slot])
			continue;
		/* An unchanged one that waits need not be looked for. */
		if (batch->state[slot] != MMG_INDEXED || index->shared.count ||
		    mmg_scan_entry(scan, slot)->hash != batch->hash[slot]) {
			batch->look[slot] = &batch->looks[nr];
			batch->looks[nr++].hash = batch->hash[slot];
		}
	}
	/* First, as that may move what is looked for. */
	mmg_index_reserve(index, nr);
	mmg_index_fetch(index, batch->looks, nr);
	scan->fetched = slot;
}

/*
 * Decide about a part of what was seen, up to a page that merges. Returns the
 * first slot that is left.
 */
static unsigned int mmg_decide_some(struct mmg_chunk_scan *scan,
				    unsigned int slot, unsigned int end)
{
	struct mmg_domain *domain = scan->region->domain;
	unsigned int left = MMG_DECIDE;
	bool merged = false;

	mmg_domain_lock(domain);
	for (; slot < end && left && !merged; slot++) {
		if (scan->batch->saw[slot] != MMG_SAW_COLD)
			left--;
		if (slot >= scan->fetched)
			mmg_decide_fetch(scan, slot, end);
		mmg_decide(scan, slot);
		merged = mmg_batch_merged(scan->batch, scan->chunk, slot);
	}
	mmg_domain_unlock(domain);
	return slot;
}

/*
 * Get the chunk of an address for this scan alone, drop the lock of the domain,
 * and note what its entries are. Returns false, with the lock, without memory.
 */
static bool mmg_scan_begin(struct mmg_chunk_scan *scan, unsigned long addr,
			   unsigned int pages)
{
	struct mmg_domain *domain = scan->region->domain;
	struct mmg_chunk *chunk = mmg_region_chunk(scan->region, addr);
	unsigned int slot;

	while (chunk && chunk->scanned) {
		chunk->waiting++;
		mmg_domain_unlock(domain);
		wait_var_event(&chunk->scanned, !READ_ONCE(chunk->scanned));
		mmg_domain_lock(domain);
		chunk->waiting--;
	}
	if (!chunk)
		return false;
	WRITE_ONCE(chunk->scanned, true);
	/* Counts, and so changes what entries are: before the copy. */
	scan->full = !mmg_guard_begin(domain, pages);
	mmg_domain_unlock(domain);

	scan->chunk = chunk;
	for (slot = 0; slot < MMG_CHUNK_PAGES; slot++) {
		const struct mmg_mark mark = READ_ONCE(chunk->marks[slot]);

		scan->batch->state[slot] = mark.state;
	}
	return true;
}

/* Undo mmg_scan_begin(), and count what was done. */
static void mmg_scan_end(struct mmg_chunk_scan *scan, u64 cpu_ns)
{
	struct mmg_region *region = scan->region;
	bool *scanned = &scan->chunk->scanned;

	mmg_domain_lock(region->domain);
	WRITE_ONCE(*scanned, false);
	region->totals.scanned += scan->done.scanned;
	region->totals.merged += scan->done.merged - scan->mates;
	region->totals.zeroed += scan->done.zeroed;
	region->totals.unshared += scan->unshared;
	mmg_domain_count(region->domain, &scan->done, scan->unshared);
	scan->done.cpu_ns = cpu_ns;
	mmg_totals_add_cpu(region, cpu_ns);
	/* A region may be far larger than the memory that is in it. */
	if (scan->done.skip[MMG_SKIP_ABSENT] == scan->done.scanned &&
	    !scan->chunk->huge && !scan->chunk->waiting)
		mmg_region_trim(region, scan->chunk);

	smp_mb();	/* as wake_up_var() wants it: wakes whoever waits by now */
	wake_up_var(scanned);
}

/*
 * The page before @slot may have been merged: do the ones from there on merge,
 * too? Returns the first one that is left.
 */
static unsigned int mmg_scan_run(struct mmg_chunk_scan *scan, unsigned int slot,
				 unsigned int end)
{
	struct mmg_domain *domain = scan->region->domain;
	bool more = mmg_batch_merged(scan->batch, scan->chunk, slot - 1);

	while (more && slot < end) {
		bool read = slot < scan->unread;
		struct mmg_ran ran;
		unsigned int i;

		mmg_domain_lock(domain);
		more = mmg_run_try(scan->batch, scan->chunk, slot,
				   read ? min(end, scan->unread) : end, read,
				   scan->patient, &ran);
		for (i = 0; i < ran.pages; i++, slot++) {
			if (scan->batch->state[slot] == MMG_NONE)
				scan->done.news++;
			if (!test_bit(i, ran.merged)) {
				mmg_scan_skip(scan, slot, MMG_SKIP_BUSY);
				continue;
			}
			mmg_scan_mark(scan, slot)->calm = 0;
			if (ran.zero)
				mmg_scan_set(scan, slot, MMG_ZERO, false);
		}
		i = bitmap_weight(ran.merged, ran.pages);
		if (ran.zero)
			scan->done.zeroed += i;
		else
			scan->done.merged += i;
		scan->done.merged += ran.mates;
		scan->mates += ran.mates;
		mmg_domain_unlock(domain);
		cond_resched();
	}
	return slot;
}

/* Scan a part of the chunk that mmg_scan_begin() got. */
static void mmg_scan_chunk(struct mmg_chunk_scan *scan, unsigned long start,
			   unsigned long end)
{
	unsigned int slot = (start - scan->chunk->start) >> PAGE_SHIFT;
	unsigned int last = (end - scan->chunk->start) >> PAGE_SHIFT;
	struct mmg_domain *domain = scan->region->domain;
	struct mmg_batch *batch = scan->batch;
	unsigned int some = batch->ahead;
	bool whole;

	scan->end = last;
	scan->done.scanned = last - slot;
	batch->most = MMG_RUN_FIRST;
	memset(batch->protect, 0, sizeof(batch->protect));
	memset(batch->protected, 0, sizeof(batch->protected));
	memset(batch->written, 0, sizeof(batch->written));
	mmg_saw_range(scan, start, end, MMG_SKIP_ABSENT);
	mmg_see(scan, start, end);
	whole = scan->huge || scan->chunk->huge || scan->large;
	if (whole)
		some = last - slot;
	while (slot < last) {
		unsigned int next = min(slot + some, last);

		mmg_read(scan, slot, next);
		/* Where nothing merged lately, read on rather than wait. */
		while (some == MMG_DECIDE && next < last &&
		       !READ_ONCE(domain->nr_huge) &&
		       mutex_is_locked(&domain->lock)) {
			unsigned int more = min(next + MMG_READ_ON, last);

			mmg_read(scan, next, more);
			next = more;
		}
		/* Of what would split a huge page all is counted before. */
		if (mmg_count_huge(scan, slot, next)) {
			mmg_read(scan, next, last);
			mmg_count_huge(scan, next, last);
			next = last;
		}
		scan->unread = next;
		while (slot < next) {
			slot = mmg_decide_some(scan, slot, next);
			slot = mmg_scan_run(scan, slot, last);
			cond_resched();
		}
		some = slot > next ? MMG_READ_FIRST : min(2 * some, MMG_DECIDE);
	}
	/* What was read of huge pages says nothing about others. */
	if (!whole)
		batch->ahead = some;
}

/**
 * mmg_batch_new - get work space for a scan
 *
 * Return: the work space, or NULL without memory.
 */
struct mmg_batch *mmg_batch_new(void)
{
	struct mmg_batch *batch = kvmalloc(sizeof(*batch), GFP_KERNEL_ACCOUNT);

	if (!batch)
		return NULL;
	batch->run = mmg_run_new();
	if (!batch->run) {
		kvfree(batch);
		return NULL;
	}
	batch->ahead = MMG_READ_FIRST;
	return batch;
}

/**
 * mmg_batch_free - give work space back
 * @batch: that mmg_batch_new() returned, or NULL
 */
void mmg_batch_free(struct mmg_batch *batch)
{
	if (batch)
		mmg_run_free(batch->run);
	kvfree(batch);
}

/**
 * mmg_batch_merged - did a page of a batch merge just now?
 * @batch: what was seen of it
 * @chunk: of the page
 * @slot: of the page
 *
 * Return: whether it did.
 */
bool mmg_batch_merged(const struct mmg_batch *batch,
		      const struct mmg_chunk *chunk, unsigned int slot)
{
	const struct mmg_mark mark = READ_ONCE(chunk->marks[slot]);

	return batch->saw[slot] == MMG_SAW_PAGE &&
	       batch->state[slot] <= MMG_INDEXED &&
	       (mark.state == MMG_SHARED || mark.state == MMG_ZERO);
}

/**
 * mmg_pass_add - add what a part of a scan did to what the rest did
 * @sum: of the parts
 * @pass: the part
 */
void mmg_pass_add(struct mmg_pass *sum, const struct mmg_pass *pass)
{
	unsigned int i;

	sum->scanned += pass->scanned;
	sum->merged += pass->merged;
	sum->zeroed += pass->zeroed;
	sum->unread += pass->unread;
	sum->news += pass->news;
	sum->waited += pass->waited;
	sum->cpu_ns += pass->cpu_ns;
	for (i = 0; i < MMG_NR_SKIPS; i++)
		sum->skip[i] += pass->skip[i];
}

/**
 * mmg_scan_range - scan a range of a region
 * @batch: work space
 * @region: of a domain whose @busy is held for read, and whose lock, which is
 *	dropped meanwhile
 * @start: first byte, page aligned
 * @end: behind the last byte; the range lies in one chunk
 * @patient: leave pages alone whose sharing did not last
 * @pass: what was done is added here
 *
 * Begins and ends under the lock, so that callers that have something to do
 * there need not take it once more: others may wait for it.
 *
 * The index holds at most one entry of a hash: a page whose equal cannot be
 * merged now is not put there beside it.
 *
 * Return: 0; -ENOMEM without memory for the entries; -ESRCH if the process
 * has exited.
 */
int mmg_scan_range(struct mmg_batch *batch, struct mmg_region *region,
		   unsigned long start, unsigned long end, bool patient,
		   struct mmg_pass *pass)
{
	struct mmg_chunk_scan scan = {
		.region = region,
		.batch = batch,
		.turn = READ_ONCE(region->passes),
		.zero_pages = READ_ONCE(mmg_tunables.use_zero_pages),
		.patient = patient,
	};
	struct mmg_cpu cpu;

	if (!mmget_not_zero(region->mm))
		return -ESRCH;
	if (!mmg_scan_begin(&scan, start, (end - start) >> PAGE_SHIFT)) {
		mmput_async(region->mm);
		return -ENOMEM;
	}
	mmg_cpu_begin(&cpu);
	mmg_scan_chunk(&scan, start, end);
	mmg_scan_end(&scan, mmg_cpu_used(&cpu));
	mmput_async(region->mm);
	mmg_pass_add(pass, &scan.done);
	return 0;
}
