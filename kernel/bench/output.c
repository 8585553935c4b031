// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lines of JSON: to standard output, or to a serial line whose other end also
 * tells the time
 */
#include <termios.h>

#include "bench.h"
#include "output.h"

const struct subject *place_subject;
unsigned long place_pages;
const char *place_engine;
int place_pair;

static FILE *serial_out;
static int serial = -1;

static FILE *out(void)
{
	return serial_out ? serial_out : stdout;
}

void output_open(const char *path)
{
	struct termios raw;

	serial = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (serial < 0)
		tap_end(TAP_FAIL, "%s: %s", path, strerror(errno));
	TAP_EQ(0, tcgetattr(serial, &raw));
	cfmakeraw(&raw);
	TAP_EQ(0, tcsetattr(serial, TCSANOW, &raw));
	serial_out = fdopen(serial, "w");
	TAP_CHECK(serial_out);
}

bool output_answers(void)
{
	return serial >= 0;
}

/* Ask whoever is at the other end of the serial line. */
long long output_ask(const char *question)
{
	char answer[64];
	size_t have = 0;

	fprintf(out(), "%s\n", question);
	fflush(out());
	/* Nothing comes but the answer, so reading too much is impossible. */
	do {
		ssize_t got = read(serial, answer + have,
				   sizeof(answer) - 1 - have);

		if (got <= 0)
			tap_end(TAP_FAIL, "no answer on the serial line");
		have += got;
	} while (answer[have - 1] != '\n');
	answer[have] = 0;
	return strtoll(answer, NULL, 10);
}

void line_begin(const char *kind)
{
	fprintf(out(), "{\"kind\": \"%s\"", kind);
	if (place_subject) {
		line_text("case", place_subject->name);
		line_int("pages", place_pages);
	}
	if (place_pair)
		line_int("pair", place_pair);
	if (place_engine)
		line_text("engine", place_engine);
}

void line_text(const char *key, const char *value)
{
	fprintf(out(), ", \"%s\": \"", key);
	for (; *value; value++)
		if (*value == '"' || *value == '\\')
			fprintf(out(), "\\%c", *value);
		else if ((unsigned char)*value >= ' ')
			fputc(*value, out());
	fputc('"', out());
}

void line_int(const char *key, long long value)
{
	fprintf(out(), ", \"%s\": %lld", key, value);
}

void line_ints(const char *key, const long long *values, unsigned int count)
{
	unsigned int i;

	fprintf(out(), ", \"%s\": [", key);
	for (i = 0; i < count; i++)
		fprintf(out(), "%s%lld", i ? ", " : "", values[i]);
	fputc(']', out());
}

void line_end(void)
{
	fputs("}\n", out());
	fflush(out());
}
