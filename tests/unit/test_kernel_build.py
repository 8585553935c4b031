# SPDX-License-Identifier: GPL-2.0-only
"""Sources, patches, digests and the cache of kernels, without building one."""

from __future__ import annotations

import dataclasses
import fcntl
import subprocess
from pathlib import Path

import pytest

from mergelab.errors import MergelabError
from mergelab.kernel import build, patches, source

MAKEFILE = "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 3\nEXTRAVERSION =\n"
PATCH = """--- a/mm/ksm.c
+++ b/mm/ksm.c
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
"""


def make_tree(folder: Path) -> Path:
    """Make what looks like a kernel source, as far as these functions look."""
    tree = folder / "linux-6.12.3"
    for name, text in (
        ("Makefile", MAKEFILE),
        ("mm/ksm.c", "one\ntwo\nthree\n"),
        ("scripts/kconfig/merge_config.sh", "#!/bin/sh\n"),
        ("include/uapi/linux/ksm.h", "\n"),
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    return tree


def make_tarball(folder: Path) -> Path:
    """Pack such a tree."""
    tree = make_tree(folder)
    path = folder / "linux.tar.xz"
    subprocess.run(["tar", "-cJf", path, "-C", folder, tree.name], check=True)
    return path


@pytest.fixture
def options(tmp_path: Path) -> build.Options:
    """A project with one patch and a module, a source, and an empty cache."""
    kernel = tmp_path / "kernel"
    for name, text in (
        ("config/profiles/mine.toml", None),
        ("config/a.config", "CONFIG_A=y\n"),
        ("config/a.6.12.config", "CONFIG_A=n\n"),
        ("patches/6.12/series", "# heading\n\n0001-two.patch # why\n"),
        ("patches/6.12/0001-two.patch", PATCH),
        ("memmerge/main.c", "int main;\n"),
        ("memmerge/memmerge.h", "/* abi */\n"),
        ("memmerge/notes.txt", "not part of it\n"),
    ):
        (kernel / name).parent.mkdir(parents=True, exist_ok=True)
        (kernel / name).write_text(
            text
            or 'arch = "um"\nbase = "allnoconfig"\nfragments = ["a"]\npatched = true\n'
            'output = "program"\ndisk_gib = 0\n'
        )
    return build.Options(
        kernel=kernel,
        profile="mine",
        source=make_tarball(tmp_path),
        cache=tmp_path / "cache",
        jobs=1,
    )


def quiet(_: str) -> None:
    """Progress that nobody watches."""


def test_source_is_unpacked_once(tmp_path: Path) -> None:
    """Two runs with one source share one tree."""
    origin = source.find(make_tarball(tmp_path))
    tree = source.unpack(origin, tmp_path / "src")
    assert source.version(tree) == "6.12.3"
    (tree / "marker").touch()
    assert (source.unpack(origin, tmp_path / "src") / "marker").exists()
    assert [path.name for path in (tmp_path / "src").iterdir()] == [tree.name]


def test_git_tree_is_a_source(tmp_path: Path) -> None:
    """A git tree is named by its content; uncommitted changes have no name."""
    tree = make_tree(tmp_path)
    git = ["git", "-C", str(tree), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "import"], check=True)
    unpacked = source.unpack(source.find(tree), tmp_path / "src")
    assert (unpacked / "mm/ksm.c").read_text() == "one\ntwo\nthree\n"
    (tree / "mm/ksm.c").write_text("changed\n")
    with pytest.raises(MergelabError, match="uncommitted"):
        source.find(tree)


def test_missing_source_names_the_package() -> None:
    """On a fresh Debian the default source is one package away."""
    with pytest.raises(MergelabError, match="kernel_build_source"):
        source.find(Path("/nonexistent/linux.tar.xz"))
    with pytest.raises(MergelabError, match=r"apt-get install linux-source-0\.1, or"):
        source.find(source.debian("0.1"))


def test_source_that_is_no_kernel(tmp_path: Path) -> None:
    """Another tarball is refused and leaves nothing in the cache."""
    (tmp_path / "other").mkdir()
    subprocess.run(["tar", "-cf", tmp_path / "other.tar", "-C", tmp_path, "other"], check=True)
    with pytest.raises(MergelabError, match="not a kernel source"):
        source.unpack(source.find(tmp_path / "other.tar"), tmp_path / "src")
    assert list((tmp_path / "src").iterdir()) == []


def test_broken_tarball(tmp_path: Path) -> None:
    """Half a download is refused and leaves nothing in the cache."""
    whole = make_tarball(tmp_path).read_bytes()
    (tmp_path / "half.tar.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MergelabError, match="cannot be unpacked"):
        source.unpack(source.find(tmp_path / "half.tar.xz"), tmp_path / "src")
    assert list((tmp_path / "src").iterdir()) == []


def test_prepare_patches_a_copy(options: build.Options, tmp_path: Path) -> None:
    """The cached source is shared by hard links: patching the tree must not reach it."""
    inputs = build.collect(options, quiet)
    build.prepare(inputs, options.kernel, tmp_path / "tree")
    assert (tmp_path / "tree/mm/ksm.c").read_text() == "one\nTWO\nthree\n"
    assert (inputs.tree / "mm/ksm.c").read_text() == "one\ntwo\nthree\n"
    assert (tmp_path / "tree/mm/memmerge/main.c").exists()
    assert (tmp_path / "tree/include/uapi/linux/memmerge.h").read_text() == "/* abi */\n"
    assert not (tmp_path / "tree/mm/memmerge/notes.txt").exists()


def test_patch_that_does_not_apply(options: build.Options, tmp_path: Path) -> None:
    """The message names the patch, the hunk and the file."""
    inputs = build.collect(options, quiet)
    (options.kernel / "patches/6.12/0001-two.patch").write_text(PATCH.replace("-two", "-2"))
    with pytest.raises(MergelabError, match=r"0001-two\.patch.*hunk 1 of mm/ksm\.c, at line 1"):
        build.prepare(inputs, options.kernel, tmp_path / "tree")


def test_patch_of_a_missing_file(options: build.Options, tmp_path: Path) -> None:
    """A patch for another release often changes a file that is not there."""
    inputs = build.collect(options, quiet)
    (options.kernel / "patches/6.12/0001-two.patch").write_text(PATCH.replace("ksm.c", "gone.c"))
    with pytest.raises(MergelabError, match="a file that it changes does not exist"):
        build.prepare(inputs, options.kernel, tmp_path / "tree")


def test_release_without_series(tmp_path: Path) -> None:
    """The message lists the releases that there are patches for."""
    (tmp_path / "6.12").mkdir()
    (tmp_path / "6.12/series").touch()
    with pytest.raises(MergelabError, match=r"Linux 6\.13.*\n.*6\.12"):
        patches.series(tmp_path / "6.13")


def test_series_with_a_missing_patch(options: build.Options) -> None:
    """A patch that was not committed is found before the build."""
    (options.kernel / "patches/6.12/series").write_text("0002-none.patch\n")
    with pytest.raises(MergelabError, match=r"0002-none\.patch"):
        build.collect(options, quiet)


@pytest.mark.parametrize(
    "changed",
    [
        "config/a.config",
        "config/a.6.12.config",
        "config/profiles/mine.toml",
        "patches/6.12/0001-two.patch",
        "memmerge/main.c",
    ],
)
def test_every_input_counts(options: build.Options, changed: str) -> None:
    """An input outside the digest would let a stale kernel pass for the new one."""
    before = build.collect(options, quiet).digest
    path = options.kernel / changed
    path.write_text(
        path.read_text().replace("disk_gib", "output = 'image'\ndisk_gib").replace('output = "program"\n', "")
        + "\n"
    )
    assert build.collect(options, quiet).digest != before


def test_extra_patch_counts(options: build.Options, tmp_path: Path) -> None:
    """A kernel with a patch of a test must not take the place of the real one."""
    (tmp_path / "extra.patch").write_text(PATCH)
    more = dataclasses.replace(options, extra_patches=(tmp_path / "extra.patch",))
    assert build.collect(more, quiet).digest != build.collect(options, quiet).digest


def test_what_is_no_input_does_not_count(options: build.Options) -> None:
    """Notes beside the module and the number of jobs build the same kernel."""
    before = build.collect(options, quiet).digest
    (options.kernel / "memmerge/notes.txt").write_text("more\n")
    assert build.collect(dataclasses.replace(options, jobs=7), quiet).digest == before


def test_missing_distribution_config(options: build.Options, tmp_path: Path) -> None:
    """Profile metal needs the distribution's configuration; the message says where it comes from."""
    path = options.kernel / "config/profiles/mine.toml"
    path.write_text(path.read_text().replace("allnoconfig", "distribution"))
    missing = dataclasses.replace(options, base_config=tmp_path / "none")
    with pytest.raises(MergelabError, match=r"linux-config-6\.12"):
        build.collect(missing, quiet)


def test_too_small_a_disk(tmp_path: Path) -> None:
    """A disk that fills up after ten minutes is better refused at once."""
    with pytest.raises(MergelabError, match="GiB free"):
        build.require_disk(tmp_path, 10**9)


def test_failed_build_leaves_its_log_only(options: build.Options) -> None:
    """What fails half-way must not look like a kernel; its output stays readable."""
    said: list[str] = []
    with pytest.raises(MergelabError, match="failed") as error:  # the source has no real merge_config.sh
        build.build(options, said.append)
    kernels = options.cache / "kernels"
    digest = build.collect(options, quiet).digest
    assert {path.name for path in kernels.iterdir()} == {
        f".{digest}.lock",
        ".compiling.lock",
        f".{digest}.failed.log",
    }
    assert f".{digest}.failed.log" in str(error.value)
    assert build.cached(options, quiet) is None


def test_one_kernel_is_built_at_a_time(options: build.Options) -> None:
    """Two at once would each compile what the other compiles; the second is told what it waits for."""
    kernels = options.cache / "kernels"
    kernels.mkdir(parents=True)
    said: list[str] = []
    with (kernels / ".compiling.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def say(line: str) -> None:
            said.append(line)
            if "waits" in line:
                fcntl.flock(lock, fcntl.LOCK_UN)

        with pytest.raises(MergelabError):  # the source has no real merge_config.sh
            build.build(options, say)
    assert [line for line in said if line.startswith("waits for the run that builds another kernel")]


def test_leftovers_of_a_killed_build_go(options: build.Options) -> None:
    """A build that was killed must not fill the disk for ever; one that runs must not lose its folder."""
    kernels = options.cache / "kernels"
    for name in ("dead", "alive"):
        (kernels / f".{name}.building/tree").mkdir(parents=True)
    with (kernels / ".alive.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(MergelabError):
            build.build(options, quiet)
    assert [path.name for path in kernels.glob(".*.building")] == [".alive.building"]


def test_finished_kernel_is_found(options: build.Options) -> None:
    """The same inputs are never built twice."""
    digest = build.collect(options, quiet).digest
    finished = options.cache / "kernels" / digest
    finished.mkdir(parents=True)
    (finished / "manifest.json").write_text("{}")
    said: list[str] = []
    assert build.build(options, said.append) == finished
    assert said == [f"kernel mine {digest} is in the cache"]
