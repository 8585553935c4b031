// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of the histograms, included by hold.c. */
#include <kunit/test.h>

static void mmg_test_hold_buckets(struct kunit *test)
{
	static const struct {
		u64 ns;
		unsigned int bucket;
	} cases[] = {
		{ 0, 0 }, { 1, 1 }, { 2, 2 }, { 3, 2 }, { 4, 3 },
		{ 1023, 10 }, { 1024, 11 }, { 1025, 11 },
		{ (1ULL << (MMG_HOLD_BUCKETS - 2)) - 1, MMG_HOLD_BUCKETS - 2 },
		{ 1ULL << (MMG_HOLD_BUCKETS - 2), MMG_HOLD_BUCKETS - 1 },
		{ U64_MAX, MMG_HOLD_BUCKETS - 1 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		KUNIT_EXPECT_EQ(test, mmg_hold_bucket(cases[i].ns),
				cases[i].bucket);
	/* What a reader is told: shorter than the bound that is shown. */
	for (i = 1; i < MMG_HOLD_BUCKETS - 1; i++) {
		KUNIT_EXPECT_EQ(test, mmg_hold_bucket((1ULL << i) - 1), i);
		KUNIT_EXPECT_EQ(test, mmg_hold_bucket(1ULL << i), i + 1);
	}
}

/* Nobody scans while the module is being loaded. */
static void mmg_test_hold_counts(struct kunit *test)
{
	struct mmg_hold before, after;
	u64 now = ktime_get_ns();
	unsigned long sum = 0;
	unsigned int i;

	mmg_hold_sum(MMG_HOLD_TABLE, &before);
	mmg_hold_end(MMG_HOLD_TABLE, now);
	/* Taken on a CPU whose clock is ahead: no time at all, not ages. */
	mmg_hold_end(MMG_HOLD_TABLE, now + NSEC_PER_SEC * 3600);
	mmg_hold_sum(MMG_HOLD_TABLE, &after);
	for (i = 0; i < MMG_HOLD_BUCKETS; i++)
		sum += after.count[i] - before.count[i];
	KUNIT_EXPECT_EQ(test, sum, 2UL);
	KUNIT_EXPECT_GE(test, after.count[0], before.count[0] + 1);
	KUNIT_EXPECT_LT(test, after.longest, NSEC_PER_SEC * 3600ULL);
}

static struct kunit_case mmg_hold_cases[] = {
	KUNIT_CASE(mmg_test_hold_buckets),
	KUNIT_CASE(mmg_test_hold_counts),
	{}
};

/* KUnit of 6.1 runs a module's tests before its init. */
static bool mmg_hold_early;

static int mmg_hold_suite_init(struct kunit_suite *suite)
{
	mmg_hold_early = !mmg_holds[0];
	return mmg_hold_early ? mmg_hold_start() : 0;
}

static void mmg_hold_suite_exit(struct kunit_suite *suite)
{
	if (mmg_hold_early)
		mmg_hold_stop();
}

static struct kunit_suite mmg_hold_suite = {
	.name = "memmerge-hold",
	.suite_init = mmg_hold_suite_init,
	.suite_exit = mmg_hold_suite_exit,
	.test_cases = mmg_hold_cases,
};

kunit_test_suite(mmg_hold_suite);
