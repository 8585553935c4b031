# SPDX-License-Identifier: GPL-2.0-only
"""The part of mergelab that runs on a host: standard library only, installed as one file, `mergelab-host`.

Verbs print JSON on standard output; an error is one line on standard error that names the cause and the
fix, with a non-zero exit. Modules are named after what they know: engine, domains, guests, payload, pages,
memory, klog, sample, facts. They import what is slow to import where it is used, as a host may be emulated.
"""

from __future__ import annotations

import os
from pathlib import Path

STATE_DIR = Path(os.environ.get("MERGELAB_STATE_DIR", "/var/lib/mergelab"))
AGENT_SOCKET = Path(os.environ.get("MERGELAB_AGENT_SOCKET", "/run/mergelab/agent.sock"))


class HostError(Exception):
    """What went wrong on the host, and what to do about it: a sentence for a person."""
