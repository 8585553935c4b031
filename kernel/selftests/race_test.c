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

static void racing_writes(void)
{
	static struct writer writers[THREADS];
	int domain = domain_open();
	unsigned long i, t, merged = 0, writes = 0;

	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "0"));
	for (t = 0; t < THREADS; t++) {
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
	for (i = 0; i < ROUNDS; i++)
		merged += domain_scan(domain).merged;
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	atomic_store(&stop, true);
	for (t = 0; t < THREADS; t++)
		pthread_join(writers[t].thread, NULL);
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "20"));

	for (t = 0; t < THREADS; t++) {
		TAP_EQ(0, writers[t].bad);
		for (i = 0; i < PAGES; i++)
			TAP_CHECK(holds(writers[t].mem + i * PAGE,
					writers[t].seed[i]));
		writes += writers[t].writes;
	}
	/* Without both there was no race. */
	TAP_CHECK(merged > 0);
	TAP_CHECK(writes > 0);
	printf("# %lu pages merged, %lu written\n", merged, writes);

	/* With no writer left everything merges. */
	domain_scan(domain);
	domain_scan(domain);
	TAP_EQ(CONTENTS, stat_of(domain, 0).pages_shared);
	TAP_EQ(THREADS * PAGES - CONTENTS, stat_of(domain, 0).pages_sharing);
	close(domain);
	for (t = 0; t < THREADS; t++)
		munmap(writers[t].mem, PAGES * PAGE);
	file_wait(SYSFS "domains", 0);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{ "no write is lost, none goes astray", racing_writes },
	};

	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
