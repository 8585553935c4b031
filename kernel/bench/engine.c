// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engines behind one interface
 */
#include <ctype.h>
#include <dirent.h>

#include "bench.h"

#define KSM_DIR	"/sys/kernel/mm/ksm/"

static int domain = -1;

/* Bytes of the objects of KSM's caches; slab_nomerge keeps them apart. */
static long long ksm_metadata(void)
{
	FILE *slabs = fopen("/proc/slabinfo", "r");
	long long bytes = 0;
	char line[512];
	bool any = false;

	while (slabs && fgets(line, sizeof(line), slabs)) {
		unsigned long active, size;

		if (strncmp(line, "ksm_", 4))
			continue;
		if (sscanf(line, "%*s %lu %*u %lu", &active, &size) == 2) {
			bytes += (long long)active * size;
			any = true;
		}
	}
	if (slabs)
		fclose(slabs);
	return any ? bytes : -1;
}

static void ksm_forget(void)
{
	TAP_EQ(0, file_write(KSM_DIR "run", "2"));
	TAP_EQ(0, file_write(KSM_DIR "run", "0"));
}

static void ksm_begin(void)
{
	ksm_forget();
	/* A kernel without these has neither skipping nor an advisor. */
	file_write(KSM_DIR "smart_scan", "1");
	file_write(KSM_DIR "advisor_mode", "none");
}

static void ksm_add(struct process *process)
{
	process_order(process, ORDER_ADVISE, 0);
}

static void ksm_end(void)
{
	ksm_forget();
	processes_order(ORDER_UNADVISE, 0);
}

static void memmerge_begin(void)
{
	/* Idle rounds cost as others, but would be waited for. */
	file_write(SYSFS "max_idle_millisecs", "0");
	file_write(SYSFS "domain_lock_max_ns", "0");
	file_write(SYSFS "page_table_lock_max_ns", "0");
	domain = domain_open();
}

static void memmerge_add(struct process *process)
{
	uint64_t id;

	TAP_EQ(0, region_try(domain, process->pidfd, process->start,
			     process->pages * PAGE, &id));
}

static void memmerge_end(void)
{
	TAP_EQ(0, file_write(SYSFS "run", "2"));
	TAP_EQ(0, file_write(SYSFS "run", "0"));
	close(domain);
	domain = -1;
	file_wait(SYSFS "domains", 0);
}

static long long memmerge_metadata(void)
{
	return file_read(SYSFS "metadata_bytes");
}

const struct engine engines[ENGINES] = {
	[KSM] = {
		.name = "ksm", .dir = KSM_DIR, .thread = "ksmd",
		.zeroed = "ksm_zero_pages",
		.begin = ksm_begin, .add = ksm_add, .end = ksm_end,
		.metadata = ksm_metadata,
	},
	[MEMMERGE] = {
		.name = "memmerge", .dir = SYSFS, .thread = "memmerged",
		.zeroed = "pages_mapped_zero",
		.begin = memmerge_begin, .add = memmerge_add,
		.end = memmerge_end, .metadata = memmerge_metadata,
	},
};

/* Thread id of an engine's kernel thread. */
pid_t engine_thread(const struct engine *engine)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	char path[300], comm[64];
	pid_t found = 0;

	while (proc && !found && (entry = readdir(proc))) {
		FILE *file;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(comm, sizeof(comm), file)) {
			comm[strcspn(comm, "\n")] = 0;
			if (!strcmp(comm, engine->thread))
				found = atoi(entry->d_name);
		}
		fclose(file);
	}
	if (proc)
		closedir(proc);
	if (!found)
		tap_end(TAP_FAIL, "no thread %s", engine->thread);
	return found;
}

long long engine_read(const struct engine *engine, const char *file)
{
	char path[128];

	snprintf(path, sizeof(path), "%s%s", engine->dir, file);
	return file_read(path);
}

/* A file that is read often; engine_again() reads it. */
int engine_open(const struct engine *engine, const char *file)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s%s", engine->dir, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		tap_end(TAP_FAIL, "%s: %s", path, strerror(errno));
	return fd;
}

long long engine_again(int file)
{
	char text[32] = "";

	TAP_CHECK(pread(file, text, sizeof(text) - 1, 0) > 0);
	return strtoll(text, NULL, 10);
}

void engine_write(const struct engine *engine, const char *file,
		  unsigned long long value)
{
	char path[128], text[32];
	int err;

	snprintf(path, sizeof(path), "%s%s", engine->dir, file);
	snprintf(text, sizeof(text), "%llu", value);
	err = file_write(path, text);
	if (err)
		tap_end(TAP_FAIL, "%s refuses %s: %s", path, text,
			strerror(-err));
}

/* Pages that are not needed because of the engine. */
long long engine_saved(const struct engine *engine)
{
	return engine_read(engine, "pages_sharing") +
	       engine_read(engine, engine->zeroed);
}

/* Register the memory of all processes. */
void engine_attach(const struct engine *engine)
{
	unsigned int i;

	engine->begin();
	for (i = 0; i < processes_nr; i++)
		engine->add(&processes[i]);
}

/* Stop the scanner; nothing is done about an engine that is not there. */
void engine_stop(const struct engine *engine)
{
	char path[128];

	snprintf(path, sizeof(path), "%srun", engine->dir);
	file_write(path, "0");
}
