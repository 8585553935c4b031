// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reverse-map walks of merged pages: how many mappings a page has, and how long
 * mm takes to visit them all
 *
 * Idle page tracking does one such walk, with the page locked, when it is told
 * to mark a page as idle.
 */
#include "bench.h"
#include "output.h"

#define BITMAP		"/sys/kernel/mm/page_idle/bitmap"
#define COUNTS		"/proc/kpagecount"
/* Of each page looked at so often the quickest: the rest is disturbance. */
#define WALKS		5

/* The frames of all memory, without repetition; returns how many. */
static unsigned long frames_of(uint64_t *frames)
{
	unsigned long count = 0, different = 0, page;
	unsigned int i;

	for (i = 0; i < processes_nr; i++) {
		const struct process *process = &processes[i];

		for (page = 0; page < process->pages; page++)
			frames[count++] = pfn_in(process->pid,
						 (char *)process->start +
						 page * PAGE);
	}
	qsort(frames, count, sizeof(*frames), ascending);
	for (page = 0; page < count; page++)
		if (frames[page] && (!different ||
				     frames[page] != frames[different - 1]))
			frames[different++] = frames[page];
	return different;
}

static long long walk_ticks(int file, uint64_t frame)
{
	uint64_t bit = 1ULL << frame % 64;
	long long best = 0;
	unsigned int i;

	for (i = 0; i < WALKS; i++) {
		long long ticks = clock_ticks();

		TAP_EQ(8, pwrite(file, &bit, 8, frame / 64 * 8));
		ticks = clock_ticks() - ticks;
		if (!i || ticks < best)
			best = ticks;
	}
	return best;
}

/**
 * measure_walks - walk over all mappings of each page that there is
 *
 * Says nothing where the kernel has no idle page tracking.
 */
void measure_walks(void)
{
	int bitmap = open(BITMAP, O_WRONLY | O_CLOEXEC);
	int counts = open(COUNTS, O_RDONLY | O_CLOEXEC);
	long long longest = 0, mappings = 0;
	unsigned long count, i;
	uint64_t *frames;

	if (bitmap < 0 || counts < 0)
		goto out;
	frames = calloc(place_pages, sizeof(*frames));
	TAP_CHECK(frames);
	count = frames_of(frames);
	for (i = 0; i < count; i++) {
		long long ticks = walk_ticks(bitmap, frames[i]);
		uint64_t mapped = 0;

		TAP_EQ(8, pread(counts, &mapped, 8, frames[i] * 8));
		if (ticks > longest)
			longest = ticks;
		if ((long long)mapped > mappings)
			mappings = mapped;
	}
	free(frames);
	line_begin("walks");
	line_int("frames", count);
	line_int("mappings", mappings);
	line_int("longest", clock_ticks_ns(longest));
	line_end();
out:
	if (bitmap >= 0)
		close(bitmap);
	if (counts >= 0)
		close(counts);
}
