# SPDX-License-Identifier: GPL-2.0-only
"""Mergelab: build, deploy and qualify a memory-merging kernel on KVM hosts."""
