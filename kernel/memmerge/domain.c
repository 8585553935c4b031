// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - domains: what may be merged with what
 *
 * A domain lives as long as its file is open. When the file is closed while
 * there are shared pages, the domain stays on, closed: nothing waits, it is not
 * scanned, only there to know its shared pages, their reverse map and the
 * ranges in which they are, until the last of them is gone. It then also holds
 * a reference to the module.
 *
 * mmg_domains_lock protects the list of domains, which a domain leaves with
 * its last reference; the list of regions of a domain is changed under both
 * that and domain->lock, so either is enough to read it.
 */
#include <linux/module.h>
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "internal.h"

DEFINE_MUTEX(mmg_domains_lock);
LIST_HEAD(mmg_domains);
static unsigned int mmg_domains_made;

/* Sums since the module was loaded; the lock is innermost. */
static DEFINE_SPINLOCK(mmg_totals_lock);
static struct mmg_totals mmg_totals;

/**
 * mmg_totals_read - read the sums over all domains, past ones included
 * @totals: out
 */
void mmg_totals_read(struct mmg_totals *totals)
{
	spin_lock(&mmg_totals_lock);
	*totals = mmg_totals;
	spin_unlock(&mmg_totals_lock);
}

/**
 * mmg_totals_add_cpu - account CPU time of scanning
 * @region: that was scanned, of a domain whose lock is held
 * @ns: nanoseconds
 */
void mmg_totals_add_cpu(struct mmg_region *region, u64 ns)
{
	region->totals.cpu_ns += ns;
	region->domain->totals.cpu_ns += ns;
	spin_lock(&mmg_totals_lock);
	mmg_totals.cpu_ns += ns;
	spin_unlock(&mmg_totals_lock);
}

/**
 * mmg_domain_count - account what a piece of a scan did
 * @domain: that was scanned
 * @pass: what was done
 * @unshared: shared pages found to have been written
 */
void mmg_domain_count(struct mmg_domain *domain, const struct mmg_pass *pass,
		      u64 unshared)
{
	struct mmg_totals add = {
		.scanned = pass->scanned,
		.merged = pass->merged,
		.zeroed = pass->zeroed,
		.unread = pass->unread,
		.waited = pass->waited,
		.unshared = unshared,
	};
	struct mmg_totals *sums[] = { &domain->totals, &mmg_totals };
	unsigned int i;

	for (i = 0; i < MMG_NR_SKIPS; i++)
		add.skipped += pass->skip[i];
	add.refused = pass->skip[MMG_SKIP_GUARD];

	spin_lock(&mmg_totals_lock);
	for (i = 0; i < ARRAY_SIZE(sums); i++) {
		sums[i]->scanned += add.scanned;
		sums[i]->merged += add.merged;
		sums[i]->zeroed += add.zeroed;
		sums[i]->unread += add.unread;
		sums[i]->waited += add.waited;
		sums[i]->skipped += add.skipped;
		sums[i]->refused += add.refused;
		sums[i]->unshared += add.unshared;
	}
	spin_unlock(&mmg_totals_lock);
}

/**
 * mmg_domain_new - make a domain
 * @advised: of advised memory; it is idle
 *
 * Return: the domain, or an ERR_PTR().
 */
struct mmg_domain *mmg_domain_new(bool advised)
{
	struct mmg_domain *domain;
	int err;

	domain = kzalloc(sizeof(*domain), GFP_KERNEL_ACCOUNT);
	if (!domain)
		return ERR_PTR(-ENOMEM);
	err = mmg_index_init(&domain->index);
	if (err) {
		mmg_index_destroy(&domain->index);
		kfree(domain);
		return ERR_PTR(err);
	}

	kref_init(&domain->ref);
	init_rwsem(&domain->busy);
	mutex_init(&domain->lock);
	INIT_LIST_HEAD(&domain->regions);
	domain->advised = advised;
	domain->idle = advised;
	domain->next_id = 1;
	domain->key = get_random_u64();
	domain->guard.limit = U64_MAX;

	mutex_lock(&mmg_domains_lock);
	domain->id = ++mmg_domains_made;
	list_add_tail(&domain->node, &mmg_domains);
	mutex_unlock(&mmg_domains_lock);
	return domain;
}

static void mmg_domain_release(struct kref *ref)
{
	struct mmg_domain *domain = container_of(ref, struct mmg_domain, ref);

	list_del(&domain->node);
	mutex_unlock(&mmg_domains_lock);

	mmg_guard_counted(domain, 0);
	mmg_index_destroy(&domain->index);
	kfree(domain);
}

/**
 * mmg_domain_put - give up a reference
 * @domain: as mmg_domain_next() returned it
 */
void mmg_domain_put(struct mmg_domain *domain)
{
	kref_put_mutex(&domain->ref, mmg_domain_release, &mmg_domains_lock);
}

/**
 * mmg_domain_lock - lock a domain
 * @domain: to lock
 */
void mmg_domain_lock(struct mmg_domain *domain)
{
	mutex_lock(&domain->lock);
	domain->locked = mmg_hold_begin();
}

/**
 * mmg_domain_unlock - undo mmg_domain_lock()
 * @domain: to unlock
 */
void mmg_domain_unlock(struct mmg_domain *domain)
{
	u64 locked = domain->locked;

	mutex_unlock(&domain->lock);
	mmg_hold_end(MMG_HOLD_DOMAIN, locked);
}

/**
 * mmg_domain_lock_alone - lock a domain that no scan is at work on
 * @domain: to lock; waits for the scans of chunks that have begun
 */
void mmg_domain_lock_alone(struct mmg_domain *domain)
{
	down_write(&domain->busy);
	mmg_domain_lock(domain);
}

/**
 * mmg_domain_unlock_alone - undo mmg_domain_lock_alone()
 * @domain: to unlock
 */
void mmg_domain_unlock_alone(struct mmg_domain *domain)
{
	mmg_domain_unlock(domain);
	up_write(&domain->busy);
}

/**
 * mmg_domain_next - go through all domains
 * @domain: the last one, whose reference is given up, or NULL to begin
 *
 * Return: the next domain with a reference, or NULL behind the last.
 */
struct mmg_domain *mmg_domain_next(struct mmg_domain *domain)
{
	struct mmg_domain *next = NULL;
	struct list_head *pos;

	mutex_lock(&mmg_domains_lock);
	pos = domain ? domain->node.next : mmg_domains.next;
	if (pos != &mmg_domains) {
		next = list_entry(pos, struct mmg_domain, node);
		kref_get(&next->ref);
	}
	mutex_unlock(&mmg_domains_lock);

	if (domain)
		mmg_domain_put(domain);
	return next;
}

/**
 * mmg_domain_add_region - register a range
 * @domain: whose lock is held
 * @mm: address space
 * @start: first byte, see mmg_range_check()
 * @length: bytes
 *
 * Advised memory can be registered, and belongs to the advised domain no more
 * then: its regions are no obstacle, nor are others to it.
 *
 * Return: the region, or an ERR_PTR(): -EEXIST or -EBUSY if the range overlaps
 * one of this or another domain, -EOVERFLOW if the domain would be too large,
 * -ENOMEM.
 */
struct mmg_region *mmg_domain_add_region(struct mmg_domain *domain,
					 struct mm_struct *mm,
					 unsigned long start,
					 unsigned long length)
{
	unsigned long pages = domain->advised ? 0 : length >> PAGE_SHIFT;
	struct mmg_region *region, *pos;
	struct mmg_domain *other;
	int err = 0;

	if (domain->nr_pages + pages > MMG_MAX_PAGES)
		return ERR_PTR(-EOVERFLOW);
	region = mmg_region_new(domain, mm, start, length);
	if (!region)
		return ERR_PTR(-ENOMEM);

	mutex_lock(&mmg_domains_lock);
	list_for_each_entry(other, &mmg_domains, node) {
		if (READ_ONCE(other->closed) ||
		    domain->advised != other->advised)
			continue;
		list_for_each_entry(pos, &other->regions, list)
			if (pos->mm == mm && pos->start < region->end &&
			    start < pos->end)
				err = other == domain ? -EEXIST : -EBUSY;
	}
	if (!err) {
		region->id = domain->next_id++;
		list_add_tail(&region->list, &domain->regions);
		domain->nr_pages += pages;
	}
	mutex_unlock(&mmg_domains_lock);

	if (err) {
		mmg_region_free(region);
		return ERR_PTR(err);
	}
	return region;
}

/**
 * mmg_domain_remove_region - forget a range
 * @region: of a domain that mmg_domain_lock_alone() has locked
 */
void mmg_domain_remove_region(struct mmg_region *region)
{
	struct mmg_domain *domain = region->domain;

	mutex_lock(&mmg_domains_lock);
	list_del(&region->list);
	mutex_unlock(&mmg_domains_lock);
	if (domain->turn == region)
		domain->turn = NULL;
	if (!domain->advised)
		domain->nr_pages -= (region->end - region->start) >> PAGE_SHIFT;
	mmg_region_free(region);
}

/**
 * mmg_domain_elsewhere - has a program registered a piece of advised memory
 * @region: of an advised domain
 * @start: first byte
 * @stop: behind the last byte; out, at most where the answer changes
 *
 * Return: whether @start is in a region of a domain that is not advised.
 */
bool mmg_domain_elsewhere(const struct mmg_region *region, unsigned long start,
			  unsigned long *stop)
{
	struct mmg_domain *domain;
	struct mmg_region *pos;
	bool elsewhere = false;

	mutex_lock(&mmg_domains_lock);
	list_for_each_entry(domain, &mmg_domains, node) {
		if (domain->advised || READ_ONCE(domain->closed))
			continue;
		list_for_each_entry(pos, &domain->regions, list) {
			if (pos->mm != region->mm || pos->end <= start ||
			    pos->start >= *stop)
				continue;
			if (pos->start <= start) {
				elsewhere = true;
				*stop = min(*stop, pos->end);
			} else {
				*stop = pos->start;
			}
		}
	}
	mutex_unlock(&mmg_domains_lock);
	return elsewhere;
}

/* Is it time to look for what the reverse map needs no longer? */
static bool mmg_domain_prunes(struct mmg_domain *domain)
{
	unsigned int msecs =
		READ_ONCE(mmg_tunables.stable_node_chains_prune_millisecs);

	if (!domain->nr_detached ||
	    time_before64(get_jiffies_64(),
			  domain->pruned + msecs_to_jiffies(msecs)))
		return false;
	domain->pruned = get_jiffies_64();
	return true;
}

/**
 * mmg_domain_tidy - let go of what is no longer needed
 * @domain: that mmg_domain_lock_alone() has locked
 *
 * Regions of processes that have exited go, what only the reverse map needed
 * and it needs no longer, and, once it is closed and the last shared page is
 * gone, the domain itself. The caller's own reference keeps the structure.
 *
 * Return: whether that has happened now: the caller gives up the reference
 * that the open file had.
 */
bool mmg_domain_tidy(struct mmg_domain *domain)
{
	struct mmg_region *region, *next;

	list_for_each_entry_safe(region, next, &domain->regions, list)
		if (!atomic_read(&region->mm->mm_users))
			mmg_domain_remove_region(region);
	if (domain->closed || mmg_domain_prunes(domain))
		mmg_shared_tidy(domain);
	mmg_guard_tidy(domain);
	if (!domain->closed || domain->index.shared.count || domain->ended)
		return false;

	list_for_each_entry_safe(region, next, &domain->regions, list)
		mmg_domain_remove_region(region);
	domain->ended = true;
	return true;
}

/**
 * mmg_domain_close - the file of a domain is gone
 * @domain: to close; the caller's reference is used up
 *
 * Needs no memory. What is merged stays shared, and mmg_domain_tidy() ends
 * the domain when the last of it is gone.
 */
void mmg_domain_close(struct mmg_domain *domain)
{
	struct mmg_region *region;
	bool done;

	mmg_domain_lock_alone(domain);
	WRITE_ONCE(domain->closed, true);
	list_for_each_entry(region, &domain->regions, list)
		mmg_region_forget(region);
	done = mmg_domain_tidy(domain);
	if (!done)
		__module_get(THIS_MODULE);
	mmg_domain_unlock_alone(domain);

	if (done)
		mmg_domain_put(domain);
	else
		mmg_scanner_watch();
}

/**
 * mmg_domain_region - find a region by its number
 * @domain: whose lock is held
 * @id: of the region
 *
 * Return: the region or NULL.
 */
struct mmg_region *mmg_domain_region(struct mmg_domain *domain, u64 id)
{
	struct mmg_region *region;

	list_for_each_entry(region, &domain->regions, list)
		if (region->id == id)
			return region;
	return NULL;
}

/**
 * mmg_domain_figures - what the engine does to a process
 * @mm: of the process
 * @figures: in and out, what all domains do is added
 */
void mmg_domain_figures(struct mm_struct *mm, struct merge_figures *figures)
{
	struct mmg_domain *domain = NULL;
	struct mmg_region *region;

	while ((domain = mmg_domain_next(domain))) {
		mmg_domain_lock(domain);
		list_for_each_entry(region, &domain->regions, list) {
			if (region->mm != mm)
				continue;
			figures->merging_pages += region->nr[MMG_SHARED] +
						  region->nr[MMG_MAPPED];
			figures->rmap_items +=
				region->nr_chunks * MMG_CHUNK_PAGES -
				region->nr[MMG_NONE];
			figures->bytes += mmg_region_metadata(region);
		}
		mmg_domain_unlock(domain);
	}
}

/**
 * mmg_domain_metadata - memory that a domain takes
 * @domain: whose lock is held
 *
 * Return: bytes of the engine's own, shared pages not counted.
 */
unsigned long mmg_domain_metadata(struct mmg_domain *domain)
{
	unsigned long bytes = sizeof(*domain) +
			      mmg_index_metadata(&domain->index) +
			      domain->index.shared.count * sizeof(struct mmg_shared) +
			      domain->nr_detached * MMG_CHUNK_BYTES;
	struct mmg_region *region;

	list_for_each_entry(region, &domain->regions, list)
		bytes += mmg_region_metadata(region);
	return bytes;
}
