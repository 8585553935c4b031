# SPDX-License-Identifier: GPL-2.0-only
"""Fragments, profiles and what the kernel made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergelab.errors import MergelabError
from mergelab.kernel import config, profile

FOLDER = Path(__file__).parents[2] / "kernel/config"

KCONFIG = """
menu "Things"
    depends on BUS

if SYSFS
config WANTED
    tristate "A thing"
    depends on PCI && \\
        64BIT
    select HELPER
endif
endmenu

config HELPER
    bool

config FORCER
    bool "forces"
    select FORCED
config FORCED
    bool "can be forced"
"""


def test_parse_reads_both_spellings() -> None:
    """A symbol that "is not set" is off, a comment is nothing."""
    assert config.parse('CONFIG_A=y\n# CONFIG_B is not set\n# CONFIG_C=y\nCONFIG_D="x y"\n') == {
        "A": "y",
        "B": "n",
        "D": '"x y"',
    }


def test_dropped_names_the_fragment_that_decides() -> None:
    """The last fragment that sets a symbol is the one whose wish counts."""
    fragments = [("one", "CONFIG_A=y\nCONFIG_B=y\n"), ("two", "# CONFIG_A is not set\nCONFIG_C=m\n")]
    found = config.dropped(fragments, "CONFIG_A=y\nCONFIG_B=y\n")
    assert found == [config.Dropped("two", "A", "n", "y"), config.Dropped("two", "C", "m", "n")]


def test_nothing_is_dropped_when_absent_means_off() -> None:
    """A symbol that the kernel does not mention is off, as was asked."""
    assert config.dropped([("one", "# CONFIG_A is not set\n")], "CONFIG_B=y\n") == []


@pytest.mark.parametrize(
    ("drop", "values", "expected"),
    [
        (config.Dropped("f", "NOWHERE", "y", "n"), {}, "no Kconfig file defines it"),
        (config.Dropped("f", "WANTED", "m", "n"), {"SYSFS": "y", "BUS": "y", "64BIT": "y"}, "PCI=n"),
        (config.Dropped("f", "WANTED", "m", "n"), {"SYSFS": "y", "PCI": "y", "64BIT": "y"}, "BUS=n"),
        (config.Dropped("f", "HELPER", "y", "n"), {}, "only selected by: WANTED"),
        (config.Dropped("f", "FORCED", "n", "y"), {"FORCER": "y"}, "selected by FORCER"),
        (config.Dropped("f", "FORCER", "y", "n"), {}, "another choice"),
    ],
)
def test_reason(drop: config.Dropped, values: dict[str, str], expected: str) -> None:
    """A dropped symbol without its reason sends people to read Kconfig files."""
    assert expected in config.reason(drop, config.definition([KCONFIG], drop.symbol), values)


def test_check_names_fragment_symbol_wanted_and_got(tmp_path: Path) -> None:
    """A symbol that is silently dropped would be missed only on the host."""
    (tmp_path / "Kconfig").write_text(KCONFIG)
    with pytest.raises(MergelabError) as error:
        config.check([("kvm.config", "CONFIG_WANTED=m\n")], "CONFIG_SYSFS=y\n", tmp_path)
    for part in ("kvm.config", "CONFIG_WANTED", "wanted m", "got n", "PCI=n"):
        assert part in str(error.value)


def test_check_is_silent_when_all_was_taken(tmp_path: Path) -> None:
    """A configuration that is as asked for raises nothing."""
    config.check([("a.config", "CONFIG_A=y\n")], "CONFIG_A=y\n", tmp_path)


@pytest.mark.parametrize("name", profile.names(FOLDER))
def test_every_profile_loads(name: str) -> None:
    """A profile with a misspelt key or fragment fails here, not after a long build."""
    assert profile.load(FOLDER, name).fragments


def test_every_fragment_belongs_to_a_profile() -> None:
    """A fragment that no profile lists, or of a release without patches, is never built: it rots unseen."""
    used = {
        fragment
        for name in profile.names(FOLDER)
        for release in (path.parent.name for path in FOLDER.parent.glob("patches/*/series"))
        for fragment in profile.fragments_for(profile.load(FOLDER, name), release)
    }
    assert used == set(FOLDER.glob("*.config"))


def test_override_of_a_release_follows_its_fragment(tmp_path: Path) -> None:
    """The later of two fragments wins: an override is behind what it overrides, and in its release only."""
    for name in ("a.config", "b.config", "a.6.1.config"):
        (tmp_path / name).touch()
    fragments = (tmp_path / "a.config", tmp_path / "b.config")
    mine = profile.Profile("mine", "um", "allnoconfig", fragments, patched=True, output="program", disk_gib=1)
    own = tmp_path / "a.6.1.config"
    assert profile.fragments_for(mine, "6.1") == (fragments[0], own, fragments[1])
    assert profile.fragments_for(mine, "6.12") == fragments


def test_no_fragment_sets_a_symbol_twice() -> None:
    """Of two lines for one symbol in a file, one is a mistake."""
    for path in FOLDER.glob("*.config"):
        lines = [line for line in path.read_text().splitlines() if config.parse(line)]
        assert len(lines) == len(config.parse(path.read_text())), path.name


def test_unknown_profile_lists_the_known_ones() -> None:
    """The message must help whoever misspelt the name."""
    with pytest.raises(MergelabError, match="um-kasan"):
        profile.load(FOLDER, "metall")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('arch = "x86_64"', 'arch = "vax"'), "arch is 'vax'"),
        (("patched = true", "patchd = true"), "patchd"),
        (('"mm-host"', '"mm-hots"'), "mm-hots.config"),
    ],
)
def test_wrong_profile(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    """What a profile says is checked before anything is done with it."""
    (tmp_path / "profiles").mkdir()
    for path in FOLDER.glob("*.config"):
        (tmp_path / path.name).touch()
    text = (FOLDER / "profiles/lab.toml").read_text()
    assert change[0] in text
    (tmp_path / "profiles/mine.toml").write_text(text.replace(*change))
    with pytest.raises(MergelabError, match=expected):
        profile.load(tmp_path, "mine")
