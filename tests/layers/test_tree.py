from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any

import pytest

from minibuild.errors import LayerError
from minibuild.layers import tree as merging
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.index import LayerIndex
from minibuild.layers.tree import Tree


def folder(path: bytes, mode: int = 0o755) -> Entry:
    return Entry(path, Kind.DIR, mode)


def file(path: bytes, size: int = 0) -> Entry:
    return Entry(path, Kind.FILE, 0o644, size=size)


def link(path: bytes, target: bytes) -> Entry:
    return Entry(path, Kind.SYMLINK, 0o777, link=target)


def hard(path: bytes, target: bytes) -> Entry:
    return Entry(path, Kind.HARDLINK, 0o644, link=target)


def tree(*layers: list[Entry]) -> Tree:
    return Tree.of(map(LayerIndex.of, layers))


LINKS = tree(
    [
        folder(b"usr"),
        folder(b"usr/bin"),
        file(b"usr/bin/sh"),
        link(b"bin", b"usr/bin"),
        link(b"abs", b"/usr/bin"),
        link(b"up", b"../../../usr"),
        link(b"usr/root", b"/"),
        link(b"missing", b"not/there"),
        link(b"loop", b"loop2"),
        link(b"loop2", b"./loop"),
        link(b"dot", b"."),
        link(b"chain", b"bin/../root/abs"),
    ]
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"bin/sh", b"usr/bin/sh"),
        (b"/bin/sh", b"usr/bin/sh"),
        (b"abs/sh", b"usr/bin/sh"),
        (b"up/bin/sh", b"usr/bin/sh"),
        (b"usr/root/usr/root/bin", b"usr/bin"),
        (b"bin/../root/abs/sh", b"usr/bin/sh"),
        (b"../../..", b""),
        (b"/", b""),
        (b"", b""),
        (b".//usr/./bin/", b"usr/bin"),
        (b"missing/x", b"not/there/x"),
        (b"new/folder/../file", b"new/file"),
        (b"usr/bin/sh/below", b"usr/bin/sh/below"),
        (b"dot/dot/bin", b"usr/bin"),
        (b"chain/sh", b"usr/bin/sh"),
    ],
)
def test_paths_resolve_as_in_a_chroot(path: bytes, found: bytes) -> None:
    assert LINKS.resolve(path) == found


def test_the_last_link_is_left_alone_where_asked_unless_a_slash_follows() -> None:
    assert LINKS.resolve(b"up/bin", follow_last=False) == b"usr/bin"
    assert LINKS.resolve(b"bin", follow_last=False) == b"bin"
    assert LINKS.resolve(b"dot/bin", follow_last=False) == b"bin"
    assert LINKS.resolve(b"bin/", follow_last=False) == b"usr/bin"


def test_a_loop_of_links_is_an_error_that_names_the_path() -> None:
    with pytest.raises(LayerError, match="loop/x"):
        LINKS.resolve(b"loop/x")
    with pytest.raises(LayerError, match="loop"):
        LINKS.find(b"loop2")
    assert LINKS.resolve(b"loop", follow_last=False) == b"loop"


def test_forty_links_are_followed_and_one_more_is_not() -> None:
    rows = [link(b"l%d" % n, b"l%d" % (n + 1)) for n in range(41)]
    chain = tree([*rows, file(b"l41")])
    assert chain.resolve(b"l1") == b"l41"
    with pytest.raises(LayerError):
        chain.resolve(b"l0")


def test_a_hard_link_is_the_file_it_leads_to() -> None:
    merged = tree([file(b"a", 5), hard(b"b", b"a"), hard(b"c", b"b")], [file(b"a", 7)])
    node = merged.get(b"c")
    assert node == merged.get(b"b")
    assert node is not None and (node.entry, node.layer, node.position) == (file(b"a", 5), 0, 0)
    top = merged.get(b"a")
    assert top is not None and (top.layer, top.entry.size) == (1, 7)


def test_a_hard_link_keeps_its_file_when_a_later_entry_takes_the_name() -> None:
    merged = tree([file(b"a", 1), hard(b"b", b"a"), file(b"a", 2), hard(b"c", b"a")])
    assert [(n.position, n.entry.size) for n in map(merged.get, (b"a", b"b", b"c")) if n] == [
        (2, 2),
        (0, 1),
        (2, 2),
    ]


def test_a_hard_link_to_nothing_is_an_error() -> None:
    for target in (b"b", b"none"):
        with pytest.raises(LayerError, match="no earlier file"):
            tree([hard(b"b", target)]).get(b"b")


def test_walk_goes_depth_first_by_name() -> None:
    merged = tree([file(b"b/x"), file(b"a-b"), file(b"a/z"), file(b"a/b/c")])
    assert [path for path, _ in merged.walk()] == [b"", b"a", b"a/b", b"a/b/c", b"a/z", b"a-b", b"b", b"b/x"]
    assert [path for path, _ in merged.walk(b"a")] == [b"a", b"a/b", b"a/b/c", b"a/z"]
    assert [path for path, _ in merged.walk(b"a-b")] == [b"a-b"]
    assert list(merged.walk(b"none")) == []
    assert merged.children(b"a") == [b"b", b"z"]
    assert merged.children(b"a-b") == merged.children(b"none") == []


def test_missing_parents_are_plain_folders_of_root() -> None:
    node = tree([file(b"a/b/c")]).get(b"a/b")
    assert node is not None and (node.entry, node.layer) == (Entry(b"a/b", Kind.DIR, 0o755), -1)


def test_a_parent_left_out_keeps_the_metadata_of_the_layer_below_and_needs_repair() -> None:
    merged = tree([folder(b"v", 0o700), folder(b"v/tmp", 0o1777)], [file(b"v/tmp/x")])
    node = merged.get(b"v/tmp")
    assert node is not None and node.entry.mode == 0o1777
    assert merged.repairs() == [folder(b"v", 0o700), folder(b"v/tmp", 0o1777)]
    assert merged.over(LayerIndex.of([folder(b"v"), folder(b"v/tmp")])).repairs() == []
    assert merged.over(LayerIndex.of([file(b"v")])).repairs() == []


def test_an_opaque_root_hides_all_layers_below() -> None:
    merged = tree([file(b"a"), folder(b"b")], [file(b".wh..wh..opq"), file(b"b/c")], [file(b"d")])
    assert [path for path, _ in merged.walk()] == [b"", b"b", b"b/c", b"d"]
    assert merged.base == 1


def test_kept_files_are_found_through_links_and_whiteouts() -> None:
    passwd = {b"etc/passwd": b"root"}
    base = LayerIndex.of([folder(b"etc"), file(b"etc/passwd"), link(b"conf", b"etc")], passwd)
    assert Tree.of([base]).file(b"/conf/passwd") == b"root"
    assert Tree.of([base, LayerIndex.of([file(b"etc/.wh.passwd")])]).file(b"etc/passwd") is None
    assert Tree.of([base]).file(b"etc") is None
    newer = LayerIndex.of([file(b"etc/passwd")], {b"etc/passwd": b"new"})
    assert Tree.of([base, newer]).file(b"etc/passwd") == b"new"


def test_a_tree_is_not_changed_by_what_is_laid_over_it() -> None:
    base = tree([file(b"a/x"), file(b"b")])
    before = list(base.walk())
    above = base.over(LayerIndex.of([file(b".wh.a"), file(b"c")]))
    assert list(base.walk()) == before
    assert [path for path, _ in above.walk()] == [b"", b"b", b"c"]
    assert len(above) == 3 and b"c" in above and b"a" not in above
    assert above.is_folder(b"") and not above.is_folder(b"c")


def meanwhile(question: Callable[[], Any]) -> Any:
    """The answer that another thread gets now."""
    answers: list[Any] = []
    thread = Thread(target=lambda: answers.append(question()))
    thread.start()
    thread.join()
    return answers[0]


def test_a_thread_that_asks_while_another_learns_what_folders_hold_hears_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = tree([folder(b"a"), file(b"a/x"), file(b"b")])
    heard: list[list[bytes]] = []
    add = merging._add_children

    def slowly(children: dict[bytes, list[bytes]], paths: Iterable[bytes]) -> None:
        monkeypatch.setattr(merging, "_add_children", add)
        heard.append(meanwhile(lambda: one.children(b"")))
        add(children, paths)

    monkeypatch.setattr(merging, "_add_children", slowly)
    assert one.children(b"") == [b"a", b"b"]
    assert heard == [[b"a", b"b"]]


def test_a_thread_that_asks_while_another_forgets_what_was_hidden_does_not_hear_of_that() -> None:
    one = tree([file(b"a"), file(b"b")], [file(b".wh.a")])

    class Watched(set[bytes]):
        """Another thread asks just before this one sees what is stale."""

        def __contains__(self, path: object) -> bool:
            one._stale = set(self)
            assert meanwhile(lambda: one.children(b"")) == [b"b"]
            return path in one._stale

    one._stale = Watched(one._stale)
    assert one.children(b"") == [b"b"]
