// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the index: from the hash of a content to an entry
 *
 * Buckets with chains that are linked by 32-bit ids rather than pointers, as
 * memory is what an entry costs. The number of buckets follows the number of
 * entries, a few buckets at a time (linear hashing): an insertion splits the
 * next ones in turn, a removal joins the last ones with those from which they
 * were split. So nobody waits for a table to be copied, and an entry costs one
 * byte of buckets whatever their number is. Buckets are joined late, as most
 * entries that leave have found their equal, and more leave soon: then the
 * chains are so short that it costs little. Until then each entry that is left
 * has up to eight bytes of buckets. A chain is in the order of the hashes:
 * whoever looks for one that is not there has to look at half of it. The index
 * holds at most one entry for a hash, see mmg_scan_range(), so a chain does not
 * grow with equal content.
 */
#include <linux/prefetch.h>
#include <linux/slab.h>

#include "internal.h"

/* Buckets are allocated by the page. */
#define MMG_SEGMENT_BITS	(PAGE_SHIFT - 2)
#define MMG_SEGMENT_BUCKETS	BIT(MMG_SEGMENT_BITS)
/* Entries for each bucket, at most, when all is well. */
#define MMG_INDEX_LOAD		4
/* Buckets for each entry, at most, but for the first segment and a few. */
#define MMG_INDEX_SPARE		2
/* Buckets to split or join at a time: a part of a segment. */
#define MMG_INDEX_STEPS		16

static u32 *mmg_head(const struct mmg_index *index, unsigned long bucket)
{
	return &index->segments[bucket >> MMG_SEGMENT_BITS]
			       [bucket & (MMG_SEGMENT_BUCKETS - 1)];
}

static unsigned long mmg_bucket_nr(const struct mmg_index *index, u64 hash)
{
	unsigned long bucket = hash & ((1UL << index->bits) - 1);

	/* One that is not there is still in that from which it will split. */
	if (bucket >= index->buckets)
		bucket -= 1UL << (index->bits - 1);
	return bucket;
}

static u32 *mmg_bucket(const struct mmg_index *index, u64 hash)
{
	return mmg_head(index, mmg_bucket_nr(index, hash));
}

/* A larger array of pointers, with those of the old one. */
static void *mmg_array_grow(const void *old, unsigned long *room)
{
	const unsigned long nr = max(*room * 2, 8UL);
	void **larger = kvcalloc(nr, sizeof(*larger),
				 GFP_KERNEL_ACCOUNT | __GFP_NOWARN);

	if (!larger)
		return NULL;
	if (*room)
		memcpy(larger, old, *room * sizeof(*larger));
	*room = nr;
	return larger;
}

/* Make room behind the last bucket: for a segment, if there is none. */
static bool mmg_index_extend(struct mmg_index *index)
{
	unsigned long nr = index->buckets >> MMG_SEGMENT_BITS;
	u32 **segments;

	if (index->buckets & (MMG_SEGMENT_BUCKETS - 1))
		return true;
	if (nr == index->room) {
		segments = mmg_array_grow(index->segments, &index->room);
		if (!segments)
			return false;
		kvfree(index->segments);
		index->segments = segments;
	}
	index->segments[nr] = kmalloc(PAGE_SIZE,
				      GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!index->segments[nr])
		return false;
	memset(index->segments[nr], 0xff, PAGE_SIZE);	/* MMG_NIL */
	return true;
}

/**
 * mmg_index_init - make an empty index
 * @index: to initialise
 *
 * Return: 0 or -ENOMEM.
 */
int mmg_index_init(struct mmg_index *index)
{
	memset(index, 0, sizeof(*index));
	index->free = MMG_MAX_CHUNKS;
	if (!mmg_index_extend(index))
		return -ENOMEM;
	index->bits = MMG_SEGMENT_BITS;
	index->buckets = MMG_SEGMENT_BUCKETS;
	return 0;
}

/* Without chunks nobody looks for one. */
static void mmg_index_free_tables(struct mmg_index *index)
{
	struct mmg_table **tables = rcu_dereference_raw(index->tables);
	unsigned long i;

	for (i = 0; i < index->nr_tables; i++)
		kfree(tables[i]);
	kvfree(tables);
	RCU_INIT_POINTER(index->tables, NULL);
	index->nr_tables = 0;
	index->table_room = 0;
	index->free = MMG_MAX_CHUNKS;
}

/**
 * mmg_index_destroy - free an index
 * @index: without chunks, or one whose mmg_index_init() failed
 */
void mmg_index_destroy(struct mmg_index *index)
{
	unsigned long i;

	WARN_ON_ONCE(index->nr_chunks || index->count);
	mmg_index_free_tables(index);
	for (i = 0; i < index->buckets >> MMG_SEGMENT_BITS; i++)
		kfree(index->segments[i]);
	if (index->buckets & (MMG_SEGMENT_BUCKETS - 1))
		kfree(index->segments[i]);
	kvfree(index->segments);
	index->segments = NULL;
}

/**
 * mmg_index_metadata - memory that buckets and tables of chunks take
 * @index: to look at
 *
 * Return: bytes, without chunks.
 */
unsigned long mmg_index_metadata(const struct mmg_index *index)
{
	return DIV_ROUND_UP(index->buckets, MMG_SEGMENT_BUCKETS) * PAGE_SIZE +
	       index->nr_tables * sizeof(struct mmg_table) +
	       (index->room + index->table_room) * sizeof(void *);
}

/* There is no chunk of a number any more, or not yet. */
static void mmg_index_free_nr(struct mmg_index *index, unsigned long nr)
{
	*mmg_index_place(index, nr) = xa_mk_value(index->free);
	index->free = nr;
}

/* One more table of chunks. */
static int mmg_index_add_table(struct mmg_index *index)
{
	struct mmg_table **tables = rcu_dereference_raw(index->tables);
	unsigned long nr = index->nr_tables << MMG_TABLE_BITS;
	struct mmg_table **larger, *table;
	unsigned int i;

	if (nr == MMG_MAX_CHUNKS)
		return -ENOSPC;
	if (index->nr_tables == index->table_room) {
		larger = mmg_array_grow(tables, &index->table_room);
		if (!larger)
			return -ENOMEM;
		rcu_assign_pointer(index->tables, larger);
		if (tables)
			kvfree_rcu_mightsleep(tables);
		tables = larger;
	}
	table = kzalloc(sizeof(*table), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!table)
		return -ENOMEM;
	tables[index->nr_tables++] = table;
	for (i = MMG_TABLE_CHUNKS; i--;)
		mmg_index_free_nr(index, nr + i);
	return 0;
}

/**
 * mmg_index_add_chunk - give a chunk its number
 * @index: of the domain
 * @chunk: with fresh entries
 *
 * Return: 0, or -ENOMEM, or -ENOSPC when all MMG_MAX_CHUNKS are in use.
 */
int mmg_index_add_chunk(struct mmg_index *index, struct mmg_chunk *chunk)
{
	struct mmg_chunk **place;

	if (index->free == MMG_MAX_CHUNKS) {
		int err = mmg_index_add_table(index);

		if (err)
			return err;
	}
	chunk->id = index->free;
	place = mmg_index_place(index, chunk->id);
	index->free = xa_to_value(*place);
	*place = chunk;
	index->nr_chunks++;
	return 0;
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
		if (chunk->marks[i].state == MMG_INDEXED)
			mmg_index_remove(index, id + i);
	mmg_index_free_nr(index, chunk->id);
	if (!--index->nr_chunks)
		mmg_index_free_tables(index);
}

static u64 mmg_index_hash(const struct mmg_index *index, u32 id)
{
	return mmg_index_chunk(index, id)->entries[mmg_id_slot(id)].hash;
}

/* Where an entry says which one is behind it. */
static u32 *mmg_index_next(const struct mmg_index *index, u32 id)
{
	return &mmg_index_chunk(index, id)->next[mmg_id_slot(id)];
}

/*
 * Go along a chain, from the place that names its first entry, to the first one
 * that is not less than a hash. Returns the place that names that; sets @equal
 * to whether it has the hash itself.
 */
static u32 *mmg_index_seek(const struct mmg_index *index, u32 *link, u64 hash,
			   bool *equal)
{
	*equal = false;
	while (*link != MMG_NIL) {
		const struct mmg_chunk *chunk = mmg_index_chunk(index, *link);
		unsigned int slot = mmg_id_slot(*link);
		u64 found = chunk->entries[slot].hash;

		if (found >= hash) {
			*equal = found == hash;
			break;
		}
		link = (u32 *)&chunk->next[slot];
	}
	return link;
}

/**
 * mmg_index_find - find a page by the hash of its content
 * @index: of the domain
 * @hash: to look for
 *
 * Return: the id of an indexed entry, or MMG_NIL.
 */
u32 mmg_index_find(const struct mmg_index *index, u64 hash)
{
	bool equal;
	const u32 *link = mmg_index_seek(index, mmg_bucket(index, hash), hash,
					 &equal);

	return equal ? *link : MMG_NIL;
}

/* Add the first entry of a chain to some, if it has one. Returns their number. */
static unsigned int mmg_ids_add(u32 *ids, unsigned int nr, u32 id)
{
	ids[nr] = id;
	return nr + (id != MMG_NIL);
}

/*
 * Go along some chains side by side, as an entry takes its time to come: each
 * waits for the one before it, but not for those of other chains. @ids are the
 * first ones, and are used up.
 */
static void mmg_index_along(const struct mmg_index *index, u32 *ids,
			    unsigned int nr)
{
	while (nr) {
		unsigned int i, left = 0;

		for (i = 0; i < nr; i++) {
			const struct mmg_chunk *chunk =
				mmg_index_chunk(index, ids[i]);
			unsigned int slot = mmg_id_slot(ids[i]);

			prefetch(&chunk->entries[slot]);
			left = mmg_ids_add(ids, left, chunk->next[slot]);
		}
		nr = left;
	}
}

/**
 * mmg_index_fetch - let what the index has for some hashes be fetched
 * @index: of the domain
 * @hashes: that are going to be looked for, inserted or removed soon
 * @nr: how many, at most MMG_INDEX_FETCH
 */
void mmg_index_fetch(const struct mmg_index *index, const u64 *hashes,
		     unsigned int nr)
{
	u32 ids[MMG_INDEX_FETCH];
	unsigned int i, left = 0;

	for (i = 0; i < nr; i++)
		left = mmg_ids_add(ids, left, *mmg_bucket(index, hashes[i]));
	mmg_index_along(index, ids, left);
}

/* Where a bucket comes from, and what it goes back to. */
static u32 *mmg_split_head(const struct mmg_index *index, unsigned long bucket)
{
	return mmg_head(index, bucket - rounddown_pow_of_two(bucket));
}

/* One more bucket: takes its part of the one that it splits. */
static void mmg_index_split(struct mmg_index *index)
{
	unsigned long last = index->buckets++;
	u32 *from, *to;
	u32 id;

	if (last == 1UL << index->bits)
		index->bits++;

	from = mmg_split_head(index, last);
	to = mmg_head(index, last);
	id = *from;
	while (id != MMG_NIL) {
		struct mmg_chunk *chunk = mmg_index_chunk(index, id);
		unsigned int slot = mmg_id_slot(id);
		u64 hash = chunk->entries[slot].hash;
		u32 **tail = mmg_bucket_nr(index, hash) == last ? &to : &from;

		**tail = id;
		*tail = &chunk->next[slot];
		id = **tail;
	}
	*from = MMG_NIL;
	*to = MMG_NIL;
}

static void mmg_index_grow(struct mmg_index *index)
{
	unsigned int i, left = 0;
	u32 ids[MMG_INDEX_STEPS];

	BUILD_BUG_ON(MMG_SEGMENT_BUCKETS % MMG_INDEX_STEPS);
	if (!mmg_index_extend(index))
		return;		/* longer chains do no harm */
	for (i = 0; i < MMG_INDEX_STEPS; i++)
		left = mmg_ids_add(ids, left,
				   *mmg_split_head(index, index->buckets + i));
	mmg_index_along(index, ids, left);
	for (i = 0; i < MMG_INDEX_STEPS; i++)
		mmg_index_split(index);
}

/* One bucket less: the last one goes back to where it came from. */
static void mmg_index_join(struct mmg_index *index)
{
	unsigned long last = --index->buckets;
	u32 *link = mmg_split_head(index, last);
	u32 id = *mmg_head(index, last);

	while (id != MMG_NIL) {
		u32 *next = mmg_index_next(index, id);
		u32 rest = *next;
		bool equal;

		link = mmg_index_seek(index, link, mmg_index_hash(index, id),
				      &equal);
		*next = *link;
		*link = id;
		id = rest;
	}
	if (last == 1UL << (index->bits - 1))
		index->bits--;
	if (!(last & (MMG_SEGMENT_BUCKETS - 1)))
		kfree(index->segments[last >> MMG_SEGMENT_BITS]);
}

static void mmg_index_shrink(struct mmg_index *index)
{
	unsigned int i, left = 0;
	u32 ids[2 * MMG_INDEX_STEPS];

	if (index->buckets == MMG_SEGMENT_BUCKETS)
		return;
	for (i = 1; i <= MMG_INDEX_STEPS; i++) {
		unsigned long bucket = index->buckets - i;

		left = mmg_ids_add(ids, left, *mmg_head(index, bucket));
		left = mmg_ids_add(ids, left, *mmg_split_head(index, bucket));
	}
	mmg_index_along(index, ids, left);
	for (i = 0; i < MMG_INDEX_STEPS; i++)
		mmg_index_join(index);
}

/**
 * mmg_index_insert - let a page be found by its hash
 * @index: of the domain
 * @id: of an entry that is not in the index, with its hash set
 */
void mmg_index_insert(struct mmg_index *index, u32 id)
{
	u64 hash = mmg_index_hash(index, id);
	bool equal;
	u32 *link;

	if (index->count >= index->buckets * MMG_INDEX_LOAD)
		mmg_index_grow(index);
	link = mmg_index_seek(index, mmg_bucket(index, hash), hash, &equal);
	*mmg_index_next(index, id) = *link;
	*link = id;
	index->count++;
}

/**
 * mmg_index_remove - take a page out of the index
 * @index: of the domain
 * @id: of an entry that is in the index, its hash as when it was inserted
 */
void mmg_index_remove(struct mmg_index *index, u32 id)
{
	u32 *link = mmg_bucket(index, mmg_index_hash(index, id));
	u32 *next = mmg_index_next(index, id);

	while (*link != id) {
		if (WARN_ON_ONCE(*link == MMG_NIL))
			return;
		link = mmg_index_next(index, *link);
	}
	*link = *next;
	*next = MMG_NIL;
	index->count--;

	if (index->count * MMG_INDEX_SPARE < index->buckets)
		mmg_index_shrink(index);
}

#ifdef CONFIG_MEMMERGE_KUNIT_TEST
#include "index_kunit.c"
#endif
