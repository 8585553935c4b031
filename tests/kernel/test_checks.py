# SPDX-License-Identifier: GPL-2.0-only
"""The checks themselves, against the real engine in User-Mode Linux: plain processes stand in for guests.

What a host in the lab must show in minutes, the engine must show here in seconds; and a check that asks for
the wrong number is found without a lab.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mergelab.uml import Boot, boot, build_kernel

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]

CHECKS = (
    "control.corrupt",
    "control.off",
    "merge.identical",
    "merge.near",
    "merge.plain",
    "merge.zero",
    "unshare.one",
)

SCRIPT = """#!/bin/sh
# Inside the machine: an agent, four plain processes, and the checks on them.
set -eu
mount -t tmpfs tmpfs /run
mkdir -p /run/mergelab/state/guests
export MERGELAB_STATE_DIR=/run/mergelab/state MERGELAB_AGENT_SOCKET=/run/mergelab/agent.sock
export MERGELAB_RUN_DIR={folder}/run PATH={path}:$PATH
cp {payload} /run/mergelab/state/payload
cd {root}
{python} -m mergelab.cli host-tool /run/mergelab-host
/run/mergelab-host serve &
agent=$!
trap 'kill $agent; wait' EXIT
for name in a b c d; do
	/run/mergelab-host plain start $name --pages 2304
done
{python} -m pytest checks/test_control.py checks/test_merge.py checks/test_unshare.py \\
	--hosts=local:// --plain --merge-pages=2048 --host-tool=/run/mergelab-host \\
	-p no:cacheprovider --color=no -q || status=$?
for name in a b c d; do
	/run/mergelab-host plain stop $name
done
exit ${{status:-0}}
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Boot, Path]:
    """A machine on which the checks have run, and the folder with their evidence."""
    folder = tmp_path_factory.mktemp("checks")
    payload = folder / "payload"
    subprocess.run(
        ["make", "-C", ROOT / "kernel/guest", f"O={folder}", payload], check=True, capture_output=True
    )
    script = folder / "checks"
    script.write_text(
        SCRIPT.format(
            folder=folder, payload=payload, root=ROOT, python=sys.executable, path=Path(sys.executable).parent
        )
    )
    script.chmod(0o755)
    # Not um-kasan: its quarantine of freed memory blurs what the host's memory says.
    return boot(build_kernel("um"), [script]), folder / "run"


def test_every_check_ran_to_its_end(machine: tuple[Boot, Path]) -> None:
    """A machine that dies on the way must not look like one on which the checks passed."""
    ended, _ = machine
    assert ended.finished, ended.console[-4000:]
    assert ended.steps["checks"].status == 0, ended.steps["checks"].output[-8000:]


@pytest.mark.parametrize("check", CHECKS)
def test_check_passes_on_the_engine(machine: tuple[Boot, Path], check: str) -> None:
    """The engine's counters, the page tables, the memory and the content agree on the expected numbers."""
    ended, run = machine
    path = run / "evidence" / "local" / f"{check}.json"
    assert path.is_file(), ended.console[-4000:]
    evidence: dict[str, Any] = json.loads(path.read_text())
    assert evidence["verdict"] == "pass", (
        f"{evidence['reason']}\n{json.dumps(evidence['witnesses'], indent=1)}"
    )


def test_kernel_did_not_complain(machine: tuple[Boot, Path]) -> None:
    """A warning that no check looked at is still a defect."""
    assert machine[0].complaints == []
