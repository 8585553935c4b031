// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is measured of one case: the floor, first writes, the growth of the
 * saving, and pass by pass what it costs
 */
#include <sys/sysinfo.h>

#include "bench.h"

#define MS		1000000LL
/* The scanner sleeps that long after a pass, and is asked meanwhile. */
#define GAP_MS		60
#define POLL_MS		15
/* A compromise: to look takes a tenth of a millisecond of an emulated host. */
#define SHORT_POLL_MS	4
/* Pages at a time while the saving grows; counters can be read in between. */
#define BATCH		1024
#define PASS_LIMIT	(900000 * MS)
#define SAMPLES		100
#define WRITES		4096
#define JOIN_PAGES	256
#define JOIN_PASSES	6
#define CHURN_MS	6000
#define CHURN_STEP_MS	20
#define CALIBRATE_MS	400
#define ASKS		15
#define LIMIT_MS	4000
#define TWOS		5

static void sleep_ms(long long ms)
{
	usleep(ms * 1000);
}

static long long memory_free(void)
{
	struct sysinfo now;

	TAP_EQ(0, sysinfo(&now));
	return (long long)now.freeram * now.mem_unit;
}

/*
 * Wait for the end of a pass, with as little work as can be; returns when it
 * was not yet over.
 */
static long long wait_pass(const struct engine *engine, long long passes,
			   long long poll_ms)
{
	long long limit = clock_wall() + PASS_LIMIT, before = clock_wall();
	int file = engine_open(engine, "full_scans");

	while (engine_again(file) < passes) {
		if (before > limit)
			tap_end(TAP_FAIL, "%s: no end of a pass", engine->name);
		before = clock_wall();
		sleep_ms(poll_ms);
	}
	close(file);
	return before;
}

/* What a reading of the clock costs: the median of some. */
static long long ask_ns(pid_t thread)
{
	long long ns[ASKS], before;
	unsigned int i;

	sleep_ms(GAP_MS);
	before = clock_cpu(thread);
	for (i = 0; i < ASKS; i++) {
		long long now = clock_cpu(thread);

		ns[i] = now - before;
		before = now;
	}
	qsort(ns, ASKS, sizeof(*ns), ascending);
	return ns[ASKS / 2];
}

/*
 * One point of the growing saving. Whoever hears it notes the CPU time: an
 * answer would have to wait until the scanner gives way.
 */
static long long sample(const struct engine *engine, pid_t thread,
			long long start)
{
	long long saved = engine_saved(engine);

	line_begin("sample");
	line_int("wall_ns", clock_wall() - start);
	line_int("saved", saved);
	if (!clock_of_host())
		line_int("cpu_ns", clock_thread(thread));
	line_end();
	return saved;
}

/* Samples one after the other, while no scanner runs: what one costs. */
static void sample_often(const struct engine *engine, pid_t thread)
{
	unsigned int i;

	for (i = 0; i <= ASKS; i++)
		sample(engine, thread, 0);
}

/*
 * What the watching itself costs: waiting for a while without any scanner, a
 * reading of the clock, and samples while nothing is saved.
 */
static void measure_watching(void)
{
	const struct engine *engine = &engines[0];
	pid_t thread = engine_thread(engine);
	long long wall, cpu, asked = ask_ns(thread), end;
	int file;

	wall = clock_wall();
	cpu = clock_cpu(thread);
	end = wall + CALIBRATE_MS * MS;
	file = engine_open(engine, "full_scans");
	while (clock_wall() < end) {
		engine_again(file);
		sleep_ms(POLL_MS);
	}
	close(file);
	cpu = clock_cpu(thread) - cpu - asked;
	wall = clock_wall() - wall;
	sample_often(engine, thread);
	line_begin("watching");
	line_int("ask_ns", asked);
	line_int("ns_per_s", cpu * 1000 / (wall / MS));
	line_end();
}

static void measure_floor(void)
{
	line_begin("floor");
	line_int("ps_per_page", processes_order(ORDER_FLOOR, 0) / processes_nr);
	line_end();
}

/* Of memmerge; KSM does not count how long it holds locks. */
static void measure_holds(const struct engine *engine)
{
	if (engine != &engines[MEMMERGE])
		return;
	line_begin("holds");
	line_int("domain", engine_read(engine, "domain_lock_max_ns"));
	line_int("table", engine_read(engine, "page_table_lock_max_ns"));
	line_end();
}

static int ascending_ticks(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* First writes to pages from all over; quantiles in parts of a thousand. */
static void measure_writes(const char *state)
{
	static const long long parts[] = {
		10, 50, 100, 250, 500, 750, 900, 950, 990, 999, 1000,
	};
	unsigned long stride = place_pages / WRITES, nr = 0, i;
	long long quantiles[ARRAY_LENGTH(parts)];
	uint32_t *ticks;

	if (!stride || place_subject->pages)
		stride = 1;
	ticks = calloc(place_pages / stride + processes_nr, sizeof(*ticks));
	TAP_CHECK(ticks);
	for (i = 0; i < processes_nr; i++)
		nr += process_writes(&processes[i], stride, ticks + nr);
	qsort(ticks, nr, sizeof(*ticks), ascending_ticks);
	for (i = 0; i < ARRAY_LENGTH(parts); i++)
		quantiles[i] = clock_ticks_ns(ticks[(nr - 1) * parts[i] / 1000]);
	free(ticks);

	line_begin("writes");
	line_text("state", state);
	line_int("writes", nr);
	line_ints("per_mille", parts, ARRAY_LENGTH(parts));
	line_ints("ns", quantiles, ARRAY_LENGTH(parts));
	line_end();
}

static void tune(const struct engine *engine, unsigned long batch,
		 unsigned int sleep)
{
	engine_write(engine, "pages_to_scan", batch);
	engine_write(engine, "sleep_millisecs", sleep);
	engine_write(engine, "use_zero_pages", place_subject->zero_pages);
}

/* Rewrite one page in a hundred a second, for one step of time. */
static void churn_step(unsigned long *seed)
{
	unsigned long pages = place_pages * CHURN_STEP_MS / 100000;

	while (pages--) {
		process_order(&processes[*seed % processes_nr], ORDER_REWRITE,
			      *seed);
		(*seed)++;
	}
}

static void measure_churn(const struct engine *engine)
{
	long long passes, scanned, cpu, wall, end, low, now;
	pid_t thread = engine_thread(engine);
	static unsigned long seed = 1;
	unsigned long first = seed;

	passes = engine_read(engine, "full_scans");
	scanned = engine_read(engine, "pages_scanned");
	low = engine_saved(engine);
	wall = clock_wall();
	cpu = clock_cpu(thread);
	for (now = wall; now < wall + CHURN_MS * MS; now = clock_wall()) {
		long long next = now + CHURN_STEP_MS * MS, saved;

		churn_step(&seed);
		saved = engine_saved(engine);
		if (saved < low)
			low = saved;
		now = clock_wall();
		if (now < next)
			sleep_ms((next - now) / MS);
	}
	cpu = clock_cpu(thread) - cpu;
	end = clock_wall();

	line_begin("churn");
	line_int("wall_ns", end - wall);
	line_int("cpu_ns", cpu);
	line_int("rewritten", seed - first);
	line_int("passes", engine_read(engine, "full_scans") - passes);
	line_int("scanned", engine_read(engine, "pages_scanned") - scanned);
	line_int("lowest_saved", low);
	line_int("saved", engine_saved(engine));
	line_end();
}

/*
 * Let the engine run at full speed until a pass saves nothing more. Two passes
 * at least before that may be: KSM saves nothing in its first.
 */
static void measure_growth(const struct engine *engine)
{
	long long wall, settled = -1, period = 4, pass = 0, first;
	pid_t thread = engine_thread(engine);
	unsigned int samples = 0;
	bool done = false;

	engine_attach(engine);
	tune(engine, BATCH, 0);
	first = engine_read(engine, "full_scans");
	wall = clock_wall();
	sample(engine, thread, wall);
	engine_write(engine, "run", 1);
	while (!done) {
		long long begun = clock_wall(), passes, saved;

		passes = engine_read(engine, "full_scans") - first;
		saved = sample(engine, thread, wall);
		if (begun - wall > PASS_LIMIT)
			tap_end(TAP_FAIL, "%s: no end of the saving",
				engine->name);
		if (passes > pass) {
			done = passes > 2 && saved == settled;
			settled = saved;
			pass = passes;
		}
		if (++samples % SAMPLES == 0)
			period *= 2;
		/* Looking must stay small beside what is looked at. */
		begun = (clock_wall() - begun) / MS * 4;
		if (!done)
			sleep_ms(begun > period ? begun : period);
	}
	line_begin("settled");
	line_end();
	if (place_subject->churn)
		measure_churn(engine);
	engine_write(engine, "run", 0);
	/* The more there is to count, the more a sample may cost. */
	sample_often(engine, thread);
	line_begin("looking");
	line_end();
	engine->end();
}

/* Memory that comes later, equal to what is merged: when is it joined? */
static void measure_join(const struct engine *engine)
{
	struct process late = process_start(place_subject, 0, JOIN_PAGES,
					    place_pages);
	long long saved = engine_saved(engine), passes;
	int pass;

	process_order(&late, ORDER_FILL, 0);
	/* Not in the middle of a pass: one more, and its gap. */
	passes = engine_read(engine, "full_scans") + 1;
	wait_pass(engine, passes, POLL_MS);
	engine->add(&late);
	for (pass = 1; pass <= JOIN_PASSES; pass++) {
		wait_pass(engine, passes + pass, POLL_MS);
		/* Some begin a new merged page: the others have enough. */
		if (engine_saved(engine) >= saved + JOIN_PAGES * 9 / 10)
			break;
	}
	line_begin("join");
	line_int("joined", engine_saved(engine) - saved);
	line_int("of", JOIN_PAGES);
	if (pass <= JOIN_PASSES)
		line_int("passes", pass);
	line_end();
	process_stop(&late);
}

/* Let the engine run pass by pass, with a rest in which it is asked. */
static void measure_passes(const struct engine *engine)
{
	long long start, scanned, cpu, wall, free_before, own, idle;
	pid_t thread = engine_thread(engine);
	unsigned int pass;

	idle = engine->metadata();
	engine_attach(engine);
	tune(engine, 2 * place_pages, GAP_MS);
	free_before = memory_free();
	start = engine_read(engine, "full_scans");
	scanned = engine_read(engine, "pages_scanned");
	own = clock_thread(thread);
	wall = clock_wall();
	cpu = clock_cpu(thread);
	engine_write(engine, "run", 1);
	for (pass = 1; pass <= place_subject->passes; pass++) {
		long long before = wait_pass(engine, start + pass, POLL_MS);
		long long cpu_ns = clock_cpu(thread) - cpu;
		long long wall_ns = clock_wall() - wall;
		long long saved = engine_saved(engine);
		long long now = engine_read(engine, "pages_scanned");

		line_begin("pass");
		line_int("pass", pass);
		line_int("cpu_ns", cpu_ns);
		line_int("wall_ns", wall_ns);
		line_int("saved", saved);
		line_int("scanned", now - scanned);
		/* The next pass may have begun: its cost is mixed with this. */
		line_int("late", clock_wall() - before >= GAP_MS * MS);
		line_end();
		scanned = now;
		wall = clock_wall();
		/* What it does to begin the next one is of that. */
		cpu += cpu_ns;
	}
	line_begin("state");
	line_int("thread_ns", clock_thread(thread) - own);
	line_int("shared", engine_read(engine, "pages_shared"));
	line_int("saved", engine_saved(engine));
	if (idle >= 0)
		line_int("metadata", engine->metadata() - idle);
	line_int("free_gain", memory_free() - free_before);
	line_end();
	measure_holds(engine);
	if (place_subject->joins)
		measure_join(engine);
	engine_write(engine, "run", 0);
	if (place_subject->walks)
		measure_walks();
	measure_writes(place_subject->merges ? "merged" : "scanned");
	engine->end();
}

/* Does memmerge take the CPU time that it may, no more and no less? */
static void measure_limits(const struct engine *engine)
{
	/* The first: not running, for what goes on without a scanner. */
	static const unsigned int percents[] = { 0, 5, 10, 25, 50, 75 };
	pid_t thread = engine_thread(engine);
	unsigned int i;

	engine_attach(engine);
	for (i = 0; i < ARRAY_LENGTH(percents); i++) {
		long long wall, cpu, own, scanned, delay;

		engine_write(engine, "cpu_limit_percent", percents[i]);
		engine_write(engine, "run", percents[i] != 0);
		sleep_ms(GAP_MS);
		scanned = engine_read(engine, "pages_scanned");
		own = engine_read(engine, "scan_cpu_ns");
		delay = clock_delay(thread);
		wall = clock_wall();
		cpu = clock_cpu(thread);
		sleep_ms(LIMIT_MS);
		cpu = clock_cpu(thread) - cpu;
		wall = clock_wall() - wall;
		delay = clock_delay(thread) - delay;
		own = engine_read(engine, "scan_cpu_ns") - own;
		scanned = engine_read(engine, "pages_scanned") - scanned;
		engine_write(engine, "run", 0);

		line_begin("limit");
		line_int("percent", percents[i]);
		line_int("wall_ns", wall);
		line_int("cpu_ns", cpu);
		line_int("delay_ns", delay);
		line_int("account_ns", own);
		line_int("scanned", scanned);
		line_end();
	}
	engine_write(engine, "cpu_limit_percent", 0);
	engine->end();
}

/*
 * What a second processor is worth to those who share nothing: the same memory,
 * read and hashed by one process at a time, and by two.
 */
static void measure_readers(unsigned int readers)
{
	long long wall = clock_wall();

	processes_order_some(ORDER_FLOOR, 0, readers);
	line_begin("readers");
	line_int("readers", readers);
	line_int("wall_ns", clock_wall() - wall);
	line_end();
}

/*
 * How long does a first pass take with so many scanners? Whoever waits for its
 * end needs a processor that two of them would have; so not before half of the
 * time has gone by that the quickest of such passes took. They rest after it.
 */
static void measure_scanners(const struct engine *engine, unsigned int scanners,
			     long long *least)
{
	long long start, cpu, wall;

	engine_write(engine, "scanners", scanners);
	engine_attach(engine);
	tune(engine, 2 * place_pages, GAP_MS);
	start = engine_read(engine, "full_scans");
	cpu = engine_read(engine, "scan_cpu_ns");
	wall = clock_wall();
	engine_write(engine, "run", 1);
	sleep_ms(*least / 2 / MS);
	wait_pass(engine, start + 1, SHORT_POLL_MS);
	wall = clock_wall() - wall;
	if (!*least || wall < *least)
		*least = wall;
	engine_write(engine, "run", 0);
	cpu = engine_read(engine, "scan_cpu_ns") - cpu;
	engine->end();
	engine_write(engine, "scanners", 1);

	line_begin("scanners");
	line_int("scanners", scanners);
	line_int("wall_ns", wall);
	line_int("account_ns", cpu);
	line_end();
}

/*
 * One and two of them, in alternating order, and some times: each is so short
 * that what else the machine does shows.
 */
static void measure_twos(const struct engine *engine, unsigned int first)
{
	long long least[2] = {};
	unsigned int i;

	for (i = 0; i < 2 * TWOS; i++) {
		unsigned int nr = 1 + (first + i + i / 2) % 2;

		place_engine = NULL;
		measure_readers(nr);
		place_engine = engine->name;
		measure_scanners(engine, nr, &least[nr - 1]);
	}
}

static void measure_engine(const struct engine *engine, long long checksum)
{
	place_engine = engine->name;
	line_begin("run");
	line_end();
	processes_order(ORDER_TOUCH, 0);
	if (place_subject->merges)
		measure_growth(engine);
	if (place_subject->churn) {
		processes_order(ORDER_FILL, 0);
	} else {
		processes_order(ORDER_TOUCH, 0);
		measure_passes(engine);
	}
	if (processes_order(ORDER_CHECKSUM, 0) != checksum)
		tap_end(TAP_FAIL, "%s changed what the memory holds",
			engine->name);
	place_engine = NULL;
}

/**
 * measure_subject - measure one case
 * @subject: the case
 * @pages: its size
 * @pairs: how often each engine; the first of a pair alternates
 */
void measure_subject(const struct subject *subject, unsigned long pages,
		     int pairs)
{
	long long checksum;
	int i;

	place_subject = subject;
	place_pages = pages;
	processes_start(subject, pages);
	checksum = processes_order(ORDER_CHECKSUM, 0);
	for (place_pair = 1; place_pair <= pairs; place_pair++) {
		measure_watching();
		if (subject->limits || subject->scanners) {
			place_engine = engines[MEMMERGE].name;
			line_begin("run");
			line_end();
			processes_order(ORDER_TOUCH, 0);
			if (subject->limits)
				measure_limits(&engines[MEMMERGE]);
			else
				measure_twos(&engines[MEMMERGE], place_pair);
			place_engine = NULL;
			continue;
		}
		measure_floor();
		processes_order(ORDER_TOUCH, 0);
		measure_writes("own");
		for (i = 0; i < ENGINES; i++)
			measure_engine(&engines[(i + place_pair + 1) % ENGINES],
				       checksum);
	}
	processes_stop();
	place_pair = 0;
	place_subject = NULL;
}
