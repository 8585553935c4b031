// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU time of the scanner per page and pass: memmerge and KSM in one boot, on
 * the same content, alternating. A measurement, not a test: it prints one JSON
 * object a line and judges nothing.
 *
 *	engine_cost [MEGABYTES [REPETITIONS]]
 */
#include <ctype.h>
#include <dirent.h>

#include "memmerge_test.h"

#define PASSES	3
#define KSM	"/sys/kernel/mm/ksm/"

static unsigned long pages;

enum content { RANDOM, TWICE, IDENTICAL, NEAR, CONTENTS };

static const char * const content_names[CONTENTS] = {
	"random", "every-page-twice", "identical", "last-8-bytes",
};

static void fill_area(unsigned char *mem, enum content content)
{
	unsigned long i;

	for (i = 0; i < pages; i++) {
		unsigned char *page = mem + i * PAGE;

		switch (content) {
		case RANDOM:
			fill(page, i + 1);
			break;
		case TWICE:
			fill(page, i % (pages / 2) + 1);
			break;
		case IDENTICAL:
			fill(page, 1);
			break;
		default:
			fill(page, 1);
			memcpy(page + PAGE - 8, &i, 8);
			break;
		}
	}
}

/* Thread id of a kernel thread, by its name. */
static int thread_id(const char *name)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	char path[300], comm[64];
	int found = 0;

	while (proc && !found && (entry = readdir(proc))) {
		FILE *file;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(comm, sizeof(comm), file)) {
			comm[strcspn(comm, "\n")] = 0;
			if (!strcmp(comm, name))
				found = atoi(entry->d_name);
		}
		fclose(file);
	}
	if (proc)
		closedir(proc);
	if (!found)
		tap_end(TAP_FAIL, "no thread %s", name);
	return found;
}

/* CPU time of a thread so far, nanoseconds. */
static long long thread_ns(int tid)
{
	char path[64], line[128];
	double ms = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/sched", tid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "se.sum_exec_runtime", 19))
			ms = atof(strchr(line, ':') + 1);
	if (file)
		fclose(file);
	if (ms < 0)
		tap_end(TAP_FAIL, "%s: no sum_exec_runtime (CONFIG_SCHED_DEBUG)", path);
	return ms * 1e6;
}

/* Let a scanner complete PASSES passes, and print the cost of each. */
static void measure(const char *engine, const char *run, const char *scans,
		    const char *sharing, enum content content, int repetition)
{
	int tid = thread_id(engine[0] == 'k' ? "ksmd" : "memmerged");
	double end = seconds() + 600;
	long long before, start;
	unsigned int pass;

	start = file_read(scans);
	before = thread_ns(tid);
	if (file_write(run, "1"))
		tap_end(TAP_FAIL, "%s", run);
	for (pass = 1; pass <= PASSES; pass++) {
		long long now;

		while (file_read(scans) < start + pass) {
			if (seconds() > end)
				tap_end(TAP_FAIL, "%s: no pass %u", engine, pass);
			usleep(1000);
		}
		now = thread_ns(tid);
		printf("{\"engine\": \"%s\", \"content\": \"%s\", ", engine,
		       content_names[content]);
		printf("\"pages\": %lu, \"repetition\": %d, \"pass\": %u, ",
		       pages, repetition, pass);
		printf("\"ns_per_page\": %.1f, \"pages_sharing\": %lld}\n",
		       (double)(now - before) / pages, file_read(sharing));
		fflush(stdout);
		before = now;
	}
	file_write(run, "0");
}

static void measure_ksm(enum content content, int repetition)
{
	unsigned char *mem = memory(pages);

	fill_area(mem, content);
	TAP_EQ(0, madvise(mem, pages * PAGE, MADV_MERGEABLE));
	measure("ksm", KSM "run", KSM "full_scans", KSM "pages_sharing",
		content, repetition);
	TAP_EQ(0, file_write(KSM "run", "2"));
	TAP_EQ(0, file_write(KSM "run", "0"));
	munmap(mem, pages * PAGE);
}

static void measure_memmerge(enum content content, int repetition)
{
	unsigned char *mem = memory(pages);
	int domain = domain_open();

	fill_area(mem, content);
	region_add(domain, mem, pages * PAGE);
	measure("memmerge", SYSFS "run", SYSFS "full_scans",
		SYSFS "pages_sharing", content, repetition);
	close(domain);
	munmap(mem, pages * PAGE);
	file_wait(SYSFS "domains", 0);
}

static unsigned long megabytes = 64;
static int repetitions = 3;

static void run_all(void)
{
	int content, repetition;
	char batch[32];

	pages = megabytes << 20 >> 12;
	/* A batch is a pass: both threads then stop at its end. */
	snprintf(batch, sizeof(batch), "%lu", pages);
	TAP_EQ(0, file_write(KSM "pages_to_scan", batch));
	TAP_EQ(0, file_write(SYSFS "pages_to_scan", batch));
	TAP_EQ(0, file_write(KSM "sleep_millisecs", "10"));
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "10"));
	for (repetition = 1; repetition <= repetitions; repetition++) {
		for (content = 0; content < CONTENTS; content++) {
			measure_ksm(content, repetition);
			measure_memmerge(content, repetition);
		}
	}
}

int main(int argc, char **argv)
{
	const struct tap_test all = { "cost", run_all };

	if (argc > 1)
		megabytes = strtoul(argv[1], NULL, 10);
	if (argc > 2)
		repetitions = atoi(argv[2]);
	if (!megabytes || repetitions < 1) {
		fprintf(stderr, "usage: %s [MEGABYTES [REPETITIONS]]\n", argv[0]);
		return 2;
	}
	if (tap_run(&all) != TAP_PASS) {
		fprintf(stderr, "%s\n", tap_reason);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
