// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - KUnit tests of chains and places; included by rmap.c
 *
 * The anon_vmas are made up: nothing looks inside but at their references.
 */
#include <kunit/test.h>
#include <linux/prandom.h>

#define MMG_TEST_CHUNKS		2
#define MMG_TEST_PAGES		(MMG_TEST_CHUNKS * MMG_CHUNK_PAGES)
#define MMG_TEST_SHARED		3
#define MMG_TEST_ANON_VMAS	(MMG_CHUNK_PLACES + 1)
#define MMG_TEST_START		(16UL << PMD_SHIFT)

/**
 * struct mmg_rmap_test - entries, none of them on a chain, and shared pages
 * @domain: of all; only its index is set up
 * @region: of all
 * @chunks: one behind the other
 * @shared: with hashes of their own
 * @anon_vmas: with one reference
 */
struct mmg_rmap_test {
	struct mmg_domain domain;
	struct mmg_region region;
	struct mmg_chunk chunks[MMG_TEST_CHUNKS];
	struct mmg_shared shared[MMG_TEST_SHARED];
	struct anon_vma anon_vmas[MMG_TEST_ANON_VMAS];
};

static int mmg_rmap_test_init(struct kunit *test)
{
	struct mmg_rmap_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	KUNIT_ASSERT_EQ(test, 0, mmg_index_init(&t->domain.index));
	t->region.domain = &t->domain;
	t->region.nr[MMG_NONE] = MMG_TEST_PAGES;
	for (i = 0; i < MMG_TEST_CHUNKS; i++) {
		t->chunks[i].region = &t->region;
		t->chunks[i].start = MMG_TEST_START + i * PMD_SIZE;
		t->chunks[i].entries = kunit_kcalloc(test, MMG_CHUNK_PAGES,
						     sizeof(struct mmg_entry),
						     GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, t->chunks[i].entries);
		KUNIT_ASSERT_EQ(test, 0, mmg_index_add_chunk(&t->domain.index,
							     &t->chunks[i]));
	}
	for (i = 0; i < MMG_TEST_SHARED; i++) {
		t->shared[i].domain = &t->domain;
		t->shared[i].hash = 1000 + i;
		t->shared[i].id = i;
		t->shared[i].first = MMG_NIL;
	}
	for (i = 0; i < MMG_TEST_ANON_VMAS; i++)
		atomic_set(&t->anon_vmas[i].refcount, 1);
	return 0;
}

static void mmg_rmap_test_exit(struct kunit *test)
{
	struct mmg_rmap_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < MMG_TEST_SHARED; i++)
		while (t->shared[i].first != MMG_NIL)
			mmg_rmap_unlink(&t->shared[i], t->shared[i].first,
					MMG_NONE);
	for (i = 0; i < MMG_TEST_ANON_VMAS; i++)
		KUNIT_EXPECT_EQ(test, 1,
				atomic_read(&t->anon_vmas[i].refcount));
	for (i = 0; i < MMG_TEST_CHUNKS; i++) {
		KUNIT_EXPECT_EQ(test, 0, t->chunks[i].chained);
		mmg_index_remove_chunk(&t->domain.index, &t->chunks[i]);
	}
	KUNIT_EXPECT_EQ(test, MMG_TEST_PAGES, t->region.nr[MMG_NONE]);
	mmg_index_destroy(&t->domain.index);
}

static pgoff_t mmg_test_pgoff(unsigned int page)
{
	return (MMG_TEST_START >> PAGE_SHIFT) + page;
}

static bool mmg_test_link(struct mmg_rmap_test *t, unsigned int shared,
			  unsigned int page, unsigned int anon_vma,
			  pgoff_t pgoff)
{
	return mmg_rmap_link(&t->shared[shared],
			     &t->chunks[page >> MMG_CHUNK_SHIFT],
			     page & (MMG_CHUNK_PAGES - 1),
			     &t->anon_vmas[anon_vma], pgoff);
}

static void mmg_test_unlink(struct mmg_rmap_test *t, unsigned int shared,
			    unsigned int page)
{
	mmg_rmap_unlink(&t->shared[shared],
			mmg_entry_id(&t->chunks[page >> MMG_CHUNK_SHIFT],
				     page & (MMG_CHUNK_PAGES - 1)), MMG_NONE);
}

/* The page offsets of a chain, in its order; what mm sees. */
static unsigned int mmg_test_walk(struct mmg_rmap_test *t, unsigned int shared,
				  pgoff_t *pgoffs, unsigned int max)
{
	struct merge_place place = {};
	unsigned int n = 0;

	while (mmg_rmap_next_place(&t->shared[shared].owner, &place))
		if (n++ < max)
			pgoffs[n - 1] = place.pgoff;
	return n;
}

static void mmg_test_chain(struct kunit *test)
{
	static const unsigned int pages[] = { 5, 700, 0, 1023, 511, 512 };
	const unsigned int count = ARRAY_SIZE(pages);
	struct mmg_rmap_test *t = test->priv;
	pgoff_t pgoffs[ARRAY_SIZE(pages)];
	unsigned int i;

	KUNIT_EXPECT_EQ(test, 0, mmg_test_walk(t, 0, pgoffs, count));
	for (i = 0; i < count; i++)
		KUNIT_EXPECT_TRUE(test, mmg_test_link(t, 0, pages[i], 0,
						      mmg_test_pgoff(pages[i])));
	KUNIT_EXPECT_EQ(test, count, t->shared[0].count);
	KUNIT_EXPECT_EQ(test, count, t->region.nr[MMG_SHARED]);
	/* Each chunk holds one reference, however many entries. */
	KUNIT_EXPECT_EQ(test, 3, atomic_read(&t->anon_vmas[0].refcount));
	KUNIT_EXPECT_EQ(test, count, mmg_test_walk(t, 0, pgoffs, count));
	for (i = 0; i < count; i++)
		KUNIT_EXPECT_EQ(test, mmg_test_pgoff(pages[count - 1 - i]),
				pgoffs[i]);

	/* From the middle, the head, the tail. */
	mmg_test_unlink(t, 0, 0);
	mmg_test_unlink(t, 0, 512);
	mmg_test_unlink(t, 0, 5);
	KUNIT_EXPECT_EQ(test, 3, t->shared[0].count);
	KUNIT_EXPECT_EQ(test, 3, mmg_test_walk(t, 0, pgoffs, count));
	KUNIT_EXPECT_EQ(test, mmg_test_pgoff(511), pgoffs[0]);
	KUNIT_EXPECT_EQ(test, mmg_test_pgoff(1023), pgoffs[1]);
	KUNIT_EXPECT_EQ(test, mmg_test_pgoff(700), pgoffs[2]);
	KUNIT_EXPECT_EQ(test, 1000, (u64)t->chunks[0].entries[5].hash);
}

/* Written while it had to stay on its chain: left alone when it leaves that. */
static void mmg_test_broken(struct kunit *test)
{
	struct mmg_rmap_test *t = test->priv;
	struct mmg_chunk *chunk = &t->chunks[0];
	unsigned int i;

	for (i = 0; i < 3; i++) {
		mmg_test_link(t, 0, i, 0, mmg_test_pgoff(i));
		chunk->marks[i].breaks = 2;
	}
	mmg_region_set(chunk, 0, MMG_KEPT, true);
	mmg_region_set(chunk, 1, MMG_KEPT, false);
	for (i = 0; i < 3; i++)
		mmg_test_unlink(t, 0, i);
	KUNIT_EXPECT_EQ(test, 3, (int)chunk->entries[0].wait);
	KUNIT_EXPECT_EQ(test, 0, (int)chunk->entries[1].wait);
	KUNIT_EXPECT_EQ(test, 0, (int)chunk->entries[2].wait);
}

static void mmg_test_places(struct kunit *test)
{
	struct mmg_rmap_test *t = test->priv;
	pgoff_t pgoff;
	unsigned int i;

	for (i = 0; i < MMG_CHUNK_PLACES; i++)
		KUNIT_EXPECT_TRUE(test, mmg_test_link(t, 0, i, i,
						      mmg_test_pgoff(i)));
	/* No room for another anon_vma, nor for a moved one. */
	KUNIT_EXPECT_FALSE(test, mmg_test_link(t, 0, 10, MMG_CHUNK_PLACES,
					       mmg_test_pgoff(10)));
	KUNIT_EXPECT_FALSE(test, mmg_test_link(t, 0, 10, 0, 12345));
	KUNIT_EXPECT_EQ(test, MMG_CHUNK_PLACES, t->shared[0].count);
	KUNIT_EXPECT_EQ(test, MMG_NONE, (int)t->chunks[0].marks[10].state);
	/* The old ones still have, and so has the next chunk. */
	KUNIT_EXPECT_TRUE(test, mmg_test_link(t, 1, 10, 1, mmg_test_pgoff(10)));
	KUNIT_EXPECT_TRUE(test, mmg_test_link(t, 1, 600, MMG_CHUNK_PLACES, 7));
	KUNIT_EXPECT_EQ(test, 1, mmg_test_walk(t, 1, &pgoff, 1) - 1);
	KUNIT_EXPECT_EQ(test, 7, pgoff);

	/* A place without users makes room. */
	mmg_test_unlink(t, 0, 2);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&t->anon_vmas[2].refcount));
	KUNIT_EXPECT_TRUE(test, mmg_test_link(t, 0, 2, 0, 4321));
	KUNIT_EXPECT_EQ(test, 3, atomic_read(&t->anon_vmas[0].refcount));
	mmg_test_walk(t, 0, &pgoff, 1);
	KUNIT_EXPECT_EQ(test, 4321, pgoff);
}

/* Random links and unlinks against an array that says what is where. */
static void mmg_test_chains_random(struct kunit *test)
{
	struct mmg_rmap_test *t = test->priv;
	unsigned int counts[MMG_TEST_SHARED] = {};
	u8 *on = kunit_kzalloc(test, MMG_TEST_PAGES, GFP_KERNEL);
	struct rnd_state rnd;
	unsigned int i, n;

	KUNIT_ASSERT_NOT_NULL(test, on);
	prandom_seed_state(&rnd, 2008);
	for (n = 0; n < 20 * MMG_TEST_PAGES; n++) {
		i = prandom_u32_state(&rnd) % MMG_TEST_PAGES;
		if (on[i]) {
			mmg_test_unlink(t, on[i] - 1, i);
			counts[on[i] - 1]--;
			on[i] = 0;
		} else {
			unsigned int s = prandom_u32_state(&rnd) %
					 MMG_TEST_SHARED;

			KUNIT_ASSERT_TRUE(test,
					  mmg_test_link(t, s, i, s,
							mmg_test_pgoff(i)));
			counts[s]++;
			on[i] = s + 1;
		}
	}
	for (n = 0; n < MMG_TEST_SHARED; n++) {
		struct merge_place place = {};
		unsigned int found = 0;

		KUNIT_EXPECT_EQ(test, counts[n], t->shared[n].count);
		while (mmg_rmap_next_place(&t->shared[n].owner, &place)) {
			i = place.pgoff - mmg_test_pgoff(0);
			KUNIT_ASSERT_LT(test, i, MMG_TEST_PAGES);
			KUNIT_EXPECT_EQ(test, n + 1, on[i]);
			KUNIT_EXPECT_PTR_EQ(test, &t->anon_vmas[n],
					    place.anon_vma);
			found++;
		}
		KUNIT_EXPECT_EQ(test, counts[n], found);
	}
}

static struct kunit_case mmg_rmap_cases[] = {
	KUNIT_CASE(mmg_test_chain),
	KUNIT_CASE(mmg_test_broken),
	KUNIT_CASE(mmg_test_places),
	KUNIT_CASE(mmg_test_chains_random),
	{}
};

static struct kunit_suite mmg_rmap_suite = {
	.name = "memmerge-rmap",
	.init = mmg_rmap_test_init,
	.exit = mmg_rmap_test_exit,
	.test_cases = mmg_rmap_cases,
};

kunit_test_suite(mmg_rmap_suite);
