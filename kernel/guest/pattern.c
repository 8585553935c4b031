// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pattern.h"

#define GOLDEN_RATIO 0x9E3779B97F4A7C15ULL

/*
 * Where near-duplicates differ: first byte, bytes and values of the index that
 * is mixed in. The tails are as long as what a hash function that forgets the
 * rest of a page would forget; their first bytes are the ones that differ.
 */
static const struct {
	const char *name;
	size_t at;
	size_t bytes;
	uint64_t modulo;
} near_kinds[] = {
	{ "last-byte", PAGE_BYTES - 1, 1, 255 },
	{ "last-word", PAGE_BYTES - 8, 8, 0 },
	{ "last-21", PAGE_BYTES - 21, 8, 0 },
	{ "last-96", PAGE_BYTES - 96, 8, 0 },
	{ "mid-bit", PAGE_BYTES / 2, 1, 2 },
};

/* Page @index of seed @seed: the words of splitmix64, least byte first */
static void generate(uint64_t seed, uint64_t index, uint64_t *page)
{
	uint64_t state = seed ^ (index * GOLDEN_RATIO);

	for (size_t i = 0; i < PAGE_WORDS; i++) {
		uint64_t z = state += GOLDEN_RATIO;

		z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
		z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
		page[i] = z ^ (z >> 31);
	}
}

/* Decimal, or hexadecimal after 0x: no sign, no blanks, no octal, no overflow */
bool parse_number(const char *text, uint64_t *number)
{
	bool hex = text[0] == '0' && text[1] == 'x';
	const char *known = hex ? "0123456789abcdefABCDEF" : "0123456789";
	const char *digits = hex ? text + 2 : text;

	if (!*digits || strspn(digits, known) != strlen(digits))
		return false;
	errno = 0;
	*number = strtoull(digits, NULL, hex ? 16 : 10);
	return !errno;
}

static bool parse_near(struct pattern *pattern, const char *kind)
{
	for (size_t i = 0; i < sizeof(near_kinds) / sizeof(near_kinds[0]); i++) {
		if (strcmp(kind, near_kinds[i].name))
			continue;
		pattern->mix_at = near_kinds[i].at;
		pattern->mix_bytes = near_kinds[i].bytes;
		pattern->mix_modulo = near_kinds[i].modulo;
		return true;
	}
	return false;
}

/* Parses @text, which is cut into words; false when it is not a pattern */
bool pattern_parse(struct pattern *pattern, char *text)
{
	char *kind = strsep(&text, ":");
	char *value = strsep(&text, ":");
	char *near = strsep(&text, ":");

	memset(pattern, 0, sizeof(*pattern));
	if (text || (near && strcmp(kind, "near")))
		return false;
	if (!strcmp(kind, "zero"))
		return !value;
	if (!value)
		return false;
	if (!strcmp(kind, "byte")) {
		if (strlen(value) != 2 || strspn(value, "0123456789abcdefABCDEF") != 2)
			return false;
		memset(pattern->base, (int)strtoul(value, NULL, 16), PAGE_BYTES);
		return true;
	}
	if (!parse_number(value, &pattern->seed))
		return false;
	generate(pattern->seed, 0, pattern->base);
	if (!strcmp(kind, "seed")) {
		pattern->seeded = true;
		return true;
	}
	if (!strcmp(kind, "same"))
		return true;
	return !strcmp(kind, "near") && near && parse_near(pattern, near);
}

/* Writes what page @index of a fill with @pattern holds to @page */
void pattern_page(const struct pattern *pattern, uint64_t index, uint64_t *page)
{
	unsigned char *mixed = (unsigned char *)page + pattern->mix_at;

	if (pattern->seeded) {
		generate(pattern->seed, index, page);
		return;
	}
	memcpy(page, pattern->base, PAGE_BYTES);
	if (pattern->mix_modulo)
		index %= pattern->mix_modulo;
	for (size_t i = 0; i < pattern->mix_bytes; i++)
		mixed[i] ^= (unsigned char)(index >> (8 * i));
}
