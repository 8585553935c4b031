# SPDX-License-Identifier: GPL-2.0-only
"""Torture: everything at once under a kernel that checks itself. plan → run → show, one direction."""
