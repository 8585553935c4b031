/* SPDX-License-Identifier: GPL-2.0-only */
/* What the clocks need of the output. */
#ifndef MEMMERGE_BENCH_OUTPUT_H
#define MEMMERGE_BENCH_OUTPUT_H

#include <stdbool.h>

bool output_answers(void);
long long output_ask(const char *question);

#endif /* MEMMERGE_BENCH_OUTPUT_H */
