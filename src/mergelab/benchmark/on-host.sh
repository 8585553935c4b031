#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Runs the measuring program beside it on a host, until it ends or whoever reads it has gone. The files of both
# engines are then what they were before. Refuses a host on which an engine is at work.
here=$(dirname "$0")
ksm=/sys/kernel/mm/ksm
memmerge=/sys/kernel/mm/memmerge

refuse() {
	echo "$1" >&2
	exit 3
}

# What a file holds; of several words the one in brackets.
chosen() {
	sed 's/.*\[\(.*\)\].*/\1/' "$1"
}

[ "$(id -u)" = 0 ] || refuse "the measuring program has to be run by root"
[ -d $memmerge ] || refuse "the module memmerge is not loaded"
[ -d $ksm ] || refuse "the kernel has no KSM"
[ "$(cat $memmerge/domains)" = 0 ] || refuse "memmerge is in use: it has $(cat $memmerge/domains) domains"
[ "$(cat $ksm/run)" != 1 ] || refuse "KSM is running"
[ "$(cat $ksm/pages_shared)" = 0 ] || refuse "KSM has merged $(cat $ksm/pages_shared) pages"

for name in run pages_to_scan sleep_millisecs use_zero_pages smart_scan advisor_mode scanners \
	cpu_limit_percent max_idle_millisecs; do
	for file in $ksm/$name $memmerge/$name; do
		[ ! -w "$file" ] || echo "$file $(chosen "$file")"
	done
done >"$here/before"

exec 3<&0
"$here/memmerge_bench" "$@" 3<&- &
program=$!
{ cat <&3 >/dev/null; kill $program; } 2>/dev/null &
watcher=$!
wait $program
status=$?
kill $watcher 2>/dev/null
while read -r file value; do
	[ "$(chosen "$file")" = "$value" ] || echo "$value" >"$file"
done <"$here/before"
exit $status
