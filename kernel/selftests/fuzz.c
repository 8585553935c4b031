// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz - requests and files with arguments that nobody would give
 *
 *	fuzz [--seed N] [--ops N] [--failslab %] [--fail-page %]
 *
 * Threads race on the same domains. What a request may answer is what
 * kernel/Documentation/abi.md says: abi_errnos.h is made of its table. What
 * cannot be right must be refused. What a file holds must be what was written
 * to it, if that was legal, and what it was before, if not.
 *
 * What a thread does as its n-th operation depends on the seed, the thread and
 * n alone.
 */
#include <dirent.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

#include "faults.h"
#include "memmerge_test.h"
#include "random.h"

#define THREADS		4
#define DOMAINS		3
#define DOMAIN_FD	200	/* the first; the numbers stay */
#define PAGES		128UL
#define TABLE		(2UL << 20)

static const struct {
	int number;
	const char *name;
} documented[] = {
#include "abi_errnos.h"
};

static const struct {
	unsigned int cmd;
	const char *name;
	unsigned int size, first;
} requests[] = {
	{ MEMMERGE_ADD_REGION, "add", sizeof(struct memmerge_region),
	  sizeof(struct memmerge_region) },
	{ MEMMERGE_REMOVE_REGION, "remove", sizeof(struct memmerge_region),
	  sizeof(struct memmerge_region) },
	{ MEMMERGE_SCAN, "scan", sizeof(struct memmerge_scan),
	  sizeof(struct memmerge_scan) },
	{ MEMMERGE_UNMERGE, "unmerge", sizeof(struct memmerge_scan),
	  sizeof(struct memmerge_scan) },
	{ MEMMERGE_STAT, "stat", sizeof(struct memmerge_stat),
	  MEMMERGE_STAT_SIZE_VER0 },
	{ MEMMERGE_LIMIT, "limit", sizeof(struct memmerge_limit),
	  sizeof(struct memmerge_limit) },
};

#define REQUESTS (sizeof(requests) / sizeof(requests[0]))

/* Files that can be written, and what they take. */
static const struct {
	const char *name;
	long long min, max;
	bool changes;		/* by itself, too */
} tunables[] = {
	{ "run", 0, 2, false },
	{ "pages_to_scan", 1, UINT_MAX, false },
	{ "sleep_millisecs", 0, UINT_MAX, false },
	{ "use_zero_pages", 0, 1, false },
	{ "max_page_sharing", 2, INT_MAX, false },
	{ "scanners", 1, 64, false },
	{ "cpu_limit_percent", 0, 6400, false },
	{ "max_idle_millisecs", 0, UINT_MAX, false },
	{ "huge_split_pages", 0, 512, false },
	{ "smart_scan", 0, 1, false },
	{ "stable_node_chains_prune_millisecs", 0, UINT_MAX, false },
	{ "advisor_max_cpu", 1, 100, false },
	{ "advisor_min_pages_to_scan", 1, UINT_MAX, false },
	{ "advisor_max_pages_to_scan", 1, UINT_MAX, false },
	{ "advisor_target_scan_time", 1, UINT_MAX, false },
	{ "unshare_limit", -1, LLONG_MAX, false },
	{ "unshare_limit_percent", -1, 10000, false },
	{ "domain_lock_max_ns", 0, 0, true },
	{ "page_table_lock_max_ns", 0, 0, true },
};

#define TUNABLES (sizeof(tunables) / sizeof(tunables[0]))

/* Files that take a word, and no number. */
static const char *const choices[] = { "engine", "advisor_mode" };

#define CHOICES (sizeof(choices) / sizeof(choices[0]))

static struct {
	uint64_t seed;
	unsigned long ops;
	unsigned int failslab, fail_page;
} opt;

static unsigned char *area;	/* of this process */
static unsigned char *edge;	/* a page, behind which there is none */
static unsigned char *readonly;	/* a page that cannot be written */
static int living, gone_fd;	/* pidfds */
static pid_t other;
static atomic_ulong answers[256];
static atomic_ulong good[REQUESTS];
static atomic_int failed;
static char reason[512];

__attribute__((format(printf, 1, 2)))
static void fail(const char *format, ...)
{
	va_list args;
	int none = 0;

	if (!atomic_compare_exchange_strong(&failed, &none, 1))
		return;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	atomic_store(&failed, 2);
}

static const char *name_of(int number)
{
	unsigned int i;

	for (i = 0; i < sizeof(documented) / sizeof(documented[0]); i++)
		if (documented[i].number == number)
			return documented[i].name;
	return NULL;
}

static bool starving(void)
{
	return opt.failslab || opt.fail_page;
}

/* ---- arguments ---- */

static uint64_t any_address(struct rng *rng)
{
	uint64_t mem = (uintptr_t)area;

	switch (rng_below(rng, 12)) {
	case 0:
		return 0;
	case 1:
		return ~0ULL << rng_below(rng, 64);
	case 2:
		return 1ULL << rng_below(rng, 64);
	case 3:
		return mem + rng_below(rng, PAGES * PAGE);
	case 4:
		return (uintptr_t)edge;
	case 5:
		return rng_next(rng);
	default:
		return mem + rng_below(rng, PAGES) * PAGE;
	}
}

static uint64_t any_length(struct rng *rng)
{
	switch (rng_below(rng, 12)) {
	case 0:
		return 0;
	case 1:
		return ~0ULL << rng_below(rng, 64);
	case 2:
		return 1ULL << rng_below(rng, 28);
	case 3:
		return rng_next(rng);
	case 4:
		/* Just what a domain takes is terabytes to look at. */
		return 1ULL << (44 + rng_below(rng, 20));
	default:
		return (1 + rng_below(rng, PAGES)) * PAGE;
	}
}

static uint64_t any_id(struct rng *rng)
{
	switch (rng_below(rng, 6)) {
	case 0:
		return 0;
	case 1:
		return rng_next(rng);
	default:
		return 1 + rng_below(rng, 40);
	}
}

static int any_pidfd(struct rng *rng)
{
	const int fds[] = {
		MEMMERGE_PIDFD_SELF, MEMMERGE_PIDFD_SELF, MEMMERGE_PIDFD_SELF,
		living, living, gone_fd, DOMAIN_FD, 0, -2, INT_MIN, INT_MAX,
	};

	return fds[rng_below(rng, sizeof(fds) / sizeof(fds[0]))];
}

static unsigned int any_size(struct rng *rng, unsigned int size)
{
	switch (rng_below(rng, 10)) {
	case 0:
		return rng_below(rng, size + 64);
	case 1:
		return rng_next(rng);
	case 2:
		return PAGE + rng_below(rng, 3) - 1;
	case 3:
		return size + 8 * rng_below(rng, 8);
	default:
		return size;
	}
}

/* Flip something in a flags field, mostly not. */
static unsigned int any_flags(struct rng *rng, unsigned int known)
{
	switch (rng_below(rng, 8)) {
	case 0:
		return 1U << rng_below(rng, 32);
	case 1:
		return rng_next(rng);
	default:
		return rng_next(rng) & known;
	}
}

union arg {
	unsigned int size;
	struct memmerge_region region;
	struct memmerge_scan scan;
	struct memmerge_stat stat;
	struct memmerge_limit limit;
	unsigned char bytes[2 * PAGE];
};

static void any_argument(struct rng *rng, unsigned int request, union arg *arg)
{
	memset(arg, 0, sizeof(*arg));
	if (!rng_below(rng, 16)) {
		uint64_t *word = (uint64_t *)arg->bytes;
		unsigned int i;

		for (i = 0; i < 64; i++)
			word[i] = rng_next(rng);
	}
	switch (requests[request].cmd) {
	case MEMMERGE_ADD_REGION:
	case MEMMERGE_REMOVE_REGION:
		arg->region.flags = any_flags(rng, request == 1);
		arg->region.pidfd = any_pidfd(rng);
		arg->region.reserved = rng_below(rng, 16) ? 0 : rng_next(rng);
		arg->region.start = any_address(rng);
		arg->region.length = any_length(rng);
		arg->region.id = any_id(rng);
		break;
	case MEMMERGE_STAT:
		arg->stat.flags = any_flags(rng, 0);
		arg->stat.id = any_id(rng);
		break;
	case MEMMERGE_LIMIT:
		arg->limit.flags = any_flags(rng, 0);
		/* Mostly one under which some pages merge and some do not. */
		arg->limit.unshare_bytes = rng_below(rng, 4) ?
			rng_below(rng, PAGES * PAGE) : MEMMERGE_NO_LIMIT;
		if (!rng_below(rng, 16))
			arg->limit.reserved[rng_below(rng, 2)] = rng_next(rng);
		break;
	default:
		arg->scan.flags = any_flags(rng, 0);
		arg->scan.id = any_id(rng);
		if (rng_below(rng, 2)) {
			arg->scan.start = any_address(rng);
			arg->scan.length = any_length(rng);
		}
		break;
	}
	arg->size = any_size(rng, requests[request].size);
	/* Behind the struct that the kernel knows; mostly zero. */
	if (!rng_below(rng, 12))
		arg->bytes[requests[request].size + rng_below(rng, 40)] = 1;
}

/* May the kernel say yes to this? Only what can be told from the argument. */
static bool may_succeed(unsigned int request, const union arg *arg)
{
	const unsigned int size = requests[request].size;
	unsigned int i;

	if (arg->size < requests[request].first || arg->size > PAGE)
		return false;
	for (i = size; i < arg->size; i++)
		if (arg->bytes[i])
			return false;
	switch (requests[request].cmd) {
	case MEMMERGE_ADD_REGION:
		return !arg->region.flags && !arg->region.reserved &&
		       !(arg->region.start % PAGE) && arg->region.length &&
		       !(arg->region.length % PAGE) &&
		       arg->region.start + arg->region.length >
		       arg->region.start &&
		       (arg->region.pidfd == MEMMERGE_PIDFD_SELF ||
			arg->region.pidfd == living);
	case MEMMERGE_REMOVE_REGION:
		return !(arg->region.flags & ~MEMMERGE_REMOVE_UNMERGE) &&
		       !arg->region.reserved && arg->region.id;
	case MEMMERGE_STAT:
		return !arg->stat.flags;
	case MEMMERGE_LIMIT:
		return !arg->limit.flags && !arg->limit.reserved[0] &&
		       !arg->limit.reserved[1];
	default:
		if (arg->scan.flags || arg->scan.start % PAGE ||
		    arg->scan.length % PAGE)
			return false;
		return arg->scan.id ? arg->scan.length || !arg->scan.start :
				      !arg->scan.start && !arg->scan.length;
	}
}

static void answered(const char *what, int err, unsigned long n,
		     unsigned int thread)
{
	if (err < 0 || err > 255 || (err && !name_of(err)))
		fail("thread %u, operation %lu: %s answers %s, which abi.md does not name",
		     thread, n, what, strerror(err));
	else
		atomic_fetch_add(&answers[err], 1);
}

static void fuzz_request(struct rng *rng, unsigned int thread, unsigned long n)
{
	unsigned int request = rng_below(rng, REQUESTS), size;
	int domain = DOMAIN_FD + rng_below(rng, DOMAINS), err;
	void *where;
	union arg arg;
	bool may;

	any_argument(rng, request, &arg);
	may = may_succeed(request, &arg);
	size = requests[request].size;
	where = &arg;
	switch (rng_below(rng, 24)) {
	case 0:
		/* It ends where the memory ends, or a little behind that. */
		size = rng_below(rng, 2) ? size : rng_below(rng, size);
		where = edge + PAGE - size;
		may = may && arg.size <= size;
		memcpy(where, &arg, size);
		break;
	case 1:
		/* A stale argument that nothing can be given back to. */
		where = readonly;
		may = requests[request].cmd == MEMMERGE_LIMIT;
		break;
	case 2:
		where = (void *)(uintptr_t)(rng_next(rng) << rng_below(rng, 32) |
					    1ULL << 63);
		may = false;
		break;
	default:
		break;
	}
	err = ioctl(domain, requests[request].cmd, where) ? errno : 0;
	answered(requests[request].name, err, n, thread);
	if (!err && !may)
		fail("thread %u, operation %lu: %s (size %u) succeeds and must not",
		     thread, n, requests[request].name, arg.size);
	if (!err)
		atomic_fetch_add(&good[request], 1);
	if (err == ENOMEM && requests[request].cmd != MEMMERGE_ADD_REGION &&
	    !starving())
		fail("thread %u, operation %lu: %s has no memory", thread, n,
		     requests[request].name);
}

static void fuzz_command(struct rng *rng, unsigned int thread, unsigned long n)
{
	int domain = DOMAIN_FD + rng_below(rng, DOMAINS), err;
	unsigned int cmd = rng_next(rng), i;
	union arg arg;

	/* Numbers below are others', such as FIOCLEX. */
	if (rng_below(rng, 2))
		cmd = (cmd & ~0xff00U) | MEMMERGE_IOC_MAGIC << 8;
	else
		cmd |= 0x8000;
	for (i = 0; i < REQUESTS; i++)
		if (cmd == requests[i].cmd)
			return;
	any_argument(rng, 0, &arg);
	err = ioctl(domain, cmd, &arg) ? errno : 0;
	if (err != ENOTTY)
		fail("thread %u, operation %lu: request %#x answers %s", thread,
		     n, cmd, err ? strerror(err) : "0");
	atomic_fetch_add(&answers[ENOTTY], 1);
}

static void fuzz_open(struct rng *rng, unsigned int thread, unsigned long n)
{
	static const int flags[] = { O_RDWR, O_RDONLY, O_WRONLY };
	int file = open(MEMMERGE_DEVICE, flags[rng_below(rng, 3)] | O_CLOEXEC);

	if (file < 0) {
		answered("open", errno, n, thread);
		return;
	}
	/* Closes the old one under the hands of the others. */
	dup3(file, DOMAIN_FD + rng_below(rng, DOMAINS), O_CLOEXEC);
	close(file);
}

/* Others are about to scan this. */
static void fuzz_memory(struct rng *rng)
{
	unsigned long i = rng_below(rng, PAGES);
	unsigned long count = 1 + rng_below(rng, PAGES - i);
	unsigned char *page = area + i * PAGE;

	switch (rng_below(rng, 5)) {
	case 0:
		munmap(page, count * PAGE);
		break;
	case 1:
		madvise(page, count * PAGE, MADV_DONTNEED);
		break;
	default:
		if (mmap(page, count * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
			 MAP_POPULATE, -1, 0) != page)
			break;
		break;
	}
}

static void *fuzz_thread(void *arg)
{
	unsigned int thread = (uintptr_t)arg;
	unsigned long n;

	if (starving() && faults_here(true))
		fail("this kernel cannot inject faults");
	for (n = 1; n <= opt.ops / THREADS && !atomic_load(&failed); n++) {
		struct rng rng = rng_at(opt.seed, thread, n);
		unsigned long what = rng_below(&rng, 100);

		/* One alone changes the memory: the others have it vanish. */
		if (!thread && what < 20)
			fuzz_memory(&rng);
		else if (what < 5)
			fuzz_open(&rng, thread, n);
		else if (what < 15)
			fuzz_command(&rng, thread, n);
		else
			fuzz_request(&rng, thread, n);
	}
	if (starving())
		faults_here(false);
	return NULL;
}

/* ---- sysfs ---- */

/* What kstrtouint(), or kstrtoint() and kstrtos64(), take for a number. */
static bool number(const char *text, size_t length, bool negative,
		   long long *value)
{
	size_t i = 0, first;
	bool minus;

	/* The kernel sees it up to the first zero byte. */
	length = strnlen(text, length);
	minus = negative && length && text[0] == '-';
	if (minus || (length && text[0] == '+'))
		i++;
	*value = 0;
	for (first = i; i < length && text[i] >= '0' && text[i] <= '9'; i++)
		if (__builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, text[i] - '0', value))
			return false;
	if (i == first)
		return false;
	if (minus)
		*value = -*value;
	return i == length || (i == length - 1 && text[i] == '\n');
}

static size_t any_text(struct rng *rng, unsigned int tunable, char *text,
		       size_t room)
{
	static const char *const texts[] = {
		"", "\n", "-1", "-0", "+1", "++1", " 1", "1 ", "1\n\n", "0x1",
		"1e3", "00000000000000000000002", "4294967295", "4294967296",
		"18446744073709551616", "99999999999999999999999999", "1.5",
		"on", "2147483647", "2147483648", "\xff\xfe", "%s%n",
	};
	size_t length, i;

	switch (rng_below(rng, 4)) {
	case 0:
		length = rng_below(rng, 16);
		if (!rng_below(rng, 8))
			length = room - 1;
		for (i = 0; i < length; i++)
			text[i] = rng_next(rng);
		return length;
	case 1:
		return snprintf(text, room, "%s", texts[rng_below(rng,
				sizeof(texts) / sizeof(texts[0]))]);
	case 2:
		return snprintf(text, room, "%llu\n",
				(unsigned long long)tunables[tunable].max +
				1 - rng_below(rng, 3));
	default:
		return snprintf(text, room, "%lld", tunables[tunable].min - 1 +
				(long long)rng_below(rng, 4));
	}
}

static void fuzz_file(struct rng *rng, unsigned long n)
{
	unsigned int tunable = rng_below(rng, TUNABLES);
	char text[6000], path[128];
	long long value = 0, before;
	size_t length;
	ssize_t got;
	bool legal, constant;
	int file;

	snprintf(path, sizeof(path), SYSFS "%s", tunables[tunable].name);
	before = file_read(path);
	constant = !tunables[tunable].changes;
	length = any_text(rng, tunable, text, sizeof(text));
	/* sysfs takes a page less one; what is behind is another write's. */
	legal = length < PAGE &&
		number(text, length, tunables[tunable].min < 0, &value) &&
		value >= tunables[tunable].min && value <= tunables[tunable].max;
	file = open(path, O_WRONLY | O_CLOEXEC);
	TAP_CHECK(file >= 0);
	got = write(file, text, length);
	close(file);
	if (!length) {
		TAP_CHECK(!constant || before == file_read(path));
	} else if (legal) {
		if (got != (ssize_t)length)
			tap_end(TAP_FAIL, "seed %llu, operation %lu: %s refuses %lld: %s",
				(unsigned long long)opt.seed, n, tunables[tunable].name, value,
				strerror(errno));
		TAP_CHECK(!constant || file_read(path) == value);
	} else {
		if (got >= 0 || errno != EINVAL)
			tap_end(TAP_FAIL, "seed %llu, operation %lu: %s is now %lld",
				(unsigned long long)opt.seed, n, tunables[tunable].name,
				file_read(path));
		TAP_CHECK(!constant || before == file_read(path));
	}
}

static bool is_tunable(const char *name)
{
	unsigned int i;

	for (i = 0; i < TUNABLES; i++)
		if (!strcmp(tunables[i].name, name))
			return true;
	return false;
}

static bool is_choice(const char *name)
{
	unsigned int i;

	for (i = 0; i < CHOICES; i++)
		if (!strcmp(choices[i], name))
			return true;
	return false;
}

/* Every file can be read; none can be written that is not in the tables. */
static void files(void)
{
	DIR *folder = opendir(SYSFS);
	unsigned int count = 0, words = 0;
	struct dirent *entry;
	struct stat info;
	char path[300];

	TAP_CHECK(folder);
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), SYSFS "%s", entry->d_name);
		file_read(path);
		TAP_EQ(0, stat(path, &info));
		if (is_tunable(entry->d_name)) {
			TAP_EQ(0644, info.st_mode & 07777);
			count++;
			continue;
		}
		if (is_choice(entry->d_name)) {
			TAP_EQ(0644, info.st_mode & 07777);
			TAP_EQ(-EINVAL, file_write(path, "1"));
			TAP_EQ(-EINVAL, file_write(path, "ksm memmerge"));
			words++;
			continue;
		}
		if (info.st_mode & 0222)
			tap_end(TAP_FAIL, "%s can be written, and is not in the table",
				entry->d_name);
		if (!file_write(path, "1"))
			tap_end(TAP_FAIL, "%s was written", entry->d_name);
	}
	closedir(folder);
	TAP_EQ(TUNABLES, count);
	TAP_EQ(CHOICES, words);
}

static void texts(void)
{
	long long before[TUNABLES];
	char path[128], text[32];
	unsigned long n;
	unsigned int i;

	for (i = 0; i < TUNABLES; i++) {
		snprintf(path, sizeof(path), SYSFS "%s", tunables[i].name);
		before[i] = file_read(path);
	}
	for (n = 1; n <= opt.ops / 4; n++) {
		struct rng rng = rng_at(opt.seed, THREADS, n);

		fuzz_file(&rng, n);
	}
	for (i = 0; i < TUNABLES; i++) {
		snprintf(path, sizeof(path), SYSFS "%s", tunables[i].name);
		snprintf(text, sizeof(text), "%lld",
			 tunables[i].changes ? 0 : before[i]);
		TAP_EQ(0, file_write(path, text));
	}
}

/* ---- requests ---- */

static void processes_start(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	gone_fd = pidfd_of(pid);
	waitpid(pid, NULL, 0);
	other = fork();
	if (!other) {
		unsigned long i;

		for (i = 0; i < PAGES; i++)
			fill(area + i * PAGE, i % 3);
		while (1)
			pause();
	}
	living = pidfd_of(other);
}

static void memory_start(void)
{
	unsigned long i;

	area = mmap(NULL, 3 * TABLE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		    MAP_NORESERVE, -1, 0);
	TAP_CHECK(area != MAP_FAILED);
	/* Across the border of a page table. */
	area = (void *)((((uintptr_t)area + TABLE - 1) & -TABLE) + TABLE -
			PAGES / 2 * PAGE);
	TAP_CHECK(mmap(area, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area);
	for (i = 0; i < PAGES; i++)
		fill(area + i * PAGE, i % 3);
	edge = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TAP_CHECK(edge != MAP_FAILED);
	/* Kept, so that nothing else is mapped there. */
	TAP_EQ(0, mprotect(edge + PAGE, PAGE, PROT_NONE));
	readonly = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TAP_CHECK(readonly != MAP_FAILED);
	((struct memmerge_scan *)readonly)->size = sizeof(struct memmerge_scan);
	TAP_EQ(0, mprotect(readonly, PAGE, PROT_READ));
}

static void requests_race(void)
{
	pthread_t threads[THREADS];
	uintptr_t i;

	memory_start();
	processes_start();
	for (i = 0; i < DOMAINS; i++) {
		int file = domain_open();

		dup3(file, DOMAIN_FD + i, O_CLOEXEC);
		close(file);
	}
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "1"));
	TAP_EQ(0, file_write(SYSFS "run", "1"));
	if (starving()) {
		TAP_EQ(0, faults_scanner());
		TAP_EQ(0, faults_set(opt.failslab, opt.fail_page));
	}
	for (i = 0; i < THREADS; i++)
		TAP_EQ(0, pthread_create(&threads[i], NULL, fuzz_thread,
					 (void *)i));
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	if (starving())
		TAP_EQ(0, faults_set(0, 0));
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	TAP_EQ(0, file_write(SYSFS "sleep_millisecs", "20"));
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	for (i = 0; i < DOMAINS; i++)
		close(DOMAIN_FD + i);
	if (atomic_load(&failed))
		tap_end(TAP_FAIL, "seed %llu: %s",
			(unsigned long long)opt.seed, reason);
}

/* Requests that were all refused would not have come far. */
static void all_answers(void)
{
	unsigned int i;

	printf("# answers: 0=%lu", atomic_load(&answers[0]));
	for (i = 0; i < sizeof(documented) / sizeof(documented[0]); i++)
		printf(" %s=%lu", documented[i].name,
		       atomic_load(&answers[documented[i].number]));
	printf("\n");
	for (i = 0; i < REQUESTS; i++)
		if (!atomic_load(&good[i]))
			tap_end(TAP_FAIL, "no %s succeeded", requests[i].name);
	for (i = 0; i < sizeof(documented) / sizeof(documented[0]); i++) {
		/* Another user, and a signal, are abi_test's and torture's. */
		if (documented[i].number == EPERM ||
		    documented[i].number == EINTR)
			continue;
		if (!atomic_load(&answers[documented[i].number]))
			tap_end(TAP_FAIL, "nothing was answered with %s",
				documented[i].name);
	}
}

static void memory_gone(void)
{
	/* They may have merged with what the other process had inherited. */
	munmap(area, PAGES * PAGE);
	munmap(edge, 2 * PAGE);
	munmap(readonly, PAGE);
	nothing_left();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{ "files are what the table says, and readable", files },
		{ "files take what is legal and keep it", texts },
		{ "requests answer what is documented, and no more",
		  requests_race },
		{ "every documented answer was given", all_answers },
		{ "nothing is left behind", memory_gone },
	};
	static const struct option names[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "ops", required_argument, NULL, 'o' },
		{ "failslab", required_argument, NULL, 'f' },
		{ "fail-page", required_argument, NULL, 'g' },
		{ }
	};
	int c;

	opt.ops = 20000;
	if (getrandom(&opt.seed, 4, 0) != 4)
		opt.seed = time(NULL);
	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		unsigned long long value = optarg ? strtoull(optarg, NULL, 0) :
						    0;

		switch (c) {
		case 's':
			opt.seed = value;
			break;
		case 'o':
			opt.ops = value;
			break;
		case 'f':
			opt.failslab = value;
			break;
		case 'g':
			opt.fail_page = value;
			break;
		default:
			return 2;
		}
	}
	printf("# seed=%llu ops=%lu failslab=%u%% fail_page=%u%%\n",
	       (unsigned long long)opt.seed, opt.ops, opt.failslab, opt.fail_page);
	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
