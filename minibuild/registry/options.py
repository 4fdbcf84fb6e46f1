"""How registries are reached: frozen options, and how they are made of flags, environment and a config file.

The config file is TOML, one table per registry::

    [registry."docker.io"]
    mirrors = ["localhost:5000", "cache.example/dockerhub"]   # asked in this order, then docker.io itself
    no-fallback = true                                        # never ask docker.io itself
    [registry."registry.example:5000"]
    insecure = true          # plain http; false asks for TLS even on localhost
    skip-verify = true       # TLS, but any certificate will do
    ca = "/path/ca.pem"      # beside the system's CAs
    cert = "/path/client.cert"
    key = "/path/client.key"
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from minibuild.errors import UsageError
from minibuild.oci.reference import DEFAULT_REGISTRY, Reference
from minibuild.values import dataclass, field, replace

_PATH_KEYS = ("ca", "cert", "key")
_FLAG_KEYS = ("insecure", "skip-verify", "no-fallback")


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where a copy of a registry is: `registry` host, and a `prefix` before each repository, or none."""

    registry: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Mirror:
        """``host[:port][/prefix]``; raises `UsageError`."""
        host, _, prefix = text.strip().rstrip("/").partition("/")
        checked = _registry_name(host, f"mirror {text!r}")
        if prefix:
            Reference.parse(f"{checked}/{prefix}/x")
        return cls(checked, prefix)

    def __str__(self) -> str:
        return f"{self.registry}/{self.prefix}" if self.prefix else self.registry


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What is set for one registry; `insecure` None means plain http on loopback and TLS elsewhere."""

    mirrors: tuple[Mirror, ...] = ()
    fallback: bool = True
    insecure: bool | None = None
    verify: bool = True
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Proxies:
    """Proxy URLs for each scheme, and the hosts reached without one (``NO_PROXY`` syntax)."""

    http: str = ""
    https: str = ""
    exempt: str = ""


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Everything a `Registry` needs to know; times in seconds, sizes in bytes.

    `credential_files` are read in order, those absent are skipped; `environment` is what credential helpers
    run with (their executables are found by its PATH).
    """

    hosts: Mapping[str, HostOptions] = field(default_factory=dict)
    credential_files: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    ca_folder: Path | None = None
    certs_folders: tuple[Path, ...] = ()
    proxies: Proxies = field(default=Proxies(), repr=False)
    attempts: int = 5
    backoff: float = 0.5
    max_backoff: float = 30.0
    max_retry_after: float = 60.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    connections: int = 8
    transfers: int = 4
    chunked_above: int = 256 << 20
    chunk: int = 32 << 20

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> RegistryOptions:
        """What the command line takes from `environ`: docker's credentials, mirrors, proxies, CAs."""
        return options_from(environ)

    def host(self, registry: str) -> HostOptions:
        return self.hosts.get(registry, HostOptions())


def options_from(
    environ: Mapping[str, str],
    *,
    mirrors: Sequence[str] = (),
    insecure: Sequence[str] = (),
    no_fallback: bool = False,
    ca: Path | None = None,
    config_file: Path | None = None,
) -> RegistryOptions:
    """Options from flags (`mirrors` as ``docker.io=host[/prefix]``), `environ`, config file, in that order.

    `config_file` must exist; the one in the user's config folder need not. Raises `UsageError`.
    """
    hosts = _from_file(environ, config_file)
    for text in reversed([*mirrors, *_words(environ.get("MINIBUILD_REGISTRY_MIRROR", ""))]):
        registry, mirror = _mirror_flag(text)
        known = hosts.get(registry, HostOptions())
        others = tuple(one for one in known.mirrors if one != mirror)
        hosts[registry] = replace(known, mirrors=(mirror, *others))
    for text in [*insecure, *_words(environ.get("MINIBUILD_INSECURE_REGISTRY", ""))]:
        registry = _registry_name(text, f"insecure registry {text!r}")
        hosts[registry] = replace(hosts.get(registry, HostOptions()), insecure=True)
    if no_fallback:
        hosts = {name: replace(one, fallback=not one.mirrors) for name, one in hosts.items()}
    bundle = ca or _path(environ, "REQUESTS_CA_BUNDLE") or _path(environ, "CURL_CA_BUNDLE")
    is_folder = bundle is not None and bundle.is_dir()
    return RegistryOptions(
        hosts=hosts,
        credential_files=_credential_files(environ),
        environment=dict(environ),
        ca_file=(None if is_folder else bundle) or _path(environ, "SSL_CERT_FILE"),
        ca_folder=(bundle if is_folder else None) or _path(environ, "SSL_CERT_DIR"),
        certs_folders=_certs_folders(environ),
        proxies=Proxies(
            # an upper-case HTTP_PROXY may come from a request header under CGI
            environ.get("http_proxy")
            or ("" if "REQUEST_METHOD" in environ else environ.get("HTTP_PROXY", "")),
            environ.get("https_proxy") or environ.get("HTTPS_PROXY", ""),
            environ.get("no_proxy") or environ.get("NO_PROXY", ""),
        ),
    )


def read_config(path: Path) -> dict[str, HostOptions]:
    """The registries of a config file; raises `UsageError` naming the file and the key at fault."""
    import tomllib

    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    tables = document.get("registry", {})
    if not isinstance(tables, dict):
        raise _fault(path, "registry", 'want tables, as [registry."docker.io"]')
    return {_registry_name(name, str(path)): _host(path, name, table) for name, table in tables.items()}


def _host(path: Path, name: str, table: object) -> HostOptions:
    where = f'registry."{name}"'
    if not isinstance(table, dict):
        raise _fault(path, where, "want a table")
    unknown = sorted(set(table) - {"mirrors", *_PATH_KEYS, *_FLAG_KEYS})
    if unknown:
        raise _fault(path, f"{where}.{unknown[0]}", "no such key")
    for key in _FLAG_KEYS:
        if not isinstance(table.get(key, False), bool):
            raise _fault(path, f"{where}.{key}", "want true or false")
    for key in _PATH_KEYS:
        if not isinstance(table.get(key, ""), str):
            raise _fault(path, f"{where}.{key}", "want the path of a file")
    mirrors = table.get("mirrors", [])
    if not isinstance(mirrors, list) or not all(isinstance(one, str) for one in mirrors):
        raise _fault(path, f"{where}.mirrors", 'want a list of names, as ["localhost:5000"]')
    try:
        parsed = tuple(Mirror.parse(one) for one in mirrors)
    except UsageError as error:
        raise _fault(path, f"{where}.mirrors", error.message) from None
    ca, cert, key_file = (path.parent / table[key] if key in table else None for key in _PATH_KEYS)
    return HostOptions(
        mirrors=parsed,
        fallback=not table.get("no-fallback", False),
        insecure=table.get("insecure"),
        verify=not table.get("skip-verify", False),
        ca=ca,
        cert=cert,
        key=key_file,
    )


def _from_file(environ: Mapping[str, str], config_file: Path | None) -> dict[str, HostOptions]:
    if config_file is not None:
        return read_config(config_file)
    folder = _config_home(environ)
    path = folder / "minibuild" / "config.toml" if folder else None
    return read_config(path) if path and path.exists() else {}


def _mirror_flag(text: str) -> tuple[str, Mirror]:
    registry, equals, target = text.partition("=")
    if not equals:
        raise UsageError(
            f"registry mirror {text!r} does not say what it mirrors",
            cure=f"Write it as REGISTRY=MIRROR, for example {DEFAULT_REGISTRY}={text or 'localhost:5000'}.",
        )
    return _registry_name(registry, f"registry mirror {text!r}"), Mirror.parse(target)


def _registry_name(text: str, where: str) -> str:
    name = text.strip()
    if name in ("index.docker.io", "registry-1.docker.io"):
        name = DEFAULT_REGISTRY
    try:
        if "/" in name or "@" in name:
            raise UsageError("a registry is a host and perhaps a port")
        # the grammar of names knows a host only by a dot, a port or "localhost"
        probe = name if "." in name or ":" in name or name == "localhost" else f"{name}:1"
        Reference.parse(f"{probe}/x/y")
    except UsageError:
        raise UsageError(
            f"{where}: {text!r} is not a registry",
            cure="Write host or host:port, without http:// or https://.",
        ) from None
    return name


def _credential_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where docker, then buildah and podman, keep logins; REGISTRY_AUTH_FILE goes before them."""
    home = _path(environ, "HOME")
    runtime, config = _path(environ, "XDG_RUNTIME_DIR"), _config_home(environ)
    if runtime and not os.access(runtime, os.X_OK):
        runtime = None  # after su it is another user's
    docker = _path(environ, "DOCKER_CONFIG") or (home / ".docker" if home else None)
    places = (
        _path(environ, "REGISTRY_AUTH_FILE"),
        docker / "config.json" if docker else None,
        runtime / "containers" / "auth.json" if runtime else None,
        config / "containers" / "auth.json" if config else None,
    )
    return tuple(dict.fromkeys(place for place in places if place is not None))


def _certs_folders(environ: Mapping[str, str]) -> tuple[Path, ...]:
    home, config = _path(environ, "HOME"), _config_home(environ)
    docker = _path(environ, "DOCKER_CONFIG") or (home / ".docker" if home else None)
    own: Iterable[Path | None] = (
        docker / "certs.d" if docker else None,
        config / "docker" / "certs.d" if config else None,
    )
    return (*(one for one in own if one), Path("/etc/docker/certs.d"), Path("/etc/containers/certs.d"))


def _config_home(environ: Mapping[str, str]) -> Path | None:
    home = _path(environ, "HOME")
    return _path(environ, "XDG_CONFIG_HOME") or (home / ".config" if home else None)


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name, "")
    return Path(text) if text else None


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _fault(path: Path, key: str, why: str) -> UsageError:
    return UsageError(f"{path}: {key}: {why}")
