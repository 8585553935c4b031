// SPDX-License-Identifier: GPL-2.0-only
/* memmerge - where the tracepoints of trace.h are made */
#include "internal.h"

#define CREATE_TRACE_POINTS
#include "trace.h"
