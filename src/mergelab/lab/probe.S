/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The smallest ordinary guest: a boot sector that goes from real mode through
 * paging into 64-bit mode, asks CPUID whether it could run guests itself, and
 * ends QEMU through isa-debug-exit: value 0x10, or 0x11 with VMX or SVM.
 */
	.code16
	.globl _start
_start:
	cli
	cld
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	/* one 2 MiB page, mapped to itself: tables at 0x1000, 0x2000, 0x3000 */
	movw	$0x1000, %di
	movw	$0x1800, %cx
	rep stosw
	movw	$0x2003, 0x1000
	movw	$0x3003, 0x2000
	movw	$0x0083, 0x3000
	movl	$0x1000, %eax
	movl	%eax, %cr3
	movl	$0x20, %eax		/* CR4.PAE */
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx	/* EFER.LME */
	rdmsr
	orl	$0x100, %eax
	wrmsr
	lgdt	descriptor
	movl	%cr0, %eax
	orl	$0x80000001, %eax	/* CR0.PG and PE */
	movl	%eax, %cr0
	ljmp	$8, $long_mode

	.code64
long_mode:
	movl	$1, %eax
	cpuid
	shrl	$5, %ecx		/* VMX */
	andl	$1, %ecx
	movl	%ecx, %esi
	movl	$0x80000001, %eax
	cpuid
	shrl	$2, %ecx		/* SVM */
	andl	$1, %ecx
	orl	%esi, %ecx
	leal	0x10(%rcx), %eax
	outb	%al, $0xf4
	hlt

	.balign	8
table:
	.quad	0
	.quad	0x00209a0000000000	/* 64-bit code */
descriptor:
	.word	. - table - 1
	.long	table

	.org	510
	.word	0xaa55
