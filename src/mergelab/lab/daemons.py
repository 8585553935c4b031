# SPDX-License-Identifier: GPL-2.0-only
"""libvirt's daemons on a controller without a service manager.

An ordinary user's ``qemu:///session`` is started by libvirt itself, and systemd
starts the privileged daemons. Only root without systemd has nobody to do it;
what is started here is recorded by pid files and ended again.
"""

import contextlib
import grp
import os
import signal
import subprocess
import time
from pathlib import Path

from mergelab.errors import MergelabError

# in the order of starting; virtlogd holds the consoles
DAEMONS = ("virtlogd", "libvirtd")
# one place for every lab of root: the last one to be removed ends them
PID_FILES = Path("/run/mergelab/libvirt")
ANSWER_TIMEOUT_S = 60
END_TIMEOUT_S = 20


def answers(uri: str) -> str | None:
    """Ask libvirt for a connection.

    Returns:
        None when it answers, else its message.
    """
    done = subprocess.run(
        ["virsh", "--connect", uri, "--quiet", "uri"], check=False, capture_output=True, text=True
    )
    return None if done.returncode == 0 else done.stderr.strip()


def security_models() -> list[str]:
    """Name the security drivers by which libvirt confines a machine, for its seclabels.

    Asking libvirt for its capabilities would tell too, but probes every QEMU binary for that.
    """
    if os.geteuid() != 0:
        return []  # a user's session confines nothing
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    return ["dac", "apparmor"] if enabled.exists() and enabled.read_text().strip() == "Y" else ["dac"]


def give_to_group(device: Path = Path("/dev/kvm"), group: str = "kvm") -> bool:
    """Give KVM's device to its group, as udev's rule does where there is udev.

    libvirt asks QEMU, as root, what it can do, and looks whether QEMU's own user may open the device. While
    the answers differ it does not believe its cache: it asks QEMU anew at every look, for about a minute per
    machine.

    Args:
        device: KVM's.
        group: that QEMU's user is in.

    Returns:
        Whether it was given.
    """
    try:
        gid = grp.getgrnam(group).gr_gid
        now = device.stat()
    except (KeyError, FileNotFoundError):
        return False  # no QEMU of Debian, or no KVM
    if now.st_gid == gid and now.st_mode & 0o060 == 0o060:
        return False
    os.chown(device, -1, gid)
    device.chmod(now.st_mode & 0o7777 | 0o660)
    return True


def _running(pid_file: Path, name: str) -> int | None:
    """The pid that ``pid_file`` names, if that process is still the daemon ``name``."""
    try:
        pid = int(pid_file.read_text())
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if comm == name else None


def ensure(uri: str, state: Path = PID_FILES) -> bool:
    """Make libvirt answer.

    Args:
        uri: libvirt connection.
        state: directory for pid files of what had to be started.

    Returns:
        Whether something was started or changed.

    Raises:
        MergelabError: libvirt does not answer, with its message.
    """
    bare = os.geteuid() == 0 and not Path("/run/systemd/system").is_dir()
    given = bare and give_to_group()
    message = answers(uri)
    if message is None:
        return given
    if not bare:
        raise MergelabError(
            f"libvirt does not answer at {uri}: {message}",
            "install libvirt-daemon-system (root) or libvirt-daemon (a user's session); "
            "see journalctl --unit libvirtd",
        )
    if not Path("/etc/libvirt/qemu.conf").exists():
        raise MergelabError(
            "root's libvirt has no configuration and no user for QEMU",
            "run apt-get install libvirt-daemon-system",
        )
    state.mkdir(parents=True, exist_ok=True)
    for name in DAEMONS:
        pid_file = state / f"{name}.pid"
        if _running(pid_file, name) is None:
            pid_file.unlink(missing_ok=True)
            done = subprocess.run(
                [name, "--daemon", "--pid-file", pid_file],
                check=False,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            # another one may be running that somebody else started: only the answer counts
            message = done.stderr.strip() or message
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while (refusal := answers(uri)) is not None:
        if time.monotonic() > deadline:
            raise MergelabError(
                f"libvirt does not answer at {uri}: {refusal}; starting it said: {message}",
                "see /var/log/libvirt/libvirtd.log",
            )
        time.sleep(0.5)
    return True


def end(uri: str, state: Path = PID_FILES) -> bool:
    """End the daemons that :func:`ensure` started, unless they still know a machine.

    Another lab may be about to start one that is off.

    Args:
        uri: libvirt connection.
        state: directory of the pid files.

    Returns:
        Whether something was ended.

    Raises:
        MergelabError: a daemon does not end.
    """
    if not state.is_dir() or state.stat().st_uid != os.geteuid():
        return False  # root's, and we have a session of our own
    running = [(name, pid) for name in DAEMONS if (pid := _running(state / f"{name}.pid", name)) is not None]
    if not running:
        return False
    domains = subprocess.run(
        ["virsh", "--connect", uri, "--quiet", "list", "--all", "--name"],
        check=False,
        capture_output=True,
        text=True,
    )
    if domains.stdout.strip():
        return False
    for name, pid in reversed(running):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + END_TIMEOUT_S
        while _running(state / f"{name}.pid", name) is not None:
            if time.monotonic() > deadline:
                raise MergelabError(f"{name} (pid {pid}) does not end", f"look why, or end it: kill -9 {pid}")
            time.sleep(0.2)
        (state / f"{name}.pid").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: somebody else's
        state.rmdir()
        state.parent.rmdir()
    return True
