"""Platforms, as containerd reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.oci.platform import Platform


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", ("linux", "amd64", "")),
        ("linux/x86_64", ("linux", "amd64", "")),
        ("linux/amd64/v1", ("linux", "amd64", "")),
        ("linux/amd64/v3", ("linux", "amd64", "v3")),
        ("LINUX/ARM64", ("linux", "arm64", "")),
        ("linux/arm64/v8", ("linux", "arm64", "")),
        ("linux/arm64/8", ("linux", "arm64", "")),
        ("linux/aarch64", ("linux", "arm64", "")),
        ("linux/arm", ("linux", "arm", "v7")),
        ("linux/arm/7", ("linux", "arm", "v7")),
        ("linux/arm/v6", ("linux", "arm", "v6")),
        ("linux/arm/6", ("linux", "arm", "v6")),
        ("linux/armhf", ("linux", "arm", "v7")),
        ("linux/armel", ("linux", "arm", "v6")),
        ("linux/i386", ("linux", "386", "")),
        ("macos/arm64", ("darwin", "arm64", "")),
        ("windows/amd64", ("windows", "amd64", "")),
        ("arm64", ("linux", "arm64", "")),
        ("s390x", ("linux", "s390x", "")),
    ],
)
def test_known_platforms_are_read_as_containerd_reads_them(text: str, expected: tuple[str, str, str]) -> None:
    assert Platform.parse(text) == Platform(*expected)


def test_an_operating_system_alone_means_this_processor() -> None:
    host = Platform.of_host()
    assert Platform.parse("linux") == host
    assert Platform.parse("windows") == Platform("windows", host.architecture, host.variant)


@pytest.mark.parametrize(
    "text", ["", "/", "linux/", "/amd64", "a/b/c/d", "linux//v7", "linux amd64", "li*/amd64", "a\n/b"]
)
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a platform"):
        Platform.parse(text)


part = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,6}", fullmatch=True)


@given(st.lists(part, min_size=2, max_size=3).map("/".join))
def test_a_platform_reads_back_as_itself(text: str) -> None:
    once = Platform.parse(text)
    assert Platform.parse(str(once)) == once


@given(st.text(max_size=20))
def test_any_text_is_a_platform_or_a_value_error(text: str) -> None:
    try:
        Platform.parse(text)
    except ValueError as error:
        assert "is not a platform" in str(error)


def test_the_variant_is_written_only_where_there_is_one() -> None:
    assert Platform("linux", "arm", "v7").to_json() == {"architecture": "arm", "os": "linux", "variant": "v7"}
    assert Platform("linux", "amd64").to_json() == {"architecture": "amd64", "os": "linux"}
