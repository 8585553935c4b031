// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the guard: no more is merged than may have to be unshared
 *
 * Whoever writes a merged page gets one of his own, so merging is a promise
 * of memory that the host may not have when all want theirs at once. The
 * demand is the number of pages that it would take to unshare everything: all
 * mappings of shared pages but one each, and all of the zero page that merging
 * has put there. A domain and the host can have a limit of it; what would go
 * beyond is not merged. Nothing that is merged is unmerged for a limit.
 *
 * The mappings of shared pages are known exactly when they have been counted,
 * which takes a look at each shared page. Between two counts each merge adds
 * what it does, so the engine by itself never exceeds a limit. Pages that are
 * written or unmapped meanwhile make the demand smaller than it is taken for.
 * What is not the engine's doing can make it larger than the limit: fork()
 * copies the mappings of a process, and a page that was out in swap may be
 * mapped again from the swap cache. The next count sees it.
 *
 * A limit that is reached is a reason to count again, but not more often than
 * that a page is looked at for each page that is scanned, or once for each
 * scan that is asked for.
 */
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/swap.h>

#include "internal.h"

/* The demand of all domains, as far as it comes from shared pages; in pages. */
static atomic64_t mmg_guard_sharing = ATOMIC64_INIT(0);

/**
 * mmg_guard_limit - the limit of the host
 * @bytes: limit in bytes, or -1 for none
 * @percent: limit in percent of @supply, or -1 for none
 * @supply: what the host could give, in pages
 *
 * Return: pages, the smaller of both.
 */
u64 mmg_guard_limit(s64 bytes, int percent, u64 supply)
{
	u64 limit = bytes < 0 ? U64_MAX : (u64)bytes >> PAGE_SHIFT;

	if (percent >= 0)
		limit = min(limit, mul_u64_u32_div(supply, percent, 100));
	return limit;
}

/**
 * mmg_guard_left - how much of a limit is left
 * @limit: the limit
 * @demand: what is taken of it, maybe more than there is
 *
 * Return: the difference, or 0.
 */
u64 mmg_guard_left(u64 limit, u64 demand)
{
	return demand < limit ? limit - demand : 0;
}

/**
 * mmg_guard_supply - how much memory the host could give
 *
 * Return: pages: free ones, those that reclaim gets without swapping, and room
 * in swap.
 */
u64 mmg_guard_supply(void)
{
	return max(si_mem_available(), 0L) + max(get_nr_swap_pages(), 0L);
}

/* Exact, whoever has written or forked meanwhile; KSM's own are among them. */
static u64 mmg_guard_zero(void)
{
	return max(atomic_long_read(&ksm_zero_pages), 0L);
}

static u64 mmg_guard_host_limit(void)
{
	s64 bytes = READ_ONCE(mmg_tunables.unshare_limit);
	int percent = READ_ONCE(mmg_tunables.unshare_limit_percent);

	return mmg_guard_limit(bytes, percent,
			       percent < 0 ? 0 : mmg_guard_supply());
}

/**
 * mmg_guard_demand - demand of a domain
 * @domain: whose lock is held
 *
 * Return: pages; as exact as the last mmg_shared_count(), and as the last look
 * at those that map the zero page.
 */
u64 mmg_guard_demand(const struct mmg_domain *domain)
{
	return domain->guard.sharing + domain->nr_zero;
}

/**
 * mmg_guard_host_demand - demand of all domains
 *
 * Return: pages; as exact as the last mmg_shared_count() of each, but for the
 * zero page, where it is exact.
 */
u64 mmg_guard_host_demand(void)
{
	return atomic64_read(&mmg_guard_sharing) + mmg_guard_zero();
}

/**
 * mmg_guard_counted - the shared pages of a domain have been counted
 * @domain: whose lock is held, or that nobody else knows any more
 * @sharing: mappings beside one of each page
 */
void mmg_guard_counted(struct mmg_domain *domain, u64 sharing)
{
	struct mmg_guard *guard = &domain->guard;

	atomic64_add(sharing - guard->sharing, &mmg_guard_sharing);
	guard->sharing = sharing;
	guard->scanned = 0;
	guard->recount = false;
}

static u64 mmg_guard_room(struct mmg_domain *domain)
{
	struct mmg_guard *guard = &domain->guard;

	return min(mmg_guard_left(guard->limit >> PAGE_SHIFT,
				  mmg_guard_demand(domain)),
		   mmg_guard_left(guard->host_limit, mmg_guard_host_demand()));
}

/**
 * mmg_guard_begin - pages are going to be scanned
 * @domain: whose lock is held; its shared pages may be counted, which frees
 *	descriptions
 * @pages: how many
 *
 * Return: whether any of them may be merged.
 */
bool mmg_guard_begin(struct mmg_domain *domain, unsigned int pages)
{
	struct mmg_guard *guard = &domain->guard;
	u64 shared, sharing;

	guard->host_limit = mmg_guard_host_limit();
	if (mmg_guard_room(domain) < pages &&
	    (guard->recount || guard->scanned >= mmg_numbers_end(&domain->index.shared)))
		mmg_shared_count(domain, &shared, &sharing);
	guard->scanned += pages;
	return mmg_guard_room(domain);
}

/**
 * mmg_guard_take - ask for leave to merge
 * @domain: whose lock is held, after mmg_guard_begin()
 * @pages: that the demand will grow by
 *
 * Return: whether it may; then it has grown.
 */
bool mmg_guard_take(struct mmg_domain *domain, unsigned int pages)
{
	struct mmg_guard *guard = &domain->guard;
	u64 sharing;

	if (mmg_guard_left(guard->limit >> PAGE_SHIFT,
			   mmg_guard_demand(domain)) < pages)
		return false;

	/* Add, and then look: other domains take at the same time. */
	sharing = atomic64_add_return(pages, &mmg_guard_sharing);
	if (sharing + mmg_guard_zero() > guard->host_limit) {
		atomic64_sub(pages, &mmg_guard_sharing);
		return false;
	}
	guard->sharing += pages;
	return true;
}

/**
 * mmg_guard_give - what was taken was not used, or is counted elsewhere
 * @domain: whose lock is held
 * @pages: as they were given to mmg_guard_take()
 */
void mmg_guard_give(struct mmg_domain *domain, unsigned int pages)
{
	domain->guard.sharing -= pages;
	atomic64_sub(pages, &mmg_guard_sharing);
}

/**
 * mmg_guard_tidy - keep the host's demand in step with domains not scanned
 * @domain: whose lock is held
 *
 * Called once a second. While the host has a limit, the shared pages of each
 * domain are counted from time to time, the more seldom the more there are.
 */
void mmg_guard_tidy(struct mmg_domain *domain)
{
	u64 shared, sharing;

	if (mmg_guard_host_limit() == U64_MAX)
		return;
	if (++domain->guard.age <= mmg_numbers_end(&domain->index.shared) / MMG_SHARED_TIDY)
		return;
	domain->guard.age = 0;
	mmg_shared_count(domain, &shared, &sharing);
}

#ifdef CONFIG_MEMMERGE_KUNIT_TEST
#include "guard_kunit.c"
#endif
