// SPDX-License-Identifier: GPL-2.0-only
/*
 * What controllers do to the engine and the machine. Two of them work on the
 * same domains, so one may remove what the other is about to scan: requests
 * may be refused for that, and for lack of memory where that was asked for,
 * and for nothing else.
 */
#include <pthread.h>
#include <sys/swap.h>

#include "faults.h"
#include "torture.h"

#define DOMAINS		3
#define DOMAIN_FD	200	/* the first; the numbers stay */
#define PARTS		2	/* of an area, registered apart */
#define KSM		"/sys/kernel/mm/ksm/"

const struct kind control_kinds[C_KINDS] = {
	[C_SCAN] = { "scan", 100, false },
	[C_SCAN_REGION] = { "scan-region", 60, false },
	[C_SCAN_RANGE] = { "scan-range", 60, false },
	[C_UNMERGE] = { "unmerge", 6, false },
	[C_UNMERGE_RANGE] = { "unmerge-range", 20, false },
	[C_ADD] = { "add-region", 60, false },
	[C_REMOVE] = { "remove-region", 10, false },
	[C_REMOVE_UNMERGE] = { "remove-unmerge", 10, false },
	[C_MOVE_DOMAIN] = { "move-domain", 10, false },
	[C_REOPEN] = { "reopen", 8, false },
	[C_STAT] = { "stat", 30, false },
	[C_RUN] = { "run", 25, false },
	[C_UNMERGE_ALL] = { "unmerge-all", 5, false },
	[C_TUNE] = { "tune", 25, false },
	[C_READ] = { "read-sysfs", 20, false },
	[C_RECLAIM] = { "reclaim", 30, true },
	[C_COMPACT] = { "compact", 8, true },
	[C_SWAPOFF] = { "swapoff", 3, true },
	[C_UNLOAD] = { "unload-refused", 8, false },
	[C_KSM] = { "ksm", 8, true },
};

static const struct {
	const char *name;
	unsigned int min, max;
} tunables[] = {
	{ "pages_to_scan", 1, 4000 },
	{ "sleep_millisecs", 0, 30 },
	{ "use_zero_pages", 0, 1 },
	{ "max_page_sharing", 2, 300 },
	{ "scanners", 1, 4 },
	{ "cpu_limit_percent", 0, 100 },
	{ "max_idle_millisecs", 0, 100 },
	{ "huge_split_pages", 0, 512 },
	{ "smart_scan", 0, 1 },
	{ "stable_node_chains_prune_millisecs", 0, 3000 },
};

static const char *const files[] = {
	"run", "pages_to_scan", "sleep_millisecs", "use_zero_pages",
	"max_page_sharing", "pages_unswappable", "pages_shared",
	"pages_sharing", "pages_unshared", "pages_volatile",
	"pages_mapped_zero", "pages_scanned", "pages_merged", "pages_zeroed",
	"pages_skipped", "pages_unshared_total", "full_scans", "domains",
	"regions", "unshare_demand", "metadata_bytes", "scan_cpu_ns",
	"scanner_pid", "scanners", "cpu_limit_percent", "max_idle_millisecs",
	"pages_protected", "pages_unread", "domain_lock_max_ns",
	"page_table_lock_max_ns", "engine", "smart_scan", "advisor_mode",
	"advisor_max_cpu", "advisor_min_pages_to_scan",
	"advisor_max_pages_to_scan", "advisor_target_scan_time",
	"stable_node_chains_prune_millisecs", "stable_node_chains",
	"stable_node_dups", "ksm_zero_pages", "pages_ineligible",
	"huge_split_pages", "huge_split", "pages_refused", "unshare_supply",
};

/* A counter that is larger than this has gone below zero. */
#define LARGEST	(~0ULL >> 2)

struct part {
	int domain;		/* or -1 */
	uint64_t id;
};

static struct part parts[WORKERS_MAX][PARTS];
static int pidfds[WORKERS_MAX];
/* Of the parts and of the domains' files; never held during a scan. */
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

static pthread_mutex_t swapping = PTHREAD_MUTEX_INITIALIZER;

static unsigned int workers(void)
{
	return board->opt.processes * board->opt.threads;
}

long long counter_of(const char *name)
{
	FILE *file = fopen("/proc/vmstat", "r");
	char line[128], key[64];
	long long value, found = -1;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%63s %lld", key, &value) == 2 &&
		    !strcmp(key, name))
			found = value;
	fclose(file);
	return found;
}

int module_remove(void)
{
	return syscall(SYS_delete_module, "memmerge", O_NONBLOCK) ? -errno : 0;
}

int module_load(const char *name)
{
	int file = open(name, O_RDONLY | O_CLOEXEC), err;

	if (file < 0)
		return -errno;
	err = syscall(SYS_finit_module, file, "", 0) ? -errno : 0;
	close(file);
	return err;
}

static bool starving(void)
{
	return board->opt.failslab || board->opt.fail_page || board->opt.limit;
}

/* Set of reasons: errnos below 63. */
#define E(errno)	(2ULL << ((errno) - 1))

/* A request of a controller was refused: was there a reason? */
static int refused(const char *what, int err, uint64_t reasons)
{
	if (err == -ENOMEM && starving()) {
		atomic_fetch_add(&board->nomem, 1);
		return -1;
	}
	if (-err < 64 && reasons & E(-err))
		return -1;
	die("controller: %s: %s", what, strerror(-err));
}

static int request(int domain, unsigned long cmd, void *arg)
{
	return ioctl(DOMAIN_FD + domain, cmd, arg) ? -errno : 0;
}

static bool number_read(const char *name, unsigned long long *value)
{
	char path[96], text[32] = "";
	ssize_t got;
	int file;

	snprintf(path, sizeof(path), SYSFS "%s", name);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0) {
		refused(path, -errno, 0);
		return false;
	}
	got = read(file, text, sizeof(text) - 1);
	if (got <= 0)
		refused(path, got ? -errno : -ENODATA, 0);
	close(file);
	if (got <= 0)
		return false;
	*value = strtoull(text, NULL, 10);
	if (*value > LARGEST)
		die("controller: %s is %s", path, text);
	return true;
}

static int number_write(const char *name, unsigned int value)
{
	char path[96], text[32];
	int err;

	snprintf(path, sizeof(path), SYSFS "%s", name);
	snprintf(text, sizeof(text), "%u", value);
	err = file_write(path, text);
	return err ? refused(path, err, 0) : 0;
}

/* ---- regions ---- */

static void part_range(unsigned int worker, unsigned int part, __u64 *start,
		       __u64 *length)
{
	/* The second one lies in two page tables. */
	const unsigned long first = AREA_PAGES / 2 - 28;

	*start = board->actors[worker].memory + (part ? first * PAGE : 0);
	*length = (part ? AREA_PAGES - first : first) * PAGE;
}

/* With the table locked. */
static int part_add(unsigned int worker, unsigned int part, int domain)
{
	struct memmerge_region arg = {
		.size = sizeof(arg), .pidfd = pidfds[worker],
	};
	int err;

	part_range(worker, part, &arg.start, &arg.length);
	err = request(domain, MEMMERGE_ADD_REGION, &arg);
	/*
	 * All of it may be unmapped at this moment; and a domain lives on as
	 * long as the other controller is scanning it.
	 */
	if (err)
		return refused("add a region", err, E(ENOMEM) | E(EBUSY));
	parts[worker][part] = (struct part){ domain, arg.id };
	return 0;
}

static int part_remove(unsigned int worker, unsigned int part, uint32_t flags)
{
	struct part *p = &parts[worker][part];
	struct memmerge_region arg = {
		.size = sizeof(arg), .flags = flags, .id = p->id,
	};
	int err = request(p->domain, MEMMERGE_REMOVE_REGION, &arg);

	if (err)
		return refused("remove a region", err, 0);
	p->domain = -1;
	return 0;
}

static int do_region(enum control kind, struct rng *rng)
{
	unsigned int worker = rng_below(rng, workers());
	unsigned int part = rng_below(rng, PARTS);
	int domain = rng_below(rng, DOMAINS), done = 0;
	struct part *p = &parts[worker][part];

	pthread_mutex_lock(&table);
	if (kind == C_ADD) {
		/* Mostly everything is registered: look for what is not. */
		for (worker = 0; worker < workers(); worker++)
			for (part = 0; part < PARTS; part++)
				if (parts[worker][part].domain < 0)
					done = part_add(worker, part, domain) ?:
					       1;
	} else if (p->domain >= 0) {
		done = part_remove(worker, part, kind == C_REMOVE ||
				   domain % 2 ? 0 : MEMMERGE_REMOVE_UNMERGE);
		if (!done && kind == C_MOVE_DOMAIN)
			done = part_add(worker, part, domain);
		done = done ?: 1;
	}
	pthread_mutex_unlock(&table);
	return done;
}

static int do_reopen(struct rng *rng)
{
	int domain = rng_below(rng, DOMAINS), file;
	unsigned int worker, part;

	file = open(MEMMERGE_DEVICE, O_RDWR | O_CLOEXEC);
	if (file < 0)
		return refused(MEMMERGE_DEVICE, -errno, 0);
	pthread_mutex_lock(&table);
	/* Closes the old one, whatever somebody else is doing with it. */
	if (dup3(file, DOMAIN_FD + domain, O_CLOEXEC) < 0)
		die("controller: dup3: %s", strerror(errno));
	close(file);
	for (worker = 0; worker < workers(); worker++)
		for (part = 0; part < PARTS; part++)
			if (parts[worker][part].domain == domain)
				parts[worker][part].domain = -1;
	pthread_mutex_unlock(&table);
	return 1;
}

/* ---- scans ---- */

static void count(unsigned long cmd, const struct memmerge_scan *arg)
{
	if (cmd == MEMMERGE_UNMERGE) {
		atomic_fetch_add(&board->unmerged, arg->merged);
		return;
	}
	atomic_fetch_add(&board->merged, arg->merged);
	atomic_fetch_add(&board->zeroed, arg->zeroed);
}

static int do_range(enum control kind, struct rng *rng)
{
	bool unmerge = kind == C_UNMERGE || kind == C_UNMERGE_RANGE;
	unsigned long cmd = unmerge ? MEMMERGE_UNMERGE : MEMMERGE_SCAN;
	unsigned int worker = rng_below(rng, workers());
	unsigned int part = rng_below(rng, PARTS);
	int domain = rng_below(rng, DOMAINS), err;
	struct memmerge_scan arg = { .size = sizeof(arg) };
	__u64 start, length, from, to;
	struct part p;

	part_range(worker, part, &start, &length);
	from = rng_below(rng, length / PAGE);
	to = from + 1 + rng_below(rng, length / PAGE - from);
	if (kind != C_SCAN && kind != C_UNMERGE) {
		pthread_mutex_lock(&table);
		p = parts[worker][part];
		pthread_mutex_unlock(&table);
		if (p.domain < 0)
			return 0;
		domain = p.domain;
		arg.id = p.id;
		if (kind != C_SCAN_REGION) {
			arg.start = start + from * PAGE;
			arg.length = (to - from) * PAGE;
		}
	}
	err = request(domain, cmd, &arg);
	count(cmd, &arg);
	/* Removed meanwhile, and maybe its number is another's. */
	if (err)
		return refused(unmerge ? "unmerge" : "scan", err,
			       arg.id ? E(ENOENT) | E(EINVAL) : 0);
	return 1;
}

static void sane(const char *name, uint64_t value, uint64_t most)
{
	if (value > most)
		die("controller: %s is %llu, more than %llu", name,
		    (unsigned long long)value, (unsigned long long)most);
}

static int do_stat(struct rng *rng)
{
	struct memmerge_stat s = { .size = sizeof(s) };
	int err = request(rng_below(rng, DOMAINS), MEMMERGE_STAT, &s);
	const __u64 *field;

	if (err)
		return refused("stat", err, 0);
	for (field = &s.regions; field < (__u64 *)(&s + 1); field++)
		if (field != &s.unshare_limit)	/* all ones: no limit */
			sane("a field of the statistics", *field, LARGEST);
	sane("regions", s.regions, workers() * PARTS);
	sane("pages_registered", s.pages_registered, workers() * AREA_PAGES);
	sane("pages in all states", s.pages_mapped_shared +
	     s.pages_mapped_zero + s.pages_unshared, s.pages_registered);
	sane("pages_volatile", s.pages_volatile, s.pages_registered);
	if (s.unshare_demand !=
	    (s.pages_sharing + s.pages_mapped_zero) * PAGE)
		die("controller: unshare_demand is %llu with %llu pages sharing, %llu zero",
		    (unsigned long long)s.unshare_demand,
		    (unsigned long long)s.pages_sharing,
		    (unsigned long long)s.pages_mapped_zero);
	return 1;
}

/* ---- the engine and the machine ---- */

static int do_read(struct rng *rng)
{
	unsigned long long value;
	unsigned int i = rng_below(rng, sizeof(files) / sizeof(files[0]));

	return number_read(files[i], &value) ? 1 : -1;
}

static int do_tune(struct rng *rng)
{
	unsigned int i = rng_below(rng, sizeof(tunables) / sizeof(tunables[0]));
	unsigned int value = tunables[i].min +
		rng_below(rng, tunables[i].max - tunables[i].min + 1);

	return number_write(tunables[i].name, value) ?: 1;
}

static int do_run(enum control kind, struct rng *rng)
{
	int err;

	if (kind == C_RUN)
		return number_write("run", rng_below(rng, 4) > 0) ?: 1;
	err = number_write("run", 2);
	/* And on it goes. */
	return number_write("run", 1) ?: err ?: 1;
}

static int do_swapoff(void)
{
	int err = 0;

	if (!board->swap[0])
		return 0;
	pthread_mutex_lock(&swapping);
	/* What comes back must not be more than what the workers may have. */
	if (board->opt.limit)
		file_write(CGROUP "/memory.max", "max");
	if (swapoff(board->swap))
		err = refused("swapoff", -errno, E(ENOMEM) | E(EINTR));
	else
		while (swapon(board->swap, 0))
			refused("swapon", -errno, E(ENOMEM));
	control_prepare();
	pthread_mutex_unlock(&swapping);
	return err ?: 1;
}

/* Limit the workers' memory, if asked to. */
void control_prepare(void)
{
	char text[32];

	if (!board->opt.limit)
		return;
	snprintf(text, sizeof(text), "%lu", board->opt.limit);
	while (file_write(CGROUP "/memory.max", text) == -ENOMEM)
		;
}

static int do_machine(enum control kind, struct rng *rng)
{
	char text[16];
	int err = -ENOENT;

	switch (kind) {
	case C_RECLAIM:
		snprintf(text, sizeof(text), "%luK",
			 4 * (1 + rng_below(rng, 64)));
		err = file_write(CGROUP "/memory.reclaim", text);
		/* Less than was asked for is EAGAIN. */
		err = err == -EAGAIN ? 0 : err;
		break;
	case C_COMPACT:
		err = file_write("/proc/sys/vm/compact_memory", "1");
		break;
	default:
		if (board->ksm) {
			snprintf(text, sizeof(text), "%lu", rng_below(rng, 3));
			err = file_write(KSM "run", text);
		}
		break;
	}
	return err ? refused(control_kinds[kind].name, err,
			     E(ENOENT) | E(EINTR)) : 1;
}

static int do_unload(void)
{
	int err = module_remove();

	if (!err)
		die("controller: the module could be removed while in use");
	refused("remove the module", err, E(EAGAIN) | E(EBUSY));
	return 1;
}

static int control(enum control kind, struct rng *rng)
{
	switch (kind) {
	case C_SCAN:
	case C_SCAN_REGION:
	case C_SCAN_RANGE:
	case C_UNMERGE:
	case C_UNMERGE_RANGE:
		return do_range(kind, rng);
	case C_ADD:
	case C_REMOVE:
	case C_REMOVE_UNMERGE:
	case C_MOVE_DOMAIN:
		return do_region(kind, rng);
	case C_REOPEN:
		return do_reopen(rng);
	case C_STAT:
		return do_stat(rng);
	case C_RUN:
	case C_UNMERGE_ALL:
		return do_run(kind, rng);
	case C_TUNE:
		return do_tune(rng);
	case C_READ:
		return do_read(rng);
	case C_SWAPOFF:
		return do_swapoff();
	case C_UNLOAD:
		return do_unload();
	default:
		return do_machine(kind, rng);
	}
}

static void *control_thread(void *arg)
{
	unsigned long number = (uintptr_t)arg;
	struct actor *actor = &board->actors[WORKERS_MAX + number];

	if (board->opt.failslab || board->opt.fail_page)
		if (faults_here(true))
			die("controller: this kernel cannot inject faults");
	while (atomic_load(&board->phase) == P_RUN) {
		unsigned long n = atomic_load(&actor->n) + 1;
		struct rng rng = rng_for(WORKERS_MAX + number, n);
		enum control kind = pick(&rng, control_kinds, C_KINDS);
		struct tally *tally = &board->control[kind];
		int done;

		atomic_store(&actor->kind, kind);
		atomic_fetch_add(&tally->tried, 1);
		done = board->opt.no_control[kind] ? 0 : control(kind, &rng);
		if (done > 0)
			atomic_fetch_add(&tally->done, 1);
		else if (done < 0)
			atomic_fetch_add(&tally->refused, 1);
		atomic_store(&actor->n, n);
	}
	if (board->opt.failslab || board->opt.fail_page)
		faults_here(false);
	return NULL;
}

static void phase_wait(enum phase phase)
{
	while (atomic_load(&board->phase) < (int)phase)
		usleep(2000);
}

/* All in one new domain, with nobody who disturbs: what is merged is given back. */
static void unmerge_finally(void)
{
	struct memmerge_scan scan = { .size = sizeof(scan) };
	struct memmerge_scan undo = { .size = sizeof(undo) };
	struct memmerge_stat stat = { .size = sizeof(stat) };
	unsigned int i, part;
	int err = 0;

	for (i = 1; i < DOMAINS; i++)
		close(DOMAIN_FD + i);
	if (dup3(open(MEMMERGE_DEVICE, O_RDWR | O_CLOEXEC), DOMAIN_FD,
		 O_CLOEXEC) < 0)
		die("controller: no domain to settle in: %s", strerror(errno));
	for (i = 0; i < workers(); i++)
		for (part = 0; part < PARTS; part++)
			part_add(i, part, 0);
	err = err ?: request(0, MEMMERGE_SCAN, &scan);
	count(MEMMERGE_SCAN, &scan);
	err = err ?: request(0, MEMMERGE_UNMERGE, &undo);
	count(MEMMERGE_UNMERGE, &undo);
	err = err ?: request(0, MEMMERGE_STAT, &stat);
	if (err)
		die("controller: settling: %s", strerror(-err));
	if (stat.pages_shared || stat.pages_sharing || stat.pages_mapped_shared)
		die("controller: %llu shared after unmerging, %llu sharing, %llu known to",
		    (unsigned long long)stat.pages_shared,
		    (unsigned long long)stat.pages_sharing,
		    (unsigned long long)stat.pages_mapped_shared);
}

/* A process: runs until the workers have done what they have to. */
void control_main(unsigned int round, bool unmerge)
{
	pthread_t threads[CONTROLLERS];
	unsigned int i, part;
	uintptr_t number;
	int file;

	phase_wait(P_RUN);
	for (i = 0; i < workers(); i++) {
		pidfds[i] = syscall(SYS_pidfd_open,
				    atomic_load(&board->actors[i].pid), 0);
		if (pidfds[i] < 0)
			die("controller: pidfd_open: %s", strerror(errno));
		for (part = 0; part < PARTS; part++)
			parts[i][part].domain = -1;
	}
	for (i = 0; i < DOMAINS; i++) {
		file = open(MEMMERGE_DEVICE, O_RDWR | O_CLOEXEC);
		if (file < 0)
			die("controller: %s: %s", MEMMERGE_DEVICE,
			    strerror(errno));
		dup3(file, DOMAIN_FD + i, O_CLOEXEC);
		close(file);
	}
	for (i = 0; i < workers(); i++)
		for (part = 0; part < PARTS; part++)
			part_add(i, part, (i + part + round) % 2);
	number_write("sleep_millisecs", 1);
	number_write("run", 1);
	for (number = 0; number < CONTROLLERS; number++)
		if (pthread_create(&threads[number], NULL, control_thread,
				   (void *)number))
			die("controller: no thread");
	for (i = 0; i < CONTROLLERS; i++)
		pthread_join(threads[i], NULL);

	phase_wait(P_SETTLE);
	if (board->opt.failslab || board->opt.fail_page)
		faults_set(0, 0);
	if (board->opt.limit)
		file_write(CGROUP "/memory.max", "max");
	number_write("run", 0);
	for (i = 0; unmerge && i < DOMAINS; i++) {
		struct memmerge_scan arg = { .size = sizeof(arg) };
		int err = request(i, MEMMERGE_UNMERGE, &arg);

		if (err)
			refused("unmerge in the end", err, 0);
		count(MEMMERGE_UNMERGE, &arg);
	}
	atomic_store(&board->actors[WORKERS_MAX].phase, P_STOPPED);
	phase_wait(P_WRITTEN);
	if (unmerge)
		unmerge_finally();
	atomic_store(&board->actors[WORKERS_MAX].phase, P_UNMERGED);
	phase_wait(P_UNMERGED);
	_exit(EXIT_SUCCESS);
}
