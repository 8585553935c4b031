// SPDX-License-Identifier: GPL-2.0-only
/*
 * Merged pages and the rest of mm: reclaim and swap, forked children, moved
 * memory, compaction, memory failure. Counters, page tables and content are
 * exact whatever happens to the pages.
 *
 * Needs cgroup v2 at /sys/fs/cgroup, to reclaim the memory of this program
 * alone, and a swap device.
 */
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/swap.h>

#include "memmerge_test.h"

#define PAGES		256UL
#define PM_SWAPPED	0x4000000000000000ULL

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

static char swap_device[64];

static void need_swap(void)
{
	if (!swap_device[0])
		TAP_SKIP_TEST("this kernel has no swap device");
	if (access(CGROUP "/memory.reclaim", W_OK))
		TAP_SKIP_TEST("this kernel has no memory.reclaim");
}

static bool swapped_in(pid_t pid, const void *addr)
{
	char path[64];
	uint64_t entry;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	fd = open(path, O_RDONLY);
	TAP_CHECK(fd >= 0);
	got = pread(fd, &entry, sizeof(entry),
		    (uintptr_t)addr / PAGE * sizeof(entry));
	close(fd);
	TAP_EQ(sizeof(entry), got);
	return entry & PM_SWAPPED;
}

static unsigned long count_swapped(pid_t pid, const unsigned char *mem,
				   unsigned long pages)
{
	unsigned long i, count = 0;

	for (i = 0; i < pages; i++)
		count += swapped_in(pid, mem + i * PAGE);
	return count;
}

/* Reclaim until @pages pages at @mem of a process are out; a bound in time. */
static void swap_out(pid_t pid, const unsigned char *mem, unsigned long pages)
{
	double end = seconds() + WAIT_SECONDS;
	unsigned long out;

	while ((out = count_swapped(pid, mem, pages)) < pages) {
		if (seconds() > end)
			tap_end(TAP_FAIL, "%lu of %lu pages swapped after %d s",
				out, pages, WAIT_SECONDS);
		/* Less than was asked for is EAGAIN, and some progress. */
		file_write(CGROUP "/memory.reclaim", "4M");
	}
}

static void swap_out_pair(const struct pair *p)
{
	swap_out(getpid(), p->a, p->pages);
	swap_out(getpid(), p->b, p->pages);
}

static void swap_and_back(void)
{
	struct memmerge_scan scan;
	struct memmerge_stat stat;
	struct pair p;

	need_swap();
	p = pair_new(PAGES, 1000);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);

	swap_out_pair(&p);
	stat = stat_of(p.domain, 0);
	TAP_EQ(0, stat.pages_shared);
	TAP_EQ(0, stat.pages_sharing);
	domain_scan(p.domain);
	stat = stat_of(p.domain, 0);
	TAP_EQ(2 * PAGES, stat.skip_swapped);
	TAP_EQ(0, stat.skip_absent);

	pair_holds(&p, 1000);
	scan = domain_scan(p.domain);
	TAP_EQ(0, scan.skipped);
	stat = stat_of(p.domain, 0);
	TAP_EQ(PAGES, stat.pages_shared);
	TAP_EQ(PAGES, stat.pages_sharing);
	TAP_EQ(2 * PAGES, stat.pages_mapped_shared);
	TAP_EQ(PAGES, pair_same_frames(&p));
	/* Coming back from swap is no write: nothing is left alone for it. */
	TAP_EQ(0, stat.unshared);
	TAP_EQ(0, stat.pages_volatile);
	pair_holds(&p, 1000);
	pair_free(&p);
}

/* No scan sees the page tables while the pages are out. */
static void swap_unseen(void)
{
	struct memmerge_stat stat;
	struct pair p;
	unsigned long i;

	need_swap();
	p = pair_new(PAGES, 2000);
	domain_scan(p.domain);
	swap_out_pair(&p);
	pair_holds(&p, 2000);
	for (i = 0; i < PAGES; i += 4)
		p.a[i * PAGE] ^= 1;
	domain_scan(p.domain);
	stat = stat_of(p.domain, 0);
	TAP_EQ(PAGES - PAGES / 4, stat.pages_sharing);
	/* What was written while merged counts, what came back does not. */
	TAP_EQ(PAGES / 4, stat.unshared);
	for (i = 0; i < PAGES; i += 4)
		p.a[i * PAGE] ^= 1;
	pair_holds(&p, 2000);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	pair_free(&p);
}

static void swap_and_write(void)
{
	struct pair p;
	unsigned long i;

	need_swap();
	p = pair_new(PAGES, 3000);
	domain_scan(p.domain);
	swap_out_pair(&p);
	for (i = 0; i < PAGES; i++)
		p.a[i * PAGE + 7] ^= 1;
	for (i = 0; i < PAGES; i++)
		TAP_CHECK(holds(p.b + i * PAGE, 3000 + i));
	for (i = 0; i < PAGES; i++)
		p.a[i * PAGE + 7] ^= 1;
	pair_holds(&p, 3000);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	pair_holds(&p, 3000);
	pair_free(&p);
}

/*
 * User-Mode Linux takes a page table entry that was read-only before for
 * changed when it is made read-only, and merges the page in the next pass.
 */
static void scan_read_only(int domain)
{
	domain_scan(domain);
	domain_scan(domain);
}

/*
 * Who says MADV_FREE gives up the content of a page that only he maps. Who
 * joins the page after that has not given up anything.
 */
static void freed_by_one(void)
{
	struct pair p;
	unsigned long i;

	need_swap();
	p = pair_new(PAGES, 4500);
	domain_scan(p.domain);
	for (i = 0; i < PAGES; i++)
		write_same(p.b + i * PAGE);
	TAP_EQ(0, madvise(p.a, PAGES * PAGE, MADV_FREE));
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	swap_out(getpid(), p.b, PAGES);
	for (i = 0; i < PAGES; i++)
		TAP_CHECK(holds(p.b + i * PAGE, 4500 + i));
	pair_free(&p);
}

static void swap_off(void)
{
	struct pair p;

	need_swap();
	p = pair_new(PAGES, 4000);
	domain_scan(p.domain);
	swap_out_pair(&p);
	TAP_EQ(0, swapoff(swap_device));
	TAP_EQ(0, count_swapped(getpid(), p.a, PAGES));
	TAP_EQ(0, swapon(swap_device, 0));
	pair_holds(&p, 4000);
	scan_read_only(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(0, stat_of(p.domain, 0).unshared);
	pair_free(&p);
}

static void unmerge_swapped(void)
{
	struct memmerge_scan arg = { .size = sizeof(arg) };
	struct memmerge_stat stat;
	struct pair p;

	need_swap();
	p = pair_new(PAGES, 5000);
	domain_scan(p.domain);
	swap_out_pair(&p);
	TAP_EQ(0, ioctl(p.domain, MEMMERGE_UNMERGE, &arg));
	TAP_EQ(0, arg.merged);
	pair_holds(&p, 5000);
	stat = stat_of(p.domain, 0);
	TAP_EQ(0, stat.pages_shared);
	TAP_EQ(0, stat.pages_sharing);
	TAP_EQ(0, pair_same_frames(&p));
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(0, stat_of(p.domain, 0).unshared);
	pair_holds(&p, 5000);
	pair_free(&p);
}

static long long cgroup_anon(void)
{
	FILE *file = fopen(CGROUP "/memory.stat", "r");
	char line[128];
	long long anon = -1;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		sscanf(line, "anon %lld", &anon);
	fclose(file);
	return anon;
}

static void accounted(void)
{
	const unsigned long pages = 2048, slack = 128;
	long long empty, full, merged;
	struct pair p;

	need_swap();
	empty = cgroup_anon();
	p = pair_new(pages, 6000);
	full = cgroup_anon();
	domain_scan(p.domain);
	TAP_EQ(pages, stat_of(p.domain, 0).pages_sharing);
	merged = cgroup_anon();
	/* One page of each two is still charged; counters may lag a little. */
	TAP_CHECK(full - empty > (long long)((2 * pages - slack) * PAGE));
	TAP_CHECK(merged - empty > (long long)((pages - slack) * PAGE));
	TAP_CHECK(merged - empty < (long long)((pages + slack) * PAGE));
	pair_free(&p);
}

/* A process that holds what it was forked with; does one thing on request. */
struct child {
	pid_t pid;
	int go, ready;
};

static struct child child_new(void (*first)(void *arg),
			      void (*work)(void *arg), void *arg)
{
	struct child child;
	int go[2], ready[2];
	char c = 0;

	TAP_CHECK(!pipe(go) && !pipe(ready));
	child.pid = fork();
	TAP_CHECK(child.pid >= 0);
	if (!child.pid) {
		close(go[1]);
		close(ready[0]);
		if (first)
			first(arg);
		if (write(ready[1], &c, 1) != 1)
			_exit(1);
		/* The end of the pipe is a request to end, too. */
		if (read(go[0], &c, 1) == 1 && work)
			work(arg);
		_exit(0);
	}
	close(go[0]);
	close(ready[1]);
	child.go = go[1];
	child.ready = ready[0];
	TAP_EQ(1, read(child.ready, &c, 1));
	return child;
}

static int child_end(struct child *child)
{
	int status = -1;
	char c = 0;

	if (write(child->go, &c, 1) != 1)
		return -1;
	waitpid(child->pid, &status, 0);
	close(child->go);
	close(child->ready);
	return status;
}

struct expect {
	struct pair *pair;
	uint64_t seed;
};

static void check_pair(void *arg)
{
	struct expect *want = arg;
	unsigned long i;

	for (i = 0; i < want->pair->pages; i++)
		if (!holds(want->pair->a + i * PAGE, want->seed + i) ||
		    !holds(want->pair->b + i * PAGE, want->seed + i))
			_exit(2);
}

/* What is unmerged is clean, and after a fork() both have it. */
static void freed_by_parent(void)
{
	struct memmerge_scan arg = { .size = sizeof(arg) };
	struct expect want;
	struct child child;
	struct pair p;

	need_swap();
	p = pair_new(PAGES, 4700);
	want = (struct expect){ &p, 4700 };
	domain_scan(p.domain);
	TAP_EQ(0, ioctl(p.domain, MEMMERGE_UNMERGE, &arg));
	TAP_EQ(2 * PAGES, arg.merged);
	child = child_new(NULL, check_pair, &want);
	TAP_EQ(0, madvise(p.a, PAGES * PAGE, MADV_FREE));
	TAP_EQ(0, madvise(p.b, PAGES * PAGE, MADV_FREE));
	swap_out(child.pid, p.a, PAGES);
	swap_out(child.pid, p.b, PAGES);
	TAP_EQ(0, child_end(&child));
	pair_free(&p);
}

static void fork_and_swap(void)
{
	struct expect want;
	struct child child;
	struct pair p;

	need_swap();
	p = pair_new(PAGES, 7000);
	want = (struct expect){ &p, 7000 };
	domain_scan(p.domain);
	child = child_new(NULL, check_pair, &want);
	TAP_EQ(3 * PAGES, stat_of(p.domain, 0).pages_sharing);
	swap_out_pair(&p);
	swap_out(child.pid, p.a, PAGES);
	swap_out(child.pid, p.b, PAGES);
	TAP_EQ(0, stat_of(p.domain, 0).pages_shared);
	pair_holds(&p, 7000);
	TAP_EQ(0, child_end(&child));
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(0, stat_of(p.domain, 0).unshared);
	pair_holds(&p, 7000);
	pair_free(&p);
}

/* The parent writes all, scans, and the child's mappings must still be found. */
static void written_behind_child(void)
{
	struct memmerge_stat stat;
	struct expect want;
	struct child child;
	struct pair p;
	unsigned long i;

	need_swap();
	p = pair_new(PAGES, 8000);
	want = (struct expect){ &p, 8000 };
	domain_scan(p.domain);
	child = child_new(NULL, check_pair, &want);
	for (i = 0; i < PAGES; i++) {
		fill(p.a + i * PAGE, 8500 + i);
		fill(p.b + i * PAGE, 8500 + i);
	}
	domain_scan(p.domain);
	domain_scan(p.domain);
	stat = stat_of(p.domain, 0);
	TAP_EQ(2 * PAGES, stat.unshared);
	TAP_EQ(2 * PAGES, stat.skip_busy);
	TAP_EQ(PAGES, stat.pages_shared);
	TAP_EQ(PAGES, stat.pages_sharing);
	swap_out(child.pid, p.a, PAGES);
	swap_out(child.pid, p.b, PAGES);
	pair_holds(&p, 8500);
	TAP_EQ(0, child_end(&child));

	/* With the child the reason to leave the pages alone is gone. */
	domain_scan(p.domain);
	stat = stat_of(p.domain, 0);
	TAP_EQ(PAGES, stat.pages_shared);
	TAP_EQ(PAGES, stat.pages_sharing);
	TAP_EQ(2 * PAGES, stat.unshared);
	pair_holds(&p, 8500);
	pair_free(&p);
}

static void moved(void)
{
	unsigned char *to;
	struct pair p;

	need_swap();
	p = pair_new(PAGES, 9000);
	domain_scan(p.domain);
	to = mremap(p.a, PAGES * PAGE, PAGES * PAGE,
		    MREMAP_MAYMOVE | MREMAP_FIXED, memory(PAGES));
	TAP_CHECK(to != MAP_FAILED);
	/* Still merged, and a scan of where it was does not lose it. */
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	p.a = to;
	TAP_EQ(PAGES, pair_same_frames(&p));
	swap_out_pair(&p);
	pair_holds(&p, 9000);

	/* Registered where it is now, it is merged there. */
	region_add(p.domain, p.a, PAGES * PAGE);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	to = mremap(p.a, PAGES * PAGE, PAGES * PAGE,
		    MREMAP_MAYMOVE | MREMAP_FIXED, memory(PAGES));
	TAP_CHECK(to != MAP_FAILED);
	p.a = to;
	swap_out_pair(&p);
	pair_holds(&p, 9000);
	pair_free(&p);
}

static void region_gone(void)
{
	struct pair p;

	need_swap();
	p = pair_new(PAGES, 10000);
	domain_scan(p.domain);
	TAP_EQ(0, region_remove(p.domain, p.id_a, 0));
	TAP_EQ(0, region_remove(p.domain, p.id_b, 0));
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	swap_out_pair(&p);
	TAP_EQ(0, stat_of(p.domain, 0).pages_shared);
	pair_holds(&p, 10000);

	/* Registered again, with other entries for the same pages. */
	region_add(p.domain, p.a, PAGES * PAGE);
	region_add(p.domain, p.b, PAGES * PAGE);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(PAGES, pair_same_frames(&p));
	pair_holds(&p, 10000);
	pair_free(&p);
}

static void domain_gone(void)
{
	struct pair p;

	need_swap();
	p = pair_new(PAGES, 11000);
	domain_scan(p.domain);
	close(p.domain);
	TAP_EQ(PAGES, file_read(SYSFS "pages_sharing"));
	swap_out_pair(&p);
	TAP_EQ(0, file_read(SYSFS "pages_sharing"));
	/* Nothing of the engine's is left, though all is only swapped out. */
	file_wait(SYSFS "domains", 0);
	pair_holds(&p, 11000);
	TAP_EQ(0, pair_same_frames(&p));
	p.domain = -1;
	pair_free(&p);
}

/*
 * Who still has a page out in swap that was shared gets it back at a place that
 * nothing knows, if the page is made a shared one again meanwhile.
 */
static void shared_while_out(void)
{
	unsigned char *c = memory(PAGES);
	unsigned long i;
	struct pair p;

	need_swap();
	p = pair_new(PAGES, 14000);
	domain_scan(p.domain);
	swap_out_pair(&p);
	for (i = 0; i < PAGES; i++) {
		TAP_CHECK(holds(p.a + i * PAGE, 14000 + i));
		fill(c + i * PAGE, 14000 + i);
	}
	region_add(p.domain, c, PAGES * PAGE);
	domain_scan(p.domain);
	for (i = 0; i < PAGES; i++) {
		TAP_CHECK(holds(p.b + i * PAGE, 14000 + i));
		fill(p.a + i * PAGE, 14300 + i);
		fill(c + i * PAGE, 14600 + i);
	}
	domain_scan(p.domain);
	TAP_EQ(0, stat_of(p.domain, 0).pages_sharing);
	swap_out(getpid(), p.b, PAGES);
	for (i = 0; i < PAGES; i++) {
		TAP_CHECK(holds(p.b + i * PAGE, 14000 + i));
		fill(p.a + i * PAGE, 14000 + i);
		fill(c + i * PAGE, 14000 + i);
	}
	scan_read_only(p.domain);
	TAP_EQ(2 * PAGES, stat_of(p.domain, 0).pages_sharing);
	pair_holds(&p, 14000);
	pair_free(&p);
	munmap(c, PAGES * PAGE);
}

/* Processes that register, fork, and exit, while the grandchild maps all. */
static void process_gone(void)
{
	struct {
		atomic_uintptr_t a, b;
		atomic_int grandchild, stage, bad;
	} *shared;
	int domain = domain_open();
	double end = seconds() + WAIT_SECONDS;
	int status, pidfd;
	unsigned long i;
	pid_t pid;

	need_swap();
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TAP_CHECK(shared != MAP_FAILED);
	pid = fork();
	if (!pid) {
		unsigned char *a = memory(PAGES), *b = memory(PAGES);

		close(domain);
		for (i = 0; i < PAGES; i++) {
			fill(a + i * PAGE, 12000 + i);
			fill(b + i * PAGE, 12000 + i);
		}
		shared->a = (uintptr_t)a;
		shared->b = (uintptr_t)b;
		shared->stage = 1;
		while (shared->stage != 2)
			usleep(1000);
		shared->grandchild = fork();
		if (shared->grandchild)
			_exit(0);
		shared->grandchild = getpid();
		shared->stage = 3;
		while (shared->stage != 4)
			usleep(1000);
		for (i = 0; i < PAGES; i++)
			if (!holds(a + i * PAGE, 12000 + i) ||
			    !holds(b + i * PAGE, 12000 + i))
				shared->bad++;
		shared->stage = 5;
		while (shared->stage != 6)
			usleep(1000);
		_exit(0);
	}
	while (shared->stage != 1 && seconds() < end)
		usleep(1000);
	TAP_EQ(1, shared->stage);
	pidfd = pidfd_of(pid);
	TAP_EQ(0, region_try(domain, pidfd, (void *)shared->a, PAGES * PAGE, NULL));
	TAP_EQ(0, region_try(domain, pidfd, (void *)shared->b, PAGES * PAGE, NULL));
	close(pidfd);
	domain_scan(domain);
	TAP_EQ(PAGES, stat_of(domain, 0).pages_sharing);
	shared->stage = 2;
	TAP_EQ(pid, waitpid(pid, &status, 0));
	while (shared->stage != 3 && seconds() < end)
		usleep(1000);
	TAP_EQ(3, shared->stage);
	file_wait(SYSFS "regions", 0);

	/* The process has gone, its pages and their reverse map have not. */
	TAP_EQ(PAGES, stat_of(domain, 0).pages_shared);
	TAP_EQ(PAGES, stat_of(domain, 0).pages_sharing);
	close(domain);
	swap_out(shared->grandchild, (void *)shared->a, PAGES);
	swap_out(shared->grandchild, (void *)shared->b, PAGES);
	TAP_EQ(0, file_read(SYSFS "pages_shared"));
	shared->stage = 4;
	end = seconds() + WAIT_SECONDS;
	while (shared->stage != 5 && seconds() < end)
		usleep(1000);
	TAP_EQ(5, shared->stage);
	TAP_EQ(0, shared->bad);
	shared->stage = 6;
	munmap(shared, PAGE);
	file_wait(SYSFS "domains", 0);
}

/* A page that was forked before it was first merged keeps all its mappings. */
static void forked_before(void)
{
	struct expect want;
	struct child child;
	struct pair p;

	need_swap();
	p = pair_new(PAGES, 13000);
	want = (struct expect){ &p, 13000 };
	child = child_new(NULL, check_pair, &want);
	scan_read_only(p.domain);
	TAP_EQ(PAGES, pair_same_frames(&p));
	swap_out_pair(&p);
	swap_out(child.pid, p.a, PAGES);
	swap_out(child.pid, p.b, PAGES);
	pair_holds(&p, 13000);
	TAP_EQ(0, child_end(&child));
	pair_holds(&p, 13000);
	pair_free(&p);
}

/*
 * Merged pages with holes between them: compaction moves them, if it can. Not
 * which pages it moves is tested, but that some are, and what they are then.
 */
static void compacted(void)
{
	const unsigned long pages = 4096, filler_pages = 8 * pages;
	unsigned char *filler = memory(filler_pages);
	struct pair p = { .a = memory(pages), .b = memory(pages),
			  .pages = pages };
	uint64_t *before = calloc(pages, sizeof(*before));
	unsigned long i, j, gone = 0;

	TAP_CHECK(before);
	if (access("/proc/sys/vm/compact_memory", W_OK))
		TAP_SKIP_TEST("this kernel has no compaction");
	for (i = 0; i < pages; i++) {
		fill(p.a + i * PAGE, 14000 + i);
		fill(p.b + i * PAGE, 14000 + i);
		for (j = 0; j < 8; j++)
			filler[(8 * i + j) * PAGE] = 1;
	}
	p.domain = domain_open();
	region_add(p.domain, p.a, pages * PAGE);
	region_add(p.domain, p.b, pages * PAGE);
	domain_scan(p.domain);
	TAP_EQ(pages, stat_of(p.domain, 0).pages_sharing);
	for (i = 0; i < pages; i++)
		before[i] = pfn_of(p.a + i * PAGE);
	munmap(filler, filler_pages * PAGE);
	TAP_EQ(0, file_write("/proc/sys/vm/compact_memory", "1"));

	for (i = 0; i < pages; i++)
		gone += pfn_of(p.a + i * PAGE) != before[i];
	printf("# %lu of %lu merged pages moved\n", gone, pages);
	TAP_CHECK(gone > 0);
	TAP_EQ(pages, pair_same_frames(&p));
	TAP_EQ(pages, stat_of(p.domain, 0).pages_shared);
	TAP_EQ(pages, stat_of(p.domain, 0).pages_sharing);
	pair_holds(&p, 14000);

	/* The engine knows where they are: they are left, joined, and found. */
	for (i = 0; i < pages; i++)
		write_same(p.a + i * PAGE);
	domain_scan(p.domain);
	TAP_EQ(pages, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(pages, stat_of(p.domain, 0).pages_shared);
	pair_holds(&p, 14000);
	free(before);
	pair_free(&p);
}

static void soft_offline(void)
{
	struct pair p = pair_new(PAGES, 15000);
	uint64_t before;

	domain_scan(p.domain);
	before = pfn_of(p.a);
	if (madvise(p.a, PAGE, MADV_SOFT_OFFLINE)) {
		int err = errno;

		pair_free(&p);
		if (err == EINVAL)
			TAP_SKIP_TEST("this kernel has no memory failure handling");
		tap_end(TAP_FAIL, "soft offline: %s", strerror(err));
	}
	TAP_CHECK(pfn_of(p.a) != before);
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	pair_holds(&p, 15000);
	pair_free(&p);
}

static atomic_int buses;
static sigjmp_buf bus_env;

static void count_bus(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	buses += info->si_code == BUS_MCEERR_AR;
}

static void leave_bus(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	siglongjmp(bus_env, 1);
}

static void on_bus(void (*handler)(int sig, siginfo_t *info, void *context))
{
	struct sigaction action = { .sa_sigaction = handler,
				    .sa_flags = SA_SIGINFO };

	sigaction(SIGBUS, &action, NULL);
}

static bool bus_at(unsigned char *addr)
{
	bool hit;

	on_bus(leave_bus);
	hit = sigsetjmp(bus_env, 1);
	if (!hit)
		__atomic_load_n(addr, __ATOMIC_SEQ_CST);
	signal(SIGBUS, SIG_DFL);
	return hit;
}

/* Says by its exit status that it was told of the broken page in time. */
static void told(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	_exit(info->si_code == BUS_MCEERR_AO ? 7 : 8);
}

static void want_to_be_told(void *arg)
{
	(void)arg;
	on_bus(told);
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
}

/* Has its own copies of the first page of both, and wants to be told. */
static void write_first(void *arg)
{
	struct pair *pair = arg;

	write_same(pair->a);
	write_same(pair->b);
	want_to_be_told(NULL);
}

/*
 * All that map the broken page lose it, and who wants to be told is told.
 * Nobody else loses anything, or is told.
 */
static void poisoned(void)
{
	struct pair p = pair_new(PAGES, 16000);
	struct child maps, wrote;
	struct memmerge_stat stat;
	double end = seconds() + WAIT_SECONDS;
	int err, told_status, own_status;
	unsigned long i;

	domain_scan(p.domain);
	maps = child_new(want_to_be_told, NULL, &p);
	wrote = child_new(write_first, NULL, &p);
	/* To the kernel this program has just used what is broken. */
	on_bus(count_bus);
	err = madvise(p.a, PAGE, MADV_HWPOISON) ? errno : 0;
	signal(SIGBUS, SIG_DFL);
	/* Who has been told does not wait to be asked to end. */
	signal(SIGPIPE, SIG_IGN);
	while (!err && !waitpid(maps.pid, &told_status, WNOHANG)) {
		if (seconds() > end)
			tap_end(TAP_FAIL, "a child was not told");
		usleep(1000);
	}
	if (err)
		child_end(&maps);
	own_status = child_end(&wrote);
	if (err) {
		pair_free(&p);
		if (err == EINVAL)
			TAP_SKIP_TEST("this kernel has no memory failure handling");
		tap_end(TAP_FAIL, "poison: %s", strerror(err));
	}
	TAP_EQ(1, buses);
	TAP_CHECK(WIFEXITED(told_status));
	TAP_EQ(7, WEXITSTATUS(told_status));
	TAP_EQ(0, own_status);
	TAP_CHECK(bus_at(p.a));
	TAP_CHECK(bus_at(p.b));
	for (i = 1; i < PAGES; i++) {
		TAP_CHECK(holds(p.a + i * PAGE, 16000 + i));
		TAP_CHECK(holds(p.b + i * PAGE, 16000 + i));
	}
	stat = stat_of(p.domain, 0);
	TAP_EQ(PAGES - 1, stat.pages_shared);
	TAP_EQ(PAGES - 1, stat.pages_sharing);

	/* Nothing is merged with it any more. */
	munmap(p.a, PAGE);
	munmap(p.b, PAGE);
	TAP_CHECK(mmap(p.a, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p.a);
	TAP_CHECK(mmap(p.b, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p.b);
	fill(p.a, 16000);
	fill(p.b, 16000);
	domain_scan(p.domain);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(PAGES, pair_same_frames(&p));
	pair_holds(&p, 16000);
	pair_free(&p);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{ "merged pages are swapped out, and merge again in one pass", swap_and_back },
		{ "a swap that no scan saw is told from a write", swap_unseen },
		{ "a write to a merged page that is swapped out", swap_and_write },
		{ "MADV_FREE by one takes nothing from the other", freed_by_one },
		{ "MADV_FREE by a parent takes nothing from its child", freed_by_parent },
		{ "swapoff brings merged pages back", swap_off },
		{ "what is unmerged while swapped out comes back unmerged", unmerge_swapped },
		{ "a merged page stays charged to its cgroup", accounted },
		{ "a forked child's mappings are swapped out, too", fork_and_swap },
		{ "a child's mappings are found when its parent wrote", written_behind_child },
		{ "moved memory stays merged and is swapped out", moved },
		{ "pages of a removed region are swapped out", region_gone },
		{ "pages of a closed domain are swapped out, and it ends", domain_gone },
		{ "pages of an exited process are swapped out of its child", process_gone },
		{ "pages forked before merging are swapped out of both", forked_before },
		{ "a page shared again while one has it in swap", shared_while_out },
		{ "merged pages are moved by compaction", compacted },
		{ "a merged page is soft-offlined", soft_offline },
		{ "a broken merged page is taken from those that map it", poisoned },
		{ "nothing is left behind", nothing_left },
	};

	find_swap(swap_device);
	enter_cgroup();
	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
