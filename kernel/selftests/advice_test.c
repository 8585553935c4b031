// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine in KSM's place: what madvise(), prctl(), /proc and the files of
 * KSM promise to programs that know nothing of this engine, and that both
 * engines, and advised and registered memory, stay apart.
 */
#include <dirent.h>
#include <limits.h>
#include <sys/prctl.h>

#include "memmerge_test.h"

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE	67
#define PR_GET_MEMORY_MERGE	68
#endif

#define PAGES		256UL
#define ZEROES		16UL
#define KSM		"/sys/kernel/mm/ksm/"
#define CHILD		"--child"

static const char *self;

static void choose(const char *engine)
{
	TAP_EQ(0, file_write(SYSFS "engine", engine));
}

/* From a known state: memmerge chosen, stopped, and nothing merged. */
static void begin(void)
{
	prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	TAP_EQ(0, file_write(KSM "run", "2"));
	choose("ksm");
	file_wait(SYSFS "domains", 0);
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "0"));
	TAP_EQ(0, file_write(SYSFS "smart_scan", "1"));
	TAP_EQ(0, file_write(SYSFS "use_zero_pages", "1"));
	TAP_EQ(0, file_write(SYSFS "max_page_sharing", "256"));
	choose("memmerge");
	TAP_EQ(0, file_read(SYSFS "pages_shared"));
	/* A process that has ended may still be on its way out. */
	file_wait(SYSFS "ksm_zero_pages", 0);
}

/* Nothing is left of it when KSM has been chosen again. */
static void end(void)
{
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	choose("ksm");
	file_wait(SYSFS "domains", 0);
	TAP_EQ(0, file_read(SYSFS "pages_shared"));
	TAP_EQ(0, file_read(SYSFS "pages_sharing"));
	TAP_EQ(0, file_read(SYSFS "metadata_bytes"));
	file_wait(SYSFS "ksm_zero_pages", 0);
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "20"));
}

/* Let the scanner make complete rounds, and stop it. */
static void scan_rounds(const char *dir, int rounds)
{
	char run[64], scans[64];
	double stop = seconds() + WAIT_SECONDS;
	long long goal;

	snprintf(run, sizeof(run), "%srun", dir);
	snprintf(scans, sizeof(scans), "%sfull_scans", dir);
	goal = file_read(scans) + rounds;
	TAP_EQ(0, file_write(run, "1"));
	while (file_read(scans) < goal) {
		if (seconds() > stop)
			tap_end(TAP_FAIL, "no full scan after %d s",
				WAIT_SECONDS);
		usleep(1000);
	}
	TAP_EQ(0, file_write(run, "0"));
}

/* A whole round, as the scanner may be in the middle of one. */
static void scan_round(void)
{
	scan_rounds(SYSFS, 2);
}

/*
 * User-Mode Linux takes a page table entry that was read-only before, as
 * unmerging leaves it, for changed when it is made read-only, and merges the
 * page in the next pass.
 */
static void scan_again(void)
{
	scan_rounds(SYSFS, 4);
}

/* Wait until a file holds at least a value; a bound, not a timing. */
static void file_wait_for(const char *path, long long want)
{
	double stop = seconds() + WAIT_SECONDS;
	long long got;

	while ((got = file_read(path)) < want) {
		if (seconds() > stop)
			tap_end(TAP_FAIL, "%s: want %lld, still %lld", path,
				want, got);
		usleep(1000);
	}
}

/* Two areas of equal content, page by page; no domain. */
static struct pair areas_new(unsigned long pages, uint64_t seed)
{
	struct pair p = {
		.a = memory(pages), .b = memory(pages), .pages = pages,
		.domain = -1,
	};
	unsigned long i;

	for (i = 0; i < pages; i++) {
		fill(p.a + i * PAGE, seed + i);
		fill(p.b + i * PAGE, seed + i);
	}
	return p;
}

static void areas_free(struct pair *p)
{
	munmap(p->a, p->pages * PAGE);
	munmap(p->b, p->pages * PAGE);
}

static void advise(const struct pair *p, int advice)
{
	TAP_EQ(0, madvise(p->a, p->pages * PAGE, advice));
	TAP_EQ(0, madvise(p->b, p->pages * PAGE, advice));
}

static long long line_of(const char *path, const char *name)
{
	FILE *file = fopen(path, "r");
	char line[128];
	long long value = -1;
	size_t length = strlen(name);

	TAP_CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, length) && line[length] == ' ')
			value = strtoll(line + length, NULL, 10);
	fclose(file);
	if (value == -1 && strcmp(name, "ksm_process_profit"))
		tap_end(TAP_FAIL, "no %s in %s", name, path);
	return value;
}

static long long my(const char *name)
{
	return line_of("/proc/self/ksm_stat", name);
}

static long long event(const char *name)
{
	return line_of("/proc/vmstat", name);
}

static bool engine_is(const char *text)
{
	char got[64] = "";
	int fd = open(SYSFS "engine", O_RDONLY);
	ssize_t length;

	TAP_CHECK(fd >= 0);
	length = read(fd, got, sizeof(got) - 1);
	close(fd);
	return length > 0 && !strcmp(got, text);
}

static void chosen_by_name(void)
{
	begin();
	TAP_CHECK(engine_is("ksm [memmerge]\n"));
	TAP_EQ(-EINVAL, file_write(SYSFS "engine", "other"));
	TAP_EQ(-EINVAL, file_write(SYSFS "engine", "\n"));
	TAP_CHECK(engine_is("ksm [memmerge]\n"));
	choose("memmerge\n");
	TAP_EQ(1, file_read(SYSFS "domains"));
	end();
	TAP_CHECK(engine_is("[ksm] memmerge\n"));
	choose("ksm\n");
	TAP_CHECK(engine_is("[ksm] memmerge\n"));
}

static void one_pass(void)
{
	struct pair p, others;
	long long cow;

	begin();
	p = areas_new(PAGES, 1000);
	others = areas_new(PAGES, 1000);
	advise(&p, MADV_MERGEABLE);
	scan_rounds(SYSFS, 1);
	TAP_EQ(PAGES, file_read(SYSFS "pages_shared"));
	TAP_EQ(PAGES, file_read(SYSFS "pages_sharing"));
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_EQ(0, pair_same_frames(&others));
	pair_holds(&p, 1000);
	/* KSM's scanner was not at work. */
	TAP_EQ(0, file_read(KSM "pages_shared"));

	cow = event("cow_ksm");
	write_same(p.a);
	TAP_EQ(cow + 1, event("cow_ksm"));
	TAP_EQ(PAGES - 1, file_read(SYSFS "pages_sharing"));
	pair_holds(&p, 1000);
	areas_free(&p);
	areas_free(&others);
	TAP_EQ(0, file_read(SYSFS "pages_shared"));
	end();
}

/* The host's limit of what may have to be unshared, to the page. */
static void limited(void)
{
	const unsigned long less = 5;
	long long refused;
	struct pair p;
	char text[32];

	begin();
	p = areas_new(PAGES, 1500);
	refused = file_read(SYSFS "pages_refused");
	snprintf(text, sizeof(text), "%lu", (PAGES - less) * PAGE);
	TAP_EQ(0, file_write(SYSFS "unshare_limit", text));
	advise(&p, MADV_MERGEABLE);
	scan_round();
	TAP_EQ(PAGES - less, file_read(SYSFS "pages_sharing"));
	TAP_EQ(PAGES - less, pair_same_frames(&p));
	TAP_CHECK(file_read(SYSFS "pages_refused") >=
		  refused + (long long)less);
	pair_holds(&p, 1500);

	TAP_EQ(0, file_write(SYSFS "unshare_limit", "-1"));
	scan_round();
	TAP_EQ(PAGES, pair_same_frames(&p));
	pair_holds(&p, 1500);
	areas_free(&p);
	end();
}

static void unadvised(void)
{
	unsigned char *zero;
	struct pair p;
	long long merged;
	unsigned long i, j;

	begin();
	p = areas_new(PAGES, 2000);
	zero = memory(ZEROES);
	memset(zero, 1, ZEROES * PAGE);
	memset(zero, 0, ZEROES * PAGE);
	advise(&p, MADV_MERGEABLE);
	TAP_EQ(0, madvise(zero, ZEROES * PAGE, MADV_MERGEABLE));
	scan_round();
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_EQ(ZEROES, file_read(SYSFS "ksm_zero_pages"));

	advise(&p, MADV_UNMERGEABLE);
	TAP_EQ(0, madvise(zero, ZEROES * PAGE, MADV_UNMERGEABLE));
	TAP_EQ(0, pair_same_frames(&p));
	TAP_EQ(0, file_read(SYSFS "pages_shared"));
	TAP_EQ(0, file_read(SYSFS "ksm_zero_pages"));
	for (i = 0; i < ZEROES; i++)
		for (j = 0; j < i; j++)
			TAP_CHECK(pfn_of(zero + i * PAGE) !=
				  pfn_of(zero + j * PAGE));
	pair_holds(&p, 2000);

	/* No pass takes it up again, and the entries are let go. */
	merged = file_read(SYSFS "pages_merged");
	scan_round();
	scan_round();
	TAP_EQ(merged, file_read(SYSFS "pages_merged"));
	TAP_EQ(0, pair_same_frames(&p));
	TAP_EQ(0, file_read(SYSFS "pages_unshared"));
	TAP_EQ(0, my("ksm_rmap_items"));
	TAP_EQ(0, my("ksm_merging_pages"));

	/* Until it is advised anew. */
	advise(&p, MADV_MERGEABLE);
	scan_again();
	TAP_EQ(PAGES, pair_same_frames(&p));
	areas_free(&p);
	munmap(zero, ZEROES * PAGE);
	end();
}

/* Half of a page table's pages, and of an area of which the rest stays. */
static void partly_unadvised(void)
{
	const unsigned long half = PAGES / 2;
	struct pair p;
	unsigned long i;

	begin();
	p = areas_new(PAGES, 2500);
	advise(&p, MADV_MERGEABLE);
	scan_round();
	TAP_EQ(0, madvise(p.a, half * PAGE, MADV_UNMERGEABLE));
	TAP_EQ(0, munmap(p.b, half * PAGE));
	TAP_EQ(half, file_read(SYSFS "pages_shared"));
	TAP_EQ(half, file_read(SYSFS "pages_sharing"));
	scan_round();
	TAP_EQ(PAGES, my("ksm_merging_pages"));
	TAP_EQ(0, file_read(SYSFS "pages_unshared"));
	for (i = 0; i < PAGES; i++)
		TAP_CHECK(holds(p.a + i * PAGE, 2500 + i));
	for (i = half; i < PAGES; i++)
		TAP_EQ(pfn_of(p.a + i * PAGE), pfn_of(p.b + i * PAGE));
	areas_free(&p);
	end();
}

static bool swapped(const void *addr)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	TAP_CHECK(fd >= 0);
	TAP_EQ(sizeof(entry), pread(fd, &entry, sizeof(entry),
				    (uintptr_t)addr / PAGE * sizeof(entry)));
	close(fd);
	return entry >> 62 & 1;
}

static void swap_out(const unsigned char *mem, unsigned long pages)
{
	double stop = seconds() + WAIT_SECONDS;
	unsigned long i, out;

	do {
		if (seconds() > stop)
			tap_end(TAP_FAIL, "not swapped out after %d s",
				WAIT_SECONDS);
		file_write(CGROUP "/memory.reclaim", "4M");
		for (i = 0, out = 0; i < pages; i++)
			out += swapped(mem + i * PAGE);
	} while (out < pages);
}

static void unadvised_in_swap(void)
{
	struct pair p;

	if (access(CGROUP "/memory.reclaim", W_OK))
		TAP_SKIP_TEST("this kernel has no memory.reclaim");
	begin();
	p = areas_new(PAGES, 3000);
	advise(&p, MADV_MERGEABLE);
	scan_round();
	TAP_EQ(PAGES, pair_same_frames(&p));
	swap_out(p.a, PAGES);
	swap_out(p.b, PAGES);
	advise(&p, MADV_UNMERGEABLE);
	pair_holds(&p, 3000);
	TAP_EQ(0, pair_same_frames(&p));
	TAP_EQ(0, file_read(SYSFS "pages_shared"));
	areas_free(&p);
	end();
}

/* In a process that never said madvise(): is its memory merged? */
static int merges_unasked(uint64_t seed)
{
	struct pair p = areas_new(PAGES, seed);
	unsigned long same;

	if (prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) != 1)
		return 10;
	scan_round();
	same = pair_same_frames(&p);
	pair_holds(&p, seed);
	areas_free(&p);
	return same == PAGES ? 0 : 11;
}

static void child_main(void)
{
	exit(merges_unasked(4300));
}

static void child_ends(pid_t pid, int want)
{
	int status;

	TAP_EQ(pid, waitpid(pid, &status, 0));
	TAP_CHECK(WIFEXITED(status));
	TAP_EQ(want, WEXITSTATUS(status));
}

/* Fork a child whose failed checks are its exit status. */
static pid_t child_of(void (*run)(void))
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		tap_end(TAP_FAIL, "fork: %s", strerror(errno));
	if (!pid) {
		struct tap_test test = { "child", run };

		if (tap_run(&test)) {
			fprintf(stderr, "# child: %s\n", tap_reason);
			_exit(12);
		}
		_exit(0);
	}
	return pid;
}

static void merges_after_fork(void)
{
	TAP_EQ(0, merges_unasked(4200));
}

static void exec_self(void)
{
	execl(self, self, CHILD, NULL);
	tap_end(TAP_FAIL, "%s: %s", self, strerror(errno));
}

/* Linux 6.1 does not know it. */
static void need_prctl(void)
{
	if (prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) < 0 && errno == EINVAL)
		TAP_SKIP_TEST("this kernel has no PR_SET_MEMORY_MERGE");
}

static void whole_process(void)
{
	struct pair p;

	need_prctl();
	begin();
	p = areas_new(PAGES, 4000);
	TAP_EQ(0, prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0));
	scan_round();
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_EQ(0, merges_unasked(4100));
	child_ends(child_of(merges_after_fork), 0);
	child_ends(child_of(exec_self), 0);
	TAP_EQ(0, prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0));
	TAP_EQ(0, prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0));
	TAP_EQ(0, pair_same_frames(&p));
	file_wait(SYSFS "pages_shared", 0);
	pair_holds(&p, 4000);
	areas_free(&p);
	end();
}

/* With arguments that take so long to copy that the engine sees it begin. */
static void exec_slowly(void)
{
	static char argument[100 << 10];
	char *arguments[12];
	unsigned int i;

	memset(argument, 'x', sizeof(argument) - 1);
	arguments[0] = (char *)self;
	arguments[1] = CHILD;
	for (i = 2; i < 11; i++)
		arguments[i] = argument;
	arguments[i] = NULL;
	execv(self, arguments);
	tap_end(TAP_FAIL, "%s: %s", self, strerror(errno));
}

/*
 * Its address space has no size yet when it is first heard of. One that is
 * never done with would stop the rounds of all.
 */
static void program_begins(void)
{
	unsigned int i;

	need_prctl();
	begin();
	TAP_EQ(0, prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0));
	scan_round();
	for (i = 0; i < 8; i++) {
		TAP_EQ(0, file_write(SYSFS "run", "1"));
		child_ends(child_of(exec_slowly), 0);
	}
	TAP_EQ(0, prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0));
	end();
}

static void apart(void)
{
	struct pair mine, advised;
	struct memmerge_stat stat;

	begin();
	mine = areas_new(PAGES, 5000);
	advised = areas_new(PAGES, 5000);
	mine.domain = domain_open();
	mine.id_a = region_add(mine.domain, mine.a, PAGES * PAGE);
	mine.id_b = region_add(mine.domain, mine.b, PAGES * PAGE);
	/* A registered range belongs to its domain, advised or not. */
	advise(&mine, MADV_MERGEABLE);
	advise(&advised, MADV_MERGEABLE);
	scan_round();
	domain_scan(mine.domain);
	stat = stat_of(mine.domain, 0);
	TAP_EQ(PAGES, stat.pages_shared);
	TAP_EQ(PAGES, stat.pages_sharing);
	TAP_EQ(0, stat.skip_foreign);
	TAP_EQ(2 * PAGES, file_read(SYSFS "pages_shared"));
	TAP_EQ(PAGES, pair_same_frames(&mine));
	TAP_EQ(PAGES, pair_same_frames(&advised));
	TAP_CHECK(pfn_of(mine.a) != pfn_of(advised.a));

	/* Taking back the advice is no business of the domain. */
	advise(&mine, MADV_UNMERGEABLE);
	advise(&advised, MADV_UNMERGEABLE);
	TAP_EQ(PAGES, pair_same_frames(&mine));
	TAP_EQ(0, pair_same_frames(&advised));

	/* Nor is the choice of the engine. */
	advise(&advised, MADV_MERGEABLE);
	scan_again();
	TAP_EQ(PAGES, pair_same_frames(&advised));
	choose("ksm");
	TAP_EQ(PAGES, pair_same_frames(&mine));
	TAP_EQ(0, pair_same_frames(&advised));
	pair_holds(&mine, 5000);
	pair_holds(&advised, 5000);
	pair_free(&mine);
	areas_free(&advised);
	end();
}

/* Registered after it was merged on advice: the domain gets it in a pass. */
static void registered_later(void)
{
	struct pair p;
	unsigned char *more;
	unsigned long i;

	begin();
	p = areas_new(PAGES, 5500);
	more = memory(PAGES);
	for (i = 0; i < PAGES; i++)
		fill(more + i * PAGE, 5500 + i);
	advise(&p, MADV_MERGEABLE);
	TAP_EQ(0, madvise(more, PAGES * PAGE, MADV_MERGEABLE));
	scan_round();
	TAP_EQ(PAGES, file_read(SYSFS "pages_shared"));
	TAP_EQ(2 * PAGES, file_read(SYSFS "pages_sharing"));

	p.domain = domain_open();
	p.id_a = region_add(p.domain, p.a, PAGES * PAGE);
	p.id_b = region_add(p.domain, p.b, PAGES * PAGE);
	domain_scan(p.domain);
	TAP_EQ(2 * PAGES, stat_of(p.domain, 0).skip_foreign);
	scan_again();
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_CHECK(pfn_of(p.a) != pfn_of(more));
	TAP_EQ(3 * PAGES, my("ksm_merging_pages"));
	pair_holds(&p, 5500);
	pair_free(&p);
	munmap(more, PAGES * PAGE);
	end();
}

static void both_ways(void)
{
	struct pair p;
	int i;

	begin();
	choose("ksm");
	TAP_EQ(0, file_write(KSM "sleep_millisecs", "0"));
	TAP_EQ(0, file_write(KSM "pages_to_scan", "1000"));
	p = areas_new(PAGES, 6000);
	/* Before KSM looks: two areas that it met in different scans it may skip in turn. */
	advise(&p, MADV_MERGEABLE);
	TAP_EQ(0, file_write(KSM "run", "1"));
	TAP_EQ(0, file_write(SYSFS "run", "1"));
	for (i = 0; i < 3; i++) {
		file_wait_for(KSM "pages_sharing", PAGES);
		TAP_EQ(0, file_read(SYSFS "pages_shared"));
		TAP_EQ(2 * PAGES, my("ksm_merging_pages"));
		pair_holds(&p, 6000);

		choose("memmerge");
		TAP_EQ(0, file_read(KSM "pages_shared"));
		TAP_EQ(1, file_read(KSM "run"));
		file_wait_for(SYSFS "pages_sharing", PAGES);
		TAP_EQ(PAGES, pair_same_frames(&p));
		TAP_EQ(0, file_read(KSM "pages_shared"));
		pair_holds(&p, 6000);

		/* KSM's run=2 is not meant for this engine's pages. */
		TAP_EQ(0, file_write(KSM "run", "2"));
		TAP_EQ(PAGES, file_read(SYSFS "pages_sharing"));
		TAP_EQ(0, file_write(KSM "run", "1"));

		choose("ksm");
		TAP_EQ(0, file_read(SYSFS "pages_shared"));
	}
	TAP_EQ(0, file_write(KSM "run", "2"));
	TAP_EQ(0, file_write(KSM "sleep_millisecs", "20"));
	TAP_EQ(0, file_write(KSM "pages_to_scan", "100"));
	pair_holds(&p, 6000);
	areas_free(&p);
	end();
}

static void holds_module(void)
{
	long long users;

	begin();
	choose("ksm");
	file_wait(SYSFS "domains", 0);
	users = file_read("/sys/module/memmerge/refcnt");
	choose("memmerge");
	TAP_EQ(users + 1, file_read("/sys/module/memmerge/refcnt"));
	TAP_EQ(-1, syscall(SYS_delete_module, "memmerge", O_NONBLOCK));
	TAP_EQ(EWOULDBLOCK, errno);
	end();
	TAP_EQ(users, file_read("/sys/module/memmerge/refcnt"));
}

/* Fork a child that waits until it is told to end. */
static pid_t child_start(int *wake)
{
	int fds[2];
	pid_t pid;

	TAP_EQ(0, pipe(fds));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		tap_end(TAP_FAIL, "fork: %s", strerror(errno));
	if (!pid) {
		char byte;

		_exit(read(fds[0], &byte, 1) != 1);
	}
	close(fds[0]);
	*wake = fds[1];
	return pid;
}

static void child_stop(pid_t pid, int wake)
{
	TAP_EQ(1, write(wake, "", 1));
	close(wake);
	child_ends(pid, 0);
}

/* Every process is told, and found, also those that fork() has made. */
static void unmerge_all(void)
{
	pid_t children[3];
	int wakes[3];
	struct pair p;
	unsigned int i, j;

	begin();
	p = areas_new(PAGES, 7000);
	advise(&p, MADV_MERGEABLE);
	scan_round();
	for (i = 0; i < 3; i++)
		children[i] = child_start(&wakes[i]);
	TAP_EQ(PAGES, file_read(SYSFS "pages_shared"));
	TAP_EQ(7 * PAGES, file_read(SYSFS "pages_sharing"));

	TAP_EQ(0, file_write(SYSFS "run", "2"));
	TAP_EQ(0, file_read(SYSFS "pages_shared"));
	TAP_EQ(0, file_read(SYSFS "pages_sharing"));
	for (i = 0; i < 3; i++)
		for (j = 0; j < PAGES; j++)
			TAP_CHECK(pfn_in(children[i], p.a + j * PAGE) !=
				  pfn_in(children[i], p.b + j * PAGE));
	pair_holds(&p, 7000);

	/* All of them merge again. */
	scan_again();
	TAP_EQ(PAGES, file_read(SYSFS "pages_shared"));
	TAP_EQ(7 * PAGES, file_read(SYSFS "pages_sharing"));
	TAP_EQ(4, file_read(SYSFS "regions"));
	for (i = 0; i < 3; i++)
		child_stop(children[i], wakes[i]);
	file_wait(SYSFS "regions", 1);
	areas_free(&p);
	end();
}

static void live_and_die(void)
{
	struct pair p = areas_new(64, 8000);

	madvise(p.a, p.pages * PAGE, MADV_MERGEABLE);
	madvise(p.b, p.pages * PAGE, MADV_MERGEABLE);
	usleep(rand() % 20000);
	pair_holds(&p, 8000);
	_exit(0);
}

static void any_child_ends(void)
{
	int status;

	TAP_CHECK(wait(&status) > 0);
	TAP_EQ(0, status);
}

static void processes_die(void)
{
	unsigned int i, running = 0;

	begin();
	TAP_EQ(0, file_write(SYSFS "run", "1"));
	for (i = 0; i < 200; i++) {
		pid_t pid;

		srand(i);
		fflush(stdout);
		pid = fork();
		if (!pid) {
			struct tap_test test = { "child", live_and_die };

			tap_run(&test);
			_exit(1);
		}
		TAP_CHECK(pid > 0);
		if (++running > 8) {
			any_child_ends();
			running--;
		}
	}
	while (running--)
		any_child_ends();
	file_wait(SYSFS "regions", 1);	/* this process */
	file_wait(SYSFS "pages_shared", 0);
	TAP_CHECK(file_read(SYSFS "full_scans") > 0);
	end();
}

static void figures_of_a_process(void)
{
	struct pair p;
	unsigned char *zero;
	int domain, wake;
	pid_t child;
	char path[64];
	long long metadata;

	begin();
	p = areas_new(PAGES, 9000);
	zero = memory(ZEROES);
	memset(zero, 1, ZEROES * PAGE);
	memset(zero, 0, ZEROES * PAGE);
	TAP_EQ(0, my("ksm_rmap_items"));
	TAP_EQ(0, my("ksm_process_profit"));
	advise(&p, MADV_MERGEABLE);
	TAP_EQ(0, madvise(zero, ZEROES * PAGE, MADV_MERGEABLE));
	scan_round();
	TAP_EQ(2 * PAGES, file_read("/proc/self/ksm_merging_pages"));
	TAP_EQ(2 * PAGES, my("ksm_merging_pages"));
	TAP_EQ(ZEROES, my("ksm_zero_pages"));
	TAP_EQ(2 * PAGES + ZEROES, my("ksm_rmap_items"));
	TAP_CHECK(my("ksm_process_profit") > 0);
	TAP_CHECK(my("ksm_process_profit") <
		  (long long)((2 * PAGES + ZEROES) * PAGE));

	/* A child begins without, but for what it has mapped. */
	child = child_start(&wake);
	snprintf(path, sizeof(path), "/proc/%d/ksm_stat", child);
	TAP_EQ(0, line_of(path, "ksm_merging_pages"));
	TAP_EQ(ZEROES, line_of(path, "ksm_zero_pages"));
	scan_round();
	TAP_EQ(2 * PAGES, line_of(path, "ksm_merging_pages"));
	child_stop(child, wake);
	TAP_EQ(ZEROES, file_read(SYSFS "ksm_zero_pages"));

	TAP_EQ(0, file_write(SYSFS "run", "2"));
	TAP_EQ(0, my("ksm_merging_pages"));
	TAP_EQ(0, my("ksm_zero_pages"));
	TAP_EQ(0, my("ksm_rmap_items"));
	advise(&p, MADV_UNMERGEABLE);
	TAP_EQ(0, madvise(zero, ZEROES * PAGE, MADV_UNMERGEABLE));
	choose("ksm");

	/* A registered range counts, whoever is chosen; see scan_again(). */
	domain = domain_open();
	region_add(domain, p.a, PAGES * PAGE);
	region_add(domain, p.b, PAGES * PAGE);
	domain_scan(domain);
	domain_scan(domain);
	TAP_EQ(2 * PAGES, my("ksm_merging_pages"));
	metadata = stat_of(domain, 1).metadata_bytes +
		   stat_of(domain, 2).metadata_bytes;
	TAP_EQ(2 * PAGES * PAGE - metadata, my("ksm_process_profit"));
	close(domain);
	TAP_EQ(0, my("ksm_merging_pages"));
	areas_free(&p);
	munmap(zero, ZEROES * PAGE);
	end();
}

/* Zero pages that a child inherits are counted when it does not know KSM. */
static void inherited_zero_pages(void)
{
	unsigned char *zero;
	int domain, wake;
	pid_t child;

	begin();
	zero = memory(ZEROES);
	memset(zero, 1, ZEROES * PAGE);
	memset(zero, 0, ZEROES * PAGE);
	domain = domain_open();
	region_add(domain, zero, ZEROES * PAGE);
	domain_scan(domain);
	TAP_EQ(ZEROES, file_read(SYSFS "ksm_zero_pages"));
	child = child_start(&wake);
	TAP_EQ(2 * ZEROES, file_read(SYSFS "ksm_zero_pages"));
	child_stop(child, wake);
	TAP_EQ(ZEROES, file_read(SYSFS "ksm_zero_pages"));
	close(domain);
	munmap(zero, ZEROES * PAGE);
	TAP_EQ(0, file_read(SYSFS "ksm_zero_pages"));
	end();
}

static void every_file(void)
{
	struct dirent *entry;
	unsigned int files = 0;
	DIR *dir;

	begin();
	dir = opendir(KSM);
	TAP_CHECK(dir);
	while ((entry = readdir(dir))) {
		char ksm[PATH_MAX], ours[PATH_MAX], text[64] = "";
		struct stat a, b;
		ssize_t length;
		int fd;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(ksm, sizeof(ksm), KSM "%s", entry->d_name);
		snprintf(ours, sizeof(ours), SYSFS "%s", entry->d_name);
		TAP_EQ(0, stat(ksm, &a));
		if (stat(ours, &b))
			tap_end(TAP_FAIL, "no %s", ours);
		TAP_EQ(a.st_mode, b.st_mode);
		fd = open(ours, O_RDONLY);
		TAP_CHECK(fd >= 0);
		length = read(fd, text, sizeof(text) - 1);
		close(fd);
		TAP_CHECK(length > 1 && text[length - 1] == '\n');
		/* What is read can be written; a mode reads as a choice. */
		if (b.st_mode & 0200 && strcmp(entry->d_name, "advisor_mode"))
			TAP_EQ(0, file_write(ours, text));
		files++;
	}
	closedir(dir);
	/* 6.1 has the fewest. */
	TAP_CHECK(files >= 14);
	end();
}

static void arithmetic(void)
{
	unsigned char *mem, *zero;
	unsigned long i;

	begin();
	TAP_EQ(0, file_write(SYSFS "max_page_sharing", "2"));
	mem = memory(8 + 3);
	for (i = 0; i < 8; i++)
		fill(mem + i * PAGE, 10000);
	for (; i < 8 + 3; i++)
		fill(mem + i * PAGE, 10000 + i);
	zero = memory(ZEROES);
	memset(zero, 1, ZEROES * PAGE);
	memset(zero, 0, ZEROES * PAGE);
	TAP_EQ(0, madvise(mem, (8 + 3) * PAGE, MADV_MERGEABLE));
	TAP_EQ(0, madvise(zero, ZEROES * PAGE, MADV_MERGEABLE));
	scan_round();
	TAP_EQ(4, file_read(SYSFS "pages_shared"));
	TAP_EQ(4, file_read(SYSFS "pages_sharing"));
	TAP_EQ(3, file_read(SYSFS "pages_unshared"));
	TAP_EQ(0, file_read(SYSFS "pages_volatile"));
	TAP_EQ(1, file_read(SYSFS "stable_node_chains"));
	TAP_EQ(4, file_read(SYSFS "stable_node_dups"));
	TAP_EQ(ZEROES, file_read(SYSFS "ksm_zero_pages"));
	TAP_EQ((4 + ZEROES) * PAGE - file_read(SYSFS "metadata_bytes"),
	       file_read(SYSFS "general_profit"));
	munmap(mem, (8 + 3) * PAGE);
	munmap(zero, ZEROES * PAGE);
	TAP_EQ(0, file_read(SYSFS "stable_node_chains"));
	TAP_EQ(0, file_read(SYSFS "stable_node_dups"));
	end();
}

static void advisor(void)
{
	long long pages = file_read(SYSFS "pages_to_scan");
	struct pair p;

	begin();
	TAP_EQ(-EINVAL, file_write(SYSFS "advisor_mode", "other"));
	TAP_EQ(0, file_write(SYSFS "advisor_mode", "scan-time"));
	TAP_EQ(file_read(SYSFS "advisor_min_pages_to_scan"),
	       file_read(SYSFS "pages_to_scan"));
	TAP_EQ(-EINVAL, file_write(SYSFS "pages_to_scan", "1234"));

	/* A round takes much less than 200 seconds: as few as allowed. */
	TAP_EQ(0, file_write(SYSFS "advisor_min_pages_to_scan", "10"));
	p = areas_new(PAGES, 10500);
	advise(&p, MADV_MERGEABLE);
	TAP_EQ(0, file_write(SYSFS "run", "1"));
	file_wait(SYSFS "pages_to_scan", 10);
	TAP_EQ(0, file_write(SYSFS "advisor_min_pages_to_scan", "20"));
	file_wait(SYSFS "pages_to_scan", 20);
	TAP_EQ(0, file_write(SYSFS "advisor_max_pages_to_scan", "15"));
	file_wait(SYSFS "pages_to_scan", 15);
	TAP_EQ(0, file_write(SYSFS "run", "0"));

	TAP_EQ(0, file_write(SYSFS "advisor_min_pages_to_scan", "500"));
	TAP_EQ(0, file_write(SYSFS "advisor_max_pages_to_scan", "30000"));
	TAP_EQ(0, file_write(SYSFS "advisor_mode", "none"));
	TAP_EQ(pages, file_read(SYSFS "pages_to_scan"));
	areas_free(&p);
	end();
}

/* use_zero_pages=0: pages of zeroes merge with each other. */
static void zeroes_as_others(void)
{
	unsigned char *zero;

	begin();
	TAP_EQ(0, file_write(SYSFS "use_zero_pages", "0"));
	zero = memory(ZEROES);
	memset(zero, 1, ZEROES * PAGE);
	memset(zero, 0, ZEROES * PAGE);
	TAP_EQ(0, madvise(zero, ZEROES * PAGE, MADV_MERGEABLE));
	scan_round();
	TAP_EQ(1, file_read(SYSFS "pages_shared"));
	TAP_EQ(ZEROES - 1, file_read(SYSFS "pages_sharing"));
	TAP_EQ(0, file_read(SYSFS "ksm_zero_pages"));
	munmap(zero, ZEROES * PAGE);
	end();
}

static void smart_scan(void)
{
	long long skipped;
	struct pair p;

	begin();
	p = areas_new(PAGES, 11000);
	advise(&p, MADV_MERGEABLE);
	scan_round();
	skipped = file_read(SYSFS "pages_skipped");
	/* For one pass the first time, for three the second time. */
	write_same(p.a);
	write_same(p.a + PAGE);
	scan_rounds(SYSFS, 3);
	TAP_EQ(skipped + 2, file_read(SYSFS "pages_skipped"));
	TAP_EQ(PAGES, pair_same_frames(&p));
	write_same(p.a);
	write_same(p.a + PAGE);
	scan_rounds(SYSFS, 5);
	TAP_EQ(skipped + 2 + 6, file_read(SYSFS "pages_skipped"));
	TAP_EQ(PAGES, pair_same_frames(&p));

	TAP_EQ(0, file_write(SYSFS "smart_scan", "0"));
	write_same(p.a);
	write_same(p.a + PAGE);
	scan_round();
	TAP_EQ(skipped + 2 + 6, file_read(SYSFS "pages_skipped"));
	TAP_EQ(PAGES, pair_same_frames(&p));
	areas_free(&p);
	end();
}

/* Address space costs nothing: two pages, 16 gigabytes apart. */
static void far_apart(void)
{
	const unsigned long pages = 1UL << 22;
	unsigned char *mem;
	long long empty;

	begin();
	mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		   MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED)
		tap_end(TAP_FAIL, "mmap: %s", strerror(errno));
	TAP_EQ(0, madvise(mem, pages * PAGE, MADV_MERGEABLE));
	scan_round();
	empty = file_read(SYSFS "metadata_bytes");
	fill(mem, 12000);
	fill(mem + (pages - 1) * PAGE, 12000);
	scan_round();
	TAP_EQ(1, file_read(SYSFS "pages_sharing"));
	TAP_EQ(pfn_of(mem), pfn_of(mem + (pages - 1) * PAGE));
	TAP_CHECK(file_read(SYSFS "metadata_bytes") < empty + (64 << 10));
	munmap(mem, pages * PAGE);
	scan_round();
	/* A reference that somebody has to the page keeps its chain a while. */
	file_wait(SYSFS "metadata_bytes", empty);
	end();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		/* First, while this process has not asked for merging. */
		{ "inherited zero pages are counted", inherited_zero_pages },
		{ "the engine is chosen by name", chosen_by_name },
		{ "advised memory merges in one pass", one_pass },
		{ "the guard's limit holds for advised memory", limited },
		{ "MADV_UNMERGEABLE gives back every page", unadvised },
		{ "of a part as well, and nothing remembers it",
		  partly_unadvised },
		{ "what is in swap then comes back unmerged",
		  unadvised_in_swap },
		{ "prctl() is for all memory, over fork and exec",
		  whole_process },
		{ "a program that begins while processes are scanned",
		  program_begins },
		{ "registered and advised memory stay apart", apart },
		{ "registering takes memory from the advised domain",
		  registered_later },
		{ "engines are switched both ways while they run", both_ways },
		{ "the chosen engine's module cannot be removed",
		  holds_module },
		{ "run=2 finds all processes, children too", unmerge_all },
		{ "processes that exit while they are scanned",
		  processes_die },
		{ "figures of a process", figures_of_a_process },
		{ "every file of KSM is there", every_file },
		{ "KSM's arithmetic", arithmetic },
		{ "the advisor sets pages_to_scan", advisor },
		{ "pages of zeroes as any other", zeroes_as_others },
		{ "smart_scan leaves alone what did not last", smart_scan },
		{ "address space that was never touched costs nothing",
		  far_apart },
	};
	int status;

	self = argv[0];
	if (argc > 1 && !strcmp(argv[1], CHILD)) {
		struct tap_test child = { "child", child_main };

		return tap_run(&child) ? 13 : 0;
	}
	enter_cgroup();
	status = tap_main(tests, sizeof(tests) / sizeof(tests[0]));
	/* The next program begins as this one did, also behind a failure. */
	file_write(SYSFS "run", "0");
	file_write(SYSFS "engine", "ksm");
	return status;
}
