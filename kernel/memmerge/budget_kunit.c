// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of the budget, included by budget.c. */
#include <kunit/test.h>

/* Whatever a scanner thought it had used, it pays for what it has. */
static void mmg_test_budget_payer(struct kunit *test)
{
	static const struct {
		u64 used;	/* by its own measure */
		u64 runtime;	/* by the scheduler's, then */
		u64 due;	/* of both */
	} steps[] = {
		{ 5, 8, 8 },	/* slept */
		{ 10, 12, 10 },	/* others had the processor */
		{ 2, 13, 0 },
		{ 1, 14, 0 },
		{ 9, 23, 5 },
		{ 0, 30, 7 },
		{ 4, 31, 4 },
		{ 0, 36, 2 },
	};
	struct mmg_payer payer = {};
	unsigned int i;
	u64 paid = 0;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		u64 due = mmg_payer_use(&payer, steps[i].used);

		due += mmg_payer_settle(&payer, steps[i].runtime);
		KUNIT_EXPECT_EQ_MSG(test, due, steps[i].due, "step %u", i);
		paid += due;
		KUNIT_EXPECT_EQ_MSG(test, paid - payer.credit,
				    steps[i].runtime, "step %u", i);
	}
	KUNIT_EXPECT_EQ(test, payer.credit, 0ULL);
}

/* Nobody scans while the module is being loaded. */
static void mmg_test_budget_time(struct kunit *test)
{
	const s64 debt = 200 * NSEC_PER_MSEC;
	s64 owed;

	mmg_budget_charge(0, 0);
	/* Nothing was kept yet. The test may take its time. */
	KUNIT_EXPECT_LE(test, mmg_budget_charge(debt, 5), debt);
	/* Whoever slept as long as a debt takes has paid all of it. */
	mmg_budget_time -= 4 * NSEC_PER_SEC;
	owed = mmg_budget_charge(0, 5);
	KUNIT_EXPECT_LE(test, owed, 0LL);
	/* What was not used is kept, but not for ever. */
	mmg_budget_time -= 1000 * NSEC_PER_SEC;
	owed = mmg_budget_charge(0, 5);
	KUNIT_EXPECT_EQ(test, owed, -5LL * NSEC_PER_MSEC);
	mmg_budget_charge(0, 0);
}

static struct kunit_case mmg_budget_cases[] = {
	KUNIT_CASE(mmg_test_budget_payer),
	KUNIT_CASE(mmg_test_budget_time),
	{}
};

static struct kunit_suite mmg_budget_suite = {
	.name = "memmerge-budget",
	.test_cases = mmg_budget_cases,
};

kunit_test_suite(mmg_budget_suite);
