// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a worker does to its memory. Every operation keeps the model in step
 * with what the kernel has said it did; what cannot be known, such as how far a
 * refused call came, is made certain by another call.
 */
#include <linux/io_uring.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "torture.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

const struct kind work_kinds[W_KINDS] = {
	[W_VERIFY] = { "verify", 160, false },
	[W_READ_VM] = { "process_vm_readv", 15, false },
	[W_READ_MEM] = { "read-proc-mem", 15, false },
	[W_WRITE] = { "write", 200, false },
	[W_WRITE_PART] = { "write-part", 60, false },
	[W_WRITE_SAME] = { "write-same", 30, false },
	[W_WRITE_VM] = { "process_vm_writev", 20, false },
	[W_WRITE_MEM] = { "write-proc-mem", 20, false },
	[W_DONTNEED] = { "dontneed", 30, false },
	[W_FREE] = { "free", 20, false },
	[W_PAGEOUT] = { "pageout", 20, false },
	[W_UNMAP] = { "munmap", 10, false },
	[W_MAP] = { "mmap", 25, false },
	[W_OVERMAP] = { "mmap-over", 10, false },
	[W_MOVE] = { "mremap-move", 12, false },
	[W_MOVE_KEEP] = { "mremap-dontunmap", 8, false },
	[W_GROW] = { "mremap-grow", 8, false },
	[W_SHRINK] = { "mremap-shrink", 6, false },
	[W_PROTECT] = { "mprotect", 12, false },
	[W_UNPROTECT] = { "mprotect-back", 12, false },
	[W_LOCK] = { "mlock", 8, false },
	[W_UNLOCK] = { "munlock", 8, false },
	[W_POPULATE] = { "populate", 10, false },
	[W_KSM] = { "mergeable", 8, true },
	[W_FORK_VERIFY] = { "fork-verify", 4, false },
	[W_FORK_WRITE] = { "fork-write", 4, false },
	[W_FORK_KILL] = { "fork-kill", 4, false },
	[W_FORK_LIVE] = { "fork-live", 6, false },
	[W_EXEC] = { "exec", 2, false },
	[W_PIN] = { "pin", 10, true },
	[W_PIN_WRITE] = { "pin-write", 15, true },
	[W_UNPIN] = { "unpin", 5, true },
	[W_SPLICE] = { "vmsplice", 10, false },
	[W_GUEST_READ] = { "guest-read", 30, true },
	[W_GUEST_WRITE] = { "guest-write", 40, true },
};

enum { REFUSED = -1, NOTHING, DONE };

static int outcome(bool done)
{
	return done ? DONE : NOTHING;
}

/* ---- runs of pages that have something in common ---- */

typedef bool (*is)(const struct page_model *p);

static bool mapped(const struct page_model *p)
{
	return p->state != HOLE;
}

static bool hole(const struct page_model *p)
{
	return p->state == HOLE;
}

static bool readable(const struct page_model *p)
{
	return mapped(p) && p->prot & PROT_READ;
}

static bool writable(const struct page_model *p)
{
	return mapped(p) && p->prot & PROT_WRITE;
}

static bool unlocked(const struct page_model *p)
{
	return mapped(p) && !p->locked;
}

static bool locked(const struct page_model *p)
{
	return mapped(p) && p->locked;
}

/* Cut the next run of such pages off @rest; false when there is none. */
static bool cut(const struct area *a, struct span *rest, is what, struct span *run)
{
	while (rest->count && !what(&a->page[rest->first])) {
		rest->first++;
		rest->count--;
	}
	run->first = rest->first;
	run->count = 0;
	while (rest->count && what(&a->page[rest->first])) {
		run->count++;
		rest->first++;
		rest->count--;
	}
	return run->count;
}

static bool all(const struct area *a, struct span run, is what)
{
	unsigned long i;

	for (i = 0; i < run.count; i++)
		if (!what(&a->page[run.first + i]))
			return false;
	return true;
}

static const struct span whole = { 0, AREA_PAGES };

__attribute__((noreturn))
static void impossible(const struct area *a, const char *call)
{
	die("worker %u, operation %lu (%s): %s: %s", a->actor, a->n,
	    work_kinds[a->kind].name, call, strerror(errno));
}

/* ---- the map ---- */

static void map_run(struct area *a, struct span run)
{
	unsigned long i;
	void *got = mmap(at(a, run.first), run.count * PAGE,
			 PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (got == MAP_FAILED)
		impossible(a, "mmap");
	for (i = run.first; i < run.first + run.count; i++) {
		gone(a, i);
		now(a, i, DATA, 0);
		a->page[i].prot = PROT_READ | PROT_WRITE;
		a->page[i].locked = false;
	}
}

static void unmapped(struct area *a, struct span run)
{
	unsigned long i;

	for (i = run.first; i < run.first + run.count; i++) {
		gone(a, i);
		now(a, i, HOLE, 0);
		a->page[i].locked = false;
	}
}

static int do_unmap(struct area *a, struct rng *rng)
{
	struct span run = run_pick(rng, 8);

	if (munmap(at(a, run.first), run.count * PAGE))
		impossible(a, "munmap");
	unmapped(a, run);
	return DONE;
}

static int do_map(struct area *a, struct rng *rng)
{
	struct span rest = run_pick(rng, AREA_PAGES), run;
	bool done = false;

	while (cut(a, &rest, hole, &run)) {
		map_run(a, run);
		done = true;
	}
	return outcome(done);
}

static int do_overmap(struct area *a, struct rng *rng)
{
	struct span run = run_pick(rng, 16);

	/* Also ends what moves and forks have left of the area's order. */
	map_run(a, rng_below(rng, 8) ? run : whole);
	return DONE;
}

static int do_move(struct area *a, struct rng *rng)
{
	struct span from = run_pick(rng, 8), to = run_pick(rng, 1);
	bool keep = a->kind == W_MOVE_KEEP;
	unsigned long i;
	void *got;

	to.count = from.count;
	if (to.first + to.count > AREA_PAGES || !all(a, from, mapped) ||
	    (to.first < from.first + from.count &&
	     from.first < to.first + to.count))
		return NOTHING;
	got = mremap(at(a, from.first), from.count * PAGE, from.count * PAGE,
		     MREMAP_MAYMOVE | MREMAP_FIXED |
		     (keep ? MREMAP_DONTUNMAP : 0), at(a, to.first));
	if (got == MAP_FAILED) {
		/* Several mappings. The target may have been unmapped. */
		if (errno != EFAULT)
			impossible(a, "mremap");
		map_run(a, to);
		return REFUSED;
	}
	for (i = 0; i < from.count; i++) {
		struct page_model *p = &a->page[from.first + i];
		struct page_model *q = &a->page[to.first + i];

		gone(a, from.first + i);
		gone(a, to.first + i);
		now(a, to.first + i, p->state, p->id);
		q->prot = p->prot;
		q->locked = p->locked;
		now(a, from.first + i, keep ? DATA : HOLE, 0);
		if (!keep)
			p->locked = false;
	}
	return DONE;
}

static int do_resize(struct area *a, struct rng *rng)
{
	struct span run = run_pick(rng, 12), head = run, tail = run;
	bool grow = a->kind == W_GROW;
	unsigned long i;
	void *got;

	if (run.count < 2)
		return NOTHING;
	head.count = 1 + rng_below(rng, run.count - 1);
	tail.first += head.count;
	tail.count -= head.count;
	if (!all(a, head, mapped))
		return NOTHING;
	if (grow) {
		if (munmap(at(a, tail.first), tail.count * PAGE))
			impossible(a, "munmap");
		unmapped(a, tail);
		got = mremap(at(a, head.first), head.count * PAGE,
			     run.count * PAGE, 0);
		if (got == MAP_FAILED)
			return REFUSED;		/* several mappings */
		for (i = tail.first; i < tail.first + tail.count; i++) {
			now(a, i, DATA, 0);
			a->page[i].prot = a->page[head.first].prot;
			a->page[i].locked = a->page[head.first].locked;
		}
		return DONE;
	}
	got = mremap(at(a, run.first), run.count * PAGE, head.count * PAGE, 0);
	if (got == MAP_FAILED)
		impossible(a, "mremap");
	unmapped(a, tail);
	return DONE;
}

static void protect(struct area *a, struct span run, int prot)
{
	unsigned long i;

	if (mprotect(at(a, run.first), run.count * PAGE, prot))
		impossible(a, "mprotect");
	for (i = run.first; i < run.first + run.count; i++)
		a->page[i].prot = prot;
}

static int do_protect(struct area *a, struct rng *rng)
{
	bool back = a->kind == W_UNPROTECT, done = false;
	struct span rest = run_pick(rng, 16), run;
	int prot = rng_below(rng, 2) ? PROT_READ : PROT_NONE;

	if (back)
		rest = whole;
	while (cut(a, &rest, mapped, &run)) {
		protect(a, run, back ? PROT_READ | PROT_WRITE : prot);
		done = true;
	}
	return outcome(done);
}

static int do_lock(struct area *a, struct rng *rng)
{
	struct span rest = run_pick(rng, 8), run;
	bool done = false;
	unsigned long i;

	while (cut(a, &rest, mapped, &run)) {
		/* Locked even if it could not be brought in, see PROT_NONE. */
		if (!mlock(at(a, run.first), run.count * PAGE))
			done = true;
		for (i = run.first; i < run.first + run.count; i++)
			a->page[i].locked = true;
	}
	return outcome(done);
}

static int do_unlock(struct area *a)
{
	struct span rest = whole, run;
	bool done = false;
	unsigned long i;

	while (cut(a, &rest, locked, &run)) {
		if (munlock(at(a, run.first), run.count * PAGE))
			impossible(a, "munlock");
		for (i = run.first; i < run.first + run.count; i++)
			a->page[i].locked = false;
		done = true;
	}
	return outcome(done);
}

/* ---- advice ---- */

static void discarded(struct area *a, unsigned long page, int advice)
{
	gone(a, page);
	if (advice == MADV_FREE)
		now(a, page, EITHER, a->page[page].id);
	else
		now(a, page, DATA, 0);
}

static int do_discard(struct area *a, struct rng *rng)
{
	int advice = a->kind == W_FREE ? MADV_FREE : MADV_DONTNEED;
	struct span all_of = run_pick(rng, 16), rest = all_of, run;
	bool done = false;
	unsigned long i;

	while (cut(a, &rest, unlocked, &run)) {
		if (madvise(at(a, run.first), run.count * PAGE, advice))
			impossible(a, "madvise");
		for (i = run.first; i < run.first + run.count; i++)
			discarded(a, i, advice);
		done = true;
	}
	/* Locked memory is not discarded, unless it is said explicitly. */
	rest = all_of;
	while (cut(a, &rest, locked, &run)) {
		for (i = run.first; i < run.first + run.count; i++) {
			if (!madvise(at(a, i), PAGE, advice))
				discarded(a, i, advice);
			else if (errno != EINVAL)
				impossible(a, "madvise of locked memory");
			if (madvise(at(a, i), PAGE, MADV_DONTNEED_LOCKED))
				continue;
			discarded(a, i, MADV_DONTNEED);
		}
	}
	return outcome(done);
}

static int do_advise(struct area *a, struct rng *rng)
{
	struct span rest = run_pick(rng, 32), run;
	bool odd = rng_below(rng, 2), done = false;
	is what = mapped;
	int advice;

	switch (a->kind) {
	case W_PAGEOUT:
		advice = MADV_PAGEOUT;
		what = unlocked;
		break;
	case W_POPULATE:
		advice = odd ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;
		what = writable;
		break;
	default:
		if (!board->ksm)
			return NOTHING;
		advice = odd ? MADV_MERGEABLE : MADV_UNMERGEABLE;
		break;
	}
	while (cut(a, &rest, what, &run)) {
		if (madvise(at(a, run.first), run.count * PAGE, advice))
			impossible(a, "madvise");
		done = true;
	}
	return outcome(done);
}

/* ---- writing and reading ---- */

static void write_page(struct area *a, unsigned long page, uint32_t id)
{
	unsigned char want[PAGE] __attribute__((aligned(8)));
	struct iovec from = { want, PAGE }, to = { at(a, page), PAGE };

	content_make(want, id);
	switch (a->kind) {
	case W_WRITE_VM:
		if (process_vm_writev(getpid(), &from, 1, &to, 1, 0) !=
		    (ssize_t)PAGE)
			impossible(a, "process_vm_writev");
		break;
	case W_WRITE_MEM:
		/* Whatever the protection of the page says. */
		if (pwrite(a->mem_file, want, PAGE, (uintptr_t)at(a, page)) !=
		    (ssize_t)PAGE)
			impossible(a, "write to /proc/self/mem");
		break;
	default:
		memcpy(at(a, page), want, PAGE);
		break;
	}
	now(a, page, DATA, id);
}

static int do_write(struct area *a, struct rng *rng)
{
	struct span rest = run_pick(rng, a->kind == W_WRITE ? 16 : 4), run;
	bool same = rng_below(rng, 2), done = false;
	uint32_t id = content_pick(rng);
	unsigned long i;

	while (cut(a, &rest, a->kind == W_WRITE_MEM ? mapped : writable, &run)) {
		for (i = run.first; i < run.first + run.count; i++)
			write_page(a, i, same ? id : content_pick(rng));
		done = true;
	}
	return outcome(done);
}

static int do_write_part(struct area *a, struct rng *rng)
{
	unsigned char want[PAGE] __attribute__((aligned(8)));
	unsigned long i = rng_below(rng, AREA_PAGES);
	struct page_model *p = &a->page[i];
	uint32_t id = content_patch(rng, p->id), ids[2] = { p->id, id };
	unsigned int k, offset, length;

	/* What was given up has to be written as a whole. */
	if (!writable(p) || p->state == EITHER)
		return NOTHING;
	content_make(want, id);
	for (k = 0; k < 2; k++) {
		content_range(ids[k], &offset, &length);
		memcpy(at(a, i) + offset, want + offset, length);
	}
	now(a, i, DATA, id);
	return DONE;
}

static int do_write_same(struct area *a, struct rng *rng)
{
	struct span rest = run_pick(rng, 8), run;
	bool done = false;
	unsigned long i;

	while (cut(a, &rest, writable, &run)) {
		for (i = run.first; i < run.first + run.count; i++)
			write_same(at(a, i) + i % PAGE);
		done = true;
	}
	return outcome(done);
}

static int do_read(struct area *a, struct rng *rng)
{
	unsigned char got[PAGE] __attribute__((aligned(8)));
	struct span rest = run_pick(rng, 16), run;
	struct iovec to = { got, PAGE };
	bool done = false;
	unsigned long i;

	while (cut(a, &rest, a->kind == W_READ_VM ? readable : mapped, &run)) {
		for (i = run.first; i < run.first + run.count; i++) {
			struct iovec from = { at(a, i), PAGE };

			done = true;
			if (a->kind == W_VERIFY || a->page[i].state == EITHER) {
				check_page(a, i);
				continue;
			}
			if (a->kind == W_READ_VM) {
				if (process_vm_readv(getpid(), &to, 1, &from, 1,
						     0) != (ssize_t)PAGE)
					impossible(a, "process_vm_readv");
			} else if (pread(a->mem_file, got, PAGE,
					 (uintptr_t)at(a, i)) !=
				   (ssize_t)PAGE) {
				impossible(a, "read from /proc/self/mem");
			}
			check_bytes(a, i, got, work_kinds[a->kind].name);
		}
	}
	return outcome(done);
}

/* By a virtual machine, whose memory this is. */
static int do_guest(struct area *a, struct rng *rng)
{
	unsigned char content[PAGE] __attribute__((aligned(8)));
	bool writes = a->kind == W_GUEST_WRITE, refused = false, done = false;
	struct span rest = run_pick(rng, 4), run;
	unsigned long i;

	/* It is the parent's: a child has other memory behind these addresses. */
	if (!a->guest || a->is_child)
		return NOTHING;
	while (cut(a, &rest, writes ? writable : readable, &run)) {
		for (i = run.first; i < run.first + run.count; i++) {
			uint32_t id = content_pick(rng);

			/* What was given up has to be written as a whole. */
			if (!writes && a->page[i].state == EITHER)
				continue;
			done = true;
			if (writes) {
				content_make(content, id);
				refused |= guest_write(a->guest, i, content);
			} else if (guest_read(a->guest, i, content)) {
				refused = true;
			} else {
				check_bytes(a, i, content, "guest");
			}
			/* How far the guest came is not known. */
			if (writes && refused)
				memcpy(at(a, i), content, PAGE);
			if (writes)
				now(a, i, DATA, id);
		}
	}
	return refused ? REFUSED : outcome(done);
}

/* ---- children ---- */

static void child_begin(struct area *a)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	atomic_fetch_add(&board->children, 1);
	close(a->mem_file);
	a->mem_file = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (a->mem_file < 0)
		impossible(a, "/proc/self/mem of a child");
	a->is_child = true;
	/* The parent's, whose pages these are not. */
	a->pinned = -1;
	a->pin_valid = false;
}

/* Write some of what is writable, check some, in a child. */
static void child_scribble(struct area *a, struct rng *rng)
{
	struct span rest = run_pick(rng, 32), run;
	unsigned long i;

	while (cut(a, &rest, writable, &run)) {
		for (i = run.first; i < run.first + run.count; i++) {
			check_page(a, i);
			write_page(a, i, content_pick(rng));
		}
	}
	rest = run_pick(rng, 64);
	for (i = rest.first; i < rest.first + rest.count; i++)
		check_page(a, i);
}

/* ENOMEM is what fork() says for lack of anything. */
static pid_t new_child(struct area *a)
{
	pid_t pid = fork();

	if (!pid)
		child_begin(a);
	else if (pid < 0 && errno != ENOMEM && errno != EAGAIN)
		impossible(a, "fork");
	return pid;
}

static void child_wait(struct area *a, pid_t pid, int want)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		impossible(a, "waitpid");
	if (status != want)
		die("worker %u, operation %lu (%s): a child ended with status %#x instead of %#x",
		    a->actor, a->n, work_kinds[a->kind].name, status, want);
}

static int do_fork(struct area *a, struct rng *rng)
{
	struct span run = run_pick(rng, 64);
	unsigned int rounds = 1 + rng_below(rng, 3);
	pid_t pid = new_child(a);
	unsigned long i;

	if (pid < 0)
		return REFUSED;
	if (pid) {
		child_wait(a, pid, 0);
		return DONE;
	}
	if (a->kind == W_EXEC) {
		execl("/proc/self/exe", "torture", "--nothing", NULL);
		impossible(a, "exec");
	}
	for (i = run.first; i < run.first + run.count; i++)
		check_page(a, i);
	while (a->kind == W_FORK_WRITE && rounds--)
		child_scribble(a, rng);
	_exit(0);
}

static void child_end(struct area *a, struct child *child)
{
	char c = 0;

	if (child->killed) {
		kill(child->pid, SIGKILL);
		child_wait(a, child->pid, SIGKILL);
	} else {
		if (write(child->go, &c, 1) != 1)
			impossible(a, "write to a child");
		child_wait(a, child->pid, 0);
		close(child->go);
	}
	child->pid = 0;
}

/* A child that stays for a while: it looks on, or writes until it is killed. */
static int do_child(struct area *a, struct rng *rng)
{
	struct child *child = &a->child[rng_below(rng, CHILDREN)];
	unsigned long life = 1 + rng_below(rng, 120);
	bool killed = a->kind == W_FORK_KILL;
	unsigned int rounds = 1 + rng_below(rng, 20);
	int go[2] = { -1, -1 };
	pid_t pid;
	char c;

	if (child->pid)
		child_end(a, child);
	if (!killed && pipe2(go, O_CLOEXEC))
		impossible(a, "pipe");
	pid = new_child(a);
	if (!pid) {
		while (killed && rounds--)
			child_scribble(a, rng);
		while (killed)
			pause();
		if (read(go[0], &c, 1) != 1)
			_exit(2);
		check_area(a);
		child_scribble(a, rng);
		_exit(0);
	}
	if (!killed) {
		close(go[0]);
		if (pid < 0)
			close(go[1]);
	}
	if (pid < 0)
		return REFUSED;
	*child = (struct child){
		.pid = pid, .go = go[1], .until = a->n + life, .killed = killed,
	};
	return DONE;
}

static void children_end(struct area *a, unsigned long n)
{
	unsigned int i;

	for (i = 0; i < CHILDREN; i++)
		if (a->child[i].pid && a->child[i].until <= n)
			child_end(a, &a->child[i]);
}

/* ---- pins: a buffer registered with io_uring, and a page in a pipe ---- */

struct ring {
	int fd;
	unsigned char *sq, *cq;
	struct io_uring_params p;
	struct io_uring_sqe *sqes;
};

static struct ring *ring_new(void)
{
	struct ring *r = calloc(1, sizeof(*r));
	size_t sq, cq;

	if (!r)
		return NULL;
	r->fd = syscall(SYS_io_uring_setup, 2, &r->p);
	if (r->fd < 0) {
		free(r);
		return NULL;
	}
	fcntl(r->fd, F_SETFD, FD_CLOEXEC);
	sq = r->p.sq_off.array + r->p.sq_entries * sizeof(uint32_t);
	cq = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	r->sq = mmap(NULL, sq, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		     IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, cq, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		     IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, r->p.sq_entries * sizeof(*r->sqes),
		       PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		       IORING_OFF_SQES);
	if (r->sq == MAP_FAILED || r->cq == MAP_FAILED ||
	    r->sqes == MAP_FAILED)
		die("io_uring cannot be mapped: %s", strerror(errno));
	return r;
}

/* Read a page from @file into a registered buffer; returns what it says. */
static int ring_read(struct ring *r, int file, void *page)
{
	atomic_uint *tail = (void *)(r->sq + r->p.sq_off.tail);
	atomic_uint *head = (void *)(r->cq + r->p.cq_off.head);
	uint32_t *array = (void *)(r->sq + r->p.sq_off.array);
	struct io_uring_cqe *cqes = (void *)(r->cq + r->p.cq_off.cqes);
	uint32_t slot = *tail & (r->p.sq_entries - 1);
	int got;

	r->sqes[slot] = (struct io_uring_sqe){
		.opcode = IORING_OP_READ_FIXED, .fd = file, .off = -1ULL,
		.addr = (uintptr_t)page, .len = PAGE, .buf_index = 0,
	};
	array[slot] = slot;
	*tail += 1;
	if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) != 1)
		return -errno;
	got = cqes[*head & (r->p.cq_entries - 1)].res;
	*head += 1;
	return got;
}

static int do_unpin(struct area *a)
{
	if (a->pinned < 0)
		return NOTHING;
	if (syscall(SYS_io_uring_register, a->ring->fd,
		    IORING_UNREGISTER_BUFFERS, NULL, 0))
		impossible(a, "unregister a buffer");
	a->pinned = -1;
	a->pin_valid = false;
	return DONE;
}

static int do_pin(struct area *a, struct rng *rng)
{
	unsigned long i = rng_below(rng, AREA_PAGES);
	struct iovec iov = { at(a, i), PAGE };

	if (!a->ring || !writable(&a->page[i]))
		return NOTHING;
	do_unpin(a);
	if (syscall(SYS_io_uring_register, a->ring->fd,
		    IORING_REGISTER_BUFFERS, &iov, 1))
		impossible(a, "register a buffer");
	a->pinned = i;
	a->pin_valid = true;
	check_page(a, i);
	/* The kernel may write what the process may not. */
	if (!rng_below(rng, 3))
		protect(a, (struct span){ i, 1 }, PROT_READ);
	return DONE;
}

/* The kernel writes to the pinned page, not to the address. */
static int do_pin_write(struct area *a, struct rng *rng)
{
	unsigned char want[PAGE] __attribute__((aligned(8)));
	uint32_t id = content_pick(rng);
	int got;

	/* What was given up stays so until the processor writes it. */
	if (a->pinned < 0 || !a->pin_valid ||
	    a->page[a->pinned].state != DATA)
		return NOTHING;
	content_make(want, id);
	if (write(a->pipe[1], want, PAGE) != (ssize_t)PAGE)
		impossible(a, "write to a pipe");
	got = ring_read(a->ring, a->pipe[0], at(a, a->pinned));
	if (got != (int)PAGE) {
		errno = got < 0 ? -got : EIO;
		impossible(a, "read into a registered buffer");
	}
	now(a, a->pinned, DATA, id);
	check_page(a, a->pinned);
	return DONE;
}

static int do_splice(struct area *a, struct rng *rng)
{
	unsigned char got[PAGE] __attribute__((aligned(8)));
	unsigned long i = rng_below(rng, AREA_PAGES);
	struct iovec iov = { at(a, i), PAGE };

	if (a->spliced >= 0) {
		struct page_model *p = &a->page[a->spliced];

		if (read(a->splice[0], got, PAGE) != (ssize_t)PAGE)
			impossible(a, "read from a pipe");
		if (p->version == a->spliced_version)
			check_bytes(a, a->spliced, got, "vmsplice");
		a->spliced = -1;
		return DONE;
	}
	if (!readable(&a->page[i]) || a->page[i].state != DATA)
		return NOTHING;
	if (vmsplice(a->splice[1], &iov, 1, 0) != (ssize_t)PAGE)
		impossible(a, "vmsplice");
	a->spliced = i;
	a->spliced_version = a->page[i].version;
	return DONE;
}

/* ---- the worker ---- */

static int work(struct area *a, struct rng *rng)
{
	switch (a->kind) {
	case W_VERIFY:
	case W_READ_VM:
	case W_READ_MEM:
		return do_read(a, rng);
	case W_WRITE:
	case W_WRITE_VM:
	case W_WRITE_MEM:
		return do_write(a, rng);
	case W_WRITE_PART:
		return do_write_part(a, rng);
	case W_WRITE_SAME:
		return do_write_same(a, rng);
	case W_DONTNEED:
	case W_FREE:
		return do_discard(a, rng);
	case W_PAGEOUT:
	case W_POPULATE:
	case W_KSM:
		return do_advise(a, rng);
	case W_UNMAP:
		return do_unmap(a, rng);
	case W_MAP:
		return do_map(a, rng);
	case W_OVERMAP:
		return do_overmap(a, rng);
	case W_MOVE:
	case W_MOVE_KEEP:
		return do_move(a, rng);
	case W_GROW:
	case W_SHRINK:
		return do_resize(a, rng);
	case W_PROTECT:
	case W_UNPROTECT:
		return do_protect(a, rng);
	case W_LOCK:
		return do_lock(a, rng);
	case W_UNLOCK:
		return do_unlock(a);
	case W_FORK_VERIFY:
	case W_FORK_WRITE:
	case W_EXEC:
		return do_fork(a, rng);
	case W_FORK_KILL:
	case W_FORK_LIVE:
		return do_child(a, rng);
	case W_PIN:
		return do_pin(a, rng);
	case W_PIN_WRITE:
		return do_pin_write(a, rng);
	case W_UNPIN:
		return do_unpin(a);
	case W_GUEST_READ:
	case W_GUEST_WRITE:
		return do_guest(a, rng);
	default:
		return do_splice(a, rng);
	}
}

/* Do operation @n. */
bool work_one(struct area *a, unsigned long n)
{
	struct rng rng = rng_for(a->actor, n);
	struct tally *tally;
	int result;

	children_end(a, n);
	a->n = n;
	a->kind = pick(&rng, work_kinds, W_KINDS);
	atomic_store(&board->actors[a->actor].kind, a->kind);
	tally = &board->work[a->kind];
	atomic_fetch_add(&tally->tried, 1);
	result = board->opt.no_work[a->kind] ? NOTHING : work(a, &rng);
	if (result == DONE)
		atomic_fetch_add(&tally->done, 1);
	else if (result == REFUSED)
		atomic_fetch_add(&tally->refused, 1);
	return result == DONE;
}

/* End children and pins, and check everything. */
void work_settle(struct area *a)
{
	struct rng rng = rng_for(a->actor, 0);

	children_end(a, ~0UL);
	do_unpin(a);
	if (a->spliced >= 0)
		do_splice(a, &rng);
	check_area(a);
}

/*
 * Write what is there to every page: then none of them is shared, and what is
 * merged from now on is known to be merged by that.
 */
void work_rewrite(struct area *a)
{
	unsigned long i;

	for (i = 0; i < AREA_PAGES; i++) {
		if (a->page[i].state == HOLE)
			continue;
		if (mprotect(at(a, i), PAGE, PROT_READ | PROT_WRITE))
			die("page %lu cannot be made writable: %s", i,
			    strerror(errno));
		a->page[i].prot = PROT_READ | PROT_WRITE;
		write_same(at(a, i));
	}
}

/* Reserve the addresses of an area, across the border of a page table. */
void area_init(struct area *a, unsigned int actor)
{
	const unsigned long table = 2UL << 20;
	unsigned char *raw = mmap(NULL, 3 * table, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				  -1, 0);

	if (raw == MAP_FAILED)
		die("no addresses: %s", strerror(errno));
	*a = (struct area){ .actor = actor, .pinned = -1, .spliced = -1 };
	a->mem = (void *)((((uintptr_t)raw + table - 1) & -table) + table -
			  AREA_PAGES / 2 * PAGE);
	a->mem_file = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (a->mem_file < 0 || pipe2(a->pipe, O_CLOEXEC) ||
	    pipe2(a->splice, O_CLOEXEC))
		die("no files: %s", strerror(errno));
	a->ring = ring_new();
	a->guest = guest_new(a->mem);
	a->kind = W_MAP;
	map_run(a, whole);
	board->actors[actor].memory = (uintptr_t)a->mem;
}
