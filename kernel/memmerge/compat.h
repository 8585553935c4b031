/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * memmerge - what the module builds on and Linux 6.1 does not have
 *
 * The module is written for 6.12. Here is what a header can make up for, one
 * block a difference; the rest is in kernel/patches/6.1.
 */
#ifndef _MEMMERGE_COMPAT_H
#define _MEMMERGE_COMPAT_H

#include <linux/page-flags.h>
#include <linux/version.h>

#ifndef PAGE_MAPPING_OWNED
#error "These headers are of a kernel without the patches of kernel/patches"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)

#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/pagewalk.h>
#include <linux/rcupdate.h>

/* The first ones did not have the name. */
#ifndef kvfree_rcu_mightsleep
#define kvfree_rcu_mightsleep(ptr) kvfree_rcu(ptr)
#endif

/* Splitting a huge page does no merging of its own yet. */
#define split_huge_page_keep_zeroes(page) split_huge_page(page)

/* No mapping is droppable. */
#define VM_DROPPABLE		0

/* Memory notifiers: the usual priority has no name. */
#define DEFAULT_CALLBACK_PRI	0

/* Reading a PMD: other names, and none where a plain read is enough. */
#define pmdp_get_lockless(pmdp)	pmd_read_atomic(pmdp)
#define pmdp_get(pmdp)		READ_ONCE(*(pmdp))

/*
 * A PMD that points to a page table keeps it while mmap_lock is held for read,
 * so pte_offset_map_lock() cannot fail, and it is the caller who looks whether
 * there is one.
 */
static inline pte_t *mmg_pte_offset_map_lock(struct mm_struct *mm, pmd_t *pmd,
					     unsigned long addr,
					     spinlock_t **ptl)
{
	pmd_t val = pmd_read_atomic(pmd);

	if (!pmd_present(val) || pmd_trans_huge(val) || pmd_devmap(val) ||
	    pmd_bad(val))
		return NULL;
	return pte_offset_map_lock(mm, pmd, addr, ptl);
}

#undef pte_offset_map_lock
#define pte_offset_map_lock	mmg_pte_offset_map_lock

/*
 * There is no folio_walk_start(). A walk over the one page does it, that comes
 * back with the page table lock held when it has found a page.
 */
enum folio_walk_level {
	FW_LEVEL_PTE,
	FW_LEVEL_PMD,
};

struct folio_walk {
	struct page *page;
	enum folio_walk_level level;
	pte_t *ptep;
	spinlock_t *ptl;
};

static inline int mmg_folio_walk_pmd(pmd_t *pmd, unsigned long addr,
				     unsigned long end, struct mm_walk *walk)
{
	struct folio_walk *fw = walk->private;

	if (pmd_trans_huge(pmdp_get_lockless(pmd))) {
		fw->ptl = pmd_lock(walk->mm, pmd);
		if (pmd_present(*pmd) && pmd_trans_huge(*pmd)) {
			fw->page = pmd_page(*pmd) +
				   ((addr & ~PMD_MASK) >> PAGE_SHIFT);
			fw->level = FW_LEVEL_PMD;
			return 1;
		}
		spin_unlock(fw->ptl);
	}

	fw->ptep = pte_offset_map_lock(walk->mm, pmd, addr, &fw->ptl);
	if (!fw->ptep)
		return 0;
	if (pte_present(*fw->ptep))
		fw->page = vm_normal_page(walk->vma, addr, *fw->ptep);
	if (fw->page)
		return 1;
	pte_unmap_unlock(fw->ptep, fw->ptl);
	return 0;
}

static inline struct folio *folio_walk_start(struct folio_walk *fw,
					     struct vm_area_struct *vma,
					     unsigned long addr, int flags)
{
	static const struct mm_walk_ops ops = {
		.pmd_entry = mmg_folio_walk_pmd,
		.walk_lock = PGWALK_RDLOCK,
	};

	memset(fw, 0, sizeof(*fw));
	addr &= PAGE_MASK;
	if (walk_page_range_vma(vma, addr, addr + PAGE_SIZE, &ops, fw) <= 0)
		return NULL;
	return page_folio(fw->page);
}

static inline void folio_walk_end(struct folio_walk *fw,
				  struct vm_area_struct *vma)
{
	if (fw->level == FW_LEVEL_PTE)
		pte_unmap_unlock(fw->ptep, fw->ptl);
	else
		spin_unlock(fw->ptl);
}

#endif /* 6.1 */
#endif /* _MEMMERGE_COMPAT_H */
