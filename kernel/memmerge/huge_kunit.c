// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of when a huge page is split, included by huge.c. */
#include <kunit/test.h>

struct mmg_huge_test {
	struct mmg_domain domain;
	struct mmg_region region;
	struct mmg_chunk chunk;
};

static int mmg_huge_test_init(struct kunit *test)
{
	struct mmg_huge_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->chunk.entries = kunit_kcalloc(test, MMG_CHUNK_PAGES,
					 sizeof(*t->chunk.entries), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->chunk.entries);
	t->chunk.region = &t->region;
	t->region.domain = &t->domain;
	test->priv = t;
	return 0;
}

static void mmg_test_huge_pays(struct kunit *test)
{
	static const struct {
		unsigned int wanted, least;
		bool pays;
	} cases[] = {
		{ 0, 0, false }, { 512, 0, false }, { 0, 1, false },
		{ 1, 1, true }, { 63, 64, false }, { 64, 64, true },
		{ 65, 64, true }, { 511, 512, false }, { 512, 512, true },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		KUNIT_EXPECT_EQ_MSG(test, cases[i].pays,
				    mmg_huge_pays(cases[i].wanted,
						  cases[i].least),
				    "case %u", i);
}

/* A page counts once, however many others it is equal to. */
static void mmg_test_huge_want(struct kunit *test)
{
	struct mmg_huge_test *t = test->priv;
	unsigned int i;

	/* Nobody counts what is not huge. */
	mmg_huge_want(&t->chunk, 3);
	KUNIT_EXPECT_EQ(test, 0, t->chunk.wanted);

	mmg_huge_seen(&t->chunk, 0, MMG_CHUNK_PAGES, true);
	for (i = 0; i < 5; i++)
		mmg_huge_want(&t->chunk, 3);
	KUNIT_EXPECT_EQ(test, 1, t->chunk.wanted);
	for (i = 0; i < MMG_CHUNK_PAGES; i++)
		mmg_huge_want(&t->chunk, i);
	KUNIT_EXPECT_EQ(test, MMG_CHUNK_PAGES, t->chunk.wanted);
}

/* A scan of a part begins anew for that part alone. */
static void mmg_test_huge_seen(struct kunit *test)
{
	struct mmg_huge_test *t = test->priv;
	unsigned int i;

	mmg_huge_seen(&t->chunk, 0, MMG_CHUNK_PAGES, true);
	for (i = 10; i < 30; i++)
		mmg_huge_want(&t->chunk, i);
	mmg_huge_seen(&t->chunk, 0, 15, true);
	KUNIT_EXPECT_EQ(test, 15, t->chunk.wanted);
	mmg_huge_want(&t->chunk, 12);
	mmg_huge_want(&t->chunk, 20);
	KUNIT_EXPECT_EQ(test, 16, t->chunk.wanted);
	mmg_huge_seen(&t->chunk, 0, MMG_CHUNK_PAGES, true);
	KUNIT_EXPECT_EQ(test, 0, t->chunk.wanted);
	for (i = 0; i < MMG_CHUNK_PAGES; i++)
		KUNIT_EXPECT_FALSE(test, !!t->chunk.marks[i].wanted);
}

static void mmg_test_huge_may_split(struct kunit *test)
{
	const unsigned int before = mmg_tunables.huge_split_pages;
	struct mmg_huge_test *t = test->priv;
	u64 splits = mmg_huge_split_count();
	unsigned int i;

	WRITE_ONCE(mmg_tunables.huge_split_pages, 4);
	KUNIT_EXPECT_TRUE(test, mmg_huge_may_split(&t->chunk));
	mmg_huge_seen(&t->chunk, 0, MMG_CHUNK_PAGES, true);
	KUNIT_EXPECT_EQ(test, 1UL, t->domain.nr_huge);
	for (i = 0; i < 4; i++) {
		KUNIT_EXPECT_FALSE(test, mmg_huge_may_split(&t->chunk));
		mmg_huge_want(&t->chunk, i);
	}
	KUNIT_EXPECT_TRUE(test, mmg_huge_may_split(&t->chunk));
	WRITE_ONCE(mmg_tunables.huge_split_pages, 0);
	KUNIT_EXPECT_FALSE(test, mmg_huge_may_split(&t->chunk));
	WRITE_ONCE(mmg_tunables.huge_split_pages, 4);

	/* Split, it is no huge page, and all of it may merge. */
	mmg_huge_was_split(&t->chunk);
	KUNIT_EXPECT_EQ(test, splits + 1, mmg_huge_split_count());
	KUNIT_EXPECT_EQ(test, 0UL, t->domain.nr_huge);
	KUNIT_EXPECT_TRUE(test, mmg_huge_may_split(&t->chunk));
	mmg_huge_set(&t->chunk, false);
	KUNIT_EXPECT_EQ(test, 0UL, t->domain.nr_huge);
	WRITE_ONCE(mmg_tunables.huge_split_pages, 0);
	KUNIT_EXPECT_FALSE(test, mmg_huge_may_split(&t->chunk));
	WRITE_ONCE(mmg_tunables.huge_split_pages, before);
}

static struct kunit_case mmg_huge_cases[] = {
	KUNIT_CASE(mmg_test_huge_pays),
	KUNIT_CASE(mmg_test_huge_want),
	KUNIT_CASE(mmg_test_huge_seen),
	KUNIT_CASE(mmg_test_huge_may_split),
	{}
};

static struct kunit_suite mmg_huge_suite = {
	.name = "memmerge-huge",
	.init = mmg_huge_test_init,
	.test_cases = mmg_huge_cases,
};

kunit_test_suite(mmg_huge_suite);
