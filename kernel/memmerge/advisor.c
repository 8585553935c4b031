// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the advisor: sets pages_to_scan, so that a round takes a given
 * time
 *
 * The scanner sleeps between batches, so the time of a round is about inverse
 * to the size of a batch. After each round the size goes half of the way to the
 * one with which that round would have taken the time that is wanted, but not
 * beyond the one with which it would have taken the CPU time that is allowed.
 */
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/minmax.h>

#include "internal.h"

/* When the present round began, by the clock and the CPU time of scanning. */
static u64 mmg_advisor_clock;
static u64 mmg_advisor_cpu;

/**
 * mmg_advisor_pages - what to scan in a batch after a round
 * @pages: what was scanned in a batch
 * @took: milliseconds that the round took
 * @cpu: milliseconds of CPU time of these
 *
 * Return: pages in a batch, between the limits that are set.
 */
unsigned int mmg_advisor_pages(unsigned int pages, u64 took, u64 cpu)
{
	u64 target = (u64)READ_ONCE(mmg_tunables.advisor_target_scan_time) *
		     MSEC_PER_SEC;
	u64 wish, limit;

	/* So that no product is too large; 24 days will do. */
	took = clamp_t(u64, took, 1, INT_MAX);
	cpu = clamp_t(u64, cpu, 1, took);

	wish = (pages + div64_u64(pages * took, target)) / 2;
	limit = div64_u64(pages * took / 100 *
			  READ_ONCE(mmg_tunables.advisor_max_cpu), cpu);
	wish = min(wish, limit);
	wish = max_t(u64, wish, READ_ONCE(mmg_tunables.advisor_min_pages_to_scan));
	return min_t(u64, wish, READ_ONCE(mmg_tunables.advisor_max_pages_to_scan));
}

/**
 * mmg_advisor_begin - the scanner begins a round
 *
 * Context: the scanner.
 */
void mmg_advisor_begin(void)
{
	struct mmg_totals totals;

	mmg_advisor_clock = ktime_get_ns();
	mmg_totals_read(&totals);
	mmg_advisor_cpu = totals.cpu_ns;
}

/**
 * mmg_advisor_round - the scanner has completed a round and begins another
 *
 * Context: the scanner.
 */
void mmg_advisor_round(void)
{
	u64 clock = mmg_advisor_clock, cpu = mmg_advisor_cpu;
	unsigned int pages = READ_ONCE(mmg_tunables.pages_to_scan);
	unsigned int advice;

	mmg_advisor_begin();
	if (!READ_ONCE(mmg_tunables.advisor))
		return;
	advice = mmg_advisor_pages(pages,
				   div_u64(mmg_advisor_clock - clock,
					   NSEC_PER_MSEC),
				   div_u64(mmg_advisor_cpu - cpu,
					   NSEC_PER_MSEC));
	/* Unless somebody has set it meanwhile. */
	cmpxchg(&mmg_tunables.pages_to_scan, pages, advice);
}
