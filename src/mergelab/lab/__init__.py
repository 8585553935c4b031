# SPDX-License-Identifier: GPL-2.0-only
"""The embedded lab's controller side: what it needs, and what it can accelerate."""
