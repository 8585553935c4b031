/* SPDX-License-Identifier: GPL-2.0-only */
/* What the test programs share: domains, memory of known content, witnesses. */
#ifndef MEMMERGE_TEST_H
#define MEMMERGE_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../memmerge/memmerge.h"
#include "tap.h"

#define PAGE		4096UL
#define SYSFS		"/sys/kernel/mm/memmerge/"
#define WAIT_SECONDS	300
#define CGROUP		"/sys/fs/cgroup/memmerge-test"

static inline int domain_open(void)
{
	int fd = open(MEMMERGE_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		tap_end(TAP_FAIL, "%s: %s", MEMMERGE_DEVICE, strerror(errno));
	return fd;
}

static inline int region_try(int domain, int pidfd, const void *start,
			     uint64_t length, uint64_t *id)
{
	struct memmerge_region arg = {
		.size = sizeof(arg),
		.pidfd = pidfd,
		.start = (uintptr_t)start,
		.length = length,
	};

	if (ioctl(domain, MEMMERGE_ADD_REGION, &arg))
		return -errno;
	if (id)
		*id = arg.id;
	return 0;
}

static inline uint64_t region_add(int domain, const void *start,
				  uint64_t length)
{
	uint64_t id = 0;

	TAP_EQ(0, region_try(domain, MEMMERGE_PIDFD_SELF, start, length, &id));
	TAP_CHECK(id > 0);
	return id;
}

static inline int region_remove(int domain, uint64_t id, uint32_t flags)
{
	struct memmerge_region arg = {
		.size = sizeof(arg), .flags = flags, .id = id,
	};

	return ioctl(domain, MEMMERGE_REMOVE_REGION, &arg) ? -errno : 0;
}

static inline struct memmerge_scan domain_scan(int domain)
{
	struct memmerge_scan arg = { .size = sizeof(arg) };

	if (ioctl(domain, MEMMERGE_SCAN, &arg))
		tap_end(TAP_FAIL, "scan: %s", strerror(errno));
	return arg;
}

static inline struct memmerge_stat stat_of(int domain, uint64_t id)
{
	struct memmerge_stat arg = { .size = sizeof(arg), .id = id };

	if (ioctl(domain, MEMMERGE_STAT, &arg))
		tap_end(TAP_FAIL, "stat: %s", strerror(errno));
	return arg;
}

/* Private anonymous memory; not huge, as the expectations count pages. */
static inline unsigned char *memory(unsigned long pages)
{
	unsigned char *mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		tap_end(TAP_FAIL, "mmap: %s", strerror(errno));
	madvise(mem, pages * PAGE, MADV_NOHUGEPAGE);
	return mem;
}

/* Content number @seed of a page; equal seeds, equal pages. */
static inline void fill(unsigned char *page, uint64_t seed)
{
	uint64_t *word = (uint64_t *)page;
	unsigned int i;

	for (i = 0; i < PAGE / sizeof(*word); i++) {
		uint64_t x = (seed << 20) + i + 1;

		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
		x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
		word[i] = x ^ (x >> 31);
	}
}

static inline bool holds(const unsigned char *page, uint64_t seed)
{
	unsigned char want[PAGE] __attribute__((aligned(8)));

	fill(want, seed);
	return !memcmp(page, want, PAGE);
}

/* Frame number behind an address, from pagemap; 0 if not present. */
static inline uint64_t pfn_in(pid_t pid, const void *addr)
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
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

static inline uint64_t pfn_of(const void *addr)
{
	uint64_t pfn = pfn_in(getpid(), addr);

	TAP_CHECK(pfn);
	return pfn;
}

static inline long long file_read(const char *path)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY);
	ssize_t got;

	if (fd < 0)
		tap_end(TAP_FAIL, "%s: %s", path, strerror(errno));
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	TAP_CHECK(got > 0);
	return strtoll(text, NULL, 10);
}

static inline int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err = -errno;
	close(fd);
	return err;
}

/* So that writing memory.reclaim reclaims the memory of this program. */
static inline void enter_cgroup(void)
{
	file_write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir(CGROUP, 0755) && errno != EEXIST)
		return;
	file_write(CGROUP "/cgroup.procs", "0");
}

static inline double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Wait until a file holds a value; a bound, not a timing. */
static inline void file_wait(const char *path, long long want)
{
	double end = seconds() + WAIT_SECONDS;
	long long got;

	while ((got = file_read(path)) != want) {
		if (seconds() > end)
			tap_end(TAP_FAIL, "%s: want %lld, still %lld after %d s",
				path, want, got, WAIT_SECONDS);
		usleep(20000);
	}
}

static inline int pidfd_of(pid_t pid)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		tap_end(TAP_FAIL, "pidfd_open: %s", strerror(errno));
	return fd;
}

/* Two areas with the same content, in one domain. */
struct pair {
	unsigned char *a, *b;
	unsigned long pages;
	int domain;
	uint64_t id_a, id_b;
};

static inline struct pair pair_new(unsigned long pages, uint64_t seed)
{
	struct pair p = {
		.a = memory(pages), .b = memory(pages), .pages = pages,
	};
	unsigned long i;

	for (i = 0; i < pages; i++) {
		fill(p.a + i * PAGE, seed + i);
		fill(p.b + i * PAGE, seed + i);
	}
	p.domain = domain_open();
	p.id_a = region_add(p.domain, p.a, pages * PAGE);
	p.id_b = region_add(p.domain, p.b, pages * PAGE);
	return p;
}

static inline void pair_holds(const struct pair *p, uint64_t seed)
{
	unsigned long i;

	for (i = 0; i < p->pages; i++) {
		TAP_CHECK(holds(p->a + i * PAGE, seed + i));
		TAP_CHECK(holds(p->b + i * PAGE, seed + i));
	}
}

static inline void pair_free(struct pair *p)
{
	close(p->domain);
	munmap(p->a, p->pages * PAGE);
	munmap(p->b, p->pages * PAGE);
}

static inline unsigned long pair_same_frames(const struct pair *p)
{
	unsigned long i, same = 0;

	for (i = 0; i < p->pages; i++)
		same += pfn_of(p->a + i * PAGE) == pfn_of(p->b + i * PAGE);
	return same;
}

/* Write a page, and leave its content; two plain writes would be optimised. */
static inline void write_same(unsigned char *page)
{
	__atomic_fetch_xor(page, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_xor(page, 1, __ATOMIC_SEQ_CST);
}

/* The last test of a program: all of its memory is gone. */
static inline void nothing_left(void)
{
	file_wait(SYSFS "domains", 0);
	TAP_EQ(0, file_read(SYSFS "regions"));
	TAP_EQ(0, file_read(SYSFS "pages_shared"));
	TAP_EQ(0, file_read(SYSFS "pages_sharing"));
	TAP_EQ(0, file_read(SYSFS "metadata_bytes"));
}

/* Where this machine swaps to; @device is left as it is if it does not. */
static inline void find_swap(char device[64])
{
	FILE *swaps = fopen("/proc/swaps", "r");
	char line[256];

	if (!swaps)
		return;
	while (fgets(line, sizeof(line), swaps))
		if (line[0] == '/')
			sscanf(line, "%63s", device);
	fclose(swaps);
}

#endif /* MEMMERGE_TEST_H */
