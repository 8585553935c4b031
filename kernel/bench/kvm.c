// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of this process as that of a KVM guest: a virtual processor
 * touches it and writes to it, so that all of it is mapped there, too, and a
 * first write is what a guest waits for. The guest is a few instructions, in
 * kvm-guest.S, in protected mode without paging.
 */
#include <linux/kvm.h>

#include "bench.h"

/* Where in the guest's memory its code is, what it measured, and the rest. */
#define CODE_AT		0x00100000u
#define TICKS_AT	0x00200000u
#define MEMORY_AT	0x10000000u

enum { SLOT_CODE, SLOT_TICKS, SLOT_MEMORY };

static int kvm_machine, kvm_processor;
static struct kvm_run *kvm_run;
static uint32_t *kvm_ticks;

static int kvm_ask(int file, unsigned long request, const char *what,
		   unsigned long argument)
{
	int got;

	do
		got = ioctl(file, request, argument);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		tap_end(TAP_FAIL, "%s: %s", what, strerror(errno));
	return got;
}

#define KVM_ASK(file, request, argument)				\
	kvm_ask(file, request, #request, (unsigned long)(argument))

static void *kvm_map(int file, size_t length)
{
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, file < 0 ?
			MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, file, 0);

	TAP_CHECK(at != MAP_FAILED);
	return at;
}

static void kvm_slot(unsigned int slot, uint64_t at, void *memory,
		     size_t length)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = at, .memory_size = length,
		.userspace_addr = (uintptr_t)memory,
	};

	KVM_ASK(kvm_machine, KVM_SET_USER_MEMORY_REGION, &region);
}

/**
 * kvm_start - make memory of this process that of a guest
 * @memory: the memory
 * @pages: its size
 */
void kvm_start(unsigned char *memory, unsigned long pages)
{
	size_t ticks = (pages * sizeof(*kvm_ticks) + PAGE - 1) / PAGE * PAGE;
	/* Flat: all of 4 GiB. */
	struct kvm_segment flat = {
		.limit = UINT32_MAX, .selector = 8, .present = 1, .s = 1,
		.db = 1, .g = 1, .type = 3,
	};
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct kvm_sregs registers;
	char *code;

	if (kvm < 0)
		tap_end(TAP_FAIL, "/dev/kvm: %s", strerror(errno));
	kvm_machine = KVM_ASK(kvm, KVM_CREATE_VM, 0);
	/* Wanted by Intel's processors, below 4 GiB and apart from the rest. */
	if (KVM_ASK(kvm, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR))
		KVM_ASK(kvm_machine, KVM_SET_TSS_ADDR, 0xfffbd000);

	code = kvm_map(-1, PAGE);
	memcpy(code, kvm_guest, kvm_guest_end - kvm_guest);
	kvm_slot(SLOT_CODE, CODE_AT, code, PAGE);
	kvm_ticks = kvm_map(-1, ticks);
	kvm_slot(SLOT_TICKS, TICKS_AT, kvm_ticks, ticks);
	kvm_slot(SLOT_MEMORY, MEMORY_AT, memory, pages * PAGE);

	kvm_processor = KVM_ASK(kvm_machine, KVM_CREATE_VCPU, 0);
	kvm_run = kvm_map(kvm_processor,
			  KVM_ASK(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	KVM_ASK(kvm_processor, KVM_GET_SREGS, &registers);
	registers.cr0 |= 1;	/* protected mode */
	registers.ds = flat;
	registers.es = flat;
	registers.fs = flat;
	registers.gs = flat;
	registers.ss = flat;
	flat.type = 11;
	registers.cs = flat;
	KVM_ASK(kvm_processor, KVM_SET_SREGS, &registers);
	close(kvm);
}

static void kvm_pages(const char *code, unsigned long stride,
		      unsigned long count, uint32_t xor)
{
	struct kvm_regs registers = {
		.rip = CODE_AT + (code - kvm_guest), .rflags = 2,
		.rsi = MEMORY_AT, .rdi = TICKS_AT, .rcx = count,
		.rbx = stride * PAGE, .rdx = xor,
	};

	KVM_ASK(kvm_processor, KVM_SET_REGS, &registers);
	KVM_ASK(kvm_processor, KVM_RUN, 0);
	if (kvm_run->exit_reason != KVM_EXIT_HLT)
		tap_end(TAP_FAIL, "the KVM guest stopped with exit reason %u",
			kvm_run->exit_reason);
}

/**
 * kvm_touch - have the guest write to pages what they hold
 * @pages: how many, from the first on
 */
void kvm_touch(unsigned long pages)
{
	kvm_pages(kvm_guest, 1, pages, 0);
}

/**
 * kvm_writes - have the guest write to every @stride-th page once, timed; then
 * as it was before
 * @stride: pages from one to the next
 * @count: how many
 * @ticks: out, of each
 */
void kvm_writes(unsigned long stride, unsigned long count, uint32_t *ticks)
{
	kvm_pages(kvm_guest_timed, stride, count, 0);
	memcpy(ticks, kvm_ticks, count * sizeof(*ticks));
	kvm_pages(kvm_guest, stride, count, UINT32_MAX);
}
