"""Values of secrets in output, whole, in pieces and in each other."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibuild.engine.masking import Masker, Masks


def masked(pieces: list[bytes], *secrets: bytes) -> bytes:
    masks = Masks()
    for secret in secrets:
        masks.add(secret)
    masker = Masker(masks)
    return b"".join([*(masker.feed(piece) for piece in pieces), masker.end()])


def test_a_value_is_masked_wherever_it_stands() -> None:
    assert masked([b"a hunter2 b=hunter2,hunter2hunter2"], b"hunter2\n") == b"a *** b=***,******"


def test_a_value_in_pieces_of_any_size_is_masked() -> None:
    text = b"xx hunter2 yy hunthunter2"
    for size in range(1, len(text)):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert masked(pieces, b"hunter2") == b"xx *** yy hunt***"


def test_what_only_begins_like_one_comes_out_at_the_end() -> None:
    masks = Masks()
    masks.add(b"hunter2")
    masker = Masker(masks)
    assert masker.feed(b"see hunt") == b"see "
    assert masker.feed(b"ing hun") == b"hunting "
    assert masker.end() == b"hun"
    assert masker.feed(b"hunting\n") == b"hunting\n"


def test_a_short_value_is_not_masked_and_a_blank_one_neither() -> None:
    assert masked([b"abc   abc"], b"abc", b"   \n", b"") == b"abc   abc"


def test_the_lines_of_a_long_value_are_masked_one_by_one() -> None:
    key = b"-----BEGIN KEY-----\nMIIabcdefgh\nmnopqrstuv\nshort\n-----END KEY-----\n"
    assert masked([b"| MIIabcdefgh\n| mnopqrstuv\n| short\n"], key) == b"| ***\n| ***\n| short\n"
    assert masked([b"-----BEGIN KEY-----"], key) == b"-----BEGIN KEY-----"
    assert masked([key], key) == b"***\n"


@pytest.mark.parametrize("text", [b"abcdefgh", b"xxabcdef", b"xxabcdefgh", b"abcdabcdefgh"])
def test_of_values_that_overlap_none_is_shown(text: bytes) -> None:
    secrets = (b"abcdefgh", b"abcd", b"xxab")
    for cuts in itertools.product((False, True), repeat=len(text) - 1):
        pieces, piece = [], b""
        for at, cut in enumerate((*cuts, True)):
            piece += text[at : at + 1]
            if cut:
                pieces.append(piece)
                piece = b""
        assert not any(secret in masked(pieces, *secrets) for secret in secrets)


@settings(database=None, deadline=None)
@given(st.lists(st.binary(max_size=6)), st.binary(min_size=4, max_size=9))
def test_pieces_make_no_difference(pieces: list[bytes], secret: bytes) -> None:
    whole = b"".join(pieces)
    assert masked(pieces, secret) == masked([whole], secret)


def test_a_value_that_comes_later_counts_from_then_on() -> None:
    masks = Masks()
    masker = Masker(masks)
    assert masker.feed(b"hunter2") == b"hunter2"
    masks.add(b"hunter2")
    assert masker.feed(b"hunter2") == b"***"
