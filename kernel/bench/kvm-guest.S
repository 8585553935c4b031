/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the KVM guest of kvm.c runs, in protected mode, wherever it is put.
 *
 * At esi: the first of ecx pages, ebx bytes from one to the next. There is no
 * stack.
 */
	.section .rodata
	.code32
	.globl kvm_guest, kvm_guest_timed, kvm_guest_end

/* Xor edx into each. */
kvm_guest:
1:	lock xorl %edx, (%esi)
	addl	%ebx, %esi
	decl	%ecx
	jnz	1b
	hlt

/*
 * Write to each, and store at edi how many ticks that took; the largest number
 * for what takes longer than one holds.
 */
kvm_guest_timed:
1:	lfence
	rdtsc
	movl	%eax, %ebp
	movl	%edx, %esp
	lock xorl $-1, (%esi)
	lfence
	rdtsc
	subl	%ebp, %eax
	sbbl	%esp, %edx
	jz	2f
	movl	$-1, %eax
2:	movl	%eax, (%edi)
	addl	$4, %edi
	addl	%ebx, %esi
	decl	%ecx
	jnz	1b
	hlt
kvm_guest_end:

	.section .note.GNU-stack, "", @progbits
