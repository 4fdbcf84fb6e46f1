from __future__ import annotations

import contextlib
import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.dockerfile.gomatch import has_wildcard, match
from minibuild.errors import DockerfileError


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*", "", True),
        ("*c", "abc", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("**", "a/b", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("ab[!c]", "ab!", True),
        ("a[^x]b", "a/b", True),
        ("[z-a]", "m", False),
        ("[^z-a]", "m", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a\\bc", "abc", True),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("a]", "a]", True),
        ("[☺a]", "☺", True),
        ("a???b", "a☺☺☺b", True),
        ("a.b", "axb", False),
        ("a+(b)|c$^{2}", "a+(b)|c$^{2}", True),
        ("*.txt\n", "a.txt\n", True),
    ],
)
def test_a_pattern_decides_as_filepath_match_does(pattern: str, name: str, matches: bool) -> None:
    assert match(pattern, name) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        "[",
        "[a",
        "[]",
        "[]a]",
        "[-]",
        "[x-]",
        "[-x]",
        "[a-b-c]",
        "a[",
        "[^",
        "[^]",
        "[^bc",
        "a\\",
        "[\\",
        "*[",
        "b*\\",
    ],
)
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(DockerfileError, match="syntax error in pattern"):
        match(pattern, "")


def test_wildcards_are_seen_unless_escaped() -> None:
    assert [has_wildcard(text) for text in ("a*", "a?", "[", "\\*", "a\\\\*", "a]", "")] == [
        True, True, True, False, True, False, False,
    ]  # fmt: skip


def test_many_stars_take_no_time() -> None:
    assert not match("*a" * 40 + "b", "a" * 5_000)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_without_classes_and_slashes_it_is_fnmatch(pattern: str, name: str) -> None:
    assert match(pattern, name) == fnmatch.fnmatchcase(name, pattern)


@given(st.text("ab*?[]^-\\/", max_size=12) | st.text(max_size=8), st.text(max_size=8))
def test_any_pattern_matches_or_is_refused(pattern: str, name: str) -> None:
    with contextlib.suppress(DockerfileError):
        match(pattern, name)
