// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the scanner: a kernel thread that goes round all domains, and a
 * work item that lets go of what has ended
 */
#include <linux/freezer.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/swap.h>
#include <linux/workqueue.h>

#include "internal.h"

#define MMG_NICE	5
#define MMG_TIDY_PERIOD	HZ

struct mmg_tunables mmg_tunables = {
	.run = 0,
	.pages_to_scan = 1000,
	.sleep_millisecs = 20,
	.use_zero_pages = 1,
	.max_page_sharing = 256,
};

static struct task_struct *mmg_thread;
static DECLARE_WAIT_QUEUE_HEAD(mmg_wait);

/* The round of the scanner; each open domain is completed once a round. */
static unsigned long mmg_round = 1;
static u64 mmg_rounds_done;

static void mmg_tidy(struct work_struct *work);
static DECLARE_DELAYED_WORK(mmg_tidy_work, mmg_tidy);

static void mmg_tidy(struct work_struct *work)
{
	struct mmg_domain *domain = NULL;
	bool any = false;

	while ((domain = mmg_domain_next(domain))) {
		bool done = false;

		/* Whoever holds it long is scanning; there is a next time. */
		if (mutex_trylock(&domain->lock)) {
			done = mmg_domain_tidy(domain);
			mutex_unlock(&domain->lock);
		}
		if (done) {
			/* What mmg_domain_close() left to us; not the last. */
			mmg_domain_put(domain);
			module_put(THIS_MODULE);
		}
		any = true;
	}
	if (any)
		mmg_scanner_watch();
}

/**
 * mmg_scanner_watch - there is a domain to be tidied from time to time
 */
void mmg_scanner_watch(void)
{
	queue_delayed_work(system_unbound_wq, &mmg_tidy_work, MMG_TIDY_PERIOD);
}

static bool mmg_scanner_runs(void)
{
	return READ_ONCE(mmg_tunables.run) == 1 && !list_empty(&mmg_domains);
}

/*
 * Go on in a region. Returns pages looked at, at most @pages; the region is
 * completed for this round when its cursor is at its start again.
 */
static unsigned long mmg_scan_region(struct mmg_region *region,
				     unsigned long pages)
{
	unsigned long scanned = 0;

	while (region->cursor < region->end && scanned < pages) {
		unsigned long stop = ALIGN_DOWN(region->cursor, PMD_SIZE) +
				     PMD_SIZE;
		int err;

		stop = min3(stop, region->end, region->cursor +
			    ((pages - scanned) << PAGE_SHIFT));
		err = mmg_scan_range(region, region->cursor, stop, true,
				     &region->running);
		if (err == -ESRCH)
			stop = region->end;	/* mmg_domain_tidy() ends it */
		else	/* without memory the next round sees it again */
			scanned += (stop - region->cursor) >> PAGE_SHIFT;
		region->cursor = stop;
		cond_resched();
	}
	if (region->cursor == region->end) {
		region->cursor = region->start;
		region->round = mmg_round;
		mmg_region_pass(region, &region->running);
		memset(&region->running, 0, sizeof(region->running));
	}
	return scanned;
}

/*
 * Go on in a domain, whose lock is held. Returns whether it is completed for
 * this round, and takes the pages looked at from *@left.
 */
static bool mmg_scan_domain(struct mmg_domain *domain, unsigned long *left)
{
	struct mmg_region *region;

	if (domain->round == mmg_round)
		return true;
	list_for_each_entry(region, &domain->regions, list) {
		if (region->round != mmg_round && *left)
			*left -= mmg_scan_region(region, *left);
		if (region->round != mmg_round)
			return false;
	}
	domain->round = mmg_round;
	domain->passes++;
	return true;
}

/* One batch of pages_to_scan pages. */
static void mmg_scan_batch(void)
{
	unsigned long left = READ_ONCE(mmg_tunables.pages_to_scan);
	struct mmg_domain *domain = NULL;
	bool complete = true, any = false;

	while ((domain = mmg_domain_next(domain))) {
		mutex_lock(&domain->lock);
		if (!domain->closed && !list_empty(&domain->regions)) {
			any = true;
			if (!mmg_scan_domain(domain, &left))
				complete = false;
		}
		mutex_unlock(&domain->lock);
	}

	if (any && complete) {
		WRITE_ONCE(mmg_round, mmg_round + 1);
		WRITE_ONCE(mmg_rounds_done, mmg_rounds_done + 1);
		/* Their references to a page would look like pins. */
		lru_add_drain_all();
	}
}

static int mmg_scanner(void *unused)
{
	set_freezable();
	set_user_nice(current, MMG_NICE);

	while (!kthread_should_stop()) {
		if (mmg_scanner_runs()) {
			mmg_scan_batch();
			wait_event_freezable_timeout(mmg_wait,
						     kthread_should_stop(),
				msecs_to_jiffies(READ_ONCE(mmg_tunables.sleep_millisecs)));
			cond_resched();
		} else {
			wait_event_freezable(mmg_wait, mmg_scanner_runs() ||
					     kthread_should_stop());
		}
	}
	return 0;
}

/**
 * mmg_scanner_wake - run was set, or a domain was opened
 */
void mmg_scanner_wake(void)
{
	wake_up_interruptible(&mmg_wait);
}

/**
 * mmg_scanner_pid - which thread is the scanner
 *
 * Return: its id.
 */
int mmg_scanner_pid(void)
{
	return mmg_thread ? task_pid_nr(mmg_thread) : 0;
}

/**
 * mmg_scanner_rounds - how often the scanner has completed all domains
 *
 * Return: rounds since the module was loaded.
 */
u64 mmg_scanner_rounds(void)
{
	return READ_ONCE(mmg_rounds_done);
}

/**
 * mmg_unmerge_all - give every merged page its own copy, in all domains
 *
 * Return: 0; -ENOMEM or -EINTR when it stopped half-way.
 */
int mmg_unmerge_all(void)
{
	struct mmg_domain *domain = NULL;
	struct mmg_region *region;
	int err = 0;

	while ((domain = mmg_domain_next(domain))) {
		u64 pages = 0;

		mutex_lock(&domain->lock);
		list_for_each_entry(region, &domain->regions, list) {
			err = mmg_unmerge_range(region, region->start,
						region->end, &pages);
			if (err)
				break;
			mmg_region_forget(region);
		}
		mutex_unlock(&domain->lock);
		if (err) {
			mmg_domain_put(domain);
			break;
		}
	}
	/* Closed domains may have ended by this. */
	mod_delayed_work(system_unbound_wq, &mmg_tidy_work, 0);
	return err;
}

/**
 * mmg_scanner_start - start the thread
 *
 * Return: 0 or a negative errno.
 */
int mmg_scanner_start(void)
{
	struct task_struct *thread = kthread_run(mmg_scanner, NULL, "memmerged");

	if (IS_ERR(thread))
		return PTR_ERR(thread);
	mmg_thread = thread;
	return 0;
}

/**
 * mmg_scanner_stop - end the thread and the work
 */
void mmg_scanner_stop(void)
{
	kthread_stop(mmg_thread);
	mmg_thread = NULL;
	cancel_delayed_work_sync(&mmg_tidy_work);
}
