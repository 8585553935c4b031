// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pattern.h"
#include "payload.h"

#define FIRMWARE_MAP "/sys/firmware/memmap"

static void read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);

	if (length < 0)
		die("cannot read %s: %s", path, strerror(errno));
	close(fd);
	text[length] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

/* What the kernel was limited to with mem=, in bytes */
static uint64_t kernel_limit(void)
{
	char words[2048];
	char *suffix;
	uint64_t limit;

	read_text("/proc/cmdline", words, sizeof(words));
	for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
		if (strncmp(word, "mem=", 4))
			continue;
		limit = strtoull(word + 4, &suffix, 10);
		if (limit && !strcmp(suffix, "M"))
			return limit << 20;
		die("'%s' on the kernel's command line is not mem=<MiB>M", word);
	}
	die("the kernel's command line has no mem=<MiB>M, so no memory is left for the payload");
}

static uint64_t firmware_number(const char *entry, const char *file)
{
	char path[512];
	char text[32];
	uint64_t number;

	snprintf(path, sizeof(path), FIRMWARE_MAP "/%s/%s", entry, file);
	read_text(path, text, sizeof(text));
	if (!parse_number(text, &number))
		die("'%s' in %s is not a number", text, path);
	return number;
}

/* Where the firmware's block of RAM that holds @address ends */
static uint64_t ram_end(uint64_t address)
{
	DIR *map = opendir(FIRMWARE_MAP);
	struct dirent *entry;
	char path[512];
	char type[32];

	if (!map)
		die("cannot open %s: %s; the guest's kernel needs CONFIG_FIRMWARE_MEMMAP",
		    FIRMWARE_MAP, strerror(errno));
	while ((entry = readdir(map))) {
		uint64_t end;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), FIRMWARE_MAP "/%s/type", entry->d_name);
		read_text(path, type, sizeof(type));
		if (strcmp(type, "System RAM"))
			continue;
		end = firmware_number(entry->d_name, "end") + 1;
		if (firmware_number(entry->d_name, "start") <= address && address < end) {
			closedir(map);
			return end;
		}
	}
	die("there is no RAM at %#llx, where mem= ends: give the guest more memory",
	    (unsigned long long)address);
}

static void *map_memory(size_t bytes, int flags, int fd, uint64_t offset, const char *what)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);

	if (memory == MAP_FAILED)
		die("no room for %zu bytes of %s: %s", bytes, what, strerror(errno));
	return memory;
}

/* Room for the times of poke, touched now so that timing does not touch it */
static void add_samples(struct area *area)
{
	size_t bytes = area->pages * sizeof(*area->samples);

	area->samples = map_memory(bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0,
				   "memory for times");
}

/* All RAM above the kernel's own, at its guest-physical addresses */
void area_of_guest(struct area *area)
{
	int fd = open("/dev/mem", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("cannot open /dev/mem: %s; the guest's kernel needs CONFIG_DEVMEM",
		    strerror(errno));
	area->address = kernel_limit();
	area->pages = (ram_end(area->address) - area->address) / PAGE_BYTES;
	area->pid = 0;
	area->memory = map_memory(area->pages * PAGE_BYTES, MAP_SHARED, fd, area->address,
				  "/dev/mem");
	close(fd);
	add_samples(area);
}

/* Anonymous memory of this process, in small pages so that each can be merged */
void area_of_process(struct area *area, uint64_t pages)
{
	size_t bytes = pages * PAGE_BYTES;

	area->memory = map_memory(bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0,
				  "anonymous memory");
	/* A kernel without huge pages answers EINVAL, and that is as good */
	if (madvise(area->memory, bytes, MADV_NOHUGEPAGE) && errno != EINVAL)
		die("cannot forbid huge pages: %s", strerror(errno));
	area->pages = pages;
	area->address = (uintptr_t)area->memory;
	area->pid = getpid();
	add_samples(area);
}
