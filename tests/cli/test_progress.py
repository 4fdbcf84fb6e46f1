"""Displays of build events: the same recorded build, shown in each manner."""

from __future__ import annotations

import io
import json
import re

import pytest

from minibuild.cli.progress import sink_for
from minibuild.errors import UsageError
from minibuild.events import (
    BuildFinished,
    Event,
    Notice,
    StepFailed,
    StepFinished,
    StepMissed,
    StepOutput,
    StepProgress,
    StepStarted,
)

BUILD: list[Event] = [
    StepStarted(1, "[1/3] COPY a /"),
    StepFinished(1, 0.01, cached=True),
    StepStarted(2, "[2/3] RUN make"),
    StepMissed(2, "a.c changed"),
    StepStarted(3, "[other 1/1] RUN test"),
    StepOutput(2, 1, b"first\nsec"),
    StepOutput(3, 1, b"between\n"),
    StepOutput(2, 1, b"ond\n"),
    StepOutput(2, 2, b"no end"),
    StepFinished(2, 1.25, bytes=1_500_000),
    Notice("warning", "take care"),
    StepFailed(3, 2.0, "exit code: 1"),
    BuildFinished(3, 1, 3.4, 1_500_000, 0.5),
]


def shown(kind: str, events: list[Event] = BUILD) -> str:
    stream = io.StringIO()
    with sink_for(kind, stream) as sink:
        for event in events:
            sink(event)
    return stream.getvalue()


def test_plain_shows_every_line_under_its_steps_number() -> None:
    text = re.sub(r"(?m)^(#\d+) \d+\.\d{3} ", r"\1 T ", shown("plain"))
    assert text == (
        "#1 [1/3] COPY a /\n"
        "#1 CACHED\n"
        "\n"
        "#2 [2/3] RUN make\n"
        "#2 not cached: a.c changed\n"
        "\n"
        "#3 [other 1/1] RUN test\n"
        "\n"
        "#2 [2/3] RUN make\n"
        "#2 T first\n"
        "\n"
        "#3 [other 1/1] RUN test\n"
        "#3 T between\n"
        "\n"
        "#2 [2/3] RUN make\n"
        "#2 T second\n"
        "#2 T no end\n"
        "#2 DONE 1.2s, 1.5MB\n"
        "\n"
        "WARNING: take care\n"
        "#3 [other 1/1] RUN test\n"
        "#3 ERROR: exit code: 1\n"
        "\n"
        "3 steps, 1 cached, 3.4s, 0.5s saved, 1.5MB of new layers\n"
    )


def test_plain_tells_of_a_blob_when_it_begins_and_when_it_is_whole() -> None:
    events: list[Event] = [StepStarted(1, "[1/1] RUN x")]
    events += [StepProgress(1, "sha256:abc", done, 1000) for done in (100, 200, 300, 1000, 1000)]
    lines = shown("plain", events).splitlines()
    assert lines[1:] == ["#1 sha256:abc 100B / 1.0kB", "#1 sha256:abc 1.0kB / 1.0kB done"]


def test_plain_shows_bytes_that_are_no_text() -> None:
    events: list[Event] = [StepStarted(1, "x"), StepOutput(1, 1, b"\xff\xfe\r\n"), StepFinished(1, 0.0)]
    assert "\ufffd\ufffd\n" in shown("plain", events)


def test_quiet_shows_warnings_alone() -> None:
    assert shown("quiet") == "WARNING: take care\n"


def test_raw_json_has_every_event_with_its_fields() -> None:
    documents = [json.loads(line) for line in shown("rawjson").splitlines()]
    assert [document["event"] for document in documents] == [type(event).__name__ for event in BUILD]
    assert documents[3]["reason"] == "a.c changed"
    assert documents[5]["data"] == "first\nsec"
    assert documents[-1]["hits"] == 1


def _still(text: str) -> str:
    """What stays of the live view: all that no later sequence erased."""
    lines = [""]
    for part in re.split(r"(\x1b\[\d+A\x1b\[J|\n)", text):
        if part == "\n":
            lines.append("")
        elif part.startswith("\x1b"):
            count = int(re.findall(r"\d+", part)[0])
            del lines[len(lines) - count :]
            lines[-1] = ""
        else:
            lines[-1] += part
    return "\n".join(lines)


def test_the_live_view_leaves_a_line_for_each_step_and_the_output_of_the_failed_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "24")
    lines = [line.rstrip() for line in _still(shown("tty")).splitlines()]
    assert [re.sub(r"  +", "  ", line) for line in lines] == [
        " => CACHED [1/3] COPY a /  CACHED",
        " => [2/3] RUN make  (a.c changed)  1.2s",
        " WARNING: take care",
        " => ERROR [other 1/1] RUN test  2.0s",
        "between",
        "3 steps, 1 cached, 3.4s, 0.5s saved, 1.5MB of new layers",
    ]


def test_the_live_view_cuts_the_name_before_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    events: list[Event] = [
        StepStarted(1, "[1/1] RUN " + "word " * 30), StepMissed(1, "a.c changed"), StepFinished(1, 1.0)
    ]  # fmt: skip
    line = _still(shown("tty", events)).splitlines()[0]
    assert len(line) <= 60
    assert line.startswith(" => [1/1] RUN word") and "…  (a.c changed) " in line and line.endswith(" 1.0s")


def test_an_unknown_display_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="--progress fancy"):
        sink_for("fancy", io.StringIO())


def test_auto_is_plain_where_there_is_no_terminal() -> None:
    assert shown("auto").startswith("#1 ")


def printed(*pieces: bytes, failed: bool = False) -> list[Event]:
    """A step that printed `pieces`."""
    end: Event = StepFailed(1, 1.0, "exit code: 1") if failed else StepFinished(1, 1.0)
    return [StepStarted(1, "[1/1] RUN yes"), *(StepOutput(1, 1, piece) for piece in pieces), end]


def test_plain_shows_a_line_that_does_not_end_in_pieces_and_keeps_little_of_it() -> None:
    stream = io.StringIO()
    with sink_for("plain", stream) as sink:
        for event in printed(*[b"x" * 50_000] * 40)[:-1]:
            sink(event)
        lines = stream.getvalue().splitlines()[1:]
    assert [len(line.split(" ")[2]) for line in lines] == [1 << 16] * 30


def test_plain_cuts_no_character_of_a_long_line() -> None:
    text = shown("plain", printed(b"x" + "€".encode() * 100_000 + b"\n"))
    pieces = [line.split(" ")[2] for line in text.splitlines() if re.match(r"#1 \d", line)]
    assert "".join(pieces) == "x" + "€" * 100_000


def test_plain_shows_one_line_for_one_of_the_longest_that_fit() -> None:
    text = shown("plain", printed(b"x" * (1 << 16), b"\n", b"x" * (1 << 17) + b"\n"))
    assert len(re.findall(r"(?m)^#1 \d+\.\d{3} x+$", text)) == 3
    assert not re.findall(r"(?m)^#1 \d+\.\d{3} $", text)


def test_plain_shows_empty_lines_and_those_that_end_as_on_windows() -> None:
    text = shown("plain", printed(b"a\r\n\n\nb\r\r\n"))
    assert re.findall(r"(?m)^#1 \d+\.\d{3} (.*)$", text) == ["a", "", "", "b"]


def test_the_terminal_keeps_the_last_megabyte_of_what_a_step_printed_for_its_failure() -> None:
    lines = b"".join(b"%07d\n" % number for number in range(1_000_000))
    chunks = [lines[begin : begin + 100_000] for begin in range(0, len(lines), 100_000)]
    text = shown("tty", printed(*chunks, failed=True))
    first, _, kept = text.partition(" of output left out; --progress plain shows all]\n")
    assert first.endswith("\n[the first 7.0MB")
    assert [int(line) for line in kept.splitlines()] == list(range(868_929, 1_000_000))


def test_the_terminal_shows_all_that_a_failed_step_printed_where_that_is_little() -> None:
    assert "\none\ntwo\n" in shown("tty", printed(b"one\ntw", b"o\n", failed=True))
