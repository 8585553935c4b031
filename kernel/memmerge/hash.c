// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the hash of a page's content
 *
 * A hash is only a hint, as whatever merges is compared. What it has to be is
 * cheap, as it is what nearly all CPU time goes to, and hard to be misled by
 * whoever fills the pages: those of equal hash and different content would be
 * compared in each pass.
 *
 * A page is multiplied by a secret one of the same size: the words of each pair
 * are added to those of the secret's, and the sum of all products is taken (the
 * universal hash NH). For any two different pages, chosen without knowledge of
 * the secret, these sums of 128 bits are equal for one in 2^64 secrets. They are
 * not evenly distributed, so they are mixed before they are cut to size.
 *
 * The multiplications take less time than the memory does. So that it has
 * always something to do, the next page is fetched while one is hashed.
 */
#include <linux/build_bug.h>
#include <linux/cache.h>
#include <linux/prefetch.h>
#include <linux/random.h>

#include "internal.h"

#define MMG_PAGE_WORDS	(PAGE_SIZE / sizeof(u64))
/* Words that are read between two prefetches. */
#define MMG_LINE_WORDS	8

static u64 mmg_hash_secret[MMG_PAGE_WORDS] __ro_after_init;
/* Odd, so that nothing gets lost. */
static u64 mmg_hash_mix[2] __ro_after_init;

/**
 * mmg_hash_start - choose the secret, before anything is hashed
 */
void mmg_hash_start(void)
{
	get_random_bytes(mmg_hash_secret, sizeof(mmg_hash_secret));
	get_random_bytes(mmg_hash_mix, sizeof(mmg_hash_mix));
	mmg_hash_mix[0] |= 1;
	mmg_hash_mix[1] |= 1;
}

/**
 * mmg_hash - hash the content of a page
 * @content: of the page
 * @key: of the domain
 * @next: of the page that is hashed next, is fetched meanwhile; or @content
 *
 * Return: MMG_HASH_BITS bits.
 */
u64 mmg_hash(const void *content, u64 key, const void *next)
{
	unsigned __int128 even = 0, odd = 0;
	const u64 *word = content, *secret = mmg_hash_secret;
	const u64 *const end = word + MMG_PAGE_WORDS;
	const u64 *ahead = next;
	u64 hash;

	BUILD_BUG_ON(MMG_PAGE_WORDS % MMG_LINE_WORDS);
	for (; word < end; word += MMG_LINE_WORDS) {
		prefetch(ahead);
		even += (unsigned __int128)(word[0] + secret[0]) *
			(word[1] + secret[1]);
		odd += (unsigned __int128)(word[2] + secret[2]) *
		       (word[3] + secret[3]);
		even += (unsigned __int128)(word[4] + secret[4]) *
			(word[5] + secret[5]);
		odd += (unsigned __int128)(word[6] + secret[6]) *
		       (word[7] + secret[7]);
		secret += MMG_LINE_WORDS;
		ahead += MMG_LINE_WORDS;
	}
	even += odd;

	hash = ((u64)even ^ (u64)(even >> 64)) + key;
	hash = (hash ^ hash >> 32) * mmg_hash_mix[0];
	hash = (hash ^ hash >> 29) * mmg_hash_mix[1];
	return (hash ^ hash >> 32) & ((1ULL << MMG_HASH_BITS) - 1);
}

#ifdef CONFIG_MEMMERGE_KUNIT_TEST
#include "hash_kunit.c"
#endif
