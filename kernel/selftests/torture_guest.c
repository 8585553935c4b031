// SPDX-License-Identifier: GPL-2.0-only
/*
 * A virtual machine whose memory is a worker's area: a guest writes and reads
 * it through page tables of its own, which KVM fills and mm has to tell of every
 * change (MMU notifiers). A change that is not told lets the guest go on with a
 * page that is not the worker's any more.
 *
 * The guest is a processor in real mode that copies bytes and halts.
 */
#include <linux/kvm.h>

#include "torture.h"

/* Guest physical addresses; all of them are in reach of real mode. */
#define GUEST_CODE	0x0000UL
#define GUEST_BUFFER	0x1000UL
#define GUEST_AREA	0x2000UL

/**
 * struct guest - a virtual machine with one processor
 * @vm: the machine
 * @cpu: the processor
 * @run: what it says when it stops
 * @code: page with its program; behind it the page that it copies from and to
 */
struct guest {
	int vm, cpu;
	struct kvm_run *run;
	unsigned char *code;
};

static const unsigned char program[] = {
	0xf3, 0xa4,	/* rep movsb */
	0xf4,		/* hlt */
};

static int slot_set(const struct guest *g, unsigned int slot, uint64_t where,
		    void *memory, uint64_t length)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = where, .memory_size = length,
		.userspace_addr = (uintptr_t)memory,
	};

	return ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static bool guest_make(struct guest *g, int kvm, unsigned char *area)
{
	int length = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	g->vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (g->vm < 0 || length < 0)
		return false;
	g->code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->code == MAP_FAILED)
		return false;
	memcpy(g->code, program, sizeof(program));
	if (slot_set(g, 0, GUEST_CODE, g->code, 2 * PAGE) ||
	    slot_set(g, 1, GUEST_AREA, area, AREA_PAGES * PAGE))
		return false;
	g->cpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
	if (g->cpu < 0)
		return false;
	g->run = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, g->cpu,
		      0);
	return g->run != MAP_FAILED;
}

/* Returns NULL where there is no KVM. */
struct guest *guest_new(unsigned char *area)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct guest *g;

	if (kvm < 0)
		return NULL;
	g = calloc(1, sizeof(*g));
	if (!g || !guest_make(g, kvm, area))
		die("no virtual machine for a worker: %s", strerror(errno));
	close(kvm);
	return g;
}

static void segment_set(struct kvm_segment *segment, uint64_t base)
{
	segment->base = base;
	segment->selector = base >> 4;
}

/*
 * Let the guest copy @length bytes. Returns 0, or -errno with some of them
 * copied: what is there could not be had.
 */
static int guest_copy(const struct guest *g, uint64_t from, uint64_t to,
		      unsigned int length)
{
	struct kvm_regs regs = { .rcx = length, .rflags = 2 };
	struct kvm_sregs sregs;

	if (ioctl(g->cpu, KVM_GET_SREGS, &sregs))
		die("KVM_GET_SREGS: %s", strerror(errno));
	segment_set(&sregs.cs, GUEST_CODE);
	segment_set(&sregs.ds, from);
	segment_set(&sregs.es, to);
	if (ioctl(g->cpu, KVM_SET_SREGS, &sregs) ||
	    ioctl(g->cpu, KVM_SET_REGS, &regs))
		die("KVM_SET_REGS: %s", strerror(errno));
	while (ioctl(g->cpu, KVM_RUN, 0)) {
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
	if (g->run->exit_reason != KVM_EXIT_HLT)
		die("a guest stopped for reason %u", g->run->exit_reason);
	return 0;
}

/* Let the guest fill a page of the area; as guest_copy(). */
int guest_write(const struct guest *g, unsigned long page,
		const unsigned char *content)
{
	memcpy(g->code + GUEST_BUFFER, content, PAGE);
	return guest_copy(g, GUEST_BUFFER, GUEST_AREA + page * PAGE, PAGE);
}

/* Get what a page of the area holds for the guest; as guest_copy(). */
int guest_read(const struct guest *g, unsigned long page,
	       unsigned char *content)
{
	int err = guest_copy(g, GUEST_AREA + page * PAGE, GUEST_BUFFER, PAGE);

	memcpy(content, g->code + GUEST_BUFFER, PAGE);
	return err;
}
