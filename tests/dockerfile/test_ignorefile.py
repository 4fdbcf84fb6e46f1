from __future__ import annotations

import random
import time
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.dockerfile.ignorefile import IgnoreFile
from minibuild.errors import DockerfileError, SourceRange


@pytest.mark.parametrize(
    ("text", "ignored", "kept"),
    [
        ("a", ["a", "a/b", "a/b/c"], ["b", "b/a", "aa"]),
        ("/a", ["a"], ["b/a"]),
        ("./a/../b/", ["b", "b/c"], ["a"]),
        ("*", ["a", "a/b", ".x"], []),
        ("*/a", ["x/a", "x/a/b"], ["a", "x/y/a"]),
        ("**", ["a", "a/b"], []),
        ("**/a", ["a", "x/a", "x/y/a", "x/a/b"], ["xa", "x/ya"]),
        ("**a", ["a", "xa", "x/ya"], ["ab"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a", "a/bz"]),
        ("**/*.o", ["x.o", "a/x.o", "a/b/x.o"], ["o", "x.oo"]),
        ("a?", ["ab"], ["a", "abc", "a/"]),
        ("[a-c]x", ["ax", "cx"], ["dx"]),
        ("[^a-c]x", ["dx"], ["ax"]),
        ("a.b", ["a.b"], ["axb"]),
        ("a+b$(c){2}|d*", ["a+b$(c){2}|d1"], ["aab", "d"]),
        ("\\*", ["*"], ["a"]),
        ("a b", ["a b"], ["a"]),
        ("  a  ", ["a"], [" a"]),
        ("#a\n #b", ["#b"], ["#a", "a"]),
        ("..", [], ["a", "b/c"]),
        (".", [], ["a"]),
        ("/", [], ["a"]),
        ("*\n!a", ["b"], ["a", "a/b"]),
        ("!a\n*", ["a", "b"], []),
        ("a\n!a/b\na/b/c", ["a", "a/x", "a/b/c"], ["a/b", "a/b/d"]),
        ("**/*.md\n!README.md", ["a.md", "d/README.md"], ["README.md"]),
        ("**/*.md\n!**/README.md", ["a.md"], ["README.md", "d/README.md"]),
        ("! a\na", ["a"], []),
        ("!!a\n*", ["!a", "b"], []),
        ("\ufeffa\r\nb\r\n", ["a", "b"], ["c"]),
    ],
)
def test_paths_are_ignored_or_kept(text: str, ignored: list[str], kept: list[str]) -> None:
    found = IgnoreFile.parse(text)
    assert [path for path in ignored + kept if found.ignores(path)] == ignored


def test_the_context_itself_is_never_ignored() -> None:
    found = IgnoreFile.parse("**\n.\n*")
    assert not any(found.ignores(path) for path in (".", "", "/", "./"))


def test_paths_may_be_written_in_other_ways() -> None:
    found = IgnoreFile.parse("a/b")
    assert all(found.ignores(path) for path in ("a/b", "/a/b", "./a/b", "a/b/", "/a/./b"))


def test_the_deciding_line_is_named() -> None:
    found = IgnoreFile.parse("# comment\n\n*.o\n!keep.o\n  src/*  \n")
    assert found.decision("x.o") == (True, (3, "*.o"))
    assert found.decision("keep.o") == (False, (4, "!keep.o"))
    assert found.decision("src/keep.o/x") == (True, (5, "src/*"))
    assert found.decision("other") == (False, None)


@pytest.mark.parametrize("text", ["a\n!\n", "a\n[\n", "a\n[]a]", "a\nb\\", "a\n!  "])
def test_a_malformed_line_is_refused_at_its_place(text: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        IgnoreFile.parse(text, "my.dockerignore")
    assert caught.value.where == SourceRange("my.dockerignore", 2, 2)


def test_a_folder_is_walked_only_where_an_exception_may_be_below() -> None:
    found = IgnoreFile.parse("*\n!src/app/*.c\nsrc/app/old\n!docs/**/x\n!z\nz")
    assert found.may_contain("src")
    assert found.may_contain("src/app")
    assert not found.may_contain("src/lib")
    assert not found.may_contain("src/app/old")
    assert not found.may_contain("src/app/new")
    assert found.may_contain("docs/a/b/c")
    assert not found.may_contain("node_modules")
    assert not found.may_contain("z")


def test_twenty_thousand_paths_take_a_moment() -> None:
    rng = random.Random(1)
    folders = ["/".join(rng.choices("abcdefgh", k=rng.randint(1, 8))) for _ in range(2_000)]
    paths = [f"{rng.choice(folders)}/f{n}.{rng.choice(['py', 'o', 'txt'])}" for n in range(20_000)]
    found = IgnoreFile.parse(
        "node_modules\n**/*.o\n.git\n*.md\n!README.md\ndist/**\n**/tmp*\n!**/keep\na/b/*.txt\n"
    )
    start = time.perf_counter()
    for path in paths:
        found.ignores(path)
    assert time.perf_counter() - start < 2.0  # some tens of ms; the rest is for a busy machine


def decided_slowly(patterns: list[str], path: str) -> bool:
    """The rule itself, from the patterns alone: the last one that matches the path or a folder above."""
    ignored = False
    for pattern in patterns:
        single = IgnoreFile.parse(pattern.removeprefix("!"))
        folders = [str(one) for one in [PurePosixPath(path), *PurePosixPath(path).parents]]
        if any(single.ignores(folder) for folder in folders):
            ignored = not pattern.startswith("!")
    return ignored


NAMES = st.sampled_from(["a", "b", "ab", "a.b"])
PARTS = st.sampled_from(["a", "b", "ab", "a.b", "*", "**", "?", "a*", "*b", "[ab]", "[^a]"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PATTERNS = st.lists(
    st.builds(
        lambda bang, parts: bang + "/".join(parts),
        st.sampled_from(["", "!"]),
        st.lists(PARTS, min_size=1, max_size=3),
    ),
    max_size=5,
)


@given(PATTERNS, st.lists(PATHS, max_size=6))
def test_remembering_folders_changes_no_answer(patterns: list[str], paths: list[str]) -> None:
    found = IgnoreFile.parse("\n".join(patterns))
    assert [found.ignores(path) for path in paths] == [decided_slowly(patterns, path) for path in paths]


@given(PATTERNS, PATHS)
def test_pruning_never_loses_a_path(patterns: list[str], path: str) -> None:
    found = IgnoreFile.parse("\n".join(patterns))
    if not found.ignores(path):
        assert all(found.may_contain(str(folder)) for folder in PurePosixPath(path).parents)


@given(st.text("ab*?!#[]^-\\/. \n", max_size=30) | st.text(max_size=20), st.text(max_size=12))
def test_any_file_is_read_or_refused(text: str, path: str) -> None:
    try:
        found = IgnoreFile.parse(text)
    except DockerfileError:
        return
    found.decision(path)
    found.may_contain(path)
