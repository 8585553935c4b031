// SPDX-License-Identifier: GPL-2.0-only
/*
 * Merged pages and what a process may do with its memory: protect, lock, watch,
 * discard and replace it, and become another program. Content and counters are
 * exact, and nothing is merged that must not be.
 */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "memmerge_test.h"

#define PAGES	64UL
#define KSM_ZERO	"/sys/kernel/mm/ksm/ksm_zero_pages"

static sigjmp_buf fault_env;

static void leave_fault(int sig)
{
	(void)sig;
	siglongjmp(fault_env, 1);
}

/* Does an access to a byte end in SIGSEGV? */
static bool faults(unsigned char *addr, bool write)
{
	struct sigaction action = { .sa_handler = leave_fault }, old;
	bool hit;

	sigaction(SIGSEGV, &action, &old);
	hit = sigsetjmp(fault_env, 1);
	if (!hit) {
		if (write)
			__atomic_fetch_xor(addr, 0, __ATOMIC_SEQ_CST);
		else
			__atomic_load_n(addr, __ATOMIC_SEQ_CST);
	}
	sigaction(SIGSEGV, &old, NULL);
	return hit;
}

static void unmerge_all(int domain, uint64_t want)
{
	struct memmerge_scan arg = { .size = sizeof(arg) };

	TAP_EQ(0, ioctl(domain, MEMMERGE_UNMERGE, &arg));
	TAP_EQ(want, arg.merged);
}

/*
 * User-Mode Linux takes a page table entry that was read-only before for
 * changed when it is made read-only, and merges the page in the next pass.
 */
static void scan_read_only(int domain)
{
	domain_scan(domain);
	domain_scan(domain);
	domain_scan(domain);
}

/* Protection is the process's, merged or not. */
static void protect_none(void)
{
	struct pair p = pair_new(PAGES, 1000);

	TAP_EQ(0, mprotect(p.a, PAGES * PAGE, PROT_NONE));
	scan_read_only(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_CHECK(faults(p.a, false) && faults(p.a, true));
	TAP_CHECK(faults(p.a + (PAGES - 1) * PAGE, false));
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);

	/* Written by the other, who may. */
	p.b[0] ^= 1;
	TAP_EQ(PAGES - 1, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(0, mprotect(p.a, PAGES * PAGE, PROT_READ | PROT_WRITE));
	TAP_CHECK(holds(p.a, 1000));
	p.b[0] ^= 1;
	pair_holds(&p, 1000);
	TAP_EQ(PAGES - 1, pair_same_frames(&p));
	p.a[PAGE] ^= 1;
	TAP_CHECK(holds(p.b + PAGE, 1001));
	p.a[PAGE] ^= 1;
	pair_holds(&p, 1000);
	pair_free(&p);
}

static void unmerge_none(void)
{
	struct pair p = pair_new(PAGES, 2000);

	domain_scan(p.domain);
	TAP_EQ(0, mprotect(p.a, PAGES * PAGE, PROT_NONE));
	TAP_EQ(0, mprotect(p.b, PAGES * PAGE, PROT_NONE));
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	unmerge_all(p.domain, 2 * PAGES);
	TAP_EQ(0, stat_of(p.domain, 0).pages_shared);
	TAP_CHECK(faults(p.a, false) && faults(p.b, false));
	TAP_EQ(0, mprotect(p.a, PAGES * PAGE, PROT_READ | PROT_WRITE));
	TAP_EQ(0, mprotect(p.b, PAGES * PAGE, PROT_READ | PROT_WRITE));
	TAP_EQ(0, pair_same_frames(&p));
	pair_holds(&p, 2000);
	pair_free(&p);
}

static void protect_read(void)
{
	struct pair p = pair_new(PAGES, 3000);

	TAP_EQ(0, mprotect(p.a, PAGES * PAGE, PROT_READ));
	scan_read_only(p.domain);
	TAP_EQ(PAGES, pair_same_frames(&p));
	TAP_CHECK(faults(p.a, true) && !faults(p.a, false));
	TAP_EQ(0, mprotect(p.a, PAGES * PAGE, PROT_READ | PROT_WRITE));
	/* Writable again, it is still shared until it is written. */
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	p.a[7] ^= 1;
	TAP_CHECK(holds(p.b, 3000));
	TAP_EQ(PAGES - 1, stat_of(p.domain, 0).pages_sharing);
	p.a[7] ^= 1;
	pair_holds(&p, 3000);
	pair_free(&p);
}

/* The zero page, and back from it. */
static void zero_and_back(void)
{
	long long before = file_read(KSM_ZERO);
	unsigned char *mem = memory(PAGES);
	int domain = domain_open();
	struct memmerge_stat stat;
	unsigned long i, j;
	uint64_t id, zero;

	memset(mem, 1, PAGES * PAGE);
	memset(mem, 0, PAGES * PAGE);
	id = region_add(domain, mem, PAGES * PAGE);
	domain_scan(domain);
	TAP_EQ(before + (long long)PAGES, file_read(KSM_ZERO));
	zero = pfn_of(mem);
	TAP_EQ(zero, pfn_of(mem + PAGE));
	unmerge_all(domain, PAGES);
	TAP_EQ(before, file_read(KSM_ZERO));
	stat = stat_of(domain, 0);
	TAP_EQ(0, stat.pages_mapped_zero);
	TAP_EQ(0, stat.unshare_demand);
	for (i = 0; i < PAGES; i++) {
		TAP_CHECK(pfn_of(mem + i * PAGE) != zero);
		for (j = 0; j < PAGE; j++)
			TAP_CHECK(!mem[i * PAGE + j]);
	}

	scan_read_only(domain);
	TAP_EQ(PAGES, stat_of(domain, 0).pages_mapped_zero);
	TAP_EQ(0, region_remove(domain, id, MEMMERGE_REMOVE_UNMERGE));
	TAP_EQ(before, file_read(KSM_ZERO));
	TAP_CHECK(pfn_of(mem) != zero);

	/* run=2 does so for all domains. */
	region_add(domain, mem, PAGES * PAGE);
	scan_read_only(domain);
	TAP_EQ(before + (long long)PAGES, file_read(KSM_ZERO));
	TAP_EQ(0, file_write(SYSFS "run", "2"));
	TAP_EQ(before, file_read(KSM_ZERO));
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	close(domain);
	munmap(mem, PAGES * PAGE);
}

/* Who locks memory wants it to be there: his own, and writable. */
static void locked_later(void)
{
	struct pair p = pair_new(PAGES, 4000);

	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(0, mlock(p.a, PAGES * PAGE));
	TAP_EQ(0, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(0, pair_same_frames(&p));
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, p.id_a).skip_locked);
	TAP_EQ(0, stat_of(p.domain, 0).pages_sharing);
	pair_holds(&p, 4000);
	TAP_EQ(0, munlock(p.a, PAGES * PAGE));
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	pair_holds(&p, 4000);
	pair_free(&p);
}

/* Merging and unsharing take nothing of what a process may have. */
static void limits(void)
{
	struct rlimit address, memlock, data, none = { 0, 0 };
	struct pair p = pair_new(PAGES, 5000);
	unsigned long i;

	TAP_EQ(0, getrlimit(RLIMIT_AS, &address));
	TAP_EQ(0, getrlimit(RLIMIT_DATA, &data));
	TAP_EQ(0, getrlimit(RLIMIT_MEMLOCK, &memlock));
	none.rlim_max = address.rlim_max;
	TAP_EQ(0, setrlimit(RLIMIT_AS, &none));
	none.rlim_max = data.rlim_max;
	TAP_EQ(0, setrlimit(RLIMIT_DATA, &none));
	none.rlim_max = memlock.rlim_max;
	TAP_EQ(0, setrlimit(RLIMIT_MEMLOCK, &none));
	/* They are in force; and no check may leave the test before the end. */
	if (mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	    MAP_FAILED)
		p.pages = 0;
	domain_scan(p.domain);
	for (i = 0; i < PAGES; i++)
		p.a[i * PAGE + 1] ^= 1;
	for (i = 0; i < PAGES; i++)
		p.a[i * PAGE + 1] ^= 1;
	setrlimit(RLIMIT_AS, &address);
	setrlimit(RLIMIT_DATA, &data);
	setrlimit(RLIMIT_MEMLOCK, &memlock);
	TAP_EQ(PAGES, p.pages);
	TAP_EQ(2 * PAGES, stat_of(p.domain, 0).merged);
	TAP_EQ(0, stat_of(p.domain, 0).pages_sharing);
	pair_holds(&p, 5000);
	pair_free(&p);
}

static int userfault_new(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		TAP_SKIP_TEST("this kernel has no userfaultfd");
	if (ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -1;
	}
	return fd;
}

static int userfault_watch(int fd, void *mem, uint64_t length, uint64_t mode)
{
	struct uffdio_register arg = {
		.range = { .start = (uintptr_t)mem, .len = length },
		.mode = mode,
	};

	return ioctl(fd, UFFDIO_REGISTER, &arg) ? -errno : 0;
}

/* Memory whose faults another wants to see: no page goes or comes unseen. */
static void watched(void)
{
	struct uffdio_range range;
	struct pair p;
	int fd = userfault_new(0);

	TAP_CHECK(fd >= 0);
	p = pair_new(PAGES, 6000);
	TAP_EQ(0, userfault_watch(fd, p.a, PAGES * PAGE,
				  UFFDIO_REGISTER_MODE_MISSING));
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, p.id_a).skip_guarded);
	TAP_EQ(0, stat_of(p.domain, p.id_b).skip_guarded);
	TAP_EQ(0, stat_of(p.domain, 0).pages_shared);
	range = (struct uffdio_range){ (uintptr_t)p.a, PAGES * PAGE };
	TAP_EQ(0, ioctl(fd, UFFDIO_UNREGISTER, &range));
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);

	/* What is merged already stays so, until it is written. */
	TAP_EQ(0, userfault_watch(fd, p.a, PAGES * PAGE,
				  UFFDIO_REGISTER_MODE_MISSING));
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, p.id_a).skip_guarded);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(PAGES, pair_same_frames(&p));
	p.a[0] ^= 1;
	TAP_CHECK(holds(p.b, 6000));
	p.a[0] ^= 1;
	close(fd);
	pair_holds(&p, 6000);
	pair_free(&p);
}

struct writer {
	unsigned char *page;
	atomic_int done;
};

static void *write_page(void *arg)
{
	struct writer *w = arg;

	w->page[11] ^= 1;
	w->done = 1;
	return NULL;
}

/* A write to a merged page that is write-protected waits for the watcher. */
static void write_protected(void)
{
	struct uffdio_writeprotect wp;
	struct writer writer = { 0 };
	struct uffd_msg message;
	struct pollfd poll_fd;
	pthread_t thread;
	struct pair p;
	int fd = userfault_new(UFFD_FEATURE_PAGEFAULT_FLAG_WP);

	if (fd < 0)
		TAP_SKIP_TEST("this kernel has no userfaultfd write protection");
	p = pair_new(PAGES, 7000);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	TAP_EQ(0, userfault_watch(fd, p.a, PAGES * PAGE,
				  UFFDIO_REGISTER_MODE_WP));
	wp = (struct uffdio_writeprotect) {
		.range = { (uintptr_t)p.a, PAGES * PAGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	TAP_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
	TAP_EQ(PAGES, pair_same_frames(&p));

	/* Neither a scan nor unmerging takes the protection away. */
	domain_scan(p.domain);
	writer.page = p.a;
	TAP_EQ(0, pthread_create(&thread, NULL, write_page, &writer));
	poll_fd = (struct pollfd){ .fd = fd, .events = POLLIN };
	TAP_EQ(1, poll(&poll_fd, 1, WAIT_SECONDS * 1000));
	TAP_EQ(sizeof(message), read(fd, &message, sizeof(message)));
	TAP_EQ(UFFD_EVENT_PAGEFAULT, message.event);
	TAP_CHECK(message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP);
	TAP_EQ(0, writer.done);
	TAP_CHECK(holds(p.a, 7000) && holds(p.b, 7000));
	wp.mode = 0;
	TAP_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
	TAP_EQ(0, pthread_join(thread, NULL));
	TAP_CHECK(holds(p.b, 7000));
	TAP_EQ(PAGES - 1, stat_of(p.domain, 0).pages_sharing);
	p.a[11] ^= 1;
	close(fd);
	pair_holds(&p, 7000);
	pair_free(&p);
}

/* A process that becomes another program takes nothing of the old one along. */
static void executed(void)
{
	unsigned char *mem = memory(PAGES);
	int domain = domain_open(), ready[2], go[2], hold[2], pidfd, status;
	unsigned long i;
	double end;
	char c = 0;
	pid_t pid;

	for (i = 0; i < PAGES; i++)
		fill(mem + i * PAGE, 8000 + i);
	TAP_CHECK(!pipe(ready) && !pipe(go) && !pipe(hold));
	pid = fork();
	if (!pid) {
		close(hold[1]);
		close(domain);
		for (i = 0; i < PAGES; i++)
			fill(mem + i * PAGE, 8000 + i);
		if (write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(1);
		/* Lives until the other end of its input is closed. */
		dup2(hold[0], 0);
		execl("/bin/cat", "cat", NULL);
		_exit(2);
	}
	TAP_EQ(1, read(ready[0], &c, 1));
	for (i = 0; i < PAGES; i++)
		fill(mem + i * PAGE, 8000 + i);
	region_add(domain, mem, PAGES * PAGE);
	pidfd = pidfd_of(pid);
	TAP_EQ(0, region_try(domain, pidfd, mem, PAGES * PAGE, NULL));
	domain_scan(domain);
	TAP_EQ(PAGES, stat_of(domain, 0).pages_sharing);
	TAP_EQ(2, stat_of(domain, 0).regions);

	TAP_EQ(1, write(go[1], &c, 1));
	/* The old address space has ended, the process has not. */
	file_wait(SYSFS "regions", 1);
	TAP_EQ(0, kill(pid, 0));
	end = seconds() + WAIT_SECONDS;
	while (stat_of(domain, 0).pages_sharing) {
		TAP_CHECK(seconds() < end);
		usleep(20000);
	}
	TAP_EQ(PAGES, stat_of(domain, 0).pages_shared);
	domain_scan(domain);
	for (i = 0; i < PAGES; i++)
		TAP_CHECK(holds(mem + i * PAGE, 8000 + i));
	close(hold[1]);
	TAP_EQ(pid, waitpid(pid, &status, 0));
	TAP_EQ(0, status);
	close(pidfd);
	close(hold[0]);
	for (i = 0; i < 2; i++) {
		close(ready[i]);
		close(go[i]);
	}
	close(domain);
	munmap(mem, PAGES * PAGE);
}

/* What is mapped at the address now counts, not what was. */
static void replaced(void)
{
	struct pair p = pair_new(PAGES, 9000);
	struct memmerge_stat stat;
	unsigned long i;

	domain_scan(p.domain);
	TAP_CHECK(mmap(p.a, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p.a);
	TAP_EQ(0, stat_of(p.domain, 0).pages_sharing);
	for (i = 0; i < PAGES; i++)
		fill(p.a + i * PAGE, 9000 + i);
	domain_scan(p.domain);
	TAP_EQ(PAGES, stat_of(p.domain, 0).pages_sharing);
	pair_holds(&p, 9000);

	/* A shared mapping in its place is none of ours. */
	TAP_CHECK(mmap(p.a, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED |
		       MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p.a);
	for (i = 0; i < PAGES; i++)
		fill(p.a + i * PAGE, 9000 + i);
	domain_scan(p.domain);
	stat = stat_of(p.domain, 0);
	TAP_EQ(0, stat.pages_sharing);
	TAP_EQ(PAGES, stat.skip_file);
	pair_holds(&p, 9000);
	pair_free(&p);
}

/* A file's pages are the file's; private copies of them are the process's. */
static void file_copies(void)
{
	struct memmerge_stat stat;
	int domain = domain_open();
	int file = syscall(SYS_memfd_create, "memmerge-test", 0);
	unsigned char page[PAGE] __attribute__((aligned(8))), *mem;
	unsigned long i;

	TAP_CHECK(file >= 0);
	fill(page, 10000);
	for (i = 0; i < PAGES; i++)
		TAP_EQ(PAGE, pwrite(file, page, PAGE, i * PAGE));
	mem = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE,
		   file, 0);
	TAP_CHECK(mem != MAP_FAILED);
	for (i = 0; i < PAGES / 2; i++)
		write_same(mem + i * PAGE);
	for (; i < PAGES; i++)
		TAP_CHECK(holds(mem + i * PAGE, 10000));
	region_add(domain, mem, PAGES * PAGE);
	domain_scan(domain);
	stat = stat_of(domain, 0);
	TAP_EQ(1, stat.pages_shared);
	TAP_EQ(PAGES / 2 - 1, stat.pages_sharing);
	TAP_EQ(PAGES / 2, stat.skip_file);
	mem[0] ^= 1;
	TAP_EQ(PAGE, pread(file, page, PAGE, 0));
	TAP_CHECK(holds(page, 10000) && holds(mem + PAGE, 10000));

	/* Discarded, a copy is the file's page again. */
	TAP_EQ(0, madvise(mem, PAGES * PAGE, MADV_DONTNEED));
	TAP_EQ(0, stat_of(domain, 0).pages_shared);
	TAP_CHECK(holds(mem, 10000));
	domain_scan(domain);
	TAP_EQ(PAGES - stat_of(domain, 0).skip_absent,
	       stat_of(domain, 0).skip_file);
	close(domain);
	close(file);
	munmap(mem, PAGES * PAGE);
}

static void no_demand_left(void)
{
	nothing_left();
	TAP_EQ(0, file_read(SYSFS "unshare_demand"));
}

int main(void)
{
	static const struct tap_test tests[] = {
		{ "inaccessible pages merge and stay inaccessible", protect_none },
		{ "inaccessible pages are unmerged", unmerge_none },
		{ "read-only pages merge and stay read-only", protect_read },
		{ "the zero page, and back from it", zero_and_back },
		{ "memory that is locked later has its own pages", locked_later },
		{ "merging and unsharing need no resource limit", limits },
		{ "memory under userfaultfd is left as it is", watched },
		{ "userfaultfd's write protection holds for merged pages", write_protected },
		{ "a process that executes another program lets go", executed },
		{ "memory that was mapped anew is looked at anew", replaced },
		{ "private copies of a file's pages merge, its pages do not", file_copies },
		{ "nothing is left behind", no_demand_left },
	};

	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
