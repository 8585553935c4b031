// SPDX-License-Identifier: GPL-2.0-only
/*
 * How memory is scanned: what stays unchanged is not read again, and what
 * changes is seen, whatever way it changed
 */
#include <ctype.h>
#include <dirent.h>
#include <pthread.h>
#include <sys/uio.h>

#include "memmerge_test.h"

#define PAGES		256UL
/* Found, found unchanged twice, write-protected and read. */
#define SCANS_TO_COLD	4
/* Each cold page is read in one of so many scans. */
#define REREAD		64UL

/* Wait until a counter has grown. */
static long long protected_pages(void)
{
	return file_read(SYSFS "pages_protected");
}

struct area {
	unsigned char *mem;
	unsigned long pages;
	int domain;
};

/* Different pages, scanned until all of them are known to be unchanged. */
static struct area area_cold(unsigned long pages, uint64_t seed)
{
	struct area a = { .mem = memory(pages), .pages = pages };
	unsigned long i;

	for (i = 0; i < pages; i++)
		fill(a.mem + i * PAGE, seed + i);
	a.domain = domain_open();
	region_add(a.domain, a.mem, pages * PAGE);
	for (i = 0; i < SCANS_TO_COLD; i++)
		domain_scan(a.domain);
	TAP_EQ(pages, protected_pages());
	return a;
}

static void area_free(struct area *a)
{
	close(a->domain);
	munmap(a->mem, a->pages * PAGE);
}

static void unread(void)
{
	struct area a = area_cold(PAGES, 1000);
	long long before = file_read(SYSFS "pages_unread");
	unsigned long i;

	TAP_EQ(PAGES, domain_scan(a.domain).scanned);
	TAP_EQ(PAGES - PAGES / REREAD, file_read(SYSFS "pages_unread") - before);
	TAP_EQ(PAGES, stat_of(a.domain, 0).pages_unshared);

	/* Reading does not count, and in its turn each page is read. */
	for (i = 0; i < PAGES; i++)
		TAP_CHECK(holds(a.mem + i * PAGE, 1000 + i));
	before = file_read(SYSFS "pages_unread");
	for (i = 0; i < REREAD; i++)
		domain_scan(a.domain);
	TAP_EQ(REREAD * PAGES - PAGES, file_read(SYSFS "pages_unread") - before);
	TAP_EQ(PAGES, protected_pages());
	area_free(&a);
}

static void written(void)
{
	struct area a = area_cold(PAGES, 2000);
	unsigned long i;

	/* Each odd page becomes what the one before it is. */
	for (i = 1; i < PAGES; i += 2)
		fill(a.mem + i * PAGE, 2000 + i - 1);
	TAP_EQ(PAGES, domain_scan(a.domain).merged);
	TAP_EQ(0, protected_pages());
	for (i = 1; i < PAGES; i += 2) {
		TAP_EQ(pfn_of(a.mem + (i - 1) * PAGE), pfn_of(a.mem + i * PAGE));
		TAP_CHECK(holds(a.mem + i * PAGE, 2000 + i - 1));
		TAP_CHECK(holds(a.mem + (i - 1) * PAGE, 2000 + i - 1));
	}
	area_free(&a);
}

/* Through another process's system call: no fault of the owner. */
static void written_by_call(void)
{
	struct area a = area_cold(2, 2500);
	struct iovec from = { .iov_base = a.mem, .iov_len = PAGE };
	struct iovec to = { .iov_base = a.mem + PAGE, .iov_len = PAGE };

	TAP_EQ(PAGE, process_vm_writev(getpid(), &from, 1, &to, 1, 0));
	TAP_EQ(2, domain_scan(a.domain).merged);
	TAP_CHECK(holds(a.mem, 2500) && holds(a.mem + PAGE, 2500));
	area_free(&a);
}

/* A page that is written whenever it is protected soon is protected seldom. */
static void written_again(void)
{
	struct area a = area_cold(1, 3000);
	unsigned int scans, writes = 0;

	for (scans = 0; scans < 80; scans++) {
		if (protected_pages()) {
			write_same(a.mem);
			/* Same content: that must not look like nothing. */
			writes++;
		}
		domain_scan(a.domain);
	}
	/* Three scans, and 1, 3, 7, 15, 31 on top of them, lie in between. */
	TAP_EQ(6, writes);
	TAP_CHECK(holds(a.mem, 3000));
	area_free(&a);
}

static void moved(void)
{
	struct area a = area_cold(2, 4000);
	unsigned char *c = memory(1);

	/* Clean and read-only it comes to where another such page was. */
	fill(c, 4001);
	region_add(a.domain, c, PAGE);
	TAP_CHECK(mremap(a.mem + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			 a.mem) == a.mem);
	TAP_EQ(2, domain_scan(a.domain).merged);
	TAP_EQ(pfn_of(c), pfn_of(a.mem));
	TAP_CHECK(holds(a.mem, 4001) && holds(c, 4001));
	munmap(c, PAGE);
	area_free(&a);
}

static void discarded(void)
{
	struct area a = area_cold(4, 5000);

	TAP_EQ(0, madvise(a.mem, 3 * PAGE, MADV_DONTNEED));
	fill(a.mem + PAGE, 5003);
	TAP_CHECK(!a.mem[2 * PAGE]);	/* the zero page, by reading */
	TAP_EQ(2, domain_scan(a.domain).merged);
	TAP_EQ(0, protected_pages());
	TAP_EQ(pfn_of(a.mem + PAGE), pfn_of(a.mem + 3 * PAGE));
	TAP_CHECK(holds(a.mem + PAGE, 5003) && holds(a.mem + 3 * PAGE, 5003));
	area_free(&a);
}

/* Child and parent share cold pages; each writes, and sees its own alone. */
static void forked(void)
{
	struct area a = area_cold(3, 6000);
	int status = -1;
	pid_t child;

	child = fork();
	if (!child) {
		fill(a.mem, 6001);
		_exit(!(holds(a.mem, 6001) && holds(a.mem + PAGE, 6001)));
	}
	TAP_CHECK(child > 0);
	TAP_EQ(child, waitpid(child, &status, 0));
	TAP_EQ(0, status);
	TAP_EQ(0, domain_scan(a.domain).merged);
	TAP_CHECK(holds(a.mem, 6000) && holds(a.mem + PAGE, 6001));

	fill(a.mem + PAGE, 6000);
	TAP_EQ(2, domain_scan(a.domain).merged);
	TAP_CHECK(holds(a.mem, 6000) && holds(a.mem + PAGE, 6000) &&
		  holds(a.mem + 2 * PAGE, 6002));
	area_free(&a);
}

/* What others may write without a fault of its owner is not protected. */
static void pinned(void)
{
	unsigned char *mem = memory(2);
	struct iovec iov = { .iov_base = mem, .iov_len = PAGE };
	unsigned char params[120] = { 0 };
	int domain = domain_open();
	int ring = syscall(SYS_io_uring_setup, 1, params);
	unsigned int i;

	if (ring < 0)
		TAP_SKIP_TEST("this kernel has no io_uring");
	fill(mem, 7000);
	fill(mem + PAGE, 7001);
	/* IORING_REGISTER_BUFFERS, IORING_UNREGISTER_BUFFERS */
	TAP_EQ(0, syscall(SYS_io_uring_register, ring, 0, &iov, 1));
	region_add(domain, mem, 2 * PAGE);
	for (i = 0; i < 2 * SCANS_TO_COLD; i++)
		domain_scan(domain);
	TAP_EQ(1, protected_pages());
	TAP_EQ(0, syscall(SYS_io_uring_register, ring, 1, NULL, 0));
	domain_scan(domain);
	TAP_EQ(2, protected_pages());
	close(ring);
	close(domain);
	munmap(mem, 2 * PAGE);
}

static void referenced(void)
{
	unsigned char *mem = memory(2), got[PAGE];
	struct iovec iov = { .iov_base = mem, .iov_len = PAGE };
	int domain = domain_open();
	unsigned int i;
	int ends[2];

	fill(mem, 7500);
	fill(mem + PAGE, 7501);
	TAP_CHECK(!pipe(ends));
	TAP_EQ(PAGE, vmsplice(ends[1], &iov, 1, 0));
	region_add(domain, mem, 2 * PAGE);
	for (i = 0; i < 2 * SCANS_TO_COLD; i++)
		domain_scan(domain);
	TAP_EQ(1, protected_pages());
	TAP_EQ(PAGE, read(ends[0], got, PAGE));
	/* Tried again, but not at once. */
	for (i = 0; i < 2 * SCANS_TO_COLD; i++)
		domain_scan(domain);
	TAP_EQ(2, protected_pages());
	close(ends[0]);
	close(ends[1]);
	close(domain);
	munmap(mem, 2 * PAGE);
}

/*
 * A debugger can write a page that nobody may write, and no page table entry
 * tells of it. What is remembered of the page is wrong then. That must not
 * merge it with what it was, and must not last.
 */
static void stale(void)
{
	struct area a = area_cold(1, 8000);
	unsigned char *was = memory(1), *is = memory(1), content[PAGE];
	int fd = open("/proc/self/mem", O_RDWR);
	unsigned long i;

	TAP_CHECK(fd >= 0);
	fill(content, 8001);
	TAP_EQ(0, mprotect(a.mem, PAGE, PROT_READ));
	TAP_EQ(PAGE, pwrite(fd, content, PAGE, (uintptr_t)a.mem));
	TAP_CHECK(holds(a.mem, 8001));
	close(fd);

	fill(is, 8001);
	region_add(a.domain, is, PAGE);
	for (i = 0; i < REREAD; i++)
		domain_scan(a.domain);
	TAP_EQ(pfn_of(is), pfn_of(a.mem));

	fill(was, 8000);
	region_add(a.domain, was, PAGE);
	for (i = 0; i < 2; i++)
		domain_scan(a.domain);
	TAP_CHECK(pfn_of(was) != pfn_of(a.mem));
	TAP_CHECK(holds(a.mem, 8001) && holds(is, 8001) && holds(was, 8000));
	munmap(is, PAGE);
	munmap(was, PAGE);
	area_free(&a);
}

/* The same, and its old content turns up before it is read again. */
static void stale_match(void)
{
	struct area a = area_cold(1, 8500);
	unsigned char *was = memory(1), content[PAGE];
	int fd = open("/proc/self/mem", O_RDWR);
	unsigned int i;

	TAP_CHECK(fd >= 0);
	fill(content, 8501);
	TAP_EQ(0, mprotect(a.mem, PAGE, PROT_READ));
	TAP_EQ(PAGE, pwrite(fd, content, PAGE, (uintptr_t)a.mem));
	close(fd);

	fill(was, 8500);
	region_add(a.domain, was, PAGE);
	for (i = 0; i < 3; i++) {
		TAP_EQ(0, domain_scan(a.domain).merged);
		TAP_CHECK(holds(a.mem, 8501) && holds(was, 8500));
	}
	TAP_EQ(2, stat_of(a.domain, 0).pages_unshared);
	munmap(was, PAGE);
	area_free(&a);
}

/* Swapped out and back in: another page of the same content. */
static void swapped(void)
{
	struct area a = area_cold(PAGES, 9000);
	double end = seconds() + WAIT_SECONDS;
	unsigned long i;

	if (madvise(a.mem, PAGES * PAGE, 21 /* MADV_PAGEOUT */))
		TAP_SKIP_TEST("this kernel cannot be asked to swap");
	domain_scan(a.domain);
	for (i = 0; i < PAGES; i++)
		TAP_CHECK(holds(a.mem + i * PAGE, 9000 + i));
	for (i = 0; i < PAGES; i++)
		fill(a.mem + i * PAGE, 9000);
	/* Some may still be on their way to the disk. */
	while (domain_scan(a.domain).skipped)
		TAP_CHECK(seconds() < end);
	TAP_EQ(PAGES - 1, stat_of(a.domain, 0).pages_sharing);
	for (i = 0; i < PAGES; i++)
		TAP_CHECK(holds(a.mem + i * PAGE, 9000));
	area_free(&a);
}

/* Threads of the kernel that scan. */
static unsigned int scanner_threads(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	unsigned int found = 0;

	TAP_CHECK(proc);
	while ((entry = readdir(proc))) {
		char path[300], comm[64] = "";
		int fd;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		if (read(fd, comm, sizeof(comm) - 1) > 0)
			found += !strncmp(comm, "memmerged", 9);
		close(fd);
	}
	closedir(proc);
	return found;
}

/* One that has ended is still listed for a moment. */
static void wait_for_threads(unsigned int want)
{
	double end = seconds() + WAIT_SECONDS;
	unsigned int got;

	while ((got = scanner_threads()) != want) {
		if (seconds() > end)
			tap_end(TAP_FAIL, "%u scanners, want %u, after %d s",
				got, want, WAIT_SECONDS);
		usleep(20000);
	}
}

static void scan_until_merged(const struct pair *p, uint64_t seed)
{
	TAP_EQ(0, file_write(SYSFS "run", "1"));
	file_wait(SYSFS "pages_sharing", p->pages);
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	TAP_EQ(p->pages, pair_same_frames(p));
	pair_holds(p, seed);
}

static void several_scanners(void)
{
	struct pair p;
	unsigned int i;

	TAP_EQ(0, file_write(SYSFS "scanners", "4"));
	TAP_EQ(4, file_read(SYSFS "scanners"));
	wait_for_threads(4);
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "0"));
	TAP_EQ(0, file_write(SYSFS "pages_to_scan", "100"));
	for (i = 0; i < 4; i++) {
		p = pair_new(2048, 100000);
		scan_until_merged(&p, 100000);
		/* Whoever looked at it: each page counts once a pass. */
		TAP_CHECK(stat_of(p.domain, 0).scanned >= 2 * p.pages);
		pair_free(&p);
	}
	TAP_EQ(0, file_write(SYSFS "scanners", "1"));
	wait_for_threads(1);
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "20"));
	TAP_EQ(0, file_write(SYSFS "pages_to_scan", "1000"));
}

static void *scan_thread(void *arg)
{
	struct memmerge_scan scan = { .size = sizeof(scan) };
	int domain = *(int *)arg;
	unsigned long i;

	for (i = 0; i < 20; i++)
		if (ioctl(domain, MEMMERGE_SCAN, &scan))
			return (void *)(uintptr_t)errno;
	return NULL;
}

/* Scans of one domain by several callers and scanners, while regions go. */
static void scans_at_once(void)
{
	struct pair p = pair_new(1024, 200000);
	unsigned char *mem = memory(1024);
	pthread_t threads[3];
	unsigned int i;

	TAP_EQ(0, file_write(SYSFS "scanners", "2"));
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "0"));
	TAP_EQ(0, file_write(SYSFS "run", "1"));
	for (i = 0; i < 3; i++)
		TAP_EQ(0, pthread_create(&threads[i], NULL, scan_thread,
					 &p.domain));
	for (i = 0; i < 1024; i++)
		fill(mem + i * PAGE, 200000 + i);
	for (i = 0; i < 20; i++) {
		uint64_t id = region_add(p.domain, mem, 1024 * PAGE);

		usleep(2000);
		TAP_EQ(0, region_remove(p.domain, id, i % 2 ?
					MEMMERGE_REMOVE_UNMERGE : 0));
	}
	for (i = 0; i < 3; i++) {
		void *err;

		TAP_EQ(0, pthread_join(threads[i], &err));
		TAP_CHECK(!err);
	}
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	TAP_EQ(0, file_write(SYSFS "scanners", "1"));
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "20"));
	domain_scan(p.domain);
	TAP_EQ(p.pages, pair_same_frames(&p));
	pair_holds(&p, 200000);
	for (i = 0; i < 1024; i++)
		TAP_CHECK(holds(mem + i * PAGE, 200000 + i));
	munmap(mem, 1024 * PAGE);
	pair_free(&p);
}

static void limited(void)
{
	struct pair p = pair_new(PAGES, 10000);

	/* It alone says how fast: this sleep would be longer than the test. */
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "100000000"));
	TAP_EQ(0, file_write(SYSFS "pages_to_scan", "1"));
	TAP_EQ(0, file_write(SYSFS "cpu_limit_percent", "20"));
	scan_until_merged(&p, 10000);
	TAP_EQ(0, file_write(SYSFS "cpu_limit_percent", "0"));
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "20"));
	TAP_EQ(0, file_write(SYSFS "pages_to_scan", "1000"));
	pair_free(&p);
}

/* Whoever has stopped the scanners can rely on it. */
static void stopped(void)
{
	struct pair p = pair_new(2048, 300000);
	unsigned int i;

	TAP_EQ(0, file_write(SYSFS "scanners", "3"));
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "0"));
	TAP_EQ(0, file_write(SYSFS "max_idle_millisecs", "0"));
	for (i = 0; i < 100; i++) {
		const char *stop = i % 2 ? "2" : "0";
		uint64_t scanned;

		TAP_EQ(0, file_write(SYSFS "run", "1"));
		usleep(i * 100);
		TAP_EQ(0, file_write(SYSFS "run", stop));
		scanned = stat_of(p.domain, 0).scanned;
		if (i % 2)
			TAP_EQ(0, stat_of(p.domain, 0).pages_shared);
		usleep(5000);
		TAP_EQ(scanned, stat_of(p.domain, 0).scanned);
		if (i % 2)
			TAP_EQ(0, stat_of(p.domain, 0).pages_shared);
	}
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	TAP_EQ(0, file_write(SYSFS "scanners", "1"));
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "20"));
	TAP_EQ(0, file_write(SYSFS "max_idle_millisecs", "1000"));
	pair_holds(&p, 300000);
	pair_free(&p);
}

/*
 * Nothing is gained for so many rounds, then there is a page to merge with
 * page @i of the area. Returns whether that was seen long before the next round
 * would have come by itself: 16 s later after ten rounds, then twice that.
 */
static bool woken(const struct area *a, unsigned int rounds, unsigned int i)
{
	long long scans = file_read(SYSFS "full_scans");
	uint64_t sharing = stat_of(a->domain, 0).pages_sharing;
	unsigned char *same = memory(1);
	double end = seconds() + WAIT_SECONDS;
	bool seen;

	TAP_EQ(0, file_write(SYSFS "run", "1"));
	while (file_read(SYSFS "full_scans") < scans + rounds) {
		TAP_CHECK(seconds() < end);
		usleep(20000);
	}
	fill(same, 11000 + i);
	region_add(a->domain, same, PAGE);
	end = seconds() + (8 << (rounds - 10));
	do {
		usleep(20000);
		seen = stat_of(a->domain, 0).pages_sharing == sharing + 1;
	} while (!seen && seconds() < end);
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	munmap(same, PAGE);
	return seen;
}

/* Where nothing is to be gained rounds become rare, until something is new. */
static void idle(void)
{
	struct area a = area_cold(PAGES, 11000);
	unsigned int i;

	TAP_EQ(0, file_write(SYSFS "max_idle_millisecs", "3600000"));
	/* A machine that is very slow is given longer pauses. */
	for (i = 0; !woken(&a, 10 + i, i); i++)
		TAP_CHECK(i < 3);
	TAP_EQ(0, file_write(SYSFS "max_idle_millisecs", "1000"));
	area_free(&a);
}

static void none_protected(void)
{
	nothing_left();
	TAP_EQ(0, protected_pages());
}

int main(void)
{
	static const struct tap_test tests[] = {
		{ "memory that does not change is not read again", unread },
		{ "a write to a protected page is seen by the next scan", written },
		{ "so is one by a system call", written_by_call },
		{ "a page that is written now and then is seldom protected",
		  written_again },
		{ "another page that is moved there is seen", moved },
		{ "what was discarded and filled anew is seen", discarded },
		{ "a forked child and its parent keep to themselves", forked },
		{ "a pinned page is not protected", pinned },
		{ "neither is one with a foreign reference", referenced },
		{ "an unseen write is found in time", stale },
		{ "an unseen write does not merge a page wrongly", stale_match },
		{ "protected pages are swapped as others", swapped },
		{ "several scanners share the work", several_scanners },
		{ "scans of one domain at once, while regions come and go",
		  scans_at_once },
		{ "a CPU limit rules the pace alone", limited },
		{ "scanners that are stopped are at rest", stopped },
		{ "idle rounds are rare, and a new region ends that", idle },
		{ "nothing is left behind", none_protected },
	};

	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
