# SPDX-License-Identifier: GPL-2.0-only
"""The manual and the completion of memmergectl against its parser, and the completion in a real bash."""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

import pytest

from mergelab.ctl import cli
from mergelab.ctl.files import FILES
from tests.faked import Host

FILES_OF_ROLE = Path(__file__).parents[2] / "roles" / "memmerge" / "files"
MANUAL = FILES_OF_ROLE / "memmergectl.8"
COMPLETION = FILES_OF_ROLE / "completions" / "memmergectl"


def verbs() -> dict[str, argparse.ArgumentParser]:
    """The parser of every verb."""
    actions = cli.parser()._actions
    found = next(action for action in actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def options(verb: argparse.ArgumentParser) -> set[str]:
    """The long options of a verb."""
    return {word for action in verb._actions for word in action.option_strings if word.startswith("--")}


each_verb = pytest.mark.parametrize("verb", verbs())


def manual(verb: str) -> str:
    """What the manual says below the heading of a verb, without the marks of its format."""
    commands = re.search(r"^\.SH COMMANDS\n(.*?)^\.SH ", MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    assert commands is not None
    parts = re.split(r"^\.SS ", commands[1], flags=re.MULTILINE)[1:]
    return next(part for part in map(plain, parts) if part.split()[0] == verb)


def plain(text: str) -> str:
    """Takes the marks of the format away."""
    return re.sub(r'\\f[BIRP]|"|^\.[A-Z]+ ', "", text.replace(r"\-", "-"), flags=re.MULTILINE)


def complete(host: Host, *words: str) -> list[str]:
    """What bash offers for the last of some words, on a host below a root."""
    script = COMPLETION.read_text()
    for place in ("/sys/", "/run/", "/var/", "/proc/"):
        script = script.replace(f" {place}", f" {host.root}{place}").replace(
            f"<{place}", f"<{host.root}{place}"
        )
    line = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _memmergectl; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{line}", "memmergectl", "memmergectl", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1] if done.stdout != "\n" else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with the engine."""
    return Host(tmp_path)


def test_the_manual_has_every_verb_and_no_other() -> None:
    """A verb that the manual lacks is found by chance only."""
    headings = re.findall(r"^\.SS \\fB(\w+)", MANUAL.read_text(), re.MULTILINE)
    assert headings == list(verbs())


@each_verb
def test_the_manual_has_every_option(verb: str) -> None:
    """What all verbs have is explained once, before them."""
    common = plain(MANUAL.read_text().partition(".SH COMMANDS")[0])
    assert {"--json", "--help"} <= set(re.findall(r"--[a-z]+", common))
    assert set(re.findall(r"--[a-z]+", manual(verb))) == options(verbs()[verb]) - {"--json", "--help"}


def test_the_manual_has_every_exit_status() -> None:
    """Scripts depend on them."""
    section = MANUAL.read_text().partition('.SH "EXIT STATUS"')[2].partition(".SH FILES")[0]
    found = {int(number) for number in re.findall(r"^(\d+)$", section, re.MULTILINE)}
    assert found == {0, cli.FAILED, cli.USAGE, cli.NOT_LOADED, cli.INTERRUPTED}


def test_the_manual_renders_without_a_warning() -> None:
    """An unknown macro would swallow a line."""
    command = ["groff", "-man", "-Tutf8", "-ww", "-rLL=100n", "-z", str(MANUAL)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_completion_of_verbs(host: Host) -> None:
    """All of them, and those that begin alike."""
    assert complete(host, "") == [*verbs(), "--help"]
    assert complete(host, "sta") == ["status", "start"]


@each_verb
def test_completion_of_options(host: Host, verb: str) -> None:
    """Those of the verb."""
    assert set(complete(host, verb, "--")) == options(verbs()[verb])


def test_completion_of_files(host: Host) -> None:
    """What this module has, whether the command knows it or not; tunables for set."""
    host.write("shiny_new", "1")
    for name in FILES:
        (host.engine / name).chmod(0o644 if FILES[name].writable else 0o444)
    assert set(complete(host, "show", "")) == {*FILES, "shiny_new"}
    assert complete(host, "show", "run", "unsh") == [
        "unshare_demand",
        "unshare_limit",
        "unshare_limit_percent",
        "unshare_supply",
    ]
    assert set(complete(host, "set", "")) == {
        f"{n}=" for n in (*FILES, "shiny_new") if n not in FILES or FILES[n].writable
    }
    assert complete(host, "set", "run", "=", "0", "sl") == ["sleep_millisecs="]


def test_completion_of_values(host: Host) -> None:
    """What a file may be, or what it is."""
    assert complete(host, "set", "run", "=") == ["0", "1", "2"]
    assert complete(host, "set", "pages_to_scan", "=") == ["1000"]
    assert complete(host, "set", "pages_to_scan", "=", "1") == ["1000"]
    assert complete(host, "set", "pages_to_scan", "=", "2") == []
    assert complete(host, "set", "engine", "=", "m") == ["memmerge"]
    assert complete(host, "engine", "") == ["ksm", "memmerge"]


def test_completion_of_guests_and_processes(host: Host) -> None:
    """A guest's name is not run, whatever it holds."""
    for name in ("web1", "web2", "$(touch pwned)"):
        host.put(f"run/libvirt/qemu/{name}.xml", "")
    host.put("var/lib/mergelab/guests/plain-a/plain.json", "{}")
    assert complete(host, "process", "--guest", "web") == ["web1", "web2"]
    assert set(complete(host, "process", "--guest", "")) == {"web1", "web2", "$(touch pwned)", "plain-a"}
    assert complete(host, "process", "47") == ["4711"]


def test_completion_without_the_module(host: Host) -> None:
    """It offers nothing, and says nothing into the line that is being typed."""
    host.unload()
    for words in (("show", ""), ("set", ""), ("set", "run", "=", ""), ("engine", "")):
        assert complete(host, *words) in ([], ["0", "1", "2"])
