// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"
#include "payload.h"

#define MAX_WORDS 8
#define POKED "poked:"

/* A range of pages of the area, as requests name it */
struct range {
	uint64_t first;
	uint64_t count;
};

/* Which byte of which pages of a range is XORed with what */
struct poke {
	uint64_t stride;
	uint64_t offset;
	uint64_t xor;
};

/**
 * struct request - what a handler gets
 * @area: what it is about
 * @words: the request's words, NULL after the last
 * @reply: what follows "ok " or "err "
 * @size: room for it
 */
struct request {
	struct area *area;
	char *words[MAX_WORDS + 1];
	char *reply;
	size_t size;
};

/* Adds to the reply; the words of one reply always fit */
static void __attribute__((format(printf, 2, 3))) reply(struct request *request,
							const char *format, ...)
{
	size_t used = strlen(request->reply);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(request->reply + used, request->size - used, format, arguments);
	va_end(arguments);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static unsigned char *page_at(const struct area *area, uint64_t page)
{
	return area->memory + page * PAGE_BYTES;
}

static bool parse_range(struct request *request, struct range *range)
{
	uint64_t pages = request->area->pages;

	if (!parse_number(request->words[1], &range->first) ||
	    !parse_number(request->words[2], &range->count)) {
		reply(request, "FIRST and COUNT must be numbers");
		return false;
	}
	if (!range->count || range->first >= pages || range->count > pages - range->first) {
		reply(request, "FIRST and COUNT must lie within the %llu pages",
		      (unsigned long long)pages);
		return false;
	}
	return true;
}

static bool parse_pattern(struct request *request, struct pattern *pattern)
{
	if (pattern_parse(pattern, request->words[3]))
		return true;
	reply(request, "PATTERN must be zero, byte:HH, seed:S, same:S or near:S:KIND");
	return false;
}

static bool parse_poke(struct request *request, struct poke *poke,
		       const char *stride, const char *offset, const char *xor)
{
	if (stride && offset && xor && parse_number(stride, &poke->stride) && poke->stride &&
	    parse_number(offset, &poke->offset) && poke->offset < PAGE_BYTES &&
	    parse_number(xor, &poke->xor) && poke->xor < 256)
		return true;
	reply(request, "STRIDE must be at least 1, OFFSET below 4096, XOR below 256");
	return false;
}

/* The offset of the first byte that differs, or PAGE_BYTES */
static size_t first_difference(const unsigned char *page, const uint64_t *expected)
{
	const uint64_t *words = (const uint64_t *)page;
	const unsigned char *bytes = (const unsigned char *)expected;
	uint64_t difference = 0;
	size_t i = 0;

	for (size_t word = 0; word < PAGE_WORDS; word++)
		difference |= words[word] ^ expected[word];
	if (!difference)
		return PAGE_BYTES;
	while (page[i] == bytes[i])
		i++;
	return i;
}

static bool do_info(struct request *request)
{
	const struct area *area = request->area;

	reply(request, "proto=1 pages=%llu gpa=%#llx page=%d", (unsigned long long)area->pages,
	      (unsigned long long)area->address, PAGE_BYTES);
	if (area->pid)
		reply(request, " pid=%d", area->pid);
	return true;
}

static bool do_fill(struct request *request)
{
	struct pattern pattern;
	struct range range;
	uint64_t start;

	if (!parse_range(request, &range) || !parse_pattern(request, &pattern))
		return false;
	start = now();
	for (uint64_t i = 0; i < range.count; i++)
		pattern_page(&pattern, i, (uint64_t *)page_at(request->area, range.first + i));
	reply(request, "pages=%llu ns=%llu", (unsigned long long)range.count,
	      (unsigned long long)(now() - start));
	return true;
}

static bool do_verify(struct request *request)
{
	struct poke poke = { .stride = 0 };
	char *poked = request->words[4];
	uint64_t expected[PAGE_WORDS];
	struct pattern pattern;
	uint64_t bad_page = 0;
	size_t bad_byte = 0;
	struct range range;
	uint64_t bad = 0;

	if (!parse_range(request, &range) || !parse_pattern(request, &pattern))
		return false;
	if (poked && strncmp(poked, POKED, strlen(POKED))) {
		reply(request, "after PATTERN comes nothing or poked:STRIDE:OFFSET:XOR");
		return false;
	}
	if (poked) {
		char *rest = poked + strlen(POKED);
		char *stride = strsep(&rest, ":");
		char *offset = strsep(&rest, ":");

		if (!parse_poke(request, &poke, stride, offset, rest))
			return false;
	}
	for (uint64_t i = 0; i < range.count; i++) {
		size_t differs;

		pattern_page(&pattern, i, expected);
		if (poke.stride && i % poke.stride == 0)
			((unsigned char *)expected)[poke.offset] ^= (unsigned char)poke.xor;
		differs = first_difference(page_at(request->area, range.first + i), expected);
		if (differs == PAGE_BYTES || bad++)
			continue;
		bad_page = range.first + i;
		bad_byte = differs;
	}
	if (bad)
		reply(request, "bad=%llu first=%llu offset=%zu", (unsigned long long)bad,
		      (unsigned long long)bad_page, bad_byte);
	else
		reply(request, "bad=0");
	return true;
}

static int compare_samples(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left;
	uint32_t b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static bool do_poke(struct request *request)
{
	uint32_t *samples = request->area->samples;
	struct range range;
	struct poke poke;
	size_t n = 0;

	if (!parse_range(request, &range) ||
	    !parse_poke(request, &poke, request->words[3], request->words[4], request->words[5]))
		return false;
	for (uint64_t i = 0; i < range.count; n++) {
		unsigned char *page = page_at(request->area, range.first + i);
		uint64_t start = now();
		uint64_t took;

		/* Atomic, so that the write stays between the two looks at the clock. */
		__atomic_fetch_xor(page + poke.offset, (unsigned char)poke.xor, __ATOMIC_SEQ_CST);
		took = now() - start;
		samples[n] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
		if (poke.stride >= range.count - i) {
			n++;
			break;
		}
		i += poke.stride;
	}
	qsort(samples, n, sizeof(*samples), compare_samples);
	reply(request, "written=%zu p50_ns=%u p99_ns=%u max_ns=%u", n, samples[(n - 1) / 2],
	      samples[(n - 1) * 99 / 100], samples[n - 1]);
	return true;
}

static bool do_poweroff(struct request *request)
{
	(void)request;
	return true;
}

static const struct {
	const char *name;
	int least;
	int most;
	const char *usage;
	bool (*run)(struct request *request);
} verbs[] = {
	{ "info", 0, 0, "info", do_info },
	{ "fill", 3, 3, "fill FIRST COUNT PATTERN", do_fill },
	{ "verify", 3, 4, "verify FIRST COUNT PATTERN [poked:STRIDE:OFFSET:XOR]", do_verify },
	{ "poke", 5, 5, "poke FIRST COUNT STRIDE OFFSET XOR", do_poke },
	{ "poweroff", 0, 0, "poweroff", do_poweroff },
};

/* Runs the verb of @request; false when it is refused, with the reason in its reply */
static bool run(struct request *request, int arguments, bool *done)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(request->words[0], verbs[i].name))
			continue;
		if (arguments < verbs[i].least || arguments > verbs[i].most) {
			reply(request, "usage: %s", verbs[i].usage);
			return false;
		}
		*done = verbs[i].run == do_poweroff;
		return verbs[i].run(request);
	}
	reply(request, "unknown request; known are info fill verify poke poweroff");
	return false;
}

/**
 * answer - answers one request
 * @area: what it is about
 * @line: the request, cut into words
 * @text: the answer, one line; empty for an empty request
 * @size: room for it
 * @done: set when the request asks for the end
 *
 * A first word that begins with @ is a tag: it comes back as the answer's first
 * word, so that a client can tell its own answers from those to an earlier,
 * interrupted client.
 */
void answer(struct area *area, char *line, char *text, size_t size, bool *done)
{
	struct request request = { .area = area };
	char words[LINE_MAX_BYTES];
	const char *tag = "";
	int n = 0;
	bool ok;

	text[0] = '\0';
	for (char *word = strtok(line, " \t\r"); word; word = strtok(NULL, " \t\r")) {
		if (!n && !*tag && word[0] == '@')
			tag = word;
		else if (n < MAX_WORDS)
			request.words[n++] = word;
		else
			n = MAX_WORDS + 1;
		if (n > MAX_WORDS)
			break;
	}
	if (!n)
		return;
	request.reply = words;
	request.size = sizeof(words);
	words[0] = '\0';
	if (n > MAX_WORDS) {
		reply(&request, "too many words");
		ok = false;
	} else {
		ok = run(&request, n - 1, done);
	}
	snprintf(text, size, "%s%s%s%s%s\n", tag, *tag ? " " : "", ok ? "ok" : "err",
		 *words ? " " : "", words);
}

/*
 * Waits until something can be sent again; false when that will never be. A
 * guest's port says that its client has gone also when a new one has come of
 * which it has not been told yet, so there the answer waits for any client: by
 * its tag, one to whom it does not belong drops it.
 */
static bool wait_for_room(const struct session *session)
{
	struct pollfd client = { .fd = session->fd, .events = POLLOUT };
	struct epoll_event change;

	if (session->changes < 0)
		return poll(&client, 1, -1) > 0 && !(client.revents & (POLLHUP | POLLERR));
	return epoll_wait(session->changes, &change, 1, -1) >= 0 || errno == EINTR;
}

/* Sends all of @text, or drops it when the client has gone */
static void send_text(struct session *session, const char *text)
{
	size_t length = strlen(text);

	while (length) {
		ssize_t sent = write(session->fd, text, length);

		if (sent > 0) {
			text += sent;
			length -= (size_t)sent;
			continue;
		}
		if (sent < 0 && errno == EINTR)
			continue;
		if (!sent || errno != EAGAIN || !wait_for_room(session))
			return;
	}
}

static void end_of_line(struct session *session)
{
	char text[2 * LINE_MAX_BYTES];

	if (session->overlong) {
		snprintf(text, sizeof(text), "err a request has fewer than %d bytes\n",
			 LINE_MAX_BYTES);
	} else {
		session->line[session->length] = '\0';
		answer(session->area, session->line, text, sizeof(text), &session->done);
	}
	session->length = 0;
	session->overlong = false;
	send_text(session, text);
}

/* Answers what has arrived; false when the client has gone */
bool serve(struct session *session)
{
	char bytes[LINE_MAX_BYTES];

	while (!session->done) {
		ssize_t got = read(session->fd, bytes, sizeof(bytes));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return true;
		if (got <= 0)
			return false;
		for (ssize_t i = 0; i < got && !session->done; i++) {
			if (bytes[i] == '\n')
				end_of_line(session);
			else if (session->length < LINE_MAX_BYTES - 1)
				session->line[session->length++] = bytes[i] ? bytes[i] : '?';
			else
				session->overlong = true;
		}
	}
	return true;
}
