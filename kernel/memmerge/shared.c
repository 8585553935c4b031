// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - shared pages: the one copy that equal pages map
 *
 * A shared page was an ordinary anonymous page, and for reclaim, migration and
 * accounting it still is one: on its LRU list, charged to the memory cgroup
 * that first used it. Its mapping points to its description, by which mm finds
 * its mappings. It is freed with the last of them, as any page.
 *
 * The engine holds no reference, which would keep the page from being swapped
 * out. It remembers where the page is, and looks whether it points back: if
 * not, the page is gone, and its description is freed by whoever meets it.
 * mm has let go of a description when it is freed: its page was either freed,
 * or made nobody's under the folio lock, and mm calls the engine only with a
 * locked folio that points to a description. A description holds its domain,
 * which holds the module: no call comes too late.
 *
 * The number of mappings is the page's own map count, so the counters that
 * derive from it are exact whoever unmapped it.
 */
#include <linux/memory.h>
#include <linux/pagemap.h>
#include <linux/printk.h>
#include <linux/slab.h>

#include "internal.h"

/* How many pages of one content to look at for one with room. */
#define MMG_SHARED_TRIES	8

/* One of how many of them to look at closely though nothing seems amiss. */
#define MMG_SHARED_PRUNE	64

static struct kmem_cache *mmg_shared_cache;

static const struct rhashtable_params mmg_shared_params = {
	.key_len = sizeof(u64),
	.key_offset = offsetof(struct mmg_shared, hash),
	.head_offset = offsetof(struct mmg_shared, link),
	.automatic_shrinking = true,
};

static void mmg_shared_migrate(struct merge_owner *owner,
			       struct folio *newfolio)
{
	struct mmg_shared *shared = container_of(owner, struct mmg_shared,
						 owner);

	if (folio_nid(newfolio) != folio_nid(shared->folio))
		WRITE_ONCE(shared->moved, true);
	WRITE_ONCE(shared->folio, newfolio);
}

static bool mmg_shared_copies(const struct merge_owner *owner)
{
	return READ_ONCE(container_of(owner, struct mmg_shared,
				      owner)->copies);
}

/* Indexed by whether the domain is advised. */
static const struct merge_owner_ops mmg_owner_ops[] = {
	{
		.name = "memmerge",
		.next_place = mmg_rmap_next_place,
		.migrate = mmg_shared_migrate,
		.copies = mmg_shared_copies,
	},
	{
		.name = "memmerge on advice",
		.next_place = mmg_rmap_next_place,
		.migrate = mmg_shared_migrate,
		.copies = mmg_shared_copies,
		.advised = true,
	},
};

/**
 * mmg_shared_init - make a domain's empty table of shared pages
 * @domain: to initialise
 *
 * Return: 0 or a negative errno.
 */
int mmg_shared_init(struct mmg_domain *domain)
{
	xa_init_flags(&domain->shared_ids, XA_FLAGS_ALLOC | XA_FLAGS_ACCOUNT);
	return rhltable_init(&domain->shared, &mmg_shared_params);
}

/**
 * mmg_shared_destroy - free the table
 * @domain: with no shared page left
 */
void mmg_shared_destroy(struct mmg_domain *domain)
{
	WARN_ON_ONCE(domain->nr_shared);
	xa_destroy(&domain->shared_ids);
	rhltable_destroy(&domain->shared);
}

/**
 * mmg_folio_is - does a folio point back to a description
 * @folio: with a reference, or to be checked again
 * @shared: the description
 *
 * Return: whether it does.
 */
bool mmg_folio_is(struct folio *folio, const struct mmg_shared *shared)
{
	return folio_merge_owner(folio) == &shared->owner;
}

/* Has the folio not been freed? It may be so any time, unless we are told. */
static bool mmg_shared_there(struct mmg_shared *shared)
{
	struct folio *folio;

	do {
		folio = READ_ONCE(shared->folio);
		if (mmg_folio_is(folio, shared))
			return true;
		/* Or migrated? Pairs with folio_migrate_ksm(). */
		smp_rmb();
	} while (READ_ONCE(shared->folio) != folio);
	return false;
}

/**
 * mmg_shared_get - get the folio of a shared page
 * @shared: to look at
 *
 * As ksm_get_folio() does. While a folio's reference count is frozen, it is
 * either going away, or in the swap cache and being migrated.
 *
 * Return: the folio with a reference, or NULL when it is gone.
 */
struct folio *mmg_shared_get(struct mmg_shared *shared)
{
	while (mmg_shared_there(shared)) {
		struct folio *folio = READ_ONCE(shared->folio);

		if (!folio_try_get(folio)) {
			if (!folio_test_swapcache(folio) &&
			    READ_ONCE(shared->folio) == folio)
				return NULL;
			cpu_relax();
			continue;
		}
		if (mmg_folio_is(folio, shared))
			return folio;
		folio_put(folio);
	}
	return NULL;
}

/**
 * mmg_shared_lock - get and lock the folio of a shared page
 * @shared: to look at
 *
 * Return: the folio, to be given to mmg_shared_unlock(), or NULL when it is
 * gone.
 */
struct folio *mmg_shared_lock(struct mmg_shared *shared)
{
	struct folio *folio;

	while ((folio = mmg_shared_get(shared))) {
		folio_lock(folio);
		if (mmg_folio_is(folio, shared))
			break;
		folio_unlock(folio);
		folio_put(folio);
	}
	return folio;
}

/**
 * mmg_shared_unlock - undo mmg_shared_lock()
 * @shared: that was locked; freed if no entry is left on its chain
 * @folio: its folio
 */
void mmg_shared_unlock(struct mmg_shared *shared, struct folio *folio)
{
	/* Nothing maps a page without places; somebody still may hold it. */
	bool empty = !shared->count && !WARN_ON_ONCE(folio_mapped(folio));

	if (empty)
		folio_set_merge_owner(folio, NULL);
	folio_unlock(folio);
	folio_put(folio);
	if (empty)
		mmg_shared_free(shared);
}

/**
 * mmg_shared_takes - does a shared page take another mapping?
 * @shared: whose page is there
 * @pending: entries that have been put on its chain for mappings to come
 *
 * Both the mappings of a page and the length of its chain are bounded: with
 * them the time that a walk of its reverse map takes.
 *
 * Return: whether it does.
 */
bool mmg_shared_takes(const struct mmg_shared *shared, unsigned int pending)
{
	const unsigned int limit = READ_ONCE(mmg_tunables.max_page_sharing);
	struct folio *folio = READ_ONCE(shared->folio);

	return shared->count < limit &&
	       folio_mapcount(folio) + pending < limit &&
	       !folio_test_hwpoison(folio) &&
	       (READ_ONCE(mmg_tunables.merge_across_nodes) ||
		!READ_ONCE(shared->moved));
}

/*
 * Several pages may have one content, see mmg_shared_takes(). New ones are in
 * front of old ones, and one that is full may have room again, so not only the
 * first one is looked at. Stops at one that is gone, which is @gone then.
 */
static struct mmg_shared *mmg_shared_look(struct mmg_domain *domain, u64 hash,
					  struct mmg_shared **gone)
{
	unsigned int tries = MMG_SHARED_TRIES;
	struct mmg_shared *shared, *found = NULL;
	struct rhlist_head *list, *pos;

	*gone = NULL;
	rcu_read_lock();
	list = rhltable_lookup(&domain->shared, &hash, mmg_shared_params);
	rhl_for_each_entry_rcu(shared, pos, list, link) {
		if (!mmg_shared_there(shared))
			*gone = shared;
		else if (mmg_shared_takes(shared, 0))
			found = shared;
		if (*gone || found || !--tries)
			break;
	}
	rcu_read_unlock();
	return found;	/* domain->lock keeps it */
}

/**
 * mmg_shared_find - find a shared page that takes another mapping
 * @domain: to look in
 * @hash: of the content
 *
 * Frees descriptions of pages that are gone.
 *
 * Return: the shared page, or NULL.
 */
struct mmg_shared *mmg_shared_find(struct mmg_domain *domain, u64 hash)
{
	struct mmg_shared *found, *gone;

	do {
		found = mmg_shared_look(domain, hash, &gone);
		if (gone)
			mmg_shared_free(gone);
	} while (gone);
	return found;
}

/**
 * mmg_shared_peek - find a shared page that takes another mapping, or do not
 * @domain: to look in
 * @hash: of the content
 *
 * Leaves all as it is, and finds nothing if something is to be freed.
 *
 * Return: the shared page, or NULL.
 */
struct mmg_shared *mmg_shared_peek(struct mmg_domain *domain, u64 hash)
{
	struct mmg_shared *gone;

	return mmg_shared_look(domain, hash, &gone);
}

/**
 * mmg_shared_alloc - make a description that no page points to yet
 * @domain: that it is for
 * @hash: of the content that the page is going to have
 * @gfp: how to look for memory; it is not worth much trouble
 *
 * Return: the description, or NULL if there is no memory.
 */
struct mmg_shared *mmg_shared_alloc(struct mmg_domain *domain, u64 hash,
				    gfp_t gfp)
{
	struct mmg_shared *shared;

	gfp |= __GFP_NORETRY | __GFP_NOWARN;
	shared = kmem_cache_zalloc(mmg_shared_cache, gfp);
	if (!shared)
		return NULL;
	shared->owner.ops = &mmg_owner_ops[domain->advised];
	shared->hash = hash;
	shared->domain = domain;
	shared->first = MMG_NIL;
	if (xa_alloc(&domain->shared_ids, &shared->id, shared, xa_limit_32b,
		     gfp)) {
		kmem_cache_free(mmg_shared_cache, shared);
		return NULL;
	}
	domain->nr_shared++;
	return shared;
}

/**
 * mmg_shared_add - let a shared page be found
 * @shared: that mmg_shared_alloc() made, with its first mapping
 *
 * Without memory for its place in the table no further page will join it:
 * that costs one page until it is unmapped, and nothing else.
 */
void mmg_shared_add(struct mmg_shared *shared)
{
	if (rhltable_insert(&shared->domain->shared, &shared->link,
			    mmg_shared_params))
		pr_debug("no room in the table of shared pages\n");
}

/**
 * mmg_shared_rehash - give a description the hash that its content has
 * @shared: that mmg_shared_add() was called for
 * @hash: of the content
 */
void mmg_shared_rehash(struct mmg_shared *shared, u64 hash)
{
	rhltable_remove(&shared->domain->shared, &shared->link,
			mmg_shared_params);
	shared->hash = hash;
	mmg_shared_add(shared);
}

/**
 * mmg_shared_free - free a description
 * @shared: that no folio points to
 */
void mmg_shared_free(struct mmg_shared *shared)
{
	struct mmg_domain *domain = shared->domain;

	while (shared->first != MMG_NIL) {
		u32 id = shared->first;
		const struct mmg_chunk *chunk =
			mmg_index_chunk(&domain->index, id);

		mmg_rmap_unlink(shared, id,
				chunk->marks[mmg_id_slot(id)].state ==
					MMG_SHARED ? MMG_MAPPED : MMG_NONE);
	}

	/* Not in the table: mmg_shared_add() failed, or was not called. */
	rhltable_remove(&domain->shared, &shared->link, mmg_shared_params);
	xa_erase(&domain->shared_ids, shared->id);
	domain->nr_shared--;
	/* Lookups hold domain->lock: there is no reader to wait for. */
	kmem_cache_free(mmg_shared_cache, shared);
}

/**
 * mmg_shared_by_id - find a shared page by its number
 * @domain: of the page
 * @id: of the page
 *
 * Return: its description, or NULL.
 */
struct mmg_shared *mmg_shared_by_id(struct mmg_domain *domain, u32 id)
{
	return xa_load(&domain->shared_ids, id);
}

/**
 * mmg_page_shared - find out whether a page is a shared page of this engine
 * @page: that is mapped, under the page table lock
 *
 * Return: its description, or NULL.
 */
struct mmg_shared *mmg_page_shared(struct page *page)
{
	struct merge_owner *owner = folio_merge_owner(page_folio(page));

	if (!owner || (owner->ops != &mmg_owner_ops[false] &&
		       owner->ops != &mmg_owner_ops[true]))
		return NULL;
	return container_of(owner, struct mmg_shared, owner);
}

/* The number of mappings of a shared page, or -1 when it is gone. */
static int mmg_shared_mappings(struct mmg_shared *shared)
{
	struct folio *folio;
	int mappings;

	do {
		if (!mmg_shared_there(shared))
			return -1;
		folio = READ_ONCE(shared->folio);
		mappings = folio_mapcount(folio);
		/* It was this folio's if that is ours before and after. */
		smp_rmb();
	} while (!mmg_folio_is(folio, shared));

	/* On its way to another folio a page has no mappings. */
	if (!mappings && folio_test_locked(folio)) {
		folio = mmg_shared_lock(shared);
		if (!folio)
			return -1;
		mappings = folio_mapcount(folio);
		folio_unlock(folio);
		folio_put(folio);
	}
	return mappings;
}

/**
 * mmg_shared_count - count shared pages
 * @domain: to count in
 * @shared: out, pages that are mapped
 * @sharing: out, further mappings of them
 */
void mmg_shared_count(struct mmg_domain *domain, u64 *shared, u64 *sharing)
{
	struct mmg_shared *pos;
	unsigned long id;

	*shared = 0;
	*sharing = 0;
	xa_for_each(&domain->shared_ids, id, pos) {
		int mappings = mmg_shared_mappings(pos);

		if (mappings > 0) {
			++*shared;
			*sharing += mappings - 1;
		} else if (mappings < 0) {
			mmg_shared_free(pos);
		}
		cond_resched();
	}
	mmg_guard_counted(domain, *sharing);
}

/**
 * mmg_shared_copies_count - count contents of which there are several copies
 * @domain: to count in
 * @contents: out, how many
 * @copies: out, the shared pages that have them
 */
void mmg_shared_copies_count(struct mmg_domain *domain, u64 *contents,
			     u64 *copies)
{
	struct mmg_shared *pos;
	u64 shared, sharing;
	unsigned long id;

	/* Forget those that are gone. */
	mmg_shared_count(domain, &shared, &sharing);
	*contents = 0;
	*copies = 0;
	xa_for_each(&domain->shared_ids, id, pos) {
		struct rhlist_head *list;

		rcu_read_lock();
		list = rhltable_lookup(&domain->shared, &pos->hash,
				       mmg_shared_params);
		if (list && rcu_access_pointer(list->next)) {
			++*copies;
			*contents += list == &pos->link;
		}
		rcu_read_unlock();
		cond_resched();
	}
}

static void mmg_shared_tidy_one(struct mmg_shared *shared)
{
	int mappings = mmg_shared_mappings(shared);
	struct folio *folio;

	if (mappings < 0) {
		mmg_shared_free(shared);
		return;
	}
	/*
	 * Each entry on the chain once stood for a mapping: are some of these
	 * gone? Forked ones may hide it, so now and then look in any case.
	 */
	if (mappings >= shared->count &&
	    (shared->id ^ shared->domain->tidies) % MMG_SHARED_PRUNE)
		return;
	folio = mmg_shared_lock(shared);
	if (!folio) {
		mmg_shared_free(shared);
		return;
	}
	if (shared->domain->closed && !folio_mapped(folio)) {
		/* Out in swap: whoever wants it back gets a copy. */
		folio_set_merge_owner(folio, NULL);
		folio_unlock(folio);
		folio_put(folio);
		mmg_shared_free(shared);
		return;
	}
	mmg_rmap_prune(shared, folio);
	mmg_shared_unlock(shared, folio);
}

/**
 * mmg_shared_tidy - let go of what no scan is going to look at
 * @domain: that has chunks without region, or is closed, when all are
 *
 * Looks at a limited number of shared pages, and at others the next time.
 */
void mmg_shared_tidy(struct mmg_domain *domain)
{
	unsigned int left = MMG_SHARED_TIDY;
	unsigned long id = domain->tidied;
	struct mmg_shared *shared;

	xa_for_each_start(&domain->shared_ids, id, shared, domain->tidied) {
		if (!left--)
			break;
		mmg_shared_tidy_one(shared);
		cond_resched();
	}
	if (!shared) {
		domain->tidies++;
		id = 0;
	}
	domain->tidied = id;
}

/* Memory goes away: the pages in it have, the descriptions must not linger. */
static int mmg_memory_callback(struct notifier_block *self,
			       unsigned long action, void *arg)
{
	const struct memory_notify *notify = arg;
	struct mmg_domain *domain = NULL;
	struct mmg_shared *shared;
	unsigned long id;

	if (action != MEM_OFFLINE)
		return NOTIFY_OK;

	while ((domain = mmg_domain_next(domain))) {
		mmg_domain_lock(domain);
		xa_for_each(&domain->shared_ids, id, shared) {
			unsigned long pfn = folio_pfn(READ_ONCE(shared->folio));

			if (pfn - notify->start_pfn < notify->nr_pages)
				mmg_shared_free(shared);
		}
		mmg_domain_unlock(domain);
	}
	return NOTIFY_OK;
}

static struct notifier_block mmg_memory_notifier = {
	.notifier_call = mmg_memory_callback,
	.priority = DEFAULT_CALLBACK_PRI,
};

/**
 * mmg_shared_start - set up what all domains share
 *
 * Return: 0 or a negative errno.
 */
int mmg_shared_start(void)
{
	int err;

	mmg_shared_cache = KMEM_CACHE(mmg_shared, SLAB_ACCOUNT);
	if (!mmg_shared_cache)
		return -ENOMEM;
	err = register_memory_notifier(&mmg_memory_notifier);
	if (err)
		kmem_cache_destroy(mmg_shared_cache);
	return err;
}

/**
 * mmg_shared_stop - undo mmg_shared_start()
 */
void mmg_shared_stop(void)
{
	unregister_memory_notifier(&mmg_memory_notifier);
	kmem_cache_destroy(mmg_shared_cache);
}
