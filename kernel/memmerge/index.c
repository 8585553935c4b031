// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the index: from the hash of a content to an entry
 *
 * Buckets with chains that are linked by 32-bit ids rather than pointers, as
 * memory is what an entry costs. The number of buckets follows the number of
 * entries, one bucket at a time (linear hashing): an insertion splits the next
 * bucket in turn, a removal joins the last one with that from which it was
 * split. So nobody waits for a table to be copied, and an entry costs one byte
 * of buckets whatever their number is. A chain is in the order of the hashes:
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
/* Entries for each bucket, when all is well. */
#define MMG_INDEX_LOAD		4
/* Buckets to split or join at a time: more than are needed. */
#define MMG_INDEX_STEPS		2

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

/* Make room for a segment behind the last bucket. */
static bool mmg_index_extend(struct mmg_index *index)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
	unsigned long nr = index->buckets >> MMG_SEGMENT_BITS;
	u32 **segments;

	if (nr == index->room) {
		segments = kvcalloc(max(nr * 2, 8UL), sizeof(*segments), gfp);
		if (!segments)
			return false;
		if (nr)
			memcpy(segments, index->segments,
			       nr * sizeof(*segments));
		kvfree(index->segments);
		index->segments = segments;
		index->room = max(nr * 2, 8UL);
	}
	index->segments[nr] = kmalloc(PAGE_SIZE, gfp);
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
	xa_init_flags(&index->chunks, XA_FLAGS_ALLOC | XA_FLAGS_ACCOUNT);
	if (!mmg_index_extend(index))
		return -ENOMEM;
	index->bits = MMG_SEGMENT_BITS;
	index->buckets = MMG_SEGMENT_BUCKETS;
	return 0;
}

/**
 * mmg_index_destroy - free an index
 * @index: without chunks, or one whose mmg_index_init() failed
 */
void mmg_index_destroy(struct mmg_index *index)
{
	unsigned long i;

	WARN_ON_ONCE(index->nr_chunks || index->count);
	xa_destroy(&index->chunks);
	for (i = 0; i < index->buckets >> MMG_SEGMENT_BITS; i++)
		kfree(index->segments[i]);
	if (index->buckets & (MMG_SEGMENT_BUCKETS - 1))
		kfree(index->segments[i]);
	kvfree(index->segments);
	index->segments = NULL;
}

/**
 * mmg_index_metadata - memory that the buckets take
 * @index: to look at
 *
 * Return: bytes, without chunks.
 */
unsigned long mmg_index_metadata(const struct mmg_index *index)
{
	return DIV_ROUND_UP(index->buckets, MMG_SEGMENT_BUCKETS) * PAGE_SIZE +
	       index->room * sizeof(*index->segments);
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
		if (chunk->marks[i].state == MMG_INDEXED)
			mmg_index_remove(index, id + i);
	xa_erase(&index->chunks, chunk->id);
	index->nr_chunks--;
}

/**
 * mmg_index_chunk - find the chunk of an entry
 * @index: of the domain
 * @id: of the entry, which is in mmg_id_slot() of the chunk
 *
 * Return: the chunk, which must have been added.
 */
struct mmg_chunk *mmg_index_chunk(const struct mmg_index *index, u32 id)
{
	return xa_load((struct xarray *)&index->chunks, id >> MMG_CHUNK_SHIFT);
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

/**
 * mmg_index_fetch - let a bucket be fetched, which is going to be looked at
 * @index: of the domain
 * @hash: to be looked for soon
 * @steps: of its chain, how many entries have been fetched, if the bucket has
 *	been; fetch one more
 */
void mmg_index_fetch(const struct mmg_index *index, u64 hash,
		     unsigned int steps)
{
	const u32 *link = mmg_bucket(index, hash);

	if (!steps) {
		prefetch(link);
		return;
	}
	while (*link != MMG_NIL) {
		const struct mmg_chunk *chunk = mmg_index_chunk(index, *link);
		unsigned int slot = mmg_id_slot(*link);

		if (!--steps) {
			prefetch(&chunk->entries[slot]);
			prefetch(&chunk->next[slot]);
			break;
		}
		if (chunk->entries[slot].hash >= hash)
			break;
		link = &chunk->next[slot];
	}
}

/* One more bucket: takes its part of the one that it splits. */
static bool mmg_index_split(struct mmg_index *index)
{
	unsigned long last = index->buckets;
	u32 *from, *to;
	u32 id;

	if (!(last & (MMG_SEGMENT_BUCKETS - 1)) && !mmg_index_extend(index))
		return false;		/* longer chains do no harm */
	if (last == 1UL << index->bits)
		index->bits++;
	index->buckets++;

	from = mmg_head(index, last - (1UL << (index->bits - 1)));
	to = mmg_head(index, last);
	for (id = *from; id != MMG_NIL; id = *mmg_index_next(index, id)) {
		u64 hash = mmg_index_hash(index, id);
		u32 **tail = mmg_bucket_nr(index, hash) == last ? &to : &from;

		**tail = id;
		*tail = mmg_index_next(index, id);
	}
	*from = MMG_NIL;
	*to = MMG_NIL;
	return true;
}

/* One bucket less: the last one goes back to where it came from. */
static void mmg_index_join(struct mmg_index *index)
{
	unsigned long last = --index->buckets;
	u32 *link = mmg_head(index, last - (1UL << (index->bits - 1)));
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

/**
 * mmg_index_insert - let a page be found by its hash
 * @index: of the domain
 * @id: of an entry that is not in the index, with its hash set
 */
void mmg_index_insert(struct mmg_index *index, u32 id)
{
	unsigned int steps = MMG_INDEX_STEPS;
	u64 hash = mmg_index_hash(index, id);
	bool equal;
	u32 *link;

	while (index->count >= index->buckets * MMG_INDEX_LOAD && steps--)
		if (!mmg_index_split(index))
			break;

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
	unsigned int steps = MMG_INDEX_STEPS;

	while (*link != id) {
		if (WARN_ON_ONCE(*link == MMG_NIL))
			return;
		link = mmg_index_next(index, *link);
	}
	*link = *next;
	*next = MMG_NIL;
	index->count--;

	/* Not at once what the next insertion would undo. */
	while (index->count * 4 < index->buckets * MMG_INDEX_LOAD * 3 &&
	       index->buckets > MMG_SEGMENT_BUCKETS && steps--)
		mmg_index_join(index);
}

#ifdef CONFIG_MEMMERGE_KUNIT_TEST
#include "index_kunit.c"
#endif
