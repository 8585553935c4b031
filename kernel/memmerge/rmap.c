// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the reverse map: from a shared page to its mappings
 *
 * Every mapping of a shared page comes from one that a merge has made: it is
 * that one, or fork() has copied it, or mremap() has moved it. The merge puts
 * the entry of the page that it replaced on the chain of the shared page. The
 * entry stands for the place, an anon_vma and a page offset, at which mm finds
 * the mapping and all that came from it, see struct merge_place. A chunk keeps
 * the anon_vmas of its few places; the page offset follows from the address.
 *
 * An entry leaves the chain when nothing is mapped at its place any more, or
 * the shared page is gone. That its own page was written, or its region was
 * removed, or its process has exited, is not enough.
 *
 * The chain, and what is noted of it for each entry (shared, prev, next, place),
 * is changed under domain->lock and the lock of the folio. So mm, which holds
 * the latter, and the engine, which holds the former, can go along it. The
 * chunk of an entry on a chain is there, and so are the places it names.
 */
#include <linux/rmap.h>

#include "internal.h"

/* Find a place of @chunk, or make it. Returns its number or -1. */
static int mmg_place_get(struct mmg_chunk *chunk, struct anon_vma *anon_vma,
			 unsigned long shift)
{
	int i, unused = -1;

	for (i = 0; i < MMG_CHUNK_PLACES; i++) {
		struct mmg_place *place = &chunk->places[i];

		if (!place->users)
			unused = i;
		else if (place->anon_vma == anon_vma && place->shift == shift)
			break;
	}
	if (i == MMG_CHUNK_PLACES) {
		if (unused < 0)
			return -1;
		i = unused;
		get_anon_vma(anon_vma);
		chunk->places[i].anon_vma = anon_vma;
		chunk->places[i].shift = shift;
	}
	chunk->places[i].users++;
	return i;
}

static void mmg_place_put(struct mmg_place *place)
{
	if (!--place->users)
		put_anon_vma(place->anon_vma);
}

static void mmg_rmap_place(const struct mmg_chunk *chunk, unsigned int slot,
			   struct merge_place *out)
{
	const struct mmg_place *place =
		&chunk->places[chunk->marks[slot].place];

	out->anon_vma = place->anon_vma;
	out->pgoff = (chunk->start >> PAGE_SHIFT) + slot + place->shift;
	out->next = chunk->next[slot];
}

/**
 * mmg_rmap_next_place - go through the places of a shared page, for mm
 * @owner: of the page, whose folio is locked
 * @place: in and out, see struct merge_owner_ops
 *
 * Return: false behind the last.
 */
bool mmg_rmap_next_place(const struct merge_owner *owner,
			 struct merge_place *place)
{
	const struct mmg_shared *shared =
		container_of(owner, struct mmg_shared, owner);
	u32 id = place->anon_vma ? place->next : shared->first;
	const struct mmg_chunk *chunk;

	if (id == MMG_NIL)
		return false;
	/* The chunk stays, but not what it is found by. */
	rcu_read_lock();
	chunk = mmg_index_chunk(&shared->domain->index, id);
	rcu_read_unlock();
	mmg_rmap_place(chunk, mmg_id_slot(id), place);
	return true;
}

static struct mmg_entry *mmg_rmap_entry(const struct mmg_shared *shared, u32 id)
{
	struct mmg_chunk *chunk = mmg_index_chunk(&shared->domain->index, id);

	return &chunk->entries[mmg_id_slot(id)];
}

/**
 * mmg_rmap_link - put an entry on the chain of a shared page
 * @shared: whose folio is locked
 * @chunk: of the entry
 * @slot: of the entry, which is neither in the index nor on a chain
 * @anon_vma: of the place where the mapping is
 * @pgoff: of the place where the mapping is
 *
 * Return: false when there is no room for the place in the chunk.
 */
bool mmg_rmap_link(struct mmg_shared *shared, struct mmg_chunk *chunk,
		   unsigned int slot, struct anon_vma *anon_vma, pgoff_t pgoff)
{
	struct mmg_entry *entry = &chunk->entries[slot];
	u32 id = mmg_entry_id(chunk, slot);
	int place;

	place = mmg_place_get(chunk, anon_vma,
			      pgoff - (chunk->start >> PAGE_SHIFT) - slot);
	if (place < 0)
		return false;

	mmg_region_set(chunk, slot, MMG_SHARED, false);
	chunk->marks[slot].place = place;
	entry->shared = shared->id;
	entry->prev = MMG_NIL;
	chunk->next[slot] = shared->first;
	if (shared->first != MMG_NIL)
		mmg_rmap_entry(shared, shared->first)->prev = id;
	shared->first = id;
	shared->count++;
	chunk->chained++;
	return true;
}

/**
 * mmg_rmap_unlink - take an entry off the chain of a shared page
 * @shared: whose folio is locked, or that no folio points to
 * @id: of the entry; the last one of a chunk without region takes that along
 * @state: new state of the entry, whose hash is that of the shared page; one
 *	that was written while it had to stay is now left alone for that
 */
void mmg_rmap_unlink(struct mmg_shared *shared, u32 id, enum mmg_state state)
{
	struct mmg_index *index = &shared->domain->index;
	struct mmg_chunk *chunk = mmg_index_chunk(index, id);
	unsigned int slot = mmg_id_slot(id);
	struct mmg_mark *mark = &chunk->marks[slot];
	u32 prev = chunk->entries[slot].prev, next = chunk->next[slot];
	bool broken = mark->state == MMG_KEPT && mark->changed;

	if (prev != MMG_NIL)
		mmg_index_chunk(index, prev)->next[mmg_id_slot(prev)] = next;
	else
		shared->first = next;
	if (next != MMG_NIL)
		mmg_rmap_entry(shared, next)->prev = prev;
	shared->count--;

	chunk->entries[slot] = (struct mmg_entry) {
		.hash = shared->hash,
		.wait = broken ? mmg_backoff(mark->breaks) : 0,
	};
	chunk->next[slot] = MMG_NIL;
	mmg_place_put(&chunk->places[mark->place]);
	chunk->chained--;
	if (chunk->region) {
		mmg_region_set(chunk, slot, state, mark->changed);
	} else {
		mark->state = state;
		if (!chunk->chained) {
			shared->domain->nr_detached--;
			mmg_chunk_free(shared->domain, chunk);
		}
	}
}

/**
 * mmg_rmap_leave - take an entry off its chain, if no mapping needs it there
 * @chunk: of the entry, which has a region
 * @slot: of the entry, which is on a chain
 *
 * Return: MMG_STAYS, with the entry as it was; MMG_LEFT, it is now MMG_SEEN;
 * MMG_GONE, the shared page is gone, the entry is now MMG_MAPPED if it was
 * MMG_SHARED, else MMG_NONE. The hash is that of the shared page.
 */
enum mmg_left mmg_rmap_leave(struct mmg_chunk *chunk, unsigned int slot)
{
	struct mmg_domain *domain = chunk->region->domain;
	struct mmg_shared *shared =
		mmg_shared_by_id(domain, chunk->entries[slot].shared);
	enum mmg_left left = MMG_STAYS;
	struct merge_place place;
	struct folio *folio;

	folio = mmg_shared_lock(shared);
	if (!folio) {
		mmg_shared_free(shared);
		return MMG_GONE;
	}
	mmg_rmap_place(chunk, slot, &place);
	if (!merge_place_used(folio, &place)) {
		mmg_rmap_unlink(shared, mmg_entry_id(chunk, slot), MMG_SEEN);
		left = MMG_LEFT;
	}
	mmg_shared_unlock(shared, folio);
	return left;
}

/**
 * mmg_rmap_prune - take entries off a chain that no scan is going to look at
 * @shared: to look at
 * @folio: its folio, locked
 *
 * Those of chunks that have no region any more.
 */
void mmg_rmap_prune(struct mmg_shared *shared, struct folio *folio)
{
	struct mmg_domain *domain = shared->domain;
	u32 id = shared->first;

	while (id != MMG_NIL) {
		struct mmg_chunk *chunk = mmg_index_chunk(&domain->index, id);
		struct merge_place place;

		mmg_rmap_place(chunk, mmg_id_slot(id), &place);
		if (!chunk->region && !merge_place_used(folio, &place))
			mmg_rmap_unlink(shared, id, MMG_NONE);
		id = place.next;
		cond_resched();
	}
}

#ifdef CONFIG_MEMMERGE_KUNIT_TEST
#include "rmap_kunit.c"
#endif
