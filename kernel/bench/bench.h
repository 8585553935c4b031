/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The engine benchmark: memmerge and KSM on the same memory, in one boot.
 *
 * A measurement, not a test: it judges nothing and prints one JSON object a
 * line. What it measures, and how, is in docs/benchmark.md; who reads the lines
 * is src/mergelab/benchmark/lines.py.
 */
#ifndef MEMMERGE_BENCH_H
#define MEMMERGE_BENCH_H

#include "../selftests/memmerge_test.h"

enum { KSM, MEMMERGE, ENGINES };
#define ARRAY_LENGTH(array)	(sizeof(array) / sizeof((array)[0]))

/* What the pages of a subject hold. */
enum content {
	RANDOM, IDENTICAL, ZERO, TWICE, NEAR, NEAR_TWICE, DUPLICATES, GUEST,
};

/**
 * struct subject - one case of the benchmark
 * @name: as it is asked for and printed
 * @content: what the pages hold
 * @passes: passes that are timed one by one
 * @merges: whether there is a saving, so that its growth is measured
 * @zero_pages: the engines' use_zero_pages
 * @joins: whether memory that comes later is equal to what is merged by then
 * @churn: whether pages are rewritten while the scanner runs
 * @limits: whether it is how well memmerge keeps to cpu_limit_percent
 * @walks: whether the mappings of merged pages are visited
 * @scanners: whether it is how much quicker two scanners are than one
 * @pages: fixed number of pages, or 0: as asked for
 * @kvm: whether the processes are KVM guests
 * @area: pages of each process
 */
struct subject {
	const char *name;
	enum content content;
	unsigned int passes;
	bool merges, zero_pages, joins, churn, limits, walks, scanners,
	     kvm;
	unsigned long pages, area;
};

extern const struct subject subjects[];
const struct subject *subject_find(const char *name);
void subject_fill(const struct subject *subject, unsigned char *mem,
		  unsigned long first, unsigned long count,
		  unsigned long total);
unsigned long guest_memory_open(const char *path);

/* Output: lines of JSON, each with the place in the benchmark. */
extern const struct subject *place_subject;
extern unsigned long place_pages;
extern const char *place_engine;
extern int place_pair;

void output_open(const char *serial);
void line_begin(const char *kind);
void line_text(const char *key, const char *value);
void line_int(const char *key, long long value);
void line_ints(const char *key, const long long *values, unsigned int count);
void line_end(void);

/* Clocks: all in nanoseconds. */
bool clock_of_host(void);
long long clock_wall(void);
long long clock_cpu(pid_t thread);
long long clock_thread(pid_t thread);
long long clock_delay(pid_t thread);
long long clock_step(void);
void clock_calibrate(void);
long long clock_ticks_ns(long long ticks);

/* The processor's own ticks; no system call, so nothing is slow about it. */
static inline long long clock_ticks(void)
{
	unsigned int processor;

	return __builtin_ia32_rdtscp(&processor);
}

/* For qsort(); a frame number is as good as signed. */
static inline int ascending(const void *a, const void *b)
{
	const long long x = *(const long long *)a, y = *(const long long *)b;

	return (x > y) - (x < y);
}

/* Processes that hold the memory. */
struct process {
	pid_t pid;
	int pidfd, request, reply;
	void *start;
	unsigned long pages;
};

enum order {
	ORDER_FILL, ORDER_TOUCH, ORDER_FLOOR, ORDER_CHECKSUM, ORDER_WRITE,
	ORDER_REWRITE, ORDER_ADVISE, ORDER_UNADVISE,
};

extern struct process *processes;
extern unsigned int processes_nr;

struct process process_start(const struct subject *subject,
			     unsigned long first, unsigned long pages,
			     unsigned long total);
void process_stop(struct process *process);
long long process_order(struct process *process, enum order order,
			unsigned long argument);
unsigned long process_writes(struct process *process, unsigned long stride,
			     uint32_t *ticks);
void processes_start(const struct subject *subject, unsigned long pages);
void processes_stop(void);
long long processes_order_some(enum order order, unsigned long argument,
			       unsigned int some);
long long processes_order(enum order order, unsigned long argument);

/**
 * struct engine - what is compared
 * @name: as it is printed
 * @dir: its files
 * @thread: name of its kernel thread
 * @zeroed: file that counts pages which map the zero page
 * @begin: take no notice of earlier runs
 * @add: register the memory of a process
 * @end: give every page its own copy, forget all memory
 * @metadata: bytes of its own memory
 */
struct engine {
	const char *name, *dir, *thread, *zeroed;
	void (*begin)(void);
	void (*add)(struct process *process);
	void (*end)(void);
	long long (*metadata)(void);
};

extern const struct engine engines[ENGINES];
pid_t engine_thread(const struct engine *engine);
long long engine_read(const struct engine *engine, const char *file);
int engine_open(const struct engine *engine, const char *file);
long long engine_again(int file);
void engine_write(const struct engine *engine, const char *file,
		  unsigned long long value);
long long engine_saved(const struct engine *engine);
void engine_attach(const struct engine *engine);
void engine_stop(const struct engine *engine);

/* The memory of a process as that of a KVM guest, and what that runs. */
extern const char kvm_guest[], kvm_guest_timed[], kvm_guest_end[];
void kvm_start(unsigned char *memory, unsigned long pages);
void kvm_touch(unsigned long pages);
void kvm_writes(unsigned long stride, unsigned long count, uint32_t *ticks);

void measure_subject(const struct subject *subject, unsigned long pages,
		     int pairs);
void measure_walks(void);

#endif /* MEMMERGE_BENCH_H */
