"""Certificates: the system's CAs, a bundle of one's own, docker's ``certs.d`` folders for each registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from minibuild.errors import UsageError
from minibuild.registry.options import RegistryOptions

if TYPE_CHECKING:
    import ssl


def tls_context(options: RegistryOptions, registry: str) -> ssl.SSLContext:
    """What to trust at `registry` (with its port), and who to be there; raises `UsageError`."""
    import ssl

    host = options.host(registry)
    try:
        context = ssl.create_default_context(
            cafile=str(options.ca_file) if options.ca_file else None,
            capath=str(options.ca_folder) if options.ca_folder else None,
        )
    except OSError as error:
        raise _unreadable(options.ca_file or options.ca_folder, error) from None
    for folder in options.certs_folders:
        _load_folder(context, folder / registry)
    if host.ca:
        _load_ca(context, host.ca)
    if host.cert:
        _load_client(context, host.cert, host.key)
    if not host.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_folder(context: ssl.SSLContext, folder: Path) -> None:
    """``*.crt`` are CAs; each ``x.cert`` goes with its ``x.key`` (docker's layout)."""
    try:
        names = sorted(folder.iterdir())
    except OSError:  # absent for nearly every registry, and not ours to read for some
        return
    for name in names:
        if name.suffix == ".crt":
            _load_ca(context, name)
        elif name.suffix == ".cert":
            _load_client(context, name, name.with_suffix(".key"))


def _load_ca(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=str(path))
    except OSError as error:
        raise _unreadable(path, error) from None


def _load_client(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(str(cert), str(key) if key else None)
    except OSError as error:
        raise _unreadable(cert, error) from None


def _unreadable(path: Path | None, error: OSError) -> UsageError:
    import ssl

    why = "it holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
    return UsageError(f"cannot use the certificates of {path}: {why}")
