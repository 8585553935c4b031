// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - things by number: chunks and shared pages
 *
 * A number is shorter than a pointer, and what it stands for is two loads away.
 * Numbers that are free are kept in the places that they have, each with the
 * next one. Tables go with the last thing that has a number.
 */
#include <linux/slab.h>

#include "internal.h"

/* Not worth much trouble: what gets no number is left alone for now. */
#define MMG_GFP_TABLE	(GFP_KERNEL_ACCOUNT | __GFP_NORETRY | __GFP_NOWARN)

/**
 * mmg_numbers_init - begin without anything
 * @numbers: to initialise
 * @max: how many there may be, a multiple of MMG_TABLE_THINGS
 */
void mmg_numbers_init(struct mmg_numbers *numbers, unsigned long max)
{
	memset(numbers, 0, sizeof(*numbers));
	numbers->max = max;
	numbers->free = max;
}

/**
 * mmg_array_grow - make a larger array of pointers
 * @old: array, stays
 * @room: in and out, pointers in it
 *
 * Return: an array that begins with those of the old one, or NULL without
 * memory.
 */
void *mmg_array_grow(const void *old, unsigned long *room)
{
	const unsigned long nr = max(*room * 2, 8UL);
	void **larger = kvcalloc(nr, sizeof(*larger),
				 MMG_GFP_TABLE);

	if (!larger)
		return NULL;
	if (*room)
		memcpy(larger, old, *room * sizeof(*larger));
	*room = nr;
	return larger;
}

/* Nothing has a number any more, or not yet. */
static void mmg_numbers_free(struct mmg_numbers *numbers, unsigned long nr)
{
	*mmg_numbers_place(numbers, nr) = xa_mk_value(numbers->free);
	numbers->free = nr;
}

/* One more table. */
static int mmg_numbers_add_table(struct mmg_numbers *numbers)
{
	struct mmg_table **tables = rcu_dereference_raw(numbers->tables);
	unsigned long nr = mmg_numbers_end(numbers);
	struct mmg_table **larger, *table;
	unsigned int i;

	if (nr >= numbers->max)
		return -ENOSPC;
	if (numbers->nr_tables == numbers->room) {
		larger = mmg_array_grow(tables, &numbers->room);
		if (!larger)
			return -ENOMEM;
		rcu_assign_pointer(numbers->tables, larger);
		if (tables)
			kvfree_rcu_mightsleep(tables);
		tables = larger;
	}
	table = kzalloc(sizeof(*table), MMG_GFP_TABLE);
	if (!table)
		return -ENOMEM;
	tables[numbers->nr_tables++] = table;
	for (i = MMG_TABLE_THINGS; i--;)
		mmg_numbers_free(numbers, nr + i);
	return 0;
}

/**
 * mmg_numbers_reserve - make room for some
 * @numbers: to look at
 * @nr: how many
 *
 * Return: 0, or -ENOMEM, or -ENOSPC when too many would be in use.
 */
int mmg_numbers_reserve(struct mmg_numbers *numbers, unsigned int nr)
{
	int err = 0;

	while (!err && mmg_numbers_end(numbers) - numbers->count < nr)
		err = mmg_numbers_add_table(numbers);
	return err;
}

/**
 * mmg_numbers_add - give something a number
 * @numbers: to add it to
 * @thing: to be found by it
 * @nr: out, the number
 *
 * Return: false if there is none; after mmg_numbers_reserve() there is, unless
 * all things have been removed since.
 */
bool mmg_numbers_add(struct mmg_numbers *numbers, void *thing, u32 *nr)
{
	void **place;

	if (numbers->free == numbers->max)
		return false;
	*nr = numbers->free;
	place = mmg_numbers_place(numbers, *nr);
	numbers->free = xa_to_value(*place);
	*place = thing;
	numbers->count++;
	return true;
}

/* Without things nobody looks for one. */
static void mmg_numbers_free_tables(struct mmg_numbers *numbers)
{
	struct mmg_table **tables = rcu_dereference_raw(numbers->tables);
	unsigned long i;

	for (i = 0; i < numbers->nr_tables; i++)
		kfree(tables[i]);
	kvfree(tables);
	RCU_INIT_POINTER(numbers->tables, NULL);
	numbers->nr_tables = 0;
	numbers->room = 0;
	numbers->free = numbers->max;
}

/**
 * mmg_numbers_remove - take a number back
 * @numbers: to remove it from
 * @nr: of something
 */
void mmg_numbers_remove(struct mmg_numbers *numbers, u32 nr)
{
	mmg_numbers_free(numbers, nr);
	if (!--numbers->count)
		mmg_numbers_free_tables(numbers);
}

/**
 * mmg_numbers_next - find the next thing
 * @numbers: to look in
 * @nr: in and out, number from which on to look, and of what was found
 *
 * Context: under the lock of the domain; gives way to others.
 *
 * Return: the thing, or NULL if there is no more.
 */
void *mmg_numbers_next(const struct mmg_numbers *numbers, unsigned long *nr)
{
	cond_resched();
	for (; *nr < mmg_numbers_end(numbers); ++*nr) {
		void *thing = mmg_numbers_get(numbers, *nr);

		if (thing)
			return thing;
		cond_resched();
	}
	return NULL;
}

/**
 * mmg_numbers_destroy - free what was reserved and not used
 * @numbers: without things
 */
void mmg_numbers_destroy(struct mmg_numbers *numbers)
{
	WARN_ON_ONCE(numbers->count);
	mmg_numbers_free_tables(numbers);
}

/**
 * mmg_numbers_metadata - memory that the tables take
 * @numbers: to look at
 *
 * Return: bytes.
 */
unsigned long mmg_numbers_metadata(const struct mmg_numbers *numbers)
{
	return numbers->nr_tables * sizeof(struct mmg_table) +
	       numbers->room * sizeof(void *);
}
