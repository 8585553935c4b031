# SPDX-License-Identifier: GPL-2.0-only
"""A profile says which kernel to build: base, fragments, patched or not, and what comes out."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from mergelab.errors import MergelabError

ARCHITECTURES = ("x86_64", "um")
BASES = ("allnoconfig", "alldefconfig", "distribution")
OUTPUTS = ("packages", "image", "program")


@dataclass(frozen=True)
class Profile:
    """What ``kernel/config/profiles/<name>.toml`` says.

    Attributes:
        name: the file's name without suffix.
        arch: the kernel's ARCH.
        base: what a symbol is that no fragment names: off (``allnoconfig``), the kernel's default
            (``alldefconfig``), or what the distribution's configuration says (``distribution``).
        fragments: files of ``kernel/config``, in the order of merging; the later wins. `fragments_for` gives
            those for one kernel release.
        patched: whether the patch series and the engine's module are part of it.
        output: Debian ``packages``, a bootable ``image`` or a ``program`` (User-Mode Linux).
        disk_gib: free disk space that a build needs, GiB.
    """

    name: str
    arch: str
    base: str
    fragments: tuple[Path, ...]
    patched: bool
    output: str
    disk_gib: int


def fragments_for(profile: Profile, release: str) -> tuple[Path, ...]:
    """Give a profile's fragments for a kernel release like ``6.1``, in the order of merging.

    Behind ``NAME.config`` comes ``NAME.<release>.config``, if there is one: what that release calls otherwise
    or does not have.
    """
    found: list[Path] = []
    for fragment in profile.fragments:
        own = fragment.with_name(f"{fragment.stem}.{release}.config")
        found += [fragment, own] if own.is_file() else [fragment]
    return tuple(found)


def names(folder: Path) -> list[str]:
    """Give the names of all profiles under kernel/config, sorted."""
    return sorted(file.stem for file in (folder / "profiles").glob("*.toml"))


def load(folder: Path, name: str) -> Profile:
    """Read a profile.

    Args:
        folder: kernel/config.
        name: the profile's name.

    Raises:
        MergelabError: there is no such profile, or its file is not as it must be.
    """
    path = folder / "profiles" / f"{name}.toml"
    if name not in names(folder):
        raise MergelabError(
            f"there is no kernel profile {name!r}", f"use one of: {', '.join(names(folder))}, or write {path}"
        )
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        fragments = tuple(folder / f"{fragment}.config" for fragment in data.pop("fragments"))
        profile = Profile(name=name, fragments=fragments, **data)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise MergelabError(
            f"{path} is not a profile: {error}", "compare it with lab.toml beside it"
        ) from error
    for key, value, allowed in (
        ("arch", profile.arch, ARCHITECTURES),
        ("base", profile.base, BASES),
        ("output", profile.output, OUTPUTS),
    ):
        if value not in allowed:
            raise MergelabError(f"{path}: {key} is {value!r}", f"use one of: {', '.join(allowed)}")
    for fragment in fragments:
        if not fragment.is_file():
            raise MergelabError(
                f"{path} names a fragment that does not exist: {fragment}", "write it, or drop it"
            )
    return profile
