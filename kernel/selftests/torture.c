// SPDX-License-Identifier: GPL-2.0-only
/*
 * torture - everything at once, every byte checked; see torture.h
 *
 *	torture [--seed N] [--ops N] [--rounds N] [--processes N] [--threads N]
 *		[--module FILE] [--limit BYTES] [--failslab %] [--fail-page %]
 *		[--no-engine] [--without KIND]...
 *
 * The seed and the number of operations that workers do are what a run is
 * known by; both are printed first. With --module the module is removed and
 * loaded between rounds. A kind of
 * operation that is left out leaves all others what they are: that tells which
 * ones it takes to find something.
 */
#include <getopt.h>
#include <pthread.h>
#include <sys/random.h>

#include "faults.h"
#include "torture.h"

#define PROGRESS_SECONDS	10

struct board *board;

static double last_change;
static unsigned long last_sum;

void die(const char *format, ...)
{
	va_list args;
	int none = 0;

	if (atomic_compare_exchange_strong(&board->failed, &none, 1)) {
		va_start(args, format);
		vsnprintf(board->reason, sizeof(board->reason), format, args);
		va_end(args);
		atomic_store(&board->failed, 2);
	}
	_exit(EXIT_FAILURE);
}

static unsigned int workers(void)
{
	return board->opt.processes * board->opt.threads;
}

static void phase_wait(enum phase phase)
{
	while (atomic_load(&board->phase) < (int)phase)
		usleep(2000);
}

/* ---- workers ---- */

static unsigned long quota(unsigned int round)
{
	return board->opt.ops / workers() / board->opt.rounds * (round + 1);
}

struct thread {
	pthread_t thread;
	unsigned int actor, round;
};

static void *worker_thread(void *arg)
{
	const struct thread *t = arg;
	struct actor *actor = &board->actors[t->actor];
	struct area *a = malloc(sizeof(*a));
	unsigned long n;

	if (!a)
		die("no memory for a worker");
	area_init(a, t->actor);
	atomic_store(&actor->pid, getpid());
	atomic_store(&actor->phase, P_START);
	phase_wait(P_RUN);
	for (n = atomic_load(&actor->n) + 1; n <= quota(t->round); n++) {
		work_one(a, n);
		atomic_store(&actor->n, n);
	}
	work_settle(a);
	atomic_store(&actor->phase, P_SETTLE);
	phase_wait(P_STOPPED);
	work_rewrite(a);
	atomic_store(&actor->phase, P_WRITTEN);
	phase_wait(P_UNMERGED);
	check_area(a);
	atomic_store(&actor->phase, P_END);
	return NULL;
}

static void crashed(int sig, siginfo_t *info, void *context)
{
	(void)context;
	die("a worker got signal %d at %p", sig, info->si_addr);
}

static void worker_main(unsigned int process, unsigned int round)
{
	struct sigaction action = {
		.sa_sigaction = crashed, .sa_flags = SA_SIGINFO,
	};
	struct thread threads[WORKERS_MAX];
	unsigned int i, count = board->opt.threads;

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	if (board->opt.engine)
		enter_cgroup();
	for (i = 0; i < count; i++) {
		threads[i].actor = process * count + i;
		threads[i].round = round;
		if (pthread_create(&threads[i].thread, NULL, worker_thread,
				   &threads[i]))
			die("no thread for a worker");
	}
	for (i = 0; i < count; i++)
		pthread_join(threads[i].thread, NULL);
	_exit(EXIT_SUCCESS);
}

/* ---- the main process ---- */

static unsigned long operations(unsigned int first, unsigned int count)
{
	unsigned long sum = 0;

	while (count--)
		sum += atomic_load(&board->actors[first++].n);
	return sum;
}

static void show_progress(bool always)
{
	static double last;
	double time = seconds();
	unsigned long done = operations(0, WORKERS_MAX);
	unsigned long sum = done + operations(WORKERS_MAX, CONTROLLERS);
	unsigned int i;

	if (sum != last_sum) {
		last_sum = sum;
		last_change = time;
	}
	if (time - last_change > STUCK_SECONDS) {
		char text[512] = "";
		size_t used = 0;

		for (i = 0; i < WORKERS_MAX + CONTROLLERS; i++) {
			int kind = atomic_load(&board->actors[i].kind);
			const char *name = i < WORKERS_MAX ?
				work_kinds[kind].name : control_kinds[kind].name;

			if ((i < workers() || i >= WORKERS_MAX) &&
			    used < sizeof(text))
				used += snprintf(text + used,
						 sizeof(text) - used, " %s",
						 name);
		}
		tap_end(TAP_FAIL, "nothing goes on for %d s; they do:%s",
			STUCK_SECONDS, text);
	}
	if (always || time - last > PROGRESS_SECONDS) {
		printf("# progress %lu of %lu\n", done, board->opt.ops);
		fflush(stdout);
		last = time;
	}
}

/* Nobody may have ended early, or otherwise than he should. */
static void watch(pid_t *pids, unsigned int count)
{
	unsigned int i;
	int status;

	for (i = 0; i < count; i++) {
		if (!pids[i] || waitpid(pids[i], &status, WNOHANG) != pids[i])
			continue;
		if (status && !atomic_load(&board->failed)) {
			snprintf(board->reason, sizeof(board->reason),
				 "process %u ended with status %#x", i, status);
			atomic_store(&board->failed, 2);
		}
		pids[i] = 0;
	}
	while (atomic_load(&board->failed) == 1)
		usleep(1000);
	if (atomic_load(&board->failed))
		tap_end(TAP_FAIL, "seed %llu: %s",
			(unsigned long long)board->opt.seed, board->reason);
}

static void wait_for(enum phase phase, pid_t *pids, unsigned int count)
{
	unsigned int i, there;

	do {
		usleep(20000);
		watch(pids, count);
		show_progress(false);
		for (i = 0, there = 0; i < workers(); i++)
			there += atomic_load(&board->actors[i].phase) >=
				 (int)phase;
	} while (there < workers());
}

static void wait_all(pid_t *pids, unsigned int count)
{
	unsigned int i, left;

	do {
		usleep(5000);
		watch(pids, count);
		show_progress(false);
		for (i = 0, left = 0; i < count; i++)
			left += pids[i] != 0;
	} while (left);
}

static pid_t pids[WORKERS_MAX + 1];

static void end_all(void)
{
	unsigned int i;

	for (i = 0; i < WORKERS_MAX + 1; i++) {
		if (!pids[i])
			continue;
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
		pids[i] = 0;
	}
}

static void wait_for_control(enum phase phase, unsigned int count)
{
	const struct actor *control = &board->actors[WORKERS_MAX];

	while (board->opt.engine && atomic_load(&control->phase) < (int)phase) {
		usleep(5000);
		watch(pids, count);
		show_progress(false);
	}
}

static unsigned long unshared_total;

/* Nothing may be left of a round. */
static void expect_nothing(void)
{
	nothing_left();
	TAP_EQ(0, file_read(SYSFS "pages_unshared"));
	TAP_EQ(0, file_read(SYSFS "unshare_demand"));
}

static void reload(void)
{
	double end = seconds() + WAIT_SECONDS;
	int err;

	while ((err = module_remove())) {
		if (seconds() > end)
			tap_end(TAP_FAIL, "the module cannot be removed: %s",
				strerror(-err));
		usleep(50000);
	}
	err = module_load(board->opt.module);
	if (err)
		tap_end(TAP_FAIL, "%s: %s", board->opt.module, strerror(-err));
}

static void one_round(unsigned int round)
{
	unsigned int i, count = board->opt.processes + board->opt.engine;
	bool faults = board->opt.failslab || board->opt.fail_page;

	atomic_store(&board->phase, P_START);
	for (i = 0; i < WORKERS_MAX + CONTROLLERS; i++)
		atomic_store(&board->actors[i].phase, -1);
	fflush(stdout);
	for (i = 0; i < count; i++) {
		pids[i] = fork();
		TAP_CHECK(pids[i] >= 0);
		if (!pids[i] && i < board->opt.processes)
			worker_main(i, round);
		if (!pids[i])
			control_main(round, round % 2 == 0);
	}
	wait_for(P_START, pids, count);
	control_prepare();
	if (faults) {
		TAP_EQ(0, faults_scanner());
		TAP_EQ(0, faults_set(board->opt.failslab,
				     board->opt.fail_page));
	}
	atomic_store(&board->phase, P_RUN);
	wait_for(P_SETTLE, pids, count);
	atomic_store(&board->phase, P_SETTLE);
	/* The controllers end what they do, and stop the scanners. */
	wait_for_control(P_STOPPED, count);
	atomic_store(&board->phase, P_STOPPED);
	wait_for(P_WRITTEN, pids, count);
	atomic_store(&board->phase, P_WRITTEN);
	wait_for_control(P_UNMERGED, count);
	atomic_store(&board->phase, P_UNMERGED);
	wait_all(pids, count);
	if (!board->opt.engine)
		return;
	unshared_total += file_read(SYSFS "pages_unshared_total");
	expect_nothing();
	if (board->opt.module)
		reload();
}

/* ---- the verdict ---- */

static struct {
	bool ran;
	long long out, in, moved;
	double seconds;
} run;

static void everything(void)
{
	long long out = counter_of("pswpout"), in = counter_of("pswpin");
	long long moved = counter_of("pgmigrate_success");
	double start = seconds();
	unsigned int round;

	last_change = start;
	for (round = 0; round < board->opt.rounds; round++)
		one_round(round);
	show_progress(true);
	run.out = counter_of("pswpout") - out;
	run.in = counter_of("pswpin") - in;
	run.moved = counter_of("pgmigrate_success") - moved;
	run.seconds = seconds() - start;
	run.ran = true;
	TAP_CHECK(atomic_load(&board->bytes) > 0);
}

static void need_run(void)
{
	if (!run.ran)
		tap_end(TAP_FAIL, "the operations did not come to their end");
}

static void show(const char *who, const struct kind *kinds,
		 struct tally *tallies, unsigned int count)
{
	unsigned int i;

	printf("# %s:", who);
	for (i = 0; i < count; i++) {
		unsigned long refused = atomic_load(&tallies[i].refused);

		printf(" %s=%lu", kinds[i].name, atomic_load(&tallies[i].done));
		if (refused)
			printf("(%lu refused)", refused);
	}
	printf("\n");
}

/* Leave out a kind by its name; a worker's and a controller's may be one. */
static bool leave_out(struct options *opt, const char *name)
{
	bool known = false;
	unsigned int i;

	for (i = 0; i < W_KINDS; i++) {
		if (!strcmp(work_kinds[i].name, name)) {
			opt->no_work[i] = true;
			known = true;
		}
	}
	for (i = 0; i < C_KINDS; i++) {
		if (!strcmp(control_kinds[i].name, name)) {
			opt->no_control[i] = true;
			known = true;
		}
	}
	return known;
}

/* A kind that was tried again and again and never succeeded tests nothing. */
static void expect_some(const struct kind *kinds, struct tally *tallies,
			const bool *left_out, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		if (!kinds[i].optional && !left_out[i] && !atomic_load(&tallies[i].done))
			tap_end(TAP_FAIL, "no %s of %lu succeeded",
				kinds[i].name, atomic_load(&tallies[i].tried));
}

static void all_kinds(void)
{
	need_run();
	show("workers", work_kinds, board->work, W_KINDS);
	expect_some(work_kinds, board->work, board->opt.no_work, W_KINDS);
	if (board->swap[0])
		TAP_CHECK(atomic_load(&board->control[C_RECLAIM].done) > 0 ||
			  !board->opt.engine);
	if (!board->opt.engine)
		return;
	show("controllers", control_kinds, board->control, C_KINDS);
	expect_some(control_kinds, board->control, board->opt.no_control,
		    C_KINDS);
}

static void something_happened(void)
{
	unsigned long merged = atomic_load(&board->merged);
	unsigned long unmerged = atomic_load(&board->unmerged);

	need_run();
	printf("# operations=%lu control=%lu seconds=%.0f\n",
	       operations(0, WORKERS_MAX),
	       operations(WORKERS_MAX, CONTROLLERS), run.seconds);
	printf("# bytes_checked=%lu children=%lu\n",
	       atomic_load(&board->bytes), atomic_load(&board->children));
	printf("# merged=%lu zeroed=%lu unshared=%lu unmerged=%lu\n", merged,
	       atomic_load(&board->zeroed), unshared_total, unmerged);
	printf("# swapped_out=%lld swapped_in=%lld migrated=%lld refused_without_memory=%lu\n",
	       run.out, run.in, run.moved, atomic_load(&board->nomem));
	TAP_CHECK(atomic_load(&board->children) > 0);
	if (board->swap[0])
		TAP_CHECK(run.out > 0 && run.in > 0);
	if (!board->opt.engine)
		return;
	TAP_CHECK(merged > 0);
	TAP_CHECK(atomic_load(&board->zeroed) > 0);
	TAP_CHECK(unmerged > 0);
	TAP_CHECK(unshared_total > 0);
	if (board->opt.failslab || board->opt.fail_page)
		TAP_CHECK(atomic_load(&board->nomem) > 0);
}

static void all_given_back(void)
{
	need_run();
	if (board->opt.engine)
		expect_nothing();
}

/* ---- options ---- */

static void usage(const char *why)
{
	fprintf(stderr, "torture: %s; see the head of torture.c\n", why);
	exit(2);
}

static void parse(struct options *opt, int argc, char **argv)
{
	static const struct option names[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "ops", required_argument, NULL, 'o' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "processes", required_argument, NULL, 'p' },
		{ "threads", required_argument, NULL, 't' },
		{ "module", required_argument, NULL, 'm' },
		{ "limit", required_argument, NULL, 'l' },
		{ "failslab", required_argument, NULL, 'f' },
		{ "fail-page", required_argument, NULL, 'g' },
		{ "no-engine", no_argument, NULL, 'n' },
		{ "without", required_argument, NULL, 'w' },
		{ }
	};
	int c;

	*opt = (struct options){
		.ops = 10000, .rounds = 2, .processes = 2, .threads = 2,
		.engine = true,
	};
	if (getrandom(&opt->seed, 4, 0) != 4)
		opt->seed = time(NULL);
	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		unsigned long long value = optarg ? strtoull(optarg, NULL, 0) :
						    0;

		switch (c) {
		case 's':
			opt->seed = value;
			break;
		case 'o':
			opt->ops = value;
			break;
		case 'r':
			opt->rounds = value;
			break;
		case 'p':
			opt->processes = value;
			break;
		case 't':
			opt->threads = value;
			break;
		case 'm':
			opt->module = optarg;
			break;
		case 'l':
			opt->limit = value;
			break;
		case 'f':
			opt->failslab = value;
			break;
		case 'g':
			opt->fail_page = value;
			break;
		case 'w':
			if (!leave_out(opt, optarg))
				usage("unknown kind of operation");
			break;
		case 'n':
			opt->engine = false;
			break;
		default:
			usage("unknown option");
		}
	}
	if (!opt->rounds || !opt->processes || !opt->threads ||
	    opt->processes * opt->threads > WORKERS_MAX)
		usage("at least 1 round, process and thread, at most 16 workers");
	/* So that no operation of a round is left to nobody. */
	opt->ops -= opt->ops % (opt->processes * opt->threads * opt->rounds);
	if (!opt->ops)
		usage("too few operations");
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{ "every byte is what its writer put there", everything },
		{ "every kind of operation succeeds", all_kinds },
		{ "pages merge, are written, unmerged and swapped",
		  something_happened },
		{ "nothing is left behind", all_given_back },
	};
	int status;

	if (argc > 1 && !strcmp(argv[1], "--nothing"))
		return EXIT_SUCCESS;
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		usage("no memory");
	parse(&board->opt, argc, argv);
	contents_init();
	find_swap(board->swap);
	board->ksm = !access("/sys/kernel/mm/ksm/run", W_OK);
	printf("# seed=%llu ops=%lu rounds=%u workers=%ux%u\n",
	       (unsigned long long)board->opt.seed, board->opt.ops,
	       board->opt.rounds, board->opt.processes, board->opt.threads);
	printf("# limit=%lu failslab=%u%% fail_page=%u%%\n", board->opt.limit,
	       board->opt.failslab, board->opt.fail_page);
	status = tap_main(tests, sizeof(tests) / sizeof(tests[0]));
	end_all();
	if (board->ksm && board->opt.engine) {
		file_write("/sys/kernel/mm/ksm/run", "2");
		file_write("/sys/kernel/mm/ksm/run", "0");
	}
	return status;
}
