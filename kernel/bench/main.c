// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge_bench - CPU time, speed and cost of memmerge beside KSM
 */
#include <getopt.h>
#include <sched.h>
#include <sys/utsname.h>

#include "bench.h"

#define SUBJECTS_MAX	256

static struct {
	const struct subject *subject;
	unsigned long pages;
} plan[SUBJECTS_MAX];
static unsigned int plan_nr;
static int pairs = 2;
static const char *serial;

static void list(void)
{
	const struct subject *subject;

	for (subject = subjects; subject->name; subject++)
		puts(subject->name);
}

static void usage(const char *name)
{
	fprintf(stderr, "Usage: %s [OPTION]... CASE:MEBIBYTES...\n", name);
	fputs("--list           print the cases\n"
	      "--pairs N        measure each engine so often (2)\n"
	      "--serial DEVICE  print to it; its other end answers \"cpu?\"\n"
	      "--guest-memory FILE  what the case guest is filled with\n",
	      stderr);
}

/* One case of the plan, as in "random:256". */
static bool plan_add(char *word)
{
	char *size = strchr(word, ':');
	const struct subject *subject;

	if (size)
		*size++ = 0;
	subject = subject_find(word);
	if (!subject || plan_nr == SUBJECTS_MAX || (!size && !subject->pages))
		return false;
	plan[plan_nr].subject = subject;
	plan[plan_nr].pages = subject->pages ? subject->pages :
			      strtoul(size, NULL, 10) << 20 >> 12;
	return plan[plan_nr++].pages % subject->area == 0;
}

static void engines_ready(void)
{
	unsigned int i;

	for (i = 0; i < ENGINES; i++) {
		engine_write(&engines[i], "run", 2);
		engine_write(&engines[i], "run", 0);
	}
}

/* Whatever happened: no scanner runs when this program has ended. */
static void engines_stop(void)
{
	unsigned int i;

	for (i = 0; i < ENGINES; i++)
		engine_stop(&engines[i]);
}

static void run_all(void)
{
	const struct sched_param first = { .sched_priority = 1 };
	struct utsname name;
	unsigned int i;

	if (serial)
		output_open(serial);
	/* Not the processes with the memory, which are forked later. */
	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first))
		tap_end(TAP_FAIL, "no real-time priority: %s", strerror(errno));
	clock_calibrate();
	engines_ready();
	uname(&name);
	line_begin("machine");
	line_text("kernel", name.release);
	line_int("processors", sysconf(_SC_NPROCESSORS_ONLN));
	line_text("clock", clock_of_host() ? "host" : "thread");
	line_int("thread_step_ns", clock_step());
	for (i = 0; i < ENGINES; i++) {
		char key[64];

		snprintf(key, sizeof(key), "%s_max_page_sharing",
			 engines[i].name);
		line_int(key, engine_read(&engines[i], "max_page_sharing"));
	}
	line_end();
	for (i = 0; i < plan_nr; i++)
		measure_subject(plan[i].subject, plan[i].pages, pairs);
	line_begin("done");
	line_end();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "list", no_argument, NULL, 'l' },
		{ "pairs", required_argument, NULL, 'p' },
		{ "serial", required_argument, NULL, 's' },
		{ "guest-memory", required_argument, NULL, 'g' },
		{ 0 },
	};
	const struct tap_test all = { "bench", run_all };
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'l':
			list();
			return EXIT_SUCCESS;
		case 'p':
			pairs = atoi(optarg);
			break;
		case 's':
			serial = optarg;
			break;
		case 'g':
			if (!guest_memory_open(optarg)) {
				perror(optarg);
				return EXIT_FAILURE;
			}
			break;
		default:
			usage(argv[0]);
			return 2;
		}
	}
	for (; optind < argc; optind++)
		if (!plan_add(argv[optind]))
			break;
	if (optind < argc || !plan_nr || pairs < 1) {
		usage(argv[0]);
		return 2;
	}
	if (tap_run(&all) != TAP_PASS) {
		line_begin("error");
		line_text("reason", tap_reason);
		line_end();
		engines_stop();
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
