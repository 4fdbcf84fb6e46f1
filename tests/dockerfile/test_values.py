"""The small readers: flags, durations, numbers, quoting, near misses, image names."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.dockerfile.duration import parse_duration
from minibuild.dockerfile.flags import Kind, parse_flags, split_flags
from minibuild.dockerfile.gopath import base, clean
from minibuild.dockerfile.gotext import number, quote, split_blanks
from minibuild.dockerfile.imagename import is_image_name, platform_parts
from minibuild.dockerfile.keyvalue import split_words
from minibuild.dockerfile.suggest import near_miss
from minibuild.errors import DockerfileError


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0), ("-0", 0), ("1ns", 1), ("1us", 1_000), ("1µs", 1_000), ("1ms", 1_000_000),
        ("1.5s", 1_500_000_000), (".5m", 30_000_000_000), ("1h30m", 5_400_000_000_000),
        ("-1s", -1_000_000_000), ("+1.s", 1_000_000_000), ("9223372036854775807ns", (1 << 63) - 1),
        ("0.3333333333333333333h", 1_200_000_000_000), ("-9223372036854775808ns", -(1 << 63)),
    ],
)  # fmt: skip
def test_durations_are_gos(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "-", "1", "s", ".s", "1x", "1 s", "1s ", "9223372036854775808ns", "3000000h", "1e3s"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(DockerfileError):
        parse_duration(text)


@given(st.text("0123456789.-+nsumhµ", max_size=30))
def test_any_duration_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(DockerfileError):
        assert -(1 << 63) <= parse_duration(text) < 1 << 63


@pytest.mark.parametrize(
    ("text", "words", "rest"),
    [
        ("--a=b x", ["--a=b"], "x"),
        ("  --a \t--b='c d' x --e", ["--a", "--b=c d"], "x --e"),
        ("-- --a", [], " --a"),
        ("--a=\\ b c", ["--a= b"], "c"),
        ('--a="b\\"c"', ['--a=b"c'], ""),
        ("-a x", [], "-a x"),
        ("--", [], ""),
        ("--a=é x", ["--a=é"], "x"),
    ],
)
def test_flags_stand_in_front(text: str, words: list[str], rest: str) -> None:
    assert split_flags(text, "\\") == (words, rest)


def test_flags_have_kinds() -> None:
    known = {"on": Kind.BOOL, "name": Kind.TEXT, "each": Kind.TEXTS}
    flags = parse_flags(["--on", "--name=", "--each=a", "--each=b=c"], known)
    assert (flags.boolean("on"), flags.text("name"), flags.texts("each")) == (True, "", ("a", "b=c"))
    none = parse_flags([], known)
    assert (none.boolean("on"), none.text("name"), none.texts("each")) == (None, None, ())
    assert parse_flags(["--on=FALSE"], known).boolean("on") is False


@pytest.mark.parametrize("word", ["--nam=x", "--name", "--on=", "--on=1", "--each"])
def test_a_flag_out_of_kind_is_refused(word: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_flags([word], {"on": Kind.BOOL, "name": Kind.TEXT, "each": Kind.TEXTS})
    assert caught.value.cure


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", ["a", "b"]),
        ("a\\ b", ["a\\ b"]),
        ('a=\'b c\' "d\\" e"f', ["a='b c'", '"d\\" e"f']),
        ("'a\\' b", ["'a\\'", "b"]),
        ('"open end', ['"open end']),
        ("a\\", ["a"]),
        ("\xa0a\u3000b\x1cc", ["a", "b\x1cc"]),
        ("", []),
    ],
)
def test_words_keep_their_quotes(text: str, words: list[str]) -> None:
    assert split_words(text, "\\") == words


def test_text_is_quoted_as_go_does() -> None:
    assert quote('a"b\\c\n\x01é\u200b') == '"a\\"b\\\\c\\n\\x01é\\u200b"'


def test_numbers_are_digits_within_bounds() -> None:
    assert [number(text, most=99) for text in ("7", "099", "100", "", "+7", "7_0", "٣", " 7")] == [
        7, 99, None, None, None, None, None, None,
    ]  # fmt: skip
    assert number("-7", most=9, signed=True) == -7
    assert number("17", base=8, most=99) == 15
    assert number("9" * 10_000, most=1 << 64) is None


def test_blanks_are_cut_at_most_so_often() -> None:
    assert split_blanks("a \t b  c", 1) == ["a", "b  c"]
    assert split_blanks(" a b") == ["", "a", "b"]
    assert split_blanks("a\n b\xa0c") == ["a\n", "b\xa0c"]


def test_paths_are_cleaned_as_go_does() -> None:
    assert [clean(path) for path in ("", "//a", "a/../..", "/..", "a//b/.")] == [".", "/a", "..", "/", "a/b"]
    assert [base(path) for path in ("", "/", "a/b/", "/a")] == [".", "/", "b", "a"]


def test_the_near_miss_is_close_and_in_the_same_letter_case() -> None:
    names = ("FROM", "RUN", "COPY", "ARG")
    assert near_miss("FRMO", names) == "FROM"
    assert near_miss("rnu", names, case_sensitive=False) == "run"
    assert near_miss("RUN", names) == ""
    assert near_miss("WHATEVER", names) == ""
    assert near_miss("x" * 100_000, names) == ""
    assert near_miss("FR", ("ARG", "FROM")) == "FROM"


@pytest.mark.parametrize(
    "text", ["a", "a/b:c", "host:5000/a/b", "localhost/a", "a@sha256:" + "0" * 64, "Host.test/a"]
)
def test_these_may_be_images(text: str) -> None:
    assert is_image_name(text)


@pytest.mark.parametrize(
    "text", ["", "A", "a:", ":a", "a b", "a/B", "a@sha256:0", "0" * 64, "a//b", "-a", "a\n"]
)
def test_these_are_no_images(text: str) -> None:
    assert not is_image_name(text)


def test_platforms_have_a_system_and_a_machine() -> None:
    assert platform_parts("linux/aarch64/v8") == ("linux", "arm64")
    assert platform_parts("windows", host=("linux", "s390x")) == ("windows", "s390x")
    assert platform_parts("x86_64") == ("linux", "amd64")
    assert platform_parts("nonsense") is None
    assert platform_parts("linux/") is None
    assert platform_parts("a/b/c/d") is None
