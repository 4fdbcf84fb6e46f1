"""Files that were never hashed are hashed while their layer is written: same keys, same layers."""

import os
import shutil

import pytest
from minibuild_store.store import Store

import minibuild
from minibuild.context import lines, ordering, survey
from minibuild.context.rows import Row
from minibuild.engine.contextcopy import ContextCopy
from minibuild.engine.dryrun import dry_run
from minibuild.engine.sources import ContextFiles
from minibuild.errors import UsageError


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "context"
    (folder / "src/deep").mkdir(parents=True)
    (folder / "src/large").write_bytes(os.urandom(3 << 20))
    (folder / "src/deep/small").write_text("small")
    (folder / "src/deep/empty").touch()
    os.link(folder / "src/large", folder / "src/deep/linked")
    (folder / "src/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (folder / "other").mkdir()
    (folder / "other/large").write_bytes(os.urandom(2 << 20))
    for path in folder.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    return folder


def build(root, context, *lines):
    (context / "Dockerfile").write_text("\n".join(("FROM scratch", *lines)))
    for path in (context / "Dockerfile", context):  # COPY . takes both along
        os.utime(path, (1, 1))
    with Store.open(root) as store:
        result = minibuild.build(minibuild.BuildRequest(context=context), store=store)
        return result, set(store.records("steps").names())


LINES = [
    "COPY src /src",
    "COPY src/ /etc/",
    "COPY */large /one/",
    "COPY src/l* src/d* /x/",
    "COPY . /",
    "COPY --chown=1:2 --chmod=700 src /a/b/",
    "COPY --link src/deep /deep",
    "WORKDIR /src\nCOPY src .",
    "COPY src /src\nCOPY src /src",
    "COPY src/deep /src/deep\nCOPY . /src/",
    "COPY --exclude=deep/l* src /src",
    "COPY --parents src/./deep src/l* */large /x/",
    "COPY --parents --exclude=**/small src /x/",
    "COPY src other/ src/deep/* /x/",
    "ADD src* /x/",
]


@pytest.mark.parametrize("line", LINES)
def test_reading_once_gives_the_same_key_and_layer(tmp_path, context, monkeypatch, line):
    passing, passing_keys = build(tmp_path / "passing", context, line)
    monkeypatch.setattr(ContextFiles, "never_hashed", False)
    once, once_keys = build(tmp_path / "once", context, line)
    monkeypatch.setattr(ContextCopy, "write_first", lambda *_: None)
    twice, twice_keys = build(tmp_path / "twice", context, line)
    monkeypatch.setattr(ordering, "_HELD", 2)
    monkeypatch.setattr(lines, "_HELD", 2)
    monkeypatch.setattr(survey, "_AT_ONCE", 2)
    spooled, spooled_keys = build(tmp_path / "spooled", context, line)
    assert passing.config.diff_ids == once.config.diff_ids == twice.config.diff_ids == spooled.config.diff_ids
    assert passing_keys == once_keys == twice_keys == spooled_keys


def test_what_is_learned_in_passing_is_known_to_the_next_build(tmp_path, context, monkeypatch):
    monkeypatch.setattr("minibuild.context.digests._RACY_NS", -1 << 60)
    (context / ".dockerignore").write_text("src/deep/small\n")
    root = tmp_path / "store"
    build(root, context, "COPY src /src")
    with Store.open(root) as store:
        files = ContextFiles(context, None, store)
        rows = [
            item
            for item in files.survey("src", exclude=(), parents=False)
            if isinstance(item, Row) and item.entry.size
        ]
        found = files._digests.hashed(rows)
        known = {
            os.path.basename(row.where): digest is not None for row, digest in zip(rows, found, strict=True)
        }
    assert known == {b"large": True, b"linked": True, b"small": False, b"passwd": True}


def test_a_layer_that_is_known_is_found_when_the_tables_of_files_are_gone(tmp_path, context):
    root = tmp_path / "store"
    first, _ = build(root, context, "COPY src /src")
    for kind in ("files", "selections"):
        shutil.rmtree(next(root.glob("records*")) / kind, ignore_errors=True)
    again, _ = build(root, context, "COPY src /src")
    assert [step.cached for step in again.steps] == [True]
    assert again.manifest == first.manifest


def test_a_second_build_reads_nothing(tmp_path, context, monkeypatch):
    monkeypatch.setattr("minibuild.context.digests._RACY_NS", -1 << 60)  # trust what has just changed
    first, _ = build(tmp_path / "store", context, "COPY src /src")
    monkeypatch.setattr("minibuild.engine.contextcopy.write_layer", lambda *_: pytest.fail("read again"))
    again, _ = build(tmp_path / "store", context, "COPY src /src")
    assert again.manifest == first.manifest


@pytest.fixture
def racy(monkeypatch):
    """Nothing that is read may be known by its stamp."""
    monkeypatch.setattr("minibuild.context.digests._RACY_NS", 1 << 62)


@pytest.mark.parametrize("line", ["COPY src /src", "COPY --link */large /one/", "COPY --parents src /x/"])
def test_what_was_checked_out_just_before_is_not_written_again(tmp_path, context, monkeypatch, racy, line):
    first, _ = build(tmp_path / "store", context, line)
    monkeypatch.setattr("minibuild.engine.contextcopy.write_layer", lambda *_: pytest.fail("written again"))
    again, _ = build(tmp_path / "store", context, line)
    assert [step.cached for step in again.steps] == [True]
    assert again.manifest == first.manifest


def test_two_copies_of_what_was_checked_out_just_before_are_not_written_again(
    tmp_path, context, monkeypatch, racy
):
    first, _ = build(tmp_path / "store", context, "COPY other /one", "COPY src /two")
    monkeypatch.setattr("minibuild.engine.contextcopy.write_layer", lambda *_: pytest.fail("written again"))
    again, _ = build(tmp_path / "store", context, "COPY other /one", "COPY src /two")
    assert again.manifest == first.manifest


def test_what_was_checked_out_just_before_and_comes_elsewhere_is_read_once(
    tmp_path, context, monkeypatch, racy
):
    build(tmp_path / "store", context, "COPY src /src")
    monkeypatch.setattr(ContextCopy, "look", lambda *_: pytest.fail("read before it was written"))
    other, _ = build(tmp_path / "store", context, "COPY src /other")
    assert [step.cached for step in other.steps] == [False]


def test_a_change_that_no_stamp_shows_is_seen_where_a_layer_was_written_before(tmp_path, context, racy):
    first, _ = build(tmp_path / "store", context, "COPY src /src")
    with open(context / "src/large", "r+b") as file:
        file.write(b"another beginning")
    os.utime(context / "src/large", (1, 1))
    other, _ = build(tmp_path / "store", context, "COPY src /src")
    assert other.config.diff_ids != first.config.diff_ids


def test_nothing_is_written_where_nothing_is_to_be_executed(tmp_path, context, monkeypatch):
    (context / "Dockerfile").write_text("FROM scratch\nCOPY src /src\n")
    monkeypatch.setattr(
        "minibuild.engine.contextcopy.write_layer", lambda *_: pytest.fail("a layer was written")
    )
    with Store.open(tmp_path / "store") as store:
        [stage] = dry_run(minibuild.BuildRequest(context=context), store=store)
        assert [step.state for step in stage.steps] == ["miss"]


def test_an_unreadable_file_is_named(tmp_path, context):
    (context / "src/large").chmod(0)
    if os.access(context / "src/large", os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(minibuild.UsageError, match=r"large|linked"):  # two names of one file
        build(tmp_path / "store", context, "COPY src /src")


def test_a_file_that_changes_between_being_looked_at_and_written_is_refused(tmp_path, context, monkeypatch):
    monkeypatch.setattr(ContextCopy, "write_first", lambda *_: None)
    look = ContextCopy.look

    def change(*given):
        content = look(*given)
        (context / "src/deep/small").write_text("other")
        return content

    monkeypatch.setattr(ContextCopy, "look", change)
    with pytest.raises(UsageError, match=r"small changed while it was being copied"):
        build(tmp_path / "store", context, "COPY src /src")
    monkeypatch.setattr(ContextCopy, "look", look)
    build(tmp_path / "store", context, "COPY src /src")


def test_the_layer_is_what_was_looked_at_whatever_comes_after(tmp_path, context, monkeypatch):
    monkeypatch.setattr(ContextCopy, "write_first", lambda *_: None)
    before, _ = build(tmp_path / "before", context, "COPY src /src")
    look = ContextCopy.look

    def change(*given):
        content = look(*given)
        (context / "src/deep/more").touch()
        return content

    monkeypatch.setattr(ContextCopy, "look", change)
    result, _ = build(tmp_path / "store", context, "COPY src /src")
    assert result.config.diff_ids == before.config.diff_ids
