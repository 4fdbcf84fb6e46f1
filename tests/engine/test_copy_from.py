"""What comes out of a stage is the same layer however much of it is held, in whatever order it is read."""

import os

import pytest
from minibuild_store.store import Store

import minibuild
from minibuild.context import digests, ordering, selection
from minibuild.context.rows import Row
from minibuild.context.selection import Selection
from minibuild.engine import samelayer, treecontents
from minibuild.engine.sources import TreeFiles
from minibuild.layers.entry import Entry, Kind


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "context"
    (folder / "src/deep").mkdir(parents=True)
    (folder / "src/large").write_bytes(os.urandom(1 << 20))
    os.link(folder / "src/large", folder / "src/deep/linked")
    (folder / "src/deep/small").write_text("small")
    (folder / "src/deep/empty").touch()
    with (folder / "src/sparse").open("wb") as file:
        file.truncate(5 << 20)
    (folder / "src/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (folder / "src/link").symlink_to("deep")
    (folder / "zlast").mkdir()
    (folder / "zlast/one").write_text("one")
    for path in folder.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    return folder


def built(root, context, text):
    (context / "Dockerfile").write_text(text)
    with Store.open(root) as store:
        result = minibuild.build(minibuild.BuildRequest(context=context), store=store)
        return (
            result.config.diff_ids,
            set(store.records("steps").names()),
            set(store.records("listings").names()),
        )


STAGE = "FROM scratch AS a\nCOPY zlast /\nCOPY src /src\nCOPY --chown=3 src/deep/small src/large /src/deep/\n"

LINES = [
    "COPY --from=a / /",
    "COPY --from=a /src /x",
    "COPY --from=a /src/large /src/deep/linked /x/",
    "COPY --from=a /src/deep /src/link /src/de* /x/",
    "COPY --from=a /src/s* /src/d* /src/l* /x/",
    "COPY --from=a /src/deep /z\nCOPY --from=a --chown=1:2 /src /z",
    "COPY --from=a --exclude=**/l* /src /x",
    "COPY --from=a --parents /src/./deep/* /one /x/",
    "COPY --from=a --link /src/deep /src/large /x/",
]


@pytest.mark.parametrize("line", LINES)
def test_a_selection_that_is_kept_in_files_gives_the_same_key_and_layer(tmp_path, context, monkeypatch, line):
    held = built(tmp_path / "held", context, f"{STAGE}FROM scratch\n{line}\n")
    monkeypatch.setattr(selection, "_HELD", 2)
    monkeypatch.setattr(selection, "_AT_ONCE", 2)
    monkeypatch.setattr(ordering, "_HELD", 2)
    monkeypatch.setattr(treecontents, "_LITTLE", 2)
    assert built(tmp_path / "spooled", context, f"{STAGE}FROM scratch\n{line}\n") == held


def test_what_is_copied_on_is_the_layer_that_a_copy_from_the_context_makes(tmp_path, context):
    [direct], _, _ = built(tmp_path / "direct", context, "FROM scratch\nCOPY src /src\n")
    [onward], _, _ = built(
        tmp_path / "onward",
        context,
        "FROM scratch AS a\nCOPY src /src\nFROM scratch\nCOPY --from=a /src /src\n",
    )
    assert onward == direct


class Folder:
    """A view of a folder with two files, which come in the order of `names`."""

    def __init__(self, *names):
        self.rows = [Row(Entry(b"", Kind.DIR, 0o755), b"")]
        self.rows += [Row(Entry(name, Kind.FILE, 0o644), b"") for name in names]

    def resolve(self, path):
        return path

    def entry(self, path):
        return self.rows[0].entry

    def names(self, path):
        return [row.entry.path for row in self.rows[1:]]

    def walk(self, path):
        return iter(self.rows)


def test_rows_that_do_not_come_in_the_order_of_a_layer_are_told():
    assert Selection(lambda: Folder(b"a", b"b"), "/").one
    assert not Selection(lambda: Folder(b"b", b"a"), "/").one
    assert not Selection(lambda: Folder(b"a", b"b"), "*").one


@pytest.fixture
def read(monkeypatch):
    """The positions of the files that are read for their digests, a list for each reading of a layer."""
    found = []
    hashed = treecontents.hashed

    def noting(*given):
        positions = []
        found.append(positions)
        return (positions.append(one[0]) or one for one in hashed(*given))

    monkeypatch.setattr(treecontents, "hashed", noting)
    return found


@pytest.fixture
def settled(monkeypatch):
    """Files count as unchanged however new they are."""
    monkeypatch.setattr(digests, "_RACY_NS", -1 << 60)


def made_alone(root, context, stage=STAGE):
    """The layers of the stage, from a build in which nothing copies from it."""
    built(root, context, stage)


def test_only_digests_that_were_never_noted_are_read(tmp_path, context, read):
    made_alone(tmp_path / "store", context)
    text = f"{STAGE}FROM scratch\nCOPY --from=a /src/deep /x\n"
    built(tmp_path / "store", context, text)
    read.clear()
    built(tmp_path / "store", context, text.replace("/src/deep /x", "/src/deep /src/passwd /y/"))
    assert [len(positions) for positions in read] == [1]


def test_a_digest_that_was_known_a_moment_ago_is_found_out_again(context, tmp_path, monkeypatch):
    stage = "FROM scratch AS a\nCOPY src /src\n"
    text = f"{stage}FROM scratch\nCOPY --from=a /src/deep/small /src/passwd /x/\n"
    expected = built(tmp_path / "other", context, text)
    made_alone(tmp_path / "store", context, stage)
    asked = []

    def collected_once_it_was_seen(files, selection):
        asked.append(selection)
        return "known" if selection.startswith("/src/passwd") and asked.count(selection) == 1 else None

    monkeypatch.setattr(TreeFiles, "known_digest", collected_once_it_was_seen)
    assert built(tmp_path / "store", context, text)[:2] == expected[:2]
    assert len([one for one in asked if one.startswith("/src/passwd")]) > 1


def test_layers_are_read_once_for_the_digests_of_all_sources(context, tmp_path, read):
    stage = "FROM scratch AS a\nCOPY src /src\n"
    made_alone(tmp_path / "store", context, stage)
    built(
        tmp_path / "store",
        context,
        f"{stage}FROM scratch\nCOPY --from=a /src/deep/small /src/passwd /src/large /src/sparse /x/\n",
    )
    assert len(read) == 1


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("line", LINES)
def test_what_was_copied_from_the_context_is_not_read_again_for_its_digests(tmp_path, context, read, line):
    text = f"{STAGE}FROM scratch\n{line}\n"
    straight = built(tmp_path / "straight", context, text)
    assert not read
    made_alone(tmp_path / "apart", context)
    assert built(tmp_path / "apart", context, text) == straight
    assert read


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("line", [line.replace("/one", "/zlast") for line in LINES])
def test_files_that_were_hashed_before_are_not_read_either(tmp_path, context, read, line):
    """Their digests come out of the table then: the layer is written after they were looked up."""
    built(tmp_path / "store", context, "FROM scratch\nCOPY . /\n")
    text = f"FROM scratch AS a\nCOPY --chown=1 . /\nFROM scratch\n{line}\n"
    built(tmp_path / "store", context, text)
    assert not read


@pytest.mark.usefixtures("settled")
def test_stages_below_one_that_is_copied_from_are_noted_too(tmp_path, context, read):
    built(
        tmp_path / "store",
        context,
        "FROM scratch AS b\nCOPY src /src\nFROM b AS a\nCOPY zlast /z\nFROM scratch\nCOPY --from=a / /x\n",
    )
    assert not read


SAME = [
    "WORKDIR /src\nCOPY --from=a /src /src",
    "COPY --from=a /src /src",
    "COPY --from=a / /",
    "COPY --from=a --link /src /src",
    "COPY --from=a --chmod=644 --chown=0:0 / /",
    "COPY --from=a /src/deep /src/la* /src/link /src/passwd /src/sparse /src/",
]
OTHER = [
    "COPY --from=a /src /other",
    "COPY --from=a --chown=1 /src /src",
    "COPY --from=a --chmod=600 /src /src",
    "COPY --from=a --exclude=sparse /src /src",
    "COPY --from=a --exclude=link /src /src",
    "COPY --from=a /src/deep /src/deep",
    "COPY --from=a / /\nCOPY --from=a --chown=2 / /",
]
ONE_LAYER = "FROM scratch AS a\nCOPY src /src\nFROM scratch\n{}\n"


@pytest.fixture
def written(monkeypatch):
    """How many layers are written with contents of other layers."""
    found = []
    enter = treecontents.FromBlobs.__enter__
    monkeypatch.setattr(treecontents.FromBlobs, "__enter__", lambda self: found.append(self) or enter(self))
    return found


@pytest.mark.parametrize("line", [*SAME, *OTHER])
def test_a_layer_that_is_there_already_is_what_would_be_written(tmp_path, context, monkeypatch, line):
    straight = built(tmp_path / "straight", context, ONE_LAYER.format(line))
    monkeypatch.setattr(samelayer, "same_layer", lambda *_: None)
    assert built(tmp_path / "written", context, ONE_LAYER.format(line)) == straight


@pytest.mark.parametrize("line", SAME[:4])
def test_a_whole_layer_that_is_copied_to_its_own_place_is_not_written_again(tmp_path, context, written, line):
    built(tmp_path / "store", context, ONE_LAYER.format(line))
    assert not written


@pytest.mark.parametrize("line", OTHER)
def test_what_is_not_the_whole_layer_as_it_was_is_written(tmp_path, context, written, line):
    built(tmp_path / "store", context, ONE_LAYER.format(line))
    assert written


def test_a_layer_of_unknown_origin_is_written_in_our_own_form(tmp_path, context, written):
    """Only of what this build has written it is known that it would be written so again."""
    built(tmp_path / "store", context, "FROM scratch AS a\nCOPY src /src\n")
    built(tmp_path / "store", context, ONE_LAYER.format("COPY --from=a /src /src"))
    assert written
