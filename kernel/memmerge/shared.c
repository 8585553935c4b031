// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - shared pages: the one copy that equal pages map
 *
 * A shared page is the kernel's own, not on an LRU list, so reclaim and
 * migration do not see it: it cannot be swapped. The engine holds one
 * reference; the number of mappings is the page's map count, so the counters
 * that derive from it are exact whoever unmapped it.
 */
#include <linux/printk.h>
#include <linux/slab.h>

#include "internal.h"

/* How many pages of one content to look at for one with room. */
#define MMG_SHARED_TRIES	8

static const char mmg_owner_name[] = "memmerge";

static struct kmem_cache *mmg_shared_cache;

/*
 * Owner of a page that lost its description while somebody else still had a
 * reference to it. It stays what it is to mm, and nobody's.
 */
static struct merge_owner mmg_nobody = { .name = "memmerge (gone)" };

static const struct rhashtable_params mmg_shared_params = {
	.key_len = sizeof(u64),
	.key_offset = offsetof(struct mmg_shared, hash),
	.head_offset = offsetof(struct mmg_shared, link),
	.automatic_shrinking = true,
};

/**
 * mmg_shared_init - make a domain's empty table of shared pages
 * @domain: to initialise
 *
 * Return: 0 or a negative errno.
 */
int mmg_shared_init(struct mmg_domain *domain)
{
	INIT_LIST_HEAD(&domain->shared_list);
	domain->nr_shared = 0;
	return rhltable_init(&domain->shared, &mmg_shared_params);
}

/**
 * mmg_shared_destroy - free the table
 * @domain: with no shared page left
 */
void mmg_shared_destroy(struct mmg_domain *domain)
{
	WARN_ON_ONCE(!list_empty(&domain->shared_list));
	rhltable_destroy(&domain->shared);
}

/**
 * mmg_shared_find - find a shared page that takes another mapping
 * @domain: to look in
 * @hash: of the content
 *
 * Return: the shared page, or NULL.
 */
struct mmg_shared *mmg_shared_find(struct mmg_domain *domain, u64 hash)
{
	unsigned int tries = MMG_SHARED_TRIES;
	struct mmg_shared *shared, *found = NULL;
	struct rhlist_head *list, *pos;

	rcu_read_lock();
	list = rhltable_lookup(&domain->shared, &hash, mmg_shared_params);
	rhl_for_each_entry_rcu(shared, pos, list, link) {
		if (folio_mapcount(page_folio(shared->page)) <
		    READ_ONCE(mmg_tunables.max_page_sharing)) {
			found = shared;
			break;
		}
		if (!--tries)
			break;
	}
	rcu_read_unlock();
	return found;	/* domain->lock keeps it */
}

/**
 * mmg_shared_alloc - make a shared page that nothing maps yet
 * @domain: that it is for
 * @hash: of the content that the caller is going to put there
 *
 * Return: the page, or NULL if there is no memory.
 */
struct mmg_shared *mmg_shared_alloc(struct mmg_domain *domain, u64 hash)
{
	const gfp_t relaxed = __GFP_NORETRY | __GFP_NOWARN;
	struct mmg_shared *shared;
	struct folio *folio;

	shared = kmem_cache_zalloc(mmg_shared_cache, GFP_KERNEL | relaxed);
	if (!shared)
		return NULL;
	shared->page = alloc_page(GFP_HIGHUSER | relaxed);
	if (!shared->page) {
		kmem_cache_free(mmg_shared_cache, shared);
		return NULL;
	}

	shared->owner.name = mmg_owner_name;
	shared->hash = hash;
	shared->domain = domain;
	INIT_LIST_HEAD(&shared->list);

	folio = page_folio(shared->page);
	__folio_set_swapbacked(folio);
	folio_set_merge_owner(folio, &shared->owner);
	return shared;
}

/**
 * mmg_shared_add - let a shared page be found
 * @shared: that mmg_shared_alloc() made, with its content
 *
 * Without memory for its place in the table no further page will join it:
 * that costs one page until it is unmapped, and nothing else.
 */
void mmg_shared_add(struct mmg_shared *shared)
{
	struct mmg_domain *domain = shared->domain;

	if (rhltable_insert(&domain->shared, &shared->link, mmg_shared_params))
		pr_debug("no room in the table of shared pages\n");
	list_add_tail(&shared->list, &domain->shared_list);
	domain->nr_shared++;
}

/**
 * mmg_shared_free - give up a shared page
 * @shared: that nothing maps any more
 */
void mmg_shared_free(struct mmg_shared *shared)
{
	struct mmg_domain *domain = shared->domain;
	struct folio *folio = page_folio(shared->page);

	VM_WARN_ON_FOLIO(folio_mapped(folio), folio);
	if (!list_empty(&shared->list)) {
		rhltable_remove(&domain->shared, &shared->link,
				mmg_shared_params);
		list_del(&shared->list);
		domain->nr_shared--;
	}
	folio_set_merge_owner(folio, &mmg_nobody);
	folio_put(folio);
	/* Lookups hold domain->lock: there is no reader to wait for. */
	kmem_cache_free(mmg_shared_cache, shared);
}

/**
 * mmg_page_shared - find out whether a page is a shared page of this engine
 * @page: that is mapped
 *
 * Return: its description, or NULL.
 */
struct mmg_shared *mmg_page_shared(struct page *page)
{
	struct merge_owner *owner = folio_merge_owner(page_folio(page));

	if (!owner || owner->name != mmg_owner_name)
		return NULL;
	return container_of(owner, struct mmg_shared, owner);
}

/**
 * mmg_shared_count - count shared pages and free those that nothing maps
 * @domain: to count in
 * @shared: out, pages that are mapped
 * @sharing: out, further mappings of them
 */
void mmg_shared_count(struct mmg_domain *domain, u64 *shared, u64 *sharing)
{
	struct mmg_shared *pos, *next;

	*shared = 0;
	*sharing = 0;
	list_for_each_entry_safe(pos, next, &domain->shared_list, list) {
		int mapcount = folio_mapcount(page_folio(pos->page));

		/* From 0 only the engine itself could map it again. */
		if (mapcount) {
			++*shared;
			*sharing += mapcount - 1;
		} else {
			mmg_shared_free(pos);
		}
		cond_resched();
	}
}

/**
 * mmg_shared_cache_create - set up what all domains share
 *
 * Return: 0 or -ENOMEM.
 */
int mmg_shared_cache_create(void)
{
	mmg_shared_cache = KMEM_CACHE(mmg_shared, SLAB_ACCOUNT);
	return mmg_shared_cache ? 0 : -ENOMEM;
}

/**
 * mmg_shared_cache_destroy - undo mmg_shared_cache_create()
 */
void mmg_shared_cache_destroy(void)
{
	kmem_cache_destroy(mmg_shared_cache);
}
