// SPDX-License-Identifier: GPL-2.0-only
/*
 * Merging beside threads that write: after every round each byte must be what
 * its writer put there last. Threads own disjoint pages and keep their own
 * account of the content, so a page that is merged wrongly, a write that is
 * lost, or a copy that goes to the wrong page shows.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "memmerge_test.h"

#define THREADS		3
#define PAGES		512UL
#define CONTENTS	4		/* few, so that pages merge all the time */
#define ROUNDS		40
#define ROUND_SECONDS	15		/* on a slow machine they are fewer */

struct writer {
	pthread_t thread;
	unsigned char *mem;
	uint64_t seed[PAGES];
	uint64_t random;
	unsigned long writes;
	unsigned long bad;
};

static atomic_bool stop;

static uint64_t next(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

static void *write_pages(void *arg)
{
	struct writer *w = arg;

	while (!atomic_load(&stop)) {
		unsigned long i = next(&w->random) % PAGES;

		if (!holds(w->mem + i * PAGE, w->seed[i]))
			w->bad++;
		w->seed[i] = next(&w->random) % CONTENTS;
		fill(w->mem + i * PAGE, w->seed[i]);
		w->writes++;
	}
	return NULL;
}

static struct writer writers[THREADS];

static void writers_start(int domain)
{
	unsigned long i, t;

	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "0"));
	for (t = 0; t < THREADS; t++) {
		writers[t] = (struct writer){};
		writers[t].mem = memory(PAGES);
		writers[t].random = 88172645463325252ULL + t;
		for (i = 0; i < PAGES; i++) {
			writers[t].seed[i] = i % CONTENTS;
			fill(writers[t].mem + i * PAGE, i % CONTENTS);
		}
		region_add(domain, writers[t].mem, PAGES * PAGE);
	}
	atomic_store(&stop, false);
	for (t = 0; t < THREADS; t++)
		TAP_EQ(0, pthread_create(&writers[t].thread, NULL, write_pages,
					 &writers[t]));
	TAP_EQ(0, file_write(SYSFS "run", "1"));
}

/* Returns how many pages they have written; each byte must be the last one. */
static unsigned long writers_stop(void)
{
	unsigned long i, t, writes = 0;

	/* First, as a scanner that is to stop would have to wait for them. */
	atomic_store(&stop, true);
	for (t = 0; t < THREADS; t++)
		pthread_join(writers[t].thread, NULL);
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "20"));

	for (t = 0; t < THREADS; t++) {
		TAP_EQ(0, writers[t].bad);
		for (i = 0; i < PAGES; i++)
			TAP_CHECK(holds(writers[t].mem + i * PAGE,
					writers[t].seed[i]));
		writes += writers[t].writes;
	}
	return writes;
}

static void racing_writes(void)
{
	int domain = domain_open();
	unsigned long i, t, merged = 0, writes;
	double end;

	writers_start(domain);
	end = seconds() + ROUND_SECONDS;
	for (i = 0; i < ROUNDS && (!merged || seconds() < end); i++) {
		domain_scan(domain);
		/* By whomever: the scanner may have been there first. */
		merged = stat_of(domain, 0).merged;
	}
	writes = writers_stop();
	/* Without both there was no race. */
	TAP_CHECK(merged > 0);
	TAP_CHECK(writes > 0);
	printf("# %lu pages merged, %lu written\n", merged, writes);

	/* With no writer left everything merges. */
	domain_scan(domain);
	domain_scan(domain);
	TAP_EQ(THREADS * PAGES, stat_of(domain, 0).pages_shared +
	       stat_of(domain, 0).pages_sharing);
	close(domain);
	for (t = 0; t < THREADS; t++)
		munmap(writers[t].mem, PAGES * PAGE);
	file_wait(SYSFS "domains", 0);
}

/* A child checks what it was forked with, writes some of it, checks again. */
static pid_t checker(unsigned char *mem, unsigned long round)
{
	pid_t pid = fork();
	unsigned long i;

	if (pid)
		return pid;
	for (i = 0; i < PAGES; i++)
		if (!holds(mem + i * PAGE, i % CONTENTS))
			_exit(1);
	for (i = round % 3; i < PAGES; i += 3)
		fill(mem + i * PAGE, (i + 1) % CONTENTS);
	for (i = 0; i < PAGES; i++)
		if (!holds(mem + i * PAGE, (i + (i % 3 == round % 3)) %
			   CONTENTS))
			_exit(2);
	_exit(0);
}

/* The same while mm takes, moves and copies the pages. */
static void racing_mm(void)
{
	unsigned char *still = memory(PAGES), *to = memory(PAGES);
	unsigned long i, j, t, merged = 0, writes;
	int domain = domain_open();
	pid_t pids[4];
	double end;
	int status;

	if (access(CGROUP "/memory.reclaim", W_OK))
		TAP_SKIP_TEST("this kernel has no memory.reclaim");
	for (i = 0; i < PAGES; i++)
		fill(still + i * PAGE, i % CONTENTS);
	region_add(domain, still, PAGES * PAGE);
	region_add(domain, to, PAGES * PAGE);
	writers_start(domain);
	end = seconds() + ROUND_SECONDS;
	for (i = 0; i < ROUNDS && (!merged || seconds() < end); i++) {
		for (j = 0; j < 4; j++) {
			domain_scan(domain);
			file_write(CGROUP "/memory.reclaim", "2M");
			pids[j] = checker(still, i + j);
			TAP_CHECK(pids[j] > 0);
		}
		file_write("/proc/sys/vm/compact_memory", "1");
		if (i % 4 == 0) {
			unsigned char *from = still;

			still = mremap(from, PAGES * PAGE, PAGES * PAGE,
				       MREMAP_MAYMOVE | MREMAP_FIXED, to);
			TAP_CHECK(still == to);
			to = mmap(from, PAGES * PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			TAP_CHECK(to == from);
			madvise(to, PAGES * PAGE, MADV_NOHUGEPAGE);
		}
		for (j = 0; j < PAGES; j++)
			TAP_CHECK(holds(still + j * PAGE, j % CONTENTS));
		merged = stat_of(domain, 0).merged;
		for (j = 0; j < 4; j++) {
			TAP_EQ(pids[j], waitpid(pids[j], &status, 0));
			TAP_EQ(0, status);
		}
	}
	writes = writers_stop();
	TAP_CHECK(merged > 0);
	TAP_CHECK(writes > 0);
	printf("# %lu pages merged, %lu written\n", merged, writes);

	/* What is out comes back when it is looked at, and merges again. */
	for (t = 0; t < THREADS; t++)
		for (i = 0; i < PAGES; i++)
			TAP_CHECK(holds(writers[t].mem + i * PAGE,
					writers[t].seed[i]));
	for (i = 0; i < 3; i++)
		domain_scan(domain);
	TAP_EQ((THREADS + 1) * PAGES, stat_of(domain, 0).pages_shared +
	       stat_of(domain, 0).pages_sharing);
	close(domain);
	for (t = 0; t < THREADS; t++)
		munmap(writers[t].mem, PAGES * PAGE);
	munmap(still, PAGES * PAGE);
	munmap(to, PAGES * PAGE);
	file_wait(SYSFS "domains", 0);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{ "no write is lost, none goes astray", racing_writes },
		{ "nor while mm swaps, moves and forks the pages", racing_mm },
	};

	enter_cgroup();
	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
