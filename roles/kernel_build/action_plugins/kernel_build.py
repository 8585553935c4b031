# SPDX-License-Identifier: GPL-2.0-only
"""Ansible action: build a kernel on the controller and show how far it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from mergelab.errors import MergelabError
from mergelab.kernel import build

DISPLAY = Display()


class ActionModule(ActionBase):
    """Parses its arguments and calls `mergelab.kernel.build.build`."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Build, or in check mode say whether there would be something to build.

        Returns:
            ``path`` of the kernel in the cache and its ``manifest``; in check mode, when it is not built yet,
            only ``path``.
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            argument_spec={
                "kernel": {"type": "path", "required": True},
                "profile": {"type": "str", "required": True},
                "source": {"type": "path", "required": True},
                "cache": {"type": "path", "required": True},
                "jobs": {"type": "int", "default": 0},
                "base_config": {"type": "str", "default": ""},
                "extra_patches": {"type": "list", "elements": "path", "default": []},
            }
        )
        options = build.Options(
            kernel=Path(given["kernel"]),
            profile=given["profile"],
            source=Path(given["source"]),
            cache=Path(given["cache"]),
            jobs=given["jobs"] or build.default_jobs(),
            base_config=Path(given["base_config"]) if given["base_config"] else None,
            extra_patches=tuple(Path(patch) for patch in given["extra_patches"]),
        )
        try:
            path = build.cached(options, DISPLAY.display)
            result["changed"] = path is None
            if path is None and not self._task.check_mode:
                path = build.build(options, DISPLAY.display)
        except MergelabError as error:
            raise AnsibleActionFail(str(error)) from error
        if path is not None:
            result["path"] = str(path)
            result["manifest"] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        return result
