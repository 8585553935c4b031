# SPDX-License-Identifier: GPL-2.0-only
"""Ansible's own order of tasks, run by one Python process per host instead of one per task: docs/adr/0015.

Mitogen asks for the path of its plugins, which has the version of Python in it; here they are imported.
"""

from ansible_mitogen.plugins.strategy.mitogen_linear import StrategyModule

__all__ = ["StrategyModule"]
