// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of the hash, included by hash.c. */
#include <kunit/test.h>
#include <linux/bitops.h>
#include <linux/prandom.h>

#define MMG_TEST_KEY	0x6d656d6d65726765ULL

/* A page of random words, the same ones each time. */
static u64 *mmg_test_page(struct kunit *test)
{
	u64 *page = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	struct rnd_state rnd;

	KUNIT_ASSERT_NOT_NULL(test, page);
	prandom_seed_state(&rnd, 1);
	prandom_bytes_state(&rnd, page, PAGE_SIZE);
	return page;
}

/* What is fetched meanwhile has no part in it. */
static void mmg_test_hash_equal(struct kunit *test)
{
	u64 *a = mmg_test_page(test), *b = mmg_test_page(test);

	KUNIT_EXPECT_EQ(test, mmg_hash(a, MMG_TEST_KEY, a),
			mmg_hash(b, MMG_TEST_KEY, a));
	KUNIT_EXPECT_EQ(test, 0,
			mmg_hash(a, MMG_TEST_KEY, a) >> MMG_HASH_BITS);
	KUNIT_EXPECT_NE(test, mmg_hash(a, MMG_TEST_KEY, a),
			mmg_hash(a, MMG_TEST_KEY + 1, a));
}

/*
 * Any single bit changes about half of the hash's. Of a page of random words
 * and one of zeroes.
 */
static void mmg_test_hash_bits(struct kunit *test)
{
	u64 *page = mmg_test_page(test);
	unsigned int round, word, bit, few = 0;
	u64 sum = 0;

	for (round = 0; round < 2; round++) {
		u64 hash = mmg_hash(page, MMG_TEST_KEY, page);

		for (word = 0; word < MMG_PAGE_WORDS; word++) {
			for (bit = 0; bit < 64; bit++) {
				unsigned int flips;

				page[word] ^= BIT_ULL(bit);
				flips = hweight64(hash ^ mmg_hash(page,
								  MMG_TEST_KEY,
								  page));
				page[word] ^= BIT_ULL(bit);
				sum += flips;
				few += flips < 2;
			}
		}
		memset(page, 0, PAGE_SIZE);
	}
	/* The mean of 65536 throws of 40 coins is 20, less or more 0.2. */
	sum = sum * 10 / (2 * MMG_PAGE_WORDS * 64);
	KUNIT_EXPECT_GE(test, sum, 198);
	KUNIT_EXPECT_LE(test, sum, 202);
	KUNIT_EXPECT_EQ(test, few, 0);
}

/* Words that change their places are seen as well. */
static void mmg_test_hash_places(struct kunit *test)
{
	u64 *page = mmg_test_page(test);
	u64 hash = mmg_hash(page, MMG_TEST_KEY, page);
	unsigned int i;

	for (i = 0; i < MMG_PAGE_WORDS; i++) {
		swap(page[i], page[(i + 1) % MMG_PAGE_WORDS]);
		KUNIT_EXPECT_NE(test, hash, mmg_hash(page, MMG_TEST_KEY, page));
		swap(page[i], page[(i + 1) % MMG_PAGE_WORDS]);
	}
}

/*
 * Pages that count up in one word fill buckets evenly, whichever word it is
 * and whichever bits of the hash choose the bucket.
 */
static void mmg_test_hash_spread(struct kunit *test)
{
	const unsigned int buckets = 256, pages = 16 * buckets;
	static const unsigned int words[] = { 0, 1, 255, MMG_PAGE_WORDS - 1 };
	u64 *page = mmg_test_page(test);
	unsigned int i, j, shift;
	u16 *count;

	count = kunit_kcalloc(test, buckets, sizeof(*count), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, count);
	for (i = 0; i < ARRAY_SIZE(words); i++) {
		for (shift = 0; shift < MMG_HASH_BITS; shift += 8) {
			u64 squares = 0;

			memset(count, 0, buckets * sizeof(*count));
			for (j = 0; j < pages; j++) {
				page[words[i]] = j;
				count[mmg_hash(page, MMG_TEST_KEY, page) >>
				      shift & (buckets - 1)]++;
			}
			for (j = 0; j < buckets; j++)
				squares += count[j] * count[j];
			/*
			 * Chi squared, 255 degrees of freedom: beyond 400 less
			 * than once in 10^7 cases.
			 */
			KUNIT_EXPECT_LT(test, squares / 16 - pages, 400);
		}
	}
}

static struct kunit_case mmg_hash_cases[] = {
	KUNIT_CASE(mmg_test_hash_equal),
	KUNIT_CASE(mmg_test_hash_bits),
	KUNIT_CASE(mmg_test_hash_places),
	KUNIT_CASE(mmg_test_hash_spread),
	{}
};

/* KUnit of 6.1 runs a module's tests before its init. */
static int mmg_hash_suite_init(struct kunit_suite *suite)
{
	if (!mmg_hash_mix[0])
		mmg_hash_start();
	return 0;
}

static struct kunit_suite mmg_hash_suite = {
	.name = "memmerge-hash",
	.suite_init = mmg_hash_suite_init,
	.test_cases = mmg_hash_cases,
};

kunit_test_suite(mmg_hash_suite);
