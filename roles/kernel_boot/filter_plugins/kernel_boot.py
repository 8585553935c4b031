# SPDX-License-Identifier: GPL-2.0-only
"""Filters of role kernel_boot: `mergelab.kernel.boot` for templates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

from mergelab.errors import MergelabError
from mergelab.kernel import boot


def _says_why(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let Ansible show an error's cause and fix."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except MergelabError as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapped


def console_tail(path: str, release: str, since: int) -> list[str]:
    """Read a console's log from an offset on and give what a kernel said last."""
    with Path(path).open("rb") as log:
        log.seek(since)
        return boot.console_tail(log.read().decode(errors="replace"), release)


class FilterModule:
    """Names the filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Give each filter by its name."""
        return {
            "kernel_boot_entry_id": _says_why(boot.entry_id),
            "kernel_boot_trial_entry": _says_why(boot.trial_entry),
            "kernel_boot_grub_environment": boot.grub_environment,
            "kernel_boot_build_id": boot.build_id,
            "kernel_boot_objections": boot.objections,
            "kernel_boot_console_tail": console_tail,
            "kernel_boot_older_kernels": boot.older_kernels,
        }
