# SPDX-License-Identifier: GPL-2.0-only
"""Controls: what must fail or stay away, so that a pass elsewhere means something."""

from __future__ import annotations

from checks import Guests, Proving
from checks.merging import PROCESS_TOLERANCE, Merged, content, engine
from mergelab.bench import PAGE

IDLE_SECONDS = 5
MERGE_SECONDS = 120


def test_off(claim: Proving, guests: Guests, merge_guests: int, merge_pages: int) -> None:
    """Without it memory that shrinks by itself, or a scanner that ignores its switch, would go unseen."""
    with claim("control.off", "With the engine stopped nothing is scanned, merged or saved") as it:
        scene = it.scene(guests().take(merge_guests), merge_pages)
        pattern = "seed:0x0ff"
        sharing = scene.total - merge_pages
        it.expect(pages=scene.total, pages_scanned=0, pages_saved=0)
        values = it.bench.do(*scene.setup, scene.fill(pattern), *scene.look, "engine get pages_scanned")
        before, start = scene.view(values[4:7]), values[-1]["pages_scanned"]
        moved, _ = it.bench.wait(
            "engine get pages_scanned", lambda value: bool(value["pages_scanned"] != start), IDLE_SECONDS
        )
        after = scene.view(it.bench.do(*scene.look))
        it.witness("engine", f"pages_scanned moved within {IDLE_SECONDS} s", False, moved)
        engine(it, after, Merged(0, 0, 0, scene.total))
        it.witness("pages", "frames that the pages map", scene.total, after.pages["distinct"], "frames")
        shrunk = (before.pss - after.pss) // PAGE
        it.witness(
            "memory", "pages by which the processes shrank", 0, shrunk, "pages", tolerance=PROCESS_TOLERANCE
        )
        it.bench.do("engine set run=1")
        merged, stat = it.bench.wait(
            f"domain stat {scene.domain}",
            lambda value: bool(value["pages_sharing"] >= sharing),
            MERGE_SECONDS,
        )
        it.control(
            "on",
            f"with the engine running the same pages were merged ({stat['pages_sharing']} of {sharing})",
            merged,
        )
        content(it, it.bench.do("engine set run=0", scene.verify(pattern))[1])


def test_corrupt(claim: Proving, guests: Guests, merge_pages: int) -> None:
    """Without it a content check that never fails would hide every corruption."""
    with claim("control.corrupt", "One byte changed behind the bench's back is found, in its place") as it:
        group = guests().take(2)
        scene = it.scene(group, merge_pages)
        pattern = "seed:0xbad"
        page, offset = merge_pages // 3, 2345
        it.expect(bad_pages=1, page=page, offset=offset)
        values = it.bench.do(
            *scene.setup,
            scene.fill(pattern),
            scene.scan(),
            f"guest corrupt {group.names[0]} --gpa {group.gpa + page * PAGE + offset:#x}",
            scene.verify(pattern),
            *scene.look,
        )
        hit, other = values[6]
        after = scene.view(values[7:10])
        it.witness("content", "bad pages in the changed guest", 1, hit["bad"], "pages")
        it.witness("content", "the page", page, hit.get("first"))
        it.witness("content", "the byte in it", offset, hit.get("offset"))
        it.witness("content", "bad pages in the guest that shared it", 0, other["bad"], "pages")
        it.witness(
            "engine",
            "pages_sharing, one less than all",
            merge_pages - 1,
            after.stat["pages_sharing"],
            "pages",
        )
        both = [[[page, 1]], [[page, 1]]]
        it.witness(
            "pages", "that page alone is not shared", expected=True, measured=after.pages["apart"] == both
        )
        it.witness("pages", "frames", merge_pages + 1, after.pages["distinct"], "frames")
