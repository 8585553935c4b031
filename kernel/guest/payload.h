/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * payload - memory whose content was commanded, and what happens to it
 *
 * The payload owns an area of pages, in a guest all RAM that the guest's kernel
 * was told not to use, and obeys the line protocol of docs/architecture.md.
 * area.c finds the area, protocol.c answers requests, pattern.c knows what pages
 * hold, and main.c is the index: a guest's init or a plain process.
 */
#ifndef PAYLOAD_H
#define PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE_MAX_BYTES 512

/**
 * struct area - the memory that the payload fills
 * @memory: its first byte
 * @pages: its size
 * @address: where page 0 is: guest-physical in a guest, else @memory
 * @pid: of a plain process; 0 in a guest
 * @samples: room for one time per page, in nanoseconds
 */
struct area {
	unsigned char *memory;
	uint64_t pages;
	uint64_t address;
	int pid;
	uint32_t *samples;
};

/**
 * struct session - a connection of one client after the other
 * @area: what the requests are about
 * @fd: where requests come from and answers go to; does not block
 * @changes: for a guest's port, the epoll instance that tells when something
 *	about @fd has changed; -1 for a socket
 * @line: a request that is not complete yet
 * @length: its bytes so far
 * @overlong: the line did not fit; all up to its end is dropped
 * @done: a client asked for the end
 */
struct session {
	struct area *area;
	int fd;
	int changes;
	char line[LINE_MAX_BYTES];
	size_t length;
	bool overlong;
	bool done;
};

void area_of_guest(struct area *area);
void area_of_process(struct area *area, uint64_t pages);

void answer(struct area *area, char *request, char *reply, size_t size, bool *done);
bool serve(struct session *session);

void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...);

#endif
