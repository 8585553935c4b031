# SPDX-License-Identifier: GPL-2.0-only
"""Golden tests of the report: synthetic run directories, and what has to come out of them, to the letter.

``pytest tests/golden --update-golden`` writes the files anew; read the difference before you commit it.
Drawings are left out of the golden pages, their labels with the figures stay in; test_charts.py has them.
"""

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mergelab import report
from mergelab.evidence import Verdict

from .synthetic import CASES

EXPECTED = Path(__file__).parent / "expected"
FILES = ("run.json", "report.md", "junit.xml", "index.html")
VERDICTS = {
    "green": Verdict.PASS,
    "hardware": Verdict.PASS,
    "failed": Verdict.FAIL,
    "unproven": Verdict.UNPROVEN,
    "empty": Verdict.UNPROVEN,
    "rolled-back": Verdict.ROLLED_BACK,
    "died": Verdict.PANIC,
}
DRAWING = re.compile(r"(<svg [^>]*role=\"img\"[^>]*>).*?</svg>", re.DOTALL)


def normal(name: str, text: str) -> str:
    """The text without the drawings' paths, which are a library's affair, and without the style sheet."""
    if name == "index.html":
        text = DRAWING.sub(r"\1</svg>", text)
        text = re.sub(r"<style>.*?</style>", "<style></style>", text, flags=re.DOTALL)
    return text


@dataclass(frozen=True, kw_only=True)
class Report:
    """A run directory with its report, and what was judged."""

    run_dir: Path
    verdict: Verdict
    changed: bool

    def text(self, name: str) -> str:
        """Read one of its files."""
        return (self.run_dir / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """Every case, reported once."""
    made = {}
    for case, make in CASES.items():
        run_dir = make().write(tmp_path_factory.mktemp(case))
        judgement, changed = report.write(run_dir)
        made[case] = Report(run_dir=run_dir, verdict=judgement.verdict, changed=changed)
    return made


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FILES)
def test_report_is_the_golden_one(
    case: str, name: str, reports: dict[str, Report], pytestconfig: pytest.Config
) -> None:
    """Any change of a word, figure or order in a report is a decision that somebody sees."""
    got = normal(name, reports[case].text(name))
    golden = EXPECTED / case / name
    if pytestconfig.getoption("--update-golden", default=False):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(got, encoding="utf-8")
    assert golden.is_file(), f"{golden} is missing: run pytest tests/golden --update-golden, read the result"
    assert got == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_verdict(case: str, reports: dict[str, Report]) -> None:
    """The verdict is stated here too, so that an update of the golden files cannot change it unseen."""
    assert reports[case].verdict is VERDICTS[case]
    assert reports[case].changed


def test_second_report_changes_nothing(reports: dict[str, Report]) -> None:
    """A report that differs from run to run cannot be compared or signed."""
    run_dir = reports["green"].run_dir
    before = {name: (run_dir / name).read_bytes() for name in FILES}
    _, changed = report.write(run_dir)
    assert not changed
    assert {name: (run_dir / name).read_bytes() for name in FILES} == before


VOID = {"meta", "path", "use", "rect", "br", "link"}


class Page(HTMLParser):
    """Notes what a page links to, which ids it has, which tags it leaves open."""

    def __init__(self) -> None:
        """Start with an empty page."""
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one tag."""
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "data")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Close one tag."""
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize("case", CASES)
def test_page_is_one_offline_file(case: str, reports: dict[str, Report]) -> None:
    """A page that fetches anything is not the one that was judged, and of no use in a lab without network."""
    text = reports[case].text("index.html")
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags
    assert [link for link in page.links if re.match(r"[a-z]+:|//", link)] == []
    assert [link for link in page.links if link.startswith("#") and link[1:] not in page.ids] == []
    assert "url(http" not in text
    assert "@import" not in text
    assert len(text) < 5_000_000


def test_emulated_is_said_at_every_chart_and_table_of_figures(reports: dict[str, Report]) -> None:
    """A figure of an emulated host that is taken for the hardware's is the worst this report could do."""
    green, hardware = (reports[case].text("index.html") for case in ("green", "hardware"))
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", green, re.DOTALL)
    assert len(captions) == 6
    assert all(">emulated</span>" in caption for caption in captions)
    assert all("(emulated)" in label for label in re.findall(r'role="img" aria-label="([^"]*)"', green))
    for heading in ("Measured", "Took", "Boot", "most memory saved", "Time per step"):
        places = re.findall(rf">{heading}(.{{0,40}})", green)
        assert places, heading
        assert all('<span class="tag">emulated' in place for place in places), heading
    assert 'role="note"><strong>emulated</strong>' in green
    assert "emulated" not in re.sub(r"<style>.*?</style>", "", hardware, flags=re.DOTALL)


def test_text_of_a_host_is_never_markup(reports: dict[str, Report]) -> None:
    """Facts and consoles come from machines; they must not become tags of the page or columns of a table."""
    text = reports["hardware"].text("index.html")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "Sample <b>" not in text


def test_every_verdict_has_a_tone_and_only_pass_is_green() -> None:
    """Colour, mark and word are decided in one place; a second green would be a lie."""
    from mergelab import render  # noqa: PLC0415 - loads the chart library, only here

    views = [render._verdict(each) for each in Verdict]
    assert [each.word for each in views if each.tone == "green"] == ["pass"]
    assert len({each.mark for each in views}) == len(Verdict)
