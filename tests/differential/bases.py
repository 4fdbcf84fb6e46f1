"""Base images of the cases, made from Debian's busybox-static alone: an OCI layout, the same bytes each time.

`busybox` is the ordinary one, `bare` has nothing but a shell, `rich` has every field of an image
configuration set, `triggers` has ONBUILD instructions, `linked` has symbolic links in odd places,
`layered` has three layers with whiteouts and an opaque folder, `marked` has extended attributes.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

BUSYBOX = shutil.which("busybox", path="/bin:/usr/bin")

BASE_TIME = 1_000_000_000  # when the images were "created"; files in them are older
FILE_TIME = 900_000_000

_NAMES = """
ash awk basename cat chgrp chmod chown cmp cp cut date dd df dirname du echo egrep env expr false find grep
gunzip gzip head hostname id install kill ln ls md5sum mkdir mkfifo mknod mktemp mount mv nproc od printenv
printf ps pwd readlink realpath rm rmdir sed seq setuidgid sh sha256sum sleep sort stat stty su sync tail tar
tee test touch tr true tty umount uname uniq unlink vi wc which whoami xargs yes
"""
_APPLETS = _NAMES.split()

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
mail:x:8:8:mail:/var/mail:/bin/false
app:x:1000:1001:An app:/home/app:/bin/sh
other:x:1002:1002::/home/other:/bin/sh
nohome:x:1003:1003:::
"""
_GROUP = """\
root:x:0:
daemon:x:1:
mail:x:8:
wheel:x:10:root,app
video:x:44:app
app:x:1001:
other:x:1002:
empty:x:1050:
"""
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What a row of a layer says: path (folders end in a slash), mode, uid, gid, content or link target.
Row = tuple[str, int, int, int, str | bytes]


def _system() -> list[Row]:
    assert BUSYBOX is not None
    rows: list[Row] = [
        ("bin/", 0o755, 0, 0, ""),
        ("bin/busybox", 0o755, 0, 0, Path(BUSYBOX).read_bytes()),
        *((f"bin/{name}", -1, 0, 0, "busybox") for name in _APPLETS),
    ]
    return rows


def _common() -> list[Row]:
    return [
        *_system(),
        ("dev/", 0o755, 0, 0, ""),
        ("etc/", 0o755, 0, 0, ""),
        ("etc/group", 0o644, 0, 0, _GROUP),
        ("etc/passwd", 0o644, 0, 0, _PASSWD),
        ("home/", 0o755, 0, 0, ""),
        ("home/app/", 0o750, 1000, 1001, ""),
        ("home/app/.profile", 0o644, 1000, 1001, "export A=1\n"),
        ("old/", 0o755, 0, 0, ""),
        ("old/a", 0o644, 0, 0, "old a\n"),
        ("old/b", 0o600, 1000, 1001, "old b\n"),
        ("old/deep/", 0o700, 1000, 1001, ""),
        ("old/deep/c", 0o644, 0, 0, "old c\n"),
        ("old/deep/er/", 0o755, 0, 0, ""),
        ("old/deep/er/d", 0o644, 0, 0, "old d\n"),
        ("old/hard1", 0o644, 0, 0, "hard\n"),
        ("old/hard2", -2, 0, 0, "old/hard1"),
        ("old/suid", 0o4755, 0, 0, "suid\n"),
        ("old/to-a", -1, 0, 0, "a"),
        ("old/to-deep", -1, 0, 0, "deep"),
        ("proc/", 0o755, 0, 0, ""),
        ("root/", 0o700, 0, 0, ""),
        ("sys/", 0o755, 0, 0, ""),
        ("tmp/", 0o1777, 0, 0, ""),
        ("usr/", 0o755, 0, 0, ""),
        ("usr/bin/", 0o755, 0, 0, ""),
        ("var/", 0o755, 0, 0, ""),
        ("var/empty/", 0o555, 0, 0, ""),
        ("var/mail/", 0o2775, 0, 8, ""),
    ]


_LINKED: list[Row] = [
    ("links/", 0o755, 0, 0, ""),
    ("links/abs", -1, 0, 0, "/old/deep"),
    ("links/dangling", -1, 0, 0, "/links/made"),
    ("links/file", -1, 0, 0, "../old/a"),
    ("links/loop1", -1, 0, 0, "loop2"),
    ("links/loop2", -1, 0, 0, "loop1"),
    ("links/out", -1, 0, 0, "../../../../../old"),
    ("links/rel", -1, 0, 0, "../old/deep"),
    ("lib", -1, 0, 0, "usr/lib"),
    ("usr/", 0o755, 0, 0, ""),
    ("usr/lib/", 0o755, 0, 0, ""),
    ("usr/lib/x", 0o644, 0, 0, "x\n"),
]

_SECOND: list[Row] = [
    ("old/", 0o755, 0, 0, ""),
    ("old/.wh.b", 0, 0, 0, b""),
    ("old/a", 0o640, 0, 8, "new a\n"),
    ("old/deep/", 0o700, 1000, 1001, ""),
    ("old/deep/.wh..wh..opq", 0, 0, 0, b""),
    ("old/deep/fresh", 0o644, 0, 0, "fresh\n"),
    ("two/", 0o755, 0, 0, ""),
    ("two/x", 0o644, 0, 0, "x\n"),
]
_THIRD: list[Row] = [("two/", 0o755, 0, 0, ""), ("two/.wh.x", 0, 0, 0, b""), ("two/y", 0o644, 0, 0, "y\n")]

_RICH: dict[str, Any] = {
    "User": "app",
    "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    "Env": [_PATH, "LANG=C", "EMPTY=", "QUOTED=a b \"c\" 'd'", "HOME_OF=app"],
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["echo hello"],
    "Volumes": {"/data": {}, "/var/mail": {}},
    "WorkingDir": "/home/app",
    "Labels": {"maintainer": "someone", "version": "1", "to.keep": "yes"},
    "StopSignal": "SIGQUIT",
    "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Retries": 3},
    "Shell": ["/bin/ash", "-e", "-c"],
}
_TRIGGERS: dict[str, Any] = {
    "Env": [_PATH, "WHO=base"],
    "Cmd": ["sh"],
    "OnBuild": ["ARG GIVEN=none", "ENV SEEN=$WHO", "RUN echo $GIVEN >/triggered", "COPY trigger* /triggers/"],
}


def make_bases(folder: Path) -> dict[str, str]:
    """Write all base images as one OCI layout to `folder`; the manifest digests by name."""
    common = _layer(_common())
    plain = {"Env": [_PATH], "Cmd": ["sh"]}
    images: dict[str, tuple[dict[str, Any], list[bytes]]] = {
        "busybox": (plain, [common]),
        "bare": ({"Env": [_PATH]}, [_layer(_system())]),
        "rich": (_RICH, [common]),
        "triggers": (_TRIGGERS, [common]),
        "linked": (plain, [common, _layer(_LINKED)]),
        "layered": (plain, [common, _layer(_SECOND), _layer(_THIRD)]),
        "noenv": ({}, [common]),
        "marked": (plain, [common, _marked()]),
    }
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifests = {name: _image(blobs, config, layers) for name, (config, layers) in images.items()}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    index = {
        "schemaVersion": 2,
        "manifests": [
            {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}
            for name, descriptor in manifests.items()
        ],
    }
    (folder / "index.json").write_text(json.dumps(index))
    return {name: descriptor["digest"] for name, descriptor in manifests.items()}


def _image(blobs: Path, config: Mapping[str, Any], layers: Iterable[bytes]) -> dict[str, Any]:
    created = "2001-09-09T01:46:40Z"
    put = [_blob(blobs, layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [descriptor["digest"] for descriptor in put]},
        "history": [{"created": created, "created_by": f"base layer {number}"} for number in range(len(put))],
    }
    described = _blob(blobs, json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described,
        "layers": put,
    }
    return _blob(blobs, json.dumps(manifest).encode(), manifest["mediaType"])  # type: ignore[arg-type]


def _blob(blobs: Path, data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _layer(rows: Iterable[Row]) -> bytes:
    """A layer's tar; a mode of -1 stands for a symbolic link, -2 for a hard link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, mode, uid, gid, content in rows:
            member = tarfile.TarInfo(path.rstrip("/"))
            member.uid, member.gid, member.mtime = uid, gid, FILE_TIME
            member.mode = mode if mode >= 0 else 0o777 if mode == -1 else 0o644
            data = content.encode() if isinstance(content, str) else content
            if mode < 0:
                member.type = tarfile.SYMTYPE if mode == -1 else tarfile.LNKTYPE
                member.linkname = data.decode()
            elif path.endswith("/"):
                member.type = tarfile.DIRTYPE
            else:
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data) if member.type == tarfile.REGTYPE else None)
    return buffer.getvalue()


def _marked() -> bytes:
    """A layer of one file with extended attributes: a user's own, and a capability (net_bind_service)."""
    capability = b"\1\0\0\2\0\4" + bytes(14)
    member = tarfile.TarInfo("marked")
    member.mtime, member.mode, member.size = FILE_TIME, 0o755, 2
    member.pax_headers = {
        "SCHILY.xattr.user.note": "hello",
        "SCHILY.xattr.security.capability": capability.decode("latin-1"),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(b"m\n"))
    return buffer.getvalue()
