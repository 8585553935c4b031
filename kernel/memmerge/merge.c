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
#include <linux/pagewalk.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/userfaultfd_k.h>
#include <linux/xxhash.h>

#include "internal.h"

/**
 * struct mmg_target - a page that is about to be replaced
 * @mm: address space, with a reference, mmap_lock held for read
 * @vma: around @addr
 * @addr: of the page
 * @page: the page, with a reference, its folio small and locked
 * @pte: what page_wrprotect() left behind
 */
struct mmg_target {
	struct mm_struct *mm;
	struct vm_area_struct *vma;
	unsigned long addr;
	struct page *page;
	pte_t pte;
};

/**
 * mmg_vma_skip - why nothing in a mapping can be merged
 * @vma: to look at
 *
 * Return: the reason, or MMG_NR_SKIPS if its pages can be merged.
 */
enum mmg_skip mmg_vma_skip(struct vm_area_struct *vma)
{
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

static void mmg_target_end(struct mmg_target *t)
{
	folio_unlock(page_folio(t->page));
	put_page(t->page);
	mmap_read_unlock(t->mm);
	mmput_async(t->mm);
}

/*
 * Find the page at @addr once more and make it read-only. Returns 0 with @t
 * filled in, to be given to mmg_target_end(), or a negative enum mmg_skip - 1.
 */
static int mmg_target_begin(struct mmg_target *t, struct mmg_region *region,
			    unsigned long addr)
{
	enum mmg_skip skip = MMG_SKIP_ABSENT;
	struct folio_walk fw;
	struct folio *folio;

	t->mm = region->mm;
	t->addr = addr;
	if (!mmget_not_zero(t->mm))
		goto out;
	mmap_read_lock(t->mm);

	t->vma = vma_lookup(t->mm, addr);
	if (!t->vma)
		goto out_mm;
	skip = mmg_vma_skip(t->vma);
	if (skip != MMG_NR_SKIPS)
		goto out_mm;

	skip = MMG_SKIP_ABSENT;
	folio = folio_walk_start(&fw, t->vma, addr, 0);
	if (!folio)
		goto out_mm;
	t->page = fw.page;
	if (folio_is_zone_device(folio))
		skip = MMG_SKIP_SPECIAL;
	else if (!folio_test_anon(folio))
		skip = MMG_SKIP_FILE;
	else if (folio_test_ksm(folio))
		skip = MMG_SKIP_FOREIGN;
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
	if (folio_test_large(folio)) {
		skip = MMG_SKIP_HUGE;
		if (split_huge_page(t->page))
			goto out_lock;
		folio = page_folio(t->page);
		skip = MMG_SKIP_BUSY;
	}
	/* Unmapped, replaced or merged between the walk and the lock? */
	if (!folio_test_anon(folio) || folio_test_ksm(folio) ||
	    PageHWPoison(t->page))
		goto out_lock;
	if (page_wrprotect(t->vma, folio, &t->pte))
		goto out_lock;
	return 0;

out_lock:
	folio_unlock(page_folio(t->page));
out_page:
	put_page(t->page);
out_mm:
	mmap_read_unlock(t->mm);
	mmput_async(t->mm);
out:
	return -1 - (int)skip;
}

static bool mmg_same(struct page *a, struct page *b)
{
	void *addr_a = kmap_local_page(a);
	void *addr_b = kmap_local_page(b);
	bool same = !memcmp(addr_a, addr_b, PAGE_SIZE);

	kunmap_local(addr_b);
	kunmap_local(addr_a);
	return same;
}

static int mmg_merge_page(struct mmg_region *region, unsigned long addr,
			  struct page *kpage)
{
	struct mmg_target t;
	int err;

	err = mmg_target_begin(&t, region, addr);
	if (err)
		return err;

	if (!mmg_same(t.page, kpage) ||
	    replace_page(t.vma, t.page, kpage, t.pte))
		err = -1 - MMG_SKIP_BUSY;
	mmg_target_end(&t);
	return err;
}

/**
 * mmg_merge_shared - make a page map a shared page, if it is equal
 * @region: of the page
 * @addr: of the page
 * @shared: that holds the content which the page had when it was scanned
 *
 * Return: 0, or -1 - enum mmg_skip; a page that has changed is BUSY.
 */
int mmg_merge_shared(struct mmg_region *region, unsigned long addr,
		     struct mmg_shared *shared)
{
	return mmg_merge_page(region, addr, shared->page);
}

/**
 * mmg_merge_zero - make a page map the kernel's zero page, if it is all zero
 * @region: of the page
 * @addr: of the page
 *
 * Return: as mmg_merge_shared().
 */
int mmg_merge_zero(struct mmg_region *region, unsigned long addr)
{
	return mmg_merge_page(region, addr, ZERO_PAGE(addr));
}

/**
 * mmg_merge_first - give a new shared page its content and first mapping
 * @region: of the page
 * @addr: of the page
 * @shared: that mmg_shared_alloc() made for the hash which the page had when
 *	it was scanned
 *
 * The page's content is copied to the shared page, and the page then maps
 * that copy. The content is only taken if it still has that hash.
 *
 * Return: as mmg_merge_shared().
 */
int mmg_merge_first(struct mmg_region *region, unsigned long addr,
		    struct mmg_shared *shared)
{
	struct mmg_target t;
	void *from, *to;
	u64 hash;
	int err;

	err = mmg_target_begin(&t, region, addr);
	if (err)
		return err;

	from = kmap_local_page(t.page);
	to = kmap_local_page(shared->page);
	copy_page(to, from);
	hash = xxh64(to, PAGE_SIZE, region->domain->key);
	kunmap_local(to);
	kunmap_local(from);
	__folio_mark_uptodate(page_folio(shared->page));

	if (hash != shared->hash ||
	    replace_page(t.vma, t.page, shared->page, t.pte))
		err = -1 - MMG_SKIP_BUSY;
	mmg_target_end(&t);
	return err;
}

/**
 * struct mmg_find - looks for the next page to unmerge
 * @domain: whose shared pages are wanted
 * @addr: out, of the page found
 */
struct mmg_find {
	struct mmg_domain *domain;
	unsigned long addr;
};

static bool mmg_pte_merged(struct mmg_domain *domain,
			   struct vm_area_struct *vma, unsigned long addr,
			   pte_t pte)
{
	struct mmg_shared *shared;
	struct page *page;

	if (!pte_present(pte))
		return false;
	if (is_ksm_zero_pte(pte))
		return true;
	page = vm_normal_page(vma, addr, pte);
	shared = page ? mmg_page_shared(page) : NULL;
	return shared && shared->domain == domain;
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
		if (mmg_pte_merged(find->domain, walk->vma, addr,
				   ptep_get(ptep))) {
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
static int mmg_unmerge_vma(struct mmg_domain *domain,
			   struct vm_area_struct *vma, unsigned long start,
			   unsigned long end, u64 *pages)
{
	struct mmg_find find = { .domain = domain };
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
 * @domain: whose shared pages are meant; pages that map the zero page are
 *	given their own in any case
 * @mm: address space
 * @start: first byte
 * @end: behind the last byte
 * @pages: in and out, pages that were given their own copy are added
 *
 * Uses the kernel's own copy-on-write fault. Nothing is lost when it fails.
 *
 * Return: 0; -ENOMEM if memory ran out, -EINTR on a fatal signal.
 */
int mmg_unmerge_range(struct mmg_domain *domain, struct mm_struct *mm,
		      unsigned long start, unsigned long end, u64 *pages)
{
	struct vm_area_struct *vma;
	int err = 0;

	if (!mmget_not_zero(mm))
		return 0;
	while (start < end && !err) {
		/* One page table at a time: others want mmap_lock, too. */
		unsigned long stop = min(end, ALIGN_DOWN(start, PMD_SIZE) +
					 PMD_SIZE);

		mmap_read_lock(mm);
		vma = find_vma(mm, start);
		if (!vma || vma->vm_start >= end) {
			start = end;
		} else if (vma->vm_start >= stop) {
			start = vma->vm_start;
		} else {
			start = max(start, vma->vm_start);
			stop = min(stop, vma->vm_end);
			if (mmg_vma_skip(vma) != MMG_SKIP_HUGETLB)
				err = mmg_unmerge_vma(domain, vma, start, stop,
						      pages);
			start = stop;
		}
		mmap_read_unlock(mm);
		cond_resched();
	}
	mmput_async(mm);
	return err;
}
