// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes that hold the memory, and do what they are told over a pipe
 */
#include <signal.h>
#include <sys/prctl.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bench.h"

/* A chunk is what a scanner takes at a time, too: a page table. */
#define CHUNK	512

struct request {
	enum order order;
	unsigned long argument;
};

struct reply {
	long long value;
	char error[256];
};

struct process *processes;
unsigned int processes_nr;

/* What the process itself knows; only it uses these. */
static const struct subject *own_subject;
static unsigned char *own_memory;
static unsigned long own_first, own_pages, own_total;
static struct request own_request;
static struct reply own_reply;
static int own_output;

static void all(int fd, void *data, size_t length, bool out)
{
	while (length) {
		ssize_t done = out ? write(fd, data, length) :
				     read(fd, data, length);

		if (done <= 0)
			tap_end(TAP_FAIL, "a process that holds memory is gone");
		data = (char *)data + done;
		length -= done;
	}
}

/*
 * The floor: read and hash every page once. The median of the chunks, as a
 * chunk during which the processor was taken away says nothing.
 */
static long long own_floor(void)
{
	unsigned long chunks = (own_pages + CHUNK - 1) / CHUNK, i, page = 0;
	long long *ticks = calloc(chunks, sizeof(*ticks)), median;
	XXH64_hash_t sum = 0;

	TAP_CHECK(ticks);
	for (i = 0; i < chunks; i++) {
		unsigned long end = page + CHUNK;
		long long start = clock_ticks();
		unsigned long from = page;

		if (end > own_pages)
			end = own_pages;
		for (; page < end; page++)
			sum ^= XXH64(own_memory + page * PAGE, PAGE, 0);
		ticks[i] = (clock_ticks() - start) * CHUNK / (end - from);
	}
	/* The compiler must not find out that nobody looks at the sum. */
	__asm__ volatile("" : : "r" (sum));
	qsort(ticks, chunks, sizeof(*ticks), ascending);
	median = ticks[chunks / 2];
	free(ticks);
	return clock_ticks_ns(median) * 1000 / CHUNK;
}

/* Write to every @stride-th page once, timed; then as it was before. */
static void own_write(unsigned long stride, unsigned long count, uint32_t *ticks)
{
	unsigned long i;

	for (i = 0; i < count; i++) {
		uint64_t *word = (uint64_t *)(own_memory + i * stride * PAGE);
		long long start = clock_ticks(), took;

		__atomic_fetch_xor(word, ~0ULL, __ATOMIC_RELAXED);
		took = clock_ticks() - start;
		ticks[i] = took < UINT32_MAX ? took : UINT32_MAX;
	}
	for (i = 0; i < count; i++)
		*(uint64_t *)(own_memory + i * stride * PAGE) ^= ~0ULL;
}

static void own_writes(unsigned long stride)
{
	unsigned long count = (own_pages + stride - 1) / stride;
	uint32_t *ticks = calloc(count, sizeof(*ticks));
	struct reply head = { .value = count };

	TAP_CHECK(ticks);
	if (own_subject->kvm)
		kvm_writes(stride, count, ticks);
	else
		own_write(stride, count, ticks);
	all(own_output, &head, sizeof(head), true);
	all(own_output, ticks, count * sizeof(*ticks), true);
	free(ticks);
}

/* Every page is the process's own and writable, as at first. */
static void own_touch(void)
{
	unsigned long i;

	if (own_subject->kvm) {
		kvm_touch(own_pages);
		return;
	}
	for (i = 0; i < own_pages; i++)
		__atomic_fetch_xor((uint64_t *)(own_memory + i * PAGE), 0,
				   __ATOMIC_RELAXED);
}

static void own_rewrite(unsigned long seed)
{
	unsigned long page = seed * 0x9e3779b97f4a7c15ULL % own_pages;

	/* Above every number that another content has. */
	fill(own_memory + page * PAGE, own_total + 1 + seed);
}

static void own_obey(void)
{
	switch (own_request.order) {
	case ORDER_FILL:
		subject_fill(own_subject, own_memory, own_first, own_pages,
			     own_total);
		break;
	case ORDER_TOUCH:
		own_touch();
		break;
	case ORDER_FLOOR:
		own_reply.value = own_floor();
		break;
	case ORDER_CHECKSUM:
		own_reply.value = XXH64(own_memory, own_pages * PAGE, 0);
		break;
	case ORDER_WRITE:
		own_writes(own_request.argument);
		break;
	case ORDER_REWRITE:
		own_rewrite(own_request.argument);
		break;
	case ORDER_ADVISE:
		TAP_EQ(0, madvise(own_memory, own_pages * PAGE, MADV_MERGEABLE));
		break;
	case ORDER_UNADVISE:
		TAP_EQ(0, madvise(own_memory, own_pages * PAGE,
				  MADV_UNMERGEABLE));
		break;
	}
}

static void own_map(void)
{
	own_memory = memory(own_pages);
	/* A fault for each page takes minutes in User-Mode Linux. */
	madvise(own_memory, own_pages * PAGE, MADV_POPULATE_WRITE);
	if (own_subject->kvm)
		kvm_start(own_memory, own_pages);
	own_reply.value = (intptr_t)own_memory;
}

static __attribute__((noreturn)) void own_life(int input)
{
	const struct tap_test map = { "map", own_map };
	const struct tap_test obey = { "obey", own_obey };
	const struct tap_test *next = &map;

	do {
		own_reply = (struct reply){ 0 };
		if (tap_run(next) != TAP_PASS)
			snprintf(own_reply.error, sizeof(own_reply.error), "%s",
				 tap_reason);
		if (own_request.order != ORDER_WRITE || own_reply.error[0])
			if (write(own_output, &own_reply, sizeof(own_reply)) !=
			    sizeof(own_reply))
				break;
		next = &obey;
	} while (read(input, &own_request, sizeof(own_request)) ==
		 sizeof(own_request));
	_exit(EXIT_SUCCESS);
}

static long long process_reply(struct process *process)
{
	struct reply reply;

	all(process->reply, &reply, sizeof(reply), false);
	if (reply.error[0])
		tap_end(TAP_FAIL, "%s", reply.error);
	return reply.value;
}

static void process_request(struct process *process, enum order order,
			    unsigned long argument)
{
	struct request request = { .order = order, .argument = argument };

	all(process->request, &request, sizeof(request), true);
}

struct process process_start(const struct subject *subject,
			     unsigned long first, unsigned long pages,
			     unsigned long total)
{
	struct process process = { .pages = pages };
	int requests[2], replies[2];

	TAP_EQ(0, pipe2(requests, O_CLOEXEC));
	TAP_EQ(0, pipe2(replies, O_CLOEXEC));
	process.pid = fork();
	TAP_CHECK(process.pid >= 0);
	if (!process.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(requests[1]);
		close(replies[0]);
		own_subject = subject;
		own_first = first;
		own_pages = pages;
		own_total = total;
		own_output = replies[1];
		own_request.order = ORDER_FILL;
		own_life(requests[0]);
	}
	close(requests[0]);
	close(replies[1]);
	process.request = requests[1];
	process.reply = replies[0];
	process.pidfd = pidfd_of(process.pid);
	process.start = (void *)(intptr_t)process_reply(&process);
	return process;
}

void process_stop(struct process *process)
{
	close(process->request);
	close(process->reply);
	close(process->pidfd);
	kill(process->pid, SIGKILL);
	waitpid(process->pid, NULL, 0);
}

long long process_order(struct process *process, enum order order,
			unsigned long argument)
{
	process_request(process, order, argument);
	return process_reply(process);
}

/* Ticks of each first write; returns how many. */
unsigned long process_writes(struct process *process, unsigned long stride,
			     uint32_t *ticks)
{
	unsigned long count = process_order(process, ORDER_WRITE, stride);

	all(process->reply, ticks, count * sizeof(*ticks), false);
	return count;
}

void processes_start(const struct subject *subject, unsigned long pages)
{
	unsigned int i;

	processes_nr = (pages + subject->area - 1) / subject->area;
	processes = calloc(processes_nr, sizeof(*processes));
	TAP_CHECK(processes);
	for (i = 0; i < processes_nr; i++) {
		unsigned long first = i * subject->area;
		unsigned long count = pages - first;

		if (count > subject->area)
			count = subject->area;
		processes[i] = process_start(subject, first, count, pages);
		process_order(&processes[i], ORDER_FILL, 0);
	}
}

void processes_stop(void)
{
	while (processes_nr)
		process_stop(&processes[--processes_nr]);
	free(processes);
	processes = NULL;
}

/* All of them do the same, some at a time; sum of what they reply. */
long long processes_order_some(enum order order, unsigned long argument,
			       unsigned int some)
{
	unsigned long long sum = 0;
	unsigned int first, i, end;

	for (first = 0; first < processes_nr; first = end) {
		end = first + some;
		if (end > processes_nr)
			end = processes_nr;
		for (i = first; i < end; i++)
			process_request(&processes[i], order, argument);
		for (i = first; i < end; i++)
			sum += (unsigned long long)process_reply(&processes[i]);
	}
	return sum;
}

/* All of them do the same, one after the other; sum of what they reply. */
long long processes_order(enum order order, unsigned long argument)
{
	return processes_order_some(order, argument, 1);
}
