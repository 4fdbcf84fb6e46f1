"""Modes as COPY takes them, by what BSD's setmode(3) makes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.errors import DockerfileError
from minibuild.plan.chmod import changer, check_chmod, octal


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("640", 0o4755, 0o640),
        ("7777", 0, 0o7777),
        ("u+x", 0o644, 0o744),
        ("+x", 0o644, 0o755),
        ("-w", 0o666, 0o444),
        ("=r", 0o6755, 0o444),
        ("go=", 0o6755, 0o4700),
        ("a=rw", 0o1755, 0o1666),
        ("u=rwX,go=rX", 0o600, 0o644),
        ("u=rwX,go=rX", 0o100, 0o755),
        ("u+x-w", 0o644, 0o544),
        ("a=r+w", 0o700, 0o666),
        ("g=u", 0o740, 0o770),
        ("o+g", 0o750, 0o755),
        ("go-u", 0o777, 0o700),
        ("u=g", 0o650, 0o550),
        ("ug+s", 0o755, 0o6755),
        ("o+s", 0o755, 0o755),
        ("+t", 0o755, 0o1755),
        ("o+t", 0o755, 0o755),
        ("+tx", 0o600, 0o1600),
        ("-X", 0o777, 0o666),
    ],
)
def test_a_mode_changes_a_file(text: str, before: int, after: int) -> None:
    assert f"{changer(text)(before, False):04o}" == f"{after:04o}"


def test_a_capital_x_counts_for_folders_always() -> None:
    assert changer("go=rX")(0o600, True) == 0o655
    assert changer("go=rX")(0o600, False) == 0o644


def test_a_capital_x_looks_at_the_mode_before_the_change() -> None:
    assert changer("u+x,go+X")(0o600, False) == 0o700


@pytest.mark.parametrize(
    "text", ["8", "17777", "0o755", "9x", "u+q", "u", "ux", "+x,", ",+x", "u+x,,g+x", "u+x;g+x", "z=r"]
)
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError):
        check_chmod(text)


def test_only_octal_text_has_a_number() -> None:
    assert octal("0755") == 0o755
    assert octal("u+x") is None


CLAUSES = st.from_regex(r"[ugoa]{0,3}([-+=][rwxXst]{0,3}){1,2}", fullmatch=True)


@given(st.lists(CLAUSES, min_size=1, max_size=3), st.integers(0, 0o7777), st.booleans())
def test_any_symbols_give_a_mode(clauses: list[str], mode: int, folder: bool) -> None:
    text = ",".join(clauses)
    check_chmod(text)
    assert 0 <= changer(text)(mode, folder) <= 0o7777


@given(st.text(max_size=12))
def test_any_text_is_a_mode_or_is_refused(text: str) -> None:
    try:
        check_chmod(text)
    except DockerfileError:
        return
    assert 0 <= changer(text)(0o644, False) <= 0o7777
