# SPDX-License-Identifier: GPL-2.0-only
"""The ioctl structs of mergelab.host.engine against the header that the module is built from."""

import shutil
import subprocess
from pathlib import Path
from struct import Struct

import pytest

from mergelab.host import HostError, cli, engine

HEADER = Path(__file__).parents[2] / "kernel" / "memmerge" / "memmerge.h"


REQUESTS = ("ADD_REGION", "REMOVE_REGION", "SCAN", "UNMERGE", "STAT", "LIMIT", "REMOVE_UNMERGE")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Sizes, offsets and request numbers as the C compiler sees them."""
    compiler = shutil.which("gcc")
    assert compiler is not None, "gcc is missing: tools/setup installs it"
    structs = {
        "memmerge_region": engine.REGION_FIELDS,
        "memmerge_scan": engine.SCAN_FIELDS,
        "memmerge_stat": engine.STAT_FIELDS,
        "memmerge_limit": engine.LIMIT_FIELDS,
    }
    lines = ["#include <stdio.h>", "#include <stddef.h>", f'#include "{HEADER}"', "int main(void) {"]
    for struct, fields in structs.items():
        lines.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
        for field in fields:
            lines.append(f'printf("{struct}.{field} %zu\\n", offsetof(struct {struct}, {field}));')
    for request in REQUESTS:
        lines.append(f'printf("{request} %u\\n", (unsigned int)MEMMERGE_{request});')
    lines.append("return 0; }")
    folder = tmp_path_factory.mktemp("abi")
    (folder / "abi.c").write_text("\n".join(lines))
    subprocess.run([compiler, "-o", folder / "abi", folder / "abi.c"], check=True)
    output = subprocess.run([folder / "abi"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines())}


@pytest.mark.parametrize(
    ("struct", "fields", "packed"),
    [
        ("memmerge_region", engine.REGION_FIELDS, engine.REGION_STRUCT),
        ("memmerge_scan", engine.SCAN_FIELDS, engine.SCAN_STRUCT),
        ("memmerge_stat", engine.STAT_FIELDS, engine.STAT_STRUCT),
        ("memmerge_limit", engine.LIMIT_FIELDS, engine.LIMIT_STRUCT),
    ],
)
def test_struct_is_the_kernel_s(
    layout: dict[str, int], struct: str, fields: tuple[str, ...], packed: Struct
) -> None:
    """A field at another offset would make the engine's counters read as each other."""
    assert packed.size == layout[struct]
    # Once the low byte of each offset, once its high byte, is where the field begins.
    low = packed.unpack(bytes(place & 0xFF for place in range(packed.size)))
    high = packed.unpack(bytes(place >> 8 for place in range(packed.size)))
    for field, *bytes_of in zip(fields, low, high, strict=True):
        first, second = (value[0] if isinstance(value, bytes) else value & 0xFF for value in bytes_of)
        assert first + (second << 8) == layout[f"{struct}.{field}"], (
            f"{struct}.{field} lies elsewhere in the header"
        )


@pytest.mark.parametrize("name", REQUESTS)
def test_request_number_is_the_kernel_s(layout: dict[str, int], name: str) -> None:
    """A wrong number would run another request."""
    assert getattr(engine, name) == layout[name]


def test_every_field_of_the_header_is_read(layout: dict[str, int]) -> None:
    """A field added to the header and not to the tool would stay invisible in every report."""
    text = HEADER.read_text()
    body = text[text.index("struct memmerge_stat {") :]
    names = [line.split()[1].rstrip(";") for line in body[: body.index("};")].splitlines()[1:]]
    assert tuple(names) == engine.STAT_FIELDS


def test_missing_module_names_the_fix() -> None:
    """Without it a person sees an errno and not that the module has to be loaded."""
    if engine.DEVICE.exists():
        pytest.skip("this machine has the engine loaded")
    with pytest.raises(HostError, match="modprobe memmerge"):
        engine.Domain()
    with pytest.raises(HostError, match="modprobe memmerge"):
        engine.read_file("run")


@pytest.mark.parametrize("name", ["../ksm/run", "", "a b", "run\0"])
def test_engine_file_names_stay_inside(name: str) -> None:
    """A name with a slash would set files of other parts of the kernel."""
    with pytest.raises(HostError, match="not the name of a file"):
        engine.write_file(name, 1)


def test_every_reason_has_words() -> None:
    """A reason without words would be missing where people ask why memory is not merged."""
    skips = {field for field in engine.STAT_FIELDS if field.startswith("skip_")}
    assert set(engine.REASONS) == skips | {"pages_unshared", "pages_volatile"}
    assert len(set(engine.REASONS.values())) == len(engine.REASONS)


def test_reasons_are_those_that_count_pages() -> None:
    """Reasons that keep no page from being merged would hide the one that does."""
    stat = dict.fromkeys(engine.STAT_FIELDS[3:], 0) | {"skip_locked": 2, "skip_guard": 7, "pages_sharing": 5}
    assert list(engine.not_merged(stat).items()) == [
        (engine.REASONS["skip_guard"], 7),
        (engine.REASONS["skip_locked"], 2),
    ]


def test_several_tunables_are_set_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check sets its stage by one verb; the switch comes where it was asked for."""
    written: list[tuple[str, int]] = []
    monkeypatch.setattr(engine, "write_file", lambda name, value: written.append((name, value)))
    cli.run(["engine", "set", "huge_split_pages=1", "run=0"])
    assert written == [("huge_split_pages", 1), ("run", 0)]


@pytest.mark.parametrize("text", ["run", "run=", "run=on", "=1 run"])
def test_what_is_no_setting_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Nothing is written when one of the words is wrong."""
    written: list[str] = []
    monkeypatch.setattr(engine, "write_file", lambda name, value: written.append(f"{name}={value}"))
    with pytest.raises(SystemExit):
        cli.run(["engine", "set", "sleep_millisecs=1", text])
    assert written == []
