/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TAP output: one test, one function. A check that fails ends its test, names
 * the line and both values, and the program goes on with the next test.
 */
#ifndef MEMMERGE_TAP_H
#define MEMMERGE_TAP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct tap_test {
	const char *name;
	void (*run)(void);
};

/* One of each, also in a program of several files. */
__attribute__((weak)) jmp_buf tap_env;
__attribute__((weak)) char tap_reason[256];

enum { TAP_PASS, TAP_FAIL, TAP_SKIP };

__attribute__((noreturn, format(printf, 2, 3), unused))
static void tap_end(int how, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(tap_reason, sizeof(tap_reason), format, args);
	va_end(args);
	longjmp(tap_env, how);
}

#define TAP_CHECK(cond) do {						\
	if (!(cond))							\
		tap_end(TAP_FAIL, "line %d: %s", __LINE__, #cond);	\
} while (0)

#define TAP_EQ(want, got) do {						\
	long long tap_want = (long long)(want);				\
	long long tap_got = (long long)(got);				\
									\
	if (tap_want != tap_got)					\
		tap_end(TAP_FAIL, "line %d: %s: want %lld, got %lld",	\
			__LINE__, #got, tap_want, tap_got);		\
} while (0)

#define TAP_SKIP_TEST(why) tap_end(TAP_SKIP, "%s", why)

/* Apart, so that nothing lives across setjmp(). */
static inline int tap_run(const struct tap_test *test)
{
	int how = setjmp(tap_env);

	if (!how)
		test->run();
	return how;
}

static inline int tap_main(const struct tap_test *tests, unsigned int count)
{
	unsigned int i;
	int failed = 0;

	printf("TAP version 14\n1..%u\n", count);
	for (i = 0; i < count; i++) {
		int how = tap_run(&tests[i]);

		printf("%sok %u %s%s%s\n", how == TAP_FAIL ? "not " : "", i + 1,
		       tests[i].name, how == TAP_SKIP ? " # SKIP " :
		       how == TAP_FAIL ? " # " : "",
		       how == TAP_PASS ? "" : tap_reason);
		fflush(stdout);
		failed += how == TAP_FAIL;
	}
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif /* MEMMERGE_TAP_H */
