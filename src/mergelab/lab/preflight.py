# SPDX-License-Identifier: GPL-2.0-only
"""What the controller must have before an emulated host is made."""

import errno
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def available_memory() -> int:
    """Bytes that processes can still take (MemAvailable of /proc/meminfo)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    msg = "/proc/meminfo has no MemAvailable"
    raise ValueError(msg)


def free_disk(path: Path) -> int:
    """Bytes free for this user in the file system that holds, or will hold, ``path``."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def missing_tools(tools: Mapping[str, str]) -> list[str]:
    """Name the Debian packages of the commands that are not installed.

    Args:
        tools: command to package.
    """
    return sorted(
        {package for command, package in tools.items() if not shutil.which(command, path=SEARCH_PATH)}
    )


def port_in_use(port: int) -> bool:
    """Tell whether something listens on, or holds, 127.0.0.1:``port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def problems(
    *,
    tools: Mapping[str, str],
    files: Mapping[str, str],
    memory_mib: int = 0,
    disk_mib: Mapping[str, int] | None = None,
    ports: Mapping[str, int] | None = None,
) -> list[str]:
    """Say everything that is in the way, each with its fix.

    Args:
        tools: needed commands, to the Debian package of each.
        files: needed files, to the Debian package of each.
        memory_mib: memory to be taken, MiB.
        disk_mib: directory to the space that must be free there, MiB.
        ports: name of a host to the port of 127.0.0.1 that it will take.

    Returns:
        One sentence or two per problem; empty when nothing is in the way.
    """
    found = []
    packages = sorted(
        {*missing_tools(tools), *(package for file, package in files.items() if not Path(file).exists())}
    )
    if packages:
        found.append(
            f"Missing on the controller: {' '.join(packages)}. "
            f"Fix: apt-get install {' '.join(packages)} (or make setup)."
        )
    available = available_memory()
    if memory_mib * MIB > available:
        found.append(
            f"The emulated host takes {memory_mib} MiB of memory and {available // MIB} MiB are available. "
            "Fix: stop other programs, or lower virtual_host_memory_mib."
        )
    for directory, needed in (disk_mib or {}).items():
        free = free_disk(Path(directory))
        if needed * MIB > free:
            found.append(
                f"{needed} MiB of disk are needed for {directory} and {free // MIB} MiB are free. "
                "Fix: free some, or point XDG_CACHE_HOME (images) or XDG_STATE_HOME (hosts) to a larger disk."
            )
    for host, port in (ports or {}).items():
        if port_in_use(port):
            found.append(
                f"Port {port} of 127.0.0.1, for SSH to {host}, is in use by another program. "
                "Fix: set the environment variable MERGELAB_SSH_PORT_BASE to another base than 2200."
            )
    return found


def key_problems(host: str, key: Path) -> list[str]:
    """Say why ``ssh`` would not use the private key ``key`` for ``host``; empty when it would."""
    remedy = (
        "Fix: make lab creates the emulated lab's key; "
        f"for a host of your own, set ansible_ssh_private_key_file of {host}."
    )
    try:
        mode = key.stat().st_mode
        key.open("rb").close()
    except OSError as error:
        return [f"The SSH key {key} of {host} cannot be read: {error.strerror}. {remedy}"]
    if mode & 0o077:
        return [f"The SSH key {key} of {host} can be read by others, so ssh refuses it. Fix: chmod 600 {key}"]
    return []
