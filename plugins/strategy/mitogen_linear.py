# SPDX-License-Identifier: GPL-2.0-only
"""Ansible's own order of tasks, run by one Python process per host instead of one per task: docs/adr/0015.

Mitogen asks for the path of its plugins, which has the version of Python in it; here they are imported. It
also binds Ansible to single processors, and what a task starts inherits that: a compilation would have one.
"""

from ansible_mitogen import affinity
from ansible_mitogen.plugins.strategy.mitogen_linear import StrategyModule

affinity.policy = affinity.Policy()

__all__ = ["StrategyModule"]
