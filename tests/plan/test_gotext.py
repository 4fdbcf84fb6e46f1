"""Text as Go prints it."""

from __future__ import annotations

import pytest

from minibuild.plan import gotext


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("a\tb\nc\a", '"a\\tb\\nc\\a"'),
        ("\x00\x1f\x7f", '"\\x00\\x1f\\x7f"'),
        ("é日", '"é日"'),
        ("\u2028\u200b", '"\\u2028\\u200b"'),
        ("\U000e0001", '"\\U000e0001"'),
        ("\udcff", '"\\xff"'),
    ],
)
def test_a_string_is_quoted(text: str, quoted: str) -> None:
    assert gotext.quote(text) == quoted


def test_lists_have_no_commas() -> None:
    assert gotext.quoted_list(("a b", "c")) == '["a b" "c"]'
    assert gotext.plain_list(("a b", "c")) == "[a b c]"
    assert gotext.quoted_list(()) == "[]"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (200_000_000, "200ms"),
        (1_500_000_000, "1.5s"),
        (60_000_000_000, "1m0s"),
        (90_000_000_000, "1m30s"),
        (3_723_000_000_000, "1h2m3s"),
        (3_600_000_000_000, "1h0m0s"),
        (-5_000_000_000, "-5s"),
    ],
)
def test_a_duration_is_printed(nanoseconds: int, text: str) -> None:
    assert gotext.duration(nanoseconds) == text
