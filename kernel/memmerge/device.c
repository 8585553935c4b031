// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - /dev/memmerge, see memmerge.h and kernel/Documentation/abi.md
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/ptrace.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/swap.h>
#include <linux/uaccess.h>

#include "internal.h"
#include "memmerge.h"

/*
 * Get an argument whose first member is its size. @min is the size of the
 * first version, @size of ours.
 */
static int mmg_get_arg(void *arg, size_t size, size_t min, void __user *uarg)
{
	u32 usize;

	if (get_user(usize, (u32 __user *)uarg))
		return -EFAULT;
	if (usize < min)
		return -EINVAL;
	if (usize > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(arg, size, uarg, usize);
}

/* Give an argument back; its size is still what the caller said. */
static int mmg_put_arg(const void *arg, size_t size, void __user *uarg)
{
	size_t usize = *(const u32 *)arg;

	return copy_to_user(uarg, arg, min(size, usize)) ? -EFAULT : 0;
}

/* Get the address space of a process; it is the caller's to mmput(). */
static struct mm_struct *mmg_get_mm(int pidfd)
{
	struct task_struct *task;
	struct mm_struct *mm;
	unsigned int flags;

	if (pidfd == MEMMERGE_PIDFD_SELF) {
		mmget(current->mm);
		return current->mm;
	}

	task = pidfd_get_task(pidfd, &flags);
	if (IS_ERR(task))
		return ERR_CAST(task);
	mm = mm_access(task, PTRACE_MODE_ATTACH_REALCREDS);
	put_task_struct(task);
	/* As process_vm_readv() does: no rights is EPERM. */
	if (mm == ERR_PTR(-EACCES))
		return ERR_PTR(-EPERM);
	return mm ? mm : ERR_PTR(-ESRCH);
}

static bool mmg_mapped(struct mm_struct *mm, u64 start, u64 end)
{
	struct vm_area_struct *vma;
	bool mapped;

	mmap_read_lock(mm);
	vma = find_vma(mm, start);
	mapped = vma && vma->vm_start < end;
	mmap_read_unlock(mm);
	return mapped;
}

static int mmg_add_region(struct mmg_domain *domain,
			  struct memmerge_region *arg)
{
	struct mmg_region *region;
	struct mm_struct *mm;
	int err;

	if (arg->flags || arg->reserved)
		return -EINVAL;
	if (arg->pidfd < MEMMERGE_PIDFD_SELF)
		return -EBADF;

	mm = mmg_get_mm(arg->pidfd);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	err = mmg_range_check(arg->start, arg->length, mm->task_size);
	if (err)
		goto out_mm;
	err = -ENOMEM;
	if (!mmg_mapped(mm, arg->start, arg->start + arg->length))
		goto out_mm;

	mmg_domain_lock(domain);
	region = mmg_domain_add_region(domain, mm, arg->start, arg->length);
	err = PTR_ERR_OR_ZERO(region);
	if (!err)
		arg->id = region->id;
	mmg_domain_unlock(domain);
	mmg_scanner_wake();

out_mm:
	mmput(mm);
	return err;
}

static int mmg_remove_region(struct mmg_domain *domain,
			     struct memmerge_region *arg)
{
	struct mmg_region *region;
	u64 pages = 0;
	int err = 0;

	if (arg->flags & ~MEMMERGE_REMOVE_UNMERGE || arg->reserved)
		return -EINVAL;

	mmg_domain_lock_alone(domain);
	region = mmg_domain_region(domain, arg->id);
	if (!region)
		err = -ENOENT;
	else if (arg->flags & MEMMERGE_REMOVE_UNMERGE)
		err = mmg_unmerge_range(region, region->start, region->end,
					&pages);
	/* Not removed when it could not be unmerged: try again. */
	if (!err)
		mmg_domain_remove_region(region);
	mmg_domain_unlock_alone(domain);
	return err;
}

/* What is done to a range of a region that lies in one chunk. */
typedef int (*mmg_step)(struct mmg_domain *domain, u64 id, unsigned long start,
			unsigned long end, struct mmg_batch *batch,
			struct mmg_pass *pass);

static int mmg_scan_step(struct mmg_domain *domain, u64 id,
			 unsigned long start, unsigned long end,
			 struct mmg_batch *batch, struct mmg_pass *pass)
{
	struct mmg_region *region;
	int err = -ENOENT;

	down_read(&domain->busy);
	mmg_domain_lock(domain);
	region = mmg_domain_region(domain, id);
	if (region)
		err = mmg_scan_range(batch, region, start, end, false, pass);
	mmg_domain_unlock(domain);
	up_read(&domain->busy);
	return err;
}

static int mmg_unmerge_step(struct mmg_domain *domain, u64 id,
			    unsigned long start, unsigned long end,
			    struct mmg_batch *batch, struct mmg_pass *pass)
{
	struct mmg_region *region;
	int err = -ENOENT;

	mmg_domain_lock_alone(domain);
	region = mmg_domain_region(domain, id);
	if (region)
		err = mmg_unmerge_range(region, start, end, &pass->merged);
	mmg_domain_unlock_alone(domain);
	if (!err)
		pass->scanned += (end - start) >> PAGE_SHIFT;
	return err;
}

/* If all of a region has been scanned, note that. */
static void mmg_scanned(struct mmg_domain *domain, u64 id, u64 start, u64 end,
			const struct mmg_pass *pass)
{
	struct mmg_region *region;

	mmg_domain_lock(domain);
	region = mmg_domain_region(domain, id);
	if (region && region->start == start && region->end == end)
		mmg_region_pass(region, pass);
	mmg_domain_unlock(domain);
}

/* Do @step to [start, end) of a region, giving way to others after each. */
static int mmg_walk(struct mmg_domain *domain, u64 id, u64 start, u64 end,
		    mmg_step step, struct mmg_batch *batch,
		    struct mmg_pass *sum)
{
	struct mmg_pass pass = {};
	int err = 0;
	u64 pos;

	for (pos = start; pos < end && !err; cond_resched()) {
		u64 stop = min_t(u64, end, ALIGN_DOWN(pos, PMD_SIZE) + PMD_SIZE);

		err = step(domain, id, pos, stop, batch, &pass);
		pos = stop;
		if (!err && pos == end && batch)
			mmg_scanned(domain, id, start, end, &pass);
		if (!err && fatal_signal_pending(current))
			err = -EINTR;
	}
	mmg_pass_add(sum, &pass);
	return err;
}

/* The region behind @id: the next number, range and whether there is one. */
static bool mmg_next_region(struct mmg_domain *domain, u64 *id, u64 *start,
			    u64 *end)
{
	struct mmg_region *region;
	bool found = false;

	mmg_domain_lock(domain);
	list_for_each_entry(region, &domain->regions, list) {
		if (region->id > *id) {
			*id = region->id;
			*start = region->start;
			*end = region->end;
			found = true;
			break;
		}
	}
	mmg_domain_unlock(domain);
	return found;
}

/* Do @step to the range that is asked for; a scan has work space. */
static int mmg_each_range(struct mmg_domain *domain, struct memmerge_scan *arg,
			  mmg_step step, struct mmg_batch *batch)
{
	u64 id, start, end;
	struct mmg_pass pass = {};
	unsigned int i;
	int err = 0;

	if (arg->flags)
		return -EINVAL;

	if (!arg->id) {
		if (arg->start || arg->length)
			return -EINVAL;
		id = 0;
		/* A region that went away meanwhile is no error here. */
		while (!err && mmg_next_region(domain, &id, &start, &end)) {
			err = mmg_walk(domain, id, start, end, step, batch,
				       &pass);
			if (err == -ENOENT || err == -ESRCH)
				err = 0;
		}
		if (!err && batch) {
			mmg_domain_lock(domain);
			domain->passes++;
			mmg_domain_unlock(domain);
		}
	} else {
		id = arg->id - 1;
		if (!mmg_next_region(domain, &id, &start, &end) ||
		    id != arg->id)
			return -ENOENT;
		if (arg->start || arg->length) {
			err = mmg_range_check(arg->start, arg->length, ULONG_MAX);
			if (err)
				return err;
			if (arg->start < start ||
			    arg->start + arg->length > end)
				return -EINVAL;
			start = arg->start;
			end = start + arg->length;
		}
		err = mmg_walk(domain, id, start, end, step, batch, &pass);
	}

	arg->scanned = pass.scanned;
	arg->merged = pass.merged;
	arg->zeroed = pass.zeroed;
	arg->skipped = 0;
	for (i = 0; i < MMG_NR_SKIPS; i++)
		arg->skipped += pass.skip[i];
	return err;
}

/* Once for each scan that is asked for the demand may be counted anew. */
static void mmg_recount(struct mmg_domain *domain)
{
	mmg_domain_lock(domain);
	domain->guard.recount = true;
	mmg_domain_unlock(domain);
}

static int mmg_scan(struct mmg_domain *domain, struct memmerge_scan *arg)
{
	struct mmg_batch *batch = mmg_batch_new();
	int err;

	if (!batch)
		return -ENOMEM;
	/* Their references to a page would look like pins. */
	lru_add_drain_all();
	mmg_recount(domain);
	err = mmg_each_range(domain, arg, mmg_scan_step, batch);
	mmg_batch_free(batch);
	/* The scanners may find something to do, too. */
	mmg_scanner_wake();
	return err;
}

static void mmg_stat_region(struct memmerge_stat *arg,
			    const struct mmg_region *region)
{
	const u64 *skip = region->last.skip;

	arg->regions++;
	arg->pages_registered += (region->end - region->start) >> PAGE_SHIFT;
	arg->pages_mapped_shared += region->nr[MMG_SHARED] +
				    region->nr[MMG_MAPPED];
	arg->pages_mapped_zero += region->nr[MMG_ZERO];
	arg->pages_unshared += region->nr[MMG_INDEXED];
	arg->pages_volatile += region->nr_changed;
	arg->skip_absent += skip[MMG_SKIP_ABSENT];
	arg->skip_file += skip[MMG_SKIP_FILE];
	arg->skip_hugetlb += skip[MMG_SKIP_HUGETLB];
	arg->skip_special += skip[MMG_SKIP_SPECIAL];
	arg->skip_locked += skip[MMG_SKIP_LOCKED];
	arg->skip_guarded += skip[MMG_SKIP_GUARDED];
	arg->skip_huge += skip[MMG_SKIP_HUGE];
	arg->skip_foreign += skip[MMG_SKIP_FOREIGN];
	arg->skip_busy += skip[MMG_SKIP_BUSY];
	arg->skip_nomem += skip[MMG_SKIP_NOMEM];
	arg->skip_swapped += skip[MMG_SKIP_SWAPPED];
	arg->skip_crowded += skip[MMG_SKIP_CROWDED];
	arg->skip_guard += skip[MMG_SKIP_GUARD];
	arg->metadata_bytes += mmg_region_metadata(region);
}

static void mmg_stat_totals(struct memmerge_stat *arg,
			    const struct mmg_totals *totals)
{
	arg->scanned = totals->scanned;
	arg->merged = totals->merged;
	arg->zeroed = totals->zeroed;
	arg->unshared = totals->unshared;
	arg->cpu_ns = totals->cpu_ns;
}

static int mmg_stat(struct mmg_domain *domain, struct memmerge_stat *arg)
{
	struct memmerge_stat stat = { .size = arg->size, .id = arg->id };
	struct mmg_region *region;
	int err = 0;

	if (arg->flags)
		return -EINVAL;

	mmg_domain_lock(domain);
	if (arg->id) {
		region = mmg_domain_region(domain, arg->id);
		if (region) {
			mmg_stat_region(&stat, region);
			mmg_stat_totals(&stat, &region->totals);
			stat.passes = region->passes;
		} else {
			err = -ENOENT;
		}
	} else {
		list_for_each_entry(region, &domain->regions, list)
			mmg_stat_region(&stat, region);
		mmg_stat_totals(&stat, &domain->totals);
		stat.passes = domain->passes;
		stat.metadata_bytes = mmg_domain_metadata(domain);
		mmg_shared_count(domain, &stat.pages_shared,
				 &stat.pages_sharing);
		stat.unshare_demand = mmg_guard_demand(domain) << PAGE_SHIFT;
		stat.unshare_limit = domain->guard.limit;
	}
	mmg_domain_unlock(domain);
	*arg = stat;
	return err;
}

static int mmg_limit(struct mmg_domain *domain,
		     const struct memmerge_limit *arg)
{
	if (arg->flags || arg->reserved[0] || arg->reserved[1])
		return -EINVAL;

	mmg_domain_lock(domain);
	domain->guard.limit = arg->unshare_bytes;
	mmg_domain_unlock(domain);
	return 0;
}

static long mmg_ioctl(struct file *file, unsigned int cmd, unsigned long uaddr)
{
	struct mmg_domain *domain = file->private_data;
	void __user *uarg = (void __user *)uaddr;
	union {
		struct memmerge_region region;
		struct memmerge_scan scan;
		struct memmerge_stat stat;
		struct memmerge_limit limit;
	} arg;
	size_t size, first;
	int err, err2;

	switch (cmd) {
	case MEMMERGE_ADD_REGION:
	case MEMMERGE_REMOVE_REGION:
		size = sizeof(arg.region);
		first = size;
		break;
	case MEMMERGE_SCAN:
	case MEMMERGE_UNMERGE:
		size = sizeof(arg.scan);
		first = size;
		break;
	case MEMMERGE_STAT:
		size = sizeof(arg.stat);
		first = MEMMERGE_STAT_SIZE_VER0;
		break;
	case MEMMERGE_LIMIT:
		size = sizeof(arg.limit);
		first = size;
		break;
	default:
		return -ENOTTY;
	}
	err = mmg_get_arg(&arg, size, first, uarg);
	if (err)
		return err;

	switch (cmd) {
	case MEMMERGE_ADD_REGION:
		err = mmg_add_region(domain, &arg.region);
		break;
	case MEMMERGE_REMOVE_REGION:
		err = mmg_remove_region(domain, &arg.region);
		break;
	case MEMMERGE_SCAN:
		err = mmg_scan(domain, &arg.scan);
		break;
	case MEMMERGE_UNMERGE:
		err = mmg_each_range(domain, &arg.scan, mmg_unmerge_step,
				     NULL);
		break;
	case MEMMERGE_STAT:
		err = mmg_stat(domain, &arg.stat);
		break;
	case MEMMERGE_LIMIT:
		err = mmg_limit(domain, &arg.limit);
		break;
	}

	/* These have nothing to say, and may have been given const memory. */
	if (cmd == MEMMERGE_REMOVE_REGION || cmd == MEMMERGE_LIMIT)
		return err;
	/* What a scan did counts even if it ended early. */
	if (err && cmd != MEMMERGE_SCAN && cmd != MEMMERGE_UNMERGE)
		return err;
	err2 = mmg_put_arg(&arg, size, uarg);
	return err ? err : err2;
}

static int mmg_open(struct inode *inode, struct file *file)
{
	struct mmg_domain *domain = mmg_domain_new(false);

	if (IS_ERR(domain))
		return PTR_ERR(domain);
	file->private_data = domain;
	mmg_scanner_watch();
	return 0;
}

static int mmg_release(struct inode *inode, struct file *file)
{
	mmg_domain_close(file->private_data);
	return 0;
}

/* By this number traces name the domain. */
static void mmg_show_fdinfo(struct seq_file *m, struct file *file)
{
	const struct mmg_domain *domain = file->private_data;

	seq_printf(m, "memmerge-domain:\t%u\n", domain->id);
}

static const struct file_operations mmg_fops = {
	.owner = THIS_MODULE,
	.open = mmg_open,
	.release = mmg_release,
	.unlocked_ioctl = mmg_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = mmg_show_fdinfo,
	.llseek = noop_llseek,
};

static struct miscdevice mmg_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "memmerge",
	.fops = &mmg_fops,
	.mode = 0660,
};

/**
 * mmg_device_register - make the device
 *
 * Return: 0 or a negative errno.
 */
int mmg_device_register(void)
{
	return misc_register(&mmg_device);
}

/**
 * mmg_device_unregister - remove the device
 */
void mmg_device_unregister(void)
{
	misc_deregister(&mmg_device);
}
