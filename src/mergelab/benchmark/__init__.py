# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark of the engines: plan → run → summary → goals, comparison → table and page, one direction."""
