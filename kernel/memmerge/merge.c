// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the mechanism: make a page map a shared one, and back
 *
 * Nothing that was seen before counts here: the page is looked up again at
 * its address, write-protected, and only what it holds then is compared,
 * every byte, before a page table entry is changed. On any doubt the page
 * stays as it is.
 */
#include <linux/highmem.h>
#include <linux/huge_mm.h>
#include <linux/hugetlb.h>
#include <linux/pagemap.h>
#include <linux/pagewalk.h>
#include <linux/prefetch.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/userfaultfd_k.h>

#include "internal.h"
#include "trace.h"

/**
 * struct mmg_target - a page that is about to be replaced
 * @mm: address space, with a reference, mmap_lock held for read
 * @vma: around @addr
 * @addr: of the page
 * @page: the page, with a reference, its folio small and locked
 * @pte: what page_wrprotect() left behind
 * @locked: when the folio was locked
 */
struct mmg_target {
	struct mm_struct *mm;
	struct vm_area_struct *vma;
	unsigned long addr;
	struct page *page;
	pte_t pte;
	u64 locked;
};

/**
 * mmg_vma_skip - why nothing in a mapping can be merged
 * @region: for which domain
 * @vma: to look at
 *
 * Return: the reason, or MMG_NR_SKIPS if its pages can be merged.
 */
enum mmg_skip mmg_vma_skip(const struct mmg_region *region,
			   struct vm_area_struct *vma)
{
	/* Not advised: to an advised domain it is not there. */
	if (region->domain->advised && !(vma->vm_flags & VM_MERGEABLE))
		return MMG_SKIP_ABSENT;
	if (is_vm_hugetlb_page(vma))
		return MMG_SKIP_HUGETLB;
	if (vma->vm_flags & (VM_SHARED | VM_MAYSHARE))
		return MMG_SKIP_FILE;
	if (vma->vm_flags & (VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_MIXEDMAP |
			     VM_DROPPABLE) || vma_is_dax(vma))
		return MMG_SKIP_SPECIAL;
	if (vma->vm_flags & VM_LOCKED)
		return MMG_SKIP_LOCKED;
	if (userfaultfd_armed(vma))
		return MMG_SKIP_GUARDED;
	if (!vma->anon_vma)
		return vma->vm_file ? MMG_SKIP_FILE : MMG_SKIP_ABSENT;
	return MMG_NR_SKIPS;
}

/**
 * mmg_page_key - with what key to hash a page
 * @domain: that it is in
 * @page: the page
 *
 * Return: the domain's, or one for the page's node, if pages of different nodes
 * shall not merge.
 */
u64 mmg_page_key(const struct mmg_domain *domain, struct page *page)
{
	if (READ_ONCE(mmg_tunables.merge_across_nodes))
		return domain->key;
	return domain->key + 1 + page_to_nid(page);
}

static void mmg_target_end(struct mmg_target *t)
{
	folio_unlock(page_folio(t->page));
	put_page(t->page);
	mmap_read_unlock(t->mm);
	mmg_hold_end(MMG_HOLD_FOLIO, t->locked);
	mmput_async(t->mm);
}

/* Why a page of KSM kind is not merged: it is ours already, or another's. */
static enum mmg_skip mmg_merged_skip(struct mmg_domain *domain,
				     struct page *page)
{
	struct mmg_shared *shared = mmg_page_shared(page);

	return shared && shared->domain == domain ? MMG_SKIP_BUSY :
						    MMG_SKIP_FOREIGN;
}

/* Nobody but mappings, the swap cache and us has a reference. */
static bool mmg_unreferenced(struct folio *folio)
{
	return folio_ref_count(folio) == folio_mapcount(folio) + 1 +
					 folio_test_swapcache(folio);
}

/*
 * Find the page of an entry once more and make it read-only. Returns 0 with @t
 * filled in, to be given to mmg_target_end(), or a negative enum mmg_skip - 1.
 */
static int mmg_target_begin(struct mmg_target *t, struct mmg_chunk *chunk,
			    unsigned int slot)
{
	unsigned long addr = mmg_slot_addr(chunk, slot);
	enum mmg_skip skip = MMG_SKIP_ABSENT;
	struct folio_walk fw;
	struct folio *folio;
	bool huge;

	t->mm = chunk->region->mm;
	t->addr = addr;
	if (!mmget_not_zero(t->mm))
		goto out;
	mmap_read_lock(t->mm);

	t->vma = vma_lookup(t->mm, addr);
	if (!t->vma)
		goto out_mm;
	skip = mmg_vma_skip(chunk->region, t->vma);
	if (skip != MMG_NR_SKIPS)
		goto out_mm;

	skip = MMG_SKIP_ABSENT;
	folio = folio_walk_start(&fw, t->vma, addr, 0);
	if (!folio)
		goto out_mm;
	t->page = fw.page;
	huge = fw.level == FW_LEVEL_PMD;
	if (folio_is_zone_device(folio))
		skip = MMG_SKIP_SPECIAL;
	else if (!folio_test_anon(folio))
		skip = MMG_SKIP_FILE;
	else if (folio_test_ksm(folio))
		skip = mmg_merged_skip(chunk->region->domain, t->page);
	else
		skip = MMG_NR_SKIPS;
	if (skip == MMG_NR_SKIPS)
		folio_get(folio);
	folio_walk_end(&fw, t->vma);
	if (skip != MMG_NR_SKIPS)
		goto out_mm;

	/*
	 * The lock keeps the swap cache as it is. No waiting: whoever holds it
	 * has something to do with the page.
	 */
	skip = MMG_SKIP_BUSY;
	if (!folio_trylock(folio))
		goto out_page;
	t->locked = mmg_hold_begin();
	if (folio_test_large(folio)) {
		skip = MMG_SKIP_HUGE;
		/* One that no scan has seen yet has to be counted first. */
		if (huge)
			mmg_huge_set(chunk, true);
		if (!mmg_huge_may_split(chunk) ||
		    split_huge_page_keep_zeroes(t->page))
			goto out_lock;
		mmg_huge_was_split(chunk);
		folio = page_folio(t->page);
		skip = MMG_SKIP_BUSY;
	}
	/* Unmapped, replaced or merged between the walk and the lock? */
	if (!folio_test_anon(folio) || folio_test_ksm(folio) ||
	    PageHWPoison(t->page))
		goto out_lock;
	if (page_wrprotect(t->vma, folio, &t->pte))
		goto out_lock;
	/* It does not look at the references of a page it found read-only. */
	if (!mmg_unreferenced(folio))
		goto out_lock;
	return 0;

out_lock:
	folio_unlock(page_folio(t->page));
	mmg_hold_end(MMG_HOLD_FOLIO, t->locked);
out_page:
	put_page(t->page);
out_mm:
	mmap_read_unlock(t->mm);
	mmput_async(t->mm);
out:
	return -1 - (int)skip;
}

/**
 * mmg_same - do two pages hold the same?
 * @page_a: one
 * @page_b: the other
 * @next_a: page that will be wanted soon, is fetched meanwhile
 * @next_b: another such
 *
 * Most that get here do, so this is for going through all of them: one branch
 * for a cache line, and not a byte or a word at a time, as memcmp() of some
 * architectures does.
 *
 * Return: whether they do.
 */
bool mmg_same(struct page *page_a, struct page *page_b,
	      const struct page *next_a, const struct page *next_b)
{
	const u64 *first = kmap_local_page(page_a), *a = first;
	const u64 *second = kmap_local_page(page_b), *b = second;
	const u64 *end = first + PAGE_SIZE / sizeof(*first);
	const u64 *ahead_a = page_address(next_a);
	const u64 *ahead_b = page_address(next_b);
	u64 differ = 0;

	for (; a < end && !differ; a += 8, b += 8, ahead_a += 8, ahead_b += 8) {
		prefetch(ahead_a);
		prefetch(ahead_b);
		differ = (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) |
			 (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5]) |
			 (a[6] ^ b[6]) | (a[7] ^ b[7]);
	}
	kunmap_local(second);
	kunmap_local(first);
	return !differ;
}

/**
 * mmg_node_same - may two pages merge as far as their nodes matter?
 * @page: one
 * @folio: the other
 *
 * Return: whether they may.
 */
bool mmg_node_same(struct page *page, const struct folio *folio)
{
	return READ_ONCE(mmg_tunables.merge_across_nodes) ||
	       page_to_nid(page) == folio_nid(folio);
}

static u64 mmg_hash_of(const struct mmg_domain *domain, struct page *page)
{
	void *addr = kmap_local_page(page);
	u64 hash = mmg_hash(addr, mmg_page_key(domain, page), addr);

	kunmap_local(addr);
	return hash;
}

/*
 * A page was found by the hash of a shared page, and holds something else. It
 * may have been written since, or it is the shared page whose hash is not the
 * one of its content: it stood in the index with that, was written, and merged
 * in a run with a page that was written likewise. It would be in the way of all
 * pages that do have this hash.
 */
static void mmg_check_hash(struct mmg_shared *shared, struct page *page)
{
	struct mmg_domain *domain = shared->domain;
	u64 hash;

	if (mmg_hash_of(domain, page) != shared->hash)
		return;
	hash = mmg_hash_of(domain, folio_page(shared->folio, 0));
	if (hash != shared->hash)
		mmg_shared_rehash(shared, hash);
}

/**
 * mmg_merge_shared - make a page map a shared page, if it is equal
 * @chunk: of the page
 * @slot: of the page, whose entry is neither in the index nor on a chain
 * @shared: that holds the content which the page had when it was scanned
 * @next: page that is compared next, is fetched meanwhile; need not be there
 *
 * Return: 0, with the entry on the chain of @shared, or -1 - enum mmg_skip; a
 * page that has changed is BUSY.
 */
int mmg_merge_shared(struct mmg_chunk *chunk, unsigned int slot,
		     struct mmg_shared *shared, const struct page *next)
{
	struct folio *folio = mmg_shared_get(shared);
	struct mmg_target t;
	int err;

	if (!folio)
		return -1 - MMG_SKIP_BUSY;
	err = mmg_target_begin(&t, chunk, slot);
	if (err)
		goto out_folio;

	/*
	 * The lock is that of the chain, and keeps the page where it is. No
	 * waiting with another folio locked.
	 */
	err = -1 - MMG_SKIP_BUSY;
	if (!folio_trylock(folio))
		goto out_target;
	if (!mmg_folio_is(folio, shared) || folio_test_hwpoison(folio) ||
	    !mmg_node_same(t.page, folio))
		goto out_lock;
	if (!mmg_same(t.page, folio_page(folio, 0), next, next)) {
		mmg_check_hash(shared, t.page);
		goto out_lock;
	}
	if (!mmg_rmap_link(shared, chunk, slot, t.vma->anon_vma,
			   linear_page_index(t.vma, t.addr))) {
		err = -1 - MMG_SKIP_CROWDED;
		goto out_lock;
	}
	err = 0;
	if (replace_page(t.vma, t.page, folio_page(folio, 0), t.pte)) {
		mmg_rmap_unlink(shared, shared->first, MMG_SEEN);
		err = -1 - MMG_SKIP_BUSY;
	} else {
		trace_memmerge_merge(chunk->region, t.addr,
				     folio_page(folio, 0), false);
	}

out_lock:
	folio_unlock(folio);
out_target:
	mmg_target_end(&t);
out_folio:
	folio_put(folio);
	return err;
}

/**
 * mmg_merge_zero - make a page map the kernel's zero page, if it is all zero
 * @chunk: of the page
 * @slot: of the page
 * @next: see mmg_merge_shared()
 *
 * Return: 0, or -1 - enum mmg_skip.
 */
int mmg_merge_zero(struct mmg_chunk *chunk, unsigned int slot,
		   const struct page *next)
{
	struct mmg_target t;
	struct page *zero;
	int err;

	err = mmg_target_begin(&t, chunk, slot);
	if (err)
		return err;

	zero = ZERO_PAGE(t.addr);
	if (!mmg_same(t.page, zero, next, next) ||
	    replace_page(t.vma, t.page, zero, t.pte))
		err = -1 - MMG_SKIP_BUSY;
	else
		trace_memmerge_merge(chunk->region, t.addr, zero, true);
	mmg_target_end(&t);
	return err;
}

/**
 * mmg_share - let a description have a page
 * @shared: that mmg_shared_new() made
 * @chunk: of the page
 * @slot: of the page, whose entry is neither in the index nor on a chain
 * @page: anonymous, its folio small, locked and exclusive to nobody
 *
 * The place of all mappings of the page is what its mapping and index were. It
 * is made dirty: reclaim drops a clean page that is not in the swap cache.
 *
 * Return: false when there is no room for the place in the chunk.
 */
bool mmg_share(struct mmg_shared *shared, struct mmg_chunk *chunk,
	       unsigned int slot, struct page *page)
{
	struct folio *folio = page_folio(page);
	struct anon_vma *anon_vma =
		(void *)((unsigned long)folio->mapping & ~PAGE_MAPPING_FLAGS);

	if (!mmg_rmap_link(shared, chunk, slot, anon_vma, folio->index))
		return false;
	shared->folio = folio;
	folio_set_merge_owner(folio, &shared->owner);
	folio_mark_accessed(folio);
	folio_set_dirty(folio);
	return true;
}

/**
 * mmg_merge_first - make an ordinary page a shared page
 * @chunk: of the page
 * @slot: of the page, whose entry is neither in the index nor on a chain
 * @shared: that mmg_shared_new() made for the hash which the page had when
 *	it was scanned
 * @next: see mmg_merge_shared()
 *
 * The page stays where it is, and maybe others map it, too, after a fork. They
 * add to the demand, for which the caller need not have asked the guard.
 *
 * Return: 0, with the entry on the chain of @shared, or -1 - enum mmg_skip; a
 * page that does not have that hash any more is BUSY.
 */
int mmg_merge_first(struct mmg_chunk *chunk, unsigned int slot,
		    struct mmg_shared *shared, const struct page *next)
{
	struct mmg_target t;
	unsigned int forked;
	struct folio *folio;
	void *addr;
	u64 hash;
	int err;

	err = mmg_target_begin(&t, chunk, slot);
	if (err)
		return err;

	addr = kmap_local_page(t.page);
	hash = mmg_hash(addr, mmg_page_key(shared->domain, t.page),
			page_address(next));
	kunmap_local(addr);
	if (hash != shared->hash) {
		err = -1 - MMG_SKIP_BUSY;
		goto out;
	}

	/*
	 * Who refers to the page from swap may have nothing to do with this
	 * process: it was a shared page when it was swapped out. His place is
	 * on no chain, so he must not get a mapping of this page.
	 */
	folio = page_folio(t.page);
	if (folio_test_swapcache(folio) && !folio_free_swap(folio)) {
		err = -1 - MMG_SKIP_BUSY;
		goto out;
	}

	forked = folio_mapcount(folio) - 1;
	if (forked && !mmg_guard_take(shared->domain, forked)) {
		err = -1 - MMG_SKIP_GUARD;
		goto out;
	}

	if (!mmg_share(shared, chunk, slot, t.page)) {
		mmg_guard_give(shared->domain, forked);
		err = -1 - MMG_SKIP_CROWDED;
		goto out;
	}
	trace_memmerge_merge(chunk->region, t.addr, t.page, false);
out:
	mmg_target_end(&t);
	return err;
}

/**
 * struct mmg_find - looks for the next page to unmerge
 * @domain: whose shared pages are wanted
 * @zero: so are pages of zeroes put there by merging
 * @addr: out, of the page found
 */
struct mmg_find {
	struct mmg_domain *domain;
	bool zero;
	unsigned long addr;
};

static bool mmg_pte_merged(const struct mmg_find *find,
			   struct vm_area_struct *vma, unsigned long addr,
			   pte_t pte)
{
	struct mmg_shared *shared;
	struct page *page;

	if (!pte_present(pte))
		return false;
	if (is_ksm_zero_pte(pte))
		return find->zero;
	page = vm_normal_page(vma, addr, pte);
	shared = page ? mmg_page_shared(page) : NULL;
	return shared && shared->domain == find->domain;
}

static int mmg_find_merged(pmd_t *pmd, unsigned long addr, unsigned long end,
			   struct mm_walk *walk)
{
	struct mmg_find *find = walk->private;
	pte_t *start, *ptep;
	spinlock_t *ptl;
	int found = 0;

	/* Nothing below a huge page is merged: this then finds no table. */
	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start)
		return 0;
	for (ptep = start; addr < end; ptep++, addr += PAGE_SIZE) {
		if (mmg_pte_merged(find, walk->vma, addr, ptep_get(ptep))) {
			find->addr = addr;
			found = 1;
			break;
		}
	}
	pte_unmap_unlock(start, ptl);
	cond_resched();
	return found;
}

static const struct mm_walk_ops mmg_find_ops = {
	.pmd_entry = mmg_find_merged,
	.walk_lock = PGWALK_RDLOCK,
};

/* Give every merged page of [start, end) in @vma its own copy. */
static int mmg_unmerge_vma(struct mmg_domain *domain, bool zero,
			   struct vm_area_struct *vma, unsigned long start,
			   unsigned long end, u64 *pages)
{
	struct mmg_find find = { .domain = domain, .zero = zero };
	unsigned long last = 0;

	while (walk_page_range_vma(vma, start, end, &mmg_find_ops, &find) > 0) {
		vm_fault_t ret;

		if (fatal_signal_pending(current))
			return -EINTR;
		ret = handle_mm_fault(vma, find.addr, FAULT_FLAG_UNSHARE |
				      FAULT_FLAG_REMOTE, NULL);
		if (ret & VM_FAULT_OOM)
			return -ENOMEM;
		if (ret & VM_FAULT_ERROR)
			return -EFAULT;
		/* The fault may back out: then the page is found again. */
		if (find.addr != last)
			++*pages;
		last = find.addr;
		start = find.addr;
		cond_resched();
	}
	return 0;
}

/**
 * mmg_unmerge_range - give every merged page of a range its own copy
 * @region: of a domain whose shared pages are meant; pages that map the zero
 *	page are given their own in any case, but by an advised domain only if
 *	they can be its own
 * @start: first byte
 * @end: behind the last byte
 * @pages: in and out, pages that were given their own copy are added
 *
 * Uses the kernel's own copy-on-write fault. Nothing is lost when it fails.
 * What is swapped out stays there, and comes back unmerged.
 *
 * Return: 0; -ENOMEM if memory ran out, -EINTR on a fatal signal.
 */
int mmg_unmerge_range(struct mmg_region *region, unsigned long start,
		      unsigned long end, u64 *pages)
{
	struct mmg_domain *domain = region->domain;
	struct mm_struct *mm = region->mm;
	struct vm_area_struct *vma;
	unsigned long pos = start;
	int err = 0;

	if (!mmget_not_zero(mm))
		return 0;
	while (pos < end && !err) {
		/* One page table at a time: others want mmap_lock, too. */
		unsigned long stop = min(end, ALIGN_DOWN(pos, PMD_SIZE) +
					 PMD_SIZE);
		u64 locked;
		bool zero = !domain->advised ||
			    !mmg_domain_elsewhere(region, pos, &stop);

		mmap_read_lock(mm);
		locked = mmg_hold_begin();
		vma = find_vma(mm, pos);
		if (!vma || vma->vm_start >= end) {
			pos = end;
		} else if (is_vm_hugetlb_page(vma)) {
			pos = vma->vm_end;
		} else if (vma->vm_start >= stop) {
			pos = vma->vm_start;
		} else {
			unsigned long last = min(end, vma->vm_end);

			pos = mmg_next_table(vma, max(pos, vma->vm_start),
					     last);
			stop = min(stop, last);
			if (domain->advised &&
			    !(vma->vm_flags & VM_MERGEABLE))
				zero = false;
			if (pos < stop) {
				err = mmg_unmerge_vma(domain, zero, vma, pos,
						      stop, pages);
				pos = stop;
			}
		}
		mmap_read_unlock(mm);
		mmg_hold_end(MMG_HOLD_MMAP, locked);
		cond_resched();
	}
	mmput_async(mm);
	if (!err)
		mmg_region_unmerged(region, start, end);
	return err;
}
