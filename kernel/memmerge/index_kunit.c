// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - KUnit tests of the index, the arithmetic of ranges and the
 * back-off; included by index.c
 */
#include <kunit/test.h>
#include <linux/prandom.h>

#define MMG_TEST_CHUNKS	16
#define MMG_TEST_PAGES	(MMG_TEST_CHUNKS * MMG_CHUNK_PAGES)

/**
 * struct mmg_index_test - an index with chunks whose entries are not in it
 * @index: under test
 * @chunks: all added
 */
struct mmg_index_test {
	struct mmg_index index;
	struct mmg_chunk chunks[MMG_TEST_CHUNKS];
};

static int mmg_index_test_init(struct kunit *test)
{
	struct mmg_index_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	KUNIT_ASSERT_EQ(test, 0, mmg_index_init(&t->index));
	for (i = 0; i < MMG_TEST_CHUNKS; i++) {
		t->chunks[i].entries = kunit_kcalloc(test, MMG_CHUNK_PAGES,
						     sizeof(struct mmg_entry),
						     GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, t->chunks[i].entries);
		KUNIT_ASSERT_EQ(test, 0, mmg_index_add_chunk(&t->index,
							     &t->chunks[i]));
	}
	return 0;
}

static void mmg_index_test_exit(struct kunit *test)
{
	struct mmg_index_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < MMG_TEST_CHUNKS; i++)
		mmg_index_remove_chunk(&t->index, &t->chunks[i]);
	KUNIT_EXPECT_EQ(test, 0, t->index.count);
	KUNIT_EXPECT_EQ(test, 0, t->index.chunks.count);
	mmg_index_destroy(&t->index);
}

static u32 mmg_test_id(struct mmg_index_test *t, unsigned int page)
{
	return (t->chunks[page >> MMG_CHUNK_SHIFT].id << MMG_CHUNK_SHIFT) +
	       (page & (MMG_CHUNK_PAGES - 1));
}

static u32 mmg_test_find(struct mmg_index_test *t, u64 hash)
{
	struct mmg_shared *shared;

	return mmg_index_find(&t->index, hash, &shared);
}

static void mmg_test_insert(struct mmg_index_test *t, u32 id, u64 hash)
{
	struct mmg_chunk *chunk = mmg_index_chunk(&t->index, id);

	chunk->entries[mmg_id_slot(id)].hash = hash;
	chunk->marks[mmg_id_slot(id)].state = MMG_INDEXED;
	mmg_index_insert(&t->index, id);
}

static void mmg_test_remove(struct mmg_index_test *t, u32 id)
{
	mmg_index_remove(&t->index, id);
	mmg_index_chunk(&t->index, id)->marks[mmg_id_slot(id)].state = MMG_SEEN;
}

static bool mmg_test_indexed(struct mmg_index_test *t, u32 id)
{
	return mmg_index_chunk(&t->index, id)->marks[mmg_id_slot(id)].state ==
	       MMG_INDEXED;
}

static void mmg_test_empty(struct kunit *test)
{
	struct mmg_index_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, MMG_NIL, mmg_test_find(t, 0));
	KUNIT_EXPECT_EQ(test, MMG_NIL,
			mmg_test_find(t, (1ULL << MMG_HASH_BITS) - 1));
}

static void mmg_test_chunk_of_id(struct kunit *test)
{
	struct mmg_index_test *t = test->priv;
	u32 id = mmg_test_id(t, MMG_CHUNK_PAGES + 3);

	KUNIT_EXPECT_PTR_EQ(test, &t->chunks[1],
			    mmg_index_chunk(&t->index, id));
	KUNIT_EXPECT_EQ(test, 3, mmg_id_slot(id));
	KUNIT_EXPECT_EQ(test, id, mmg_entry_id(&t->chunks[1], 3));
}

static void mmg_test_same_bucket(struct kunit *test)
{
	/* These differ only in bits that no bucket number ever uses. */
	static const u64 hashes[] = {
		0x10ULL << 32, 0x11ULL << 32, 0x12ULL << 32, 0x13ULL << 32
	};
	struct mmg_index_test *t = test->priv;
	unsigned int i;

	/* To an empty chain, behind its tail, into the middle, to the head. */
	mmg_test_insert(t, mmg_test_id(t, 1), hashes[1]);
	mmg_test_insert(t, mmg_test_id(t, 3), hashes[3]);
	mmg_test_insert(t, mmg_test_id(t, 2), hashes[2]);
	mmg_test_insert(t, mmg_test_id(t, 0), hashes[0]);
	for (i = 0; i < ARRAY_SIZE(hashes); i++)
		KUNIT_EXPECT_EQ(test, mmg_test_id(t, i),
				mmg_test_find(t, hashes[i]));
	/* From the middle, the tail, the head of the chain. */
	mmg_test_remove(t, mmg_test_id(t, 1));
	mmg_test_remove(t, mmg_test_id(t, 3));
	mmg_test_remove(t, mmg_test_id(t, 0));
	KUNIT_EXPECT_EQ(test, MMG_NIL, mmg_test_find(t, 0x10ULL << 32));
	KUNIT_EXPECT_EQ(test, MMG_NIL, mmg_test_find(t, 0x11ULL << 32));
	KUNIT_EXPECT_EQ(test, MMG_NIL, mmg_test_find(t, 0x13ULL << 32));
	KUNIT_EXPECT_EQ(test, mmg_test_id(t, 2),
			mmg_test_find(t, 0x12ULL << 32));
}

/* Random hashes, the same ones each time. */
static u64 mmg_test_hash(struct rnd_state *rnd, unsigned int i)
{
	return ((u64)i << 27) + (prandom_u32_state(rnd) >> 5);
}

/* There are as many buckets as the entries need, and not far more. */
static void mmg_test_buckets(struct kunit *test, const struct mmg_index *index)
{
	KUNIT_EXPECT_LE(test, index->buckets, 1UL << index->bits);
	KUNIT_EXPECT_GT(test, index->buckets, 1UL << (index->bits - 1));
	KUNIT_EXPECT_LE(test, index->count, index->buckets * MMG_INDEX_LOAD);
	if (index->buckets > MMG_SEGMENT_BUCKETS)
		KUNIT_EXPECT_GE(test, index->count * MMG_INDEX_SPARE,
				index->buckets);
}

/* At each number of buckets what is in there is found, and nothing else. */
static void mmg_test_grow(struct kunit *test)
{
	struct mmg_index_test *t = test->priv;
	struct rnd_state rnd, found;
	unsigned int i, j;

	prandom_seed_state(&rnd, 1);
	for (i = 0; i < MMG_TEST_PAGES; i++) {
		mmg_test_insert(t, mmg_test_id(t, i), mmg_test_hash(&rnd, i));
		mmg_test_buckets(test, &t->index);
		if (i % 61)
			continue;
		prandom_seed_state(&found, 1);
		for (j = 0; j <= i; j++)
			KUNIT_EXPECT_EQ(test, mmg_test_id(t, j),
					mmg_test_find(t, mmg_test_hash(&found, j)));
	}
	KUNIT_EXPECT_EQ(test, MMG_TEST_PAGES, t->index.count);
	KUNIT_EXPECT_GT(test, t->index.buckets, MMG_SEGMENT_BUCKETS);
}

static void mmg_test_shrink(struct kunit *test)
{
	struct mmg_index_test *t = test->priv;
	struct rnd_state rnd, found;
	unsigned int i, j;

	prandom_seed_state(&rnd, 1);
	for (i = 0; i < MMG_TEST_PAGES; i++)
		mmg_test_insert(t, mmg_test_id(t, i), mmg_test_hash(&rnd, i));
	for (i = 0; i < MMG_TEST_PAGES; i++) {
		mmg_test_remove(t, mmg_test_id(t, i));
		mmg_test_buckets(test, &t->index);
		if (i % 61)
			continue;
		prandom_seed_state(&found, 1);
		for (j = 0; j < MMG_TEST_PAGES; j++)
			KUNIT_EXPECT_EQ(test,
					j > i ? mmg_test_id(t, j) : MMG_NIL,
					mmg_test_find(t, mmg_test_hash(&found, j)));
	}
	KUNIT_EXPECT_EQ(test, 0, t->index.count);
	KUNIT_EXPECT_EQ(test, MMG_SEGMENT_BUCKETS, t->index.buckets);
}

/* Full to the last bit, an entry keeps its fields apart. */
static void mmg_test_entry_fields(struct kunit *test)
{
	struct mmg_entry entry = {};
	struct mmg_mark mark = {};

	KUNIT_EXPECT_EQ(test, 8, sizeof(entry));
	entry.hash = (1ULL << MMG_HASH_BITS) - 1;
	KUNIT_EXPECT_EQ(test, 0, (int)entry.tag);
	KUNIT_EXPECT_EQ(test, 0, (int)entry.warm);
	entry.tag = U16_MAX;
	KUNIT_EXPECT_EQ(test, 0, (int)entry.warm);
	entry.warm = MMG_LASTED;
	KUNIT_EXPECT_EQ(test, (1ULL << MMG_HASH_BITS) - 1, (u64)entry.hash);
	KUNIT_EXPECT_EQ(test, U16_MAX, (int)entry.tag);
	KUNIT_EXPECT_EQ(test, MMG_LASTED, (int)entry.warm);

	KUNIT_EXPECT_EQ(test, 2, sizeof(mark));
	mark.state = MMG_NR_STATES - 1;
	mark.place = MMG_CHUNK_PLACES - 1;
	mark.calm = MMG_CALM;
	mark.breaks = MMG_MAX_BREAKS;
	mark.heats = MMG_MAX_HEATS;
	KUNIT_EXPECT_EQ(test, MMG_NR_STATES - 1, (int)mark.state);
	KUNIT_EXPECT_EQ(test, MMG_CHUNK_PLACES - 1, (int)mark.place);
	KUNIT_EXPECT_EQ(test, MMG_CALM, (int)mark.calm);
	KUNIT_EXPECT_EQ(test, MMG_MAX_BREAKS, (int)mark.breaks);
	KUNIT_EXPECT_EQ(test, MMG_MAX_HEATS, (int)mark.heats);
	KUNIT_EXPECT_FALSE(test, mark.changed || mark.cold || mark.wanted);
}

static void mmg_test_chunk_goes(struct kunit *test)
{
	struct mmg_index_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < 2 * MMG_CHUNK_PAGES; i++)
		mmg_test_insert(t, mmg_test_id(t, i), (u64)i * 3);
	mmg_index_remove_chunk(&t->index, &t->chunks[0]);
	KUNIT_EXPECT_EQ(test, MMG_CHUNK_PAGES, t->index.count);
	for (i = 0; i < MMG_CHUNK_PAGES; i++)
		KUNIT_EXPECT_EQ(test, MMG_NIL,
				mmg_test_find(t, (u64)i * 3));
	for (; i < 2 * MMG_CHUNK_PAGES; i++)
		KUNIT_EXPECT_EQ(test, mmg_test_id(t, i),
				mmg_test_find(t, (u64)i * 3));

	/* Its number is free again; exit removes every chunk. */
	for (i = 0; i < MMG_CHUNK_PAGES; i++)
		t->chunks[0].marks[i].state = MMG_NONE;
	KUNIT_EXPECT_EQ(test, 0, mmg_index_add_chunk(&t->index, &t->chunks[0]));
}

/* More chunks than a table has, and tables than there is room for at first. */
static void mmg_test_many_chunks(struct kunit *test)
{
	const unsigned int nr = 10 * MMG_TABLE_THINGS + 3;
	const unsigned int some = 3 * MMG_TABLE_THINGS;
	unsigned long before;
	struct mmg_index index;
	struct mmg_chunk *chunks = kvcalloc(nr, sizeof(*chunks), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, chunks);
	if (mmg_index_init(&index)) {
		kvfree(chunks);
		KUNIT_FAIL(test, "no memory for an index");
		return;
	}
	before = mmg_index_metadata(&index);
	for (i = 0; i < nr; i++)
		KUNIT_EXPECT_EQ(test, 0, mmg_index_add_chunk(&index, &chunks[i]));
	KUNIT_EXPECT_EQ(test, 11, index.chunks.nr_tables);
	KUNIT_EXPECT_GT(test, mmg_index_metadata(&index), before);
	for (i = 0; i < nr; i++)
		KUNIT_EXPECT_PTR_EQ(test, &chunks[i],
				    mmg_index_chunk(&index,
						    mmg_entry_id(&chunks[i],
								 i % MMG_CHUNK_PAGES)));

	/* Numbers that are free again come before new ones, each once. */
	for (i = some; i < 2 * some; i++)
		mmg_index_remove_chunk(&index, &chunks[i]);
	for (i = some; i < 2 * some; i++)
		KUNIT_EXPECT_EQ(test, 0, mmg_index_add_chunk(&index, &chunks[i]));
	KUNIT_EXPECT_EQ(test, 11, index.chunks.nr_tables);
	for (i = 0; i < nr; i++) {
		KUNIT_EXPECT_LT(test, chunks[i].id, nr + MMG_TABLE_THINGS);
		KUNIT_EXPECT_PTR_EQ(test, &chunks[i],
				    mmg_index_chunk(&index,
						    mmg_entry_id(&chunks[i], 0)));
	}

	/* Without chunks the tables go, and come again. */
	for (i = 0; i < nr; i++)
		mmg_index_remove_chunk(&index, &chunks[i]);
	KUNIT_EXPECT_EQ(test, 0, index.chunks.nr_tables);
	KUNIT_EXPECT_EQ(test, before, mmg_index_metadata(&index));
	KUNIT_EXPECT_EQ(test, 0, mmg_index_add_chunk(&index, &chunks[0]));
	KUNIT_EXPECT_EQ(test, 0, chunks[0].id);
	mmg_index_remove_chunk(&index, &chunks[0]);
	mmg_index_destroy(&index);
	kvfree(chunks);
}

/* Random inserts and removes against an array that says what is in there. */
static void mmg_test_random(struct kunit *test)
{
	struct mmg_index_test *t = test->priv;
	struct rnd_state rnd;
	unsigned long count = 0;
	unsigned int i, n;

	prandom_seed_state(&rnd, 2008);
	for (n = 0; n < 20 * MMG_TEST_PAGES; n++) {
		i = prandom_u32_state(&rnd) % MMG_TEST_PAGES;
		if (mmg_test_indexed(t, mmg_test_id(t, i))) {
			mmg_test_remove(t, mmg_test_id(t, i));
			count--;
		} else {
			/* Unequal hashes that crowd into few buckets. */
			mmg_test_insert(t, mmg_test_id(t, i),
					((u64)i << 27) + (i & 7));
			count++;
		}
		if (t->index.count != count)
			break;
	}
	KUNIT_EXPECT_EQ(test, count, t->index.count);
	for (i = 0; i < MMG_TEST_PAGES; i++) {
		u32 id = mmg_test_id(t, i);
		bool in = mmg_test_indexed(t, id);

		KUNIT_EXPECT_EQ(test, in ? id : MMG_NIL,
				mmg_test_find(t, ((u64)i << 27) + (i & 7)));
	}
}

/* How many shared pages of one content a test has at most. */
#define MMG_TEST_COPIES		3

/**
 * struct mmg_shared_test - shared pages beside the entries of an index
 * @shared: of each page's content, as it was replaced
 * @nr: how many of these are in the index, the newest one last
 */
struct mmg_shared_test {
	struct mmg_shared shared[MMG_TEST_PAGES][MMG_TEST_COPIES];
	u8 nr[MMG_TEST_PAGES];
};

static struct mmg_shared_test *mmg_shared_test_new(struct kunit *test)
{
	struct mmg_shared_test *s = kvzalloc(sizeof(*s), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, s);
	return s;
}

/* The entry of a page becomes a shared page. */
static void mmg_test_replace(struct kunit *test, struct mmg_shared_test *s,
			     unsigned int page, const struct mmg_look *look)
{
	struct mmg_index_test *t = test->priv;
	struct mmg_shared *shared = &s->shared[page][s->nr[page]++];
	u32 id = mmg_test_id(t, page);
	struct mmg_chunk *chunk = mmg_index_chunk(&t->index, id);

	shared->hash = chunk->entries[mmg_id_slot(id)].hash;
	KUNIT_EXPECT_EQ(test, 0, mmg_numbers_reserve(&t->index.shared, 1));
	KUNIT_EXPECT_TRUE(test, mmg_numbers_add(&t->index.shared, shared,
						&shared->id));
	if (s->nr[page] == 1) {
		KUNIT_EXPECT_TRUE(test, mmg_index_replace(&t->index, id,
							  look, shared));
	} else {
		KUNIT_EXPECT_FALSE(test, mmg_index_replace(&t->index, id,
							   look, shared));
		mmg_index_remove(&t->index, id);
		mmg_index_insert_shared(&t->index, shared);
	}
	chunk->marks[mmg_id_slot(id)].state = MMG_SEEN;
}

/* One of the shared pages of a content goes. */
static void mmg_test_unshare(struct mmg_index_test *t,
			     struct mmg_shared_test *s, unsigned int page,
			     unsigned int copy)
{
	struct mmg_shared *shared = s->shared[page];
	const unsigned int last = s->nr[page] - 1;

	mmg_index_remove_shared(&t->index, &shared[copy]);
	mmg_numbers_remove(&t->index.shared, shared[copy].id);
	/* As it moves, take it out, and put it in at its new address. */
	for (; copy < last; copy++) {
		mmg_index_remove_shared(&t->index, &shared[copy + 1]);
		mmg_numbers_remove(&t->index.shared, shared[copy + 1].id);
		shared[copy].hash = shared[copy + 1].hash;
		mmg_numbers_reserve(&t->index.shared, 1);
		mmg_numbers_add(&t->index.shared, &shared[copy],
				&shared[copy].id);
		mmg_index_insert_shared(&t->index, &shared[copy]);
	}
	s->nr[page]--;
}

/* Is exactly that found by a hash: the shared pages of a page, and its entry? */
static void mmg_test_finds(struct kunit *test, struct mmg_shared_test *s,
			   unsigned int page, u64 hash)
{
	struct mmg_index_test *t = test->priv;
	u32 id = mmg_test_id(t, page);
	struct mmg_shared *shared;
	unsigned int i;

	KUNIT_EXPECT_EQ(test, mmg_test_indexed(t, id) ? id : MMG_NIL,
			mmg_index_find(&t->index, hash, &shared));
	for (i = s->nr[page]; i--;) {
		KUNIT_EXPECT_PTR_EQ(test, &s->shared[page][i], shared);
		if (!shared)
			return;
		KUNIT_EXPECT_PTR_EQ(test, shared,
				    mmg_numbers_get(&t->index.shared,
						    shared->id));
		shared = mmg_index_older(&t->index, shared);
	}
	KUNIT_EXPECT_NULL(test, shared);
}

/* A shared page among entries of its bucket, with a further entry, and alone. */
static void mmg_test_shared_place(struct kunit *test)
{
	struct mmg_shared_test *s = mmg_shared_test_new(test);
	struct mmg_index_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < 3; i++)
		mmg_test_insert(t, mmg_test_id(t, i), (u64)i << 32);
	mmg_test_replace(test, s, 1, NULL);
	KUNIT_EXPECT_EQ(test, 3, t->index.count);
	for (i = 0; i < 3; i++)
		mmg_test_finds(test, s, i, (u64)i << 32);

	/* Full, say: the next page of the content waits beside it. */
	mmg_test_insert(t, mmg_test_id(t, 1), 1ULL << 32);
	KUNIT_EXPECT_EQ(test, 4, t->index.count);
	for (i = 0; i < 3; i++)
		mmg_test_finds(test, s, i, (u64)i << 32);
	mmg_test_remove(t, mmg_test_id(t, 1));
	for (i = 0; i < 3; i++)
		mmg_test_finds(test, s, i, (u64)i << 32);

	mmg_test_remove(t, mmg_test_id(t, 0));
	mmg_test_remove(t, mmg_test_id(t, 2));
	for (i = 0; i < 3; i++)
		mmg_test_finds(test, s, i, (u64)i << 32);
	KUNIT_EXPECT_EQ(test, 1, t->index.count);
	mmg_test_unshare(t, s, 1, 0);
	mmg_test_finds(test, s, 1, 1ULL << 32);
	KUNIT_EXPECT_EQ(test, 0, t->index.count);
	KUNIT_EXPECT_EQ(test, 0, t->index.shared.count);
	kvfree(s);
}

/* However many pages have one content, one thing of it is on the chain. */
static void mmg_test_shared_copies(struct kunit *test)
{
	struct mmg_shared_test *s = mmg_shared_test_new(test);
	struct mmg_index_test *t = test->priv;
	unsigned int i, first;

	mmg_test_insert(t, mmg_test_id(t, 0), 0);
	mmg_test_insert(t, mmg_test_id(t, 2), 2ULL << 32);
	/* From the oldest one, the middle, the newest one on. */
	for (first = 0; first < MMG_TEST_COPIES; first++) {
		for (i = 0; i < MMG_TEST_COPIES; i++) {
			mmg_test_insert(t, mmg_test_id(t, 1), 1ULL << 32);
			mmg_test_replace(test, s, 1, NULL);
		}
		KUNIT_EXPECT_EQ(test, 3, t->index.count);
		mmg_test_insert(t, mmg_test_id(t, 1), 1ULL << 32);
		for (i = 0; i < 3; i++)
			mmg_test_finds(test, s, i, (u64)i << 32);
		mmg_test_remove(t, mmg_test_id(t, 1));
		while (s->nr[1]) {
			mmg_test_unshare(t, s, 1, min(first, s->nr[1] - 1U));
			for (i = 0; i < 3; i++)
				mmg_test_finds(test, s, i, (u64)i << 32);
		}
		KUNIT_EXPECT_EQ(test, 2, t->index.count);
	}
	mmg_test_remove(t, mmg_test_id(t, 0));
	mmg_test_remove(t, mmg_test_id(t, 2));
	kvfree(s);
}

/* Unequal hashes, whose low bits are those of many buckets. */
static u64 mmg_test_spread(unsigned int page)
{
	return ((u64)page << 27) + (page * 2654435761U >> 5);
}

/* Entries and shared pages come and go, and the buckets with them. */
static void mmg_test_shared_random(struct kunit *test)
{
	struct mmg_shared_test *s = mmg_shared_test_new(test);
	struct mmg_index_test *t = test->priv;
	struct rnd_state rnd;
	unsigned long most;
	unsigned int i, n;

	prandom_seed_state(&rnd, 1969);
	for (n = 0; n < 20 * MMG_TEST_PAGES; n++) {
		u32 id;

		i = prandom_u32_state(&rnd) % MMG_TEST_PAGES;
		id = mmg_test_id(t, i);
		if (!mmg_test_indexed(t, id))
			mmg_test_insert(t, id, mmg_test_spread(i));
		else if (prandom_u32_state(&rnd) & 1)
			mmg_test_remove(t, id);
		else if (s->nr[i] < MMG_TEST_COPIES)
			mmg_test_replace(test, s, i, NULL);
		else
			mmg_test_unshare(t, s, i, n % MMG_TEST_COPIES);
	}
	most = t->index.buckets;
	KUNIT_EXPECT_GT(test, most, MMG_SEGMENT_BUCKETS);
	for (i = 0; i < MMG_TEST_PAGES; i++)
		mmg_test_finds(test, s, i, mmg_test_spread(i));

	/* Some pages keep what they have, shared pages and an entry beside. */
	for (i = 0; i < MMG_TEST_PAGES; i++) {
		if (i % 16 == 0)
			continue;
		while (s->nr[i])
			mmg_test_unshare(t, s, i, 0);
		if (mmg_test_indexed(t, mmg_test_id(t, i)))
			mmg_test_remove(t, mmg_test_id(t, i));
	}
	KUNIT_EXPECT_LT(test, t->index.buckets, most);
	for (i = 0, n = 0; i < MMG_TEST_PAGES; i++) {
		mmg_test_finds(test, s, i, mmg_test_spread(i));
		n += s->nr[i] && mmg_test_indexed(t, mmg_test_id(t, i));
	}
	KUNIT_EXPECT_GT(test, n, 0);

	for (i = 0; i < MMG_TEST_PAGES; i++)
		while (s->nr[i])
			mmg_test_unshare(t, s, i, 0);
	KUNIT_EXPECT_EQ(test, 0, t->index.shared.count);
	KUNIT_EXPECT_EQ(test, 0, t->index.shared.nr_tables);
	kvfree(s);
}

static bool mmg_test_claim(struct mmg_index_test *t, u32 id, u64 hash,
			   const struct mmg_look *look,
			   struct mmg_shared **shared, u32 *equal)
{
	struct mmg_chunk *chunk = mmg_index_chunk(&t->index, id);

	chunk->entries[mmg_id_slot(id)].hash = hash;
	if (!mmg_index_claim(&t->index, id, look, shared, equal))
		return false;
	chunk->marks[mmg_id_slot(id)].state = MMG_INDEXED;
	return true;
}

/* Who comes first has a hash, and who comes later is told. */
static void mmg_test_claim_first(struct kunit *test)
{
	struct mmg_shared_test *s = mmg_shared_test_new(test);
	struct mmg_index_test *t = test->priv;
	struct mmg_shared *shared;
	u32 equal;

	KUNIT_EXPECT_TRUE(test, mmg_test_claim(t, mmg_test_id(t, 1), 7, NULL,
					       &shared, &equal));
	KUNIT_EXPECT_FALSE(test, mmg_test_claim(t, mmg_test_id(t, 2), 7, NULL,
						&shared, &equal));
	KUNIT_EXPECT_NULL(test, shared);
	KUNIT_EXPECT_EQ(test, mmg_test_id(t, 1), equal);

	mmg_test_replace(test, s, 1, NULL);
	KUNIT_EXPECT_FALSE(test, mmg_test_claim(t, mmg_test_id(t, 2), 7, NULL,
						&shared, &equal));
	KUNIT_EXPECT_PTR_EQ(test, &s->shared[1][0], shared);
	KUNIT_EXPECT_EQ(test, MMG_NIL, equal);

	mmg_test_insert(t, mmg_test_id(t, 3), 7);
	KUNIT_EXPECT_FALSE(test, mmg_test_claim(t, mmg_test_id(t, 2), 7, NULL,
						&shared, &equal));
	KUNIT_EXPECT_PTR_EQ(test, &s->shared[1][0], shared);
	KUNIT_EXPECT_EQ(test, mmg_test_id(t, 3), equal);

	mmg_test_remove(t, mmg_test_id(t, 3));
	mmg_test_unshare(t, s, 1, 0);
	KUNIT_EXPECT_EQ(test, 0, t->index.count);
	kvfree(s);
}

/* Something happens to what is known of a page. */
static void mmg_test_change(struct kunit *test, struct mmg_shared_test *s,
			    unsigned int page, const struct mmg_look *look,
			    bool off)
{
	struct mmg_index_test *t = test->priv;
	u32 id = mmg_test_id(t, page);

	if (!mmg_test_indexed(t, id)) {
		if (s->nr[page] && off)
			mmg_test_unshare(t, s, page, 0);
		else
			mmg_test_insert(t, id, mmg_test_spread(page));
	} else if (off || s->nr[page] == MMG_TEST_COPIES) {
		mmg_test_remove(t, id);
	} else {
		mmg_test_replace(test, s, page, look);
	}
}

/* What has been fetched is of use later, or known not to be, whatever happens. */
static void mmg_test_claim_later(struct kunit *test)
{
	struct mmg_shared_test *s = mmg_shared_test_new(test);
	struct mmg_index_test *t = test->priv;
	struct mmg_look looks[16];
	unsigned int pages[ARRAY_SIZE(looks)];
	unsigned int i, n, claimed = 0;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 1815);
	for (n = 0; n < 2 * MMG_TEST_PAGES; n++) {
		/* It grows for the first half, and then shrinks. */
		const bool shrink = n > MMG_TEST_PAGES;

		for (i = 0; i < ARRAY_SIZE(looks); i++) {
			pages[i] = prandom_u32_state(&rnd) % MMG_TEST_PAGES;
			looks[i].hash = mmg_test_spread(pages[i]);
		}
		mmg_index_fetch(&t->index, looks, ARRAY_SIZE(looks));
		for (i = 0; i < ARRAY_SIZE(looks); i++) {
			u32 equal, id = mmg_test_id(t, pages[i]);
			struct mmg_shared *shared;
			bool first;

			if (prandom_u32_state(&rnd) % 8 == 0)
				mmg_test_change(test, s,
						prandom_u32_state(&rnd) %
							MMG_TEST_PAGES, NULL,
						shrink || prandom_u32_state(&rnd) & 1);
			if (mmg_test_indexed(t, id) || shrink) {
				mmg_test_change(test, s, pages[i], &looks[i],
						shrink);
				continue;
			}
			first = mmg_test_claim(t, id, looks[i].hash, &looks[i],
					       &shared, &equal);
			KUNIT_EXPECT_EQ(test, !s->nr[pages[i]], first);
			KUNIT_EXPECT_EQ(test, MMG_NIL, equal);
			KUNIT_EXPECT_PTR_EQ(test, shared, first ? NULL :
					    &s->shared[pages[i]][s->nr[pages[i]] - 1]);
			claimed += first;
		}
		if (n % 512)
			continue;
		for (i = 0; i < MMG_TEST_PAGES; i++)
			mmg_test_finds(test, s, i, mmg_test_spread(i));
	}
	KUNIT_EXPECT_GT(test, claimed, MMG_TEST_PAGES);
	for (i = 0; i < MMG_TEST_PAGES; i++)
		while (s->nr[i])
			mmg_test_unshare(t, s, i, 0);
	kvfree(s);
}

/* What was fetched may lead to buckets that are gone by the time it is used. */
static void mmg_test_replace_later(struct kunit *test)
{
	struct mmg_shared_test *s = mmg_shared_test_new(test);
	struct mmg_index_test *t = test->priv;
	struct mmg_look looks[16];
	unsigned int pages[ARRAY_SIZE(looks)];
	unsigned int i, nr = 0;

	for (i = 0; i < MMG_TEST_PAGES; i++)
		mmg_test_insert(t, mmg_test_id(t, i), mmg_test_spread(i));
	for (i = 0; i < MMG_TEST_PAGES && nr < ARRAY_SIZE(looks); i++) {
		u64 hash = mmg_test_spread(i);

		if (mmg_bucket_nr(&t->index, hash) < MMG_SEGMENT_BUCKETS)
			continue;
		looks[nr].hash = hash;
		pages[nr++] = i;
	}
	KUNIT_ASSERT_EQ(test, ARRAY_SIZE(looks), nr);
	mmg_index_fetch(&t->index, looks, nr);
	for (i = 0, nr = 0; i < MMG_TEST_PAGES; i++) {
		if (nr < ARRAY_SIZE(pages) && i == pages[nr])
			nr++;
		else
			mmg_test_remove(t, mmg_test_id(t, i));
	}
	KUNIT_ASSERT_EQ(test, MMG_SEGMENT_BUCKETS, t->index.buckets);
	for (i = 0; i < nr; i++)
		mmg_test_replace(test, s, pages[i], &looks[i]);
	for (i = 0; i < MMG_TEST_PAGES; i++)
		mmg_test_finds(test, s, i, mmg_test_spread(i));
	for (i = 0; i < nr; i++)
		mmg_test_unshare(t, s, pages[i], 0);
	KUNIT_EXPECT_EQ(test, 0, t->index.count);
	kvfree(s);
}

static struct kunit_case mmg_index_cases[] = {
	KUNIT_CASE(mmg_test_empty),
	KUNIT_CASE(mmg_test_chunk_of_id),
	KUNIT_CASE(mmg_test_same_bucket),
	KUNIT_CASE(mmg_test_grow),
	KUNIT_CASE(mmg_test_shrink),
	KUNIT_CASE(mmg_test_entry_fields),
	KUNIT_CASE(mmg_test_chunk_goes),
	KUNIT_CASE(mmg_test_many_chunks),
	KUNIT_CASE(mmg_test_random),
	KUNIT_CASE(mmg_test_shared_place),
	KUNIT_CASE(mmg_test_shared_copies),
	KUNIT_CASE(mmg_test_shared_random),
	KUNIT_CASE(mmg_test_claim_first),
	KUNIT_CASE(mmg_test_claim_later),
	KUNIT_CASE(mmg_test_replace_later),
	{}
};

static struct kunit_suite mmg_index_suite = {
	.name = "memmerge-index",
	.init = mmg_index_test_init,
	.exit = mmg_index_test_exit,
	.test_cases = mmg_index_cases,
};

static void mmg_test_range(struct kunit *test)
{
	static const struct {
		u64 start, length;
		int err;
	} cases[] = {
		{ 0, PAGE_SIZE, 0 },
		{ PAGE_SIZE, 0, -EINVAL },
		{ 1, PAGE_SIZE, -EINVAL },
		{ PAGE_SIZE, PAGE_SIZE + 1, -EINVAL },
		{ PAGE_SIZE, PAGE_SIZE - 1, -EINVAL },
		{ SZ_1G - PAGE_SIZE, PAGE_SIZE, 0 },
		{ SZ_1G, PAGE_SIZE, -EOVERFLOW },
		{ SZ_1G - PAGE_SIZE, 2 * PAGE_SIZE, -EOVERFLOW },
		{ -(u64)PAGE_SIZE, PAGE_SIZE, -EOVERFLOW },
		{ -(u64)PAGE_SIZE, 2 * PAGE_SIZE, -EOVERFLOW },
		{ PAGE_SIZE, -(u64)PAGE_SIZE, -EOVERFLOW },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		KUNIT_EXPECT_EQ_MSG(test, cases[i].err,
				    mmg_range_check(cases[i].start,
						    cases[i].length, SZ_1G),
				    "case %u", i);
	KUNIT_EXPECT_EQ(test, 0, mmg_range_check(0, MMG_MAX_PAGES << PAGE_SHIFT,
						 ULONG_MAX));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			mmg_range_check(0, (MMG_MAX_PAGES + 1) << PAGE_SHIFT,
					ULONG_MAX));
}

static void mmg_test_backoff(struct kunit *test)
{
	static const u8 passes[] = { 0, 1, 3, 7, 15, 31, 63, 63, 63 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(passes); i++)
		KUNIT_EXPECT_EQ(test, passes[i], mmg_backoff(i));
	KUNIT_EXPECT_EQ(test, 63, mmg_backoff(U8_MAX));
}

/* A protection that does not last is tried later and later, one that did soon. */
static void mmg_test_heat(struct kunit *test)
{
	static const u8 passes[] = { 1, 3, 7, 15, 31, 63, 127, 127 };
	struct mmg_chunk *chunk = kunit_kzalloc(test, sizeof(*chunk),
						GFP_KERNEL);
	struct mmg_entry entry = {};
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, chunk);
	chunk->entries = &entry;
	for (i = 0; i < ARRAY_SIZE(passes); i++) {
		entry.warm = i;		/* so long it was protected */
		chunk->marks[0].calm = MMG_CALM;
		mmg_heat(chunk, 0);
		KUNIT_EXPECT_EQ(test, passes[i], entry.warm);
		KUNIT_EXPECT_EQ(test, 0, (int)chunk->marks[0].calm);
	}
	entry.warm = MMG_LASTED;
	mmg_heat(chunk, 0);
	KUNIT_EXPECT_EQ(test, 1, entry.warm);
}

/* With the limits that the module is loaded with. */
static void mmg_test_advisor(struct kunit *test)
{
	static const struct {
		unsigned int pages;
		u64 took, cpu;
		unsigned int advice;
	} cases[] = {
		{ 1000, 200000, 1000, 1000 },	/* as wanted */
		{ 1000, 400000, 1000, 1500 },	/* too slow */
		{ 1000, 100000, 1000, 750 },	/* too fast */
		{ 1000, 100000, 100000, 700 },	/* takes a whole processor */
		{ 1000, 0, 0, 500 },
		{ 100, 200000, 0, 500 },
		{ 30000, 400000, 1000, 30000 },
		{ UINT_MAX, U64_MAX, U64_MAX, 30000 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		KUNIT_EXPECT_EQ_MSG(test, cases[i].advice,
				    mmg_advisor_pages(cases[i].pages,
						      cases[i].took,
						      cases[i].cpu),
				    "case %u", i);
}

static struct kunit_case mmg_policy_cases[] = {
	KUNIT_CASE(mmg_test_heat),
	KUNIT_CASE(mmg_test_range),
	KUNIT_CASE(mmg_test_backoff),
	KUNIT_CASE(mmg_test_advisor),
	{}
};

static struct kunit_suite mmg_policy_suite = {
	.name = "memmerge-policy",
	.test_cases = mmg_policy_cases,
};

kunit_test_suites(&mmg_index_suite, &mmg_policy_suite);
