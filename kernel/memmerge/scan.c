// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the policy: look at pages, find equal ones, have them merged
 *
 * A chunk at a time: see what is there and take references to its pages under
 * one page table lock, drop all locks of the mm, read and hash the pages, give
 * the references back, and only then decide. Two equal pages are merged the
 * first time both have been seen; a page whose sharing did not last is left
 * alone for a while, longer each time.
 */
#include <linux/highmem.h>
#include <linux/huge_mm.h>
#include <linux/pagewalk.h>
#include <linux/sched/mm.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/xxhash.h>

#include "internal.h"

/**
 * struct mmg_chunk_scan - scan of a part of one chunk
 * @region: of the chunk
 * @chunk: that is scanned
 * @batch: what is there
 * @zero_pages: pages of zeroes shall map the zero page
 * @done: what was done
 * @mates: of the pages merged, those that an earlier scan had looked at
 * @unshared: shared pages found to have been written
 * @patient: leave alone what has to wait; explicit scans do not
 */
struct mmg_chunk_scan {
	struct mmg_region *region;
	struct mmg_chunk *chunk;
	struct mmg_batch *batch;
	bool zero_pages;
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

static struct mmg_entry *mmg_scan_entry(struct mmg_chunk_scan *scan,
					unsigned int slot)
{
	return &scan->chunk->entries[slot];
}

/*
 * Set the state of an entry that is on no chain, and keep the index in step
 * with it.
 */
static void mmg_scan_set(struct mmg_chunk_scan *scan, unsigned int slot,
			 enum mmg_state state, bool changed)
{
	struct mmg_index *index = &scan->region->domain->index;
	struct mmg_entry *entry = mmg_scan_entry(scan, slot);
	u32 id = (scan->chunk->id << MMG_CHUNK_SHIFT) + slot;

	if (entry->state == MMG_INDEXED && state != MMG_INDEXED)
		mmg_index_remove(index, id);
	else if (entry->state != MMG_INDEXED && state == MMG_INDEXED)
		mmg_index_insert(index, id);
	mmg_region_set(scan->region, entry, state, changed);
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

static unsigned int mmg_see_pte(struct mmg_chunk_scan *scan, unsigned int slot,
				struct vm_area_struct *vma, unsigned long addr,
				pte_t pte)
{
	struct page *page;

	if (!pte_present(pte))
		return mmg_see_swap(pte);
	if (is_ksm_zero_pte(pte))
		return MMG_SAW_ZERO;
	page = vm_normal_page(vma, addr, pte);
	return page ? mmg_see_page(scan, slot, page) : MMG_SKIP_ABSENT;
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
	pte_t *start, *ptep;
	spinlock_t *ptl;

	if (mmg_see_huge(scan, pmd, addr, end, walk))
		return 0;

	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start) {
		mmg_saw_range(scan, addr, end, MMG_SKIP_ABSENT);
		return 0;
	}
	for (ptep = start; addr < end; ptep++, addr += PAGE_SIZE, slot++)
		scan->batch->saw[slot] = mmg_see_pte(scan, slot, walk->vma,
						     addr, ptep_get(ptep));
	pte_unmap_unlock(start, ptl);
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

	mmap_read_lock(mm);
	while (start < end) {
		unsigned long stop = end;
		enum mmg_skip skip = MMG_SKIP_ABSENT;

		vma = find_vma(mm, start);
		if (vma && vma->vm_start > start) {
			stop = min(end, vma->vm_start);
		} else if (vma) {
			stop = min(end, vma->vm_end);
			skip = mmg_vma_skip(vma);
		}
		if (skip == MMG_NR_SKIPS)
			walk_page_range_vma(vma, start, stop, &mmg_see_ops,
					    scan);
		else
			mmg_saw_range(scan, start, stop, skip);
		start = stop;
	}
	mmap_read_unlock(mm);
}

/* Read the pages and give the references back. */
static void mmg_read(struct mmg_chunk_scan *scan, unsigned int first,
		     unsigned int end)
{
	u64 key = scan->region->domain->key;
	struct mmg_batch *batch = scan->batch;
	unsigned int slot;

	for (slot = first; slot < end; slot++) {
		struct page *page = batch->pages[slot];
		void *addr;

		if (batch->saw[slot] != MMG_SAW_PAGE)
			continue;
		addr = kmap_local_page(page);
		batch->zero[slot] = scan->zero_pages &&
				    !memchr_inv(addr, 0, PAGE_SIZE);
		batch->hash[slot] = batch->zero[slot] ? 0 :
				    xxh64(addr, PAGE_SIZE, key);
		kunmap_local(addr);
		put_page(page);
		cond_resched();
	}
}

/*
 * Merge @slot, whose hash is known, with the indexed page @id of equal hash.
 * Returns 0, or -1 - enum mmg_skip when @slot could not be merged.
 */
static int mmg_merge_indexed(struct mmg_chunk_scan *scan, unsigned int slot,
			     u32 id)
{
	struct mmg_domain *domain = scan->region->domain;
	struct mmg_chunk_scan mate = { .done = {} };
	unsigned int mate_slot = id & (MMG_CHUNK_PAGES - 1);
	struct mmg_shared *shared;
	int err;

	shared = mmg_shared_alloc(domain, mmg_scan_entry(scan, slot)->hash);
	if (!shared)
		return -1 - MMG_SKIP_NOMEM;

	/*
	 * If the other page is not what it was, it has no place in the index:
	 * its own turn will tell, and this one takes its place.
	 */
	mmg_index_entry(&domain->index, id, &mate.chunk);
	mate.region = mate.chunk->region;
	mmg_scan_set(&mate, mate_slot, MMG_SEEN, true);

	err = mmg_merge_first(mate.chunk, mate_slot, shared);
	if (err) {
		mmg_shared_free(shared);
		return err;
	}
	mate.region->totals.merged++;
	scan->done.merged++;
	scan->mates++;
	mmg_shared_add(shared);

	return mmg_merge_shared(scan->chunk, slot, shared);
}

/*
 * Take an entry off its chain if its page is not the shared page any more.
 * Returns MMG_STAYS with the entry MMG_KEPT if that is not possible.
 */
static enum mmg_left mmg_scan_leave(struct mmg_chunk_scan *scan,
				    unsigned int slot, bool changed)
{
	enum mmg_left left = mmg_rmap_leave(scan->chunk, slot);

	if (left == MMG_STAYS)
		mmg_region_set(scan->region, mmg_scan_entry(scan, slot),
			       MMG_KEPT, changed);
	return left;
}

/* The page maps a shared page of the domain. */
static void mmg_decide_shared(struct mmg_chunk_scan *scan, unsigned int slot)
{
	struct mmg_entry *entry = mmg_scan_entry(scan, slot);
	u32 id = scan->batch->hash[slot];
	struct mmg_shared *shared;

	if (mmg_entry_chained(entry) && entry->shared == id) {
		mmg_region_set(scan->region, entry, MMG_SHARED, false);
		return;
	}
	if (mmg_entry_chained(entry) &&
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
	scan->done.skip[skip]++;
	/* On its way from one frame to another, and the same behind that. */
	if (skip == MMG_SKIP_BUSY)
		return;
	if (mmg_entry_chained(mmg_scan_entry(scan, slot)) &&
	    mmg_scan_leave(scan, slot, false) == MMG_STAYS)
		return;
	mmg_scan_set(scan, slot, MMG_NONE, false);
}

static void mmg_decide_zero(struct mmg_chunk_scan *scan, unsigned int slot)
{
	if (mmg_entry_chained(mmg_scan_entry(scan, slot)) &&
	    mmg_scan_leave(scan, slot, false) == MMG_STAYS)
		return;
	mmg_scan_set(scan, slot, MMG_ZERO, false);
}

/*
 * Was an ordinary page that has been read a merged one before, and written
 * since? One that came back from swap was not written. Its shared page is gone
 * then, and its content what it was.
 */
static bool mmg_was_written(struct mmg_entry *entry, enum mmg_state before,
			    u64 hash)
{
	switch (before) {
	case MMG_ZERO:
		return true;
	case MMG_SHARED:
		return entry->state != MMG_MAPPED || entry->hash != hash;
	case MMG_MAPPED:
		return entry->hash != hash;
	default:
		return false;
	}
}

/* Decide about one page that was read. */
static void mmg_decide_page(struct mmg_chunk_scan *scan, unsigned int slot)
{
	struct mmg_domain *domain = scan->region->domain;
	struct mmg_entry *entry = mmg_scan_entry(scan, slot);
	enum mmg_state before = entry->state;
	bool zero = scan->batch->zero[slot];
	u64 hash = scan->batch->hash[slot];
	struct mmg_shared *shared = NULL;
	enum mmg_left left = MMG_LEFT;
	int err = -1 - MMG_NR_SKIPS;	/* no equal */
	bool changed;
	u32 id;

	if (mmg_entry_chained(entry))
		left = mmg_scan_leave(scan, slot, true);
	changed = mmg_was_written(entry, before, hash);
	if (changed) {
		scan->unshared++;
		entry->breaks = min(entry->breaks + 1, MMG_MAX_BREAKS);
		entry->wait = mmg_backoff(entry->breaks);
	} else if (before == MMG_SEEN || before == MMG_INDEXED) {
		changed = entry->hash != hash;
	}
	if (left == MMG_STAYS) {
		scan->done.skip[MMG_SKIP_BUSY]++;
		return;
	}

	if (!zero)
		shared = mmg_shared_find(domain, hash);
	if (entry->state == MMG_INDEXED && !changed && !zero && !shared) {
		/* Whoever is equal will find this one. */
		mmg_scan_set(scan, slot, MMG_INDEXED, false);
		return;
	}
	mmg_scan_set(scan, slot, MMG_SEEN, changed);
	entry->hash = hash;

	if (scan->patient && entry->wait) {
		entry->wait--;
		mmg_scan_set(scan, slot, MMG_SEEN, true);
		return;
	}

	if (zero) {
		err = mmg_merge_zero(scan->chunk, slot);
		if (!err) {
			scan->done.zeroed++;
			mmg_scan_set(scan, slot, MMG_ZERO, false);
		} else {
			scan->done.skip[-1 - err]++;
		}
		return;
	}

	id = mmg_index_find(&domain->index, hash);
	if (shared)
		err = mmg_merge_shared(scan->chunk, slot, shared);
	else if (id != MMG_NIL)
		err = mmg_merge_indexed(scan, slot, id);

	if (!err) {
		scan->done.merged++;
		return;
	}
	if (err != -1 - MMG_NR_SKIPS)
		scan->done.skip[-1 - err]++;
	/* One entry a hash: the rest of equal ones has its turn again. */
	if (mmg_index_find(&domain->index, hash) == MMG_NIL)
		mmg_scan_set(scan, slot, MMG_INDEXED, changed);
}

static void mmg_decide(struct mmg_chunk_scan *scan, unsigned int slot)
{
	switch (scan->batch->saw[slot]) {
	case MMG_SAW_PAGE:
		mmg_decide_page(scan, slot);
		break;
	case MMG_SAW_SHARED:
		mmg_decide_shared(scan, slot);
		break;
	case MMG_SAW_ZERO:
		mmg_decide_zero(scan, slot);
		break;
	default:
		mmg_decide_skip(scan, slot, scan->batch->saw[slot]);
		break;
	}
}

/* Scan [start, end), which is in one chunk. */
static int mmg_scan_chunk(struct mmg_region *region, unsigned long start,
			  unsigned long end, bool patient,
			  struct mmg_pass *pass)
{
	struct mmg_chunk_scan scan = {
		.region = region,
		.batch = region->domain->batch,
		.zero_pages = READ_ONCE(mmg_tunables.use_zero_pages),
		.patient = patient,
	};
	unsigned int first, last, slot, i;

	scan.chunk = mmg_region_chunk(region, start);
	if (!scan.chunk)
		return -ENOMEM;

	first = (start - scan.chunk->start) >> PAGE_SHIFT;
	last = (end - scan.chunk->start) >> PAGE_SHIFT;

	mmg_saw_range(&scan, start, end, MMG_SKIP_ABSENT);
	mmg_see(&scan, start, end);
	mmg_read(&scan, first, last);
	for (slot = first; slot < last; slot++) {
		mmg_decide(&scan, slot);
		cond_resched();
	}

	scan.done.scanned = last - first;
	pass->scanned += scan.done.scanned;
	pass->merged += scan.done.merged;
	pass->zeroed += scan.done.zeroed;
	for (i = 0; i < MMG_NR_SKIPS; i++)
		pass->skip[i] += scan.done.skip[i];

	region->totals.scanned += scan.done.scanned;
	region->totals.merged += scan.done.merged - scan.mates;
	region->totals.zeroed += scan.done.zeroed;
	region->totals.unshared += scan.unshared;
	mmg_domain_count(region->domain, &scan.done, scan.unshared);
	return 0;
}

/**
 * mmg_scan_range - scan a range of a region
 * @region: of a domain whose lock is held
 * @start: first byte, page aligned
 * @end: behind the last byte; the range lies in one chunk
 * @patient: leave pages alone whose sharing did not last
 * @pass: what was done is added here
 *
 * The index holds at most one entry of a hash: a page whose equal cannot be
 * merged now is not put there beside it.
 *
 * Return: 0; -ENOMEM without memory for the entries; -ESRCH if the process
 * has exited.
 */
int mmg_scan_range(struct mmg_region *region, unsigned long start,
		   unsigned long end, bool patient, struct mmg_pass *pass)
{
	u64 begin = current->se.sum_exec_runtime;
	int err;

	if (!mmget_not_zero(region->mm))
		return -ESRCH;
	err = mmg_scan_chunk(region, start, end, patient, pass);
	mmput_async(region->mm);

	mmg_totals_add_cpu(region->domain,
			   current->se.sum_exec_runtime - begin);
	return err;
}
