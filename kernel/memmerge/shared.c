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
#include <linux/slab.h>

#include "internal.h"

/* How many pages of one content to look at for one with room. */
#define MMG_SHARED_TRIES	8

/* How many numbers to look at when tidying, most of which are nobody's. */
#define MMG_SHARED_SKIP		(16 * MMG_SHARED_TIDY)

/* One of how many of them to look at closely though nothing seems amiss. */
#define MMG_SHARED_PRUNE	64

static struct kmem_cache *mmg_shared_cache;

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
 * @pending: mappings to come, with entries that are not on the chain yet
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

	return shared->count + pending < limit &&
	       folio_mapcount(folio) + pending < limit &&
	       !folio_test_hwpoison(folio) &&
	       (READ_ONCE(mmg_tunables.merge_across_nodes) ||
		!READ_ONCE(shared->moved));
}

/*
 * Several pages may have one content, see mmg_shared_takes(). New ones are in
 * front of old ones, and one that is full may have room again, so not only the
 * newest one is looked at. Stops at one that is gone, which is @gone then.
 */
static struct mmg_shared *mmg_shared_look(const struct mmg_domain *domain,
					  struct mmg_shared *newest,
					  struct mmg_shared **gone)
{
	unsigned int tries = MMG_SHARED_TRIES;
	struct mmg_shared *shared;

	*gone = NULL;
	for (shared = newest; shared && tries--;
	     shared = mmg_index_older(&domain->index, shared)) {
		if (!mmg_shared_there(shared)) {
			*gone = shared;
			return NULL;
		}
		if (mmg_shared_takes(shared, 0))
			return shared;
	}
	return NULL;
}

/**
 * mmg_shared_find - find who has a content by its hash
 * @domain: to look in
 * @hash: of the content
 * @found: out, a shared page that takes another mapping, or NULL
 *
 * Frees descriptions of pages that are gone.
 *
 * Return: the id of an indexed entry that has it, or MMG_NIL.
 */
u32 mmg_shared_find(struct mmg_domain *domain, u64 hash,
		    struct mmg_shared **found)
{
	struct mmg_shared *newest, *gone;
	u32 id;

	do {
		id = mmg_index_find(&domain->index, hash, &newest);
		*found = mmg_shared_look(domain, newest, &gone);
		if (gone)
			mmg_shared_free(gone);
	} while (gone);
	return id;
}

/**
 * mmg_shared_claim - let a page be found by its hash, if nothing else is by that
 * @chunk: of the page
 * @slot: of the page, which is not in the index, with its hash set
 * @look: for the hash, from mmg_index_fetch(); or NULL
 * @found: out, a shared page that has it and takes another mapping, or NULL
 * @equal: out, the id of an indexed entry that has it, or MMG_NIL
 *
 * Frees descriptions of pages that are gone.
 *
 * Return: whether the page is in the index now. If it is not, @found and @equal
 * tell why; or all pages that share the content are full.
 */
bool mmg_shared_claim(struct mmg_chunk *chunk, unsigned int slot,
		      const struct mmg_look *look, struct mmg_shared **found,
		      u32 *equal)
{
	struct mmg_domain *domain = chunk->region->domain;
	struct mmg_shared *newest, *gone;

	*found = NULL;
	do {
		if (mmg_index_claim(&domain->index, mmg_entry_id(chunk, slot),
				    look, &newest, equal))
			return true;
		*found = mmg_shared_look(domain, newest, &gone);
		if (gone)
			mmg_shared_free(gone);
	} while (gone);
	return false;
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
	struct mmg_shared *newest, *gone;

	mmg_index_find(&domain->index, hash, &newest);
	return mmg_shared_look(domain, newest, &gone);
}

/**
 * mmg_shared_reserve - make room for the numbers of shared pages to come
 * @domain: of the pages
 * @nr: how many; without memory for it mmg_shared_new() may fail
 */
void mmg_shared_reserve(struct mmg_domain *domain, unsigned int nr)
{
	mmg_numbers_reserve(&domain->index.shared, nr);
}

/**
 * mmg_shared_new - make a description that no page points to yet
 * @chunk: of the page that is going to be the shared page
 * @slot: of that page, which is in the index; the description takes its place,
 *	and it has to be made something else
 * @look: for its hash, from mmg_index_fetch() under this hold of the lock; or
 *	NULL
 * @gfp: how to look for memory; it is not worth much trouble
 *
 * Return: the description, or NULL if there is no memory, or the content has a
 * shared page that takes another mapping.
 */
struct mmg_shared *mmg_shared_new(struct mmg_chunk *chunk, unsigned int slot,
				  const struct mmg_look *look, gfp_t gfp)
{
	struct mmg_domain *domain = chunk->region->domain;
	u32 id = mmg_entry_id(chunk, slot);
	struct mmg_shared *shared;

	shared = kmem_cache_zalloc(mmg_shared_cache,
				   gfp | __GFP_NORETRY | __GFP_NOWARN);
	if (!shared)
		return NULL;
	shared->owner.ops = &mmg_owner_ops[domain->advised];
	shared->hash = chunk->entries[slot].hash;
	shared->domain = domain;
	shared->first = MMG_NIL;
	if (!mmg_numbers_add(&domain->index.shared, shared, &shared->id)) {
		kmem_cache_free(mmg_shared_cache, shared);
		return NULL;
	}
	if (mmg_index_replace(&domain->index, id, look, shared))
		return shared;

	if (mmg_shared_peek(domain, shared->hash)) {
		mmg_numbers_remove(&domain->index.shared, shared->id);
		kmem_cache_free(mmg_shared_cache, shared);
		return NULL;
	}
	mmg_index_remove(&domain->index, id);
	mmg_index_insert_shared(&domain->index, shared);
	return shared;
}

/**
 * mmg_shared_rehash - give a description the hash that its content has
 * @shared: to be found by it
 * @hash: of the content
 */
void mmg_shared_rehash(struct mmg_shared *shared, u64 hash)
{
	struct mmg_index *index = &shared->domain->index;

	mmg_index_remove_shared(index, shared);
	shared->hash = hash;
	mmg_index_insert_shared(index, shared);
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

	mmg_index_remove_shared(&domain->index, shared);
	mmg_numbers_remove(&domain->index.shared, shared->id);
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
	return mmg_numbers_get(&domain->index.shared, id);
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
	mmg_numbers_for_each(&domain->index.shared, id, pos) {
		int mappings = mmg_shared_mappings(pos);

		if (mappings > 0) {
			++*shared;
			*sharing += mappings - 1;
		} else if (mappings < 0) {
			mmg_shared_free(pos);
		}
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
	const struct mmg_shared *pos;
	u64 shared, sharing;
	unsigned long id;

	/* Forget those that are gone. */
	mmg_shared_count(domain, &shared, &sharing);
	*contents = 0;
	*copies = 0;
	mmg_numbers_for_each(&domain->index.shared, id, pos) {
		if (pos->older == MMG_NIL && pos->newer == MMG_NIL)
			continue;
		++*copies;
		*contents += pos->newer == MMG_NIL;
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
	const struct mmg_numbers *numbers = &domain->index.shared;
	unsigned long id = domain->tidied, end = id + MMG_SHARED_SKIP;
	unsigned int left = MMG_SHARED_TIDY;

	for (; left && id < min(end, mmg_numbers_end(numbers)); id++) {
		struct mmg_shared *shared = mmg_shared_by_id(domain, id);

		if (shared) {
			mmg_shared_tidy_one(shared);
			left--;
		}
		cond_resched();
	}
	if (id >= mmg_numbers_end(numbers)) {
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
		mmg_numbers_for_each(&domain->index.shared, id, shared) {
			unsigned long pfn =
				folio_pfn(READ_ONCE(shared->folio));

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
