"""A certificate authority that the programs of one step trust, and of which no byte stays behind.

The image's own bundles, with the authority's certificates added, form a layer that lies on top of the
image's while the step runs, and is not there when its changes are written. (Not mounts: a bundle is
replaced by renaming, which a mount point refuses.) Where the step has changed such a file, what was
added is taken out again.
"""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Final

from minibuild.errors import LayerError
from minibuild.sandbox import paths, truststore

NAME: Final = b"minibuild-ca-bundle"
_BEGIN: Final = b"\n# " + NAME + b" of the build, not part of the image\n"
_END: Final = b"\n# end of " + NAME + b"\n"
_PEM: Final = (b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----")

# Debian, Alpine, Fedora, SUSE and OpenSSL's default; links among them are followed.
_BUNDLES: Final = (
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/tls/cert.pem",
    "etc/ssl/ca-bundle.pem",
    "var/lib/ca-certificates/ca-bundle.pem",
    "etc/ssl/certs/ca-bundle.crt",
    "etc/ssl/cert.pem",
    "usr/lib/ssl/cert.pem",
    "usr/local/share/certs/ca-root-nss.crt",
)
_JAVA_STORES: Final = (
    "etc/ssl/certs/java/cacerts",
    "etc/pki/ca-trust/extracted/java/cacerts",
    "var/lib/ca-certificates/java-cacerts",
    "opt/java/openjdk/lib/security/cacerts",
)
# Where Javas lie, each in a folder of its own: of distributions, vendors' images, archives and SDKMAN.
_JAVA_FOLDERS: Final = (
    "usr/lib/jvm",
    "usr/lib64/graalvm",
    "opt",
    "opt/java",
    "usr/java",
    "usr/local",
    "root/.sdkman/candidates/java",
)
_MAX_SCRUBBED: Final = 16 << 20


def block(pem: bytes) -> bytes:
    """What is added to a bundle."""
    return _BEGIN + pem.strip() + _END


def add(root_fd: int, folder: Path, pem: bytes, java_home: str) -> bytes | None:
    """Fill the empty `folder` with the root's bundles and `pem`; the first bundle there is, or None."""
    first: bytes | None = None
    done: set[str] = set()
    added = block(pem)
    for place in _BUNDLES:
        found = _read(root_fd, place)
        if found is not None and found[0] not in done and _PEM[0] in found[1]:
            done.add(found[0])
            first = first or found[1]
            _write(root_fd, folder, found[0], found[1] + added)
    for place in _java_stores(root_fd, java_home):
        found = _read(root_fd, place)
        if found is None or found[0] in done:
            continue
        entries = truststore.entries(found[1])
        if entries is not None:
            done.add(found[0])
            _write(root_fd, folder, found[0], truststore.dump(entries + _java_entries(pem)))
    return first


def certificates(pem: bytes) -> list[bytes]:
    """The certificates of a PEM file, in DER."""
    found = []
    for part in pem.split(_PEM[0])[1:]:
        text, end, _ = part.partition(_PEM[1])
        if end:
            found.append(base64.b64decode(b"".join(text.split())))
    return found


def _java_entries(pem: bytes) -> list[truststore.Entry]:
    name = NAME.decode()
    return [truststore.entry(f"{name}-{number}", der) for number, der in enumerate(certificates(pem))]


def _java_stores(root_fd: int, java_home: str) -> list[str]:
    places = list(_JAVA_STORES)
    homes = [java_home.strip("/")] if java_home.strip("/") else []
    for folder in _JAVA_FOLDERS:
        try:
            fd = paths.open_in_root(root_fd, folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        homes += [f"{folder}/{name}" for name in os.listdir(fd)]
        os.close(fd)
    return [*places, *(f"{home}/{part}lib/security/cacerts" for home in homes for part in ("", "jre/"))]


def _read(root_fd: int, place: str) -> tuple[str, bytes] | None:
    """The path that `place` resolves to inside the root, and its content; None for no small file."""
    try:
        done, missing = paths.resolve(root_fd, place)
        content = None if missing else paths.read_user_file(root_fd, "/".join(done))
    except OSError:
        return None
    return None if content is None else ("/".join(done), content)


def _write(root_fd: int, folder: Path, path: str, content: bytes) -> None:
    """Write `content` at `path` below `folder`, itself and its parents with what the root's have."""
    parts = path.split("/")
    parents = ["/".join(parts[:count]) for count in range(len(parts))]
    for parent in parents[1:]:
        (folder / parent).mkdir(exist_ok=True)
    (folder / path).write_bytes(content)
    for place in (path, *reversed(parents)):
        _copy_metadata(root_fd, folder, place)


def _copy_metadata(root_fd: int, folder: Path, path: str) -> None:
    fd = paths.open_exact(root_fd, path)
    try:
        found = os.fstat(fd)
        source, target = f"/proc/self/fd/{fd}", folder / path
        os.chown(target, found.st_uid, found.st_gid)
        os.chmod(target, stat.S_IMODE(found.st_mode))
        for name in os.listxattr(source):
            if not name.startswith(("user.overlay.", "trusted.overlay.")):
                os.setxattr(target, name, os.getxattr(source, name))
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    finally:
        os.close(fd)


def scrub(upper: Path) -> list[str]:
    """Take what `add` had added out of the files under `upper`; the paths of those it was found in."""
    changed = []
    for base, _folders, names in os.walk(upper):
        for name in names:
            path = os.path.join(base, name)
            if _scrub_file(path):
                changed.append(os.path.relpath(path, upper))
    return changed


def _scrub_file(path: str) -> bool:
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode) or not len(NAME) < found.st_size <= _MAX_SCRUBBED:
        return False
    with open(path, "rb", opener=_no_links) as file:
        data = file.read()
    if _BEGIN not in data and not (data.startswith(truststore.MAGIC) and NAME in data):
        return False
    clean = _without(data, path)
    with open(path, "r+b", opener=_no_links) as file:
        file.write(clean)
        file.truncate()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    return True


def _no_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _without(data: bytes, path: str) -> bytes:
    entries = truststore.entries(data) if data.startswith(truststore.MAGIC) else None
    if entries is not None:
        return truststore.dump([entry for entry in entries if not entry.alias.startswith(NAME.decode())])
    while (begin := data.find(_BEGIN)) >= 0:
        end = data.find(_END, begin)
        if end < 0:
            break
        data = data[:begin] + data[end + len(_END) :]
    if _BEGIN in data or data.startswith(truststore.MAGIC):
        raise LayerError(
            f"{path.rpartition('/')[2]}: the step has copied a part of the --ca-bundle into it",
            cure="Leave the trust stores alone in this step, or make the certificate part of the image.",
        )
    return data
