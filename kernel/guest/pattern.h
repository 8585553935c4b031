/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pattern - page contents that a few words describe and everybody can compute
 *
 * A pattern names the content of every page of a fill. Page i of a fill holds
 * the same bytes in every guest and every process that was given the same
 * pattern, so the number of distinct pages of a batch is known beforehand.
 * src/mergelab/patterns.py is the same in Python, byte for byte.
 */
#ifndef PAYLOAD_PATTERN_H
#define PAYLOAD_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))

/**
 * struct pattern - a parsed pattern
 * @seeded: every page has a generator of its own; @base is not used
 * @seed: the generator's seed, where the pattern has one
 * @base: what every page holds before the page's index is mixed in
 * @mix_at: byte where the index is XORed in
 * @mix_bytes: little-endian bytes of the index, 0 to mix nothing in
 * @mix_modulo: the index is reduced to this many values, 0 for all of them
 */
struct pattern {
	bool seeded;
	uint64_t seed;
	uint64_t base[PAGE_WORDS];
	size_t mix_at;
	size_t mix_bytes;
	uint64_t mix_modulo;
};

bool pattern_parse(struct pattern *pattern, char *text);
void pattern_page(const struct pattern *pattern, uint64_t index, uint64_t *page);

bool parse_number(const char *text, uint64_t *number);

#endif
