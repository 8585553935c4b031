// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the budget: how much CPU time scanning takes, and may take
 */
#include <linux/atomic.h>
#include <linux/freezer.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/kthread.h>
#include <linux/math64.h>
#include <linux/sched.h>
#include <linux/spinlock.h>

#include "internal.h"

/* What was not used is kept for so long, so that a late timer loses nothing. */
#define MMG_BUDGET_KEPT		(100 * NSEC_PER_MSEC)
/* Longer than any debt takes, short enough to be multiplied. */
#define MMG_BUDGET_LONG		(3600 * NSEC_PER_SEC)
/* More than was allowed is paid for at once when it is so much CPU time. */
#define MMG_BUDGET_OWED		NSEC_PER_MSEC

static DEFINE_SPINLOCK(mmg_budget_lock);
/* CPU time used beyond what was allowed by @mmg_budget_time, may be negative. */
static s64 mmg_budget_owed;
static u64 mmg_budget_time;

/**
 * mmg_cpu_begin - begin to measure the calling thread's CPU time
 * @cpu: to be given to mmg_cpu_used()
 */
void mmg_cpu_begin(struct mmg_cpu *cpu)
{
	cpu->runtime = READ_ONCE(current->se.sum_exec_runtime);
	cpu->switches = current->nvcsw + current->nivcsw;
	cpu->clock = ktime_get_ns();
}

/**
 * mmg_cpu_used - CPU time of the calling thread since mmg_cpu_begin()
 * @cpu: that mmg_cpu_begin() filled in
 *
 * The scheduler brings its account up to date when it switches, or with a
 * tick; a thread that was not switched can tell exactly.
 *
 * Return: nanoseconds.
 */
u64 mmg_cpu_used(const struct mmg_cpu *cpu)
{
	u64 wall = ktime_get_ns() - cpu->clock;

	if (current->nvcsw + current->nivcsw == cpu->switches)
		return wall;
	return min(wall, READ_ONCE(current->se.sum_exec_runtime) - cpu->runtime);
}

/* Put CPU time on the account. Returns what is owed. */
static s64 mmg_budget_charge(u64 ns, unsigned int percent)
{
	s64 kept = -(s64)(MMG_BUDGET_KEPT / 100) * percent;
	s64 owed;
	u64 now;

	spin_lock(&mmg_budget_lock);
	/* Here, so that nobody who comes later has an earlier time. */
	now = ktime_get_ns();
	mmg_budget_owed -= div_u64(min_t(u64, now - mmg_budget_time,
					 MMG_BUDGET_LONG) * percent, 100);
	mmg_budget_owed = max(mmg_budget_owed, kept) + ns;
	mmg_budget_time = now;
	if (!percent)
		mmg_budget_owed = 0;
	owed = mmg_budget_owed;
	spin_unlock(&mmg_budget_lock);
	return owed;
}

/* Account CPU time of a scanner, and wait until it is paid. */
static void mmg_budget_spend(u64 ns)
{
	const unsigned int percent = READ_ONCE(mmg_tunables.cpu_limit_percent);
	s64 owed = mmg_budget_charge(ns, percent);

	/* What a scanner that is stopped owes stays on the account. */
	while (percent && owed > (s64)MMG_BUDGET_OWED &&
	       !kthread_should_stop() && mmg_scanner_runs() &&
	       percent == READ_ONCE(mmg_tunables.cpu_limit_percent)) {
		u64 wait = min(div_u64(owed * 100, percent),
			       100 * NSEC_PER_MSEC);
		ktime_t until = ns_to_ktime(wait);

		set_current_state(TASK_INTERRUPTIBLE | TASK_FREEZABLE);
		schedule_hrtimeout_range(&until, NSEC_PER_MSEC / 10,
					 HRTIMER_MODE_REL);
		owed -= div_u64(wait * percent, 100);
	}
}

/* The account stands at @runtime. Returns what is due of it. */
static u64 mmg_payer_settle(struct mmg_payer *payer, u64 runtime)
{
	const s64 due = runtime - payer->paid - payer->credit;

	payer->paid = runtime;
	payer->credit = due < 0 ? -due : 0;
	return due > 0 ? due : 0;
}

/* So much was used since the account was looked at. Returns what is due. */
static u64 mmg_payer_use(struct mmg_payer *payer, u64 used)
{
	const u64 credit = min(used, payer->credit);

	payer->paid += used;
	payer->credit -= credit;
	return used - credit;
}

/**
 * mmg_payer_begin - begin to measure what is to be paid for
 * @payer: of the calling scanner; zeroed before the first time
 *
 * The scheduler's account of a thread that has been switched has what only it
 * knows: most of what it took to sleep and to wake up, and how long others had
 * the processor. One that counts in ticks does not. What was too much stays
 * with the scanner, as the budget keeps little.
 */
void mmg_payer_begin(struct mmg_payer *payer)
{
	const unsigned int percent = READ_ONCE(mmg_tunables.cpu_limit_percent);
	const unsigned long switches = payer->cpu.switches;

	mmg_cpu_begin(&payer->cpu);
	if (payer->cpu.switches == switches ||
	    !(payer->cpu.runtime % TICK_NSEC))
		return;
	mmg_budget_charge(mmg_payer_settle(payer, payer->cpu.runtime), percent);
	if (!percent)
		payer->credit = 0;
}

/**
 * mmg_payer_pay - pay for the CPU time that was used since the last time
 * @payer: of the calling scanner
 *
 * All scanners share one budget, cpu_limit_percent of one CPU. Whoever finds
 * it overdrawn sleeps until it is not.
 */
void mmg_payer_pay(struct mmg_payer *payer)
{
	mmg_budget_spend(mmg_payer_use(payer, mmg_cpu_used(&payer->cpu)));
	mmg_payer_begin(payer);
}

#ifdef CONFIG_MEMMERGE_KUNIT_TEST
#include "budget_kunit.c"
#endif
