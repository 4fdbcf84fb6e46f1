"""What people and programs see of a build while it runs and when it is over."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

from tests.feature.project import Project

TEXT = """
FROM busybox AS one
RUN echo first line && echo second line >&2
FROM busybox
COPY --from=one /old/a /a
RUN printf 'no end of line'
"""
FAILING = "FROM busybox\nRUN for i in $(seq 40); do echo line $i; done; exit 3\n"


def test_plain_progress_numbers_steps_and_shows_their_output_whole(project: Project) -> None:
    err = project.built("--progress", "plain", text=TEXT).err
    heads = set(re.findall(r"^(#\d+ \[(?:one|stage-1) .*)$", err, re.M))
    for words in ("1/2] FROM ", "1/3] FROM ", "RUN echo first", "COPY --from=one", "RUN printf"):
        assert sum(words in head for head in heads) == 1, err
    assert re.search(r"^#\d+ \d+\.\d{3} first line$", err, re.M)
    assert re.search(r"^#\d+ \d+\.\d{3} second line$", err, re.M)
    assert re.search(r"^#\d+ \d+\.\d{3} no end of line$", err, re.M)
    assert len(re.findall(r"^#\d+ DONE \d+\.\ds, \d", err, re.M)) == 3
    assert re.search(r"^3 steps, 0 cached, \d+\.\ds, .* of new layers\n\Z", err, re.M)


def test_plain_progress_leaves_nothing_out_of_a_long_line_nor_a_long_output(project: Project) -> None:
    text = "FROM busybox\nRUN head -c 100000 /dev/zero | tr '\\000' x; echo; seq 20000\n"
    lines = project.built(text=text).err.splitlines()
    pieces = [found[1] for line in lines if (found := re.fullmatch(r"#\d+ \d+\.\d{3} (x+)", line))]
    assert sum(map(len, pieces)) == 100_000
    assert sum(bool(re.fullmatch(r"#\d+ \d+\.\d{3} \d+", line)) for line in lines) == 20_000


def test_quiet_prints_the_image_id_alone(project: Project) -> None:
    done = project.built("-q", text=TEXT)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.out)
    assert done.err == ""
    assert project.built("--progress", "quiet").err == ""


def test_raw_json_is_one_document_a_line(project: Project) -> None:
    events = [json.loads(line) for line in project.built("--progress", "rawjson", text=TEXT).err.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "BuildFinished"
    assert (events[-1]["steps"], events[-1]["hits"]) == (3, 0)
    assert kinds.count("StepStarted") == kinds.count("StepFinished") >= 3
    output = "".join(event["data"] for event in events if event["event"] == "StepOutput")
    for text in ("first line", "second line", "no end of line"):
        assert text in output


def _screen(data: bytes) -> list[str]:
    """What a terminal shows after `data`: enough of one for what the live view sends."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[(\d*)([A-Za-z])|(\r?\n)|(\r)|([^\x1b\r\n]+)", data.decode()):
        number, letter, newline, back, text = part
        if letter == "A":
            row -= int(number or 1)
            assert row >= 0, "the cursor left the screen"
        elif letter == "J":
            lines[row:] = [""]
        elif letter:
            raise AssertionError(f"unexpected sequence {number}{letter}")
        elif newline:
            row += 1
            if row == len(lines):
                lines.append("")
        elif text:
            assert not back and not lines[row], f"{text!r} over {lines[row]!r}"
            lines[row] = text
    return [line for line in lines if line]


def _on_terminal(project: Project, *arguments: str, rows: int = 50, columns: int = 100) -> tuple[int, bytes]:
    """Run the command line with a terminal as its standard error; exit code and all that it was sent."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "minibuild", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env={**project.variables(), "TERM": "xterm"},
        )
        os.close(theirs)
        theirs = -1
        data = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            data += piece
        return process.wait(60), data
    finally:
        for fd in (ours, theirs):
            if fd >= 0:
                os.close(fd)


def test_a_terminal_shows_each_step_once_and_the_summary(project: Project) -> None:
    project.dockerfile(TEXT + "RUN for i in $(seq 8); do echo $i-beat; sleep 0.1; done\n")
    code, data = _on_terminal(project, "build", *project.base(), str(project.context))
    screen = _screen(data)
    assert code == 0, screen
    assert b"3-beat" in data, "the running step's output was never shown"
    for words in ("RUN echo first", "COPY --from=one", "RUN printf", "RUN for i"):
        shown = [line for line in screen if re.match(rf" => \[.*{re.escape(words)}", line)]
        assert len(shown) == 1, (words, screen)
        assert re.search(r" \d+\.\ds$", shown[0])
    assert re.fullmatch(r"4 steps, 0 cached, .* of new layers", screen[-1].strip())
    assert not any(re.search(r"\d-beat", line) for line in screen)
    assert all(len(line) <= 100 for line in screen if "NOTE: " not in line)

    code, data = _on_terminal(project, "build", *project.base(), str(project.context))
    screen = _screen(data)
    assert sum(line.startswith(" => CACHED [") and " FROM " not in line for line in screen) == 4
    assert sum(bool(re.match(r" => CACHED \[(one|stage-1) 1/\d\] FROM ", line)) for line in screen) == 2
    assert re.fullmatch(r"4 steps, 4 cached, .*", screen[-1].strip())


def test_a_terminal_keeps_the_whole_output_of_a_step_that_fails(project: Project) -> None:
    project.dockerfile(FAILING)
    code, data = _on_terminal(project, "build", *project.base(), str(project.context), rows=20)
    screen = _screen(data)
    assert code == 1
    assert [line for line in screen if line.startswith("line ")] == [f"line {i}" for i in range(1, 41)]
    assert sum(line.startswith(" => ERROR [2/2] RUN") for line in screen) == 1
    assert sum(line.startswith("ERROR: process ") for line in screen) == 1


def test_a_small_terminal_is_not_overrun(project: Project) -> None:
    stages = "".join(f"FROM busybox AS s{i}\nRUN sleep 0.{i}; echo done {i}\n" for i in range(6))
    copies = "".join(f"COPY --from=s{i} /old/a /a{i}\n" for i in range(6))
    project.dockerfile(f"{stages}FROM scratch\n{copies}")
    code, data = _on_terminal(project, "build", *project.base(), str(project.context), rows=6, columns=40)
    screen = _screen(data)
    assert code == 0, screen
    assert sum(bool(re.match(r" => \[s\d ", line)) for line in screen) == 6
    assert all(len(line) <= 40 for line in screen if line.startswith(" =>")), screen


def test_what_a_command_sends_to_move_the_cursor_does_no_harm(project: Project) -> None:
    project.dockerfile(
        "FROM busybox\nRUN printf 'a\\033[2J\\033[5Ab\\n'; sleep 0.5; printf '50%%\\r100%%\\n'\n"
    )
    code, data = _on_terminal(project, "build", *project.base(), str(project.context))
    assert code == 0
    assert b"\x1b[2J" not in data and b"\x1b[5A" not in data


def test_an_interrupt_ends_the_build_with_130_and_one_line(project: Project) -> None:
    project.dockerfile("FROM busybox\nRUN echo begun; sleep 300\n")
    process = project.start("build", *project.base(), str(project.context))
    assert process.stderr is not None
    said = b""
    while b"begun" not in said.split(b"sleep 300")[-1]:
        said += os.read(process.stderr.fileno(), 1 << 16)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in rest
    assert rest.count(b"\nERROR: ") == 1
