/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * memmerge - merge identical anonymous pages
 *
 * A domain owns regions, ranges of some process's address space. A region is
 * cut into chunks, one for each page table; a chunk has one entry per page,
 * which remembers the hash of the page's content, and a mark with what else is
 * known of it. Two pages of equal content are made to map one shared page. The
 * index of the domain finds entries and shared pages by hash. The entries of a
 * shared page's mappings are on its chain: that is its reverse map.
 *
 *	device, sysfs, scanner, advisor	interface: who asks
 *	domain, advice, region, scan	policy: which pages, and what about them
 *	merge, run, shared, rmap, index,	mechanism: page tables, pages,
 *	numbers				reverse map, hash table
 *
 * Lock order: mmg_run_lock, then mmg_at_work, then domain->busy, then
 * domain->lock, then either mmg_domains_lock, or mmap_lock of one mm (for read;
 * that of a second one by trylock), then folio locks (all but the first one by
 * trylock), then either the lock of an anon_vma or the page table lock. Everything of a domain
 * is protected by its lock unless stated.
 *
 * A scan looks at pages and reads them without domain->lock, but with
 * domain->busy held for read. So regions, and chunks that have one, stay; an
 * entry may be changed meanwhile, and is then left to the next scan.
 *
 * mm calls the engine with a folio locked and nothing else of the engine's, to
 * walk a chain, so a chain is changed under both domain->lock and the lock of
 * its folio. Nobody waits for domain->lock who holds a folio lock.
 *
 * An exit needs no lock of ours: page tables are only looked at with a user's
 * reference to the mm (mmget_not_zero()), so exit_mmap() comes either before
 * that or after it. What remains of an exited process is on chains, and a
 * chain may name places that nothing maps any more.
 */
#ifndef _MEMMERGE_INTERNAL_H
#define _MEMMERGE_INTERNAL_H

#include <linux/kref.h>
#include <linux/ksm.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched/clock.h>
#include <linux/rwsem.h>
#include <linux/xarray.h>

#include "compat.h"

#define MMG_CHUNK_SHIFT		(PMD_SHIFT - PAGE_SHIFT)
#define MMG_CHUNK_PAGES		(1U << MMG_CHUNK_SHIFT)
/* An entry's id is its chunk's id and its place in it, and has 31 bits. */
#define MMG_MAX_PAGES		(1UL << 31)
#define MMG_MAX_CHUNKS		(MMG_MAX_PAGES >> MMG_CHUNK_SHIFT)
#define MMG_NIL			U32_MAX
/*
 * Bits of a hash. Of two different contents of one hash the second is compared
 * with the first in each pass, and that is all.
 */
#define MMG_HASH_BITS		40

/**
 * enum mmg_state - what the engine knows of a page
 * @MMG_NONE: nothing: not there, not eligible, or not seen yet
 * @MMG_SEEN: its hash is known, but the page is not in the index
 * @MMG_INDEXED: the index finds it by its hash; waits for an equal
 * @MMG_SHARED: on the chain of a shared page, which it mapped when last looked
 *	at
 * @MMG_KEPT: on the chain of a shared page, which it was not seen to map when
 *	last looked at; but a forked or moved mapping needs the place, or the
 *	mapping may come back from the swap cache
 * @MMG_MAPPED: mapped a shared page of this domain when last looked at, and is
 *	on no chain: inherited by fork(), moved there, or the page is gone since
 * @MMG_ZERO: mapped the zero page, put there by merging
 * @MMG_NR_STATES: their number
 */
enum mmg_state {
	MMG_NONE,
	MMG_SEEN,
	MMG_INDEXED,
	MMG_SHARED,
	MMG_KEPT,
	MMG_MAPPED,
	MMG_ZERO,
	MMG_NR_STATES
};

/**
 * enum mmg_skip - why a page is not merged
 * @MMG_SKIP_ABSENT: never touched
 * @MMG_SKIP_FILE: not anonymous
 * @MMG_SKIP_HUGETLB: hugetlb mapping
 * @MMG_SKIP_SPECIAL: device or other special mapping, or a poisoned page
 * @MMG_SKIP_LOCKED: mlock()ed
 * @MMG_SKIP_GUARDED: watched by userfaultfd
 * @MMG_SKIP_HUGE: in a huge page that could not be split
 * @MMG_SKIP_FOREIGN: merged by KSM or in another domain
 * @MMG_SKIP_BUSY: pinned, under I/O, locked, moving, or written meanwhile; or
 *	written while a forked or moved mapping still needs its place
 * @MMG_SKIP_NOMEM: no memory to describe the shared page
 * @MMG_SKIP_SWAPPED: swapped out
 * @MMG_SKIP_CROWDED: the page table has merged pages of MMG_CHUNK_PLACES other
 *	origins
 * @MMG_SKIP_GUARD: the demand would exceed a limit, see guard.c
 * @MMG_NR_SKIPS: their number
 */
enum mmg_skip {
	MMG_SKIP_ABSENT,
	MMG_SKIP_FILE,
	MMG_SKIP_HUGETLB,
	MMG_SKIP_SPECIAL,
	MMG_SKIP_LOCKED,
	MMG_SKIP_GUARDED,
	MMG_SKIP_HUGE,
	MMG_SKIP_FOREIGN,
	MMG_SKIP_BUSY,
	MMG_SKIP_NOMEM,
	MMG_SKIP_SWAPPED,
	MMG_SKIP_CROWDED,
	MMG_SKIP_GUARD,
	MMG_NR_SKIPS
};

/**
 * struct mmg_entry - one page of a region: its content, or where it is shared
 * @hash: of the page's content when last read
 * @tag: which page it was that is cold
 * @wait: passes of the scanner for which the page is left alone
 * @warm: MMG_INDEXED: passes for which the page is not write-protected; of a
 *	cold one those that it has been, at most MMG_LASTED
 * @shared: on a chain: id of the shared page
 * @prev: on a chain: id of the entry before this one, or MMG_NIL
 *
 * An entry is either in the index, or on a chain, or neither. One that comes
 * into the index, or leaves it, begins with @warm or @wait of 0.
 */
struct mmg_entry {
	union {
		struct {
			u64 hash : MMG_HASH_BITS;
			u64 tag : 16;
			union {
				u8 wait;
				u8 warm;
			};
		};
		struct {
			u32 shared;
			u32 prev;
		};
	};
};

static_assert(sizeof(struct mmg_entry) == 8);

/**
 * struct mmg_mark - one page of a region: what is known of it beside that
 * @state: enum mmg_state
 * @place: on a chain: which of the chunk's places the mapping was made in
 * @heats: how often the page did not stay cold, at most MMG_MAX_HEATS
 * @breaks: how often sharing of it did not last, at most MMG_MAX_BREAKS
 * @calm: MMG_INDEXED: reads that found the content as it was, at most MMG_CALM
 * @changed: the content differed between the last two reads
 * @wanted: in a huge page, and would merge if that was split, see huge.c
 * @cold: MMG_INDEXED: was write-protected before it was last read, see scan.c
 */
struct mmg_mark {
	u16 state : 3;
	u16 place : 2;
	u16 heats : 3;
	u16 breaks : 3;
	u16 calm : 2;
	u16 changed : 1;
	u16 wanted : 1;
	u16 cold : 1;
};

static_assert(sizeof(struct mmg_mark) == 2);

/**
 * struct mmg_place - where mappings of the pages of a chunk are found
 * @anon_vma: in whose vmas, with a reference while there are users
 * @shift: page offset in them, less page number of the address
 * @users: entries on chains that name this place
 */
struct mmg_place {
	struct anon_vma *anon_vma;
	unsigned long shift;
	unsigned int users;
};

/*
 * One, but for forks, moves and several vmas in the range of a page table.
 * More would not fit into an entry.
 */
#define MMG_CHUNK_PLACES	4

/**
 * struct mmg_chunk - the entries of the pages of one page table
 * @region: that it belongs to; NULL when the region has been forgotten and the
 *	chunk is only there because some of its entries are on chains
 * @start: address of the first entry's page, PMD aligned
 * @id: number of the chunk in its domain
 * @chained: entries on chains
 * @huge: it was a huge page when last looked at
 * @wanted: entries that would merge if it was split
 * @scanned: a scan is at work on it; no two are
 * @waiting: scans that wait until it is not
 * @places: that its entries on chains name
 * @entries: MMG_CHUNK_PAGES of them: a page of their own, as slabs would not
 *	be filled by all that is known of a page table in one piece
 * @marks: of each page
 * @next: of each entry: id of the one behind it on its chain, or of what is
 *	behind it in its bucket of the index, or MMG_NIL
 */
struct mmg_chunk {
	struct mmg_region *region;
	unsigned long start;
	u32 id;
	u16 chained;
	u16 wanted;
	bool huge;
	bool scanned;
	unsigned int waiting;
	struct mmg_place places[MMG_CHUNK_PLACES];
	struct mmg_entry *entries;
	struct mmg_mark marks[MMG_CHUNK_PAGES];
	u32 next[MMG_CHUNK_PAGES];
};

#define MMG_CHUNK_BYTES		(sizeof(struct mmg_chunk) + \
				 MMG_CHUNK_PAGES * sizeof(struct mmg_entry))

static inline unsigned long mmg_slot_addr(const struct mmg_chunk *chunk,
					  unsigned int slot)
{
	return chunk->start + ((unsigned long)slot << PAGE_SHIFT);
}

static inline u32 mmg_entry_id(const struct mmg_chunk *chunk,
			       unsigned int slot)
{
	return (chunk->id << MMG_CHUNK_SHIFT) + slot;
}

static inline unsigned int mmg_id_slot(u32 id)
{
	return id & (MMG_CHUNK_PAGES - 1);
}

static inline bool mmg_chained(const struct mmg_chunk *chunk, unsigned int slot)
{
	enum mmg_state state = chunk->marks[slot].state;

	return state == MMG_SHARED || state == MMG_KEPT;
}

#define MMG_TABLE_BITS		6
#define MMG_TABLE_THINGS	(1U << MMG_TABLE_BITS)

/**
 * struct mmg_table - a part of what finds things by their numbers
 * @things: thing; or, where there is none, the next number without one, as
 *	xa_mk_value()
 */
struct mmg_table {
	void *things[MMG_TABLE_THINGS];
};

/**
 * struct mmg_numbers - finds things by their numbers
 * @tables: of things; who does not have the lock of the domain goes through this
 *	under RCU
 * @nr_tables: how many there are
 * @room: and may be before @tables has to be larger
 * @free: a number for a thing that comes, or @max for none
 * @max: numbers are less than that
 * @count: how many things there are
 */
struct mmg_numbers {
	struct mmg_table * __rcu *tables;
	unsigned long nr_tables;
	unsigned long room;
	unsigned long free;
	unsigned long max;
	unsigned long count;
};

/* Where the thing of a number is, or might be. */
static inline void **mmg_numbers_place(const struct mmg_numbers *numbers,
				       u32 nr)
{
	return &rcu_dereference_raw(numbers->tables)[nr >> MMG_TABLE_BITS]->
		things[nr & (MMG_TABLE_THINGS - 1)];
}

/* All numbers are less than that. */
static inline unsigned long mmg_numbers_end(const struct mmg_numbers *numbers)
{
	return numbers->nr_tables << MMG_TABLE_BITS;
}

/**
 * mmg_numbers_get - find a thing by its number
 * @numbers: to look in
 * @nr: to look for
 *
 * Context: under the lock of the domain.
 *
 * Return: the thing, or NULL if none has that number.
 */
static inline void *mmg_numbers_get(const struct mmg_numbers *numbers,
				    unsigned long nr)
{
	void *thing;

	if (nr >= mmg_numbers_end(numbers))
		return NULL;
	thing = *mmg_numbers_place(numbers, nr);
	return xa_is_value(thing) ? NULL : thing;
}

/* An id with this bit is not an entry's, but the number of a shared page. */
#define MMG_ID_SHARED		(1U << 31)
/* So that none of these ids is MMG_NIL. */
#define MMG_MAX_SHARED		(MMG_MAX_PAGES - MMG_TABLE_THINGS)

/**
 * struct mmg_index - finds entries and shared pages by hash
 * @segments: of buckets, a page each: an id of what is first, or MMG_NIL
 * @room: how many segments there may be before @segments has to be larger
 * @buckets: their number
 * @bits: log2 of it, rounded up
 * @count: what is on the chains of all buckets
 * @moves: how often something left a chain, or made place there for a shared
 *	page, or chains were split or joined
 * @losses: how often what names something on a chain may have been freed
 * @chunks: by the part of the ids of their entries that tells them
 * @shared: shared pages, of which each has a number
 */
struct mmg_index {
	u32 **segments;
	unsigned long room;
	unsigned long buckets;
	unsigned int bits;
	unsigned long count;
	u32 moves;
	u32 losses;
	struct mmg_numbers chunks;
	struct mmg_numbers shared;
};

/* So many hashes can be looked for at a time. */
#define MMG_INDEX_FETCH		64U

/**
 * struct mmg_look - where in the index a hash is, or would be
 * @hash: to look for
 * @link: place on a chain behind which it is, if not there
 * @moves: of the index, for which that holds
 * @losses: of the index, for which @link can be read
 */
struct mmg_look {
	u64 hash;
	u32 *link;
	u32 moves;
	u32 losses;
};

/**
 * mmg_index_chunk - find the chunk of an entry
 * @index: of the domain
 * @id: of the entry, which is in mmg_id_slot() of the chunk
 *
 * Context: under the lock of the domain, or for an entry on a chain under that
 * of its folio and rcu_read_lock().
 *
 * Return: the chunk, which must have been added.
 */
static inline struct mmg_chunk *mmg_index_chunk(const struct mmg_index *index,
						u32 id)
{
	return *mmg_numbers_place(&index->chunks, id >> MMG_CHUNK_SHIFT);
}

/**
 * struct mmg_shared - describes a shared page
 * @owner: marks the page as ours, see folio_merge_owner()
 * @folio: the page, to which the engine holds no reference: it is ours as long
 *	as it points back to @owner; changed by mm under the folio lock
 * @hash: of its content, with the domain's key; may be wrong until somebody
 *	meets it by that, see mmg_merge_shared()
 * @domain: that it belongs to
 * @id: number of the shared page in its domain
 * @next: in the index: id of what is behind it in its bucket, or MMG_NIL
 * @older: in the index: number of the next one with the same hash, or MMG_NIL
 * @newer: number of the one for which this is @older; MMG_NIL: on the chain of
 *	the bucket is this one
 * @first: id of the first entry on the chain, or MMG_NIL
 * @count: entries on the chain
 * @copies: being unmerged: swap-in makes copies
 * @moved: migrated to another node, whose pages have other hashes if
 *	merge_across_nodes is 0
 */
struct mmg_shared {
	struct merge_owner owner;
	struct folio *folio;
	u64 hash;
	struct mmg_domain *domain;
	u32 id;
	u32 next;
	u32 older;
	u32 newer;
	u32 first;
	u32 count;
	bool copies;
	bool moved;
};

static_assert(sizeof(struct mmg_shared) == 64);

/**
 * struct mmg_pass - what one scan did
 * @scanned: pages looked at
 * @merged: pages made to map a shared page
 * @zeroed: pages made to map the zero page
 * @unread: pages that were known to be as they were without reading them
 * @news: pages that were new or had changed, or are being left alone
 * @cpu_ns: CPU time that it took
 * @waited: pages left alone because their sharing did not last
 * @skip: pages not eligible, by reason
 */
struct mmg_pass {
	u64 scanned;
	u64 merged;
	u64 zeroed;
	u64 unread;
	u64 news;
	u64 cpu_ns;
	u64 waited;
	u64 skip[MMG_NR_SKIPS];
};

/**
 * struct mmg_totals - counters that only grow
 * @scanned: pages looked at
 * @merged: pages made to map a shared page
 * @zeroed: pages made to map the zero page
 * @unread: pages that were not read, as they were known to be unchanged
 * @waited: pages left alone because their sharing did not last
 * @skipped: pages not eligible
 * @refused: of those, pages that the guard did not let be merged
 * @unshared: shared pages found to have been written
 * @cpu_ns: CPU time of scanning
 */
struct mmg_totals {
	u64 scanned;
	u64 merged;
	u64 zeroed;
	u64 unread;
	u64 waited;
	u64 skipped;
	u64 refused;
	u64 unshared;
	u64 cpu_ns;
};

/**
 * struct mmg_region - a registered range of an address space
 * @list: in @domain->regions
 * @domain: that it belongs to
 * @mm: address space, held by mmgrab()
 * @start: first byte
 * @end: behind the last byte
 * @id: number of the region in its domain
 * @chunks: chunk by address >> PMD_SHIFT, where there was something
 * @nr_chunks: how many there are
 * @nr: their entries in each state
 * @nr_changed: pages whose content changed between the last two reads, or
 *	that are left alone for a while
 * @nr_cold: pages that are write-protected so as not to be read again
 * @passes: complete passes
 * @last: what the last complete pass did
 * @round: of the scanner, in which the region was last completed
 * @cursor: where the scanners go on, an address
 * @pending: pieces before it that scanners have not finished yet
 * @running: what the scanners' present pass did so far
 * @totals: since the region was added
 */
struct mmg_region {
	struct list_head list;
	struct mmg_domain *domain;
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
	u64 id;
	struct xarray chunks;
	unsigned long nr_chunks;
	unsigned long nr[MMG_NR_STATES];
	unsigned long nr_changed;
	unsigned long nr_cold;
	u64 passes;
	struct mmg_pass last;
	unsigned long round;
	unsigned long cursor;
	unsigned int pending;
	struct mmg_pass running;
	struct mmg_totals totals;
};

/**
 * enum mmg_saw - what a scan saw at an address, beside every enum mmg_skip
 * @MMG_SAW_PAGE: a page that may be merged
 * @MMG_SAW_SHARED: a shared page of the domain
 * @MMG_SAW_ZERO: the zero page, put there by merging
 * @MMG_SAW_COLD: a page that may be merged, and was not written since it was
 *	read
 * @MMG_SAW_EQUAL: a page that was not read, as one before it is its equal
 */
enum mmg_saw {
	MMG_SAW_PAGE = MMG_NR_SKIPS,
	MMG_SAW_SHARED,
	MMG_SAW_ZERO,
	MMG_SAW_COLD,
	MMG_SAW_EQUAL,
};

/**
 * struct mmg_batch - pages of one chunk on their way through a scan
 * @state: of the entry, enum mmg_state, when the scan began
 * @saw: what is there: enum mmg_skip or enum mmg_saw
 * @pages: MMG_SAW_PAGE: the page, with a reference until it has been read, or
 *	was in a run
 * @hash: MMG_SAW_PAGE: of its content, 0 if @zero; MMG_SAW_SHARED: number of
 *	the shared page
 * @zero: MMG_SAW_PAGE: it is all zero and shall map the zero page
 * @written: MMG_SAW_PAGE: its entry is cold, but it was written
 * @protect: pages to be write-protected before they are read, or NULL
 * @protected: MMG_SAW_PAGE: it was write-protected before it was read
 * @look: MMG_SAW_PAGE: where the index has its hash, or NULL
 * @looks: of some of them
 * @run: work space for runs, see run.c
 * @most: how many pages the next run may have
 * @ahead: how many pages to read before the first of them is decided about
 */
struct mmg_batch {
	u8 state[MMG_CHUNK_PAGES];
	u8 saw[MMG_CHUNK_PAGES];
	struct page *pages[MMG_CHUNK_PAGES];
	u64 hash[MMG_CHUNK_PAGES];
	bool zero[MMG_CHUNK_PAGES];
	bool written[MMG_CHUNK_PAGES];
	struct page *protect[MMG_CHUNK_PAGES];
	bool protected[MMG_CHUNK_PAGES];
	const struct mmg_look *look[MMG_CHUNK_PAGES];
	struct mmg_look looks[MMG_INDEX_FETCH];
	struct mmg_run *run;
	unsigned int most;
	unsigned int ahead;
};

/**
 * struct mmg_guard - what a domain may merge
 * @limit: of the domain's demand, in bytes; U64_MAX: none
 * @host_limit: of the host's demand when a scan last asked, in pages
 * @sharing: mappings of shared pages beside one of each, when last counted,
 *	and what was merged since; in pages
 * @scanned: pages scanned since they were counted
 * @recount: count again when a limit is reached, however few these are
 * @age: calls of mmg_guard_tidy() since it last counted
 */
struct mmg_guard {
	u64 limit;
	u64 host_limit;
	u64 sharing;
	u64 scanned;
	bool recount;
	unsigned long age;
};

/**
 * struct mmg_domain - pages merge only inside a domain
 * @ref: the open file, and whoever works on the domain
 * @node: in mmg_domains
 * @id: number of the domain since the module was loaded, in traces
 * @busy: held for read while a chunk is scanned, for write to free chunks (but
 *	one that its scan has found empty) and regions, and to unmerge
 * @lock: see the lock order above; taken by mmg_domain_lock()
 * @locked: when that was, see hold.c
 * @advised: of memory that was offered by advice, without a file; its regions
 *	span the address spaces of processes, see advice.c
 * @idle: an advised domain that is not in charge yet, or not any more
 * @closed: the file is gone; lives on while there is a shared page
 * @ended: and now there is none; nothing is left but references to it
 * @key: of the hash
 * @index: of pages that wait for an equal, and of shared pages
 * @pruned: when an open domain was last tidied of them, in jiffies
 * @tidied: number of the shared page with which tidying goes on
 * @tidies: how often tidying has come round
 * @nr_detached: chunks without region
 * @regions: in the order they were added
 * @next_id: number of the next region
 * @nr_pages: pages in all regions, 0 if advised
 * @nr_zero: of them, pages in state MMG_ZERO
 * @nr_huge: chunks that are huge pages
 * @guard: what may be merged
 * @passes: complete passes over all regions
 * @round: scanners' round in which the domain was last completed
 * @turn: region in which the scanners go on, or NULL for the first
 * @turn_round: in which @turn is meant
 * @totals: since the domain was opened
 */
struct mmg_domain {
	struct kref ref;
	struct list_head node;
	unsigned int id;
	struct rw_semaphore busy;
	struct mutex lock;
	u64 locked;
	bool advised;
	bool idle;
	bool closed;
	bool ended;
	u64 key;
	struct mmg_index index;
	u64 pruned;
	unsigned long tidied;
	unsigned int tidies;
	unsigned long nr_detached;
	struct list_head regions;
	u64 next_id;
	unsigned long nr_pages;
	unsigned long nr_zero;
	unsigned long nr_huge;
	struct mmg_guard guard;
	u64 passes;
	unsigned long round;
	struct mmg_region *turn;
	unsigned long turn_round;
	struct mmg_totals totals;
};

/* Tunables, see kernel/Documentation/abi.md; written through sysfs. */
struct mmg_tunables {
	unsigned int run;
	unsigned int pages_to_scan;
	unsigned int sleep_millisecs;
	unsigned int use_zero_pages;
	unsigned int max_page_sharing;
	unsigned int cpu_limit_percent;
	unsigned int max_idle_millisecs;
	unsigned int huge_split_pages;
	s64 unshare_limit;
	int unshare_limit_percent;
	unsigned int merge_across_nodes;
	unsigned int smart_scan;
	unsigned int stable_node_chains_prune_millisecs;
	bool advisor;
	unsigned int advisor_max_cpu;
	unsigned int advisor_min_pages_to_scan;
	unsigned int advisor_max_pages_to_scan;
	unsigned int advisor_target_scan_time;
};

#define MMG_PAGES_TO_SCAN	1000

extern struct mmg_tunables mmg_tunables;

/* hold.c */
#define MMG_HOLD_BUCKETS	36

/**
 * enum mmg_hold_lock - locks of which others may have to wait for
 * @MMG_HOLD_DOMAIN: lock of a domain
 * @MMG_HOLD_MMAP: mmap_lock of a process, for read
 * @MMG_HOLD_FOLIO: lock of a page that is being replaced, or of a run of them,
 *	and around it the mmap_lock
 * @MMG_HOLD_TABLE: lock of a page table that is being looked at
 * @MMG_NR_HOLDS: their number
 */
enum mmg_hold_lock {
	MMG_HOLD_DOMAIN,
	MMG_HOLD_MMAP,
	MMG_HOLD_FOLIO,
	MMG_HOLD_TABLE,
	MMG_NR_HOLDS
};

int mmg_hold_start(void);
void mmg_hold_stop(void);
unsigned int mmg_hold_bucket(u64 ns);
void mmg_hold_end(enum mmg_hold_lock lock, u64 begin);
u64 mmg_hold_longest(enum mmg_hold_lock lock);
void mmg_hold_forget(enum mmg_hold_lock lock);

static inline u64 mmg_hold_begin(void)
{
	return ktime_get_ns();
}

/* domain.c */
extern struct mutex mmg_domains_lock;
extern struct list_head mmg_domains;
struct mmg_domain *mmg_domain_new(bool advised);
void mmg_domain_close(struct mmg_domain *domain);
void mmg_domain_put(struct mmg_domain *domain);
void mmg_domain_lock(struct mmg_domain *domain);
void mmg_domain_unlock(struct mmg_domain *domain);
void mmg_domain_lock_alone(struct mmg_domain *domain);
void mmg_domain_unlock_alone(struct mmg_domain *domain);
struct mmg_domain *mmg_domain_next(struct mmg_domain *domain);
struct mmg_region *mmg_domain_add_region(struct mmg_domain *domain,
					 struct mm_struct *mm,
					 unsigned long start,
					 unsigned long length);
void mmg_domain_remove_region(struct mmg_region *region);
bool mmg_domain_elsewhere(const struct mmg_region *region, unsigned long start,
			  unsigned long *stop);
bool mmg_domain_tidy(struct mmg_domain *domain);
void mmg_domain_count(struct mmg_domain *domain, const struct mmg_pass *pass,
		      u64 unshared);
struct mmg_region *mmg_domain_region(struct mmg_domain *domain, u64 id);
void mmg_domain_figures(struct mm_struct *mm, struct merge_figures *figures);
unsigned long mmg_domain_metadata(struct mmg_domain *domain);
void mmg_totals_read(struct mmg_totals *totals);
void mmg_totals_add_cpu(struct mmg_region *region, u64 ns);

/* advice.c */
int mmg_advice_sync(struct mmg_domain *domain);
bool mmg_advice_pending(void);
unsigned long mmg_next_table(struct vm_area_struct *vma, unsigned long addr,
			     unsigned long end);
unsigned long mmg_advice_next(struct mmg_region *region);
void mmg_advice_round(struct mmg_domain *domain);
bool mmg_advice_chosen(void);
int mmg_advice_choose(bool memmerge);

/* region.c */
int mmg_region_start(void);
void mmg_region_stop(void);
int mmg_range_check(u64 start, u64 length, unsigned long task_size);
struct mmg_region *mmg_region_new(struct mmg_domain *domain,
				  struct mm_struct *mm, unsigned long start,
				  unsigned long length);
void mmg_region_free(struct mmg_region *region);
void mmg_region_forget(struct mmg_region *region);
void mmg_region_drop(struct mmg_region *region, unsigned long start,
		     unsigned long end);
void mmg_region_unmerged(struct mmg_region *region, unsigned long start,
			 unsigned long end);
void mmg_chunk_free(struct mmg_domain *domain, struct mmg_chunk *chunk);
struct mmg_chunk *mmg_region_chunk(struct mmg_region *region,
				   unsigned long addr);
void mmg_region_trim(struct mmg_region *region, struct mmg_chunk *chunk);
void mmg_region_set(struct mmg_chunk *chunk, unsigned int slot,
		    enum mmg_state state, bool changed);
void mmg_region_set_cold(struct mmg_chunk *chunk, unsigned int slot, bool cold);
void mmg_region_pass(struct mmg_region *region, const struct mmg_pass *pass);
unsigned long mmg_region_metadata(const struct mmg_region *region);

/* guard.c */
u64 mmg_guard_limit(s64 bytes, int percent, u64 supply);
u64 mmg_guard_left(u64 limit, u64 demand);
u64 mmg_guard_supply(void);
u64 mmg_guard_demand(const struct mmg_domain *domain);
u64 mmg_guard_host_demand(void);
void mmg_guard_counted(struct mmg_domain *domain, u64 sharing);
bool mmg_guard_begin(struct mmg_domain *domain, unsigned int pages);
bool mmg_guard_take(struct mmg_domain *domain, unsigned int pages);
void mmg_guard_give(struct mmg_domain *domain, unsigned int pages);
void mmg_guard_tidy(struct mmg_domain *domain);

/* huge.c */
bool mmg_huge_pays(unsigned int wanted, unsigned int least);
void mmg_huge_set(struct mmg_chunk *chunk, bool huge);
void mmg_huge_seen(struct mmg_chunk *chunk, unsigned int first,
		   unsigned int end, bool huge);
void mmg_huge_want(struct mmg_chunk *chunk, unsigned int slot);
bool mmg_huge_may_split(const struct mmg_chunk *chunk);
void mmg_huge_was_split(struct mmg_chunk *chunk);
u64 mmg_huge_split_count(void);

/* scan.c */
#define MMG_MAX_BREAKS	6
#define MMG_MAX_HEATS	7
#define MMG_CALM	2
#define MMG_LASTED	128
u8 mmg_backoff(u8 breaks);
void mmg_heat(struct mmg_chunk *chunk, unsigned int slot);
struct mmg_batch *mmg_batch_new(void);
void mmg_batch_free(struct mmg_batch *batch);
bool mmg_batch_merged(const struct mmg_batch *batch,
		      const struct mmg_chunk *chunk, unsigned int slot);
void mmg_pass_add(struct mmg_pass *sum, const struct mmg_pass *pass);
int mmg_scan_range(struct mmg_batch *batch, struct mmg_region *region,
		   unsigned long start, unsigned long end, bool patient,
		   struct mmg_pass *pass);

/* merge.c */
enum mmg_skip mmg_vma_skip(const struct mmg_region *region,
			   struct vm_area_struct *vma);
u64 mmg_page_key(const struct mmg_domain *domain, struct page *page);
bool mmg_same(struct page *page_a, struct page *page_b,
	      const struct page *next_a, const struct page *next_b);
bool mmg_node_same(struct page *page, const struct folio *folio);
bool mmg_share(struct mmg_shared *shared, struct mmg_chunk *chunk,
	       unsigned int slot, struct page *page);
int mmg_merge_shared(struct mmg_chunk *chunk, unsigned int slot,
		     struct mmg_shared *shared, const struct page *next);
int mmg_merge_zero(struct mmg_chunk *chunk, unsigned int slot,
		   const struct page *next);
int mmg_merge_first(struct mmg_chunk *chunk, unsigned int slot,
		    struct mmg_shared *shared, const struct page *next);
int mmg_unmerge_range(struct mmg_region *region, unsigned long start,
		      unsigned long end, u64 *pages);

/* run.c */
/* Pages of the longest run, and of the first one to try. */
#define MMG_RUN			64U
#define MMG_RUN_FIRST		4U

/**
 * struct mmg_ran - what a run did
 * @pages: how many are done with
 * @merged: which of them were merged
 * @zero: with the zero page
 * @mates: how many pages became shared pages for it
 */
struct mmg_ran {
	unsigned int pages;
	DECLARE_BITMAP(merged, MMG_RUN);
	bool zero;
	unsigned int mates;
};

struct mmg_run *mmg_run_new(void);
void mmg_run_free(struct mmg_run *run);
bool mmg_run_try(struct mmg_batch *batch, struct mmg_chunk *chunk,
		 unsigned int slot, unsigned int end, bool read, bool patient,
		 struct mmg_ran *ran);

/* shared.c */
/* How many shared pages of a domain to look at when tidying. */
#define MMG_SHARED_TIDY		65536

bool mmg_shared_takes(const struct mmg_shared *shared, unsigned int pending);
u32 mmg_shared_find(struct mmg_domain *domain, u64 hash,
		    struct mmg_shared **found);
bool mmg_shared_claim(struct mmg_chunk *chunk, unsigned int slot,
		      const struct mmg_look *look, struct mmg_shared **found,
		      u32 *equal);
struct mmg_shared *mmg_shared_peek(struct mmg_domain *domain, u64 hash);
void mmg_shared_reserve(struct mmg_domain *domain, unsigned int nr);
struct mmg_shared *mmg_shared_new(struct mmg_chunk *chunk, unsigned int slot,
				  const struct mmg_look *look, gfp_t gfp);
void mmg_shared_rehash(struct mmg_shared *shared, u64 hash);
void mmg_shared_free(struct mmg_shared *shared);
struct mmg_shared *mmg_shared_by_id(struct mmg_domain *domain, u32 id);
struct mmg_shared *mmg_page_shared(struct page *page);
bool mmg_folio_is(struct folio *folio, const struct mmg_shared *shared);
struct folio *mmg_shared_get(struct mmg_shared *shared);
struct folio *mmg_shared_lock(struct mmg_shared *shared);
void mmg_shared_unlock(struct mmg_shared *shared, struct folio *folio);
void mmg_shared_count(struct mmg_domain *domain, u64 *shared, u64 *sharing);
void mmg_shared_copies_count(struct mmg_domain *domain, u64 *contents,
			     u64 *copies);
void mmg_shared_tidy(struct mmg_domain *domain);
int mmg_shared_start(void);
void mmg_shared_stop(void);

/* rmap.c */
enum mmg_left {
	MMG_STAYS,
	MMG_LEFT,
	MMG_GONE
};

bool mmg_rmap_link(struct mmg_shared *shared, struct mmg_chunk *chunk,
		   unsigned int slot, struct anon_vma *anon_vma, pgoff_t pgoff);
void mmg_rmap_unlink(struct mmg_shared *shared, u32 id, enum mmg_state state);
enum mmg_left mmg_rmap_leave(struct mmg_chunk *chunk, unsigned int slot);
void mmg_rmap_prune(struct mmg_shared *shared, struct folio *folio);
bool mmg_rmap_next_place(const struct merge_owner *owner,
			 struct merge_place *place);

/* hash.c */
void mmg_hash_start(void);
u64 mmg_hash(const void *content, u64 key, const void *next);

/* numbers.c */
void mmg_numbers_init(struct mmg_numbers *numbers, unsigned long max);
void mmg_numbers_destroy(struct mmg_numbers *numbers);
unsigned long mmg_numbers_metadata(const struct mmg_numbers *numbers);
int mmg_numbers_reserve(struct mmg_numbers *numbers, unsigned int nr);
bool mmg_numbers_add(struct mmg_numbers *numbers, void *thing, u32 *nr);
void mmg_numbers_remove(struct mmg_numbers *numbers, u32 nr);
void *mmg_numbers_next(const struct mmg_numbers *numbers, unsigned long *nr);
void *mmg_array_grow(const void *old, unsigned long *room);

/* Goes through all; the one at hand may be removed. */
#define mmg_numbers_for_each(numbers, nr, thing) \
	for ((nr) = 0; ((thing) = mmg_numbers_next(numbers, &(nr))); (nr)++)

/* index.c */
int mmg_index_init(struct mmg_index *index);
void mmg_index_destroy(struct mmg_index *index);
unsigned long mmg_index_metadata(const struct mmg_index *index);
int mmg_index_add_chunk(struct mmg_index *index, struct mmg_chunk *chunk);
void mmg_index_remove_chunk(struct mmg_index *index, struct mmg_chunk *chunk);
u32 mmg_index_find(const struct mmg_index *index, u64 hash,
		   struct mmg_shared **shared);
void mmg_index_fetch(const struct mmg_index *index, struct mmg_look *looks,
		     unsigned int nr);
void mmg_index_reserve(struct mmg_index *index, unsigned int nr);
void mmg_index_insert(struct mmg_index *index, u32 id);
bool mmg_index_claim(struct mmg_index *index, u32 id,
		     const struct mmg_look *look, struct mmg_shared **shared,
		     u32 *equal);
void mmg_index_remove(struct mmg_index *index, u32 id);
void mmg_index_insert_shared(struct mmg_index *index,
			     struct mmg_shared *shared);
bool mmg_index_replace(struct mmg_index *index, u32 id,
		       const struct mmg_look *look, struct mmg_shared *shared);
void mmg_index_remove_shared(struct mmg_index *index,
			     struct mmg_shared *shared);
struct mmg_shared *mmg_index_older(const struct mmg_index *index,
				   const struct mmg_shared *shared);

/* budget.c */

/**
 * struct mmg_cpu - measures CPU time of a thread
 * @clock: when it began
 * @runtime: the thread's account then
 * @switches: how often it had been switched by then
 */
struct mmg_cpu {
	u64 clock;
	u64 runtime;
	unsigned long switches;
};

void mmg_cpu_begin(struct mmg_cpu *cpu);
u64 mmg_cpu_used(const struct mmg_cpu *cpu);

/**
 * struct mmg_payer - what a scanner has paid for
 * @cpu: measures what it has not
 * @paid: how much of the thread's account is settled
 * @credit: what it has paid beyond that
 */
struct mmg_payer {
	struct mmg_cpu cpu;
	u64 paid;
	u64 credit;
};

void mmg_payer_begin(struct mmg_payer *payer);
void mmg_payer_pay(struct mmg_payer *payer);

/* scanner.c */
#define MMG_MAX_SCANNERS	64
int mmg_scanner_start(void);
void mmg_scanner_stop(void);
void mmg_scanner_wake(void);
void mmg_scanner_settle(void);
bool mmg_scanner_runs(void);
int mmg_scanner_pid(void);
int mmg_scanner_count(void);
int mmg_scanner_set_count(unsigned int count);
u64 mmg_scanner_rounds(void);
void mmg_scanner_watch(void);
int mmg_unmerge_domain(struct mmg_domain *domain);
int mmg_unmerge_all(void);

/* advisor.c */
unsigned int mmg_advisor_pages(unsigned int pages, u64 took, u64 cpu);
void mmg_advisor_begin(void);
void mmg_advisor_round(void);

/* sysfs.c */
int mmg_sysfs_create(void);
void mmg_sysfs_remove(void);

/* device.c */
int mmg_device_register(void);
void mmg_device_unregister(void);

#endif /* _MEMMERGE_INTERNAL_H */
