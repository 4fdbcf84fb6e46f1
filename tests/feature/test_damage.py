"""A block of a blob that turns to zeros, its size and time kept, gets into nothing that reads the blob."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.feature.project import Image, Project
from tests.servers.images import noise
from tests.servers.registry import FakeRegistry

DATA = noise(300_000)  # does not compress: the compressor's own format tells nothing
MADE_AGAIN = "is gone or damaged; what made it runs again"


def blob_in(store: Path) -> Path:
    """The largest blob, which is the layer with `DATA` in it."""
    return max((store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)


def spoil(blob: Path) -> None:
    """Make zeros of a block in the middle, as a power cut or a failing disk does."""
    before = blob.stat()
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(before.st_size // 2 // 4096 * 4096)
        file.write(bytes(4096))
    blob.chmod(before.st_mode)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def spoilt(project: Project) -> Project:
    """A stage was built that has `DATA` in its only layer, and was read; the layer is damaged now."""
    project.write("tree/a", "first")
    project.write("tree/large", DATA)
    project.write("tree/z", "last")
    project.built(
        "-t", "files", text="FROM scratch AS files\nCOPY tree /t/\nFROM scratch\nCOPY --from=files /t /t\n"
    )
    spoil(blob_in(project.store))
    return project


COPY = "FROM scratch AS files\nCOPY tree /t/\nFROM scratch\n{}\n"


@pytest.mark.parametrize(
    "line",
    [
        "COPY --from=files /t /u/",
        "COPY --from=files /t/a /t/large /u/",
        "COPY --from=files --link /t /u/",
        "COPY --from=files /t/a /u/",  # from before the place that is damaged
    ],
)
def test_a_copy_from_a_damaged_layer_has_it_made_again(spoilt: Project, line: str) -> None:
    folder = spoilt.root / "out"
    done = spoilt.built("-o", f"type=oci,tar=false,dest={folder}", text=COPY.format(line))
    assert MADE_AGAIN in done.err
    files = Image(folder).files
    assert files["u/a"].data == b"first"
    assert "u/large" not in files or files["u/large"].data == DATA


def test_the_digests_of_files_are_not_taken_from_a_damaged_layer(spoilt: Project) -> None:
    """They are noted once for all: a wrong one would have the layer found where it is of no use."""
    for kind in ("sums", "selections"):
        for path in spoilt.store.glob(f"records-*/{kind}/*"):
            path.unlink()
    image = spoilt.image(text=COPY.format("COPY --from=files /t /t\n"))
    assert image.files["t/large"].data == DATA


def test_what_this_store_wrote_or_read_is_not_hashed_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minibuild_store import verify

    hashed: list[str] = []
    init = verify.VerifiedReader.__init__

    def noting(self: object, fd: int, digest: str, *rest: object) -> None:
        hashed.append(digest)
        init(self, fd, digest, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(verify.VerifiedReader, "__init__", noting)
    project.write("tree/large", DATA)
    project.built(text=COPY.format("COPY --from=files /t /t\n"))
    layer = f"sha256:{blob_in(project.store).name}"
    assert layer not in hashed
    project.built(text=COPY.format("COPY --from=files /t /u\nCOPY --from=files /t /v\n"))
    assert hashed.count(layer) == 1


@pytest.mark.parametrize(
    "output", ["type=local,dest={}", "type=tar,dest={}", "type=oci,compression=gzip,dest={}"]
)
def test_an_output_that_reads_a_damaged_layer_has_it_made_again(spoilt: Project, output: str) -> None:
    dest = spoilt.root / "out"
    done = spoilt.built(
        "--target=files", "-o", output.format(dest), text="FROM scratch AS files\nCOPY tree /t/\n"
    )
    assert MADE_AGAIN in done.err
    if dest.is_dir():
        assert (dest / "t/large").read_bytes() == DATA
    elif "gzip" not in output:
        with tarfile.open(dest) as archive:
            content = archive.extractfile("t/large")
            assert content is not None and content.read() == DATA


def test_squashing_a_damaged_layer_has_it_made_again(spoilt: Project) -> None:
    text = "FROM scratch AS files\nCOPY tree /t/\nCOPY tree/a /b\n"
    folder = spoilt.root / "out"
    done = spoilt.built("--squash=all", "-o", f"type=oci,tar=false,dest={folder}", text=text)
    assert MADE_AGAIN in done.err
    assert Image(folder).files["t/large"].data == DATA


def test_a_push_of_a_damaged_layer_has_it_made_again(spoilt: Project, registry: FakeRegistry) -> None:
    text = "FROM scratch AS files\nCOPY tree /t/\n"
    options = ("--target=files", "--insecure-registry", registry.host)
    done = spoilt.built(*options, "-t", f"{registry.host}/app:1", "--push", text=text)
    assert MADE_AGAIN in done.err
    assert f"sha256:{blob_in(spoilt.store).name}" in registry.repository("app").blobs


def test_a_push_by_name_removes_the_damaged_layer_and_says_what_to_do(
    spoilt: Project, registry: FakeRegistry
) -> None:
    name = f"{registry.host}/app:1"
    assert spoilt.command("tag", "files", name).code == 0
    blob = blob_in(spoilt.store)
    done = spoilt.command("push", "--insecure-registry", registry.host, name)
    assert done.code == 5
    assert f"blob sha256:{blob.name} is damaged" in done.error
    assert "Build the image again" in done.error
    assert not blob.exists()
    assert spoilt.built("-t", "files").summary == (2, 1)


def test_a_shared_cache_gets_no_damaged_layer(spoilt: Project) -> None:
    cache = spoilt.root / "cache"
    option = f"--cache-to=type=local,dest={cache},mode=max"
    text = "FROM scratch AS files\nCOPY tree /t/\n"
    blob = blob_in(spoilt.store)
    done = spoilt.built(option, text=text)
    assert f"was not written: layer sha256:{blob.name} is damaged" in done.err
    assert not (cache / "blobs/sha256" / blob.name).exists()
    assert "was not written" not in spoilt.built(option).err
    assert (cache / "blobs/sha256" / blob.name).read_bytes() == blob_in(spoilt.store).read_bytes()


def test_a_difference_over_a_damaged_layer_is_refused(spoilt: Project) -> None:
    spoilt.write("tree/large", noise(300_000, 1))
    spoilt.built(
        "-t", "other", text="FROM scratch AS files\nCOPY tree /t/\nFROM scratch\nCOPY --from=files /t /t\n"
    )
    done = spoilt.command("diff", "files", "other", "--json")
    assert done.code == 1
    assert "is damaged" in done.error and "Build the image again" in done.error


def test_a_download_that_is_damaged_is_fetched_again(project: Project, registry: FakeRegistry) -> None:
    """The registry is no more than a server of a file here."""
    registry.repository("x").blobs["sha256:" + "0" * 64] = DATA
    address = f"http://{registry.host}/v2/x/blobs/sha256:{'0' * 64}"
    project.built(text=f"FROM scratch\nADD {address} /one\n")
    [blob] = [path for path in (project.store / "blobs/sha256").iterdir() if path.stat().st_size == len(DATA)]
    spoil(blob)
    image = project.image(text=f"FROM scratch\nADD {address} /two\n")
    assert image.files["two"].data == DATA


def test_steps_that_leave_the_same_blob_are_found_without_reading_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minibuild.engine.layerblobs import LayerBlobs

    os.utime(project.write("same", "same"), (1, 1))
    os.utime(project.write("other", "other"), (1, 1))
    project.built(text="FROM scratch\nCOPY same /d/\nCOPY other /e/\nCOPY same /d/\n")
    blobs = [json.loads(blob.read_bytes()) for blob in documents(project)]
    [layers] = [blob["layers"] for blob in blobs if "layers" in blob]
    assert layers[0] == layers[2]
    monkeypatch.setattr(LayerBlobs, "whole", lambda self, digest: pytest.fail("it is read"))
    assert project.built().summary == (3, 3)


def documents(project: Project) -> list[Path]:
    return [blob for blob in (project.store / "blobs/sha256").iterdir() if blob.read_bytes()[:1] == b"{"]
