// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - advice: memory that madvise() and prctl() have offered
 *
 * mm/ksm.c keeps the list of processes that have asked for merging, and
 * VM_MERGEABLE of their mappings, whichever engine is chosen. While it is this
 * one, there is an advised domain with a region for each of these processes. It
 * spans the whole address space, and what of it counts is looked up as the
 * scanner goes along: page tables with something in them, in VM_MERGEABLE
 * mappings, outside of the regions of other domains. A range that a program has
 * registered belongs to the domain that it chose; what was merged there on
 * advice is given back at the beginning of the next round.
 *
 * MADV_UNMERGEABLE and PR_SET_MEMORY_MERGE=0 unmerge without the engine, with
 * mmap_lock held for write. A merge on advice looks at VM_MERGEABLE under that
 * lock, so none comes after it. The entries are found out by the next pass.
 *
 * mmg_choice_lock is taken before domain->lock.
 */
#include <linux/bitmap.h>
#include <linux/bsearch.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/pagewalk.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/swap.h>
#include <linux/uaccess.h>

#include "internal.h"

static DEFINE_MUTEX(mmg_choice_lock);

/* The advised domain while this engine is chosen; under mmg_choice_lock. */
static struct mmg_domain *mmg_advised;

/* Processes may have asked that have no region yet. */
static atomic_t mmg_advice_news;

static void mmg_advice_wake(void)
{
	atomic_set(&mmg_advice_news, 1);
	mmg_scanner_wake();
}

static const struct merge_engine mmg_engine = {
	.wake = mmg_advice_wake,
};

/* Processes that have asked for merging, sorted by address of the mm. */
struct mmg_mms {
	struct mm_struct **mms;
	unsigned long *known;
	unsigned long nr;
};

static int mmg_mm_compare(const void *a, const void *b)
{
	unsigned long mm_a = *(unsigned long *)a, mm_b = *(unsigned long *)b;

	return mm_a < mm_b ? -1 : mm_a > mm_b;
}

static int mmg_mms_get(struct mmg_mms *list)
{
	unsigned long room = 0;

	list->mms = NULL;
	list->known = NULL;
	for (;;) {
		list->nr = merge_engine_mms(list->mms, room);
		if (list->nr <= room)
			break;
		kvfree(list->mms);
		room = list->nr + 16;
		list->mms = kvmalloc_array(room, sizeof(*list->mms),
					   GFP_KERNEL | __GFP_NOWARN);
		if (!list->mms)
			return -ENOMEM;
	}
	sort(list->mms, list->nr, sizeof(*list->mms), mmg_mm_compare, NULL);
	return 0;
}

static void mmg_mms_put(struct mmg_mms *list)
{
	unsigned long i;

	for (i = 0; i < list->nr; i++)
		mmdrop(list->mms[i]);
	bitmap_free(list->known);
	kvfree(list->mms);
}

/* Note which of the processes have a region in @domain. */
static int mmg_mms_know(struct mmg_mms *list, struct mmg_domain *domain)
{
	struct mmg_region *region;

	list->known = bitmap_zalloc(list->nr, GFP_KERNEL | __GFP_NOWARN);
	if (!list->known)
		return -ENOMEM;
	list_for_each_entry(region, &domain->regions, list) {
		struct mm_struct **found =
			bsearch(&region->mm, list->mms, list->nr,
				sizeof(*list->mms), mmg_mm_compare);

		if (found)
			__set_bit(found - list->mms, list->known);
	}
	return 0;
}

static int mmg_advice_add(struct mmg_domain *domain, struct mm_struct *mm)
{
	struct mmg_region *region;

	if (!mmget_not_zero(mm))
		return 0;
	/* mm->task_size is 0 until exec has come to its end. */
	region = mmg_domain_add_region(domain, mm, 0, TASK_SIZE_MAX);
	mmput_async(mm);
	return PTR_ERR_OR_ZERO(region);
}

/**
 * mmg_advice_sync - have a region for each process that has asked for merging
 * @domain: the advised domain, whose lock is held
 *
 * Regions of processes that have exited are left to mmg_domain_tidy().
 *
 * Return: 0; -ENOMEM when some are missing, which the next call makes up for.
 */
int mmg_advice_sync(struct mmg_domain *domain)
{
	struct mmg_mms list;
	unsigned long i;
	int err;

	if (!atomic_xchg(&mmg_advice_news, 0))
		return 0;

	err = mmg_mms_get(&list);
	if (!err && list.nr) {
		err = mmg_mms_know(&list, domain);
		for (i = 0; !err && i < list.nr; i++)
			if (!test_bit(i, list.known))
				err = mmg_advice_add(domain, list.mms[i]);
		mmg_mms_put(&list);
	}
	if (err)
		atomic_set(&mmg_advice_news, 1);
	return err;
}

/**
 * mmg_advice_pending - may there be processes without a region
 *
 * Return: whether mmg_advice_sync() has something to do.
 */
bool mmg_advice_pending(void)
{
	return atomic_read(&mmg_advice_news);
}

static int mmg_advice_found(pmd_t *pmd, unsigned long addr, unsigned long end,
			    struct mm_walk *walk)
{
	*(unsigned long *)walk->private = addr;
	return 1;
}

static const struct mm_walk_ops mmg_advice_ops = {
	.pmd_entry = mmg_advice_found,
	.walk_lock = PGWALK_RDLOCK,
};

/**
 * mmg_next_table - skip what was never touched
 * @vma: to look in, mmap_lock held for read
 * @addr: where to begin
 * @end: where to end, in @vma
 *
 * Return: the first address at or behind @addr that has a page table or a huge
 * page, or @end.
 */
unsigned long mmg_next_table(struct vm_area_struct *vma, unsigned long addr,
			     unsigned long end)
{
	unsigned long found = end;

	walk_page_range_vma(vma, addr, end, &mmg_advice_ops, &found);
	return found;
}

/* The next piece of advised memory: at most one page table of one vma. */
static unsigned long mmg_advice_find(struct mmg_region *region,
				     unsigned long addr, unsigned long *stop)
{
	struct mm_struct *mm = region->mm;
	struct vm_area_struct *vma;

	*stop = region->end;
	if (!mmget_not_zero(mm))
		return region->end;
	mmap_read_lock(mm);
	for (vma = find_vma(mm, addr); vma; vma = find_vma(mm, addr)) {
		addr = max(addr, vma->vm_start);
		if (addr >= region->end)
			break;
		if (vma->vm_flags & VM_MERGEABLE && vma->anon_vma) {
			addr = mmg_next_table(vma, addr, vma->vm_end);
			if (addr < vma->vm_end) {
				*stop = min(vma->vm_end,
					    ALIGN_DOWN(addr, PMD_SIZE) +
					    PMD_SIZE);
				break;
			}
		}
		addr = vma->vm_end;
	}
	mmap_read_unlock(mm);
	mmput_async(mm);
	return vma && addr < region->end ? addr : region->end;
}

/**
 * mmg_advice_next - move the cursor of an advised region to advised memory
 * @region: of the advised domain, whose lock is held
 *
 * Return: where that memory ends, at the latest at the end of its page table;
 * the cursor is at the end of the region when there is no more.
 */
unsigned long mmg_advice_next(struct mmg_region *region)
{
	unsigned long stop;

	do {
		region->cursor = mmg_advice_find(region, region->cursor, &stop);
		if (region->cursor == region->end ||
		    !mmg_domain_elsewhere(region, region->cursor, &stop))
			break;
		region->cursor = stop;
	} while (stop < region->end);
	return stop;
}

/*
 * Let go what is remembered of memory that is not advised any more, and of what
 * other domains have registered since, when that is unmerged.
 */
static void mmg_advice_sweep(struct mmg_region *region)
{
	unsigned long pos = region->start, start, stop;
	u64 pages = 0;

	while (region->nr_chunks && pos < region->end) {
		start = mmg_advice_find(region, pos, &stop);
		mmg_region_drop(region, pos, start);
		pos = start;
		if (start == region->end)
			break;
		if (mmg_domain_elsewhere(region, start, &stop) &&
		    xa_load(&region->chunks, start >> PMD_SHIFT) &&
		    !mmg_unmerge_range(region, start, stop, &pages))
			mmg_region_drop(region, start, stop);
		pos = stop;
		cond_resched();
	}
}

/**
 * mmg_advice_round - a round begins: have what is advised, and no more
 * @domain: an advised domain
 */
void mmg_advice_round(struct mmg_domain *domain)
{
	bool news = mmg_advice_pending();
	struct mmg_region *region;

	mmg_domain_lock_alone(domain);
	if (!domain->closed && !domain->idle) {
		/* Without memory for all of them there is a next time. */
		mmg_advice_sync(domain);
		list_for_each_entry(region, &domain->regions, list)
			mmg_advice_sweep(region);
	}
	mmg_domain_unlock_alone(domain);
	/* What is new may be in per-CPU LRU caches, which would look like pins. */
	if (news)
		lru_add_drain_all();
}

/**
 * mmg_advice_chosen - is this engine the chosen one
 *
 * Return: whether advised memory is merged by it.
 */
bool mmg_advice_chosen(void)
{
	return READ_ONCE(mmg_advised);
}

static void mmg_advice_idle(struct mmg_domain *domain, bool idle)
{
	mmg_domain_lock(domain);
	domain->idle = idle;
	mmg_domain_unlock(domain);
	mmg_scanner_wake();
}

static int mmg_advice_begin(void)
{
	struct mmg_domain *domain = mmg_domain_new(true);
	int err;

	if (IS_ERR(domain))
		return PTR_ERR(domain);
	err = merge_engine_set(&mmg_engine);
	if (err) {
		mmg_domain_close(domain);
		return err;
	}
	__module_get(THIS_MODULE);
	WRITE_ONCE(mmg_advised, domain);
	/* Those that have asked before did not wake us. */
	atomic_set(&mmg_advice_news, 1);
	mmg_advice_idle(domain, false);
	mmg_scanner_watch();
	return 0;
}

/*
 * Nothing is merged on advice any more, then nothing is left merged, and only
 * then KSM may begin.
 */
static int mmg_advice_end(void)
{
	struct mmg_domain *domain = mmg_advised;
	int err;

	mmg_advice_idle(domain, true);
	set_current_oom_origin();
	err = mmg_unmerge_domain(domain);
	clear_current_oom_origin();
	if (!err)
		err = merge_engine_set(NULL);
	if (err) {
		mmg_advice_idle(domain, false);
		return err;
	}
	WRITE_ONCE(mmg_advised, NULL);
	mmg_domain_close(domain);
	module_put(THIS_MODULE);
	return 0;
}

/**
 * mmg_advice_choose - choose the engine that merges advised memory
 * @memmerge: this one, or KSM
 *
 * Either unmerges what it has merged on advice before the other begins. While
 * this one is chosen the module cannot be removed.
 *
 * Return: 0; -ENOMEM or -EINTR when unmerging stopped half-way: the choice is
 * what it was.
 */
int mmg_advice_choose(bool memmerge)
{
	int err = 0;

	mutex_lock(&mmg_choice_lock);
	if (memmerge != mmg_advice_chosen())
		err = memmerge ? mmg_advice_begin() : mmg_advice_end();
	mutex_unlock(&mmg_choice_lock);
	return err;
}
