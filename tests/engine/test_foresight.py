"""COPYs that follow one another are written side by side: the result is that of one after the other."""

import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minibuild_store import stopping, turns
from minibuild_store.store import Store

import minibuild
from minibuild.cache.eviction import Policy
from minibuild.engine import copylayer, foresight, sources, writing
from minibuild.engine.upkeep import make_room
from minibuild.errors import Cancelled, MinibuildError, UsageError
from minibuild.events import Notice

PASSWD = "root:x:0:0::/:/bin/sh\nuser:x:7:8::/:/bin/sh\n"


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("context")
    (folder / "tree/a").mkdir(parents=True)
    (folder / "tree/b").mkdir(mode=0o700)
    (folder / "tree/a/x").write_text("tree's x")
    (folder / "tree/b/y").write_text("tree's y")
    (folder / "tree/l").symlink_to("a")
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "a/b/c/z").write_text("z")
    (folder / "x").write_text("x")
    (folder / "y").write_text("y")
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text(PASSWD)
    (folder / "to_a").symlink_to("/a")
    (folder / "links").mkdir()
    (folder / "links/l").symlink_to("/a/b")
    for number, path in enumerate(sorted(folder.rglob("*"))):
        os.utime(path, (number, number), follow_symlinks=False)
    return folder


def built(context, lines, store, sink=lambda event: None, **options):
    """The diff IDs, history and keys, or what is wrong."""
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "Dockerfile").write_text("\n".join(lines))
        request = minibuild.BuildRequest(context=context, dockerfile=Path(work) / "Dockerfile", **options)
        try:
            with Store.open(store) as opened:
                result = minibuild.build(request, store=opened, sink=sink)
                keys = set(opened.records("steps").names())
        except MinibuildError as error:
            return error.message, error.where and error.where.first
    return result.config.diff_ids, [line.created_by for line in result.config.history], keys


def both_ways(context, lines, folder, **options):
    """What comes of it one after the other, and side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_LITTLE", -1)
        patch.setattr(foresight, "_at_once", lambda: 4)
        side_by_side = built(context, lines, folder / "side by side", **options)
        patch.setattr(foresight, "followers", lambda place: [])
        return built(context, lines, folder / "in a row", **options), side_by_side


SOURCES = ["x", "y", "tree", "tree/a", "a", "links", "to_a", "etc", "tree/* x", "missing", "."]
PLACES = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/c/",
    "/l",
    "/l/",
    "/l/x",
    "/x",
    "/x/y",
    "/etc/",
    "/new/deep/",
    "/a/x",
]
FLAGS = ["", "", "--chown=user ", "--chown=1:2 ", "--chmod=700 ", "--parents ", "--link "]


def plainly(flags, source, place):
    return f"COPY {flags}{source} {place if ' ' not in source or place.endswith('/') else place + '/'}"


STEP = st.builds(plainly, st.sampled_from(FLAGS), st.sampled_from(SOURCES), st.sampled_from(PLACES)).filter(
    lambda line: "--link missing" not in line  # fails before its turn
)


@pytest.mark.parametrize("careful", [True, False])
@settings(max_examples=50, deadline=None)
@given(copies=st.lists(STEP, min_size=2, max_size=5), on_a_base=st.booleans())
def test_the_result_is_that_of_one_after_the_other(context, careful, copies, on_a_base):
    base = ["FROM scratch AS base", "COPY links tree /", "COPY etc /etc"]
    lines = [*base, "FROM base", *copies] if on_a_base else ["FROM scratch", *copies]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if not careful:  # guesses that turn out to be wrong
            patch.setattr(foresight, "_overlap", lambda one, other: False)
        in_a_row, side_by_side = both_ways(context, lines, Path(folder))
    assert side_by_side == in_a_row


@pytest.mark.parametrize(
    "copies",
    [
        ("COPY x /a/one", "COPY y /a/two"),  # the first makes the folder
        ("COPY x /d/e/", "COPY y /d/f/g"),
        ("COPY tree /l/deep", "COPY x /x"),  # through a link
        ("COPY --chown=user x /one", "COPY --chown=user y /two"),
        ("COPY --from=base / /base", "COPY tree /tree", "ADD x /x"),
        ("COPY <<one /b/\n1\none", "COPY <<two /b/\n2\ntwo", "COPY x /there"),
    ],
)
def test_copies_to_different_places_are_written_once(context, tmp_path, monkeypatch, copies):
    lines = ["FROM scratch AS base", "COPY links tree /", "COPY etc /etc", "FROM base", *copies]
    agreed = []
    agrees = foresight.Noted.agrees
    monkeypatch.setattr(foresight.Noted, "agrees", lambda *of: agreed.append(agrees(*of)) or agreed[-1])
    in_a_row, side_by_side = both_ways(context, lines, tmp_path)
    assert side_by_side == in_a_row
    assert agreed.count(True) >= len(copies) - 1
    assert False not in agreed


@pytest.mark.parametrize(
    "copies",
    [
        ("COPY x /one", "COPY y /one"),
        ("COPY x /one", "COPY y /one/two"),
        ("COPY x /one/two", "COPY tree /one"),
        ("COPY tree /", "COPY x /x"),
        ("COPY tree /one", "COPY x /one/x"),
        ("COPY x /", "COPY *x /"),
    ],
)
def test_a_copy_to_where_another_puts_something_waits_for_it(context, tmp_path, monkeypatch, copies):
    written = []
    monkeypatch.setattr(foresight, "write", lambda *of: written.append(of))
    both_ways(context, ["FROM scratch", *copies], tmp_path)
    assert written == []


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A context of files that are worth it."""
    folder = tmp_path / "large"
    folder.mkdir()
    for name in ("one", "two", "three"):
        (folder / name).write_bytes(os.urandom(5 << 20))
    monkeypatch.setattr(foresight, "_at_once", lambda: 3)
    monkeypatch.setattr(turns._process, "slots", turns.Slots(3))
    return folder


LARGE = ["FROM scratch", "COPY one /one", "COPY two /two", "COPY three /three"]


def while_writing(monkeypatch, do):
    """Have `do(name)` called in place of writing the file, with what goes on with it."""
    write = sources._FromDisk.write

    def written(self, writer, placed):
        do(os.path.basename(placed.where).decode(), lambda: write(self, writer, placed))

    monkeypatch.setattr(sources._FromDisk, "write", written)


def test_copies_are_written_side_by_side(large, tmp_path, monkeypatch):
    all_at_it = threading.Barrier(3)

    def write(name, go_on):
        all_at_it.wait(60)
        go_on()

    while_writing(monkeypatch, write)
    diff_ids, _, keys = built(large, LARGE, tmp_path / "store")
    assert len(diff_ids) == len(keys) == 3


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_more_are_written_side_by_side_than_there_are_jobs(large, tmp_path, monkeypatch, jobs):
    at_it, most, mutex = 0, 0, threading.Lock()

    def write(name, go_on):
        nonlocal at_it, most
        with mutex:
            at_it += 1
            most = max(most, at_it)
        go_on()
        with mutex:
            at_it -= 1

    while_writing(monkeypatch, write)
    diff_ids, _, _ = built(large, LARGE, tmp_path / "store", jobs=jobs)
    assert len(diff_ids) == 3
    assert most <= jobs


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_copy_that_fails_stops_those_begun_after_it(large, tmp_path, monkeypatch, keep_going):
    begun = threading.Barrier(3)
    stopped = []

    def write(name, go_on):
        begun.wait(60)
        if name == "one":
            raise UsageError("the disk is on fire")
        try:
            stopping.pause(60)
        except Cancelled:
            stopped.append(name)
            raise

    while_writing(monkeypatch, write)
    what = built(large, LARGE, tmp_path / "store", keep_going=keep_going)
    assert what == ("the disk is on fire", 2)
    assert sorted(stopped) == ["three", "two"]


def test_of_two_that_fail_the_first_is_told(large, tmp_path, monkeypatch):
    second_failed = threading.Event()

    def write(name, go_on):
        if name == "one":
            assert second_failed.wait(60)
        if name == "two":
            second_failed.set()
        raise UsageError(f"{name} is unreadable")

    while_writing(monkeypatch, write)
    assert built(large, LARGE, tmp_path / "store") == ("one is unreadable", 2)


def test_what_failed_before_its_turn_is_tried_again(large, tmp_path, monkeypatch):
    second_failed = threading.Event()

    def write(name, go_on):
        if name == "one":
            assert second_failed.wait(60)
        if name == "two" and not second_failed.is_set():
            second_failed.set()
            raise UsageError("too early")
        go_on()

    while_writing(monkeypatch, write)
    diff_ids, _, _ = built(large, LARGE, tmp_path / "store")
    assert len(diff_ids) == 3


def test_nothing_is_written_before_its_turn_below_what_is_cached(large, tmp_path, monkeypatch):
    monkeypatch.setattr("minibuild.context.digests._RACY_NS", -1 << 60)
    built(large, LARGE, tmp_path / "store")
    (large / "three").write_bytes(os.urandom(5 << 20))
    written = []
    while_writing(monkeypatch, lambda name, go_on: (written.append(name), go_on()))
    built(large, LARGE, tmp_path / "store")
    assert written == ["three"]


def test_nothing_that_is_cached_is_written_beside_files_that_only_have_to_be_read(
    large, tmp_path, monkeypatch
):
    lines = [
        "FROM scratch AS base",
        "COPY three /",
        "FROM scratch",
        "COPY one /",
        "COPY --from=base /three /",
    ]
    built(large, lines, tmp_path / "store")
    moved = large.rename(tmp_path / "moved")  # where nothing was ever hashed
    written = []
    write_copy = copylayer.write_copy
    monkeypatch.setattr(copylayer, "write_copy", lambda of: written.append(of.step.name) or write_copy(of))
    assert len(built(moved, lines, tmp_path / "store")[0]) == 2
    assert written == []


def test_a_name_that_the_copy_above_brings_is_not_called_unknown(context, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_LITTLE", -1)
    monkeypatch.setattr(foresight, "_overlap", lambda one, other: False)
    events = []
    built(context, ["FROM scratch", "COPY etc /etc", "COPY --chown=user x /x"], tmp_path, events.append)
    assert not [event for event in events if isinstance(event, Notice) and event.kind == "warning"]


def test_what_a_wrong_guess_has_written_is_collected(context, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_LITTLE", -1)
    monkeypatch.setattr(foresight, "_overlap", lambda one, other: False)
    left = []
    for name in ("side by side", "in a row"):
        built(context, ["FROM scratch", "COPY tree /one", "COPY x /one/new/x"], tmp_path / name)
        with Store.open(tmp_path / name) as store:
            before = len(list(store.blobs))
            make_room(store, Policy())
            left.append((before, len(list(store.blobs))))
        monkeypatch.setattr(foresight, "followers", lambda place: [])
    (side_by_side, collected), (in_a_row, kept) = left
    assert side_by_side == in_a_row + 1
    assert collected == kept
