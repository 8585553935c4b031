"""Mergelab: build, deploy and qualify a memory-merging kernel on KVM hosts."""
