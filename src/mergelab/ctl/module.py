# SPDX-License-Identifier: GPL-2.0-only
"""The module as a host shows it: /sys/kernel/mm/memmerge, /sys/module/memmerge, and what /proc adds."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from mergelab.ctl import NotLoadedError
from mergelab.ctl.files import FILES, order
from mergelab.host import HostError

Value = int | str

_CAUSES = {
    errno.EINVAL: "that is not among the values that this version of the module takes",
    errno.EBUSY: "it is in use; unshare everything first (memmergectl unmerge)",
    errno.ENOMEM: "the host has no memory left for it",
    errno.EINTR: "it was interrupted half-way",
}


class Module:
    """The module of one host, below a root directory that tests replace."""

    def __init__(self, root: Path = Path("/"), release: str | None = None) -> None:
        """Keeps the places; `release` is the running kernel's."""
        self.files = root / "sys/kernel/mm/memmerge"
        self.state = root / "sys/module/memmerge"
        self.proc = root / "proc"
        self.release = release or os.uname().release
        self._installed = root / "lib/modules" / self.release / "modules.dep"

    @property
    def loaded(self) -> bool:
        """Whether its files are there."""
        return self.files.is_dir()

    def require(self) -> None:
        """Says what to do when the module is not there.

        Raises:
            NotLoadedError: It is not.
        """
        if self.loaded:
            return
        with suppress(OSError):
            if "/memmerge.ko" not in self._installed.read_text(encoding="utf-8"):
                raise NotLoadedError(
                    f"the running kernel {self.release} has no module memmerge: boot the one that has it"
                    " (make deploy; it may have fallen back from it)"
                )
        raise NotLoadedError("module memmerge is not loaded: sudo modprobe memmerge")

    def facts(self) -> dict[str, str | None]:
        """Returns version and srcversion of the loaded module; None where it has none."""
        return {name: _text(self.state / name) for name in ("version", "srcversion")}

    def names(self) -> list[str]:
        """Returns the names of its files, known ones first."""
        self.require()
        return sorted((path.name for path in self.files.iterdir() if path.is_file()), key=order)

    def read(self, name: str) -> Value:
        """Reads one file: a number, the chosen one of several words, or its text.

        Raises:
            HostError: There is no such file, or it cannot be read.
        """
        self.require()
        path = self._path(name)
        try:
            return value(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise HostError(self._missing(name)) from None
        except PermissionError:
            raise HostError(f"{path} may not be read: run as root (sudo memmergectl …)") from None
        except OSError as error:
            raise HostError(f"{path} cannot be read: {error.strerror}") from None

    def choices(self, name: str) -> list[str]:
        """Returns the words of a file such as `[ksm] memmerge`; empty for another one."""
        text = (_text(self._path(name)) or "") if name in self.names() else ""
        return text.replace("[", "").replace("]", "").split() if "[" in text else []

    def number(self, name: str) -> int | None:
        """Reads a number, None when this version of the module does not have the file."""
        self.require()
        with suppress(FileNotFoundError, ValueError):
            return int((self.files / name).read_text(encoding="ascii"))
        return None

    def numbers(self, *names: str) -> dict[str, int | None]:
        """Reads several numbers."""
        return {name: self.number(name) for name in names}

    def write(self, name: str, new: Value) -> None:
        """Writes one file, which lasts as long as what it asks for.

        Raises:
            HostError: It was refused.
        """
        self.require()
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            try:
                os.write(descriptor, f"{new}\n".encode())
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise HostError(self._missing(name)) from None
        except PermissionError:
            raise HostError(f"{path} is for root to set: sudo memmergectl …") from None
        except OSError as error:
            code = error.errno or 0
            cause = _CAUSES.get(code, error.strerror)
            raise HostError(f"{name}={new} was refused: {errno.errorcode.get(code, code)}: {cause}") from None

    def _path(self, name: str) -> Path:
        if not name.replace("_", "").isalnum():
            raise HostError(f"'{name}' is not the name of a file in {self.files}")
        return self.files / name

    def _missing(self, name: str) -> str:
        if name in FILES:
            return f"{name} is not available: this version of the module does not have it"
        return f"there is no file '{name}'; there are: {' '.join(self.names())}"


def value(text: str) -> Value:
    """Reads a file's text."""
    text = text.strip()
    if text.lstrip("-").isdigit():
        return int(text)
    if "[" in text and "]" in text:
        return text.partition("[")[2].partition("]")[0]
    return text


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
