/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Allocations that fail on purpose: CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC.
 * They fail in threads alone that have asked for it.
 */
#ifndef MEMMERGE_FAULTS_H
#define MEMMERGE_FAULTS_H

#include "memmerge_test.h"

static inline int fault_write(const char *what, const char *file, int value)
{
	char path[96], text[16];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", what, file);
	snprintf(text, sizeof(text), "%d", value);
	return file_write(path, text);
}

static inline int fault_set(const char *what, unsigned int percent)
{
	int err = 0;

	/* Only in threads that say so, and also where it could wait. */
	err = err ?: fault_write(what, "probability", 0);
	err = err ?: fault_write(what, "task-filter", 1);
	err = err ?: fault_write(what, "ignore-gfp-wait", 0);
	err = err ?: fault_write(what, "interval", 1);
	err = err ?: fault_write(what, "verbose", 0);
	err = err ?: fault_write(what, "space", 0);
	if (!err && !strcmp(what, "fail_page_alloc"))
		err = fault_write(what, "min-order", 0);
	err = err ?: fault_write(what, "times", -1);
	return err ?: fault_write(what, "probability", percent);
}

static inline int faults_set(unsigned int failslab, unsigned int fail_page)
{
	int err = fault_set("failslab", failslab);

	return err ?: fault_set("fail_page_alloc", fail_page);
}

/* Ask for it, for the calling thread. */
static inline int faults_here(bool on)
{
	return file_write("/proc/thread-self/make-it-fail", on ? "1" : "0");
}

/* Ask for it, for the engine's thread. */
static inline int faults_scanner(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%lld/make-it-fail",
		 file_read(SYSFS "scanner_pid"));
	return file_write(path, "1");
}

#endif /* MEMMERGE_FAULTS_H */
