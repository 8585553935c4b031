// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - the scanners: kernel threads that go round all domains, and a work
 * item that lets go of what has ended
 */
#include <linux/freezer.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/workqueue.h>

#include "internal.h"

#define MMG_NICE	5
#define MMG_TIDY_PERIOD	HZ

/*
 * A round is idle when not more than one in so many pages was merged, new or
 * had changed. The next one begins so much later, and twice as late after each
 * further idle one.
 */
#define MMG_IDLE_PART		1024
#define MMG_IDLE_MSECS		8U
#define MMG_IDLE_LEVELS		20

struct mmg_tunables mmg_tunables = {
	.run = 0,
	.pages_to_scan = MMG_PAGES_TO_SCAN,
	.sleep_millisecs = 20,
	.use_zero_pages = 1,
	.max_page_sharing = 256,
	.huge_split_pages = 64,
	.unshare_limit = -1,
	.unshare_limit_percent = -1,
	.cpu_limit_percent = 0,
	.max_idle_millisecs = 1000,
	.merge_across_nodes = 1,
	.smart_scan = 1,
	.stable_node_chains_prune_millisecs = 2000,
	.advisor_max_cpu = 70,
	.advisor_min_pages_to_scan = 500,
	.advisor_max_pages_to_scan = 30000,
	.advisor_target_scan_time = 200,
};

/**
 * struct mmg_scanner - a thread that scans
 * @task: the thread
 * @batch: its work space
 * @payer: what it has paid for
 */
struct mmg_scanner {
	struct task_struct *task;
	struct mmg_batch *batch;
	struct mmg_payer payer;
};

/**
 * struct mmg_piece - a part of one chunk that a scanner works on
 * @region: that it belongs to
 * @start: first byte
 * @end: behind the last byte
 */
struct mmg_piece {
	struct mmg_region *region;
	unsigned long start;
	unsigned long end;
};

static DEFINE_MUTEX(mmg_scanners_lock);
static struct mmg_scanner mmg_scanners[MMG_MAX_SCANNERS];
static unsigned int mmg_nr_scanners;
static DECLARE_WAIT_QUEUE_HEAD(mmg_wait);
/* Held for read by each scanner that is at work. */
static DECLARE_RWSEM(mmg_at_work);

/* The round of the scanners; each open domain is completed once a round. */
static unsigned long mmg_round = 1;
/* The last round whose end one of them has seen to, or is seeing to. */
static unsigned long mmg_round_ended;
static u64 mmg_rounds_done;
static struct mmg_pass mmg_round_pass;

/* When the next round may begin, in jiffies, and how many idle ones precede. */
static unsigned long mmg_round_due;
static unsigned int mmg_idle_rounds;
/* How often somebody wanted scanners to look at once. */
static unsigned int mmg_wakes;
/* Protects @mmg_round_pass and the idle state; innermost. */
static DEFINE_SPINLOCK(mmg_round_lock);

static void mmg_tidy(struct work_struct *work);
static DECLARE_DELAYED_WORK(mmg_tidy_work, mmg_tidy);

static void mmg_tidy(struct work_struct *work)
{
	struct mmg_domain *domain = NULL;
	bool any = false;

	while ((domain = mmg_domain_next(domain))) {
		bool done;

		mmg_domain_lock_alone(domain);
		done = mmg_domain_tidy(domain);
		mmg_domain_unlock_alone(domain);
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

/**
 * mmg_scanner_runs - shall scanners scan
 *
 * Return: whether they shall, and there is a domain.
 */
bool mmg_scanner_runs(void)
{
	return READ_ONCE(mmg_tunables.run) == 1 && !list_empty(&mmg_domains);
}

/* All pieces of a region have been taken; have all been scanned? */
static void mmg_region_complete(struct mmg_region *region)
{
	if (region->pending || region->cursor != region->end)
		return;
	region->cursor = region->start;
	region->round = READ_ONCE(mmg_round);
	mmg_region_pass(region, &region->running);
	memset(&region->running, 0, sizeof(region->running));
}

/* Where the piece at the cursor ends; an advised region may have no more. */
static unsigned long mmg_piece_stop(struct mmg_region *region)
{
	if (!region->domain->advised)
		return ALIGN_DOWN(region->cursor, PMD_SIZE) + PMD_SIZE;
	return mmg_advice_next(region);
}

/*
 * Take the next piece of a domain, whose lock is held, at most @pages of it.
 * Scanners begin a round at the first region; no piece is taken twice.
 */
static bool mmg_piece_next(struct mmg_domain *domain, unsigned long pages,
			   struct mmg_piece *piece)
{
	const unsigned long round = READ_ONCE(mmg_round);
	struct mmg_region *region = domain->turn;
	unsigned long stop;

	if (!region || domain->turn_round != round)
		region = list_first_entry(&domain->regions, struct mmg_region,
					  list);
	domain->turn_round = round;
	list_for_each_entry_from(region, &domain->regions, list) {
		domain->turn = region;
		if (region->round == round || region->cursor == region->end)
			continue;
		stop = mmg_piece_stop(region);
		if (region->cursor < region->end)
			break;
		mmg_region_complete(region);
	}
	if (list_entry_is_head(region, &domain->regions, list))
		return false;

	piece->region = region;
	piece->start = region->cursor;
	piece->end = min3(stop, region->end,
			  piece->start + (pages << PAGE_SHIFT));
	region->cursor = piece->end;
	region->pending++;
	return true;
}

/*
 * A piece has been scanned; the last one completes its region. Until then the
 * round cannot end.
 */
static void mmg_piece_done(struct mmg_piece *piece, int err,
			   const struct mmg_pass *pass)
{
	struct mmg_region *region = piece->region;

	mmg_pass_add(&region->running, pass);
	/* Without memory the next round sees it again. */
	if (err == -ESRCH)
		region->cursor = region->end;	/* mmg_domain_tidy() ends it */
	region->pending--;
	mmg_region_complete(region);
}

/* Scan a piece of a domain. Returns pages looked at, 0 if none is left. */
static unsigned long mmg_scan_piece(struct mmg_domain *domain,
				    struct mmg_batch *batch,
				    unsigned long pages)
{
	struct mmg_pass pass = {};
	struct mmg_piece piece;
	bool found;
	int err;

	down_read(&domain->busy);
	mmg_domain_lock(domain);
	found = !domain->closed && !domain->idle &&
		mmg_piece_next(domain, pages, &piece);
	if (found) {
		err = mmg_scan_range(batch, piece.region, piece.start,
				     piece.end,
				     READ_ONCE(mmg_tunables.smart_scan), &pass);
		mmg_piece_done(&piece, err, &pass);
	}
	mmg_domain_unlock(domain);
	up_read(&domain->busy);
	if (!found)
		return 0;

	spin_lock(&mmg_round_lock);
	mmg_pass_add(&mmg_round_pass, &pass);
	spin_unlock(&mmg_round_lock);
	return (piece.end - piece.start) >> PAGE_SHIFT;
}

/* Is a domain, whose lock is held, completed for a round? */
static bool mmg_domain_completed(struct mmg_domain *domain, unsigned long round)
{
	struct mmg_region *region;

	if (domain->round == round)
		return true;
	list_for_each_entry(region, &domain->regions, list)
		if (region->round != round)
			return false;
	domain->round = round;
	domain->passes++;
	return true;
}

/* After a round: when is the next one worth while? */
static void mmg_round_plan(void)
{
	unsigned int most = READ_ONCE(mmg_tunables.max_idle_millisecs);
	const struct mmg_pass *pass = &mmg_round_pass;
	unsigned int ms = 0;

	spin_lock(&mmg_round_lock);
	if ((pass->merged + pass->zeroed + pass->news) * MMG_IDLE_PART >
	    pass->scanned)
		mmg_idle_rounds = 0;
	else if (mmg_idle_rounds < MMG_IDLE_LEVELS)
		mmg_idle_rounds++;
	if (mmg_idle_rounds)
		ms = min(most, MMG_IDLE_MSECS << mmg_idle_rounds);
	mmg_round_due = jiffies + msecs_to_jiffies(ms);
	memset(&mmg_round_pass, 0, sizeof(mmg_round_pass));
	spin_unlock(&mmg_round_lock);
}

/*
 * Look at what is advised: at the beginning of a round, and when there was
 * nothing to scan.
 */
static void mmg_scan_advice(bool round)
{
	struct mmg_domain *domain = NULL;

	while ((domain = mmg_domain_next(domain)))
		if (domain->advised &&
		    (round || (mmg_advice_pending() &&
			       list_empty(&domain->regions))))
			mmg_advice_round(domain);
}

/*
 * If all domains are completed, begin the next round. Scanners may come to
 * this at the same time, and one of them does it; the others find nothing to
 * scan until it has.
 */
static void mmg_round_end(void)
{
	const unsigned long round = READ_ONCE(mmg_round);
	struct mmg_domain *domain = NULL;
	bool complete = true, any = false;

	while ((domain = mmg_domain_next(domain))) {
		mmg_domain_lock(domain);
		if (!domain->closed && !domain->idle &&
		    !list_empty(&domain->regions)) {
			any = true;
			if (!mmg_domain_completed(domain, round))
				complete = false;
		}
		mmg_domain_unlock(domain);
	}
	if (!any || !complete ||
	    cmpxchg(&mmg_round_ended, round - 1, round) != round - 1)
		return;

	mmg_advisor_round();
	mmg_round_plan();
	/*
	 * Before the next one is prepared: whoever sees this, and waits for two
	 * more, gets a round that has been prepared since he looked.
	 */
	WRITE_ONCE(mmg_rounds_done, mmg_rounds_done + 1);
	mmg_scan_advice(true);
	/* Their references to a page would look like pins. */
	lru_add_drain_all();
	WRITE_ONCE(mmg_round, round + 1);
	wake_up_all(&mmg_wait);
}

/*
 * One batch of pages_to_scan pages, or what is left of the round. Returns
 * whether there was something to look at.
 */
static bool mmg_scan_batch(struct mmg_scanner *scanner)
{
	unsigned long left = READ_ONCE(mmg_tunables.pages_to_scan);
	struct mmg_domain *domain = NULL;
	bool any = false;

	mmg_payer_begin(&scanner->payer);
	mmg_scan_advice(false);
	/* The budget alone says how fast. */
	if (READ_ONCE(mmg_tunables.cpu_limit_percent))
		left = UINT_MAX;
	while ((domain = mmg_domain_next(domain))) {
		unsigned long pages = left;

		while (pages && left && mmg_scanner_runs() &&
		       !kthread_should_stop()) {
			pages = mmg_scan_piece(domain, scanner->batch, left);
			left -= pages;
			any |= pages;
			mmg_payer_pay(&scanner->payer);
			cond_resched();
		}
	}
	mmg_round_end();
	/* Where all is cold, this is most of a round. */
	mmg_payer_pay(&scanner->payer);
	return any;
}

/* Wait for something, for a while, or until the thread shall end. */
#define mmg_scanner_wait(_condition, _jiffies)				\
	wait_event_freezable_timeout(mmg_wait, kthread_should_stop() ||	\
				     (_condition), _jiffies)

/*
 * A batch, unless somebody has stopped the scanners and relies on it. Returns
 * whether there was something to look at.
 */
static bool mmg_scanner_work(struct mmg_scanner *scanner)
{
	bool any = false;

	down_read(&mmg_at_work);
	if (mmg_scanner_runs())
		any = mmg_scan_batch(scanner);
	up_read(&mmg_at_work);
	return any;
}

/*
 * Sleep as long as the tunables say, and until the next round is due. A batch
 * that found nothing to look at, as others are at work on what is left of the
 * round, waits for its end.
 */
static void mmg_scanner_rest(bool any)
{
	const unsigned int ms = READ_ONCE(mmg_tunables.sleep_millisecs);
	const unsigned int wakes = READ_ONCE(mmg_wakes);
	const unsigned long round = READ_ONCE(mmg_round);
	long idle;

	if (!READ_ONCE(mmg_tunables.cpu_limit_percent))
		mmg_scanner_wait(READ_ONCE(mmg_tunables.sleep_millisecs) != ms,
				 msecs_to_jiffies(ms));
	if (!any)
		mmg_scanner_wait(READ_ONCE(mmg_wakes) != wakes ||
				 READ_ONCE(mmg_round) != round, HZ / 10);
	idle = READ_ONCE(mmg_round_due) - jiffies;
	if (idle > 0)
		mmg_scanner_wait(READ_ONCE(mmg_wakes) != wakes, idle);
}

static int mmg_scanner(void *arg)
{
	struct mmg_scanner *scanner = arg;

	set_freezable();
	set_user_nice(current, MMG_NICE);

	while (!kthread_should_stop()) {
		if (mmg_scanner_runs()) {
			mmg_scanner_rest(mmg_scanner_work(scanner));
			cond_resched();
		} else {
			wait_event_freezable(mmg_wait, mmg_scanner_runs() ||
					     kthread_should_stop());
			mmg_advisor_begin();
		}
	}
	return 0;
}

/**
 * mmg_scanner_wake - a domain or region is new, or a tunable was set
 */
void mmg_scanner_wake(void)
{
	spin_lock(&mmg_round_lock);
	mmg_idle_rounds = 0;
	WRITE_ONCE(mmg_round_due, jiffies);
	WRITE_ONCE(mmg_wakes, mmg_wakes + 1);
	spin_unlock(&mmg_round_lock);
	wake_up_all(&mmg_wait);
}

/**
 * mmg_scanner_settle - wait until what scanners are at work on is done
 *
 * When the scanners shall not run, none is at work behind this.
 */
void mmg_scanner_settle(void)
{
	down_write(&mmg_at_work);
	up_write(&mmg_at_work);
}

/**
 * mmg_scanner_pid - which thread is the first scanner
 *
 * Return: its id.
 */
int mmg_scanner_pid(void)
{
	struct task_struct *task = READ_ONCE(mmg_scanners[0].task);

	return task ? task_pid_nr(task) : 0;
}

/**
 * mmg_scanner_rounds - how often the scanners have completed all domains
 *
 * Return: rounds since the module was loaded.
 */
u64 mmg_scanner_rounds(void)
{
	return READ_ONCE(mmg_rounds_done);
}

/**
 * mmg_unmerge_domain - give every merged page of a domain its own copy
 * @domain: with a reference
 *
 * Processes that fork meanwhile hand merged pages down to their children, so
 * for an advised domain it is not done before nobody is new.
 *
 * Return: 0; -ENOMEM or -EINTR when it stopped half-way.
 */
int mmg_unmerge_domain(struct mmg_domain *domain)
{
	struct mmg_region *region;
	bool advised;
	u64 pages = 0;
	int err;

	do {
		err = 0;
		mmg_domain_lock_alone(domain);
		advised = domain->advised && !domain->closed;
		if (advised)
			err = mmg_advice_sync(domain);
		list_for_each_entry(region, &domain->regions, list) {
			if (err)
				break;
			err = mmg_unmerge_range(region, region->start,
						region->end, &pages);
			if (!err)
				mmg_region_forget(region);
		}
		mmg_domain_unlock_alone(domain);
		if (!err && fatal_signal_pending(current))
			err = -EINTR;
	} while (!err && advised && mmg_advice_pending());
	return err;
}

/**
 * mmg_unmerge_all - give every merged page its own copy, in all domains
 *
 * Return: 0; -ENOMEM or -EINTR when it stopped half-way.
 */
int mmg_unmerge_all(void)
{
	struct mmg_domain *domain = NULL;
	int err = 0;

	while ((domain = mmg_domain_next(domain))) {
		err = mmg_unmerge_domain(domain);
		if (err) {
			mmg_domain_put(domain);
			break;
		}
	}
	/* Closed domains may have ended by this. */
	mod_delayed_work(system_unbound_wq, &mmg_tidy_work, 0);
	return err;
}

static int mmg_scanner_new(unsigned int nr)
{
	struct mmg_scanner *scanner = &mmg_scanners[nr];
	struct task_struct *task;

	scanner->payer = (struct mmg_payer){};
	scanner->batch = mmg_batch_new();
	if (!scanner->batch)
		return -ENOMEM;
	task = nr ? kthread_run(mmg_scanner, scanner, "memmerged/%u", nr) :
		    kthread_run(mmg_scanner, scanner, "memmerged");
	if (IS_ERR(task)) {
		mmg_batch_free(scanner->batch);
		return PTR_ERR(task);
	}
	WRITE_ONCE(scanner->task, task);
	return 0;
}

static void mmg_scanner_end(unsigned int nr)
{
	struct mmg_scanner *scanner = &mmg_scanners[nr];
	struct task_struct *task = scanner->task;

	WRITE_ONCE(scanner->task, NULL);
	kthread_stop(task);
	mmg_batch_free(scanner->batch);
}

/**
 * mmg_scanner_set_count - have so many scanners
 * @count: at most MMG_MAX_SCANNERS; 0 when the module goes away
 *
 * Return: 0 or a negative errno, with the number unchanged or in between.
 */
int mmg_scanner_set_count(unsigned int count)
{
	int err = 0;

	mutex_lock(&mmg_scanners_lock);
	while (!err && mmg_nr_scanners < count) {
		err = mmg_scanner_new(mmg_nr_scanners);
		if (!err)
			WRITE_ONCE(mmg_nr_scanners, mmg_nr_scanners + 1);
	}
	while (mmg_nr_scanners > count) {
		WRITE_ONCE(mmg_nr_scanners, mmg_nr_scanners - 1);
		mmg_scanner_end(mmg_nr_scanners);
	}
	mutex_unlock(&mmg_scanners_lock);
	return err;
}

/**
 * mmg_scanner_count - how many scanners there are
 *
 * Return: their number.
 */
int mmg_scanner_count(void)
{
	return READ_ONCE(mmg_nr_scanners);
}

/**
 * mmg_scanner_start - start the first thread
 *
 * Return: 0 or a negative errno.
 */
int mmg_scanner_start(void)
{
	return mmg_scanner_set_count(1);
}

/**
 * mmg_scanner_stop - end the threads and the work
 */
void mmg_scanner_stop(void)
{
	mmg_scanner_set_count(0);
	cancel_delayed_work_sync(&mmg_tidy_work);
}
