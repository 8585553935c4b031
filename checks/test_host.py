# SPDX-License-Identifier: GPL-2.0-only
"""The host is the one that was deployed, and the engine is in the state a qualification needs."""

from __future__ import annotations

from checks import Proving, Record
from mergelab.bench import TUNABLES, Bench
from mergelab.errors import MergelabError


def test_kernel_identity(claim: Proving, bench: Bench, record: Record) -> None:
    """Without it a run could qualify the kernel that happened to boot and not the one that was built."""
    with claim("kernel.identity", "The host runs the very kernel that this run built") as it:
        manifest = record("kernel/manifest.json")
        kernel = bench.do("facts")[0]["kernel"]
        it.expect(release=manifest["kernel_release"], build_id=manifest["build_id"])
        it.witness(
            "release", "uname says the release that was built", manifest["kernel_release"], kernel["release"]
        )
        it.witness(
            "build-id",
            "the build-id in the running kernel's notes is that of the image that was built",
            manifest["build_id"],
            kernel.get("build_id"),
        )


def test_kernel_boot(claim: Proving, bench: Bench, record: Record) -> None:
    """Without it a host that crashed and came back between deployment and checks would go unnoticed."""
    with claim("kernel.boot", "The host has not rebooted since the deployment was confirmed") as it:
        deploy = record(f"deploy/{bench.name}.json")
        it.expect(boot_id=deploy["new_boot_id"])
        kernel = bench.do("facts")[0]["kernel"]
        it.witness(
            "boot-id",
            "the boot id is that of the boot which was confirmed",
            deploy["new_boot_id"],
            kernel["boot_id"],
        )


def test_kernel_taint(claim: Proving, bench: Bench) -> None:
    """Without it an oops or a forced module before the checks would not count against the kernel."""
    with claim("kernel.taint", "The kernel is not tainted") as it:
        it.expect(taint=0)
        it.witness("taint", "/proc/sys/kernel/tainted", 0, bench.do("facts")[0]["kernel"]["taint"])


def test_module_state(claim: Proving, bench: Bench, record: Record) -> None:
    """Without it a module of an older build could be loaded and judged in place of this one."""
    with claim("module.state", "The merging module that this run built is loaded and idle") as it:
        manifest = record("kernel/manifest.json")
        built = manifest["modules"]["memmerge"]["srcversion"]
        it.expect(srcversion=built)
        module = bench.do("facts")[0]["modules"].get("memmerge", {})
        it.witness(
            "srcversion",
            "the loaded module's source version is that of the module which was built",
            built,
            module.get("srcversion", "not loaded"),
        )
        try:
            counters = bench.do("engine get")[0]
        except MergelabError:
            counters = {}
        missing = [name for name in TUNABLES if name not in counters]
        it.witness("sysfs", "every tunable is in /sys/kernel/mm/memmerge", "", " ".join(missing))
        it.witness("domains", "nobody else has a domain open", 0, counters.get("domains"), "domains")


def test_device_permissions(claim: Proving, bench: Bench) -> None:
    """Without it every user of the host could register memory, or QEMU's group could not."""
    with claim("device.permissions", "/dev/memmerge is for root and group kvm only") as it:
        it.expect(mode="0660", owner="root", group="kvm")
        device = bench.do("engine device")[0]
        it.witness("kind", "it is a character device", "character device", device["kind"])
        it.witness("mode", "its mode", "0660", device["mode"])
        it.witness("owner", "its owner", "root", device["owner"])
        it.witness("group", "its group", "kvm", device["group"])
