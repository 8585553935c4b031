// SPDX-License-Identifier: GPL-2.0-only
/*
 * The overcommit guard, to the page: what a domain and the host may merge, what
 * counts, what happens when the limit moves.
 */
#include "memmerge_test.h"

#define PAGES		64UL
#define HOST_LIMIT	SYSFS "unshare_limit"
#define HOST_PERCENT	SYSFS "unshare_limit_percent"

static void domain_limit(int domain, uint64_t bytes)
{
	struct memmerge_limit arg = {
		.size = sizeof(arg), .unshare_bytes = bytes,
	};

	TAP_EQ(0, ioctl(domain, MEMMERGE_LIMIT, &arg));
	TAP_EQ(bytes, stat_of(domain, 0).unshare_limit);
}

static void host_limit(const char *file, long long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", value);
	TAP_EQ(0, file_write(file, text));
	TAP_EQ(value, file_read(file));
}

/* So that a test that fails leaves no limit to the next. */
static void no_limits(void)
{
	file_write(HOST_LIMIT, "-1");
	file_write(HOST_PERCENT, "-1");
}

/*
 * Domains that were closed a moment ago count for the host until they have been
 * looked at, which who reads the counter does.
 */
static void host_is_empty(void)
{
	TAP_EQ(0, file_read(SYSFS "unshare_demand"));
}

static void demand_is(int domain, unsigned long pages)
{
	struct memmerge_stat stat = stat_of(domain, 0);

	TAP_EQ(pages * PAGE, stat.unshare_demand);
	TAP_EQ(pages, stat.pages_sharing + stat.pages_mapped_zero);
}

static void starts_without(void)
{
	int domain = domain_open();

	TAP_EQ(-1, file_read(HOST_LIMIT));
	TAP_EQ(-1, file_read(HOST_PERCENT));
	TAP_CHECK(stat_of(domain, 0).unshare_limit == MEMMERGE_NO_LIMIT);
	TAP_CHECK(file_read(SYSFS "unshare_supply") > 0);
	TAP_EQ(0, file_read(SYSFS "unshare_demand"));
	close(domain);
}

static void of_a_domain(void)
{
	const unsigned long less = 5;
	long long refused = file_read(SYSFS "pages_refused");
	struct pair p = pair_new(PAGES, 1000);
	struct memmerge_scan scan;

	domain_limit(p.domain, (PAGES - less) * PAGE);
	domain_scan(p.domain);
	demand_is(p.domain, PAGES - less);
	TAP_EQ(PAGES - less, pair_same_frames(&p));
	TAP_EQ(less, stat_of(p.domain, 0).skip_guard);
	TAP_EQ(0, stat_of(p.domain, p.id_a).skip_guard);
	TAP_EQ(less, stat_of(p.domain, p.id_b).skip_guard);
	TAP_EQ(refused + (long long)less, file_read(SYSFS "pages_refused"));
	pair_holds(&p, 1000);

	/* At the limit nothing is tried: both of each pair are refused. */
	scan = domain_scan(p.domain);
	TAP_EQ(0, scan.merged);
	TAP_EQ(2 * less, scan.skipped);
	TAP_EQ(2 * less, stat_of(p.domain, 0).skip_guard);
	TAP_EQ(refused + 3 * (long long)less,
	       file_read(SYSFS "pages_refused"));

	/* Less than a page more is nothing more. */
	domain_limit(p.domain, (PAGES - less) * PAGE + PAGE - 1);
	domain_scan(p.domain);
	demand_is(p.domain, PAGES - less);

	domain_limit(p.domain, (PAGES - less + 1) * PAGE);
	domain_scan(p.domain);
	demand_is(p.domain, PAGES - less + 1);

	domain_limit(p.domain, MEMMERGE_NO_LIMIT);
	domain_scan(p.domain);
	demand_is(p.domain, PAGES);
	TAP_EQ(0, stat_of(p.domain, 0).skip_guard);
	TAP_EQ(PAGES, pair_same_frames(&p));
	pair_holds(&p, 1000);
	pair_free(&p);
}

/* Below what is merged: it stays merged, and nothing is added. */
static void lowered(void)
{
	struct pair p = pair_new(PAGES, 2000);
	unsigned char *more = memory(2);
	struct memmerge_stat stat;

	domain_scan(p.domain);
	demand_is(p.domain, PAGES);
	domain_limit(p.domain, 0);
	fill(more, 2999);
	fill(more + PAGE, 2999);
	region_add(p.domain, more, 2 * PAGE);
	domain_scan(p.domain);
	stat = stat_of(p.domain, 0);
	TAP_CHECK(stat.unshare_demand > stat.unshare_limit);
	TAP_EQ(2, stat.skip_guard);
	demand_is(p.domain, PAGES);
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_EQ(2 * PAGES, stat.pages_mapped_shared);
	pair_holds(&p, 2000);
	TAP_CHECK(holds(more, 2999) && holds(more + PAGE, 2999));

	domain_limit(p.domain, MEMMERGE_NO_LIMIT);
	domain_scan(p.domain);
	demand_is(p.domain, PAGES + 1);
	munmap(more, 2 * PAGE);
	pair_free(&p);
}

/* Who writes a page that maps the zero page needs a page, too. */
static void zero_pages(void)
{
	const unsigned long less = 3;
	unsigned char *mem = memory(PAGES);
	struct memmerge_scan scan;
	struct pair p;

	memset(mem, 1, PAGES * PAGE);
	memset(mem, 0, PAGES * PAGE);
	p = pair_new(PAGES, 3000);
	domain_scan(p.domain);
	region_add(p.domain, mem, PAGES * PAGE);
	domain_limit(p.domain, (2 * PAGES - less) * PAGE);
	scan = domain_scan(p.domain);
	TAP_EQ(PAGES - less, scan.zeroed);
	TAP_EQ(less, stat_of(p.domain, 0).skip_guard);
	demand_is(p.domain, 2 * PAGES - less);
	TAP_EQ((2 * PAGES - less) * PAGE, file_read(SYSFS "unshare_demand"));

	domain_limit(p.domain, MEMMERGE_NO_LIMIT);
	scan = domain_scan(p.domain);
	TAP_EQ(less, scan.zeroed);
	demand_is(p.domain, 2 * PAGES);

	/* To the host those of a domain that is gone count as well. */
	pair_free(&p);
	file_wait(SYSFS "domains", 0);
	TAP_EQ(PAGES * PAGE, file_read(SYSFS "unshare_demand"));
	mem[0] = 1;
	TAP_EQ((PAGES - 1) * PAGE, file_read(SYSFS "unshare_demand"));
	munmap(mem, PAGES * PAGE);
	TAP_EQ(0, file_read(SYSFS "unshare_demand"));
}

/* What is written makes room for what waits. */
static void room_again(void)
{
	const unsigned long less = 9, written = 4;
	struct pair p = pair_new(PAGES, 4000);
	unsigned long i;

	domain_limit(p.domain, (PAGES - less) * PAGE);
	domain_scan(p.domain);
	demand_is(p.domain, PAGES - less);
	for (i = 0; i < written; i++)
		fill(p.b + i * PAGE, 4900 + i);
	TAP_EQ(PAGES - less - written, stat_of(p.domain, 0).pages_sharing);
	domain_scan(p.domain);
	demand_is(p.domain, PAGES - less);
	TAP_EQ(PAGES - less, pair_same_frames(&p));
	TAP_EQ(written, stat_of(p.domain, 0).unshared);
	for (i = 0; i < written; i++) {
		TAP_CHECK(holds(p.b + i * PAGE, 4900 + i));
		fill(p.b + i * PAGE, 4000 + i);
	}
	pair_holds(&p, 4000);
	pair_free(&p);
}

/* A page that a child maps as well adds both mappings when it is merged. */
static void forked(void)
{
	const unsigned long limit = 21 * PAGE;
	struct pair p = pair_new(PAGES, 5000);
	int ends[2], status;
	unsigned int i;
	char c = 0;
	pid_t pid;

	TAP_CHECK(!pipe(ends));
	pid = fork();
	if (!pid) {
		close(ends[1]);
		if (read(ends[0], &c, 1) != 1)
			_exit(1);
		_exit(0);
	}
	close(ends[0]);
	domain_limit(p.domain, limit);
	/*
	 * User-Mode Linux takes more than one, see mm_test.c: there a page may
	 * have been made a shared one, and its equal not have joined it yet.
	 */
	for (i = 0; i < 3; i++) {
		domain_scan(p.domain);
		TAP_CHECK(stat_of(p.domain, 0).unshare_demand <= limit);
	}
	/* One more of each pair takes two, and the limit is odd. */
	TAP_CHECK(stat_of(p.domain, 0).unshare_demand >= limit - PAGE);
	pair_holds(&p, 5000);
	TAP_EQ(1, write(ends[1], &c, 1));
	TAP_EQ(pid, waitpid(pid, &status, 0));
	TAP_EQ(0, status);
	close(ends[1]);

	/* Its mappings are gone, and there is room again. */
	for (i = 0; i < 3; i++)
		domain_scan(p.domain);
	demand_is(p.domain, limit / PAGE);
	TAP_EQ(limit / PAGE, pair_same_frames(&p));
	pair_free(&p);
}

static void of_the_host(void)
{
	struct pair one = pair_new(PAGES, 6000), two = pair_new(PAGES, 6000);
	double end = seconds() + WAIT_SECONDS;

	host_is_empty();
	host_limit(HOST_LIMIT, (PAGES + PAGES / 4) * PAGE);
	domain_scan(one.domain);
	demand_is(one.domain, PAGES);
	domain_scan(two.domain);
	demand_is(two.domain, PAGES / 4);
	TAP_EQ(PAGES - PAGES / 4, stat_of(two.domain, 0).skip_guard);
	TAP_EQ((PAGES + PAGES / 4) * PAGE, file_read(SYSFS "unshare_demand"));

	/*
	 * What the first lets go is the second's, and it need not be told: no
	 * counter of the first is read here.
	 */
	munmap(one.a, PAGES / 2 * PAGE);
	do {
		domain_scan(two.domain);
	} while (stat_of(two.domain, 0).pages_sharing < PAGES - PAGES / 4 &&
		 seconds() < end);
	demand_is(two.domain, PAGES - PAGES / 4);
	TAP_EQ((PAGES + PAGES / 4) * PAGE, file_read(SYSFS "unshare_demand"));

	host_limit(HOST_LIMIT, 0);
	domain_scan(two.domain);
	demand_is(two.domain, PAGES - PAGES / 4);
	TAP_EQ(PAGES - PAGES / 4, pair_same_frames(&two));

	host_limit(HOST_LIMIT, -1);
	domain_scan(two.domain);
	demand_is(two.domain, PAGES);
	pair_holds(&two, 6000);
	close(one.domain);
	munmap(one.a + PAGES / 2 * PAGE, PAGES / 2 * PAGE);
	munmap(one.b, PAGES * PAGE);
	pair_free(&two);
}

static void percent(void)
{
	struct pair p = pair_new(PAGES, 7000);

	host_is_empty();
	host_limit(HOST_PERCENT, 0);
	domain_scan(p.domain);
	demand_is(p.domain, 0);
	TAP_EQ(2 * PAGES, stat_of(p.domain, 0).skip_guard);
	/* More than the supply is allowed, and the smaller limit counts. */
	host_limit(HOST_PERCENT, 10000);
	host_limit(HOST_LIMIT, PAGE);
	domain_scan(p.domain);
	demand_is(p.domain, 1);
	host_limit(HOST_LIMIT, -1);
	domain_scan(p.domain);
	demand_is(p.domain, PAGES);
	host_limit(HOST_PERCENT, -1);
	pair_holds(&p, 7000);
	pair_free(&p);
}

/* The scanner stops at the limit, and goes on when it is raised. */
static void scanner(void)
{
	struct pair p = pair_new(PAGES, 8000);
	long long rounds;

	host_is_empty();
	host_limit(HOST_LIMIT, PAGES / 2 * PAGE);
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "1"));
	TAP_EQ(0, file_write(SYSFS "run", "1"));
	file_wait(SYSFS "pages_sharing", PAGES / 2);
	rounds = file_read(SYSFS "full_scans");
	while (file_read(SYSFS "full_scans") < rounds + 3)
		usleep(10000);
	TAP_EQ(PAGES / 2, file_read(SYSFS "pages_sharing"));
	host_limit(HOST_LIMIT, -1);
	file_wait(SYSFS "pages_sharing", PAGES);
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "20"));
	pair_holds(&p, 8000);
	pair_free(&p);
}

/* A child has the zero pages of its parent, and takes none along. */
static void forked_zero(void)
{
	const char *all = "/sys/kernel/mm/ksm/ksm_zero_pages";
	unsigned char *mem = memory(PAGES), *kept = memory(PAGES);
	int domain = domain_open(), go[2], ready[2], status;
	long long before = file_read(all);
	char c = 0;
	pid_t pid;

	memset(mem, 1, PAGES * PAGE);
	memset(mem, 0, PAGES * PAGE);
	memset(kept, 1, PAGES * PAGE);
	memset(kept, 0, PAGES * PAGE);
	TAP_EQ(0, madvise(kept, PAGES * PAGE, MADV_DONTFORK));
	region_add(domain, mem, PAGES * PAGE);
	region_add(domain, kept, PAGES * PAGE);
	domain_scan(domain);
	TAP_EQ(before + 2 * (long long)PAGES, file_read(all));

	TAP_CHECK(!pipe(go) && !pipe(ready));
	pid = fork();
	if (!pid) {
		close(go[1]);
		mem[0] = 1;
		if (write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(1);
		_exit(0);
	}
	close(go[0]);
	TAP_EQ(1, read(ready[0], &c, 1));
	TAP_EQ(before + 3 * (long long)PAGES - 1, file_read(all));
	TAP_EQ((3 * PAGES - 1) * PAGE, file_read(SYSFS "unshare_demand"));
	TAP_EQ(1, write(go[1], &c, 1));
	TAP_EQ(pid, waitpid(pid, &status, 0));
	TAP_EQ(0, status);
	close(go[1]);
	close(ready[0]);
	close(ready[1]);

	TAP_EQ(before + 2 * (long long)PAGES, file_read(all));
	munmap(mem, PAGES * PAGE);
	munmap(kept, PAGES * PAGE);
	TAP_EQ(before, file_read(all));
	close(domain);
}

static void no_demand_left(void)
{
	no_limits();
	file_write(SYSFS "run", "0");
	nothing_left();
	TAP_EQ(0, file_read(SYSFS "unshare_demand"));
}

int main(void)
{
	static const struct tap_test tests[] = {
		{ "without limits, and with a supply", starts_without },
		{ "a domain merges up to its limit, and on when it is raised", of_a_domain },
		{ "a limit below what is merged adds and breaks nothing", lowered },
		{ "pages that map the zero page count", zero_pages },
		{ "what is written makes room for what waits", room_again },
		{ "mappings of forked children count", forked },
		{ "all domains merge up to the host's limit", of_the_host },
		{ "a limit in percent of the supply", percent },
		{ "the scanner stops at a limit, and goes on", scanner },
		{ "a child's zero pages are counted while it has them", forked_zero },
		{ "nothing is left behind", no_demand_left },
	};

	no_limits();
	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
