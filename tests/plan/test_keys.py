"""Keys stay what they are between versions, or their version changes.

``python -m tests.plan.test_keys`` rewrites the golden file; whoever changes it raises `KEY_VERSION`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from minibuild.errors import SourceRange
from minibuild.plan import keys, steps

GOLDEN = Path(__file__).parents[1] / "golden" / "keys.json"
WHERE = SourceRange("Dockerfile", 1, 1)

RUN = steps.RunStep(
    name="",
    instruction="",
    where=WHERE,
    args=("/bin/sh", "-c", "true"),
    env=(("PATH", "/bin"), ("A", "1")),
    cwd="/w",
    user="app",
    mounts=(
        steps.BindMount("/bind", steps.FromContext(), "/d"),
        steps.CacheMount("/cache", "ns/id", "locked", mode=0o700, uid=1, gid=2),
        steps.TmpfsMount("/tmp", 1024),
        steps.SecretMount("id", "/run/secrets/id"),
        steps.SshMount("default"),
        steps.ScriptMount("/dev/pipes/EOF", "#!/bin/sh\n"),
    ),
    network="none",
)
COPY = steps.CopyStep(
    name="",
    instruction="",
    where=WHERE,
    source=steps.FromContext(),
    items=(
        steps.PathItem("a"),
        steps.InlineItem("EOF", "text"),
        steps.UrlItem("https://example.com/f", "f"),
        steps.GitItem("https://example.com/r.git", "main"),
    ),
    dest="/x/",
    chown="1:2",
    chmod="u+x",
)
WORKDIR = steps.WorkdirStep(name="", instruction="", where=WHERE, path="/w", user="app")

COMMON = {"parent": "sha256:00", "platform": "linux/amd64", "epoch": ""}
CONTENTS = {0: "c0", 1: "c1", 2: "c2", 3: "c3"}


def examples() -> dict[str, str]:
    """A key for each kind of step."""
    return {
        "version": str(keys.KEY_VERSION),
        "run": keys.key_of(keys.run_parts(RUN, mounts={0: "content"}, **COMMON)),
        "copy": keys.key_of(keys.copy_parts(COPY, contents=CONTENTS, **COMMON)),
        "copy --link": keys.key_of(keys.copy_parts(replace(COPY, link=True), contents=CONTENTS, **COMMON)),
        "workdir": keys.key_of(keys.workdir_parts(WORKDIR, **COMMON)),
    }


def test_keys_are_as_they_were() -> None:
    assert examples() == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(
    "changed",
    [
        replace(COPY, dest="/x"),
        replace(COPY, chown="1:3"),
        replace(COPY, chmod="u+w"),
        replace(COPY, unpack=True),
        replace(COPY, link=True),
        replace(COPY, exclude=("a",)),
        replace(COPY, items=(*COPY.items[:1], steps.InlineItem("E", "text"), *COPY.items[2:])),
        replace(
            COPY,
            items=(*COPY.items[:2], replace(COPY.items[2], unpack=True), COPY.items[3]),  # type: ignore[type-var]
        ),
    ],
)
def test_each_flag_of_a_copy_counts(changed: steps.CopyStep) -> None:
    before = keys.copy_parts(COPY, contents=CONTENTS, **COMMON)
    after = keys.copy_parts(changed, contents=CONTENTS, **COMMON)
    assert keys.key_of(before) != keys.key_of(after)


def test_what_is_for_people_only_does_not_count() -> None:
    shown = replace(RUN, name="[2/3] RUN", instruction="run", where=SourceRange("Other", 7, 9))
    before = keys.run_parts(RUN, mounts={0: "c"}, **COMMON)
    assert keys.run_parts(shown, mounts={0: "c"}, **COMMON) == before


def test_a_link_step_does_not_depend_on_what_lies_below() -> None:
    step = replace(COPY, link=True)
    one = keys.copy_parts(step, contents=CONTENTS, **COMMON)
    other = keys.copy_parts(step, contents=CONTENTS, **{**COMMON, "parent": "sha256:11"})
    assert one == other


def test_parts_cannot_run_into_each_other() -> None:
    assert keys.key_of({"a": "b", "c": "d"}) != keys.key_of({"a": 'b","c":"d'})


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(examples(), indent=1) + "\n")
