# SPDX-License-Identifier: GPL-2.0-only
"""How merging is proved, whoever holds the pages: guests or plain processes."""

from __future__ import annotations

from dataclasses import dataclass

from mergelab.bench import PAGE, Claim, Scene, View

PROCESS_TOLERANCE = 64
"""Pages by which the processes' size may differ from the areas' share: memory that is not the payload's."""

HOST_TOLERANCE = 1024
"""Pages by which the host's available memory may differ: other processes, caches, the engine's metadata."""

HOST_EFFECT = 4 * HOST_TOLERANCE
"""Pages that must be saved at least for the host's available memory to be a witness: less drowns in noise."""


@dataclass(frozen=True)
class Merged:
    """What merging must come to: exact, as the bench chose the content.

    Attributes:
        shared: shared pages.
        sharing: further mappings of them.
        zeroed: pages that map the kernel's zero page.
        distinct: frames that all pages together map.
    """

    shared: int
    sharing: int
    zeroed: int
    distinct: int

    @property
    def saved(self) -> int:
        """Pages given back to the host."""
        return self.sharing + self.zeroed


def merge(it: Claim, scene: Scene, pattern: str, expected: Merged) -> View:
    """Fills a scene's areas with a pattern, scans, hears all witnesses; returns the view after the scan."""
    it.expect(
        pages=scene.total,
        pages_shared=expected.shared,
        pages_sharing=expected.sharing,
        pages_zero=expected.zeroed,
        distinct_frames=expected.distinct,
    )
    values = it.bench.do(
        *scene.setup, scene.fill(pattern), *scene.look, scene.scan(), *scene.look, scene.verify(pattern)
    )
    at = len(scene.setup) + 1
    before, after = scene.view(values[at : at + 3]), scene.view(values[at + 4 : at + 7])
    it.control(
        "before",
        "before the scan every page had a frame of its own",
        before.pages["distinct"] == before.pages["present"] == scene.total,
    )
    engine(it, after, expected)
    it.witness("pages", "frames that the pages map", expected.distinct, after.pages["distinct"], "frames")
    it.witness("pages", "pages that are present", scene.total, after.pages["present"], "pages")
    zero = sum(area["zero"] for area in after.pages["ranges"])
    it.witness("pages", "pages that map the zero page", expected.zeroed, zero, "pages")
    memory(it, scene, before, after, expected.saved)
    content(it, values[-1])
    return after


def engine(it: Claim, view: View, expected: Merged) -> None:
    """Hears the engine's counters of the domain.

    Args:
        it: the claim.
        view: after the scan.
        expected: what merging must come to.
    """
    it.witness("engine", "pages_shared of the domain", expected.shared, view.stat["pages_shared"], "pages")
    it.witness("engine", "pages_sharing of the domain", expected.sharing, view.stat["pages_sharing"], "pages")
    it.witness(
        "engine", "pages_mapped_zero of the domain", expected.zeroed, view.stat["pages_mapped_zero"], "pages"
    )


def memory(it: Claim, scene: Scene, before: View, after: View, saved: int) -> None:
    """Hears the host's memory: the processes shrank by what was saved, the host has that much more."""
    shrunk = (before.pss - after.pss) // PAGE
    it.witness(
        "memory",
        "pages by which the proportional size of the processes shrank",
        saved,
        shrunk,
        "pages",
        tolerance=PROCESS_TOLERANCE,
    )
    if saved == 0 or saved >= HOST_EFFECT:
        grown = (after.available - before.available) // PAGE
        it.witness(
            "memory",
            "pages by which the host's available memory grew",
            saved,
            grown,
            "pages",
            tolerance=HOST_TOLERANCE,
        )


def content(it: Claim, answers: list[dict[str, int]]) -> None:
    """Hears the payloads: every byte is what was written."""
    bad = sum(answer["bad"] for answer in answers)
    it.witness("content", "pages with a wrong byte, in all areas", 0, bad, "pages")
