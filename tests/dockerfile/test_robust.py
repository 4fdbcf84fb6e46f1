"""No input raises anything but DockerfileError, and every such error has its place."""

from __future__ import annotations

import contextlib
import random

from hypothesis import given
from hypothesis import strategies as st

from minibuild.dockerfile.excerpt import describe
from minibuild.dockerfile.lint import lint
from minibuild.dockerfile.parse import parse, parse_onbuild
from minibuild.errors import DockerfileError

LINES = [
    "FROM a", "FROM --platform=$X a AS b", "from b", "ARG A=1 B", 'ENV A=$B C="d e" F=\'g\'',
    "ENV A b c", "LABEL a=b\\", "RUN x \\", "RUN <<E", "RUN <<-'E' <<F", "E", "\tE", "F",
    "COPY <<E a /b", "COPY --from=b --chown=$A a b", "",
    "RUN --mount=type=cache,target=$A --network=none x", 'RUN ["a", "b"]', 'CMD ["a"', 'CMD ["a", 1]',
    "ADD $A ${B:-c} /d", "ONBUILD RUN <<E", "ONBUILD ONBUILD",
    "HEALTHCHECK --interval=1s --retries=2 CMD a", "HEALTHCHECK NONE", "SHELL []", "EXPOSE 80 1:2/UDP",
    'VOLUME ["a"]', "USER ${A:?no}", "WORKDIR ${A#*x}", "STOPSIGNAL 9", "MAINTAINER x",
    "# check=skip=all", "# escape=`", "#", "# b says", "RUN x `", "COPY `", "\ufeff", "#!x",
    "EXPOSE ${A//x/y}", "COPY <<E$A /x", "${A/", "RUN",
]  # fmt: skip
BITS = [*"\\`'\"$ \t\r\n#[]{},=-<>!:/*?%@\0é\xa0\u2028\ud800", "\\\n", "<<", "${", "--", "\r\n"]


def check(text: str | bytes) -> None:
    try:
        dockerfile = parse(text)
        lint(dockerfile)
    except DockerfileError as error:
        assert error.where is not None
        assert error.cure
        describe(error, text if isinstance(text, str) else text.decode("utf-8", "replace"))
        return
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            assert 1 <= instruction.where.first <= instruction.where.last <= dockerfile.text.count("\n") + 1


def random_file(rng: random.Random) -> str:
    rows = ["FROM a"] * (rng.random() < 0.9) + rng.choices(LINES, k=rng.randint(0, 8))
    text = rng.choice(["\n", "\n", "\r\n"]).join(rows)
    for _ in range(rng.choice([0, 0, 1, 2, 5])):
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(BITS) + text[at + rng.randint(0, 3) :]
    return text


def test_random_files_are_read_or_refused() -> None:
    rng = random.Random(20)
    for _ in range(3_000):
        check(random_file(rng))


def test_random_triggers_are_read_or_refused() -> None:
    rng = random.Random(21)
    for _ in range(1_000):
        with contextlib.suppress(DockerfileError):
            parse_onbuild(random_file(rng))


@given(st.text() | st.binary())
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    check(text)


@given(st.lists(st.sampled_from(LINES) | st.text(max_size=12), max_size=8).map("\n".join))
def test_any_lines_are_read_or_refused(text: str) -> None:
    check(f"FROM a\n{text}")
