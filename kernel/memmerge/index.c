// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the index: from the hash of a content to who has it
 *
 * Buckets with chains that are linked by 32-bit ids rather than pointers, as
 * memory is what an entry costs. The number of buckets follows the number of
 * what is on the chains, a few buckets at a time (linear hashing): an insertion
 * splits the next ones in turn, a removal joins the last ones with those from
 * which they were split. So nobody waits for a table to be copied, and an entry
 * costs one byte of buckets whatever their number is. Buckets are joined late,
 * as where entries leave more leave soon: then the chains are so short that it
 * costs little. Until then each that is left has up to eight bytes of buckets. A
 * chain is in the order of the hashes: whoever looks for one that is not there
 * has to look at half of it.
 *
 * What is on a chain is an entry, of a page that waits for an equal, or a shared
 * page. The index holds at most one entry for a hash, see mmg_scan_range(), and
 * of the shared pages that have one only the newest, in front of the entry: the
 * others are behind it on a list of their own. So a chain does not grow with
 * equal content. A page that becomes a shared page takes the place that its
 * entry has, which costs next to nothing.
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
	mmg_numbers_init(&index->chunks, MMG_MAX_CHUNKS);
	mmg_numbers_init(&index->shared, MMG_MAX_SHARED);
	if (!mmg_index_extend(index))
		return -ENOMEM;
	index->bits = MMG_SEGMENT_BITS;
	index->buckets = MMG_SEGMENT_BUCKETS;
	return 0;
}

/**
 * mmg_index_destroy - free an index
 * @index: without chunks and shared pages, or one whose mmg_index_init() failed
 */
void mmg_index_destroy(struct mmg_index *index)
{
	unsigned long i;

	WARN_ON_ONCE(index->count);
	mmg_numbers_destroy(&index->chunks);
	mmg_numbers_destroy(&index->shared);
	for (i = 0; i < index->buckets >> MMG_SEGMENT_BITS; i++)
		kfree(index->segments[i]);
	if (index->buckets & (MMG_SEGMENT_BUCKETS - 1))
		kfree(index->segments[i]);
	kvfree(index->segments);
	index->segments = NULL;
}

/**
 * mmg_index_metadata - memory that buckets and numbers take
 * @index: to look at
 *
 * Return: bytes, without chunks and descriptions of shared pages.
 */
unsigned long mmg_index_metadata(const struct mmg_index *index)
{
	return DIV_ROUND_UP(index->buckets, MMG_SEGMENT_BUCKETS) * PAGE_SIZE +
	       index->room * sizeof(void *) +
	       mmg_numbers_metadata(&index->chunks) +
	       mmg_numbers_metadata(&index->shared);
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
	int err = mmg_numbers_reserve(&index->chunks, 1);

	if (!err)
		mmg_numbers_add(&index->chunks, chunk, &chunk->id);
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

	index->losses++;
	for (i = 0; i < MMG_CHUNK_PAGES; i++)
		if (chunk->marks[i].state == MMG_INDEXED)
			mmg_index_remove(index, id + i);
	mmg_numbers_remove(&index->chunks, chunk->id);
}

static struct mmg_shared *mmg_index_shared(const struct mmg_index *index,
					   u32 id)
{
	return *mmg_numbers_place(&index->shared, id & ~MMG_ID_SHARED);
}

/*
 * What is of an id, be it an entry's or a shared page's: its hash, and where it
 * says which id is behind it.
 */
static u32 *mmg_index_node(const struct mmg_index *index, u32 id, u64 *hash)
{
	struct mmg_chunk *chunk;
	unsigned int slot;

	if (id & MMG_ID_SHARED) {
		struct mmg_shared *shared = mmg_index_shared(index, id);

		*hash = shared->hash;
		return &shared->next;
	}
	chunk = mmg_index_chunk(index, id);
	slot = mmg_id_slot(id);
	*hash = chunk->entries[slot].hash;
	return &chunk->next[slot];
}

/* Let what mmg_index_node() reads come. */
static void mmg_index_prefetch(const struct mmg_index *index, u32 id)
{
	struct mmg_chunk *chunk;
	unsigned int slot;

	if (id & MMG_ID_SHARED) {
		struct mmg_shared *shared = mmg_index_shared(index, id);

		prefetch(&shared->hash);	/* @next is beside it */
		return;
	}
	chunk = mmg_index_chunk(index, id);
	slot = mmg_id_slot(id);
	prefetch(&chunk->entries[slot]);
	prefetch(&chunk->next[slot]);
}

/*
 * Go along a chain, from the place that names what is first, to the first one
 * that is not less than a hash. Returns the place that names that; sets @equal
 * to whether it has the hash itself.
 */
static u32 *mmg_index_seek(const struct mmg_index *index, u32 *link, u64 hash,
			   bool *equal)
{
	*equal = false;
	while (*link != MMG_NIL) {
		u64 found;
		u32 *next = mmg_index_node(index, *link, &found);

		if (found >= hash) {
			*equal = found == hash;
			break;
		}
		link = next;
	}
	return link;
}

/* The newest of the shared pages with a hash, which is all that @link names. */
static struct mmg_shared *mmg_index_newest(const struct mmg_index *index,
					   const u32 *link, bool equal)
{
	return equal && *link & MMG_ID_SHARED ? mmg_index_shared(index, *link) :
						NULL;
}

/*
 * Who has a hash: what mmg_index_seek() found, and what is behind that. Returns
 * the id of an entry, or MMG_NIL; sets @shared to the newest shared page, or NULL.
 */
static u32 mmg_index_who(const struct mmg_index *index, const u32 *link,
			 bool equal, u64 hash, struct mmg_shared **shared)
{
	u64 found;

	*shared = mmg_index_newest(index, link, equal);
	if (!*shared)
		return equal ? *link : MMG_NIL;
	link = &(*shared)->next;
	if (*link == MMG_NIL)
		return MMG_NIL;
	mmg_index_node(index, *link, &found);
	return found == hash ? *link : MMG_NIL;
}

/**
 * mmg_index_find - find who has a content by its hash
 * @index: of the domain
 * @hash: to look for
 * @shared: out, the newest shared page that has it, or NULL
 *
 * Return: the id of an indexed entry that has it, or MMG_NIL.
 */
u32 mmg_index_find(const struct mmg_index *index, u64 hash,
		   struct mmg_shared **shared)
{
	bool equal;
	const u32 *link = mmg_index_seek(index, mmg_bucket(index, hash), hash,
					 &equal);

	return mmg_index_who(index, link, equal, hash, shared);
}

/**
 * struct mmg_walks - chains to go along
 * @looks: what is looked for on each, and how far that has come
 * @nr: how many
 */
struct mmg_walks {
	struct mmg_look *looks[MMG_INDEX_FETCH];
	unsigned int nr;
};

/* Begin with a chain, if there is anything on it. */
static void mmg_walks_add(struct mmg_walks *walks, struct mmg_look *look,
			  u32 *link)
{
	look->link = link;
	walks->looks[walks->nr] = look;
	walks->nr += *link != MMG_NIL;
}

/*
 * Go along some chains side by side, as what is on them takes its time to come:
 * each waits for the one before it, but not for those of other chains. Whether
 * a chain goes on is no branch: that could not be foreseen, and all that has yet
 * to come would wait for it.
 */
static void mmg_index_along(const struct mmg_index *index,
			    struct mmg_walks *walks)
{
	while (walks->nr) {
		unsigned int i, nr = walks->nr;

		for (i = 0; i < nr; i++)
			mmg_index_prefetch(index, *walks->looks[i]->link);
		walks->nr = 0;
		for (i = 0; i < nr; i++) {
			struct mmg_look *look = walks->looks[i];
			u64 found;
			u32 *next = mmg_index_node(index, *look->link, &found);
			bool more = found < look->hash;

			look->link = more ? next : look->link;
			walks->looks[walks->nr] = look;
			walks->nr += more & (*look->link != MMG_NIL);
		}
	}
}

/**
 * mmg_index_fetch - let what the index has for some hashes be fetched
 * @index: of the domain
 * @looks: hashes that are going to be looked for, inserted, replaced or removed
 *	soon; where they are is filled in
 * @nr: how many, at most MMG_INDEX_FETCH
 */
void mmg_index_fetch(const struct mmg_index *index, struct mmg_look *looks,
		     unsigned int nr)
{
	struct mmg_walks walks;
	unsigned int i;

	walks.nr = 0;
	for (i = 0; i < nr; i++)
		prefetch(mmg_bucket(index, looks[i].hash));
	for (i = 0; i < nr; i++) {
		looks[i].moves = index->moves;
		looks[i].losses = index->losses;
		mmg_walks_add(&walks, &looks[i],
			      mmg_bucket(index, looks[i].hash));
	}
	mmg_index_along(index, &walks);
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
		u64 hash;
		u32 *next = mmg_index_node(index, id, &hash);
		u32 **tail = mmg_bucket_nr(index, hash) == last ? &to : &from;

		**tail = id;
		*tail = next;
		id = *next;
	}
	*from = MMG_NIL;
	*to = MMG_NIL;
}

static void mmg_index_grow(struct mmg_index *index)
{
	struct mmg_look looks[MMG_INDEX_STEPS];
	struct mmg_walks walks;
	unsigned int i;

	BUILD_BUG_ON(MMG_SEGMENT_BUCKETS % MMG_INDEX_STEPS);
	if (!mmg_index_extend(index))
		return;		/* longer chains do no harm */
	walks.nr = 0;
	for (i = 0; i < MMG_INDEX_STEPS; i++) {
		looks[i].hash = U64_MAX;
		mmg_walks_add(&walks, &looks[i],
			      mmg_split_head(index, index->buckets + i));
	}
	mmg_index_along(index, &walks);
	index->moves++;
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
		u64 hash;
		u32 *next = mmg_index_node(index, id, &hash);
		u32 rest = *next;
		bool equal;

		link = mmg_index_seek(index, link, hash, &equal);
		*next = *link;
		*link = id;
		link = next;	/* what has the same hash keeps its order */
		id = rest;
	}
	if (last == 1UL << (index->bits - 1))
		index->bits--;
	if (!(last & (MMG_SEGMENT_BUCKETS - 1)))
		kfree(index->segments[last >> MMG_SEGMENT_BITS]);
}

static void mmg_index_shrink(struct mmg_index *index)
{
	struct mmg_look looks[2 * MMG_INDEX_STEPS];
	struct mmg_walks walks;
	unsigned int i;

	static_assert(ARRAY_SIZE(looks) <= MMG_INDEX_FETCH);
	if (index->buckets == MMG_SEGMENT_BUCKETS)
		return;
	walks.nr = 0;
	for (i = 0; i < ARRAY_SIZE(looks); i++) {
		unsigned long bucket = index->buckets - 1 - i / 2;

		looks[i].hash = U64_MAX;
		mmg_walks_add(&walks, &looks[i],
			      i % 2 ? mmg_split_head(index, bucket) :
				      mmg_head(index, bucket));
	}
	mmg_index_along(index, &walks);
	index->moves++;
	index->losses++;
	for (i = 0; i < MMG_INDEX_STEPS; i++)
		mmg_index_join(index);
}

/**
 * mmg_index_reserve - have buckets for some more entries
 * @index: of the domain
 * @nr: how many; without memory for it chains get longer
 */
void mmg_index_reserve(struct mmg_index *index, unsigned int nr)
{
	unsigned int room;

	/* Not more at a time, however many are missing for lack of memory. */
	for (room = 0; room < nr && index->count + nr >
				    index->buckets * MMG_INDEX_LOAD;
	     room += MMG_INDEX_STEPS * MMG_INDEX_LOAD)
		mmg_index_grow(index);
}

/* Put an entry, which says with @next what is behind it, where @link names it. */
static void mmg_index_put(struct mmg_index *index, u32 *link, u32 id, u32 *next)
{
	*next = *link;
	*link = id;
	index->count++;
}

/**
 * mmg_index_insert - let a page be found by its hash
 * @index: of the domain
 * @id: of an entry that is not in the index, with its hash set
 */
void mmg_index_insert(struct mmg_index *index, u32 id)
{
	struct mmg_shared *newest;
	u64 hash;
	u32 *next = mmg_index_node(index, id, &hash);
	bool equal;
	u32 *link;

	mmg_index_reserve(index, 1);
	link = mmg_index_seek(index, mmg_bucket(index, hash), hash, &equal);
	newest = mmg_index_newest(index, link, equal);
	if (newest)
		link = &newest->next;
	mmg_index_put(index, link, id, next);
}

/**
 * mmg_index_claim - let a page be found by its hash, if nothing else is by that
 * @index: of the domain
 * @id: as for mmg_index_insert()
 * @look: for the hash of the entry, from mmg_index_fetch(); or NULL
 * @shared: out, as for mmg_index_find(), who has the hash already
 * @equal: out, as that returns
 *
 * Return: whether the page is in the index now.
 */
bool mmg_index_claim(struct mmg_index *index, u32 id,
		     const struct mmg_look *look, struct mmg_shared **shared,
		     u32 *equal)
{
	u64 hash;
	u32 *next = mmg_index_node(index, id, &hash);
	bool found;
	u32 *link;

	mmg_index_reserve(index, 1);
	link = look && look->moves == index->moves ? look->link :
						     mmg_bucket(index, hash);
	link = mmg_index_seek(index, link, hash, &found);
	*equal = mmg_index_who(index, link, found, hash, shared);
	if (found)
		return false;
	mmg_index_put(index, link, id, next);
	return true;
}

/* Take what @link names off a chain. */
static void mmg_index_take(struct mmg_index *index, u32 *link, u32 *next)
{
	*link = *next;
	*next = MMG_NIL;
	index->count--;
	index->moves++;
	index->losses++;

	if (index->count * MMG_INDEX_SPARE < index->buckets)
		mmg_index_shrink(index);
}

/**
 * mmg_index_remove - take a page out of the index
 * @index: of the domain
 * @id: of an entry that is in the index, its hash as when it was inserted
 */
void mmg_index_remove(struct mmg_index *index, u32 id)
{
	u64 hash, found;
	u32 *next = mmg_index_node(index, id, &hash);
	u32 *link = mmg_bucket(index, hash);

	while (*link != id) {
		if (WARN_ON_ONCE(*link == MMG_NIL))
			return;
		link = mmg_index_node(index, *link, &found);
	}
	mmg_index_take(index, link, next);
}

/**
 * mmg_index_insert_shared - let a shared page be found by its hash
 * @index: of the domain
 * @shared: that is not in the index, with its number and its hash set
 *
 * Needs no memory.
 */
void mmg_index_insert_shared(struct mmg_index *index, struct mmg_shared *shared)
{
	bool equal;
	u32 *link = mmg_index_seek(index, mmg_bucket(index, shared->hash),
				   shared->hash, &equal);
	struct mmg_shared *newest = mmg_index_newest(index, link, equal);

	shared->older = MMG_NIL;
	shared->newer = MMG_NIL;
	if (newest) {
		index->moves++;
		shared->next = newest->next;
		shared->older = newest->id;
		newest->next = MMG_NIL;
		newest->newer = shared->id;
	} else {
		shared->next = *link;
		index->count++;
	}
	*link = shared->id | MMG_ID_SHARED;
}

/**
 * mmg_index_replace - let a shared page take the place of an entry
 * @index: of the domain
 * @id: of an entry that is in the index
 * @look: for the hash of the entry, from mmg_index_fetch() under this hold of
 *	the lock; or NULL
 * @shared: as for mmg_index_insert_shared(), with the hash of the entry
 *
 * Needs no memory.
 *
 * Return: false if another shared page has the hash, with all as it was.
 */
bool mmg_index_replace(struct mmg_index *index, u32 id,
		       const struct mmg_look *look, struct mmg_shared *shared)
{
	u64 hash;
	u32 *next = mmg_index_node(index, id, &hash), *link;
	bool equal;

	/*
	 * That others have been replaced since does not matter: who names an
	 * indexed entry is in front of it, and nobody else does.
	 */
	if (look && look->losses == index->losses && *look->link == id)
		link = look->link;
	else
		link = mmg_index_seek(index, mmg_bucket(index, hash), hash,
				      &equal);
	if (*link != id)
		return false;
	shared->older = MMG_NIL;
	shared->newer = MMG_NIL;
	index->moves++;
	shared->next = *next;
	*next = MMG_NIL;
	*link = shared->id | MMG_ID_SHARED;
	return true;
}

/**
 * mmg_index_remove_shared - take a shared page out of the index
 * @index: of the domain
 * @shared: that is in the index, its hash as when it was inserted
 */
void mmg_index_remove_shared(struct mmg_index *index, struct mmg_shared *shared)
{
	struct mmg_shared *older = mmg_index_older(index, shared);
	bool equal;
	u32 *link;

	index->losses++;
	if (older)
		older->newer = shared->newer;
	if (shared->newer != MMG_NIL) {
		mmg_index_shared(index, shared->newer)->older = shared->older;
		return;
	}
	link = mmg_index_seek(index, mmg_bucket(index, shared->hash),
			      shared->hash, &equal);
	if (WARN_ON_ONCE(mmg_index_newest(index, link, equal) != shared))
		return;
	if (older) {
		index->moves++;
		older->next = shared->next;
		shared->next = MMG_NIL;
		*link = shared->older | MMG_ID_SHARED;
	} else {
		mmg_index_take(index, link, &shared->next);
	}
}

/**
 * mmg_index_older - find a further shared page with the same hash
 * @index: of the domain
 * @shared: that is in the index
 *
 * Return: the newest of those that are older than it, or NULL.
 */
struct mmg_shared *mmg_index_older(const struct mmg_index *index,
				   const struct mmg_shared *shared)
{
	return shared->older == MMG_NIL ? NULL :
					  mmg_index_shared(index, shared->older);
}

#ifdef CONFIG_MEMMERGE_KUNIT_TEST
#include "index_kunit.c"
#endif
