# SPDX-License-Identifier: GPL-2.0-only
"""Build a kernel once per set of inputs.

The inputs (source, patches, module, configuration, compiler) have one digest. ``kernels/<digest>/`` in the
cache holds what they make; while it is being made it is ``kernels/.<digest>.building/``, renamed when
complete, so that an interrupted build leaves nothing that looks like a finished one. A lock per digest lets
a second run wait.
"""

import contextlib
import fcntl
import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from mergelab.errors import MergelabError
from mergelab.files import write_atomically
from mergelab.kernel import config, patches, source
from mergelab.kernel.profile import Profile, fragments_for, load

RECIPE = 2
"""Changes when the same inputs would be built to something else."""

SYMBOLS = "Module.symvers"
"""What a kernel exports to modules."""

REPORT_SECONDS = 10
TAIL_LINES = 25

_OBJECT = re.compile(r"\s+(CC|AS|LD|AR|HOSTCC)\s.*\.o$|\s+CC \[M\]\s+\S+$")

_ERROR = re.compile(r"\berror:|undefined reference|\*\*\*", re.IGNORECASE)

Say = Callable[[str], None]
"""Shows one line of progress to whoever waits."""


@dataclass(frozen=True)
class Options:
    """What a build is made from.

    Attributes:
        kernel: the project's ``kernel`` folder.
        profile: name of the profile.
        source: tarball or git tree.
        cache: the cache's top folder.
        jobs: compilers at a time.
        base_config: configuration of the distribution; only for profiles whose base it is.
        extra_patches: applied after the series; a test uses it to build a kernel that does not come up.
    """

    kernel: Path
    profile: str
    source: Path
    cache: Path
    jobs: int
    base_config: Path | None = None
    extra_patches: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """Everything that decides what a kernel becomes."""

    profile: Profile
    version: str
    tree: Path
    fragments: tuple[Path, ...]
    patches: tuple[Path, ...]
    module: tuple[Path, ...]
    base_config: str
    record: dict[str, Any]
    digest: str


def default_cache() -> Path:
    """Give the cache's folder: ``${XDG_CACHE_HOME:-~/.cache}/mergelab``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mergelab"


def _tool_version(tool: str) -> str:
    try:
        done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MergelabError(f"{tool} does not run: {error}", "apt-get install build-essential") from error
    return done.stdout.splitlines()[0]


def _distribution_config(given: Path | None, release: str) -> tuple[str, str]:
    """Give text and name of the distribution's configuration for a kernel like ``6.12``."""
    packaged = Path(f"/usr/src/linux-config-{release}/config.amd64_none_amd64.xz")
    path = given or packaged
    if not path.is_file():
        raise MergelabError(
            f"the distribution's kernel configuration {path} does not exist",
            f"apt-get install linux-config-{release}, or give one (--base-config, kernel_build_base_config)",
        )
    data = path.read_bytes()
    text = (lzma.decompress(data) if path.suffix == ".xz" else data).decode()
    return text, path.name


def module_sources(folder: Path) -> list[Path]:
    """List the files of kernel/memmerge that belong to the module, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and (path.suffix in {".c", ".h"} or path.name in {"Kconfig", "Makefile"})
    )


def collect(options: Options, say: Say) -> Inputs:
    """Find all inputs of a build and their digest.

    Unpacks the source when the cache does not have it, as its version decides which patches belong to it.

    Raises:
        MergelabError: an input is missing or cannot be read.
    """
    profile = load(options.kernel / "config", options.profile)
    origin = source.find(options.source)
    sources = options.cache / "src"
    if not (sources / origin.digest[:20]).is_dir():
        require_disk(options.cache, 2)
        say(f"unpacks {origin.path.name}")
    tree = source.unpack(origin, sources)
    version = source.version(tree)
    release = ".".join(version.split(".")[:2])
    fragments = fragments_for(profile, release)
    series: list[Path] = []
    module: list[Path] = []
    if profile.patched:
        series = patches.series(options.kernel / "patches" / release)
        module = module_sources(options.kernel / "memmerge")
    for patch in options.extra_patches:
        if not patch.is_file():
            raise MergelabError(f"the extra patch {patch} does not exist", "check its path")
    series.extend(options.extra_patches)
    base, base_name = "", profile.base
    if profile.base == "distribution":
        base, base_name = _distribution_config(options.base_config, release)
    record: dict[str, Any] = {
        "recipe": RECIPE,
        "profile": profile.name,
        "arch": profile.arch,
        "version": version,
        "source": {"kind": origin.kind, "name": origin.path.name, "digest": origin.digest},
        "patches": [{"name": patch.name, "sha256": source.file_digest(patch)} for patch in series],
        "module": [
            {"name": str(file.relative_to(options.kernel / "memmerge")), "sha256": source.file_digest(file)}
            for file in module
        ],
        "configuration": {
            "base": base_name,
            "base_sha256": hashlib.sha256(base.encode()).hexdigest() if base else None,
            "fragments": [
                {"name": fragment.stem, "sha256": source.file_digest(fragment)} for fragment in fragments
            ],
        },
        "output": profile.output,
        "compiler": _tool_version("gcc"),
        "linker": _tool_version("ld"),
    }
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    return Inputs(profile, version, tree, fragments, tuple(series), tuple(module), base, record, digest)


def require_disk(folder: Path, gib: int) -> None:
    """Refuse to start what would fill the disk.

    Raises:
        MergelabError: the file system of folder has less than gib GiB free.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / 2**30
    if free < gib:
        raise MergelabError(
            f"{folder} has {free:.1f} GiB free; this needs {gib}",
            "free some space, or set XDG_CACHE_HOME to a larger disk",
        )


@contextlib.contextmanager
def _locked(path: Path, what: str, say: Say) -> Iterator[TextIO]:
    """Hold a lock file; who has to wait is told for whom: the run that builds ``what``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            say(f"waits for the run that builds {what} (process {lock.read().strip() or 'unknown'})")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield lock


def _sweep(kernels: Path) -> None:
    """Remove what builds left that were killed: their folders, unless a run holds their lock."""
    for work in kernels.glob(".*.building"):
        with work.with_suffix(".lock").open("a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(work, ignore_errors=True)


def prepare(inputs: Inputs, kernel: Path, tree: Path) -> None:
    """Make a source tree with the module and the patches in it.

    The unpacked source is hard-linked, not copied; patching replaces files and so leaves it as it is.

    Args:
        inputs: from `collect`.
        kernel: the project's kernel folder.
        tree: must not exist yet.

    Raises:
        MergelabError: a patch does not apply.
    """
    try:
        shutil.copytree(inputs.tree, tree, symlinks=True, copy_function=os.link)
    except (shutil.Error, OSError):  # another file system: a real copy
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(inputs.tree, tree, symlinks=True)
    for file in inputs.module:
        target = tree / "mm/memmerge" / file.relative_to(kernel / "memmerge")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        if file.name == "memmerge.h":
            shutil.copyfile(file, tree / "include/uapi/linux/memmerge.h")
    patches.apply(tree, list(inputs.patches))


def environment(options: Options, inputs: Inputs, tree: Path) -> dict[str, str]:
    """Give the environment of make: what differs from machine to machine is fixed, ccache is in front."""
    epoch = int((inputs.tree / "Makefile").stat().st_mtime)
    kept = {key: os.environ[key] for key in ("HOME", "PATH", "TMPDIR") if key in os.environ}
    return kept | {
        "PATH": "/usr/lib/ccache:" + kept.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "LANG": "C.UTF-8",
        "ARCH": inputs.profile.arch,
        "CCACHE_DIR": str(options.cache / "ccache"),
        "CCACHE_BASEDIR": str(tree.parent),
        "CCACHE_NOHASHDIR": "1",
        "KBUILD_BUILD_TIMESTAMP": f"@{epoch}",
        "KBUILD_BUILD_USER": "mergelab",
        "KBUILD_BUILD_HOST": "mergelab",
        "KBUILD_BUILD_VERSION": "1",
        "SOURCE_DATE_EPOCH": str(epoch),
        "LOCALVERSION": f"-mergelab-{inputs.digest[:8]}",
        "KDEB_PKGVERSION": f"{inputs.version}-1",
        "KDEB_CHANGELOG_DIST": "stable",
        "KDEB_COMPRESS": "zstd",
        "DEBEMAIL": "mergelab@localhost",
        "DEBFULLNAME": "mergelab",
        "DEB_BUILD_OPTIONS": "terse",
        "DEB_BUILD_PROFILES": "pkg.linux-upstream.nokernelheaders pkg.linux-upstream.nokerneldbg",
    }


class _Runner:
    """Runs the steps of a build: output to the log, progress now and then, the log's end in an error."""

    def __init__(
        self, log: Path, env: dict[str, str], say: Say, lock: TextIO | None = None, about: int | None = None
    ) -> None:
        self.log = log
        self.env = env
        self.say = say
        self.held = (lock.fileno(),) if lock else ()
        self.about = about
        self.objects = 0
        self.seconds: dict[str, float] = {}

    def run(self, phase: str, command: list[str], folder: Path) -> None:
        """Run one command.

        The command dies with this process and holds the lock as long as it lives.

        Raises:
            MergelabError: it failed; names the log and shows its last lines.
        """
        started = shown = time.monotonic()
        self.say(f"{phase} …")
        with self.log.open("a", encoding="utf-8", buffering=1) as log:
            log.write(f"\n== {phase}: {' '.join(command)}\n")
            log.flush()
            with subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "nice", "-n", "10", *command],
                cwd=folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=self.held,
                text=True,
                errors="replace",
            ) as child:
                if child.stdout is None:
                    raise AssertionError("stdout is a pipe")
                try:
                    for line in child.stdout:
                        log.write(line)
                        if _OBJECT.match(line):
                            self.objects += 1
                        now = time.monotonic()
                        if now - shown >= REPORT_SECONDS:
                            shown = now
                            self.say(self._line(phase, now - started))
                except BaseException:
                    child.terminate()
                    child.wait()  # or it would go on in the folder that is removed now
                    raise
        self.seconds[phase] = round(time.monotonic() - started, 1)
        if child.returncode:
            raise MergelabError(
                f"{phase} failed (make ended with {child.returncode}); its whole output is {self.log}; "
                f"the end of it:\n{self._tail()}",
                "mend what the first 'error:' line names, then start again; nothing has to be cleaned up",
            )

    def _line(self, phase: str, seconds: float) -> str:
        objects = f"{self.objects} objects" if self.objects else ""
        if objects and self.about:
            objects = f"{self.objects} of about {max(self.about, self.objects)} objects"
        minutes, rest = divmod(int(seconds), 60)
        return f"{phase} {objects} {minutes}:{rest:02}".replace("  ", " ")

    def _tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if _ERROR.search(line)]
        shown = [line for line in errors[:5] if line not in lines[-TAIL_LINES:]]
        return "\n".join(f"  | {line}" for line in [*shown, *lines[-TAIL_LINES:]])


def _expected_objects(kernels: Path, profile: str) -> int | None:
    """Ask the newest finished build of the same profile how many objects it had."""
    newest: tuple[float, int] | None = None
    for path in kernels.glob("*/manifest.json"):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["profile"] == profile:
            newest = max(newest or (0.0, 0), (path.stat().st_mtime, int(manifest["build"]["objects"])))
    return newest[1] if newest else None


def configure(inputs: Inputs, tree: Path, build: Path, runner: _Runner) -> None:
    """Merge base and fragments with the kernel's own script, then check that nothing was dropped."""
    base = []
    if inputs.base_config:
        (build / "base.config").write_text(inputs.base_config, encoding="utf-8")
        base = [str(build / "base.config")]
    command = ["scripts/kconfig/merge_config.sh", "-O", str(build)]
    if inputs.profile.base == "allnoconfig":
        command.append("-n")
    runner.run("configure", [*command, *base, *map(str, inputs.fragments)], tree)
    texts = [(fragment.name, fragment.read_text(encoding="utf-8")) for fragment in inputs.fragments]
    config.check(texts, (build / ".config").read_text(encoding="utf-8"), tree)


def prepare_configured(options: Options, inputs: Inputs, tree: Path, say: Say) -> None:
    """Make a source tree as it is built, configured in its folder ``build``, for tools that need one.

    Args:
        options: as for `build`.
        inputs: from `collect`.
        tree: must not exist yet; the caller owns it.
        say: shows progress.

    Raises:
        MergelabError: a patch does not apply, or a config symbol was dropped.
    """
    prepare(inputs, options.kernel, tree)
    folder = tree / "build"
    folder.mkdir()
    runner = _Runner(folder / "configure.log", environment(options, inputs, tree), say)
    configure(inputs, tree, folder, runner)


def prepare_for_modules(options: Options, tree: Path, say: Say) -> None:
    """Make a source tree like `prepare_configured`, ready for modules outside of it.

    ``make -C tree/build M=...`` makes them for the kernel that `build` gives. That is built first, as it
    alone knows which symbols it exports.

    Args:
        options: as for `build`; the profile's kernel has modules.
        tree: must not exist yet; the caller owns it.
        say: shows progress.

    Raises:
        MergelabError: as `build`, or the profile's kernel has no modules.
    """
    symbols = build(options, say) / SYMBOLS
    if not symbols.is_file():
        raise MergelabError(
            f"the kernel of profile {options.profile} takes no modules",
            "use a profile whose output is not an image",
        )
    inputs = collect(options, say)
    prepare_configured(options, inputs, tree, say)
    runner = _Runner(tree / "build/configure.log", environment(options, inputs, tree), say)
    runner.run("headers", ["make", "-C", str(tree), "O=build", f"-j{options.jobs}", "modules_prepare"], tree)
    shutil.copy(symbols, tree / "build" / SYMBOLS)


def _build_id(vmlinux: Path) -> str | None:
    done = subprocess.run(["readelf", "-n", str(vmlinux)], capture_output=True, text=True, check=True)
    match = re.search(r"Build ID: ([0-9a-f]+)", done.stdout)
    return match[1] if match else None


def _modinfo(module: Path, name: str) -> str:
    command = ["/sbin/modinfo", "-F", name, str(module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _compile(options: Options, inputs: Inputs, tree: Path, result: Path, runner: _Runner) -> None:
    """Build the profile's output and move it into result."""
    build = tree / "build"
    make = ["make", "-C", str(tree), "O=build", f"-j{options.jobs}"]
    match inputs.profile.output:
        case "packages":
            runner.run("build", [*make, "bindeb-pkg", "DPKG_FLAGS=-d"], tree)
            for package in tree.glob("linux-image-*.deb"):
                shutil.move(package, result / package.name)
        case "image":
            runner.run("build", [*make, "bzImage"], tree)
            shutil.copy(build / "arch/x86/boot/bzImage", result / "bzImage")
        case "program":
            runner.run("build", [*make, "all"], tree)
            runner.run("modules", [*make, "modules_install", f"INSTALL_MOD_PATH={result / 'modules'}"], tree)
            for name in ("build", "source"):  # both point into the tree, the second one in 6.1 only
                for link in (result / "modules").glob(f"lib/modules/*/{name}"):
                    link.unlink()
            shutil.copy(build / "linux", result / "linux")
    if inputs.profile.output != "image":
        shutil.copy(build / SYMBOLS, result / SYMBOLS)
    shutil.copy(build / ".config", result / "config")
    shutil.copy(build / "System.map", result / "System.map")


def _manifest(inputs: Inputs, tree: Path, result: Path, runner: _Runner) -> dict[str, Any]:
    build = tree / "build"
    modules = {}
    for name in ("memmerge",):
        if (found := build / f"mm/memmerge/{name}.ko").is_file():
            modules[name] = {"srcversion": _modinfo(found, "srcversion")}
    packages = []
    for package in sorted(result.glob("*.deb")):
        show = subprocess.run(
            ["dpkg-deb", "--show", "--showformat=${Package} ${Version}", str(package)],
            capture_output=True,
            text=True,
            check=True,
        )
        name, version = show.stdout.split()
        packages.append(
            {
                "name": name,
                "version": version,
                "file": package.name,
                "bytes": package.stat().st_size,
                "sha256": source.file_digest(package),
            }
        )
    final = (result / "config").read_text(encoding="utf-8")
    return {
        "schema": 1,
        "digest": inputs.digest,
        **inputs.record,
        "kernel_release": (build / "include/config/kernel.release").read_text(encoding="utf-8").strip(),
        "build_id": _build_id(build / "vmlinux"),
        "config": {
            "sha256": hashlib.sha256(final.encode()).hexdigest(),
            "options": sum(value in ("y", "m") for value in config.parse(final).values()),
        },
        "modules": modules,
        "packages": packages,
        "files": {
            file.name: source.file_digest(file)
            for file in sorted(result.iterdir())
            if file.name in ("bzImage", "linux", "System.map", "config", SYMBOLS)
        },
        "build": {"objects": runner.objects, "seconds": runner.seconds},
    }


def cached(options: Options, say: Say) -> Path | None:
    """Find a kernel in the cache.

    Args:
        options: what it is built from.
        say: shows progress.

    Returns:
        its folder; None when it has not been built yet.

    Raises:
        MergelabError: an input is missing or cannot be read.
    """
    inputs = collect(options, say)
    result = options.cache / "kernels" / inputs.digest
    if not (result / "manifest.json").is_file():
        return None
    say(f"kernel {inputs.profile.name} {inputs.digest} is in the cache")
    return result


def build(options: Options, say: Say) -> Path:
    """Build a kernel, or find it in the cache.

    Args:
        options: what to build from.
        say: shows progress, a line at a time.

    Returns:
        ``kernels/<digest>``, with manifest.json, config, System.map, build.log, Module.symvers (unless the
        output is an image) and the output: linux-image-*.deb, bzImage, or linux and modules/.

    Raises:
        MergelabError: an input is missing, a patch does not apply, a config symbol was dropped, the disk is
            too small, or the compiler failed. Nothing is left behind but the log of the failed build.
    """
    inputs = collect(options, say)
    kernels = options.cache / "kernels"
    result = kernels / inputs.digest
    name = f"kernel {inputs.profile.name} {inputs.digest}"
    if (result / "manifest.json").is_file():
        say(f"{name} is in the cache")
        return result
    _sweep(kernels)
    with (
        _locked(kernels / f".{inputs.digest}.lock", "the same kernel", say) as lock,
        # One build keeps all processors busy; the next one finds what it compiled in the compiler's cache.
        _locked(kernels / ".compiling.lock", "another kernel", say),
    ):
        if (result / "manifest.json").is_file():
            say(f"{name} is in the cache")
            return result
        require_disk(options.cache, inputs.profile.disk_gib)
        work = kernels / f".{inputs.digest}.building"
        say(f"{name}: Linux {inputs.version}, {len(inputs.patches)} patches, {options.jobs} jobs")
        failed_log = kernels / f".{inputs.digest}.failed.log"
        failed_log.unlink(missing_ok=True)
        try:
            output = work / "result"
            output.mkdir(parents=True)
            tree = work / "tree"
            prepare(inputs, options.kernel, tree)
            (tree / "build").mkdir()
            runner = _Runner(
                output / "build.log",
                environment(options, inputs, tree),
                lambda line: say(f"kernel {inputs.profile.name}: {line}"),
                lock,
                _expected_objects(kernels, inputs.profile.name),
            )
            try:
                configure(inputs, tree, tree / "build", runner)
                _compile(options, inputs, tree, output, runner)
            except MergelabError as error:
                if (output / "build.log").is_file():
                    shutil.move(output / "build.log", failed_log)
                raise MergelabError(
                    error.cause.replace(str(output / "build.log"), str(failed_log)), error.fix
                ) from error
            manifest = _manifest(inputs, tree, output, runner)
            write_atomically(output / "manifest.json", json.dumps(manifest, indent=2) + "\n")
            os.sync()
            output.rename(result)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    say(f"{name}: {manifest['kernel_release']}, {sum(runner.seconds.values()):.0f} s")
    return result


def default_jobs() -> int:
    """Give one job per processor that this process may use."""
    return len(os.sched_getaffinity(0))


def say_on_stderr(line: str) -> None:
    """Show progress on the terminal, apart from what a command prints as its result."""
    print(line, file=sys.stderr, flush=True)
