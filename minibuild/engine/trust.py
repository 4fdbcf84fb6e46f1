"""--ca-bundle: certificate authorities that every RUN trusts, and no image hears of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from minibuild.errors import UsageError
from minibuild.sandbox.spec import SecretFile

if TYPE_CHECKING:
    from minibuild.sandbox.client import Sandbox

_FOLDER: Final = "/run/minibuild"
BUNDLE: Final = f"{_FOLDER}/ca-bundle.pem"
_APT: Final = f"{_FOLDER}/apt.conf"
_WGET: Final = f"{_FOLDER}/wgetrc"
_HOST_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_VARIABLES: Final = (
    "SSL_CERT_FILE",  # OpenSSL, Go, Rust, Ruby, .NET
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "BUNDLE_SSL_CA_CERT",
    "NIX_SSL_CERT_FILE",
    "DENO_CERT",
    "HEX_CACERTS_PATH",
    "PERL_LWP_SSL_CA_FILE",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)


def read_bundle(path: Path) -> bytes:
    """The certificates of `path`; raises `UsageError` where it holds none."""
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read the CA bundle {path}: {error.strerror}", cure="Check the path of --ca-bundle."
        ) from None
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise UsageError(
            f"{path} holds no certificate in PEM form",
            cure=f"Convert it: openssl x509 -inform der -in {path.name} -out ca.pem",
        )
    return pem


def prepare(
    sandbox: Sandbox, lowers: Sequence[Path], work: Path, pem: bytes, env: dict[str, str]
) -> tuple[tuple[Path, ...], list[SecretFile]]:
    """`lowers` with a layer on top and files to mount, for one step; `env` gets its variables.

    `work` is a folder of the step's own. A variable that has a value keeps it.
    """
    folder, place = work / "trust", work / "place"
    folder.mkdir()
    place.mkdir()
    bundle, anything = sandbox.trust(lowers, folder, place, pem, env.get("JAVA_HOME", ""))
    if bundle.count(b"BEGIN CERTIFICATE") == pem.count(b"BEGIN CERTIFICATE"):
        bundle = _host_bundle() + bundle
    for name in _VARIABLES:
        if not env.get(name):
            env[name] = BUNDLE
    files = [SecretFile(BUNDLE, bundle, 0o444)]
    for name, target, text in (
        ("APT_CONFIG", _APT, f'Acquire::https::CAInfo "{BUNDLE}";\n'),
        ("WGETRC", _WGET, f"ca_certificate = {BUNDLE}\n"),
    ):
        if not env.get(name):
            env[name] = target
            files.append(SecretFile(target, text.encode(), 0o444))
    return (*lowers, folder) if anything else tuple(lowers), files


def _host_bundle() -> bytes:
    """What this machine trusts, for an image that trusts nobody: a program's own list is replaced too."""
    for name in _HOST_BUNDLES:
        try:
            return Path(name).read_bytes()
        except OSError:
            continue
    return b""
