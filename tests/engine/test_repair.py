"""A base whose layers leave parent folders out still shows RUN the right ones."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.cache.collect import collect
from minibuild.cache.eviction import Policy
from minibuild.engine.build import build
from minibuild.engine.request import BuildRequest
from minibuild.events import StepOutput


def layer(*members):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, kind, mode, owner, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid, info.size = kind, mode, owner, owner, len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def layout(folder: Path, layers):
    """An OCI layout of the given uncompressed layers."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data):
        digest = Digest.of(data)
        (blobs / digest.hex).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    kind = "application/vnd.oci.image."
    descriptors = [{"mediaType": kind + "layer.v1.tar", **put(data)} for data in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [one["digest"] for one in descriptors]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind + "manifest.v1+json",
        "config": {"mediaType": kind + "config.v1+json", **put(json.dumps(config).encode())},
        "layers": descriptors,
    }
    entry = {"mediaType": kind + "manifest.v1+json", **put(json.dumps(manifest).encode())}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


STAT = ["/bin/busybox", "stat", "-c", "%n %a %u", "/srv", "/srv/www"]
SHOWN = ["/srv 2770 33\n/srv/www 700 34\n"]


@pytest.fixture
def built(tmp_path):
    """Builds a Dockerfile on such a base, and gives what its steps print; `told` hears each as well."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    lower = layer(
        ("bin", tarfile.DIRTYPE, 0o755, 0, b""),
        ("bin/busybox", tarfile.REGTYPE, 0o755, 0, busybox),
        ("srv", tarfile.DIRTYPE, 0o2770, 33, b""),
        ("srv/www", tarfile.DIRTYPE, 0o700, 34, b""),
    )
    upper = layer(("srv/www/index.html", tarfile.REGTYPE, 0o644, 34, b"hello"))
    layout(tmp_path / "base", [lower, upper])
    context = tmp_path / "context"
    context.mkdir()
    request = BuildRequest(context=context, contexts={"base": f"oci-layout://{tmp_path / 'base'}"})

    def build_it(dockerfile, told=lambda: None):
        (context / "Dockerfile").write_text(dockerfile)
        lines = []

        def sink(event):
            if isinstance(event, StepOutput):
                lines.append(event.data.decode())
                told()

        with Store.open(tmp_path / "store") as store:
            build(request, store=store, sink=sink)
        return lines

    return build_it


@pytest.mark.many_ids
def test_folders_a_layer_leaves_out_keep_the_mode_and_owner_of_the_layer_below(built):
    assert built(f"FROM base\nRUN {json.dumps(STAT)}\n") == SHOWN


@pytest.mark.many_ids
def test_they_keep_them_where_room_is_made_meanwhile(built, tmp_path):
    def make_room():
        with Store.open(tmp_path / "store") as store:
            collect(store, Policy(everything=True))

    again = json.dumps([*STAT, "/bin"])
    lines = built(f"FROM base\nRUN {json.dumps(STAT)}\nRUN {again}\n", make_room)
    assert lines == [*SHOWN, SHOWN[0] + "/bin 755 0\n"]
