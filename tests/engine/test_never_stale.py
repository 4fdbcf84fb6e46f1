"""A step runs again when anything it depends on changes, and does not when nothing it depends on does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.store import Store

from minibuild.engine.build import build
from minibuild.engine.request import BuildRequest, BuildResult, Secret
from minibuild.errors import SandboxError
from minibuild.oci.platform import Platform
from minibuild.sandbox.client import Sandbox
from tests.differential.bases import BUSYBOX, make_bases
from tests.differential.server import Server

pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="needs Debian's busybox-static")

Change = Callable[["World"], object]


class World:
    """A context, what is asked of the build, and the store that both builds share."""

    def __init__(self, folder: Path, store: Store, bases: Path, server: Server) -> None:
        self.context = folder / "context"
        self.named = folder / "named"
        self.site = folder / "served"
        self.store = store
        self.bases = bases
        self.digests: dict[str, str] = {}
        self.address = server.serve("site", self.site)
        self.request: dict[str, Any] = {"build_args": {}}
        self.base = "busybox"
        for path, text in {
            "context/a": "a",
            "context/b": "b",
            "context/d/x.txt": "x",
            "context/d/y.txt": "y",
            "context/d/sub/z": "z",
            "context/Other": "other",
            "named/n": "n",
            "served/http/f": "f",
        }.items():
            self.write(folder / path, text)
        (self.context / "link").symlink_to("a")
        (self.context / "d/link").symlink_to("x.txt")

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def put(self, path: str, text: str) -> None:
        """Write a file of the context."""
        self.write(self.context / path, text)

    def replace(self, old: str, new: str) -> None:
        """Change the Dockerfile."""
        text = (self.context / "Dockerfile").read_text()
        assert old in text
        self.put("Dockerfile", text.replace(old, new))

    def arg(self, name: str, value: str) -> None:
        self.request["build_args"] = {**self.request["build_args"], name: value}

    def set(self, **options: Any) -> None:
        self.request.update(options)

    def build(self) -> BuildResult:
        contexts = {
            "base": f"oci-layout://{self.bases}@{self.digests[self.base]}",
            "named": str(self.named),
        }
        return build(BuildRequest(context=self.context, contexts=contexts, **self.request), store=self.store)

    def last(self) -> bool:
        """Build; whether the last step was found in the cache."""
        return self.build().steps[-1].cached


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("bases")
    return folder, make_bases(folder)


@pytest.fixture
def world(tmp_path: Path, bases: tuple[Path, dict[str, str]]) -> Iterator[World]:
    with Store.open(tmp_path / "store") as store, Server() as server:
        made = World(tmp_path, store, bases[0], server)
        made.digests = bases[1]
        yield made


@pytest.fixture(scope="module")
def sandbox_works() -> None:
    try:
        Sandbox.start().close()
    except SandboxError as error:
        pytest.skip(f"no sandbox here: {error.message}")


def _link(world: World, name: str, target: str) -> None:
    (world.context / name).unlink()
    (world.context / name).symlink_to(target)


def _rename(world: World, old: str, new: str) -> None:
    (world.context / old).rename(world.context / new)


COPIED: dict[str, tuple[str, Change]] = {
    "content of a file": ("COPY a /x", lambda w: w.put("a", "A")),
    "content of the same length and time": ("COPY a /x", lambda w: _same_stamp(w, "a")),
    "mode of a file": ("COPY a /x", lambda w: (w.context / "a").chmod(0o755)),
    "content deep in a folder": ("COPY . /x/", lambda w: w.put("d/sub/z", "Z")),
    "mode of a folder": ("COPY d /x", lambda w: (w.context / "d/sub").chmod(0o700)),
    "target of a link in a folder": ("COPY d /x", lambda w: _link(w, "d/link", "y.txt")),
    "what a copied link leads to": ("COPY link /x", lambda w: _link(w, "link", "b")),
    "content behind a copied link": ("COPY link /x", lambda w: w.put("a", "A")),
    "a file more in the folder": ("COPY d /x", lambda w: w.put("d/new", "")),
    "a file less in the folder": ("COPY d /x", lambda w: (w.context / "d/x.txt").unlink()),
    "an empty folder more": ("COPY d /x", lambda w: (w.context / "d/empty").mkdir()),
    "a name": ("COPY d /x", lambda w: _rename(w, "d/sub/z", "d/sub/zz")),
    "a kind": ("COPY d /x", lambda w: ((w.context / "d/sub/z").unlink(), (w.context / "d/sub/z").mkdir())),
    "a match more of the wildcard": ("COPY d/*.txt /x/", lambda w: w.put("d/new.txt", "")),
    "a match less of the wildcard": ("COPY d/*.txt /x/", lambda w: (w.context / "d/x.txt").unlink()),
    "names of one file to two files": ("COPY d /x", lambda w: _unlink_names(w)),
    "a new ignore file": ("COPY d /x", lambda w: w.put(".dockerignore", "d/x.txt\n")),
    "the excluded": ("COPY --exclude=x.txt d /x", lambda w: w.replace("x.txt", "y.txt")),
    "--parents": ("COPY d/sub/z /x/", lambda w: w.replace("COPY ", "COPY --parents ")),
    "--chown": ("COPY --chown=1 a /x", lambda w: w.replace("--chown=1", "--chown=2")),
    "--chmod": ("COPY --chmod=600 a /x", lambda w: w.replace("600", "640")),
    "--link": ("COPY a /old/x", lambda w: w.replace("COPY ", "COPY --link ")),
    "the destination": ("COPY a /x", lambda w: w.replace("/x", "/y")),
    "a slash behind the destination": ("COPY a /x", lambda w: w.replace("/x", "/x/")),
    "the folder a relative destination is in": ("WORKDIR /1\nCOPY a x", lambda w: w.replace("/1", "/2")),
    "an argument in the destination": ("ARG D=1\nCOPY a /$D", lambda w: w.arg("D", "2")),
    "a variable in the source": ("ENV S=a\nCOPY $S /x", lambda w: w.replace("S=a", "S=b")),
    "the order of sources": ("COPY a b /x/", lambda w: w.replace("a b", "b a")),
    "a here-document": ("COPY <<E /x\none\nE", lambda w: w.replace("one", "two")),
    "the name of a here-document": ("COPY <<E /x/\n\nE", lambda w: w.replace("E", "F")),
    "an argument in a here-document": ("ARG V=1\nCOPY <<E /x\n$V\nE", lambda w: w.arg("V", "2")),
    "a file of a named context": ("COPY --from=named n /x", lambda w: w.write(w.named / "n", "N")),
    "the base": ("COPY a /old/x", lambda w: setattr(w, "base", "layered")),
    "the platform": ("COPY a /x", lambda w: w.set(platform=Platform.parse("linux/riscv64"))),
    "SOURCE_DATE_EPOCH": ("COPY a /x", lambda w: w.set(epoch=1_500_000_000)),
    "the body behind an address": ("ADD {http}/f /x", lambda w: w.write(w.site / "http/f", "changed")),
    "whether an archive is unpacked": ("ADD a /x", lambda w: w.replace("ADD ", "ADD --unpack=false ")),
    "the user of a WORKDIR": ("USER 1\nWORKDIR /new", lambda w: w.replace("USER 1", "USER 2")),
    "an archive's content": ("ADD a /x", lambda w: w.put("a", "A")),
}


def _same_stamp(world: World, name: str) -> None:
    path = world.context / name
    before = path.stat()
    path.write_text(path.read_text().upper())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _unlink_names(world: World) -> None:
    """The one file that `_link_names` gave two names becomes two."""
    (world.context / "d/hard").unlink()
    world.put("d/hard", "x")


@pytest.mark.parametrize("what", COPIED)
def test_a_change_copies_again(world: World, what: str) -> None:
    text, change = COPIED[what]
    if what.startswith("names of one file"):
        os.link(world.context / "d/x.txt", world.context / "d/hard")
    world.put("Dockerfile", f"FROM base\n{text}\n".replace("{http}", world.address))
    assert not world.last()
    assert world.last(), "the same again is found"
    change(world)
    assert not world.last()


def test_a_stage_that_gives_other_files_is_copied_from_again(world: World) -> None:
    world.put("Dockerfile", "FROM scratch AS one\nCOPY d /d\nFROM base\nCOPY --from=one /d/x.txt /x\n")
    world.build()
    world.put("d/x.txt", "other")
    assert not world.last()


def test_a_stage_that_gives_the_same_files_in_question_is_not(world: World) -> None:
    world.put("Dockerfile", "FROM scratch AS one\nCOPY d /d\nFROM base\nCOPY --from=one /d/x.txt /x\n")
    world.build()
    world.put("d/y.txt", "other")
    assert world.last()


def test_a_name_in_the_bases_passwd_counts(world: World) -> None:
    world.put("passwd", "me:x:1:1::/:\n")
    world.put("Dockerfile", "FROM base\nCOPY passwd /etc/passwd\nCOPY --chown=me a /x\n")
    world.build()
    world.put("passwd", "me:x:2:2::/:\n")
    assert not world.last()


def _touch(world: World) -> None:
    for folder, _, files in os.walk(world.context):
        for name in (*files, "."):
            os.utime(os.path.join(folder, name), (1, 1), follow_symlinks=False)


def _written_anew(world: World) -> None:
    """Folders list their files in another order afterwards."""
    for name in ("d/y.txt", "d/x.txt"):
        text = (world.context / name).read_text()
        (world.context / name).unlink()
        world.put(name, text)


HARMLESS: dict[str, tuple[str, Change]] = {
    "times": ("COPY . /x/", _touch),
    "the order in which files were made": ("COPY d /x", _written_anew),
    "a file that is not copied": ("COPY d /x", lambda w: w.put("b", "B")),
    "a file that no wildcard matches": ("COPY d/*.txt /x/", lambda w: w.put("d/new.md", "")),
    "an ignored file": ("COPY d /x", lambda w: w.put("d/ignored", "changed")),
    "an excluded file": ("COPY --exclude=x.txt d /x", lambda w: w.put("d/x.txt", "X")),
    "modes below --chmod": ("COPY --chmod=0644 d /x", lambda w: (w.context / "d/x.txt").chmod(0o600)),
    "an argument that is not declared": ("COPY a /x", lambda w: w.arg("V", "2")),
    "an argument that is not used": ("ARG V=1\nCOPY a /x", lambda w: w.arg("V", "2")),
    "a label": ("LABEL v=1\nCOPY a /x", lambda w: w.replace("v=1", "v=2")),
    "a comment and blanks": ("COPY a /x", lambda w: w.replace("COPY a", "# note\n\nCOPY   a")),
    "case of an instruction": ("COPY a /x", lambda w: w.replace("COPY", "copy")),
    "a tag of the result": ("COPY a /x", lambda w: w.set(labels={"x": "y"})),
    "a lower step under --link": ("COPY b /y\nCOPY --link a /x", lambda w: w.put("b", "B")),
    "what no stage needs": (
        "FROM base AS last\nCOPY a /x",
        lambda w: w.replace("FROM base\n", "FROM base\nENV Q=1\n"),
    ),
    "the body behind an address asked for anew": ("ADD {http}/f /x", lambda w: None),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_does_not_matter_copies_nothing_again(world: World, what: str) -> None:
    text, change = HARMLESS[what]
    world.put(".dockerignore", "d/ignored\n")
    world.put("Dockerfile", f"FROM base\n{text}\n".replace("{http}", world.address))
    assert not world.last()
    change(world)
    assert world.last()


RUN: dict[str, tuple[str, Change]] = {
    "the command": ("RUN echo 1 >/x", lambda w: w.replace("echo 1", "echo 2")),
    "its form": ("RUN true", lambda w: w.replace("RUN true", 'RUN ["true"]')),
    "an argument in scope": ("ARG V=1\nRUN true", lambda w: w.arg("V", "2")),
    "a variable": ("ENV V=1\nRUN true", lambda w: w.replace("V=1", "V=2")),
    "the user": ("USER 1\nRUN true", lambda w: w.replace("USER 1", "USER 2")),
    "the folder": ("WORKDIR /old\nRUN true", lambda w: w.replace("/old", "/tmp")),
    "the shell": ('SHELL ["/bin/sh","-c"]\nRUN true', lambda w: w.replace('"-c"', '"-ec"')),
    "the network": ("RUN true", lambda w: w.replace("RUN", "RUN --network=none")),
    "hosts": ("RUN true", lambda w: w.set(hosts=(("a.example", "192.0.2.1"),))),
    "the host name": ("RUN true", lambda w: w.arg("BUILDKIT_SANDBOX_HOSTNAME", "me")),
    "a mounted file": ("RUN --mount=target=/m true", lambda w: w.put("d/sub/z", "Z")),
    "a mounted file's mode": ("RUN --mount=target=/m true", lambda w: (w.context / "a").chmod(0o700)),
    "where it is mounted": ("RUN --mount=target=/m true", lambda w: w.replace("/m", "/n")),
    "how it is mounted": ("RUN --mount=target=/m true", lambda w: w.replace("/m", "/m,rw")),
    "a mounted part": ("RUN --mount=source=d,target=/m true", lambda w: w.put("d/sub/z", "Z")),
    "a mounted named context": (
        "RUN --mount=from=named,target=/m true",
        lambda w: w.write(w.named / "n", "N"),
    ),
    "the id of a cache": ("RUN --mount=type=cache,id=1,target=/m true", lambda w: w.replace("id=1", "id=2")),
    "the size of a tmpfs": ("RUN --mount=type=tmpfs,size=1m,target=/m true", lambda w: w.replace("1m", "2m")),
    "a here-document": ("RUN <<E\ntrue 1\nE", lambda w: w.replace("true 1", "true 2")),
    "a script": ("RUN <<E\n#!/bin/sh\ntrue 1\nE", lambda w: w.replace("true 1", "true 2")),
    "the files below": ("COPY a /a\nRUN true", lambda w: w.put("a", "A")),
    "the base": ("RUN true", lambda w: setattr(w, "base", "layered")),
    "the value of a secret that counts": (
        "RUN --mount=type=secret,id=k true",
        lambda w: w.set(secrets=(Secret("k", value=b"two", keyed=True),)),
    ),
    "whether a secret that counts is there": (
        "RUN --mount=type=secret,id=k true",
        lambda w: w.set(secrets=()),
    ),
    "whether a secret's value counts": (
        "RUN --mount=type=secret,id=s true",
        lambda w: w.set(secrets=(Secret("s", value=b"one", keyed=True),)),
    ),
    "where a secret goes": ("RUN --mount=type=secret,id=s true", lambda w: w.replace("id=s", "id=s,env=S")),
}


@pytest.mark.parametrize("what", RUN)
def test_a_change_runs_again(world: World, sandbox_works: None, what: str) -> None:
    text, change = RUN[what]
    _secret(world, b"one")
    world.put("Dockerfile", f"FROM base\n{text}\n")
    assert not world.last()
    assert world.last(), "the same again is found"
    change(world)
    assert not world.last()


def test_a_mounted_stage_that_gives_other_files_runs_again(world: World, sandbox_works: None) -> None:
    text = "FROM scratch AS one\nCOPY d /d\nFROM base\nRUN --mount=from=one,source=/d/sub,target=/m true\n"
    world.put("Dockerfile", text)
    world.build()
    world.put("d/x.txt", "not in the mounted part")
    assert world.last()
    world.put("d/sub/z", "in it")
    assert not world.last()


def _secret(world: World, value: bytes) -> None:
    world.set(secrets=(Secret("s", value=value), Secret("k", value=value, keyed=True)))


RUN_HARMLESS: dict[str, tuple[str, Change]] = {
    "a secret's value": ("RUN --mount=type=secret,id=s true", lambda w: _secret(w, b"two")),
    "the value of a secret that another step mounts": (
        "RUN --mount=type=secret,id=s true",
        lambda w: w.set(secrets=(Secret("s", value=b"one"), Secret("k", value=b"two", keyed=True))),
    ),
    "times": ("RUN --mount=target=/m true", _touch),
    "a proxy": ("RUN true", lambda w: w.arg("HTTP_PROXY", "http://proxy.example")),
    "an argument declared later": ("RUN true", lambda w: w.arg("V", "2")),
    "a file outside the mounted part": (
        "RUN --mount=source=d/sub,target=/m true",
        lambda w: w.put("d/x.txt", "X"),
    ),
    "the command of the image": ("CMD a\nRUN true", lambda w: w.replace("CMD a", "CMD b")),
    "a port": ("EXPOSE 1\nRUN true", lambda w: w.replace("EXPOSE 1", "EXPOSE 2")),
}


@pytest.mark.parametrize("what", RUN_HARMLESS)
def test_what_does_not_matter_runs_nothing_again(world: World, sandbox_works: None, what: str) -> None:
    text, change = RUN_HARMLESS[what]
    _secret(world, b"one")
    world.put("Dockerfile", f"FROM base\n{text}\n")
    assert not world.last()
    change(world)
    assert world.last()
