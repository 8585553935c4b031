// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - for how long the engine holds locks that others wait for
 *
 * A histogram for each kind of lock: the time from taking it to giving it up,
 * in which the engine may have slept or been preempted, as whoever waits for
 * the lock does not care. Counted per CPU and without a lock of its own; what
 * is read while counting goes on may be off by the holds that end meanwhile.
 *
 * Read through debugfs, see kernel/Documentation/abi.md.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>

#include "internal.h"

/**
 * struct mmg_hold - what is known of the holds of one kind of lock
 * @count: holds by mmg_hold_bucket()
 * @longest: nanoseconds
 */
struct mmg_hold {
	unsigned long count[MMG_HOLD_BUCKETS];
	u64 longest;
};

static const char * const mmg_hold_names[MMG_NR_HOLDS] = {
	[MMG_HOLD_DOMAIN] = "domain",
	[MMG_HOLD_MMAP] = "mmap",
	[MMG_HOLD_FOLIO] = "folio",
	[MMG_HOLD_TABLE] = "table",
};

static struct mmg_hold __percpu *mmg_holds[MMG_NR_HOLDS];
static struct dentry *mmg_hold_dir;

/**
 * mmg_hold_bucket - which bucket of a histogram a hold belongs to
 * @ns: that it lasted
 *
 * Return: the number of a bucket: bucket b has what lasted less than 2^b ns
 * and does not fit in the one before; the last one has all the rest.
 */
unsigned int mmg_hold_bucket(u64 ns)
{
	return min_t(unsigned int, fls64(ns), MMG_HOLD_BUCKETS - 1);
}

/**
 * mmg_hold_end - a lock has been given up
 * @lock: its kind
 * @begin: what mmg_hold_begin() returned when it was taken
 */
void mmg_hold_end(enum mmg_hold_lock lock, u64 begin)
{
	struct mmg_hold *hold;
	u64 end = ktime_get_ns();
	/* The clocks of two CPUs may differ by a little. */
	u64 ns = end > begin ? end - begin : 0;

	hold = get_cpu_ptr(mmg_holds[lock]);
	hold->count[mmg_hold_bucket(ns)]++;
	hold->longest = max(hold->longest, ns);
	put_cpu_ptr(mmg_holds[lock]);
}

/**
 * mmg_hold_forget - begin anew
 * @lock: kind of the locks
 */
void mmg_hold_forget(enum mmg_hold_lock lock)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		memset(per_cpu_ptr(mmg_holds[lock], cpu), 0,
		       sizeof(struct mmg_hold));
}

static void mmg_hold_sum(enum mmg_hold_lock lock, struct mmg_hold *sum)
{
	unsigned int cpu, i;

	memset(sum, 0, sizeof(*sum));
	for_each_possible_cpu(cpu) {
		const struct mmg_hold *hold = per_cpu_ptr(mmg_holds[lock], cpu);

		for (i = 0; i < MMG_HOLD_BUCKETS; i++)
			sum->count[i] += READ_ONCE(hold->count[i]);
		sum->longest = max(sum->longest, READ_ONCE(hold->longest));
	}
}

/**
 * mmg_hold_longest - the longest hold
 * @lock: kind of the locks
 *
 * Return: nanoseconds.
 */
u64 mmg_hold_longest(enum mmg_hold_lock lock)
{
	struct mmg_hold sum;

	mmg_hold_sum(lock, &sum);
	return sum.longest;
}

static int mmg_hold_show(struct seq_file *file, void *unused)
{
	struct mmg_hold sum;
	unsigned int i;

	mmg_hold_sum((uintptr_t)file->private, &sum);
	seq_printf(file, "longest %llu\n", sum.longest);
	for (i = 0; i < MMG_HOLD_BUCKETS; i++)
		if (sum.count[i])
			seq_printf(file, "%llu %lu\n", 1ULL << i, sum.count[i]);
	return 0;
}

static int mmg_hold_open(struct inode *inode, struct file *file)
{
	return single_open(file, mmg_hold_show, inode->i_private);
}

/* Whatever is written: begin anew. */
static ssize_t mmg_hold_write(struct file *file, const char __user *buf,
			      size_t count, loff_t *pos)
{
	mmg_hold_forget((uintptr_t)file_inode(file)->i_private);
	return count;
}

static const struct file_operations mmg_hold_fops = {
	.owner = THIS_MODULE,
	.open = mmg_hold_open,
	.read = seq_read,
	.write = mmg_hold_write,
	.llseek = seq_lseek,
	.release = single_release,
};

/**
 * mmg_hold_start - set up the histograms, before any lock is taken
 *
 * Return: 0 or -ENOMEM. Without debugfs they are kept and not shown.
 */
int mmg_hold_start(void)
{
	uintptr_t i;

	for (i = 0; i < MMG_NR_HOLDS; i++) {
		mmg_holds[i] = alloc_percpu(struct mmg_hold);
		if (!mmg_holds[i]) {
			mmg_hold_stop();
			return -ENOMEM;
		}
	}
	mmg_hold_dir = debugfs_create_dir("memmerge", NULL);
	for (i = 0; i < MMG_NR_HOLDS; i++) {
		char name[32];

		snprintf(name, sizeof(name), "hold_%s", mmg_hold_names[i]);
		debugfs_create_file(name, 0600, mmg_hold_dir, (void *)i,
				    &mmg_hold_fops);
	}
	return 0;
}

/**
 * mmg_hold_stop - undo mmg_hold_start()
 */
void mmg_hold_stop(void)
{
	unsigned int i;

	debugfs_remove(mmg_hold_dir);
	for (i = 0; i < MMG_NR_HOLDS; i++) {
		free_percpu(mmg_holds[i]);
		mmg_holds[i] = NULL;
	}
}

#ifdef CONFIG_MEMMERGE_KUNIT_TEST
#include "hold_kunit.c"
#endif
