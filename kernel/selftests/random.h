/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Random numbers that depend on a seed, an actor and a step alone: any step of
 * a run can be had again without those before it.
 */
#ifndef MEMMERGE_RANDOM_H
#define MEMMERGE_RANDOM_H

#include <stdint.h>

struct rng {
	uint64_t state;
};

static inline uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static inline uint64_t rng_next(struct rng *rng)
{
	rng->state += 0x9e3779b97f4a7c15ULL;
	return mix(rng->state);
}

static inline unsigned long rng_below(struct rng *rng, unsigned long bound)
{
	return rng_next(rng) % bound;
}

static inline struct rng rng_at(uint64_t seed, unsigned int actor,
				unsigned long step)
{
	return (struct rng){ mix(seed ^ mix(((uint64_t)actor << 48) ^ step)) };
}

#endif /* MEMMERGE_RANDOM_H */
