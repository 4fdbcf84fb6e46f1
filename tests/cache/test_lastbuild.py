"""A fresh machine with a shared cache says what changed since the build that wrote it."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.cache.journal import Journal, StageRow, StepRow
from minibuild.cache.lastbuild import LARGEST, NOT_TOLD, read_build, write_build
from minibuild.cache.listings import shortened
from tests.cache.edits import EDITS, Edit
from tests.cache.test_explain import last, reset, wrong
from tests.feature.project import Project


def freed(project: Project, count: int) -> None:
    """Go on with a store of its own, as a new machine does."""
    project.store = project.root / f"store{count}"
    project.environment["MINIBUILD_ROOT"] = str(project.store)


def told(edit: Edit) -> Edit:
    """The edit, with what is expected of old values taken back to what a shared cache tells."""
    causes = {}
    for words, (kind, reason) in edit.causes.items():
        if kind in ("arg", "env") and " changed: " in reason:
            name, _, values = reason.partition(" changed: ")
            reason = f"{name} changed: {NOT_TOLD} → {values.partition(' → ')[2]}"
        causes[words] = (kind, reason)
    return replace(edit, causes=causes)


def test_every_edit_is_explained_by_a_shared_cache_as_by_a_store(project: Project) -> None:
    more = ("--build-context", f"debian=oci-layout://{project.bases}:layered")
    cache = project.root / "cache"
    shared = ("--cache-from", f"type=local,src={cache}")
    found = []
    for count, edit in enumerate(edit for edit in EDITS if not edit.here):
        reset(project)
        edit.first(project)
        project.built(*more, *edit.both, "--cache-to", f"type=local,dest={cache},mode=max")
        freed(project, count)
        edit.make(project)
        project.built(*more, *edit.given(project), *shared)
        found += wrong(told(edit), last(project))
    assert not found, "\n".join(found)


TEXT = "FROM busybox\nARG TOKEN=x\nCOPY src /src\nRUN cat /src/a > /b\n"


@pytest.fixture
def exported(project: Project) -> Project:
    project.write("src/a", "a")
    to = f"type=local,dest={project.root / 'cache'},mode=max"
    project.built("--cache-to", to, "--build-arg", "TOKEN=easily guessed", text=TEXT)
    freed(project, 1)
    return project


def document(cache: Path) -> dict[str, Any]:
    def blob(digest: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((cache / "blobs" / digest.replace(":", "/")).read_bytes())
        return found

    index = json.loads((cache / "index.json").read_bytes())
    return blob(blob(index["manifests"][0]["digest"])["config"]["digest"])


def source(project: Project) -> tuple[str, str]:
    return "--cache-from", f"type=local,src={project.root / 'cache'}"


def test_the_changed_file_is_named_where_nothing_was_built_before(exported: Project) -> None:
    exported.write("src/a", "other")
    done = exported.built(*source(exported), "--build-arg", "TOKEN=easily guessed")
    assert "not cached: src/a changed" in done.step("COPY src")
    assert "follows" in done.step("RUN cat") and "src/a changed" in done.step("RUN cat")
    assert "src/a changed" in exported.command("cache", "why", "COPY").out


def test_the_changed_file_is_named_where_the_cache_was_written_for_another_target(project: Project) -> None:
    text = "FROM busybox AS one\nCOPY a /\nFROM one\nRUN true\n"
    project.write("a", "a")
    project.built("--cache-to", f"type=local,dest={project.root / 'cache'},mode=max", text=text)
    freed(project, 1)
    project.write("a", "other")
    done = project.built(*source(project), "--target", "one", text=text)
    assert "not cached: a changed" in done.step("COPY a")


def test_files_of_a_stage_that_was_only_ever_hit_are_named_by_the_cache(project: Project) -> None:
    text = "FROM busybox AS one\nCOPY src /src\nRUN cat /src/a > /b\nFROM busybox\nCOPY --from=one /b /c/\n"
    project.write("src/a", "a")
    project.built("--cache-to", f"type=local,dest={project.root / 'cache'},mode=max", text=text)
    freed(project, 1)
    assert project.built(*source(project)).summary == (3, 3)
    project.write("src/a", "other")
    assert "not cached: b changed" in project.built(*source(project)).step("COPY --from")


def test_no_value_of_an_argument_is_in_the_cache(exported: Project) -> None:
    text = document(exported.root / "cache")["build"]
    build = read_build([text], "anywhere\nDockerfile\n")
    assert build is not None and "easily guessed" not in repr(build)
    assert Digest.of(b"easily guessed").split(":")[1][:12] not in repr(build)


def test_no_password_of_an_address_is_in_the_cache(project: Project) -> None:
    text = "FROM busybox\nARG A=1\nRUN echo https://me:s3same@example.com/$A > /got\n"
    project.built("--cache-to", f"type=local,dest={project.root / 'cache'},mode=max", text=text)
    told = document(project.root / "cache")
    assert "s3same" not in repr(told) + repr(read_build([told["build"]], "anywhere\nDockerfile\n"))
    freed(project, 1)
    done = project.built(*source(project), "--build-arg", "A=2")
    assert "ARG A changed" in done.step("RUN echo") and "command" not in done.step("RUN echo")


def test_a_folder_of_another_name_is_the_same_project(exported: Project) -> None:
    elsewhere = exported.root / "elsewhere"
    shutil.copytree(exported.context, elsewhere)
    exported.context = elsewhere
    exported.write("src/a", "other")
    assert "src/a changed" in exported.built(*source(exported)).step("COPY src")


def test_what_this_store_has_seen_comes_first(exported: Project) -> None:
    exported.write("src/a", "second")
    exported.built()
    exported.write("src/new", "")
    assert "src/new is new" in exported.built(*source(exported)).step("COPY src")


def test_a_cache_of_another_dockerfile_explains_nothing(exported: Project) -> None:
    (exported.context / "Dockerfile").rename(exported.context / "Other")
    exported.write("src/a", "other")
    done = exported.built(*source(exported), "-f", str(exported.context / "Other"))
    assert "never built here" in done.step("COPY src")


def test_a_step_whose_layer_the_cache_has_lost_is_said_not_to_be_there(project: Project) -> None:
    text = "FROM busybox\nRUN echo 1 > /1\n"
    cache = project.root / "cache"
    project.built("--cache-to", f"type=local,dest={cache}", text=text)
    freed(project, 1)
    manifest = json.loads((cache / "index.json").read_bytes())["manifests"][0]["digest"]
    layers = json.loads((cache / "blobs" / manifest.replace(":", "/")).read_bytes())["layers"]
    (cache / "blobs" / layers[0]["digest"].replace(":", "/")).unlink()
    done = project.built(*source(project), "-o", f"type=oci,dest={project.root / 'image.tar'}")
    assert "not cached: its result is not in the shared cache" in done.err


def test_a_cache_can_be_written_without(project: Project) -> None:
    project.write("src/a", "a")
    project.built("--cache-to", f"type=local,dest={project.root / 'cache'},explain=false", text=TEXT)
    assert "build" not in document(project.root / "cache")


@pytest.mark.parametrize("text", ["", "?", "AAAA", "eJwDAAAAAAE=", "eJyrVipLLSrOzM9TsjLUUUpKLU6NBgA="])
def test_what_cannot_be_read_explains_nothing(text: str) -> None:
    assert read_build([text], "folder\nDockerfile\n") is None


def described(folder: Path) -> tuple[Journal, dict[str, Any]]:
    """A build, and what is written of it, unpacked."""
    with Store.open(folder) as store:
        noted, listings = journal(store, 1, 1)
        return noted, json.loads(zlib.decompress(base64.b64decode(write_build(noted, listings.get))))


def packed(document: dict[str, Any]) -> str:
    return base64.b64encode(zlib.compress(json.dumps(document).encode())).decode()


@pytest.mark.parametrize("part", ["place", "stages", "steps", "listings"])
@pytest.mark.parametrize("value", [None, 7, [[]], ["a", "b", "c"]])
def test_what_is_of_another_form_explains_nothing(tmp_path: Path, part: str, value: object) -> None:
    noted, whole = described(tmp_path)
    assert read_build([packed({**whole, part: value})], noted.place) is None


def test_parts_of_another_form_explain_nothing(tmp_path: Path) -> None:
    noted, whole = described(tmp_path)
    assert read_build([packed(whole)], noted.place) is not None
    whole["steps"][0][-1] = []
    assert read_build([packed(whole)], noted.place) is None


def test_an_unchanged_build_is_described_by_the_same_bytes(project: Project) -> None:
    project.write("src/a", "a")
    texts = []
    for name in ("one", "two"):
        project.built("--cache-to", f"type=local,dest={project.root / name},mode=max", text=TEXT)
        texts.append(document(project.root / name)["build"])
    assert texts[0] == texts[1]


def journal(store: Store, files: int, stages: int) -> tuple[Journal, dict[str, dict[bytes, bytes]]]:
    """A build that copies as many files in each of its stages."""
    noted = Journal(store)
    rows = [StageRow(f"stage{n}", "scratch", ("COPY . /",)) for n in range(stages)]
    noted.begin("/folder\nDockerfile\n", "", rows)
    listings = {}
    for number in range(stages):
        content = f"{number:064x}"
        listings[content] = {
            b"folder%d/sub/file%d.py" % (n // 50, n): b"0 644 0:0 " + Digest.of(b"%d" % n).hex.encode()
            for n in range(files * (number + 1))
        }
        parts = {"kind": "copy", "source 0": content, "source 0 name": ""}
        step = StepRow(
            f"stage{number}", 0, "COPY", "COPY . /", f"k{number}", False, 0, 0, 0, 0, "", parts=parts
        )
        noted.add(step)
    return noted, listings


def test_its_size_is_bounded_and_the_shortest_lists_stay(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        noted, listings = journal(store, 8_000, 4)
        text = write_build(noted, listings.get)
    assert len(text) <= LARGEST
    build = read_build([text], "/other\nDockerfile\n")
    assert build is not None and 0 < len(build.listings) < 4
    first = f"{0:064x}"
    assert build.listing(first) == {name: shortened(rest) for name, rest in listings[first].items()}


def test_a_build_of_ten_thousand_files_takes_less_than_twenty_bytes_a_file(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        noted, listings = journal(store, 10_000, 1)
        assert len(write_build(noted, listings.get)) < 20 * 10_000
