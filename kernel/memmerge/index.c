// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the index: from the hash of a content to an entry
 *
 * Buckets with chains that are linked by 32-bit ids rather than pointers, so
 * that an entry stays at 16 bytes. The table grows with the number of entries,
 * some buckets with each insertion, so that nobody waits for all of it, and
 * never shrinks while the domain lives. It holds at most one entry for a
 * hash, see mmg_scan_range(), so a chain does not grow with equal content.
 */
#include <linux/slab.h>

#include "internal.h"

#define MMG_INDEX_MIN_BITS	10
/* Buckets that are moved at an insertion: done long before it grows again. */
#define MMG_INDEX_MOVES		4

static u32 *mmg_heads_alloc(unsigned int bits)
{
	size_t size = sizeof(u32) << bits;
	u32 *heads = kvmalloc(size, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);

	if (heads)
		memset(heads, 0xff, size);	/* MMG_NIL */
	return heads;
}

/* The high bits: xxh64 mixes them best, and they stay in use as bits grow. */
static u32 *mmg_bucket(struct mmg_index *index, u64 hash)
{
	unsigned long bucket = hash >> (MMG_HASH_BITS - index->bits);

	if (index->old && bucket >> 1 >= index->moved)
		return &index->old[bucket >> 1];
	return &index->heads[bucket];
}

/**
 * mmg_index_init - make an empty index
 * @index: to initialise
 *
 * Return: 0 or -ENOMEM.
 */
int mmg_index_init(struct mmg_index *index)
{
	index->bits = MMG_INDEX_MIN_BITS;
	index->old = NULL;
	index->moved = 0;
	index->count = 0;
	index->nr_chunks = 0;
	xa_init_flags(&index->chunks, XA_FLAGS_ALLOC | XA_FLAGS_ACCOUNT);
	index->heads = mmg_heads_alloc(index->bits);
	return index->heads ? 0 : -ENOMEM;
}

/**
 * mmg_index_destroy - free an index
 * @index: without chunks, or one whose mmg_index_init() failed
 */
void mmg_index_destroy(struct mmg_index *index)
{
	WARN_ON_ONCE(index->nr_chunks || index->count);
	xa_destroy(&index->chunks);
	kvfree(index->heads);
	kvfree(index->old);
	index->heads = NULL;
	index->old = NULL;
}

/**
 * mmg_index_add_chunk - give a chunk its number
 * @index: of the domain
 * @chunk: with fresh entries
 *
 * Return: 0, or -ENOMEM, or -EBUSY when all MMG_MAX_CHUNKS are in use.
 */
int mmg_index_add_chunk(struct mmg_index *index, struct mmg_chunk *chunk)
{
	int err = xa_alloc(&index->chunks, &chunk->id, chunk,
			   XA_LIMIT(0, MMG_MAX_CHUNKS - 1), GFP_KERNEL_ACCOUNT);

	if (!err)
		index->nr_chunks++;
	return err;
}

/**
 * mmg_index_remove_chunk - forget a chunk and all its entries
 * @index: of the domain
 * @chunk: that mmg_index_add_chunk() added
 */
void mmg_index_remove_chunk(struct mmg_index *index, struct mmg_chunk *chunk)
{
	u32 id = chunk->id << MMG_CHUNK_SHIFT;
	unsigned int i;

	for (i = 0; i < MMG_CHUNK_PAGES; i++)
		if (chunk->entries[i].state == MMG_INDEXED)
			mmg_index_remove(index, id + i);
	xa_erase(&index->chunks, chunk->id);
	index->nr_chunks--;
}

/**
 * mmg_index_entry - find an entry by its id
 * @index: of the domain
 * @id: of the entry
 * @chunk: out if not NULL, the chunk of the entry
 *
 * Return: the entry; its chunk must have been added.
 */
struct mmg_entry *mmg_index_entry(struct mmg_index *index, u32 id,
				  struct mmg_chunk **chunk)
{
	struct mmg_chunk *found = xa_load(&index->chunks, id >> MMG_CHUNK_SHIFT);

	if (chunk)
		*chunk = found;
	return &found->entries[id & (MMG_CHUNK_PAGES - 1)];
}

/**
 * mmg_index_find - find a page by the hash of its content
 * @index: of the domain
 * @hash: to look for
 *
 * Return: the id of an indexed entry, or MMG_NIL.
 */
u32 mmg_index_find(struct mmg_index *index, u64 hash)
{
	u32 id = *mmg_bucket(index, hash);

	while (id != MMG_NIL) {
		struct mmg_entry *entry = mmg_index_entry(index, id, NULL);

		if (entry->hash == hash)
			break;
		id = entry->next;
	}
	return id;
}

static void mmg_index_grow(struct mmg_index *index)
{
	u32 *heads = mmg_heads_alloc(index->bits + 1);

	if (!heads)
		return;		/* longer chains do no harm */
	index->old = index->heads;
	index->moved = 0;
	index->heads = heads;
	index->bits++;
}

/* Move the next bucket of an index that is growing. */
static void mmg_index_move(struct mmg_index *index)
{
	u32 id = index->old[index->moved++];

	while (id != MMG_NIL) {
		struct mmg_entry *entry = mmg_index_entry(index, id, NULL);
		u32 *head = mmg_bucket(index, entry->hash);
		u32 next = entry->next;

		entry->next = *head;
		*head = id;
		id = next;
	}
	if (index->moved == 1UL << (index->bits - 1)) {
		kvfree(index->old);
		index->old = NULL;
	}
}

/**
 * mmg_index_insert - let a page be found by its hash
 * @index: of the domain
 * @id: of an entry that is not in the index, with its hash set
 */
void mmg_index_insert(struct mmg_index *index, u32 id)
{
	struct mmg_entry *entry = mmg_index_entry(index, id, NULL);
	unsigned int moves = MMG_INDEX_MOVES;
	u32 *head;

	if (!index->old && index->count >= 1UL << index->bits &&
	    index->bits < 31)
		mmg_index_grow(index);
	while (index->old && moves--)
		mmg_index_move(index);

	head = mmg_bucket(index, entry->hash);
	entry->next = *head;
	*head = id;
	index->count++;
}

/**
 * mmg_index_remove - take a page out of the index
 * @index: of the domain
 * @id: of an entry that is in the index, its hash as when it was inserted
 */
void mmg_index_remove(struct mmg_index *index, u32 id)
{
	struct mmg_entry *entry = mmg_index_entry(index, id, NULL);
	u32 *link = mmg_bucket(index, entry->hash);

	while (*link != id) {
		if (WARN_ON_ONCE(*link == MMG_NIL))
			return;
		link = &mmg_index_entry(index, *link, NULL)->next;
	}
	*link = entry->next;
	entry->next = MMG_NIL;
	index->count--;
}

#ifdef CONFIG_MEMMERGE_KUNIT_TEST
#include "index_kunit.c"
#endif
