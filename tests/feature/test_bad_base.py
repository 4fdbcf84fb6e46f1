"""Base layers that try to get out, or are no layers: refused, with nothing written anywhere."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.feature.project import Image, Project

Member = tuple[tarfile.TarInfo, bytes]

CANARY = "minibuild-canary"


def file(name: str, data: bytes = b"x") -> Member:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def device(name: str) -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.devmajor, member.devminor = tarfile.BLKTYPE, 8, 0
    return member, b""


def tar(*members: Member) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def base(project: Project, layer: bytes, diff_id: str = "") -> list[str]:
    """Options that make ``evil`` the plain base with one more layer."""
    good = Image(project.bases, "busybox")
    folder = project.root / "evil"
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return f"sha256:{name}"

    for descriptor in good.manifest["layers"]:
        put(good.blob(descriptor["digest"]))
    added = {"mediaType": good.manifest["layers"][0]["mediaType"], "digest": put(layer), "size": len(layer)}
    document = good.document
    document["rootfs"]["diff_ids"].append(diff_id or added["digest"])
    config = json.dumps(document).encode()
    manifest = good.manifest
    manifest["layers"].append(added)
    manifest["config"] |= {"digest": put(config), "size": len(config)}
    data = json.dumps(manifest).encode()
    entry = {"mediaType": manifest["mediaType"], "digest": put(data), "size": len(data)}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return ["--build-context", f"evil=oci-layout://{folder}"]


USES = {
    "run": ("FROM evil\nRUN true\n", ""),
    "copy": ("FROM evil\nCOPY Dockerfile /new/\n", ""),
    "copy from": ("FROM scratch\nCOPY --from=evil / /all/\n", ""),
    "files": ("FROM evil\n", "local"),
    "archive": ("FROM evil\n", "tar"),
}

HOSTILE = {
    "dots": [file(f"../{CANARY}")],
    "dots inside": [file(f"a/../../{CANARY}")],
    "hard link out": [link("h", f"../../{CANARY}", tarfile.LNKTYPE)],
    "hard link to nothing": [link("h", "nothing", tarfile.LNKTYPE)],
    "below a file": [file("f"), file(f"f/{CANARY}")],
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_layer_that_makes_no_sense_is_refused(project: Project, kind: str, use: str) -> None:
    text, output = USES[use]
    options = base(project, tar(*HOSTILE[kind]))
    if output:
        options += ["-o", f"type={output},dest={project.root}/out"]
    done = project.build(*options, text=text)
    assert done.code == 1, done.err
    assert ("'s entry" in done.error and " (layer sha256:" in done.error) or output
    assert not (project.root / "out").exists()
    assert _canaries(project.root) == []


def test_a_name_from_the_root_on_stays_inside(project: Project) -> None:
    outside = project.root / CANARY
    out = project.root / "out"
    options = base(project, tar(file(str(outside))))
    project.built(*options, "-o", str(out), text=f"FROM evil\nRUN test -e {outside}\n")
    assert not outside.exists()
    assert (out / str(outside).lstrip("/")).read_bytes() == b"x"


def test_a_file_through_a_link_that_points_out_stays_inside(project: Project) -> None:
    outside = project.root / "target"
    outside.mkdir()
    options = base(project, tar(link("link", str(outside)), file(f"link/{CANARY}")))
    for number, (text, output) in enumerate(USES.values()):
        more = ["-o", f"type={output},dest={project.root}/out{number}"] if output else []
        done = project.build(*options, *more, text=text)
        assert "Traceback" not in done.err
        assert list(outside.iterdir()) == []


@pytest.mark.parametrize("use", USES)
def test_a_device_is_kept_in_the_image_and_never_opened(project: Project, use: str) -> None:
    text, output = USES[use]
    options = base(project, tar(device("disk")))
    if output == "local":
        options += ["-o", f"type=local,dest={project.root}/out"]
        project.built(*options, text=text)
        return
    files = project.image(*options, text=text).files
    found = files["all/disk"] if use == "copy from" else files["disk"]
    assert found.kind == tarfile.BLKTYPE


@pytest.mark.parametrize(
    "layer",
    [b"this is no tar archive at all" * 100, tar(file("big", b"x" * 5000))[:2000], b"\x1f\x8b\x08garbage"],
)
def test_a_layer_that_is_no_archive_is_refused(project: Project, layer: bytes) -> None:
    for text in ("FROM evil\nRUN true\n", "FROM evil\nCOPY Dockerfile /new/\n"):
        options = ["--build-context", f"evil=oci-layout://{project.root}/evil"]
        if not (project.root / "evil").exists():
            options = base(project, layer)
        done = project.build(*options, text=text)
        assert done.code == 1, done.err
        assert done.error


def test_a_layer_with_another_diff_id_is_refused(project: Project) -> None:
    options = base(project, tar(file("x")), diff_id="sha256:" + "0" * 64)
    done = project.build(*options, text="FROM evil\nRUN true\n")
    assert done.code == 1
    assert "0" * 64 in done.error


def test_a_layout_whose_blob_was_changed_is_refused(project: Project) -> None:
    options = base(project, tar(file("x")))
    blob = max((project.root / "evil/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[1000] ^= 1
    blob.write_bytes(data)
    done = project.build(*options, text="FROM evil\nRUN true\n")
    assert done.code == 2
    assert blob.name in done.error


def _canaries(folder: Path) -> list[Path]:
    return [*folder.rglob(f"*{CANARY}*"), *Path("/").glob(f"*{CANARY}*"), *folder.parent.glob(f"*{CANARY}*")]
