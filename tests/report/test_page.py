"""The page of one build says what its record says, and needs nothing but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from minibuild.cache.builds import critical_path
from minibuild.cache.journal import StepRow
from minibuild.report.page import page
from tests.feature.project import Project
from tests.report.conftest import records

VOID = ("meta", "rect", "path", "line", "br")
Element = tuple[str, dict[str, str]]


class Page(HTMLParser):
    """The elements of a page, and the text of those that have a figure."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.figures: dict[str, str] = {}
        self.open: list[Element] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open and "data-figure" in self.open[-1][1]:
            self.figures[self.open[-1][1]["data-figure"]] = data

    def steps(self, tag: str, attribute: str) -> dict[str, dict[str, str]]:
        """The attributes of the elements that stand for steps."""
        return {
            found["data-step"]: found
            for name, found in self.elements
            if name == tag and "data-step" in found and attribute in found
        }


def place(step: StepRow) -> str:
    return f"{step.stage}/{step.number}"


def test_its_figures_are_those_of_the_record(built: Project) -> None:
    for record in records(built):
        figures = Page(page(record)).figures
        assert figures["status"] == record.status
        assert figures["seconds"] == f"{record.seconds:.1f} s"
        assert (int(figures["steps"]), int(figures["hits"])) == (len(record.steps), record.hits)
        assert figures["saved"] == f"{record.saved:.1f} s"
        assert figures["critical"] == f"{sum(one.seconds for one in critical_path(record)):.1f} s"


def test_every_step_is_a_bar_as_long_as_it_took(built: Project) -> None:
    for record in records(built):
        bars = Page(page(record)).steps("g", "data-start")
        assert bars.keys() == {place(step) for step in record.steps}
        for step in record.steps:
            assert abs(float(bars[place(step)]["data-start"]) - step.start) < 1e-5
            assert abs(float(bars[place(step)]["data-seconds"]) - step.seconds) < 1e-5


def test_hits_runs_and_failures_have_colours_of_their_own(built: Project) -> None:
    failed, second, first = (Page(page(record)).steps("g", "class") for record in records(built))
    assert [one["class"].split()[1] for one in first.values()] == ["run"] * 5
    assert {one["class"].split()[1] for one in second.values()} == {"hit", "run"}
    assert [one["class"].split()[1] for one in failed.values()].count("failed") == 1


def test_the_critical_path_is_marked_everywhere(built: Project) -> None:
    for record in records(built):
        shown = Page(page(record))
        path = {place(step) for step in critical_path(record)}
        for found in (shown.steps("g", "data-start"), shown.steps("tr", "data-key")):
            assert {name for name, one in found.items() if "critical" in one.get("class", "")} == path
        waits = [found for tag, found in shown.elements if tag == "path"]
        assert sum("critical" in wait["class"] for wait in waits) == len(path) - 1


def test_the_graph_shows_what_waits_for_what(built: Project) -> None:
    record = records(built)[-1]
    waits = [found for tag, found in Page(page(record)).elements if tag == "path"]
    # side follows slow; two copies in the last stage follow the step before them and their source each
    assert len(waits) == 1 + 2 + 2


def test_causes_are_in_the_table(built: Project) -> None:
    second, failed = page(records(built)[1]), page(records(built)[0])
    assert "<summary>a.txt changed</summary>" in second and "M a.txt" in second
    assert "did not complete successfully: exit code: 1" in failed


def test_it_loads_nothing_and_executes_nothing(built: Project) -> None:
    for record in records(built):
        text = page(record)
        shown = Page(text)
        assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in shown.elements}
        assert not [found for _, found in shown.elements if {"src", "href", "onclick"} & found.keys()]
        assert not re.search(r"https?://|url\(|@import", text)
        assert "<script>alert" not in text and "&lt;script&gt;alert" in text


def test_the_command_writes_it_whole_or_not_at_all(built: Project, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert built.command("builds", "report", "last~1", "-o", str(file)).code == 0
    assert file.read_text() == page(records(built)[1])
    assert built.command("builds", "report").out == page(records(built)[0])
    done = built.command("builds", "report", "last", "-o", str(tmp_path))
    assert done.code == 5 and "is a folder" in done.error
    assert "no build" in built.command("builds", "report", "zzz", "-o", str(file)).error


def test_a_build_of_no_steps_has_a_page_too(project: Project) -> None:
    project.built(text="FROM busybox\nENV A=1\n")
    (record,) = records(project)
    assert Page(page(record)).figures["steps"] == "0"
