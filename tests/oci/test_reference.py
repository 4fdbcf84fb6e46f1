"""Image names, as docker reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minibuild_store.digest import Digest

from minibuild.errors import UsageError
from minibuild.oci.reference import Reference

SHA = "sha256:" + "0123456789abcdef" * 4

word = st.text("abcxyz019", min_size=1, max_size=6)
component = st.builds(
    lambda head, rest: head + "".join(mark + part for mark, part in rest),
    word,
    st.lists(st.tuples(st.sampled_from([".", "_", "__", "-", "--", "---"]), word), max_size=2),
)
host = st.one_of(
    st.just("localhost"),
    st.builds(lambda parts: ".".join(parts), st.lists(word, min_size=2, max_size=3)),
    st.sampled_from(["[::1]", "[fe80::1]:5000", "UPPER", "127.0.0.1"]),
)
port = st.one_of(st.just(""), st.integers(1, 65535).map(lambda number: f":{number}"))
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}", fullmatch=True)
digest = st.one_of(st.none(), st.just(Digest(SHA)), st.just(Digest("sha512:" + "0f" * 64)))


@st.composite
def references(draw: st.DrawFn) -> Reference:
    registry = draw(host)
    registry += "" if registry.endswith("5000") else draw(port)
    repository = "/".join(draw(st.lists(component, min_size=1, max_size=3)))
    chosen = draw(digest)
    return Reference(registry, repository, draw(tag) if chosen is None or draw(st.booleans()) else "", chosen)


@given(references())
def test_a_name_reads_back_as_itself(ref: Reference) -> None:
    assert Reference.parse(str(ref)) == ref


@given(references())
def test_the_familiar_form_means_the_same(ref: Reference) -> None:
    assert Reference.parse(ref.familiar) == ref


@given(component, component, st.one_of(st.just(""), tag))
def test_docker_hub_may_be_left_out(first: str, second: str, name: str) -> None:
    suffix = f":{name}" if name else ""
    if "." in first or first == "localhost":
        return
    for text in (f"{first}/{second}", f"{second}"):
        full = text if "/" in text else f"library/{text}"
        ref = Reference.parse(text + suffix)
        assert ref == Reference("docker.io", full, name or "latest")
        assert Reference.parse(ref.familiar) == ref
        assert ref.familiar == (text + suffix if suffix else f"{text}:latest")


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_a_usage_error(text: str) -> None:
    try:
        ref = Reference.parse(text)
    except UsageError as error:
        assert error.cure
        return
    assert Reference.parse(str(ref)) == ref


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ubuntu", Reference("docker.io", "library/ubuntu")),
        ("ubuntu:22.04", Reference("docker.io", "library/ubuntu", "22.04")),
        ("team/app", Reference("docker.io", "team/app")),
        ("docker.io/ubuntu", Reference("docker.io", "library/ubuntu")),
        ("index.docker.io/ubuntu", Reference("docker.io", "library/ubuntu")),
        ("localhost/app", Reference("localhost", "app")),
        ("localhost:5000/app", Reference("localhost:5000", "app")),
        ("r.example/a/b/c:1", Reference("r.example", "a/b/c", "1")),
        ("r:5000/a", Reference("r:5000", "a")),
        ("Host/a", Reference("Host", "a")),
        (f"a@{SHA}", Reference("docker.io", "library/a", "", Digest(SHA))),
        (f"a:1@{SHA}", Reference("docker.io", "library/a", "1", Digest(SHA))),
        ("a.b", Reference("docker.io", "library/a.b")),
    ],
)
def test_known_names_are_read_as_docker_reads_them(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ubuntu",
        "Ubuntu",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:b:c",
        "a:-x",
        "a:" + "x" * 129,
        "a@",
        "a@sha256:12",
        f"a@md5:{'0' * 32}",
        f"@{SHA}",
        "a___b",
        "a..b",
        "-a",
        "a-",
        "r.example/",
        "r.example:port/a",
        "http://r.example/a",
        "r.example/A",
        "[::1/a",
        "a\n",
        "a/b:c/d",
        "x" * 256,
        "0123456789abcdef" * 4,
    ],
)
def test_what_docker_refuses_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid image name"):
        Reference.parse(text)


def test_a_digest_goes_before_the_tag_in_requests() -> None:
    assert Reference.parse(f"a:1@{SHA}").target == SHA
    assert Reference.parse("a:1").target == "1"
