"""Headers from strangers: what is well-formed comes back as it was, what is not does no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.registry.challenge import Challenge, Scopes, next_link, parse_challenges
from minibuild.registry.errors import printable, read_errors, redact
from minibuild.registry.retry import parse_retry_after

tokens = st.text("abcXYZ019-_.", min_size=1, max_size=8)
names = st.text("abcdefXYZ", min_size=1, max_size=8)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
challenges = st.lists(
    st.tuples(names, st.dictionaries(names.map(str.lower), values, min_size=1, max_size=4)), max_size=3
)


def quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(challenges, st.sampled_from([",", ", ", " ,  "]))
def test_challenges_come_back_as_they_were_written(
    written: list[tuple[str, dict[str, str]]], comma: str
) -> None:
    header = ", ".join(
        f"{scheme} " + comma.join(f"{key}={quoted(value)}" for key, value in parameters.items())
        for scheme, parameters in written
    )
    assert parse_challenges(header) == tuple(Challenge(scheme.lower(), given) for scheme, given in written)


@given(st.dictionaries(names.map(str.lower), tokens, min_size=1))
def test_values_need_no_quotes(parameters: dict[str, str]) -> None:
    header = "Bearer " + ",".join(f"{key}={value}" for key, value in parameters.items())
    assert parse_challenges(header) == (Challenge("bearer", parameters),)


@given(st.text(max_size=200))
def test_no_header_breaks_the_parsers(text: str) -> None:
    parse_challenges(text)
    next_link(text)
    parse_retry_after(text, text)
    redact(text)
    assert printable(text).isprintable()


@given(st.binary(max_size=100))
def test_no_body_breaks_the_reading_of_errors(body: bytes) -> None:
    read_errors(body)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic", (Challenge("basic"),)),
        ('Basic realm="x"', (Challenge("basic", {"realm": "x"}),)),
        ('Negotiate, Basic realm="x"', (Challenge("negotiate"), Challenge("basic", {"realm": "x"}))),
        ('NTLM abc==, Basic realm="x"', (Challenge("ntlm"), Challenge("basic", {"realm": "x"}))),
        (
            'Bearer realm="https://a/t?x=1,2",service="s",scope="repository:a/b:pull,push"',
            (
                Challenge(
                    "bearer",
                    {"realm": "https://a/t?x=1,2", "service": "s", "scope": "repository:a/b:pull,push"},
                ),
            ),
        ),
        ('BEARER Realm = "a" , Service = b', (Challenge("bearer", {"realm": "a", "service": "b"}),)),
        ("", ()),
        ('="x"', ()),
    ],
)
def test_known_challenges_are_read(header: str, expected: tuple[Challenge, ...]) -> None:
    assert parse_challenges(header) == expected


@given(
    st.text("abc/?=&%:;, ", min_size=1, max_size=30),
    st.lists(st.sampled_from(["prev", "last", "x"]), max_size=3),
)
def test_the_next_link_is_found_among_others(target: str, others: list[str]) -> None:
    links = [f'</{other}>; rel="{other}"; title="a, b"' for other in others]
    header = ", ".join([*links, f'<{target}>; rel="next"'])
    assert next_link(header) == target.strip()


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('</v2/_catalog?last=b&n=2>; rel="next"', "/v2/_catalog?last=b&n=2"),
        ("<https://h/x>;rel=next", "https://h/x"),
        ('<a>; rel="prev next"', "a"),
        ('<a>; rel="prev"', ""),
        ("<a>", ""),
        ("", ""),
    ],
)
def test_known_links_are_read(header: str, target: str) -> None:
    assert next_link(header) == target


actions = st.sets(st.sampled_from(["pull", "push", "delete"]), min_size=1)
scopes = st.dictionaries(st.sampled_from(["repository:a", "repository:h:5000/b", "registry:c"]), actions)


def made(of: dict[str, set[str]]) -> Scopes:
    return Scopes.of(*(f"{name}:{','.join(given)}" for name, given in of.items()))


@given(scopes, scopes)
def test_joined_scopes_cover_both_and_no_more(one: dict[str, set[str]], other: dict[str, set[str]]) -> None:
    joined = made(one) | made(other)
    assert joined.covers(made(one))
    assert joined.covers(made(other))
    assert joined == made({key: one.get(key, set()) | other.get(key, set()) for key in {*one, *other}})


@given(scopes)
def test_scopes_have_one_form(one: dict[str, set[str]]) -> None:
    assert Scopes.of(*made(one).texts) == Scopes.of(" ".join(made(one).texts)) == made(one)


def test_a_wait_is_told_in_seconds_or_as_a_date() -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert parse_retry_after("120") == 120.0
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:30 GMT", date) == 30.0
    assert parse_retry_after("Wed, 21 Oct 2015 07:27:30 GMT", date) == 0.0
    assert parse_retry_after("-5") is None
    assert parse_retry_after("soon", date) is None
