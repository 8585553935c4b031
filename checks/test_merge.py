# SPDX-License-Identifier: GPL-2.0-only
"""Equal pages become one, different pages never do."""

from __future__ import annotations

from checks import Guests, Proving
from checks.merging import Merged, content, engine, memory, merge
from mergelab.bench import Bench, Group


def test_identical(claim: Proving, guests: Guests, merge_guests: int, merge_pages: int) -> None:
    """Without it nobody knows that the engine merges at all, nor that its counters tell the truth."""
    with claim("merge.identical", "Pages of equal content in different guests become one page each") as it:
        scene = it.scene(guests().take(merge_guests), merge_pages)
        others = (merge_guests - 1) * merge_pages
        after = merge(it, scene, "seed:0x1de", Merged(merge_pages, others, 0, merge_pages))
        it.witness("pages", "page i of every guest is one frame", merge_pages, after.pages["same"], "pages")


def test_zero(claim: Proving, guests: Guests, merge_guests: int, merge_pages: int) -> None:
    """Without it memory that a starting guest has zeroed would stay allocated, the RFC's main case."""
    with claim("merge.zero", "Pages of zeroes map the kernel's zero page and cost nothing") as it:
        scene = it.scene(guests().take(merge_guests), merge_pages)
        merge(it, scene, "zero", Merged(0, 0, scene.total, 1))


def test_plain(claim: Proving, bench: Bench, merge_pages: int) -> None:
    """Without it merging could depend on KVM, while any process may register its memory."""
    with claim("merge.plain", "Pages of equal content in plain processes become one page each") as it:
        names = ("plain-a", "plain-b")
        try:
            bench.do(*[f"plain start {name} --pages {merge_pages}" for name in names])
            scene = it.scene(Group(names, 0, merge_pages), merge_pages)
            after = merge(it, scene, "seed:0x91a1", Merged(merge_pages, merge_pages, 0, merge_pages))
            it.witness(
                "pages", "page i of both processes is one frame", merge_pages, after.pages["same"], "pages"
            )
        finally:
            listed = {entry["name"] for entry in bench.do("guest list")[0]}
            stops = [f"plain stop {name}" for name in names if name in listed]
            if stops:
                bench.do(*stops)


def test_near(claim: Proving, guests: Guests) -> None:
    """Without it an engine that compares less than the whole page, or trusts a hash, would go unnoticed."""
    with claim("merge.near", "Pages that differ in a few bytes are neither merged nor changed") as it:
        group = guests().take(1)
        fills = []
        first = 0
        for seed, (kind, count) in enumerate(
            (("last-byte", 255), ("last-word", 512), ("last-21", 512), ("last-96", 512), ("mid-bit", 2)),
            start=0x4EA2,
        ):
            fills.append((first, count, f"near:{seed:#x}:{kind}"))
            first += count
        twins = 256
        fills.append((first, twins, "same:0x2015"))
        near, total = first, first + twins
        scene = it.scene(group, total)
        expected = Merged(1, twins - 1, 0, near + 1)
        it.expect(
            pages_near=near,
            pages_equal=twins,
            pages_shared=1,
            pages_sharing=twins - 1,
            distinct_frames=near + 1,
        )
        lines = [f"{first} {count} {pattern}" for first, count, pattern in fills]
        values = it.bench.do(
            *scene.setup,
            group.call(*[f"fill {line}" for line in lines]),
            *scene.look,
            scene.scan(),
            *scene.look,
            group.call(*[f"verify {line}" for line in lines]),
            f"pages {group.options} --count {near}",
        )
        before, after = scene.view(values[4:7]), scene.view(values[8:11])
        it.control("scanned", "the engine looked at every page", after.stat["scanned"] >= total)
        it.control(
            "equal pages",
            "in the same scan, equal pages were merged",
            after.stat["pages_sharing"] >= twins - 1,
        )
        engine(it, after, expected)
        it.witness("pages", "frames that the near-duplicates map", near, values[-1]["distinct"], "frames")
        it.witness(
            "pages",
            "near-duplicates that are alone in their frame",
            near,
            values[-1]["ranges"][0]["exclusive"],
            "pages",
        )
        it.witness("pages", "frames that all pages map", near + 1, after.pages["distinct"], "frames")
        memory(it, scene, before, after, expected.saved)
        content(it, values[-2])
