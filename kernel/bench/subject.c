// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cases, and what their pages hold
 */
#include "bench.h"

/* Processes are small, as guests are: see docs/benchmark.md. */
#define AREA	(64UL << 20 >> 12)

/*
 * KSM looks at every page in its first four passes, then skips more and more
 * of them; from pass 14 on it looks once in nine passes. Pages 15 to 23 are
 * one such round. Pages that are merged are never skipped.
 */
#define PASSES		23
#define PASSES_MERGED	5

const struct subject subjects[] = {
	{ .name = "random", .content = RANDOM, .passes = PASSES, .area = AREA },
	{
		.name = "identical", .content = IDENTICAL, .area = AREA,
		.passes = PASSES_MERGED, .merges = true, .joins = true,
	},
	{
		.name = "zero", .content = ZERO, .area = AREA,
		.passes = PASSES_MERGED, .merges = true, .zero_pages = true,
	},
	{
		.name = "twice", .content = TWICE, .area = AREA,
		.passes = PASSES_MERGED, .merges = true, .joins = true,
	},
	{ .name = "near", .content = NEAR, .passes = PASSES, .area = AREA },
	{
		.name = "near-twice", .content = NEAR_TWICE, .area = AREA,
		.passes = PASSES_MERGED, .merges = true,
	},
	{
		.name = "duplicates", .content = DUPLICATES, .area = AREA,
		.passes = PASSES, .merges = true,
	},
	{
		.name = "rewritten", .content = TWICE, .area = AREA,
		.merges = true, .churn = true,
	},
	{
		.name = "kvm", .content = TWICE, .area = AREA,
		.passes = PASSES_MERGED, .merges = true, .kvm = true,
	},
	{
		.name = "guest", .content = GUEST, .area = AREA,
		.passes = PASSES, .merges = true, .zero_pages = true,
	},
	{
		.name = "sharers", .content = IDENTICAL, .area = 1000,
		.passes = PASSES_MERGED, .merges = true, .walks = true,
		.pages = 10000,
	},
	{
		.name = "limit", .content = RANDOM, .area = AREA,
		.pages = AREA, .limits = true,
	},
	{
		.name = "scanners", .content = RANDOM, .area = AREA,
		.pages = 4 * AREA, .scanners = true,
	},
	{ .name = NULL },
};

static int guest_fd = -1;

const struct subject *subject_find(const char *name)
{
	const struct subject *subject = subjects;

	while (subject->name && strcmp(subject->name, name))
		subject++;
	return subject->name ? subject : NULL;
}

/* Memory of a real guest, as a file; returns how many pages it has. */
unsigned long guest_memory_open(const char *path)
{
	guest_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (guest_fd < 0)
		return 0;
	return lseek(guest_fd, 0, SEEK_END) / PAGE;
}

static void guest_fill(unsigned char *mem, unsigned long first,
		       unsigned long count)
{
	size_t length = count * PAGE;
	off_t at = first * PAGE;

	while (length) {
		ssize_t got = pread(guest_fd, mem, length, at);

		if (got <= 0)
			tap_end(TAP_FAIL, "the guest's memory ends at %lld",
				(long long)at);
		/* The page cache must not take what the pages need. */
		posix_fadvise(guest_fd, at, got, POSIX_FADV_DONTNEED);
		mem += got;
		at += got;
		length -= got;
	}
}

/* Which content a page has: equal numbers, equal pages. */
static uint64_t number(enum content content, unsigned long page,
		       unsigned long total)
{
	unsigned long unique = total - total / 10;

	switch (content) {
	case IDENTICAL:
		return 0;
	case TWICE:
	case NEAR_TWICE:
		return page % (total / 2);
	case DUPLICATES:
		/* The last tenth repeats pages from all over the rest. */
		return page < unique ? page : (page - unique) * 9;
	default:
		return page;
	}
}

/**
 * subject_fill - write the pages of one process
 * @subject: the case
 * @mem: its memory
 * @first: number of its first page in the case
 * @count: its pages
 * @total: pages of the case
 */
void subject_fill(const struct subject *subject, unsigned char *mem,
		  unsigned long first, unsigned long count,
		  unsigned long total)
{
	unsigned long i;

	if (subject->content == GUEST) {
		guest_fill(mem, first, count);
		return;
	}
	for (i = 0; i < count; i++) {
		unsigned char *page = mem + i * PAGE;
		uint64_t content = number(subject->content, first + i, total);

		switch (subject->content) {
		case ZERO:
			memset(page, 0, PAGE);
			break;
		case NEAR:
		case NEAR_TWICE:
			fill(page, 1);
			memcpy(page + PAGE - sizeof(content), &content,
			       sizeof(content));
			break;
		default:
			fill(page, content + 1);
		}
	}
}
