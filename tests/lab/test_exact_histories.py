"""Histories nobody thought of: keys alone agree with executed builds step by step."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minibuild.lab.trace import Content
from tests.lab.histories import Both, hits

FILES = ("a.txt", "r.md", "d/b.txt", "d/deep/c.txt")
CONTENTS: tuple[Content, ...] = (
    "1",
    "2",
    {"text": "1", "mode": "755"},
    {"link": "r.md"},
)
IGNORES = ("", "*.md\n", ".git\n", ".git\n**/deep\n", "*\n!a.txt\n!r.md\n!d/b.txt\n")

# What two builds within a second write must differ, as what builds a while apart write does by its time.
NEW = "cat /proc/sys/kernel/random/uuid"

STEPS = (
    "COPY a.txt /x/",
    "COPY a.txt /x/a.txt",
    "COPY d/ /x/d/",
    "COPY --chmod=644 a.txt d/b.txt /y/",
    "COPY --link a.txt /l/",
    "COPY . /all/",
    "COPY --exclude=*.txt d /e/",
    "COPY --parents d/b.txt /p/",
    "COPY a* /w/",
    "COPY --from=files /d/b.txt /from/",
    "COPY --from=files /a.txt /etc/a",
    "COPY <<EOF /here\n1\nEOF",
    "WORKDIR /w",
    "WORKDIR /w/",
    "USER 0",
    "ENV A=1",
    "ENV A=2",
    f"RUN {NEW} > /tmp/1",
    f"RUN --mount=type=bind,source=d,target=/m {NEW} > /tmp/2",
    f"RUN --mount=type=bind,from=files,target=/m {NEW} > /tmp/3",
)

START = ["FROM scratch AS files", "COPY a.txt d /", "COPY --parents d/b.txt /", "FROM busybox"]
texts = st.lists(st.sampled_from(STEPS), min_size=1, max_size=6).map(
    lambda steps: "\n".join([*START, *steps, ""])
)
edits = st.dictionaries(st.sampled_from(FILES), st.sampled_from(CONTENTS), max_size=2)
histories = st.tuples(
    st.lists(texts, min_size=1, max_size=2),
    st.lists(st.tuples(edits, st.sampled_from(IGNORES), st.integers(0, 1)), min_size=2, max_size=5),
)


Change = tuple[dict[str, Content], str, int]


def commits(dockerfiles: list[str], changes: list[Change]) -> list[dict[str, Content]]:
    first: dict[str, Content] = dict.fromkeys(FILES, "0")
    found: list[dict[str, Content]] = []
    for edit, ignore, number in changes:
        text = dockerfiles[number % len(dockerfiles)]
        found.append({**(first if not found else {}), **edit, ".dockerignore": ignore, "Dockerfile": text})
    return found


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories)
def test_any_small_history(bases: Path, sandbox_works: None, history: tuple[list[str], list[Change]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        both = Both(Path(folder), commits(*history), bases=bases)
        for thought, real in zip(hits(both.thought), hits(both.real), strict=True):
            assert thought.endswith("!") == real.endswith("!")
            if thought.endswith("!"):  # how far the other stages came is chance
                break
            assert thought == real
