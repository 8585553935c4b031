# SPDX-License-Identifier: GPL-2.0-only
"""The agent: holds the engine's domains open under names, as a domain lives as long as its file descriptor.

One JSON object a line in either direction over a UNIX socket that only root can reach: the request is
`{"verb": …, "name": …, …}`, the answer `{"result": …}` or `{"error": "a sentence"}`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any

from mergelab.host import AGENT_SOCKET, HostError, guests
from mergelab.host.engine import Domain, RefusedError, not_merged

Request = dict[str, Any]
MAX_PASSES = 1000


class Registry:
    """Domains by name; every method is one verb and returns what is printed as JSON."""

    def __init__(self) -> None:
        """Starts without domains."""
        self._domains: dict[str, Domain] = {}
        self._regions: dict[str, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def handle(self, request: Request) -> object:
        """Runs one request.

        Raises:
            HostError: Unknown verb or domain, or the engine refused.
        """
        verb = getattr(self, "do_" + str(request.get("verb")), None)
        if verb is None:
            raise HostError(f"the agent does not know '{request.get('verb')}': restart it after an update")
        arguments = {key: value for key, value in request.items() if key != "verb"}
        result: object = verb(**arguments)
        return result

    def do_create(self, name: str, replace: bool = False) -> object:
        """Opens a domain; with `replace`, closes one of that name that somebody left behind."""
        with self._lock:
            if name in self._domains and replace:
                self._domains.pop(name).close()
            if name in self._domains:
                raise HostError(
                    f"domain '{name}' exists already; destroy it first, or create it with --replace"
                )
            self._domains[name] = Domain()
            self._regions[name] = []
        return {"domain": name}

    def do_destroy(self, name: str) -> object:
        """Closes a domain."""
        with self._lock:
            self._domain(name).close()
            del self._domains[name], self._regions[name]
        return {"domain": name}

    def do_list(self) -> object:
        """Lists the domains and what was registered in them."""
        with self._lock:
            return [{"domain": name, "regions": list(self._regions[name])} for name in sorted(self._domains)]

    def do_add(self, name: str, pid: int, start: int, length: int, guest: str | None = None) -> object:
        """Registers a range of a process."""
        number = self._domain(name).add(pid, start, length)
        region: dict[str, Any] = {"region": number, "pid": pid, "start": start, "length": length}
        if guest is not None:
            region["guest"] = guest
        self._regions[name].append(region)
        return region

    def do_scan(self, name: str, passes: int) -> object:
        """Scans the whole domain; one result a pass."""
        if not 1 <= passes <= MAX_PASSES:
            raise HostError(f"--passes {passes} is not between 1 and {MAX_PASSES}")
        domain = self._domain(name)
        return [domain.scan() for _ in range(passes)]

    def do_stat(self, name: str) -> object:
        """Returns the domain's statistics and, in words, why pages of each of its regions are not merged."""
        domain = self._domain(name)
        regions = []
        for region in list(self._regions[name]):
            stat = _region_stat(domain, region)
            if stat is None:
                continue
            regions.append({**region, "pages": stat["pages_registered"], "reasons": not_merged(stat)})
        return {**domain.stat(), "not_merged": regions}

    def do_limit(self, name: str, unshare_bytes: int) -> object:
        """Limits what it may take to unshare the domain."""
        self._domain(name).limit(unshare_bytes)
        return {"domain": name, "unshare_limit": unshare_bytes}

    def do_describe(self) -> object:
        """Returns every domain with its statistics, and each region with its own; null once it has gone."""
        with self._lock:
            return [
                {
                    "domain": name,
                    "stat": domain.stat(),
                    "regions": [
                        region | {"stat": _region_stat(domain, region)} for region in self._regions[name]
                    ],
                }
                for name, domain in sorted(self._domains.items())
            ]

    def do_unmerge(self, name: str) -> object:
        """Gives every merged page its own copy."""
        return self._domain(name).unmerge()

    def _domain(self, name: str) -> Domain:
        if name not in self._domains:
            known = " ".join(sorted(self._domains)) or "none"
            raise HostError(f"no domain '{name}'; open are: {known} (mergelab-host domain create NAME)")
        return self._domains[name]


def _region_stat(domain: Domain, region: dict[str, Any]) -> dict[str, int] | None:
    try:
        return domain.stat(region["region"])
    except RefusedError as error:
        if error.code == errno.ENOENT:  # the engine drops the regions of a process that has exited
            return None
        raise


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        for line in self.rfile:
            try:
                answer = {"result": self.server.registry.handle(json.loads(line))}
            except HostError as error:
                answer = {"error": str(error)}
            except (TypeError, ValueError, OSError) as error:
                answer = {"error": f"the agent cannot do '{line.decode(errors='replace').strip()}': {error}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.registry = Registry()
        super().__init__(str(path), _Handler)


def serve(path: Path = AGENT_SOCKET) -> None:
    """Runs the agent until it is ended; tells systemd when it is ready (Type=notify).

    Raises:
        HostError: Another agent listens on the socket.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    if path.is_socket():
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise HostError(f"an agent listens on {path} already (systemctl status mergelab-agent)")
        path.unlink()
    with _Server(path) as server:
        path.chmod(0o600)
        try:
            _notify("READY=1")
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            path.unlink(missing_ok=True)


def ask(request: Request, path: Path = AGENT_SOCKET) -> object:
    """Sends one request to the agent and returns its result.

    Raises:
        HostError: No agent, or it refused.
    """
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise HostError(f"no agent listens on {path}: systemctl start mergelab-agent") from None
        except PermissionError:
            raise HostError(f"{path} is for root only: run as root") from None
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        raise HostError("the agent ended during the request: journalctl -u mergelab-agent")
    answer = json.loads(line)
    if "error" in answer:
        raise HostError(answer["error"])
    return answer["result"]


def add_guest(name: str, guest: str, from_gpa: int, length: int | None) -> object:
    """Registers a guest's RAM, or a part of it, in a domain."""
    ram = guests.ram(guest)
    start, size = ram.range(from_gpa, length)
    return ask({"verb": "add", "name": name, "pid": ram.pid, "start": start, "length": size, "guest": guest})


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notifier:
            notifier.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
