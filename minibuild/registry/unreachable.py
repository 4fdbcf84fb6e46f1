"""Why no answer came, in words, and whether it may come the next time."""

from __future__ import annotations

from urllib.parse import urlsplit

from minibuild.registry.errors import BadAnswer, RegistryError, Unreachable, Untrusted, redact


def unreachable(method: str, url: str, error: Exception) -> RegistryError:
    """Say in words why no answer came, and whether it may come the next time."""
    import ssl

    from urllib3 import exceptions

    host = urlsplit(url).netloc.rpartition("@")[2]
    chain = _chain(error)

    def any_is(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    kind: type[Unreachable] = Unreachable
    temporary, cure = True, "Try again; if it goes on, look at the network or use a --registry-mirror."
    why = "the connection was cut"
    if any_is(exceptions.ProxyError):
        temporary, why = False, "the proxy cannot be reached"
        cure = "Set HTTP_PROXY, HTTPS_PROXY or NO_PROXY right."
    elif any_is(ConnectionRefusedError):
        temporary, why = False, "connection refused"
        cure = f"Start the registry at {host}, or name another with --registry-mirror."
    elif any_is(exceptions.NameResolutionError):
        temporary, why = False, "its address cannot be found"
        cure = "Check the name, the network and the DNS, or use a --registry-mirror."
    elif any_is(ssl.SSLCertVerificationError):
        kind, temporary, why = Untrusted, False, "its certificate is not trusted"
        cure = f'Give its CA with [registry."{host}"] ca="..." in the config file or with SSL_CERT_FILE.'
    elif any_is(ssl.SSLError, exceptions.SSLError):
        temporary, why = False, "TLS failed"
        cure = f"If {host} speaks plain http, name it with --insecure-registry {host}."
    elif any_is(exceptions.ConnectTimeoutError):
        temporary, why = False, "no answer to the connection attempt"
    elif any_is(exceptions.ReadTimeoutError, TimeoutError):
        why = "no data came for too long"
    elif any_is(exceptions.NewConnectionError):
        temporary, why = False, f"no connection ({chain[-1]})"
    elif any_is(exceptions.LocationParseError, exceptions.InvalidHeader):
        return BadAnswer(f"{method} {redact(url)}: {error}", method=method, url=url)
    return kind(
        f"cannot reach {host}: {why} ({method} {redact(url)})",
        cure=cure,
        method=method,
        url=url,
        temporary=temporary,
    )


def _chain(error: BaseException) -> list[BaseException]:
    """`error`, what caused it or is wrapped in it, what caused that, and so on."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        inner = next((arg for arg in cause.args if isinstance(arg, BaseException)), None)
        cause = cause.__cause__ or inner
    return chain
