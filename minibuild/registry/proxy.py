"""Which proxy a request goes through, by the rules of curl and Go for ``NO_PROXY``."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from minibuild.registry.options import Proxies

_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, proxies: Proxies) -> str:
    """The URL of the proxy for `url`, or an empty string for none; loopback is never proxied."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = proxies.https if parts.scheme == "https" else proxies.http
    if not proxy or is_loopback(host) or exempt(host, parts.port or _PORTS[parts.scheme], proxies.exempt):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def is_loopback(host: str) -> bool:
    """Whether `host` (no port) is this machine: ``localhost``, 127.0.0.0/8 or ::1."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def exempt(host: str, port: int, rules: str) -> bool:
    """Whether `rules` (the value of ``NO_PROXY``) take `host` out."""
    address = _address(host)
    for rule in rules.replace(",", " ").lower().split():
        if rule == "*":
            return True
        if address is not None and "/" in rule and _within(address, rule):
            return True
        name, colon, wanted = rule.rpartition(":")
        if colon and wanted.isdigit() and not _address(rule):
            if int(wanted) != port:
                continue
            rule = name
        rule = rule.strip("[]")
        if address is not None and _address(rule) == address:
            return True
        suffix = rule.removeprefix("*").lstrip(".")
        bare = not rule.startswith((".", "*"))
        if suffix and address is None and (host.endswith(f".{suffix}") or (bare and host == suffix)):
            return True
    return False


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, rule: str) -> bool:
    try:
        return address in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
