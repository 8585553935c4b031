// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of the guard, included by guard.c. */
#include <kunit/test.h>

static void mmg_test_guard_limit(struct kunit *test)
{
	static const struct {
		s64 bytes;
		int percent;
		u64 supply, limit;
	} cases[] = {
		{ -1, -1, 1000, U64_MAX },
		{ 0, -1, 1000, 0 },
		{ PAGE_SIZE - 1, -1, 1000, 0 },
		{ 10 * PAGE_SIZE, -1, 0, 10 },
		{ -1, 0, 1000, 0 },
		{ -1, 100, 1000, 1000 },
		{ -1, 150, 1001, 1501 },
		{ 10 * PAGE_SIZE, 50, 1000, 10 },
		{ 1000 * PAGE_SIZE, 50, 1000, 500 },
		{ -1, 10000, 1ULL << 50, 100ULL << 50 },
		{ S64_MAX, -1, 0, S64_MAX >> PAGE_SHIFT },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		KUNIT_EXPECT_EQ_MSG(test, cases[i].limit,
				    mmg_guard_limit(cases[i].bytes,
						    cases[i].percent,
						    cases[i].supply),
				    "case %u", i);
}

static void mmg_test_guard_left(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 0ULL, mmg_guard_left(0, 0));
	KUNIT_EXPECT_EQ(test, 5ULL, mmg_guard_left(5, 0));
	KUNIT_EXPECT_EQ(test, 1ULL, mmg_guard_left(5, 4));
	KUNIT_EXPECT_EQ(test, 0ULL, mmg_guard_left(5, 5));
	KUNIT_EXPECT_EQ(test, 0ULL, mmg_guard_left(5, 6));
	KUNIT_EXPECT_EQ(test, 0ULL, mmg_guard_left(5, U64_MAX));
	KUNIT_EXPECT_EQ(test, U64_MAX, mmg_guard_left(U64_MAX, 0));
}

/* What is taken counts for the domain and the host, and is given back. */
static void mmg_test_guard_take(struct kunit *test)
{
	struct mmg_domain *domain = kunit_kzalloc(test, sizeof(*domain),
						  GFP_KERNEL);
	u64 before = atomic64_read(&mmg_guard_sharing);
	u64 host = mmg_guard_host_demand();

	KUNIT_ASSERT_NOT_NULL(test, domain);
	domain->guard.limit = 3 * PAGE_SIZE + 1;
	domain->guard.host_limit = U64_MAX;
	domain->nr_zero = 1;
	KUNIT_EXPECT_FALSE(test, mmg_guard_take(domain, 3));
	KUNIT_EXPECT_TRUE(test, mmg_guard_take(domain, 1));
	KUNIT_EXPECT_TRUE(test, mmg_guard_take(domain, 1));
	KUNIT_EXPECT_FALSE(test, mmg_guard_take(domain, 1));
	KUNIT_EXPECT_EQ(test, 3ULL, mmg_guard_demand(domain));
	KUNIT_EXPECT_EQ(test, before + 2, atomic64_read(&mmg_guard_sharing));

	mmg_guard_give(domain, 1);
	KUNIT_EXPECT_TRUE(test, mmg_guard_take(domain, 1));

	/* The limit of the host, of which the domain has two. */
	domain->guard.limit = U64_MAX;
	domain->guard.host_limit = host + 3;
	KUNIT_EXPECT_FALSE(test, mmg_guard_take(domain, 2));
	KUNIT_EXPECT_EQ(test, before + 2, atomic64_read(&mmg_guard_sharing));
	KUNIT_EXPECT_TRUE(test, mmg_guard_take(domain, 1));
	KUNIT_EXPECT_FALSE(test, mmg_guard_take(domain, 1));

	/* Below what there is: nothing more, and nothing breaks. */
	domain->guard.limit = 0;
	domain->guard.host_limit = U64_MAX;
	KUNIT_EXPECT_FALSE(test, mmg_guard_take(domain, 1));

	mmg_guard_counted(domain, 0);
	KUNIT_EXPECT_EQ(test, before, atomic64_read(&mmg_guard_sharing));
	KUNIT_EXPECT_EQ(test, 1ULL, mmg_guard_demand(domain));
}

static struct kunit_case mmg_guard_cases[] = {
	KUNIT_CASE(mmg_test_guard_limit),
	KUNIT_CASE(mmg_test_guard_left),
	KUNIT_CASE(mmg_test_guard_take),
	{}
};

static struct kunit_suite mmg_guard_suite = {
	.name = "memmerge-guard",
	.test_cases = mmg_guard_cases,
};

kunit_test_suite(mmg_guard_suite);
