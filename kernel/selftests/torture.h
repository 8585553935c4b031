/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The torture program: workers change their memory in every way that mm knows,
 * each with a model of what every byte must be, while controllers make the
 * engine do all it can.
 *
 *	torture_model.c		content of pages, areas, checking
 *	torture_work.c		what workers do to their memory
 *	torture_guest.c		virtual machines that do it
 *	torture_control.c	what controllers do to the engine and the machine
 *	torture.c		options, rounds, the verdict
 *
 * What an actor does as its n-th operation depends on the seed, the actor and
 * n alone, not on how earlier ones went. A run is repeated by its seed but for
 * the interleaving.
 */
#ifndef MEMMERGE_TORTURE_H
#define MEMMERGE_TORTURE_H

#include <stdatomic.h>

#include "memmerge_test.h"
#include "random.h"

#define WORKERS_MAX	16
#define CONTROLLERS	2
#define AREA_PAGES	256UL
#define HISTORY		6
#define CHILDREN	2
#define STUCK_SECONDS	300

enum work {
	W_VERIFY, W_READ_VM, W_READ_MEM, W_WRITE, W_WRITE_PART, W_WRITE_SAME,
	W_WRITE_VM, W_WRITE_MEM, W_DONTNEED, W_FREE, W_PAGEOUT, W_UNMAP, W_MAP,
	W_OVERMAP, W_MOVE, W_MOVE_KEEP, W_GROW, W_SHRINK, W_PROTECT,
	W_UNPROTECT, W_LOCK, W_UNLOCK, W_POPULATE, W_KSM, W_FORK_VERIFY,
	W_FORK_WRITE, W_FORK_KILL, W_FORK_LIVE, W_EXEC, W_PIN, W_PIN_WRITE,
	W_UNPIN, W_SPLICE, W_GUEST_READ, W_GUEST_WRITE, W_KINDS
};

enum control {
	C_SCAN, C_SCAN_REGION, C_SCAN_RANGE, C_UNMERGE, C_UNMERGE_RANGE, C_ADD,
	C_REMOVE, C_REMOVE_UNMERGE, C_MOVE_DOMAIN, C_REOPEN, C_STAT, C_RUN,
	C_UNMERGE_ALL, C_TUNE, C_READ, C_RECLAIM, C_COMPACT, C_SWAPOFF,
	C_UNLOAD, C_KSM, C_KINDS
};

/* A name, how often of all, and whether it may be impossible here. */
struct kind {
	const char *name;
	unsigned int weight;
	bool optional;
};

extern const struct kind work_kinds[W_KINDS];
extern const struct kind control_kinds[C_KINDS];

struct tally {
	atomic_ulong tried, done, refused;
};

/* Of the board what all may do; of an actor what it has done. */
enum phase {
	P_START, P_RUN, P_SETTLE, P_STOPPED, P_WRITTEN, P_UNMERGED, P_END
};

/* One thread of a worker, or a controller, as all others see it. */
struct actor {
	atomic_ulong n;			/* operations done */
	atomic_int kind;		/* being done */
	atomic_int phase;		/* that it has completed */
	atomic_int pid;
	uintptr_t memory;
};

struct options {
	uint64_t seed;
	unsigned long ops;
	unsigned int rounds, processes, threads;
	const char *module;		/* the file, or NULL: stays loaded */
	unsigned long limit;		/* bytes of the workers' cgroup */
	unsigned int failslab, fail_page;	/* per cent */
	bool engine;			/* or just mm, to test the model */
	bool no_work[W_KINDS], no_control[C_KINDS];	/* left out */
};

/* Shared by all processes. */
struct board {
	struct options opt;
	atomic_int phase, failed;
	char reason[1024];
	struct actor actors[WORKERS_MAX + CONTROLLERS];
	struct tally work[W_KINDS], control[C_KINDS];
	atomic_ulong merged, zeroed, unmerged, children, bytes;
	atomic_ulong nomem;
	char swap[64];
	bool ksm;
};

extern struct board *board;

struct rng rng_for(unsigned int actor, unsigned long n);
unsigned int pick(struct rng *rng, const struct kind *kinds, unsigned int count);

/* Report the first failure of all and end this process. */
__attribute__((noreturn, format(printf, 1, 2)))
void die(const char *format, ...);

/* ---- model ---- */

enum page_state { HOLE, DATA, EITHER };

/**
 * struct page_model - what a page of an area must be
 * @id: of its content
 * @state: HOLE: nothing mapped; DATA: has that content; EITHER: that, or zero
 * @prot: as mprotect() takes it
 * @locked: may be mlock()ed
 * @version: changes when the content does
 * @when: the last operations on it
 * @what: their kinds
 * @at: next of these
 */
struct page_model {
	uint32_t id;
	uint8_t state, prot;
	bool locked;
	uint8_t at;
	unsigned int version;
	unsigned long when[HISTORY];
	uint8_t what[HISTORY];
};

struct child {
	pid_t pid;
	int go;			/* a byte, and it checks its memory and ends */
	unsigned long until;
	bool killed;
};

struct ring;
struct guest;

struct area {
	unsigned int actor;
	bool is_child;
	unsigned long n;	/* present operation */
	unsigned int kind;
	unsigned char *mem;
	struct page_model page[AREA_PAGES];
	struct child child[CHILDREN];
	struct ring *ring;
	struct guest *guest;	/* or NULL */
	long pinned;		/* page registered with the ring, or -1 */
	bool pin_valid;		/* and still the one that is mapped there */
	int mem_file;		/* /proc/self/mem */
	int pipe[2];		/* always empty between operations */
	int splice[2];		/* a page in it, or none */
	long spliced;
	uint32_t spliced_id;
	unsigned int spliced_version;
};

struct span {
	unsigned long first, count;
};

void contents_init(void);
uint32_t content_pick(struct rng *rng);
uint32_t content_patch(struct rng *rng, uint32_t id);
void content_make(unsigned char *page, uint32_t id);
void content_range(uint32_t id, unsigned int *offset, unsigned int *length);

unsigned char *at(const struct area *a, unsigned long page);
void touched(struct area *a, unsigned long page);
void now(struct area *a, unsigned long page, enum page_state state, uint32_t id);
void gone(struct area *a, unsigned long page);
void check_bytes(struct area *a, unsigned long page, const unsigned char *got,
		 const char *how);
void check_page(struct area *a, unsigned long page);
void check_area(struct area *a);
struct span run_pick(struct rng *rng, unsigned long longest);

/* ---- work ---- */

void area_init(struct area *a, unsigned int actor);
void area_map(struct area *a);
bool work_one(struct area *a, unsigned long n);
void work_settle(struct area *a);
void work_rewrite(struct area *a);

/* ---- guests ---- */

struct guest *guest_new(unsigned char *area);
int guest_write(const struct guest *g, unsigned long page,
		const unsigned char *content);
int guest_read(const struct guest *g, unsigned long page,
	       unsigned char *content);

/* ---- control ---- */

void control_main(unsigned int round, bool unmerge);
void control_prepare(void);
long long counter_of(const char *name);
int module_remove(void);
int module_load(const char *file);

#endif /* MEMMERGE_TORTURE_H */
