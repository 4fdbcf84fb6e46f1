"""The command line, and every form of its output, made of the same figures."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from minibuild.lab.charts import x_of, y_of
from tests.feature.project import Project
from tests.lab.histories import repository

DOCKERFILE = "FROM base AS one\nWORKDIR /w\nCOPY a .\nRUN make a\nFROM one\nCOPY b /\nRUN make b\n"
CHROMIUM = shutil.which("chromium")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "project").mkdir()
    first = {"Dockerfile": DOCKERFILE, "Other": DOCKERFILE.replace("COPY b", "COPY a"), "a": "", "b": ""}
    commits: list[Any] = [first, {"a": "1"}, {"b": "1"}, {"README": "1"}, {"b": None}]
    commits += [{"b": "2", "</script>": "<b>"}, {"a": ""}]
    repository(tmp_path / "git", *commits)
    yield Project(tmp_path / "project", tmp_path)


def replayed(lab: Project, *options: str) -> Any:
    done = lab.command("lab", "replay", "--git", str(lab.root.parent / "git"), "--offline", *options)
    assert done.code == 0, done.err
    return done.out


class _Page(HTMLParser):
    """Every tag with its attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)


def test_the_table_says_what_hits_and_why_not(lab: Project) -> None:
    text = replayed(lab, "--commits", "--without-git")
    assert text.startswith("7 commits by keys alone, 5 counted")
    assert "1 build fails and does not count; the last: Dockerfile:6: " in text
    assert "follows 2, files 2   COPY b /" in text
    assert "base image base: the same image at every commit, known by its name alone" in text
    assert "by the model default-1" in text


def test_json_and_csv_agree(lab: Project) -> None:
    shown = json.loads(replayed(lab, "--format", "json", "-f", "Dockerfile", "-f", "Other"))
    rows = list(
        csv.DictReader(replayed(lab, "--format", "csv", "-f", "Dockerfile", "-f", "Other").splitlines())
    )
    for variant in shown["variants"]:
        mine = [row for row in rows if row["variant"] == variant["name"] and row["counted"] == "1"]
        assert sum(int(row["hit"]) for row in mine) == variant["summary"]["hits"]
        assert len(mine) == variant["summary"]["steps"]
        rate = variant["summary"]["rate"]
        assert rate["value"] == pytest.approx(variant["summary"]["hits"] / len(mine), abs=1e-6)
        assert rate["low"] <= rate["value"] <= rate["high"]
    assert shown["variants"][1]["summary"]["gain"] is not None


def test_a_seed_gives_the_same_intervals(lab: Project) -> None:
    one, same, other = (
        json.loads(replayed(lab, "--format", "json", "--seed", seed))["variants"] for seed in ("1", "1", "2")
    )
    assert (one == same and one != other) or len({str(one), str(other)}) == 1


def numbers(text: str) -> list[float | None]:
    return [float(value) if value else None for value in text.split(",")]


def rounded(values: list[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.6g}") for value in values]


def test_the_page_loads_nothing_and_draws_the_numbers_of_the_json(lab: Project) -> None:
    options = ("-f", "Dockerfile", "-f", "Other", "--without-git")
    page = _Page(replayed(lab, "--format", "html", *options))
    shown = json.loads(replayed(lab, "--format", "json", *options))
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert not set(attributes) & {"src", "href", "xlink:href", "srcset", "action", "onload"}, tag
    assert not any("url(" in value for _, attributes in page.tags for value in attributes.values())
    (script,) = page.scripts
    inside = json.loads(script)
    assert {**inside, "seconds": 0} == {**shown, "seconds": 0}
    lines = [attributes for tag, attributes in page.tags if tag == "path" and "data-values" in attributes]
    raw = {one["data-name"]: one for one in lines if one["data-kind"] == "raw"}
    for variant in shown["variants"]:
        builds = variant["builds"]
        drawn = raw[variant["name"]]
        rates = [None if "error" in one else 100 * one["hits"] / one["steps"] for one in builds]
        assert numbers(drawn["data-values"]) == rounded(rates)
        points = [(x_of(n, 7), y_of(rate, 0, 100)) for n, rate in enumerate(rates) if rate is not None]
        shown_points = drawn["d"].replace("M", "L").removeprefix("L").removesuffix("h0.01").split("L")
        assert shown_points == [f"{x:.2f} {y:.2f}" for x, y in points]
        sums = list(accumulate(one.get("saved", 0.0) for one in builds))
        gained = [None if "error" in one else total for one, total in zip(builds, sums, strict=True)]
        mine = [numbers(one["data-values"]) for one in lines if one["data-name"] == variant["name"]]
        assert rounded(gained) in mine
    maps = [attributes["data-states"] for _, attributes in page.tags if "data-states" in attributes]
    expected = [
        "".join(
            "x" if "error" in built and built["states"][row] == "-" else built["states"][row]
            for built in variant["builds"]
        )
        for variant in shown["variants"]
        for row in range(len(variant["steps"]))
    ]
    assert maps == expected


@pytest.mark.skipif(CHROMIUM is None, reason="chromium only shows what the other test has checked")
def test_a_browser_draws_the_page(lab: Project, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    replayed(lab, "--format", "html", "-o", str(tmp_path / "page.html"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path / 'page.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    dom = _Page(done.stdout)
    assert sum("data-states" in attributes for _, attributes in dom.tags) == 5
    assert sum("data-chart" in attributes for _, attributes in dom.tags) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "xml"), "is none of table, json, csv, html"),
        (("--policy", "lru"), "needs a --size"),
        (("--policy", "best"), "is none of none, lru, value"),
        (("--cache", "cloud"), "is neither local nor registry"),
        (("-f", "missing"), "neither the last commit nor this machine has such a file"),
        (("--range", "HEAD..HEAD"), "there are no commits in HEAD..HEAD"),
        (("--range", "nowhere"), "git says"),
        (("--range", "--all"), "is not a range"),
        (("--context", "nowhere"), "the last commit has no such folder"),
        (("--costs", "/dev/null"), "is not a file of costs"),
        (("-o", "/no/such/folder/x"), "its folder does not exist"),
        (("--pull-rate", "0"), "is not a rate"),
    ],
)
def test_what_cannot_be_done_is_one_error(lab: Project, options: tuple[str, ...], words: str) -> None:
    done = lab.command("lab", "replay", "--git", str(lab.root.parent / "git"), "--offline", *options)
    assert done.code == 2, done.err
    assert words in done.error


@pytest.mark.parametrize("format", ["table", "json", "csv", "html"])
def test_a_variant_that_never_builds_is_one_error_and_no_table_of_zeros(lab: Project, format: str) -> None:
    empty = lab.root / "empty"
    empty.touch()
    out = lab.root / "out"
    files = ("-f", "Dockerfile", "-f", str(empty), "--format", format, "-o", str(out))
    done = lab.command("lab", "replay", "--git", str(lab.root.parent / "git"), "--offline", *files)
    assert done.code == 1 and not out.exists()
    assert f"no commit of the range can be built with {empty}; the last: {empty}:1: " in done.error
    assert "the Dockerfile cannot be empty" in done.error


def test_variants_that_never_build_the_same_commit_are_an_error(lab: Project) -> None:
    repository(
        lab.root / "git",
        {"One": "FROM scratch\nCOPY a /\n", "Two": "FROM scratch\nCOPY b /\n", "a": "", "b": ""},
        {"a": None},
        {"a": "1", "b": None},
    )
    git = ("--git", str(lab.root / "git"), "--offline")
    done = lab.command("lab", "replay", *git, "-f", "One", "-f", "Two")
    assert done.code == 1 and "no commit counts" in done.error
    assert lab.command("lab", "replay", *git, "-f", "One", "-f", "Two", "--warmup", "0").code == 0


def test_a_warmup_of_the_whole_range_is_an_error(lab: Project) -> None:
    git = ("--git", str(lab.root.parent / "git"), "--offline")
    done = lab.command("lab", "replay", *git, "--last", "1")
    assert done.code == 2 and "--warmup 1 leaves none of 1 commits to count" in done.error
    assert lab.command("lab", "replay", *git, "--last", "2", "--warmup", "0").code == 0


def test_one_commit_gives_no_advice(lab: Project) -> None:
    git = ("--git", str(lab.root.parent / "git"), "--offline")
    done = lab.command("lab", "advise", *git, "--last", "1")
    assert done.code == 2 and "one commit is no history" in done.error


def test_the_page_tells_of_builds_that_fail(lab: Project) -> None:
    text = replayed(lab, "--format", "html", "-f", "Dockerfile", "-f", "Other", "--without-git")
    assert '<p class="failed">1 (Dockerfile) build fails and does not count; the last: Dockerfile:6: ' in text


def test_a_folder_that_is_no_repository_is_an_error(lab: Project) -> None:
    done = lab.command("lab", "replay", "--git", str(lab.root))
    assert done.code == 2 and "git says" in done.error


def test_costs_come_from_a_file_and_from_the_output(lab: Project) -> None:
    costs = lab.root / "costs.json"
    costs.write_text('{"RUN make a": {"seconds": 100, "bytes": 5}, "RUN  make b": 7}')
    shown = json.loads(replayed(lab, "--format", "json", "--without-git", "--costs", str(costs)))
    steps = {step["instruction"]: step for step in shown["variants"][0]["steps"]}
    assert steps["RUN make b"]["seconds"] == 7 * (steps["RUN make b"]["builds"] - steps["RUN make b"]["hits"])
    assert steps["RUN make b"]["bytes"] % 20_000_000 == 0
    (lab.root / "again.json").write_text(json.dumps(shown))
    again = json.loads(
        replayed(lab, "--format", "json", "--without-git", "--costs", str(lab.root / "again.json"))
    )
    assert again["variants"][0]["summary"]["spent"] == shown["variants"][0]["summary"]["spent"]


def test_a_trace_is_replayed_like_the_repository_it_becomes(lab: Project) -> None:
    trace, git = str(lab.root / "trace.json"), str(lab.root / "synth.git")
    assert (
        lab.command("lab", "synth", "--trace", trace, "--git", git, "--files", "30", "--commits", "20").code
        == 0
    )
    outputs = []
    for source in (("--trace", trace), ("--git", git)):
        done = lab.command("lab", "replay", *source, "--offline", "--format", "csv")
        assert done.code == 0, done.err
        outputs.append(done.out)
    assert outputs[0] == outputs[1]
    assert lab.command("lab", "synth", "--git", git).code == 2


def test_advice_is_printed_with_rule_and_diff(lab: Project) -> None:
    git = str(lab.root / "synth.git")
    lab.command("lab", "synth", "--git", git, "--files", "30", "--commits", "40")
    done = lab.command("lab", "advise", "--git", git, "--offline")
    assert done.code == 0, done.err
    assert "1. copy requirements.txt first, then RUN pip install" in done.out
    assert "   +COPY requirements.txt ./" in done.out and "rule: the command is an installer" in done.out
    shown = json.loads(lab.command("lab", "advise", "--git", git, "--offline", "--format", "json").out)
    assert shown["advice"][0]["seconds"] > 0
    assert shown["after"]["rate"]["value"] > shown["before"]["rate"]["value"]


def test_executing_measures_and_says_how_right_the_keys_were(
    lab: Project, bases: Path, sandbox_works: None
) -> None:
    text = "FROM busybox\nCOPY a /\nRUN cat a > b\nRUN cat b > c\n"
    repository(lab.root / "git", {"Dockerfile": text, "a": "1"}, {"b": ""}, {"a": "2"}, {"a": "1"})
    context = ("--build-context", f"busybox=oci-layout://{bases}:busybox")
    git = ("--git", str(lab.root / "git"))
    done = lab.command("lab", "replay", *git, *context, "--execute", "--format", "json", "--cache", "local",
                       "--cache", "registry")  # fmt: skip
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    assert shown["executed"]
    assert [one["states"] for one in shown["variants"][0]["builds"]] == ["mmm", "hhh", "mmm", "hhh"]
    assert [one["states"] for one in shown["variants"][1]["builds"]] == ["mmm", "hhh", "mmm", "mmm"]
    assert "local: keys alone say the same of 12 of 12 executed steps" in shown["notes"]
    assert "registry: keys alone say the same of 12 of 12 executed steps" in shown["notes"]
    assert shown["costs"]["RUN cat a > b"]["seconds"] > 0
    assert not lab.litter()
