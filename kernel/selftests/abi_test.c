// SPDX-License-Identifier: GPL-2.0-only
/* The documented errno of every bad request, see ../Documentation/abi.md. */
#include "memmerge_test.h"

static int request(int domain, unsigned long cmd, void *arg)
{
	return ioctl(domain, cmd, arg) ? -errno : 0;
}

static void unknown_request(void)
{
	struct memmerge_scan arg = { .size = sizeof(arg) };
	int domain = domain_open();

	TAP_EQ(-ENOTTY, request(domain, _IO(MEMMERGE_IOC_MAGIC, 0x7f), &arg));
	TAP_EQ(-ENOTTY, request(domain, _IO(0x01, 0x00), &arg));
	close(domain);
}

/* A request that writes no answer may be given constant memory. */
static void constants(void)
{
	struct memmerge_limit *limit = (void *)memory(1);
	struct memmerge_region region = { .size = sizeof(region) };
	unsigned char *mem = memory(1);
	int domain = domain_open();

	mem[0] = 1;
	region.id = region_add(domain, mem, PAGE);
	limit->size = sizeof(*limit);
	limit->unshare_bytes = PAGE;
	TAP_EQ(0, mprotect(limit, PAGE, PROT_READ));
	TAP_EQ(0, request(domain, MEMMERGE_LIMIT, limit));
	TAP_EQ(PAGE, stat_of(domain, 0).unshare_limit);

	TAP_EQ(0, mprotect(limit, PAGE, PROT_READ | PROT_WRITE));
	memcpy(limit, &region, sizeof(region));
	TAP_EQ(0, mprotect(limit, PAGE, PROT_READ));
	TAP_EQ(0, request(domain, MEMMERGE_REMOVE_REGION, limit));
	TAP_EQ(0, stat_of(domain, 0).regions);
	munmap(limit, PAGE);
	munmap(mem, PAGE);
	close(domain);
}

static void sizes(void)
{
	static const struct {
		unsigned long cmd;
		uint32_t first, size;
	} cmds[] = {
		{ MEMMERGE_ADD_REGION, sizeof(struct memmerge_region),
		  sizeof(struct memmerge_region) },
		{ MEMMERGE_REMOVE_REGION, sizeof(struct memmerge_region),
		  sizeof(struct memmerge_region) },
		{ MEMMERGE_SCAN, sizeof(struct memmerge_scan),
		  sizeof(struct memmerge_scan) },
		{ MEMMERGE_UNMERGE, sizeof(struct memmerge_scan),
		  sizeof(struct memmerge_scan) },
		{ MEMMERGE_STAT, MEMMERGE_STAT_SIZE_VER0,
		  sizeof(struct memmerge_stat) },
		{ MEMMERGE_LIMIT, sizeof(struct memmerge_limit),
		  sizeof(struct memmerge_limit) },
	};
	union {
		uint32_t size;
		unsigned char bytes[2 * PAGE];
	} *arg = (void *)memory(2);
	int domain = domain_open();
	unsigned int i;

	for (i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++) {
		memset(arg, 0, 2 * PAGE);
		arg->size = 0;
		TAP_EQ(-EINVAL, request(domain, cmds[i].cmd, arg));
		arg->size = cmds[i].first - 1;
		TAP_EQ(-EINVAL, request(domain, cmds[i].cmd, arg));
		arg->size = PAGE + 1;
		TAP_EQ(-E2BIG, request(domain, cmds[i].cmd, arg));
		/* A newer program: fine while the excess is zero. */
		arg->size = cmds[i].size + 8;
		arg->bytes[cmds[i].size] = 1;
		TAP_EQ(-E2BIG, request(domain, cmds[i].cmd, arg));
		TAP_EQ(-EFAULT, request(domain, cmds[i].cmd, NULL));
	}
	memset(arg, 0, 2 * PAGE);
	arg->size = sizeof(struct memmerge_stat) + 8;
	TAP_EQ(0, request(domain, MEMMERGE_STAT, arg));
	TAP_EQ(sizeof(struct memmerge_stat) + 8, arg->size);

	/* An older program: nothing is written behind what it knows. */
	memset(arg, 0xaa, 2 * PAGE);
	memset(arg, 0, MEMMERGE_STAT_SIZE_VER0);
	arg->size = MEMMERGE_STAT_SIZE_VER0;
	TAP_EQ(0, request(domain, MEMMERGE_STAT, arg));
	TAP_EQ(MEMMERGE_STAT_SIZE_VER0, arg->size);
	for (i = MEMMERGE_STAT_SIZE_VER0; i < sizeof(arg->bytes); i++)
		TAP_EQ(0xaa, arg->bytes[i]);

	/* The argument reaches into memory that is not there. */
	munmap((unsigned char *)arg + PAGE, PAGE);
	arg = (void *)((unsigned char *)arg + PAGE - 8);
	arg->size = sizeof(struct memmerge_stat);
	TAP_EQ(-EFAULT, request(domain, MEMMERGE_STAT, arg));
	close(domain);
}

static void flags(void)
{
	struct memmerge_region region = { .size = sizeof(region), .flags = 1,
					  .pidfd = MEMMERGE_PIDFD_SELF };
	struct memmerge_scan scan = { .size = sizeof(scan), .flags = 1 };
	struct memmerge_stat stat = { .size = sizeof(stat), .flags = 1 };
	struct memmerge_limit limit = { .size = sizeof(limit), .flags = 1 };
	int domain = domain_open();

	region.start = (uintptr_t)memory(1);
	region.length = PAGE;
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_ADD_REGION, &region));
	region.flags = 0;
	region.reserved = 1;
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_ADD_REGION, &region));
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_REMOVE_REGION, &region));
	region.reserved = 0;
	region.flags = 1U << 31;
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_REMOVE_REGION, &region));
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_SCAN, &scan));
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_UNMERGE, &scan));
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_STAT, &stat));
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_LIMIT, &limit));
	limit.flags = 0;
	limit.reserved[0] = 1;
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_LIMIT, &limit));
	limit.reserved[0] = 0;
	limit.reserved[1] = 1;
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_LIMIT, &limit));
	/* What was refused has changed nothing. */
	TAP_CHECK(stat_of(domain, 0).unshare_limit == MEMMERGE_NO_LIMIT);
	limit.reserved[1] = 0;
	limit.unshare_bytes = 12345;
	TAP_EQ(0, request(domain, MEMMERGE_LIMIT, &limit));
	TAP_EQ(12345, stat_of(domain, 0).unshare_limit);
	close(domain);
}

static void ranges(void)
{
	unsigned char *mem = memory(16);
	int domain = domain_open();
	const int self = MEMMERGE_PIDFD_SELF;

	TAP_EQ(-EINVAL, region_try(domain, self, mem + 1, PAGE, NULL));
	TAP_EQ(-EINVAL, region_try(domain, self, mem, PAGE - 1, NULL));
	TAP_EQ(-EINVAL, region_try(domain, self, mem, 0, NULL));
	TAP_EQ(-EOVERFLOW, region_try(domain, self, mem, -PAGE, NULL));
	TAP_EQ(-EOVERFLOW, region_try(domain, self, (void *)-PAGE, PAGE, NULL));
	TAP_EQ(-EOVERFLOW, region_try(domain, self, NULL, 1ULL << 62, NULL));
	munmap(mem + 8 * PAGE, 8 * PAGE);
	TAP_EQ(-ENOMEM, region_try(domain, self, mem + 8 * PAGE, PAGE, NULL));
	close(domain);
}

static void overlaps(void)
{
	unsigned char *mem = memory(16);
	int one = domain_open(), two = domain_open();
	const int self = MEMMERGE_PIDFD_SELF;
	uint64_t id = region_add(one, mem + 4 * PAGE, 4 * PAGE);

	TAP_EQ(-EEXIST, region_try(one, self, mem + 4 * PAGE, 4 * PAGE, NULL));
	TAP_EQ(-EEXIST, region_try(one, self, mem, 5 * PAGE, NULL));
	TAP_EQ(-EEXIST, region_try(one, self, mem + 7 * PAGE, 4 * PAGE, NULL));
	TAP_EQ(-EEXIST, region_try(one, self, mem + 5 * PAGE, PAGE, NULL));
	TAP_EQ(-EBUSY, region_try(two, self, mem, 16 * PAGE, NULL));
	TAP_EQ(0, region_try(one, self, mem, 4 * PAGE, NULL));
	TAP_EQ(0, region_try(two, self, mem + 8 * PAGE, 8 * PAGE, NULL));
	TAP_EQ(0, region_remove(one, id, 0));
	TAP_EQ(0, region_try(two, self, mem + 4 * PAGE, 4 * PAGE, NULL));
	close(one);
	/* What a closed domain had is free again. */
	one = domain_open();
	TAP_EQ(0, region_try(one, self, mem, 4 * PAGE, NULL));
	close(one);
	close(two);
}

static void regions_by_number(void)
{
	struct memmerge_scan scan = { .size = sizeof(scan) };
	struct memmerge_stat stat = { .size = sizeof(stat), .id = 1 };
	unsigned char *mem = memory(4);
	int domain = domain_open();

	TAP_EQ(-ENOENT, region_remove(domain, 1, 0));
	TAP_EQ(-ENOENT, request(domain, MEMMERGE_STAT, &stat));
	scan.id = 1;
	TAP_EQ(-ENOENT, request(domain, MEMMERGE_SCAN, &scan));
	TAP_EQ(-ENOENT, request(domain, MEMMERGE_UNMERGE, &scan));

	scan.id = region_add(domain, mem, 4 * PAGE);
	scan.start = (uintptr_t)mem + PAGE;
	scan.length = 4 * PAGE;
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_SCAN, &scan));
	scan.length = 3 * PAGE;
	TAP_EQ(0, request(domain, MEMMERGE_SCAN, &scan));
	TAP_EQ(3, scan.scanned);
	scan.start++;
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_SCAN, &scan));
	scan.start = 0;
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_SCAN, &scan));
	scan.start = -PAGE;
	scan.length = 2 * PAGE;
	TAP_EQ(-EOVERFLOW, request(domain, MEMMERGE_SCAN, &scan));
	/* A range needs a region. */
	scan.id = 0;
	scan.start = (uintptr_t)mem;
	scan.length = PAGE;
	TAP_EQ(-EINVAL, request(domain, MEMMERGE_SCAN, &scan));
	close(domain);
}

static void pidfds(void)
{
	unsigned char *mem = memory(4);
	int domain = domain_open();
	int fd = open("/dev/null", O_RDONLY);
	int pidfd;
	pid_t pid;

	TAP_EQ(-EBADF, region_try(domain, 12345, mem, PAGE, NULL));
	TAP_EQ(-EBADF, region_try(domain, -2, mem, PAGE, NULL));
	TAP_EQ(-EBADF, region_try(domain, fd, mem, PAGE, NULL));
	close(fd);

	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	pidfd = pidfd_of(pid);
	TAP_EQ(0, region_try(domain, pidfd, mem, PAGE, NULL));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	TAP_EQ(-ESRCH, region_try(domain, pidfd, mem + PAGE, PAGE, NULL));
	close(pidfd);
	close(domain);
}

static void foreign_process(void)
{
	unsigned char *mem = memory(1);
	int domain = domain_open();
	pid_t parent = getpid(), pid;
	int status, pidfd = pidfd_of(parent);

	if (geteuid())
		TAP_SKIP_TEST("needs root, to give up its rights");
	pid = fork();
	if (!pid) {
		if (setresgid(65534, 65534, 65534) ||
		    setresuid(65534, 65534, 65534))
			_exit(100);
		_exit(-region_try(domain, pidfd, mem, PAGE, NULL));
	}
	TAP_EQ(pid, waitpid(pid, &status, 0));
	TAP_CHECK(WIFEXITED(status));
	TAP_EQ(EPERM, WEXITSTATUS(status));
	close(pidfd);
	close(domain);
}

static void tunables(void)
{
	static const struct {
		const char *file, *bad;
	} bad[] = {
		{ SYSFS "run", "3" }, { SYSFS "run", "-1" },
		{ SYSFS "run", "x" }, { SYSFS "pages_to_scan", "0" },
		{ SYSFS "pages_to_scan", "4294967296" },
		{ SYSFS "sleep_millisecs", "-1" },
		{ SYSFS "use_zero_pages", "2" },
		{ SYSFS "max_page_sharing", "1" },
		{ SYSFS "max_page_sharing", "2147483648" },
		{ SYSFS "huge_split_pages", "-1" },
		{ SYSFS "huge_split_pages", "513" },
		{ SYSFS "unshare_limit", "-2" },
		{ SYSFS "unshare_limit", "9223372036854775808" },
		{ SYSFS "unshare_limit", "x" },
		{ SYSFS "unshare_limit_percent", "-2" },
		{ SYSFS "unshare_limit_percent", "10001" },
	};
	unsigned int i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		long long before = file_read(bad[i].file);

		TAP_EQ(-EINVAL, file_write(bad[i].file, bad[i].bad));
		TAP_EQ(before, file_read(bad[i].file));
	}
	TAP_CHECK(file_write(SYSFS "pages_shared", "1") < 0);
	TAP_CHECK(file_write(SYSFS "unshare_supply", "1") < 0);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{ "an unknown request is ENOTTY", unknown_request },
		{ "sizes too small, too large, newer, and bad pointers", sizes },
		{ "arguments that nothing is written to may be constant",
		  constants },
		{ "unknown flags and reserved fields are EINVAL", flags },
		{ "unaligned, empty, overflowing, unmapped ranges", ranges },
		{ "overlapping regions, in one domain and in two", overlaps },
		{ "regions by number, ranges inside them", regions_by_number },
		{ "bad, dead and good pidfds", pidfds },
		{ "a process without rights to another is refused", foreign_process },
		{ "tunables out of range change nothing", tunables },
	};

	return tap_main(tests, sizeof(tests) / sizeof(tests[0]));
}
