// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the engine lets one see of itself: an event for each page, with its
 * address, frame and reason; how long locks are held. Needs tracefs, debugfs
 * and root.
 */
#include "memmerge_test.h"

#define PAGES		64UL
#define TRACING		"/sys/kernel/tracing/"
#define EVENTS		TRACING "events/memmerge/"
#define HOLDS		"/sys/kernel/debug/memmerge/hold_"
#define MAX_EVENTS	4096
#define METADATA_PAGES	16384UL

struct event {
	char name[16];
	unsigned int domain;
	uint64_t region, addr, pfn, zero, mappings, scanned, merged, zeroed, skipped;
	int pid;
	char reason[16];
};

static struct event events[MAX_EVENTS];
static unsigned int nr_events;

static void need_tracing(void)
{
	if (access(TRACING "trace", W_OK))
		TAP_SKIP_TEST("this kernel has no tracefs");
	TAP_EQ(0, file_write(EVENTS "enable", "0"));
	TAP_EQ(0, file_write(TRACING "trace", ""));
}

static uint64_t number(const char *line, const char *name)
{
	const char *at = strstr(line, name);

	return at ? strtoull(at + strlen(name), NULL, 0) : 0;
}

/* Read the events of a domain that have been recorded; others do not count. */
static void events_read(unsigned int domain)
{
	FILE *trace = fopen(TRACING "trace", "r");
	char line[512];

	TAP_CHECK(trace);
	nr_events = 0;
	while (fgets(line, sizeof(line), trace)) {
		const char *at = strstr(line, ": memmerge_");
		struct event *e = &events[nr_events];
		const char *reason;

		if (!at || line[0] == '#')
			continue;
		if (number(at, " domain=") != domain)
			continue;
		memset(e, 0, sizeof(*e));
		if (sscanf(at + strlen(": memmerge_"), "%15[^:]", e->name) != 1)
			continue;
		e->domain = domain;
		e->region = number(at, " region=");
		e->pid = number(at, " pid=");
		e->addr = number(at, " addr=");
		e->pfn = number(at, " pfn=");
		e->zero = number(at, " zero=");
		e->mappings = number(at, " mappings=");
		e->scanned = number(at, " scanned=");
		e->merged = number(at, " merged=");
		e->zeroed = number(at, " zeroed=");
		e->skipped = number(at, " skipped=");
		reason = strstr(at, " reason=");
		if (reason && sscanf(reason, " reason=%15s", e->reason) != 1)
			continue;
		if (++nr_events == MAX_EVENTS)
			break;
	}
	fclose(trace);
	TAP_CHECK(nr_events < MAX_EVENTS);
}

static unsigned int count(const char *name)
{
	unsigned int i, found = 0;

	for (i = 0; i < nr_events; i++)
		found += !strcmp(events[i].name, name);
	return found;
}

/* The only event of a name at an address. */
static const struct event *event_at(const char *name, const void *addr)
{
	const struct event *found = NULL;
	unsigned int i;

	for (i = 0; i < nr_events; i++) {
		if (strcmp(events[i].name, name) ||
		    events[i].addr != (uintptr_t)addr)
			continue;
		TAP_CHECK(!found);
		found = &events[i];
	}
	TAP_CHECK(found);
	return found;
}

static unsigned int domain_number(int domain)
{
	char path[64], line[128];
	unsigned int found = 0;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", domain);
	info = fopen(path, "r");
	TAP_CHECK(info);
	while (fgets(line, sizeof(line), info))
		sscanf(line, "memmerge-domain: %u", &found);
	fclose(info);
	TAP_CHECK(found);
	return found;
}

static void merges(void)
{
	struct pair p;
	unsigned long i;

	need_tracing();
	p = pair_new(PAGES, 1000);
	TAP_EQ(0, file_write(EVENTS "enable", "1"));
	domain_scan(p.domain);
	TAP_EQ(0, file_write(EVENTS "enable", "0"));
	events_read(domain_number(p.domain));

	TAP_EQ(2 * PAGES, count("merge"));
	for (i = 0; i < PAGES; i++) {
		const struct event *a = event_at("merge", p.a + i * PAGE);
		const struct event *b = event_at("merge", p.b + i * PAGE);

		TAP_EQ(p.id_a, a->region);
		TAP_EQ(p.id_b, b->region);
		TAP_EQ(pfn_of(p.a + i * PAGE), a->pfn);
		TAP_EQ(a->pfn, b->pfn);
		TAP_EQ(1, a->mappings);
		TAP_EQ(2, b->mappings);
		TAP_EQ(0, a->zero + b->zero);
		TAP_EQ(getpid(), a->pid);
	}
	TAP_EQ(0, count("unshare"));
	TAP_EQ(0, count("skip"));
	pair_free(&p);
}

static void passes(void)
{
	unsigned int i, seen = 0;
	struct pair p;

	need_tracing();
	p = pair_new(PAGES, 2000);
	TAP_EQ(0, file_write(EVENTS "memmerge_pass/enable", "1"));
	domain_scan(p.domain);
	TAP_EQ(0, file_write(EVENTS "enable", "0"));
	events_read(domain_number(p.domain));
	TAP_EQ(2, nr_events);
	TAP_EQ(2, count("pass"));
	for (i = 0; i < nr_events; i++) {
		TAP_EQ(PAGES, events[i].scanned);
		TAP_EQ(0, events[i].zeroed + events[i].skipped);
		/* The first of each pair is merged when the second is seen. */
		TAP_EQ(events[i].region == p.id_a ? 0 : 2 * PAGES,
		       events[i].merged);
		seen |= events[i].region == p.id_a ? 1 : 2;
	}
	TAP_EQ(3, seen);
	pair_free(&p);
}

static void unshared(void)
{
	const unsigned long step = 7;
	unsigned long i, written = 0;
	struct pair p;

	need_tracing();
	p = pair_new(PAGES, 3000);
	domain_scan(p.domain);
	for (i = 0; i < PAGES; i += step, written++)
		p.a[i * PAGE + 9] ^= 1;
	TAP_EQ(0, file_write(EVENTS "enable", "1"));
	domain_scan(p.domain);
	TAP_EQ(0, file_write(EVENTS "enable", "0"));
	events_read(domain_number(p.domain));
	TAP_EQ(written, count("unshare"));
	TAP_EQ(written, stat_of(p.domain, 0).unshared);
	for (i = 0; i < PAGES; i += step)
		TAP_EQ(p.id_a, event_at("unshare", p.a + i * PAGE)->region);
	TAP_EQ(0, count("merge"));
	pair_free(&p);
}

static void skips(void)
{
	unsigned char *locked, *absent, *shared, *zero;
	int domain;
	unsigned long i;

	need_tracing();
	locked = memory(4);
	absent = memory(2);
	zero = memory(3);
	shared = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TAP_CHECK(shared != MAP_FAILED);
	memset(locked, 1, 4 * PAGE);
	memset(shared, 1, 3 * PAGE);
	memset(zero, 1, 3 * PAGE);
	memset(zero, 0, 3 * PAGE);
	TAP_EQ(0, mlock(locked, 4 * PAGE));
	domain = domain_open();
	region_add(domain, locked, 4 * PAGE);
	region_add(domain, absent, 2 * PAGE);
	region_add(domain, shared, 3 * PAGE);
	region_add(domain, zero, 3 * PAGE);
	TAP_EQ(0, file_write(EVENTS "enable", "1"));
	domain_scan(domain);
	TAP_EQ(0, file_write(EVENTS "enable", "0"));
	events_read(domain_number(domain));
	TAP_EQ(9, count("skip"));
	for (i = 0; i < 4; i++)
		TAP_CHECK(!strcmp("locked", event_at("skip", locked + i * PAGE)->reason));
	for (i = 0; i < 2; i++)
		TAP_CHECK(!strcmp("absent", event_at("skip", absent + i * PAGE)->reason));
	for (i = 0; i < 3; i++) {
		TAP_CHECK(!strcmp("file", event_at("skip", shared + i * PAGE)->reason));
		TAP_EQ(1, event_at("merge", zero + i * PAGE)->zero);
	}
	TAP_EQ(3, count("merge"));
	close(domain);
	munmap(locked, 4 * PAGE);
	munmap(absent, 2 * PAGE);
	munmap(zero, 3 * PAGE);
	munmap(shared, 3 * PAGE);
}

/* What a histogram holds: holds, and whether it is consistent in itself. */
static uint64_t holds_of(const char *lock)
{
	unsigned long longest = 0, bound = 0, last = 0, held, sum = 0;
	char path[64], line[128];
	FILE *file;

	snprintf(path, sizeof(path), HOLDS "%s", lock);
	file = fopen(path, "r");
	if (!file)
		tap_end(TAP_FAIL, "%s: %s", path, strerror(errno));
	TAP_CHECK(fgets(line, sizeof(line), file));
	if (sscanf(line, "longest %lu", &longest) != 1)
		tap_end(TAP_FAIL, "%s: %s", path, line);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lu %lu", &bound, &held) != 2)
			tap_end(TAP_FAIL, "%s: %s", path, line);
		TAP_CHECK(bound > last && !(bound & (bound - 1)));
		TAP_CHECK(held > 0);
		last = bound;
		sum += held;
	}
	fclose(file);
	/* The longest is in the last bucket. */
	if (sum)
		TAP_CHECK(longest < bound && longest >= bound / 2);
	else
		TAP_EQ(0, longest);
	return sum;
}

static void holds_reset(void)
{
	static const char * const locks[] = { "domain", "mmap", "folio", "table" };
	char path[64];
	unsigned int i;

	for (i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), HOLDS "%s", locks[i]);
		TAP_EQ(0, file_write(path, "0"));
	}
}

static void lock_holds(void)
{
	struct pair p;

	if (access(HOLDS "domain", W_OK))
		TAP_SKIP_TEST("this kernel has no debugfs");
	p = pair_new(PAGES, 4000);
	holds_reset();
	TAP_EQ(0, holds_of("folio"));
	TAP_EQ(0, holds_of("table"));
	domain_scan(p.domain);
	/* One for a page or a run, and for each table that was looked at. */
	TAP_CHECK(holds_of("folio") >= 2 && holds_of("folio") <= 2 * PAGES);
	TAP_CHECK(holds_of("table") >= 2 && holds_of("table") <= 4);
	TAP_EQ(holds_of("table"), holds_of("mmap"));
	TAP_CHECK(holds_of("domain") >= 2);
	holds_reset();
	TAP_EQ(0, holds_of("folio"));
	pair_free(&p);
}

/* The CPU time of a domain is that of its regions. */
static void cpu_time(void)
{
	struct pair p = pair_new(PAGES, 5000);
	unsigned int i;

	/* The scheduler accounts by the tick. */
	for (i = 0; i < 10000 && !stat_of(p.domain, 0).cpu_ns; i++)
		domain_scan(p.domain);
	TAP_CHECK(stat_of(p.domain, 0).cpu_ns > 0);
	TAP_EQ(stat_of(p.domain, 0).cpu_ns,
	       stat_of(p.domain, p.id_a).cpu_ns +
	       stat_of(p.domain, p.id_b).cpu_ns);
	pair_free(&p);
}

/* Every page waits for an equal: that takes the most. */
static void metadata(void)
{
	unsigned char *mem = memory(METADATA_PAGES);
	long long before, bytes;
	unsigned long i;
	int domain;

	before = file_read(SYSFS "metadata_bytes");
	for (i = 0; i < METADATA_PAGES; i++)
		fill(mem + i * PAGE, 6000 + i);
	domain = domain_open();
	region_add(domain, mem, METADATA_PAGES * PAGE);
	domain_scan(domain);
	TAP_EQ(METADATA_PAGES, file_read(SYSFS "pages_unshared"));
	bytes = file_read(SYSFS "metadata_bytes") - before;
	if (bytes > 16 * (long long)METADATA_PAGES)
		tap_end(TAP_FAIL, "%lld bytes for %lu pages", bytes,
			METADATA_PAGES);
	close(domain);
	munmap(mem, METADATA_PAGES * PAGE);
	file_wait(SYSFS "domains", 0);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{ "an event for each page merged, with its frame", merges },
		{ "an event for each pass over a region", passes },
		{ "an event for each merged page found written", unshared },
		{ "an event for each page not merged, with the reason", skips },
		{ "lock holds are counted", lock_holds },
		{ "CPU time is counted by region", cpu_time },
		{ "what is remembered of a page takes 16 bytes", metadata },
	};

	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
