/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * memmerge - tracepoints, see kernel/Documentation/abi.md
 *
 * A page is named by the numbers of its domain and region and its address; the
 * process is beside it for people, as far as the kernel knows whose the
 * address space is.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM memmerge

#if !defined(_MEMMERGE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _MEMMERGE_TRACE_H

#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/tracepoint.h>

#include "internal.h"

#ifndef _MEMMERGE_TRACE_PID
#define _MEMMERGE_TRACE_PID
/* The process that an address space belongs to, 0 if that is not known. */
static inline pid_t mmg_trace_pid(struct mm_struct *mm)
{
	pid_t pid = 0;
#ifdef CONFIG_MEMCG
	struct task_struct *task;

	rcu_read_lock();
	task = rcu_dereference(mm->owner);
	if (task)
		pid = task->tgid;
	rcu_read_unlock();
#endif
	return pid;
}
#endif

TRACE_DEFINE_ENUM(MMG_SKIP_ABSENT);
TRACE_DEFINE_ENUM(MMG_SKIP_FILE);
TRACE_DEFINE_ENUM(MMG_SKIP_HUGETLB);
TRACE_DEFINE_ENUM(MMG_SKIP_SPECIAL);
TRACE_DEFINE_ENUM(MMG_SKIP_LOCKED);
TRACE_DEFINE_ENUM(MMG_SKIP_GUARDED);
TRACE_DEFINE_ENUM(MMG_SKIP_HUGE);
TRACE_DEFINE_ENUM(MMG_SKIP_FOREIGN);
TRACE_DEFINE_ENUM(MMG_SKIP_BUSY);
TRACE_DEFINE_ENUM(MMG_SKIP_NOMEM);
TRACE_DEFINE_ENUM(MMG_SKIP_SWAPPED);
TRACE_DEFINE_ENUM(MMG_SKIP_CROWDED);
TRACE_DEFINE_ENUM(MMG_SKIP_GUARD);

#define MMG_SKIP_NAMES				\
	{ MMG_SKIP_ABSENT,	"absent" },	\
	{ MMG_SKIP_FILE,	"file" },	\
	{ MMG_SKIP_HUGETLB,	"hugetlb" },	\
	{ MMG_SKIP_SPECIAL,	"special" },	\
	{ MMG_SKIP_LOCKED,	"locked" },	\
	{ MMG_SKIP_GUARDED,	"guarded" },	\
	{ MMG_SKIP_HUGE,	"huge" },	\
	{ MMG_SKIP_FOREIGN,	"foreign" },	\
	{ MMG_SKIP_BUSY,	"busy" },	\
	{ MMG_SKIP_NOMEM,	"nomem" },	\
	{ MMG_SKIP_SWAPPED,	"swapped" },	\
	{ MMG_SKIP_CROWDED,	"crowded" },	\
	{ MMG_SKIP_GUARD,	"guard" }

TRACE_EVENT(memmerge_merge,
	TP_PROTO(struct mmg_region *region, unsigned long addr,
		 struct page *page, bool zero),

	TP_ARGS(region, addr, page, zero),

	TP_STRUCT__entry(
		__field(unsigned int,	domain)
		__field(u64,		region)
		__field(pid_t,		pid)
		__field(unsigned long,	addr)
		__field(unsigned long,	pfn)
		__field(bool,		zero)
		__field(int,		mappings)
	),

	TP_fast_assign(
		__entry->domain = region->domain->id;
		__entry->region = region->id;
		__entry->pid = mmg_trace_pid(region->mm);
		__entry->addr = addr;
		__entry->pfn = page_to_pfn(page);
		__entry->zero = zero;
		__entry->mappings = zero ? 0 : folio_mapcount(page_folio(page));
	),

	TP_printk("domain=%u region=%llu pid=%d addr=0x%lx pfn=0x%lx zero=%d mappings=%d",
		  __entry->domain, __entry->region, __entry->pid,
		  __entry->addr, __entry->pfn, __entry->zero,
		  __entry->mappings)
);

TRACE_EVENT(memmerge_unshare,
	TP_PROTO(struct mmg_region *region, unsigned long addr),

	TP_ARGS(region, addr),

	TP_STRUCT__entry(
		__field(unsigned int,	domain)
		__field(u64,		region)
		__field(pid_t,		pid)
		__field(unsigned long,	addr)
	),

	TP_fast_assign(
		__entry->domain = region->domain->id;
		__entry->region = region->id;
		__entry->pid = mmg_trace_pid(region->mm);
		__entry->addr = addr;
	),

	TP_printk("domain=%u region=%llu pid=%d addr=0x%lx",
		  __entry->domain, __entry->region, __entry->pid,
		  __entry->addr)
);

TRACE_EVENT(memmerge_skip,
	TP_PROTO(struct mmg_region *region, unsigned long addr,
		 unsigned int reason),

	TP_ARGS(region, addr, reason),

	TP_STRUCT__entry(
		__field(unsigned int,	domain)
		__field(u64,		region)
		__field(pid_t,		pid)
		__field(unsigned long,	addr)
		__field(unsigned int,	reason)
	),

	TP_fast_assign(
		__entry->domain = region->domain->id;
		__entry->region = region->id;
		__entry->pid = mmg_trace_pid(region->mm);
		__entry->addr = addr;
		__entry->reason = reason;
	),

	TP_printk("domain=%u region=%llu pid=%d addr=0x%lx reason=%s",
		  __entry->domain, __entry->region, __entry->pid,
		  __entry->addr,
		  __print_symbolic(__entry->reason, MMG_SKIP_NAMES))
);

TRACE_EVENT(memmerge_pass,
	TP_PROTO(struct mmg_region *region, const struct mmg_pass *pass),

	TP_ARGS(region, pass),

	TP_STRUCT__entry(
		__field(unsigned int,	domain)
		__field(u64,		region)
		__field(pid_t,		pid)
		__field(u64,		scanned)
		__field(u64,		merged)
		__field(u64,		zeroed)
		__field(u64,		skipped)
		__field(u64,		cpu_ns)
	),

	TP_fast_assign(
		unsigned int i;

		__entry->domain = region->domain->id;
		__entry->region = region->id;
		__entry->pid = mmg_trace_pid(region->mm);
		__entry->scanned = pass->scanned;
		__entry->merged = pass->merged;
		__entry->zeroed = pass->zeroed;
		__entry->skipped = 0;
		for (i = 0; i < MMG_NR_SKIPS; i++)
			__entry->skipped += pass->skip[i];
		__entry->cpu_ns = pass->cpu_ns;
	),

	TP_printk("domain=%u region=%llu pid=%d scanned=%llu merged=%llu zeroed=%llu skipped=%llu cpu_ns=%llu",
		  __entry->domain, __entry->region, __entry->pid,
		  __entry->scanned, __entry->merged, __entry->zeroed,
		  __entry->skipped, __entry->cpu_ns)
);

#endif /* _MEMMERGE_TRACE_H */

/* This part must be outside protection. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
