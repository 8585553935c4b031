# SPDX-License-Identifier: GPL-2.0-only
"""`memmergectl`, what the operator of a host types: shows and sets everything of the engine.

Standard library only, installed as one file. Every verb gathers a value that is printed as JSON or as a
table; an error is one sentence on standard error that names the cause and the fix. It works with a module
that has more files than it knows, or fewer.
"""

from __future__ import annotations

from mergelab.host import HostError


class NotLoadedError(HostError):
    """The module is not there."""
