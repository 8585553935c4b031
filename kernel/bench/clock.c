// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clocks: wall time, CPU time of the scanner, and the processor's own ticks
 *
 * In User-Mode Linux the kernel's account of CPU time moves once a jiffy,
 * 10 ms, far too coarse for a pass. There the host is asked for the CPU time of
 * the process that is the kernel: exact, without the time that other programs
 * of the host took, and with everything that the engine makes the kernel do.
 */
#include "bench.h"
#include "output.h"

static double ns_per_tick;

bool clock_of_host(void)
{
	return output_answers();
}

long long clock_wall(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* What /proc/PID/sched says, in milliseconds; negative where it says nothing. */
static double sched_runtime(pid_t thread)
{
	char path[64], line[128];
	double ms = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/sched", (int)thread);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "se.sum_exec_runtime", 19))
			ms = atof(strchr(line, ':') + 1);
	if (file)
		fclose(file);
	return ms;
}

/*
 * CPU time of a thread so far, as the kernel accounts it: one of two files says
 * it, as the kernel is configured.
 */
long long clock_thread(pid_t thread)
{
	long long ns = -1;
	char path[64];
	FILE *file;
	double ms;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)thread);
	file = fopen(path, "r");
	if (file && fscanf(file, "%lld", &ns) != 1)
		ns = -1;
	if (file)
		fclose(file);
	if (ns >= 0)
		return ns;
	ms = sched_runtime(thread);
	if (ms < 0)
		tap_end(TAP_FAIL, "no CPU time of thread %d (CONFIG_SCHED_INFO)",
			(int)thread);
	return ms * 1e6;
}

/*
 * CPU time so far that the scanner has part in: that of the whole kernel where
 * its host tells it, else that of the thread.
 */
long long clock_cpu(pid_t thread)
{
	if (output_answers())
		return output_ask("{\"kind\": \"cpu?\"}");
	return clock_thread(thread);
}

/*
 * How long whoever clock_cpu() tells of has waited for a processor so far. A
 * program that measures itself by the time of day takes that for its own.
 */
long long clock_delay(pid_t thread)
{
	long long delay = -1;
	char path[64];
	FILE *file;

	if (output_answers())
		return output_ask("{\"kind\": \"delay?\"}");
	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)thread);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%*d %lld", &delay) != 1)
		delay = -1;
	if (file)
		fclose(file);
	if (delay < 0)
		tap_end(TAP_FAIL, "%s: no run_delay (CONFIG_SCHED_INFO)", path);
	return delay;
}

/* Smallest step of the kernel's own account of CPU time. */
long long clock_step(void)
{
	long long end = clock_wall() + 200000000LL, step = 0, last = 0;

	while (clock_wall() < end) {
		struct timespec now;
		long long ns;

		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
		ns = now.tv_sec * 1000000000LL + now.tv_nsec;
		if (last && ns > last && (!step || ns - last < step))
			step = ns - last;
		last = ns;
	}
	return step;
}

/* How long a tick of the processor is; the ticks of all processors agree. */
void clock_calibrate(void)
{
	long long wall = clock_wall(), ticks = clock_ticks();

	usleep(200000);
	ticks = clock_ticks() - ticks;
	wall = clock_wall() - wall;
	ns_per_tick = (double)wall / ticks;
}

long long clock_ticks_ns(long long ticks)
{
	return ticks * ns_per_tick;
}
