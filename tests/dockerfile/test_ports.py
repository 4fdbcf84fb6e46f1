from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.dockerfile.ports import PortSpec, parse_port, parse_ports
from minibuild.errors import DockerfileError, SourceRange


@pytest.mark.parametrize(
    ("word", "ports"),
    [
        ("80", ["80/tcp"]),
        ("80/udp", ["80/udp"]),
        ("80/SCTP", ["80/sctp"]),
        ("80/", ["80/tcp"]),
        ("0", ["0/tcp"]),
        ("8000-8002/udp", ["8000/udp", "8001/udp", "8002/udp"]),
        ("5-5", ["5/tcp"]),
        ("8080:80", ["80/tcp"]),
        (":80", ["80/tcp"]),
        ("127.0.0.1:8080:80/tcp", ["80/tcp"]),
        ("127.0.0.1::80", ["80/tcp"]),
        ("8000-8001:80-81", ["80/tcp", "81/tcp"]),
        ("8000-8010:80", ["80/tcp"]),
        ("[::1]:8080:80", ["80/tcp"]),
        ("::1:8080:80", ["80/tcp"]),
        ("[2001:db8::1]::80", ["80/tcp"]),
    ],
)
def test_a_word_names_ports(word: str, ports: list[str]) -> None:
    assert parse_ports([word]) == ports


@pytest.mark.parametrize(
    "word",
    [
        "", "/tcp", "tcp", "80/ftp", "65536", "-80", "80-", "90-80", "1:2:", "x:80", "localhost:1:80",
        "1.2.3:1:80", "[::1:1:80", "fe80::1%eth0:1:80", "1-3:80-81", "80 ", "8_0", "٣", "9" * 5000,
    ],
)  # fmt: skip
def test_other_words_are_refused_at_their_place(word: str) -> None:
    where = SourceRange("Dockerfile", 4, 4)
    with pytest.raises(DockerfileError) as caught:
        parse_ports(["80", word], where=where)
    assert caught.value.where == where


def test_what_a_check_may_object_to_is_kept() -> None:
    assert parse_port("1.2.3.4:5-6:80-81/UDP") == PortSpec(80, 81, "UDP", "1.2.3.4", "5-6")


@given(st.text("0189-:/tcpudp[].%", max_size=12) | st.text(max_size=8))
def test_any_word_is_read_or_refused(word: str) -> None:
    try:
        ports = parse_ports([word])
    except DockerfileError:
        return
    assert all(port.endswith(("/tcp", "/udp", "/sctp")) for port in ports)
