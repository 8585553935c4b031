# SPDX-License-Identifier: GPL-2.0-only
"""One kind of error for people: what is wrong, and what to do about it."""


class MergelabError(Exception):
    """A failure with a known cause.

    Args:
        cause: what is wrong, in one sentence, naming the file or value.
        fix: what to do about it, in one sentence.
    """

    def __init__(self, cause: str, fix: str) -> None:
        """Keep both sentences; ``str()`` gives them together."""
        super().__init__(f"{cause}\n  fix: {fix}")
        self.cause = cause
        self.fix = fix
