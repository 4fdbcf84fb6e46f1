"""ADD of a URL: fetched once, asked again by its validator, known by content."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import json
from contextlib import closing
from urllib.parse import unquote, urlsplit

from minibuild_store.digest import Digest

from minibuild.engine.fetched import Fetched
from minibuild.engine.secrets import secret_value
from minibuild.engine.session import Session
from minibuild.errors import DockerfileError
from minibuild.plan.steps import UrlItem
from minibuild.values import dataclass

_CHUNK = 1 << 20


def fetch_url(session: Session, item: UrlItem) -> Fetched:
    """The file at the item's address, in the store; asked for again only if its server says it changed."""
    records = session.store.records("urls")
    known = _known(records.get(item.url))
    blobs = session.store.blobs
    if known is not None:
        session.lease(known.digest)
    if known is not None and not blobs.has(known.digest, known.size):
        known = None
    if known is not None and item.checksum == known.digest:
        return _result(session, item, known)
    answer = _request(session, item.url, known) or known
    assert answer is not None
    if item.checksum.startswith("sha256:") and item.checksum != answer.digest:
        raise DockerfileError(
            f"digest mismatch of {item.url}: got {answer.digest}, want {item.checksum}",
            cure="The file has changed, or the --checksum is another file's.",
        )
    _check_other(session, item, answer)
    records.put(item.url, answer.dump())
    return _result(session, item, answer)


@dataclass(frozen=True, slots=True)
class _Download:
    digest: Digest
    size: int
    mtime_ns: int
    etag: str
    modified: str

    def dump(self) -> bytes:
        return json.dumps(
            {
                "digest": self.digest,
                "size": self.size,
                "mtime_ns": self.mtime_ns,
                "etag": self.etag,
                "modified": self.modified,
            }
        ).encode()


def _known(data: bytes | None) -> _Download | None:
    if data is None:
        return None
    document = json.loads(data)
    return _Download(
        Digest.parse(document["digest"]),
        document["size"],
        document["mtime_ns"],
        document["etag"],
        document["modified"],
    )


def _result(session: Session, item: UrlItem, download: _Download) -> Fetched:
    # Only what the file becomes counts: its bytes, and the name and time that it gets.
    identity = f"{download.digest} {download.mtime_ns}"
    return Fetched(
        hashlib.sha256(identity.encode()).hexdigest(),
        session.store.blobs.path(download.digest),
        item.name,
        download.size,
        download.mtime_ns,
        item.unpack,
        blob=download.digest,
    )


def _request(session: Session, url: str, known: _Download | None) -> _Download | None:
    """Download `url` into the store; None where the server says that `known` is still right."""
    from minibuild.registry.errors import RegistryError, Untrusted
    from minibuild.registry.message import Request
    from minibuild.registry.transport import Transport

    headers = {"Accept-Encoding": "identity", **_authorization(session, url)}
    if known is not None and known.etag:
        headers["If-None-Match"] = known.etag
    elif known is not None and known.modified:
        headers["If-Modified-Since"] = known.modified
    try:
        with closing(Transport(session.request.registry)) as transport, session.store.blobs.writer() as blob:
            answer = transport.send(Request("GET", _without_user(url), headers))
            with closing(answer):
                if answer.status == 304 and known is not None:
                    return None
                if answer.status != 200:
                    raise DockerfileError(
                        f"{url} answered {answer.status} {answer.reason}".rstrip(),
                        cure="Check it; a private file needs --secret id=HTTP_AUTH_TOKEN_<host>,src=FILE.",
                    )
                size = 0
                for chunk in answer.chunks(_CHUNK, decode=True):
                    session.check()
                    size += len(chunk)
                    blob.write(chunk)
            info = blob.commit()
            modified = answer.header("Last-Modified")
            return _Download(info.digest, size, _time_ns(modified), answer.header("ETag"), modified)
    except RegistryError as error:
        cure = "Check the address, the network and the proxy settings."
        raise DockerfileError(
            error.message, cure=error.cure if isinstance(error, Untrusted) else cure
        ) from None


def _without_user(url: str) -> str:
    """A proxy is shown the whole address; the user in it is sent as a header."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _authorization(session: Session, url: str) -> dict[str, str]:
    """The header of the host's secret, or of the user in `url`; dropped on the way to another host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    for name, scheme in ((f"HTTP_AUTH_HEADER_{host}", ""), (f"HTTP_AUTH_TOKEN_{host}", "Bearer ")):
        value = secret_value(session.request.secrets, name)
        if value is not None:
            return {"Authorization": scheme + value.decode("latin-1").strip()}
    if parts.username is None:
        return {}
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}


def _time_ns(modified: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(modified).timestamp()) * 1_000_000_000
    except (ValueError, TypeError):
        return 0


def _check_other(session: Session, item: UrlItem, download: _Download) -> None:
    algorithm, _, wanted = item.checksum.partition(":")
    if algorithm not in ("sha384", "sha512"):
        return
    digest = hashlib.new(algorithm)
    with session.store.blobs.open(download.digest) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != wanted:
        raise DockerfileError(
            f"digest mismatch of {item.url}: got {algorithm}:{digest.hexdigest()}, want {item.checksum}",
            cure="The file has changed, or the --checksum is another file's.",
        )
