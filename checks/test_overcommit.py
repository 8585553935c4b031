# SPDX-License-Identifier: GPL-2.0-only
"""More guests than the host's memory holds, because their memory is merged."""

from __future__ import annotations

from checks import Guests, Proving
from checks.merging import Merged, content, engine
from mergelab.bench import PAGE, Group, available
from mergelab.evidence import Relation

HOST_SHARE = 0.1
"""Part of the merged memory by which MemAvailable may have dropped further: metadata, page tables."""


def test_density(claim: Proving, guests: Guests, density_contents: int, guests_end: bool) -> None:
    """Without it "overcommit" would be claimed on a host whose memory was never exceeded."""
    with claim(
        "overcommit.density",
        "Guests that together fill more memory than the host has all live, content intact",
    ) as it:
        group = guests()
        scene = it.scene(group, group.pages)
        contents = min(density_contents, len(group.names))
        shared = contents * group.pages
        expected = Merged(shared, scene.total - shared, 0, shared)
        values = it.bench.do(
            *scene.setup, "memory", "guest list", *[f"guest ram {name}" for name in group.names]
        )
        memory, listed, ram = values[3], values[4], values[5:]
        total, free = memory["meminfo"]["MemTotal"], available(memory)
        declared = sum(entry["size"] for entry in ram)
        filled = scene.total * PAGE
        it.expect(
            guests=len(group.names),
            declared_bytes=declared,
            host_bytes=total,
            filled_bytes=filled,
            pages_shared=expected.shared,
            pages_sharing=expected.sharing,
        )
        it.witness(
            "size",
            "declared guest memory over the host's memory",
            1.0,
            round(declared / total, 3),
            "ratio",
            relation=Relation.AT_LEAST,
        )
        it.control("declared", "the guests were promised more memory than the host has", declared > total)
        it.control("filled", "they wrote more memory than the host could give when they began", filled > free)

        patterns = {name: f"seed:{0xDE0 + at % contents:#x}" for at, name in enumerate(group.names)}
        for name, pattern in patterns.items():
            one = Group((name,), group.gpa, group.pages)
            it.bench.do(one.call(f"fill 0 {group.pages} {pattern}"), scene.scan(1))
        after = scene.view(it.bench.do(scene.scan(1), *scene.look_briefly)[1:])
        engine(it, after, expected)
        it.witness("pages", "frames that all guests' pages map", shared, after.pages["distinct"], "frames")
        it.witness("pages", "pages that are present", scene.total, after.pages["present"], "pages")
        used = (free - after.available) // PAGE
        it.witness(
            "memory",
            "pages by which the host's available memory shrank",
            shared,
            used,
            "pages",
            tolerance=int(shared * HOST_SHARE),
            relation=Relation.AT_MOST,
        )
        answers = []
        for name, pattern in patterns.items():
            answers += it.bench.do(f"guest call {name} 'verify 0 {group.pages} {pattern}'")[0]
        content(it, answers)
        it.witness(
            "alive",
            "every guest is the process it was",
            expected=True,
            measured=it.bench.do("guest list")[0] == listed,
        )
        if guests_end:
            return
        for name in group.names:  # give the memory back: zeroes cost nothing once they are merged
            one = Group((name,), group.gpa, group.pages)
            it.bench.do(one.call(f"fill 0 {group.pages} zero"), scene.scan(1))
