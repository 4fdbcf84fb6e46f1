"""EXPOSE: ``80``, ``80/udp``, ``8000-8010``, and with a warning ``127.0.0.1:8080:80/tcp``."""

from __future__ import annotations

from collections.abc import Iterable

from minibuild.dockerfile.gotext import number, quote
from minibuild.errors import DockerfileError, SourceRange
from minibuild.values import NamedTuple

PROTOCOLS = ("tcp", "udp", "sctp")
_CURE = "Write a port or a range, with /tcp, /udp or /sctp behind it, such as 80 or 8000-8010/udp."


class PortSpec(NamedTuple):
    """One word of EXPOSE: container ports `first` to `last`; `protocol` as written, tcp if not written."""

    first: int
    last: int
    protocol: str
    ip: str
    host_port: str


def parse_ports(words: Iterable[str], *, where: SourceRange | None = None) -> list[str]:
    """The ports that expanded `words` name, each as ``port/protocol``, in order.

    Raises DockerfileError, placed at `where`.
    """
    ports: list[str] = []
    for word in words:
        try:
            spec = parse_port(word)
        except DockerfileError as error:
            raise error.at(where) from None
        protocol = spec.protocol.lower()
        ports.extend(f"{port}/{protocol}" for port in range(spec.first, spec.last + 1))
    return ports


def parse_port(word: str) -> PortSpec:
    """``[[IP:][HOST PORT]:]PORT[-PORT][/PROTOCOL]``. Raises DockerfileError."""
    ip, host_port, container = _split(word)
    port, _, protocol = container.partition("/")
    if not port:
        raise DockerfileError(f"invalid port: {quote(word)}: no port specified", cure=_CURE)
    if protocol.lower() not in ("", *PROTOCOLS):
        raise DockerfileError(f"invalid port: {quote(word)}: invalid proto: {protocol}", cure=_CURE)
    if ip:
        _check_ip(ip)
    first, last = _range(port, "containerPort")
    if host_port:
        host_first, host_last = _range(host_port, "hostPort")
        if last != first and last - first != host_last - host_first:
            raise DockerfileError(
                f"invalid ranges specified for container and host Ports: {port} and {host_port}",
                cure="Leave the host ports out: EXPOSE does not publish.",
            )
    return PortSpec(first, last, protocol or "tcp", ip, host_port)


def _split(word: str) -> tuple[str, str, str]:
    """IP address, host port, container port; an IPv6 address keeps its colons."""
    parts = word.split(":")
    if len(parts) == 1:
        return "", "", parts[0]
    return ":".join(parts[:-2]), parts[-2], parts[-1]


def _range(text: str, what: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    first = number(start, most=65535, signed=True)
    last = number(end, most=65535, signed=True) if dash else first
    if first is None or last is None or not 0 <= first <= last:
        raise DockerfileError(f"invalid {what}: {text}", cure=_CURE)
    return first, last


def _check_ip(ip: str) -> None:
    import ipaddress  # only this old form needs it

    address = ip[1:-1] if ip.startswith("[") and ip.endswith("]") else ip
    try:
        if "%" in address or ipaddress.ip_address(address) is None:
            raise ValueError
    except ValueError:
        raise DockerfileError(
            f"invalid IP address: {ip}", cure="Leave the address out: EXPOSE does not publish."
        ) from None
