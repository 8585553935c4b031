# SPDX-License-Identifier: GPL-2.0-only
"""A write to a merged page gives the writer its own copy, and nobody else notices."""

from __future__ import annotations

from checks import Guests, Proving
from checks.merging import PROCESS_TOLERANCE, content
from mergelab.bench import PAGE, Group

STRIDE, OFFSET, XOR = 4, 1234, 0x5A


def test_one(claim: Proving, guests: Guests, merge_guests: int, merge_pages: int) -> None:
    """Without it a merged page could be left writable, and a guest's write would appear in the others."""
    with claim("unshare.one", "One guest's writes unshare exactly the pages it wrote, for it alone") as it:
        group = guests().take(merge_guests)
        scene = it.scene(group, merge_pages)
        writer, others = Group(group.names[:1], group.gpa, group.pages), group.names[1:]
        pattern = "seed:0x54a7e"
        written = len(range(0, merge_pages, STRIDE))
        sharing = (merge_guests - 1) * merge_pages
        it.expect(pages_written=written, pages_sharing_before=sharing, pages_sharing_after=sharing - written)
        poke = f"poke 0 {merge_pages} {STRIDE} {OFFSET} {XOR}"
        poked = f"verify 0 {merge_pages} {pattern} poked:{STRIDE}:{OFFSET}:{XOR}"
        values = it.bench.do(
            *scene.setup,
            scene.fill(pattern),
            scene.scan(),
            *scene.look,
            writer.call(poke),
            *scene.look,
            writer.call(poked),
            Group(others, group.gpa, group.pages).call(f"verify 0 {merge_pages} {pattern}"),
            scene.scan(1),
            f"domain stat {scene.domain}",
        )
        before, after = scene.view(values[5:8]), scene.view(values[9:12])
        it.control(
            "merged before",
            "before the writes every page was shared by all guests",
            before.stat["pages_sharing"] == sharing and before.pages["same"] == merge_pages,
        )
        it.control("written", "the guest says that it wrote these pages", values[8][0]["written"] == written)
        lost = before.stat["pages_sharing"] - after.stat["pages_sharing"]
        it.witness("engine", "drop of pages_sharing", written, lost, "pages")
        it.witness("engine", "pages_shared stays", merge_pages, after.stat["pages_shared"], "pages")
        found = values[-1]["unshared"] - before.stat["unshared"]
        it.witness("engine", "written pages that the next scan found", written, found, "pages")
        apart = [[index, 1] for index in range(0, merge_pages, STRIDE)]
        it.witness(
            "pages",
            "exactly the written pages of the writer have frames of their own",
            expected=True,
            measured=after.pages["apart"][0] == apart and not any(after.pages["apart"][1:]),
        )
        distinct = merge_pages + written
        it.witness("pages", "frames that the pages map", distinct, after.pages["distinct"], "frames")
        grown = (after.pss - before.pss) // PAGE
        it.witness(
            "memory", "growth of the processes' size", written, grown, "pages", tolerance=PROCESS_TOLERANCE
        )
        if "cow_ksm" in before.vmstat:
            faults = after.vmstat["cow_ksm"] - before.vmstat["cow_ksm"]
            it.witness("vmstat", "copy-on-write faults on merged pages (cow_ksm)", written, faults, "faults")
        content(it, values[12] + values[13])
