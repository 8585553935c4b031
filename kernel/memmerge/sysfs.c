// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - /sys/kernel/mm/memmerge, see kernel/Documentation/abi.md
 */
#include <linux/kobject.h>
#include <linux/sysfs.h>

#include "internal.h"

#define MMG_FILE_RO(_name, _value)					\
static ssize_t _name##_show(struct kobject *kobj,			\
			    struct kobj_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%llu\n", (u64)(_value));		\
}									\
static struct kobj_attribute _name##_attr = __ATTR_RO(_name)

#define MMG_FILE_SIGNED(_name, _value)					\
static ssize_t _name##_show(struct kobject *kobj,			\
			    struct kobj_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%lld\n", (s64)(_value));		\
}									\
static struct kobj_attribute _name##_attr = __ATTR_RO(_name)

#define MMG_FILE_RW(_name, _min, _max)					\
static ssize_t _name##_show(struct kobject *kobj,			\
			    struct kobj_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%u\n", READ_ONCE(mmg_tunables._name));	\
}									\
static ssize_t _name##_store(struct kobject *kobj,			\
			     struct kobj_attribute *attr,		\
			     const char *buf, size_t count)		\
{									\
	int err = mmg_store(&mmg_tunables._name, buf, _min, _max);	\
									\
	return err ? err : count;					\
}									\
static struct kobj_attribute _name##_attr = __ATTR_RW(_name)

static DEFINE_MUTEX(mmg_run_lock);

static int mmg_store(unsigned int *tunable, const char *buf,
		     unsigned int min, unsigned int max)
{
	unsigned int value;

	if (kstrtouint(buf, 10, &value) || value < min || value > max)
		return -EINVAL;
	if (tunable == &mmg_tunables.pages_to_scan && mmg_tunables.advisor)
		return -EINVAL;
	WRITE_ONCE(*tunable, value);
	mmg_scanner_wake();
	return 0;
}

static ssize_t run_show(struct kobject *kobj, struct kobj_attribute *attr,
			char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(mmg_tunables.run));
}

static ssize_t run_store(struct kobject *kobj, struct kobj_attribute *attr,
			 const char *buf, size_t count)
{
	int err;

	mutex_lock(&mmg_run_lock);
	err = mmg_store(&mmg_tunables.run, buf, 0, 2);
	/* Whoever stops the scanners relies on it that nothing is merged. */
	if (!err && mmg_tunables.run != 1)
		mmg_scanner_settle();
	if (!err && mmg_tunables.run == 2) {
		err = mmg_unmerge_all();
		/* What is left is still merged: not what was asked for. */
		if (err)
			WRITE_ONCE(mmg_tunables.run, 0);
	}
	mutex_unlock(&mmg_run_lock);
	return err ? err : count;
}

static struct kobj_attribute run_attr = __ATTR_RW(run);

static ssize_t engine_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%s\n", mmg_advice_chosen() ?
			  "ksm [memmerge]" : "[ksm] memmerge");
}

static ssize_t engine_store(struct kobject *kobj, struct kobj_attribute *attr,
			    const char *buf, size_t count)
{
	int err = -EINVAL;

	if (sysfs_streq(buf, "ksm"))
		err = mmg_advice_choose(false);
	else if (sysfs_streq(buf, "memmerge"))
		err = mmg_advice_choose(true);
	return err ? err : count;
}

static struct kobj_attribute engine_attr = __ATTR_RW(engine);

MMG_FILE_RW(pages_to_scan, 1, UINT_MAX);
MMG_FILE_RW(sleep_millisecs, 0, UINT_MAX);
MMG_FILE_RW(use_zero_pages, 0, 1);
MMG_FILE_RW(max_page_sharing, 2, INT_MAX);
MMG_FILE_RW(cpu_limit_percent, 0, 100 * MMG_MAX_SCANNERS);
MMG_FILE_RW(max_idle_millisecs, 0, UINT_MAX);

static ssize_t scanners_show(struct kobject *kobj, struct kobj_attribute *attr,
			     char *buf)
{
	return sysfs_emit(buf, "%d\n", mmg_scanner_count());
}

static ssize_t scanners_store(struct kobject *kobj, struct kobj_attribute *attr,
			      const char *buf, size_t count)
{
	unsigned int scanners;
	int err;

	if (kstrtouint(buf, 10, &scanners) || !scanners ||
	    scanners > MMG_MAX_SCANNERS)
		return -EINVAL;
	err = mmg_scanner_set_count(scanners);
	return err ? err : count;
}

static struct kobj_attribute scanners_attr = __ATTR_RW(scanners);

/* How long a lock was held at the longest; writing 0 begins anew. */
#define MMG_FILE_HOLD(_name, _lock)					\
static ssize_t _name##_show(struct kobject *kobj,			\
			    struct kobj_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%lld\n",				\
			  (s64)mmg_hold_longest(_lock));	\
}									\
static ssize_t _name##_store(struct kobject *kobj,			\
			     struct kobj_attribute *attr,		\
			     const char *buf, size_t count)		\
{									\
	unsigned int value;						\
									\
	if (kstrtouint(buf, 10, &value) || value)			\
		return -EINVAL;						\
	mmg_hold_forget(_lock);				\
	return count;							\
}									\
static struct kobj_attribute _name##_attr = __ATTR_RW(_name)

MMG_FILE_HOLD(domain_lock_max_ns, MMG_HOLD_DOMAIN);
MMG_FILE_HOLD(page_table_lock_max_ns, MMG_HOLD_TABLE);
MMG_FILE_RW(smart_scan, 0, 1);
MMG_FILE_RW(stable_node_chains_prune_millisecs, 0, UINT_MAX);
MMG_FILE_RW(advisor_max_cpu, 1, 100);
MMG_FILE_RW(advisor_min_pages_to_scan, 1, UINT_MAX);
MMG_FILE_RW(advisor_max_pages_to_scan, 1, UINT_MAX);
MMG_FILE_RW(advisor_target_scan_time, 1, UINT_MAX);

static ssize_t advisor_mode_show(struct kobject *kobj,
				 struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", READ_ONCE(mmg_tunables.advisor) ?
			  "none [scan-time]" : "[none] scan-time");
}

static ssize_t advisor_mode_store(struct kobject *kobj,
				  struct kobj_attribute *attr,
				  const char *buf, size_t count)
{
	bool advisor = sysfs_streq(buf, "scan-time");

	if (!advisor && !sysfs_streq(buf, "none"))
		return -EINVAL;
	mutex_lock(&mmg_run_lock);
	if (mmg_tunables.advisor != advisor) {
		WRITE_ONCE(mmg_tunables.advisor, advisor);
		WRITE_ONCE(mmg_tunables.pages_to_scan, advisor ?
			   mmg_tunables.advisor_min_pages_to_scan :
			   MMG_PAGES_TO_SCAN);
	}
	mutex_unlock(&mmg_run_lock);
	return count;
}

static struct kobj_attribute advisor_mode_attr = __ATTR_RW(advisor_mode);

MMG_FILE_RW(huge_split_pages, 0, MMG_CHUNK_PAGES);

/* Limits of the guard, of which -1 is none. */
#define MMG_FILE_LIMIT(_name, _type, _kstrto, _max)			\
static ssize_t _name##_show(struct kobject *kobj,			\
			    struct kobj_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%lld\n",				\
			  (s64)READ_ONCE(mmg_tunables._name));		\
}									\
static ssize_t _name##_store(struct kobject *kobj,			\
			     struct kobj_attribute *attr,		\
			     const char *buf, size_t count)		\
{									\
	_type value;							\
									\
	if (_kstrto(buf, 10, &value) || value < -1 || value > (_max))	\
		return -EINVAL;						\
	WRITE_ONCE(mmg_tunables._name, value);				\
	return count;							\
}									\
static struct kobj_attribute _name##_attr = __ATTR_RW(_name)

MMG_FILE_LIMIT(unshare_limit, s64, kstrtos64, S64_MAX);
MMG_FILE_LIMIT(unshare_limit_percent, int, kstrtoint, 10000);

/* What the domains hold at this moment, one value a file. */
enum mmg_sum {
	MMG_SUM_SHARED,
	MMG_SUM_SHARING,
	MMG_SUM_UNSHARED,
	MMG_SUM_VOLATILE,
	MMG_SUM_ZERO,
	MMG_SUM_COLD,
	MMG_SUM_CHAINS,
	MMG_SUM_DUPS,
	MMG_SUM_DOMAINS,
	MMG_SUM_REGIONS,
	MMG_SUM_METADATA,
};

static u64 mmg_sum_domain(struct mmg_domain *domain, enum mmg_sum what)
{
	struct mmg_region *region;
	u64 shared, sharing, contents, copies, sum = 0;

	switch (what) {
	case MMG_SUM_SHARED:
		mmg_shared_count(domain, &shared, &sharing);
		return shared;
	case MMG_SUM_SHARING:
		mmg_shared_count(domain, &shared, &sharing);
		return sharing;
	case MMG_SUM_CHAINS:
		mmg_shared_copies_count(domain, &contents, &copies);
		return contents;
	case MMG_SUM_DUPS:
		mmg_shared_copies_count(domain, &contents, &copies);
		return copies;
	case MMG_SUM_DOMAINS:
		return 1;
	case MMG_SUM_METADATA:
		return mmg_domain_metadata(domain);
	default:
		break;
	}
	list_for_each_entry(region, &domain->regions, list) {
		if (what == MMG_SUM_UNSHARED)
			sum += region->nr[MMG_INDEXED];
		else if (what == MMG_SUM_VOLATILE)
			sum += region->nr_changed;
		else if (what == MMG_SUM_ZERO)
			sum += region->nr[MMG_ZERO];
		else if (what == MMG_SUM_COLD)
			sum += region->nr_cold;
		else
			sum++;
	}
	return sum;
}

static u64 mmg_sum(enum mmg_sum what)
{
	struct mmg_domain *domain = NULL;
	u64 sum = 0;

	while ((domain = mmg_domain_next(domain))) {
		mmg_domain_lock(domain);
		if (!domain->ended)
			sum += mmg_sum_domain(domain, what);
		mmg_domain_unlock(domain);
	}
	return sum;
}

/* In bytes; all shared pages are counted. */
static u64 mmg_demand_now(void)
{
	mmg_sum(MMG_SUM_SHARING);
	return mmg_guard_host_demand() << PAGE_SHIFT;
}

#ifdef CONFIG_NUMA
static ssize_t merge_across_nodes_show(struct kobject *kobj,
				       struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n",
			  READ_ONCE(mmg_tunables.merge_across_nodes));
}

/*
 * The new value holds for every chunk whose scan begins behind this. What was
 * merged by the old one has all been counted then, and takes it back.
 */
static ssize_t merge_across_nodes_store(struct kobject *kobj,
					struct kobj_attribute *attr,
					const char *buf, size_t count)
{
	unsigned int before;
	int err;

	mutex_lock(&mmg_run_lock);
	before = mmg_tunables.merge_across_nodes;
	err = mmg_store(&mmg_tunables.merge_across_nodes, buf, 0, 1);
	if (!err && mmg_tunables.merge_across_nodes != before &&
	    mmg_sum(MMG_SUM_SHARED)) {
		WRITE_ONCE(mmg_tunables.merge_across_nodes, before);
		err = -EBUSY;
	}
	mutex_unlock(&mmg_run_lock);
	return err ? err : count;
}

static struct kobj_attribute merge_across_nodes_attr =
	__ATTR_RW(merge_across_nodes);
#endif

static struct mmg_totals mmg_totals_now(void)
{
	struct mmg_totals totals;

	mmg_totals_read(&totals);
	return totals;
}

/* As KSM reckons it, with what this engine needs to remember. */
static s64 mmg_profit(void)
{
	s64 pages = mmg_sum(MMG_SUM_SHARING) +
		    atomic_long_read(&ksm_zero_pages);

	return (pages << PAGE_SHIFT) - (s64)mmg_sum(MMG_SUM_METADATA);
}

MMG_FILE_RO(pages_shared, mmg_sum(MMG_SUM_SHARED));
MMG_FILE_RO(pages_sharing, mmg_sum(MMG_SUM_SHARING));
MMG_FILE_RO(pages_unswappable, 0);
MMG_FILE_RO(pages_unshared, mmg_sum(MMG_SUM_UNSHARED));
MMG_FILE_RO(pages_volatile, mmg_sum(MMG_SUM_VOLATILE));
MMG_FILE_RO(pages_mapped_zero, mmg_sum(MMG_SUM_ZERO));
MMG_FILE_RO(pages_protected, mmg_sum(MMG_SUM_COLD));
MMG_FILE_RO(pages_scanned, mmg_totals_now().scanned);
MMG_FILE_RO(pages_merged, mmg_totals_now().merged);
MMG_FILE_RO(pages_zeroed, mmg_totals_now().zeroed);
MMG_FILE_RO(pages_unread, mmg_totals_now().unread);
MMG_FILE_RO(pages_skipped, mmg_totals_now().waited);
MMG_FILE_RO(pages_ineligible, mmg_totals_now().skipped);
MMG_FILE_RO(pages_unshared_total, mmg_totals_now().unshared);
MMG_FILE_RO(huge_split, mmg_huge_split_count());
MMG_FILE_RO(full_scans, mmg_scanner_rounds());
MMG_FILE_RO(stable_node_chains, mmg_sum(MMG_SUM_CHAINS));
MMG_FILE_RO(stable_node_dups, mmg_sum(MMG_SUM_DUPS));
MMG_FILE_SIGNED(ksm_zero_pages, atomic_long_read(&ksm_zero_pages));
MMG_FILE_SIGNED(general_profit, mmg_profit());
MMG_FILE_RO(domains, mmg_sum(MMG_SUM_DOMAINS));
MMG_FILE_RO(regions, mmg_sum(MMG_SUM_REGIONS));
MMG_FILE_RO(pages_refused, mmg_totals_now().refused);
MMG_FILE_RO(unshare_demand, mmg_demand_now());
MMG_FILE_RO(unshare_supply, mmg_guard_supply() << PAGE_SHIFT);
MMG_FILE_RO(metadata_bytes, mmg_sum(MMG_SUM_METADATA));
MMG_FILE_RO(scan_cpu_ns, mmg_totals_now().cpu_ns);
MMG_FILE_RO(scanner_pid, mmg_scanner_pid());

static struct attribute *mmg_attrs[] = {
	&run_attr.attr,
	&engine_attr.attr,
	&pages_to_scan_attr.attr,
	&sleep_millisecs_attr.attr,
	&use_zero_pages_attr.attr,
	&max_page_sharing_attr.attr,
	&huge_split_pages_attr.attr,
	&scanners_attr.attr,
	&cpu_limit_percent_attr.attr,
	&max_idle_millisecs_attr.attr,
#ifdef CONFIG_NUMA
	&merge_across_nodes_attr.attr,
#endif
	&smart_scan_attr.attr,
	&stable_node_chains_prune_millisecs_attr.attr,
	&stable_node_chains_attr.attr,
	&stable_node_dups_attr.attr,
	&ksm_zero_pages_attr.attr,
	&general_profit_attr.attr,
	&advisor_mode_attr.attr,
	&advisor_max_cpu_attr.attr,
	&advisor_min_pages_to_scan_attr.attr,
	&advisor_max_pages_to_scan_attr.attr,
	&advisor_target_scan_time_attr.attr,
	&pages_shared_attr.attr,
	&pages_sharing_attr.attr,
	&pages_unswappable_attr.attr,
	&pages_unshared_attr.attr,
	&pages_volatile_attr.attr,
	&pages_mapped_zero_attr.attr,
	&pages_protected_attr.attr,
	&pages_scanned_attr.attr,
	&pages_merged_attr.attr,
	&pages_zeroed_attr.attr,
	&pages_unread_attr.attr,
	&pages_skipped_attr.attr,
	&pages_ineligible_attr.attr,
	&pages_unshared_total_attr.attr,
	&huge_split_attr.attr,
	&full_scans_attr.attr,
	&domains_attr.attr,
	&regions_attr.attr,
	&pages_refused_attr.attr,
	&unshare_demand_attr.attr,
	&unshare_supply_attr.attr,
	&unshare_limit_attr.attr,
	&unshare_limit_percent_attr.attr,
	&metadata_bytes_attr.attr,
	&scan_cpu_ns_attr.attr,
	&scanner_pid_attr.attr,
	&domain_lock_max_ns_attr.attr,
	&page_table_lock_max_ns_attr.attr,
	NULL,
};

static const struct attribute_group mmg_attr_group = {
	.name = "memmerge",
	.attrs = mmg_attrs,
};

/**
 * mmg_sysfs_create - make the files
 *
 * Return: 0 or a negative errno.
 */
int mmg_sysfs_create(void)
{
	return sysfs_create_group(mm_kobj, &mmg_attr_group);
}

/**
 * mmg_sysfs_remove - remove the files
 */
void mmg_sysfs_remove(void)
{
	sysfs_remove_group(mm_kobj, &mmg_attr_group);
}
