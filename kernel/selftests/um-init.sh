#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The init of a User-Mode Linux machine whose root is the host's file system:
# loads the module, runs the KUnit suites and the test programs, removes the
# module, and shows the kernel's leak detector. Everything goes to the console,
# between marks that src/mergelab/uml.py reads. MODULES (a directory with *.ko) and
# PROGRAMS (paths, separated by colons) come from the kernel's command line.
PATH=/usr/sbin:/usr/bin:/sbin:/bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
# The kernel has mounted /dev itself.
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# The first disk, if there is one, is for swap.
if [ -b /dev/ubda ]; then
	mkswap /dev/ubda >/dev/null && swapon /dev/ubda
fi

run() {
	step=$1
	shift
	echo "=== begin $step"
	"$@" 2>&1
	echo "=== end $step $?"
}

load() {
	if [ -f "$MODULES/kunit.ko" ] && ! [ -d /sys/module/kunit ]; then
		insmod "$MODULES/kunit.ko" enable=1 || return 1
	fi
	insmod "$MODULES/memmerge.ko"
}

unload() {
	# A domain that was closed last second may still be on its way out.
	for _ in $(seq 60); do
		rmmod memmerge && return 0
		sleep 1
	done
	return 1
}

leaks() {
	# kmemleak reports an object that two scans in a row find no pointer to.
	[ -w /sys/kernel/debug/kmemleak ] || return 0
	echo scan >/sys/kernel/debug/kmemleak
	sleep 6
	echo scan >/sys/kernel/debug/kmemleak
	cat /sys/kernel/debug/kmemleak
}

run load load
if [ -d /sys/kernel/debug/kunit ]; then
	for suite in memmerge-hash memmerge-index memmerge-policy memmerge-rmap memmerge-hold memmerge-guard memmerge-huge memmerge-budget; do
		run "kunit-$suite" cat "/sys/kernel/debug/kunit/$suite/results"
	done
fi
IFS=:
for program in $PROGRAMS; do
	run "$(basename "$program")" "$program"
done
unset IFS
run leaks leaks
run unload unload
run reload load
run unload-again unload
echo "=== done"
sync
# Ends the machine: there is no power to switch off.
echo o >/proc/sysrq-trigger
while :; do sleep 10; done
