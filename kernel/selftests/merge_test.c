// SPDX-License-Identifier: GPL-2.0-only
/*
 * What merging promises, with exact numbers: the engine's counters, the frame
 * numbers of the pages, and every byte of their content.
 */
#include <linux/mempolicy.h>
#include <signal.h>
#include <sys/uio.h>

#include "memmerge_test.h"

#define PAGES	256UL

static void identical(void)
{
	struct pair p = pair_new(PAGES, 1000);
	struct memmerge_scan scan = domain_scan(p.domain);
	struct memmerge_stat stat = stat_of(p.domain, 0);

	TAP_EQ(2 * PAGES, scan.scanned);
	TAP_EQ(2 * PAGES, scan.merged);
	TAP_EQ(0, scan.skipped);
	TAP_EQ(PAGES, stat.pages_shared);
	TAP_EQ(PAGES, stat.pages_sharing);
	TAP_EQ(0, stat.pages_unswappable);
	TAP_EQ(PAGES * PAGE, stat.unshare_demand);
	TAP_EQ(PAGES, pair_same_frames(&p));
	pair_holds(&p, 1000);

	/* Nothing is left to do. */
	scan = domain_scan(p.domain);
	TAP_EQ(0, scan.merged);
	stat = stat_of(p.domain, 0);
	TAP_EQ(2 * PAGES, stat.pages_mapped_shared);
	TAP_EQ(2, stat.passes);
	pair_free(&p);
}

static void one_content(void)
{
	unsigned char *mem = memory(PAGES);
	int domain = domain_open();
	struct memmerge_stat stat;
	unsigned long i;

	for (i = 0; i < PAGES; i++)
		fill(mem + i * PAGE, 7);
	region_add(domain, mem, PAGES * PAGE);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(1, stat.pages_shared);
	TAP_EQ(PAGES - 1, stat.pages_sharing);
	for (i = 0; i < PAGES; i++) {
		TAP_EQ(pfn_of(mem), pfn_of(mem + i * PAGE));
		TAP_CHECK(holds(mem + i * PAGE, 7));
	}
	close(domain);
	munmap(mem, PAGES * PAGE);
}

static void nothing_equal(void)
{
	unsigned char *mem = memory(PAGES);
	int domain = domain_open();
	struct memmerge_stat stat;
	unsigned long i;

	for (i = 0; i < PAGES; i++)
		fill(mem + i * PAGE, 2000 + i);
	region_add(domain, mem, PAGES * PAGE);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(0, stat.pages_shared);
	TAP_EQ(PAGES, stat.pages_unshared);
	TAP_EQ(0, stat.merged);
	close(domain);
	munmap(mem, PAGES * PAGE);
}

/* Pages that differ in one place only must not merge. */
static void near(void)
{
	static const unsigned int places[] = {
		0, 1, 7, 8, 2047, 2048, 4000, 4075, 4088, 4094, 4095,
	};
	const unsigned int count = sizeof(places) / sizeof(places[0]);
	unsigned char *mem = memory(count + 1);
	int domain = domain_open();
	struct memmerge_stat stat;
	unsigned int i;

	fill(mem + count * PAGE, 9);
	for (i = 0; i < count; i++) {
		fill(mem + i * PAGE, 9);
		mem[i * PAGE + places[i]] ^= 0x10;
	}
	region_add(domain, mem, (count + 1) * PAGE);
	domain_scan(domain);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(0, stat.merged);
	TAP_EQ(count + 1, stat.pages_unshared);
	for (i = 0; i < count; i++) {
		mem[i * PAGE + places[i]] ^= 0x10;
		TAP_CHECK(holds(mem + i * PAGE, 9));
	}
	close(domain);
	munmap(mem, (count + 1) * PAGE);
}

static void zero(void)
{
	unsigned char *mem = memory(PAGES);
	int domain = domain_open();
	long long zero_pages = file_read("/sys/kernel/mm/ksm/ksm_zero_pages");
	struct memmerge_scan scan;
	struct memmerge_stat stat;
	unsigned long i, j;

	memset(mem, 0xff, PAGES * PAGE);
	memset(mem, 0, PAGES * PAGE);
	region_add(domain, mem, PAGES * PAGE);
	scan = domain_scan(domain);
	TAP_EQ(PAGES, scan.zeroed);
	TAP_EQ(0, scan.merged);
	stat = stat_of(domain, 0);
	TAP_EQ(PAGES, stat.pages_mapped_zero);
	TAP_EQ(0, stat.pages_shared);
	TAP_EQ(zero_pages + (long long)PAGES,
	       file_read("/sys/kernel/mm/ksm/ksm_zero_pages"));
	for (i = 0; i < PAGES; i++)
		for (j = 0; j < PAGE; j++)
			TAP_CHECK(!mem[i * PAGE + j]);

	mem[5 * PAGE + 17] = 1;
	TAP_CHECK(!mem[6 * PAGE + 17]);
	TAP_EQ(zero_pages + (long long)PAGES - 1,
	       file_read("/sys/kernel/mm/ksm/ksm_zero_pages"));
	munmap(mem, PAGES * PAGE);
	TAP_EQ(zero_pages, file_read("/sys/kernel/mm/ksm/ksm_zero_pages"));
	close(domain);
}

static void zero_off(void)
{
	unsigned char *mem = memory(PAGES);
	int domain = domain_open();
	struct memmerge_stat stat;

	TAP_EQ(0, file_write(SYSFS "use_zero_pages", "0"));
	memset(mem, 1, PAGES * PAGE);
	memset(mem, 0, PAGES * PAGE);
	region_add(domain, mem, PAGES * PAGE);
	domain_scan(domain);
	TAP_EQ(0, file_write(SYSFS "use_zero_pages", "1"));
	stat = stat_of(domain, 0);
	TAP_EQ(0, stat.pages_mapped_zero);
	TAP_EQ(1, stat.pages_shared);
	TAP_EQ(PAGES - 1, stat.pages_sharing);
	close(domain);
	munmap(mem, PAGES * PAGE);
}

static void unshare(void)
{
	struct pair p = pair_new(PAGES, 3000);
	struct memmerge_stat stat;
	unsigned long i, k = 5, written = 0;

	domain_scan(p.domain);
	for (i = 0; i < PAGES; i += k, written++)
		p.a[i * PAGE + 4095] ^= 1;

	stat = stat_of(p.domain, 0);
	TAP_EQ(PAGES, stat.pages_shared);
	TAP_EQ(PAGES - written, stat.pages_sharing);
	TAP_EQ(PAGES - written, pair_same_frames(&p));
	for (i = 0; i < PAGES; i++) {
		if (i % k == 0) {
			TAP_CHECK(!holds(p.a + i * PAGE, 3000 + i));
			p.a[i * PAGE + 4095] ^= 1;
		}
	}
	pair_holds(&p, 3000);

	/* Found out by the next scan, and merged again by it. */
	domain_scan(p.domain);
	stat = stat_of(p.domain, 0);
	TAP_EQ(written, stat.unshared);
	TAP_EQ(PAGES, stat.pages_sharing);
	TAP_EQ(PAGES, pair_same_frames(&p));
	pair_free(&p);
}

static void unmerge(void)
{
	struct memmerge_scan arg = { .size = sizeof(arg) };
	struct pair p = pair_new(PAGES, 4000);
	struct memmerge_stat stat;

	domain_scan(p.domain);
	arg.id = p.id_a;
	TAP_EQ(0, ioctl(p.domain, MEMMERGE_UNMERGE, &arg));
	TAP_EQ(PAGES, arg.merged);
	TAP_EQ(0, pair_same_frames(&p));
	stat = stat_of(p.domain, 0);
	TAP_EQ(PAGES, stat.pages_shared);
	TAP_EQ(0, stat.pages_sharing);
	pair_holds(&p, 4000);

	TAP_EQ(0, region_remove(p.domain, p.id_b, MEMMERGE_REMOVE_UNMERGE));
	stat = stat_of(p.domain, 0);
	TAP_EQ(0, stat.pages_shared);
	TAP_EQ(1, stat.regions);
	pair_holds(&p, 4000);
	pair_free(&p);
}

static void unmerge_everything(void)
{
	struct pair p = pair_new(PAGES, 5000);

	domain_scan(p.domain);
	TAP_EQ(0, file_write(SYSFS "run", "2"));
	TAP_EQ(0, pair_same_frames(&p));
	TAP_EQ(0, file_read(SYSFS "pages_shared"));
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	pair_holds(&p, 5000);
	pair_free(&p);
}

static void close_keeps(void)
{
	struct pair p = pair_new(PAGES, 6000);

	domain_scan(p.domain);
	close(p.domain);
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_EQ(PAGES, file_read(SYSFS "pages_sharing"));
	pair_holds(&p, 6000);
	p.a[0]++;
	TAP_EQ(PAGES - 1, file_read(SYSFS "pages_sharing"));
	TAP_EQ(0, file_write(SYSFS "run", "2"));
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	TAP_EQ(0, pair_same_frames(&p));
	p.domain = -1;
	file_wait(SYSFS "domains", 0);
	pair_free(&p);
}

/* The module stays while a page of its own is mapped, open domain or not. */
static void module_stays(void)
{
	struct pair p = pair_new(PAGES, 6500);

	if (geteuid())
		TAP_SKIP_TEST("needs root, to try to remove the module");
	domain_scan(p.domain);
	close(p.domain);
	TAP_EQ(-1, syscall(SYS_delete_module, "memmerge", O_NONBLOCK));
	TAP_CHECK(errno == EAGAIN || errno == EBUSY);
	TAP_EQ(PAGES, pair_same_frames(&p));
	pair_holds(&p, 6500);
	munmap(p.a, PAGES * PAGE);
	munmap(p.b, PAGES * PAGE);
	file_wait(SYSFS "domains", 0);
}

static void domains_apart(void)
{
	unsigned char *mem = memory(2 * PAGES);
	int one = domain_open(), two = domain_open();
	unsigned long i;

	for (i = 0; i < 2 * PAGES; i++)
		fill(mem + i * PAGE, 100 + i % PAGES);
	region_add(one, mem, PAGES * PAGE);
	region_add(two, mem + PAGES * PAGE, PAGES * PAGE);
	domain_scan(one);
	domain_scan(two);
	domain_scan(one);
	TAP_EQ(0, stat_of(one, 0).merged);
	TAP_EQ(0, stat_of(two, 0).merged);
	close(one);
	close(two);
	munmap(mem, 2 * PAGES * PAGE);
}

static void sharing_limit(void)
{
	unsigned char *mem = memory(40);
	int domain = domain_open();
	long long before = file_read(SYSFS "max_page_sharing");
	struct memmerge_stat stat;
	char text[32];
	unsigned int i;

	for (i = 0; i < 40; i++)
		fill(mem + i * PAGE, 11);
	TAP_EQ(0, file_write(SYSFS "max_page_sharing", "10"));
	region_add(domain, mem, 40 * PAGE);
	domain_scan(domain);
	snprintf(text, sizeof(text), "%lld", before);
	TAP_EQ(0, file_write(SYSFS "max_page_sharing", text));
	stat = stat_of(domain, 0);
	TAP_EQ(4, stat.pages_shared);
	TAP_EQ(36, stat.pages_sharing);
	close(domain);
	munmap(mem, 40 * PAGE);
}

/* By default as many as KSM puts on one page: a walk of all takes that long. */
static void sharing_default(void)
{
	const unsigned long pages = 600;
	unsigned char *mem = memory(pages);
	int domain = domain_open();
	struct memmerge_stat stat;
	unsigned long i;

	for (i = 0; i < pages; i++)
		fill(mem + i * PAGE, 12);
	region_add(domain, mem, pages * PAGE);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(256, file_read(SYSFS "max_page_sharing"));
	TAP_EQ(3, stat.pages_shared);
	TAP_EQ(pages - 3, stat.pages_sharing);
	close(domain);
	munmap(mem, pages * PAGE);
}

static void another_process(void)
{
	unsigned char *mem = memory(PAGES);
	int domain = domain_open();
	int ready[2], go[2], status;
	uint64_t pfn;
	unsigned long i;
	char c = 0;
	pid_t pid;

	for (i = 0; i < PAGES; i++)
		fill(mem + i * PAGE, 300 + i);
	TAP_CHECK(!pipe(ready) && !pipe(go));
	pid = fork();
	if (!pid) {
		/* A copy of its own, equal to the parent's. */
		for (i = 0; i < PAGES; i++)
			fill(mem + i * PAGE, 300 + i);
		if (write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(1);
		for (i = 0; i < PAGES; i++)
			if (!holds(mem + i * PAGE, 300 + i))
				_exit(2);
		mem[0] ^= 1;
		_exit(0);
	}
	TAP_EQ(1, read(ready[0], &c, 1));
	/* Ends what fork() left behind: both sides have plain pages now. */
	for (i = 0; i < PAGES; i++)
		fill(mem + i * PAGE, 300 + i);
	region_add(domain, mem, PAGES * PAGE);
	TAP_EQ(0, region_try(domain, pidfd_of(pid), mem, PAGES * PAGE, NULL));
	domain_scan(domain);
	TAP_EQ(PAGES, stat_of(domain, 0).pages_sharing);
	pfn = pfn_in(pid, mem);
	TAP_EQ(pfn_of(mem), pfn);
	TAP_EQ(1, write(go[1], &c, 1));
	TAP_EQ(pid, waitpid(pid, &status, 0));
	TAP_EQ(0, status);

	/* The process is gone, and its part with it. */
	TAP_EQ(0, stat_of(domain, 0).pages_sharing);
	for (i = 0; i < PAGES; i++)
		TAP_CHECK(holds(mem + i * PAGE, 300 + i));
	file_wait(SYSFS "regions", 1);
	close(domain);
	munmap(mem, PAGES * PAGE);
}

static void fork_shares(void)
{
	struct pair p = pair_new(PAGES, 7000);
	int status;
	pid_t pid;

	domain_scan(p.domain);
	pid = fork();
	if (!pid) {
		unsigned long i;

		for (i = 0; i < PAGES; i++) {
			fill(p.a + i * PAGE, 1);
			if (!holds(p.b + i * PAGE, 7000 + i))
				_exit(1);
		}
		_exit(stat_of(p.domain, 0).pages_sharing == 2 * PAGES ? 0 : 2);
	}
	TAP_EQ(pid, waitpid(pid, &status, 0));
	TAP_EQ(0, status);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	pair_holds(&p, 7000);
	pair_free(&p);
}

static void gone_memory(void)
{
	struct pair p = pair_new(PAGES, 8000);

	domain_scan(p.domain);
	madvise(p.a, PAGES / 2 * PAGE, MADV_DONTNEED);
	TAP_EQ(PAGES / 2, stat_of(p.domain, 0).pages_sharing);
	munmap(p.b, PAGES * PAGE);
	TAP_EQ(0, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(PAGES / 2, stat_of(p.domain, 0).pages_shared);
	domain_scan(p.domain);
	/* Absent: the first half of a, all of b. */
	TAP_EQ(PAGES / 2 + PAGES, stat_of(p.domain, 0).skip_absent);
	munmap(p.a, PAGES * PAGE);
	TAP_EQ(0, stat_of(p.domain, 0).pages_shared);
	close(p.domain);
}

/* What was never touched, or is no longer there, needs no memory to know it. */
static void sparse(void)
{
	const unsigned long pages = 16 * 512;
	unsigned char *mem = memory(pages);
	int domain = domain_open();
	struct memmerge_stat stat;
	uint64_t empty, touched;

	region_add(domain, mem, pages * PAGE);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	empty = stat.metadata_bytes;
	TAP_EQ(pages, stat.skip_absent);
	fill(mem + 5 * 512 * PAGE, 31);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	touched = stat.metadata_bytes;
	TAP_EQ(pages - 1, stat.skip_absent);
	TAP_EQ(1, stat.pages_unshared);
	/* 16 bytes for each page of one page table, and what describes it. */
	TAP_CHECK(touched > empty && touched - empty < 2 * 512 * 16);
	madvise(mem, pages * PAGE, MADV_DONTNEED);
	domain_scan(domain);
	TAP_EQ(empty, stat_of(domain, 0).metadata_bytes);
	TAP_EQ(0, stat_of(domain, 0).pages_unshared);
	close(domain);
	munmap(mem, pages * PAGE);
}

static void why_not(void)
{
	unsigned char *shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned char *locked = memory(4);
	int domain = domain_open();
	struct memmerge_stat stat;
	uint64_t id;

	TAP_CHECK(shared != MAP_FAILED);
	memset(shared, 1, 4 * PAGE);
	memset(locked, 1, 4 * PAGE);
	TAP_EQ(0, mlock(locked, 4 * PAGE));
	id = region_add(domain, shared, 4 * PAGE);
	region_add(domain, locked, 4 * PAGE);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(4, stat.skip_file);
	TAP_EQ(4, stat.skip_locked);
	TAP_EQ(0, stat.merged);
	TAP_EQ(4, stat_of(domain, id).skip_file);
	TAP_EQ(0, stat_of(domain, id).skip_locked);

	munlock(locked, 4 * PAGE);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(0, stat.skip_locked);
	TAP_EQ(4, stat.merged);
	close(domain);
	munmap(shared, 4 * PAGE);
	munmap(locked, 4 * PAGE);
}

/* A page in a pipe has a reference that is no mapping: it must be left alone. */
static void referenced(void)
{
	unsigned char *mem = memory(2), got[PAGE];
	struct iovec iov = { .iov_base = mem, .iov_len = PAGE };
	int domain = domain_open();
	int ends[2];

	fill(mem, 21);
	fill(mem + PAGE, 21);
	TAP_CHECK(!pipe(ends));
	TAP_EQ(PAGE, vmsplice(ends[1], &iov, 1, 0));
	region_add(domain, mem, 2 * PAGE);
	domain_scan(domain);
	TAP_EQ(0, stat_of(domain, 0).pages_sharing);
	TAP_CHECK(stat_of(domain, 0).skip_busy > 0);
	TAP_CHECK(pfn_of(mem) != pfn_of(mem + PAGE));

	TAP_EQ(PAGE, read(ends[0], got, PAGE));
	TAP_CHECK(holds(got, 21));
	domain_scan(domain);
	TAP_EQ(1, stat_of(domain, 0).pages_sharing);
	TAP_EQ(pfn_of(mem), pfn_of(mem + PAGE));
	close(domain);
	close(ends[0]);
	close(ends[1]);
	munmap(mem, 2 * PAGE);
}

/* A buffer registered with io_uring is pinned for long: DMA may go there. */
static void pinned(void)
{
	unsigned char *mem = memory(2);
	struct iovec iov = { .iov_base = mem, .iov_len = PAGE };
	unsigned char params[120] = { 0 };
	int domain = domain_open();
	int ring = syscall(SYS_io_uring_setup, 1, params);

	if (ring < 0)
		TAP_SKIP_TEST("this kernel has no io_uring");
	fill(mem, 22);
	fill(mem + PAGE, 22);
	/* IORING_REGISTER_BUFFERS, IORING_UNREGISTER_BUFFERS */
	TAP_EQ(0, syscall(SYS_io_uring_register, ring, 0, &iov, 1));
	region_add(domain, mem, 2 * PAGE);
	domain_scan(domain);
	domain_scan(domain);
	TAP_EQ(0, stat_of(domain, 0).pages_sharing);
	TAP_CHECK(stat_of(domain, 0).skip_busy > 0);
	TAP_CHECK(pfn_of(mem) != pfn_of(mem + PAGE));
	TAP_EQ(0, syscall(SYS_io_uring_register, ring, 1, NULL, 0));
	domain_scan(domain);
	TAP_EQ(1, stat_of(domain, 0).pages_sharing);

	/* Pinning what is merged must give it a page of its own first. */
	TAP_EQ(0, syscall(SYS_io_uring_register, ring, 0, &iov, 1));
	TAP_CHECK(pfn_of(mem) != pfn_of(mem + PAGE));
	TAP_CHECK(holds(mem, 22) && holds(mem + PAGE, 22));
	close(ring);
	close(domain);
	munmap(mem, 2 * PAGE);
}

static void scanner(void)
{
	struct pair p = pair_new(PAGES, 9000);
	long long rounds;

	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "1"));
	TAP_EQ(0, file_write(SYSFS "run", "1"));
	file_wait(SYSFS "pages_sharing", PAGES);
	TAP_EQ(PAGES, pair_same_frames(&p));

	/* Stopped, it does not come back for what was written. */
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	usleep(100000);
	rounds = file_read(SYSFS "full_scans");
	TAP_CHECK(rounds > 0);
	write_same(p.a);
	usleep(200000);
	TAP_EQ(rounds, file_read(SYSFS "full_scans"));
	TAP_EQ(PAGES - 1, file_read(SYSFS "pages_sharing"));

	/* Running again, it does, after having left the page alone a while. */
	TAP_EQ(0, file_write(SYSFS "run", "1"));
	file_wait(SYSFS "pages_sharing", PAGES);
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "20"));
	pair_holds(&p, 9000);
	pair_free(&p);
}

/* Both engines on the same memory: neither touches the other's pages. */
static void beside_ksm(void)
{
	const char *ksm_run = "/sys/kernel/mm/ksm/run";
	const char *ksm_sharing = "/sys/kernel/mm/ksm/pages_sharing";
	struct pair p = pair_new(PAGES, 10000);
	unsigned char *c = memory(PAGES), *d = memory(PAGES);
	unsigned long i;

	if (access(ksm_run, W_OK))
		TAP_SKIP_TEST("this kernel has no KSM");
	domain_scan(p.domain);
	for (i = 0; i < PAGES; i++) {
		fill(c + i * PAGE, 10000 + i);
		fill(d + i * PAGE, 10000 + i);
	}
	TAP_EQ(0, file_write("/sys/kernel/mm/ksm/sleep_millisecs", "0"));
	TAP_EQ(0, file_write("/sys/kernel/mm/ksm/pages_to_scan", "10000"));
	TAP_EQ(0, madvise(p.a, PAGES * PAGE, MADV_MERGEABLE));
	TAP_EQ(0, madvise(p.b, PAGES * PAGE, MADV_MERGEABLE));
	TAP_EQ(0, madvise(c, PAGES * PAGE, MADV_MERGEABLE));
	TAP_EQ(0, madvise(d, PAGES * PAGE, MADV_MERGEABLE));
	TAP_EQ(0, file_write(ksm_run, "1"));
	/* c and d only: a and b are equal, but memmerge's. */
	file_wait(ksm_sharing, PAGES);
	i = file_read("/sys/kernel/mm/ksm/full_scans");
	while ((unsigned long)file_read("/sys/kernel/mm/ksm/full_scans") < i + 3)
		usleep(20000);
	TAP_EQ(PAGES, file_read(ksm_sharing));
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_CHECK(pfn_of(p.a) != pfn_of(c));

	/* And the other way round. */
	region_add(p.domain, c, PAGES * PAGE);
	region_add(p.domain, d, PAGES * PAGE);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(2 * PAGES, stat_of(p.domain, 0).skip_foreign);

	/* KSM's unmerge leaves the engine's pages merged. */
	TAP_EQ(0, madvise(p.a, PAGES * PAGE, MADV_UNMERGEABLE));
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_EQ(0, file_write(ksm_run, "2"));
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_EQ(0, file_read(ksm_sharing));
	TAP_EQ(0, file_write(ksm_run, "0"));
	for (i = 0; i < PAGES; i++)
		TAP_CHECK(holds(c + i * PAGE, 10000 + i) &&
			  holds(d + i * PAGE, 10000 + i));
	pair_holds(&p, 10000);
	pair_free(&p);
	munmap(c, PAGES * PAGE);
	munmap(d, PAGES * PAGE);
}

#define HUGE_PAGE	(2UL << 20)

/* Memory that may be so many huge pages, or the test is skipped. */
static unsigned char *huge_memory(unsigned int nr)
{
	const unsigned long size = nr * HUGE_PAGE;
	unsigned char *raw = mmap(NULL, size + HUGE_PAGE,
				  PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *mem = (void *)(((uintptr_t)raw + HUGE_PAGE - 1) &
				      -HUGE_PAGE);

	TAP_CHECK(raw != MAP_FAILED);
	if (mem != raw)
		munmap(raw, mem - raw);
	munmap(mem + size, raw + HUGE_PAGE - mem);
	if (access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) ||
	    madvise(mem, size, MADV_HUGEPAGE))
		TAP_SKIP_TEST("this kernel has no transparent huge pages");
	return mem;
}

static void huge_pages_mapped(bool as_a_whole)
{
	const unsigned long size = HUGE_PAGE;
	unsigned char *mem = huge_memory(2);
	unsigned long i, pages = size / PAGE;
	int domain;

	domain = domain_open();
	for (i = 0; i < 2 * pages; i++)
		fill(mem + i * PAGE, 400 + i % pages);
	/* Another mapping in the middle: the page tables name single pages. */
	for (i = 17; !as_a_whole && i < 2 * pages; i += pages)
		TAP_EQ(0, mprotect(mem + i * PAGE, PAGE,
				   PROT_READ | PROT_WRITE | PROT_EXEC));
	region_add(domain, mem, 2 * size);
	domain_scan(domain);
	domain_scan(domain);
	TAP_EQ(pages, stat_of(domain, 0).pages_sharing);
	for (i = 0; i < 2 * pages; i++)
		TAP_CHECK(holds(mem + i * PAGE, 400 + i % pages));
	close(domain);
	munmap(mem, 2 * size);
}

static void huge_pages(void)
{
	huge_pages_mapped(true);
}

static void huge_pages_by_page(void)
{
	huge_pages_mapped(false);
}

/* A line of smaps of the mapping that an address is in, in bytes. */
static unsigned long smaps_bytes(const void *addr, const char *name)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long start, end, value = 0;
	bool inside = false;
	char line[256];

	TAP_CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (uintptr_t)addr &&
				 (uintptr_t)addr < end;
		else if (inside && !strncmp(line, name, strlen(name)))
			sscanf(line + strlen(name), ": %lu", &value);
	}
	fclose(file);
	return value << 10;
}

/* A huge page is only split for as many pages as it takes. */
static void huge_enough(void)
{
	const unsigned long size = HUGE_PAGE, pages = size / PAGE;
	const unsigned long least = file_read(SYSFS "huge_split_pages");
	long long splits = file_read(SYSFS "huge_split");
	struct memmerge_stat stat;
	unsigned char *mem;
	unsigned long i;
	int domain;

	TAP_EQ(64, least);
	mem = huge_memory(2);
	domain = domain_open();
	for (i = 0; i < 2 * pages; i++)
		fill(mem + i * PAGE, 20000 + i);
	for (i = 0; i < least - 1; i++)
		fill(mem + (pages + 3 + i) * PAGE, 20000 + 5 + i);
	if (smaps_bytes(mem, "AnonHugePages") != 2 * size)
		TAP_SKIP_TEST("this kernel has no huge page to give");
	region_add(domain, mem, 2 * size);

	/* One too few, in whatever pass: the second would have merged. */
	for (i = 0; i < 3; i++) {
		domain_scan(domain);
		stat = stat_of(domain, 0);
		TAP_EQ(0, stat.merged);
		TAP_EQ(least - 1, stat.skip_huge);
	}
	TAP_EQ(2 * size, smaps_bytes(mem, "AnonHugePages"));
	TAP_EQ(splits, file_read(SYSFS "huge_split"));

	/* Never. */
	fill(mem + (pages + 300) * PAGE, 20000 + 400);
	TAP_EQ(0, file_write(SYSFS "huge_split_pages", "0"));
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(0, stat.merged);
	TAP_EQ(least, stat.skip_huge);

	/* Enough, and all of them in that pass; both are split for it. */
	TAP_EQ(0, file_write(SYSFS "huge_split_pages", "64"));
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(least, stat.pages_sharing);
	TAP_EQ(0, stat.skip_huge);
	TAP_EQ(splits + 2, file_read(SYSFS "huge_split"));
	TAP_EQ(0, smaps_bytes(mem, "AnonHugePages"));
	for (i = 0; i < pages; i++)
		TAP_CHECK(holds(mem + i * PAGE, 20000 + i));
	close(domain);
	munmap(mem, 2 * size);
}

/* Zeroes in a huge page are merged as others, and not by its being split. */
static void huge_zeroes(void)
{
	const unsigned long size = HUGE_PAGE, pages = size / PAGE, zeroes = 100;
	unsigned char *mem = huge_memory(1);
	long long zero = file_read(SYSFS "ksm_zero_pages");
	struct memmerge_stat stat;
	unsigned long i;
	int domain;

	domain = domain_open();
	for (i = 0; i < pages; i++)
		fill(mem + i * PAGE, 40000 + i);
	for (i = 0; i < zeroes; i++)
		memset(mem + (7 + 3 * i) * PAGE, 0, PAGE);
	if (smaps_bytes(mem, "AnonHugePages") != size)
		TAP_SKIP_TEST("this kernel has no huge page to give");
	/* Once it is split it stays so. */
	TAP_EQ(0, madvise(mem, size, MADV_NOHUGEPAGE));
	/* A part of the huge page is nobody's; all of it is split. */
	memset(mem + size - 2 * PAGE, 0, PAGE);
	region_add(domain, mem, size - 4 * PAGE);
	TAP_EQ(zeroes, domain_scan(domain).zeroed);
	TAP_EQ(0, smaps_bytes(mem, "AnonHugePages"));
	stat = stat_of(domain, 0);
	TAP_EQ(zeroes, stat.pages_mapped_zero);
	TAP_EQ(zeroes, stat.zeroed);
	TAP_EQ(zero + zeroes, file_read(SYSFS "ksm_zero_pages"));
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(zeroes, stat.pages_mapped_zero);
	TAP_EQ(zeroes, stat.zeroed);

	/* What is written is counted no more. */
	for (i = 0; i < zeroes / 2; i++)
		fill(mem + (7 + 3 * i) * PAGE, 50000 + i);
	TAP_EQ(zero + zeroes / 2, file_read(SYSFS "ksm_zero_pages"));
	domain_scan(domain);
	TAP_EQ(zeroes / 2, stat_of(domain, 0).pages_mapped_zero);
	for (i = 0; i < zeroes; i++)
		TAP_CHECK(i < zeroes / 2 ?
			  holds(mem + (7 + 3 * i) * PAGE, 50000 + i) :
			  !mem[(7 + 3 * i) * PAGE]);
	for (i = 7 + 3 * zeroes; i < pages - 2; i++)
		TAP_CHECK(holds(mem + i * PAGE, 40000 + i));
	TAP_CHECK(!mem[i * PAGE]);
	close(domain);
	munmap(mem, size);
	TAP_EQ(zero, file_read(SYSFS "ksm_zero_pages"));
}

/* Memory that is taken from one node, of known content. */
static unsigned char *memory_on(unsigned int node, uint64_t seed)
{
	const unsigned long mask = 1UL << node;
	unsigned char *mem = memory(PAGES);
	unsigned long i;

	TAP_EQ(0, syscall(SYS_mbind, mem, PAGES * PAGE, MPOL_BIND, &mask,
			  sizeof(mask) * 8, 0));
	for (i = 0; i < PAGES; i++)
		fill(mem + i * PAGE, seed + i);
	return mem;
}

static int node_of(const void *addr)
{
	int node = -1;

	TAP_EQ(0, syscall(SYS_move_pages, 0, 1, &addr, NULL, &node, 0));
	return node;
}

/* merge_across_nodes, on a machine of several nodes. */
static void nodes(void)
{
	struct memmerge_scan arg = { .size = sizeof(arg) };
	unsigned char *a, *b, *c;
	struct memmerge_stat stat;
	unsigned long i;
	int domain;

	if (access(SYSFS "merge_across_nodes", R_OK))
		TAP_SKIP_TEST("this kernel does not know NUMA");
	if (access("/sys/devices/system/node/node1", F_OK))
		TAP_SKIP_TEST("this machine has one node");
	TAP_EQ(1, file_read(SYSFS "merge_across_nodes"));
	TAP_EQ(0, file_write(SYSFS "merge_across_nodes", "0"));
	domain = domain_open();
	a = memory_on(0, 23000);
	b = memory_on(1, 23000);
	region_add(domain, a, PAGES * PAGE);
	region_add(domain, b, PAGES * PAGE);
	TAP_EQ(0, node_of(a));
	TAP_EQ(1, node_of(b));
	domain_scan(domain);
	domain_scan(domain);
	TAP_EQ(0, stat_of(domain, 0).pages_shared);

	/* With its like of the same node, and that stays on its node. */
	c = memory_on(1, 23000);
	region_add(domain, c, PAGES * PAGE);
	domain_scan(domain);
	TAP_EQ(PAGES, stat_of(domain, 0).pages_sharing);
	for (i = 0; i < PAGES; i++) {
		TAP_CHECK(pfn_of(b + i * PAGE) == pfn_of(c + i * PAGE));
		TAP_CHECK(pfn_of(a + i * PAGE) != pfn_of(c + i * PAGE));
		TAP_EQ(1, node_of(c + i * PAGE));
	}

	/* Not while pages are shared by the old rule. */
	TAP_EQ(-EBUSY, file_write(SYSFS "merge_across_nodes", "1"));
	TAP_EQ(0, ioctl(domain, MEMMERGE_UNMERGE, &arg));
	TAP_EQ(0, file_write(SYSFS "merge_across_nodes", "1"));
	domain_scan(domain);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(PAGES, stat.pages_shared);
	TAP_EQ(2 * PAGES, stat.pages_sharing);
	for (i = 0; i < PAGES; i++) {
		TAP_CHECK(pfn_of(a + i * PAGE) == pfn_of(c + i * PAGE));
		TAP_CHECK(holds(a + i * PAGE, 23000 + i));
		TAP_CHECK(holds(b + i * PAGE, 23000 + i));
	}
	close(domain);
	munmap(a, PAGES * PAGE);
	munmap(b, PAGES * PAGE);
	munmap(c, PAGES * PAGE);
}

static void soft_dirty(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	unsigned char *probe = memory(1);
	struct pair p;
	uint64_t entry;

	probe[0] = 1;
	TAP_EQ(8, pread(fd, &entry, 8, (uintptr_t)probe / PAGE * 8));
	munmap(probe, PAGE);
	if (!(entry >> 55 & 1))
		TAP_SKIP_TEST("this kernel has no soft-dirty bit");

	p = pair_new(PAGES, 11000);
	TAP_EQ(0, file_write("/proc/self/clear_refs", "4"));
	write_same(p.a);
	domain_scan(p.domain);
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_EQ(8, pread(fd, &entry, 8, (uintptr_t)p.a / PAGE * 8));
	TAP_EQ(1, entry >> 55 & 1);
	TAP_EQ(8, pread(fd, &entry, 8, ((uintptr_t)p.a / PAGE + 1) * 8));
	TAP_EQ(0, entry >> 55 & 1);
	close(fd);
	pair_free(&p);
}

/* An equal that was seen before, and lies further on in what is scanned now. */
static void equal_behind(void)
{
	unsigned char *mem = memory(2 * PAGES);
	int domain = domain_open();
	unsigned long i;

	for (i = 0; i < PAGES; i++)
		fill(mem + (PAGES + i) * PAGE, 26000 + i);
	region_add(domain, mem, 2 * PAGES * PAGE);
	domain_scan(domain);
	TAP_EQ(PAGES, stat_of(domain, 0).pages_unshared);
	for (i = 0; i < PAGES; i++)
		fill(mem + i * PAGE, 26000 + i);
	domain_scan(domain);
	TAP_EQ(PAGES, stat_of(domain, 0).pages_sharing);
	for (i = 0; i < 2 * PAGES; i++)
		TAP_CHECK(holds(mem + i * PAGE, 26000 + i % PAGES));
	close(domain);
	munmap(mem, 2 * PAGES * PAGE);
}

/*
 * Pages merge in runs, one behind the other. What cannot merge ends a run, and
 * nothing else: all before and behind it merges, and it is not touched itself.
 */
static void runs_end(void)
{
	struct pair p = pair_new(PAGES, 24000);
	unsigned char *other = p.b + 20 * PAGE, *absent = p.b + 40 * PAGE;
	unsigned char *held = p.a + 60 * PAGE, *held_too = p.b + 80 * PAGE;
	struct iovec iov[] = { { held, PAGE }, { held_too, PAGE } };
	unsigned char got[PAGE];
	struct memmerge_stat stat;
	unsigned long i;
	int ends[2];

	other[PAGE - 1] ^= 1;
	TAP_EQ(0, madvise(absent, PAGE, MADV_DONTNEED));
	TAP_CHECK(!pipe(ends));
	TAP_EQ(2 * PAGE, vmsplice(ends[1], iov, 2, 0));
	/* From here on it is another mapping. */
	TAP_EQ(0, mprotect(p.b + 100 * PAGE, 50 * PAGE,
			   PROT_READ | PROT_WRITE | PROT_EXEC));

	domain_scan(p.domain);
	stat = stat_of(p.domain, 0);
	TAP_EQ(PAGES - 4, stat.pages_sharing);
	/* The equal of the one that is held is ready to be joined. */
	TAP_EQ(PAGES - 3, stat.pages_shared);
	TAP_CHECK(stat.skip_busy > 0);
	for (i = 0; i < PAGES; i++) {
		if (i == 40)
			continue;
		TAP_CHECK((pfn_of(p.a + i * PAGE) == pfn_of(p.b + i * PAGE)) ==
			  (i != 20 && i != 60 && i != 80));
	}
	other[PAGE - 1] ^= 1;
	fill(absent, 24040);
	pair_holds(&p, 24000);

	TAP_EQ(PAGE, read(ends[0], got, PAGE));
	TAP_CHECK(holds(got, 24060));
	TAP_EQ(PAGE, read(ends[0], got, PAGE));
	TAP_CHECK(holds(got, 24080));
	domain_scan(p.domain);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(PAGES, pair_same_frames(&p));
	pair_holds(&p, 24000);
	close(ends[0]);
	close(ends[1]);
	pair_free(&p);
}

/* Nor does it matter in which order equal pages lie. */
static void any_order(void)
{
	unsigned char *mem = memory(3 * PAGES);
	int domain = domain_open();
	struct memmerge_stat stat;
	unsigned long i, of[3 * PAGES];

	for (i = 0; i < PAGES; i++) {
		of[i] = i;
		of[PAGES + i] = PAGES - 1 - i;
		of[2 * PAGES + i] = PAGES + i % 3;
	}
	for (i = 0; i < 3 * PAGES; i++)
		fill(mem + i * PAGE, 25000 + of[i]);
	region_add(domain, mem, 3 * PAGES * PAGE);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(PAGES + 3, stat.pages_shared);
	TAP_EQ(2 * PAGES - 3, stat.pages_sharing);
	for (i = 0; i < 3 * PAGES; i++)
		TAP_CHECK(holds(mem + i * PAGE, 25000 + of[i]));
	close(domain);
	munmap(mem, 3 * PAGES * PAGE);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{ "equal pages merge in the first pass", identical },
		{ "many pages of one content become one", one_content },
		{ "nothing merges where nothing is equal", nothing_equal },
		{ "pages that differ in one bit do not merge", near },
		{ "zero pages map the zero page, counted both ways", zero },
		{ "zero pages are shared as others with use_zero_pages=0", zero_off },
		{ "a write unshares its page and no other", unshare },
		{ "unmerge a region, remove and unmerge another", unmerge },
		{ "run=2 unmerges everything", unmerge_everything },
		{ "closing a domain leaves its pages shared", close_keeps },
		{ "the module stays while its pages are mapped", module_stays },
		{ "domains do not merge with each other", domains_apart },
		{ "max_page_sharing bounds the mappings of a page", sharing_limit },
		{ "the default bound is KSM's", sharing_default },
		{ "another process's memory, by pidfd", another_process },
		{ "a forked child shares, and unshares for itself", fork_shares },
		{ "discarded and unmapped memory is let go", gone_memory },
		{ "memory that is not there takes no memory", sparse },
		{ "shared and locked memory is not merged, and says why", why_not },
		{ "a page with a foreign reference is left alone", referenced },
		{ "a pinned page is left alone, a merged one copied", pinned },
		{ "the scanner merges, stops, and comes back", scanner },
		{ "KSM beside it: neither touches the other's pages", beside_ksm },
		{ "huge pages are split when their parts merge", huge_pages },
		{ "so are those that are mapped by the page", huge_pages_by_page },
		{ "huge pages are not split for a few pages", huge_enough },
		{ "zeroes in huge pages are counted", huge_zeroes },
		{ "merge_across_nodes=0 merges within a node only", nodes },
		{ "the soft-dirty bit survives merging", soft_dirty },
		{ "equal pages that lie further on merge in one pass", equal_behind },
		{ "a run of equal pages ends where one cannot merge", runs_end },
		{ "equal pages merge in whatever order they lie", any_order },
		{ "nothing is left behind", nothing_left },
	};

	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
