/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * memmerge - merge identical anonymous pages: user-space interface
 *
 * Each open file of /dev/memmerge is a domain: pages merge only inside a
 * domain. Closing the file closes the domain; pages that are merged by then
 * stay shared until they are written or unmapped.
 *
 * Every argument begins with its own size, so that the interface can grow:
 * a program passes sizeof(struct) as it knows it. Smaller than the first
 * version is EINVAL; larger than the kernel's is E2BIG unless the excess is
 * zero. Unknown flags are EINVAL. The layout is the same for 32-bit callers.
 */
#ifndef _UAPI_LINUX_MEMMERGE_H
#define _UAPI_LINUX_MEMMERGE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MEMMERGE_DEVICE		"/dev/memmerge"
#define MEMMERGE_PIDFD_SELF	(-1)

/**
 * struct memmerge_region - MEMMERGE_ADD_REGION, MEMMERGE_REMOVE_REGION
 * @size: sizeof(struct memmerge_region)
 * @flags: add: none, 0; remove: MEMMERGE_REMOVE_UNMERGE or 0
 * @pidfd: add: process that owns the memory, or MEMMERGE_PIDFD_SELF;
 *	remove: ignored
 * @reserved: must be 0
 * @start: add: first byte, a multiple of the page size
 * @length: add: bytes, a multiple of the page size, not 0
 * @id: add: out, the region's number, from 1; remove: in
 */
struct memmerge_region {
	__u32 size;
	__u32 flags;
	__s32 pidfd;
	__u32 reserved;
	__u64 start;
	__u64 length;
	__u64 id;
};

/* MEMMERGE_REMOVE_REGION: also give every merged page back its own copy */
#define MEMMERGE_REMOVE_UNMERGE	(1U << 0)

/**
 * struct memmerge_scan - MEMMERGE_SCAN and MEMMERGE_UNMERGE
 * @size: sizeof(struct memmerge_scan)
 * @flags: must be 0
 * @id: region, or 0 for every region of the domain
 * @start: first byte inside region @id; 0 with @length 0 is all of it
 * @length: bytes, page multiples
 * @scanned: out, pages looked at (unmerge: pages looked at)
 * @merged: out, pages that now map a merged page (unmerge: pages given back)
 * @zeroed: out, pages that now map the kernel's zero page
 * @skipped: out, pages not eligible; MEMMERGE_STAT tells why
 *
 * The out fields are also written when the call fails half-way.
 */
struct memmerge_scan {
	__u32 size;
	__u32 flags;
	__u64 id;
	__u64 start;
	__u64 length;
	__u64 scanned;
	__u64 merged;
	__u64 zeroed;
	__u64 skipped;
};

/**
 * struct memmerge_stat - MEMMERGE_STAT
 * @size: sizeof(struct memmerge_stat)
 * @flags: must be 0
 * @id: region, or 0 for the whole domain
 * @regions: regions registered
 * @pages_registered: pages in those regions, present or not
 * @pages_shared: domain only: merged pages in use, exact at this moment
 * @pages_sharing: domain only: further mappings of them, which is the number
 *	of pages saved, exact at this moment (forked children count too)
 * @pages_unswappable: domain only: pages that reclaim cannot take because
 *	they are merged; always 0
 * @pages_mapped_shared: pages that mapped a merged page when last scanned
 * @pages_mapped_zero: pages that mapped the zero page when last scanned
 * @pages_unshared: pages in the index that found no equal
 * @pages_volatile: pages whose content changed between the last two passes,
 *	and pages left alone for a while because their sharing did not last
 * @passes: complete passes over the domain (region: over the region)
 * @scanned: since the domain was opened: pages looked at
 * @merged: since then: pages made to map a merged page
 * @zeroed: since then: pages made to map the zero page
 * @unshared: since then: merged pages found to have been written
 * @skip_absent: last pass: no page there
 * @skip_file: last pass: not anonymous memory (shared or file mapping)
 * @skip_hugetlb: last pass: hugetlb mapping
 * @skip_special: last pass: device or other special mapping
 * @skip_locked: last pass: mlock()ed
 * @skip_guarded: last pass: userfaultfd write protection or soft-dirty
 * @skip_huge: last pass: part of a transparent huge page
 * @skip_foreign: last pass: merged by another engine (KSM)
 * @skip_busy: last pass: pinned, under I/O, locked, or written while merging;
 *	or written while a forked child still maps the merged page
 * @skip_nomem: last pass: no memory for the merge
 * @unshare_demand: domain only: bytes it would take to unshare everything:
 *	further mappings of merged pages, exact at this moment, and pages that
 *	mapped the zero page when last scanned
 * @metadata_bytes: bytes of the engine's own memory
 * @cpu_ns: nanoseconds of CPU spent scanning
 * @skip_swapped: last pass: swapped out
 * @skip_crowded: last pass: the pages of its page table come from too many
 *	processes by fork(), or places by mremap()
 * @skip_guard: last pass: merging would have made the demand larger than a
 *	limit, the domain's or the host's
 * @unshare_limit: domain only: limit of @unshare_demand in bytes, or
 *	MEMMERGE_NO_LIMIT
 *
 * Skip counters say why a page of the region is not merged.
 */
struct memmerge_stat {
	__u32 size;
	__u32 flags;
	__u64 id;
	__u64 regions;
	__u64 pages_registered;
	__u64 pages_shared;
	__u64 pages_sharing;
	__u64 pages_unswappable;
	__u64 pages_mapped_shared;
	__u64 pages_mapped_zero;
	__u64 pages_unshared;
	__u64 pages_volatile;
	__u64 passes;
	__u64 scanned;
	__u64 merged;
	__u64 zeroed;
	__u64 unshared;
	__u64 skip_absent;
	__u64 skip_file;
	__u64 skip_hugetlb;
	__u64 skip_special;
	__u64 skip_locked;
	__u64 skip_guarded;
	__u64 skip_huge;
	__u64 skip_foreign;
	__u64 skip_busy;
	__u64 skip_nomem;
	__u64 unshare_demand;
	__u64 metadata_bytes;
	__u64 cpu_ns;
	__u64 skip_swapped;
	__u64 skip_crowded;
	__u64 skip_guard;
	__u64 unshare_limit;
};

/* The first version ended with @cpu_ns. */
#define MEMMERGE_STAT_SIZE_VER0	232

/**
 * struct memmerge_limit - MEMMERGE_LIMIT
 * @size: sizeof(struct memmerge_limit)
 * @flags: must be 0
 * @unshare_bytes: limit of the domain's demand, see @unshare_demand of
 *	MEMMERGE_STAT; MEMMERGE_NO_LIMIT, which a domain begins with, for none
 * @reserved: must be 0
 *
 * A page whose merging would make the demand larger is not merged. What is
 * merged already stays so, also when the new limit is smaller than that.
 */
struct memmerge_limit {
	__u32 size;
	__u32 flags;
	__u64 unshare_bytes;
	__u64 reserved[2];
};

#define MEMMERGE_NO_LIMIT	(~0ULL)

#define MEMMERGE_IOC_MAGIC	0xBE
/* The number does not encode a size: the argument's first member does. */
#define MEMMERGE_ADD_REGION	_IO(MEMMERGE_IOC_MAGIC, 0x00)
#define MEMMERGE_REMOVE_REGION	_IO(MEMMERGE_IOC_MAGIC, 0x01)
#define MEMMERGE_SCAN		_IO(MEMMERGE_IOC_MAGIC, 0x02)
#define MEMMERGE_UNMERGE	_IO(MEMMERGE_IOC_MAGIC, 0x03)
#define MEMMERGE_STAT		_IO(MEMMERGE_IOC_MAGIC, 0x04)
#define MEMMERGE_LIMIT		_IO(MEMMERGE_IOC_MAGIC, 0x05)

#endif /* _UAPI_LINUX_MEMMERGE_H */
