# SPDX-License-Identifier: GPL-2.0-only
"""Ansible module: a batch of payload guests on a libvirt host converges to its description."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import socket
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import libvirt
except ImportError:
    libvirt = None

DOCUMENTATION = """
module: guest_batch
short_description: Payload guests of one description, as many as asked for
description:
  - Starts the guests that are missing, replaces those of another description, removes those beyond the count.
  - Waits until the payload of each guest answers.
  - Guests are transient libvirt domains and carry the name of their batch and a digest of their description.
options:
  name:
    description: Name of the batch; its guests are called by it and a number from 1.
    type: str
    required: true
  count:
    description: How many guests there are to be.
    type: int
    required: true
  domain:
    description: Domain XML of a guest; @GUEST@ is its name, @HOME@ its directory, @IMAGE@ the image's.
    type: str
    required: true
  image:
    description: Directory of the guest image.
    type: path
    required: true
  directory:
    description: Where every guest has a directory.
    type: path
    required: true
  console_as:
    description: What a record names as the console's file; @GUEST@ is the guest's name.
    type: str
    default: ""
  workload:
    description: Payload requests for a guest that has just started.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds until every payload must answer.
    type: int
    required: true
  uri:
    description: The host's libvirt.
    type: str
    default: qemu:///system
author: Mergelab
"""

NAMESPACE = "urn:mergelab:batch"
CONSOLE_LINES = 15
CONSOLE_BYTES = 256 * 1024


class BatchError(Exception):
    """A batch that cannot be what was asked for; the words name the cause and the fix."""


@dataclass(frozen=True)
class Domain:
    """A libvirt domain as far as a batch cares: whose it is, what it was made from, whether it runs."""

    batch: str | None
    digest: str | None
    running: bool


@dataclass(frozen=True)
class Plan:
    """What has to happen, by guest name and in the order of numbers."""

    stop: tuple[str, ...]
    start: tuple[str, ...]
    keep: tuple[str, ...]


@dataclass
class Record:
    """What is known of a guest: `running`, `failed` to come up, or `ended` by itself; None was not measured.

    Memory is in bytes; `pages` and `gpa` are size and guest-physical address of the payload's area.
    """

    name: str
    state: str
    memory: int | None = None
    vcpus: int | None = None
    boot_seconds: float | None = None
    pages: int | None = None
    gpa: int | None = None
    console: str = ""


def names(batch: str, count: int) -> list[str]:
    """Returns the names of the guests of a batch."""
    return [f"{batch}{number}" for number in range(1, count + 1)]


def natural(name: str) -> tuple[str, int]:
    """Returns a sort key that puts guest10 after guest9."""
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or 0)


def plan(batch: str, wanted: dict[str, str], found: dict[str, Domain], left_over: set[str]) -> Plan:
    """Decides what to stop, start and keep.

    Args:
        batch: the batch's name.
        wanted: name and description digest of every guest that is to be.
        found: the host's domains.
        left_over: guests of this batch that have a directory, whether or not they still run.

    Raises:
        BatchError: A domain of that name is not of this batch.
    """
    for name in wanted:
        if name in found and found[name].batch != batch:
            raise BatchError(
                f"a domain called {name} exists and is not of batch '{batch}': "
                f"rename it, or give the batch another name (guest_batch_name)"
            )
    own = {name for name, domain in found.items() if domain.batch == batch}
    keep = {
        name for name in own & wanted.keys() if found[name].running and found[name].digest == wanted[name]
    }
    return Plan(
        stop=tuple(sorted((own | left_over) - keep, key=natural)),
        start=tuple(sorted(wanted.keys() - keep, key=natural)),
        keep=tuple(sorted(keep, key=natural)),
    )


def describe(template: str, batch: str, name: str, home: Path, image: Path) -> tuple[str, str]:
    """Returns the domain XML of a guest, marked as the batch's, and the digest of its description."""
    xml = template.replace("@GUEST@", name).replace("@HOME@", str(home)).replace("@IMAGE@", str(image))
    digest = hashlib.sha256(xml.encode()).hexdigest()
    mark = f"<batch xmlns={quoteattr(NAMESPACE)} name={quoteattr(batch)} digest={quoteattr(digest)}/>"
    marked = xml.replace("</domain>", f"<metadata>{mark}</metadata></domain>")
    return marked, digest


def owner(xml: str) -> tuple[str | None, str | None]:
    """Returns the batch and the digest that a domain's XML carries."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt wrote it
    mark = root.find(f"metadata/{{{NAMESPACE}}}batch")
    return (None, None) if mark is None else (mark.get("name"), mark.get("digest"))


def console_text(path: Path) -> str:
    """Returns the end of a guest's console; empty when it has said nothing."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as console:
        console.seek(max(path.stat().st_size - CONSOLE_BYTES, 0))
        return console.read().decode(errors="replace").replace("\r", "")
    return ""


def write_json(path: Path, value: object) -> None:
    """Writes a file so that it is there completely or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Call:
    """Requests to the payload of one guest, the next one sent when the one before is answered."""

    def __init__(self, name: str, path: Path, requests: list[str]) -> None:
        """Connects; QEMU keeps what is sent until the guest opens its port.

        Raises:
            BatchError: Nobody listens.
        """
        self.name = name
        self.requests = requests
        self.answers: list[dict[str, str]] = []
        self.seconds: list[float] = []
        self._buffer = b""
        self._client = secrets.token_hex(4)
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise BatchError(f"guest {name} has no payload port to talk to: {error}") from error

    def finish(self, deadline: float) -> None:
        """Sends every request and waits for its answer.

        Args:
            deadline: when to give up, by time.monotonic().

        Raises:
            BatchError: The guest has ended, its payload refuses a request, or it does not answer in time.
        """
        with contextlib.closing(self._socket):
            for number, request in enumerate(self.requests):
                tag = f"@{self._client}.{number}"
                try:
                    # An earlier client that was interrupted may have left half a request: its line ends here.
                    self._socket.sendall(f"\n{tag} {request}\n".encode())
                    self.answers.append(self._receive(tag, request, deadline))
                except TimeoutError:
                    raise BatchError(
                        f"the payload of guest {self.name} did not answer '{request}' in time: "
                        f"raise guest_batch_timeout if its console shows that it was only slow"
                    ) from None
                except (ConnectionResetError, BrokenPipeError, EOFError):
                    raise BatchError(
                        f"guest {self.name} ended before its payload answered '{request}'"
                    ) from None
                self.seconds.append(time.monotonic())

    def _receive(self, tag: str, request: str, deadline: float) -> dict[str, str]:
        while True:
            while b"\n" not in self._buffer:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                data = self._socket.recv(65536)
                if not data:
                    raise EOFError
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            found, status, *words = [*line.decode(errors="replace").split(), ""]
            if found != tag:
                continue
            if status != "ok":
                raise BatchError(f"the payload of guest {self.name} refuses '{request}': {' '.join(words)}")
            return dict(word.split("=", 1) for word in words if "=" in word)


class Batch:
    """The guests of one batch on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        """Reads the description and what the host has."""
        self.parameters: dict[str, Any] = module.params
        self.name: str = module.params["name"]
        self.directory = Path(module.params["directory"])
        image = Path(module.params["image"]).resolve()
        self.described = {
            name: describe(module.params["domain"], self.name, name, self.directory / name, image)
            for name in names(self.name, module.params["count"])
        }
        for file in ("bzImage", "payload.cpio") if self.described else ():
            if not (image / file).is_file():
                raise BatchError(f"{image / file} is not there: apply role guest_image first")
        try:
            self.libvirt = libvirt.open(module.params["uri"])
            self.domains = {domain.name(): domain for domain in self.libvirt.listAllDomains()}
        except libvirt.libvirtError as error:
            raise BatchError(
                f"libvirt at {module.params['uri']} does not answer ({error}): "
                f"start libvirtd, as role kvm_host does"
            ) from error
        self.plan = plan(
            self.name,
            {name: digest for name, (_, digest) in self.described.items()},
            {name: self._read(domain) for name, domain in self.domains.items()},
            self._left_over(),
        )
        self.failed: dict[str, str] = {}
        self.records: list[dict[str, Any]] = []
        self.consoles: dict[str, str] = {}

    def _read(self, domain: Any) -> Domain:
        running = domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        return Domain(*owner(domain.XMLDesc()), running)

    def _left_over(self) -> set[str]:
        homes = (file.parent.name for file in self.directory.glob("*/guest.json"))
        return {name for name in homes if self._known(name).get("batch") == self.name}

    def _known(self, name: str) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads(
                (self.directory / name / "guest.json").read_text(encoding="utf-8")
            )
        except (FileNotFoundError, ValueError):
            return {}
        return known

    def _learn(self, name: str, **facts: object) -> None:
        write_json(self.directory / name / "guest.json", self._known(name) | facts)

    def converge(self) -> None:
        """Makes it so; what went wrong is in `failed` by guest."""
        if not self.described:
            self._record({name: "running" if self._runs(name) else "ended" for name in self.plan.stop})
        for name in self.plan.stop:
            self._stop(name)
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.directory / name)
        self._bring_up_all()
        if self.described:
            self._record({name: "failed" if name in self.failed else "running" for name in self.described})
        for name in self.failed:
            self._stop(name)

    def _runs(self, name: str) -> bool:
        return name in self.domains and self._read(self.domains[name]).running

    def _stop(self, name: str) -> None:
        if name not in self.domains:
            return
        try:
            self.domains[name].destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                raise BatchError(f"guest {name} cannot be stopped: {error}") from error

    def _bring_up_all(self) -> None:
        """Starts as many guests at a time as there are processors, and waits for all."""
        deadline = time.monotonic() + self.parameters["timeout"]
        starting = threading.Semaphore(os.cpu_count() or 1)
        with concurrent.futures.ThreadPoolExecutor(max(len(self.described), 1)) as pool:
            guests = {
                name: pool.submit(self._bring_up, name, starting, deadline)
                for name in sorted(self.described, key=natural)
            }
        for name, guest in guests.items():
            try:
                guest.result()
            except BatchError as error:
                self.failed[name] = str(error)

    def _bring_up(self, name: str, starting: threading.Semaphore, deadline: float) -> None:
        path = self.directory / name / "payload.sock"
        if name not in self.plan.start:
            Call(name, path, ["info"]).finish(deadline)
            return
        with starting:
            begin = self._start(name)
        call = Call(name, path, ["info", *self.parameters["workload"]])
        call.finish(deadline)
        pages, gpa = (int(call.answers[0][key], 0) for key in ("pages", "gpa"))
        self._learn(name, boot_seconds=round(call.seconds[0] - begin, 2), pages=pages, gpa=gpa)

    def _start(self, name: str) -> float:
        xml = self.described[name][0]
        (self.directory / name).mkdir(parents=True)
        root = ET.fromstring(xml)  # noqa: S314 - the role's own template
        memory, vcpus = (int(root.findtext(tag, "")) for tag in ("memory", "vcpu"))
        self._learn(name, batch=self.name, memory=memory << 20, vcpus=vcpus)
        begin = time.monotonic()
        try:
            self.domains[name] = self.libvirt.createXML(xml, 0)
        except libvirt.libvirtError as error:
            raise BatchError(f"libvirt does not start guest {name}: {error}") from error
        return begin

    def _record(self, states: dict[str, str]) -> None:
        fields = {field.name for field in dataclasses.fields(Record)}
        for name, state in states.items():
            known = {key: value for key, value in self._known(name).items() if key in fields}
            console = self.parameters["console_as"].replace("@GUEST@", name)
            self.records.append(asdict(Record(name, state, **known, console=console)))
            self.consoles[name] = console_text(self.directory / name / "console.log")

    def complaint(self) -> str:
        """Returns what went wrong with which guest, with the last lines of its console."""
        parts = []
        for name in sorted(self.failed, key=natural):
            tail = self.consoles[name].splitlines()[-CONSOLE_LINES:]
            lines = "\n".join(f"  | {line}" for line in tail) or "  | (nothing)"
            parts.append(f"{self.failed[name]}\nits console:\n{lines}")
        return "\n".join(parts)


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "count": {"type": "int", "required": True},
            "domain": {"type": "str", "required": True},
            "image": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "console_as": {"type": "str", "default": ""},
            "workload": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "required": True},
            "uri": {"type": "str", "default": "qemu:///system"},
        },
        supports_check_mode=True,
    )
    if libvirt is None:
        module.fail_json(msg=missing_required_lib("libvirt (Debian package python3-libvirt)"))
    libvirt.registerErrorHandler(lambda *_: None, None)
    try:
        batch = Batch(module)
        result = {
            "changed": bool(batch.plan.stop or batch.plan.start),
            "started": batch.plan.start,
            "removed": batch.plan.stop,
        }
        if module.check_mode:
            module.exit_json(**result)
        batch.converge()
    except BatchError as error:
        module.fail_json(msg=str(error))
    result |= {"guests": batch.records, "consoles": batch.consoles}
    if batch.failed:
        module.fail_json(msg=batch.complaint(), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
