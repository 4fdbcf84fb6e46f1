"""Cache mounts on fresh machines: what shared caches and files carry there, and what stays where it is."""

from __future__ import annotations

import http.server
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from minibuild_store.store import Store

from tests.feature.conftest import lacking
from tests.feature.project import Project
from tests.servers import s3
from tests.servers.docker_registry import PROGRAM, docker_registry
from tests.servers.serving import serving

PACKAGES = {"one": b"1" * 3000, "two": b"2" * 50_000, "three": b"3"}

DOWNLOAD = """
FROM busybox
COPY list /list
RUN --mount=type=cache,target=/var/cache/get,id=get {more}\\
    cd /var/cache/get && for name in $(cat /list); do \\
        [ -e $name ] || wget -q http://127.0.0.1:{port}/$name || exit 1; \\
    done; cat $(cat /list) > /all; ls -ln > /listed
"""


class Index:
    """A server of packages that counts what is asked of it; ``/hold`` answers when `release` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = threading.Event()
        self.held = threading.Event()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                index.asked.append(name)
                if name == "hold":
                    index.held.set()
                    index.release.wait(60)
                body = PACKAGES.get(name, b"")
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port


@pytest.fixture
def index() -> Iterator[Index]:
    made = Index()
    with serving(made.server):
        yield made
        made.release.set()


@pytest.fixture(params=["local", "registry", "s3"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """One shared cache, as it is written and as it is read."""
    folder = tmp_path / "shared"
    folder.mkdir()
    if request.param == "local":
        yield f"type=local,dest={folder}/cache", f"type=local,src={folder}/cache"
    elif request.param == "registry":
        if PROGRAM is None:
            lacking("docker-registry is not installed")
        with docker_registry(folder) as server:
            yield (f"type=registry,ref={server.host}/app:cache",) * 2
    else:
        pytest.importorskip("obstore")
        if s3.PROGRAM is None:
            lacking("moto_server is not installed")
        with s3.s3_server(folder) as bucket:
            yield (f"{bucket.options},name=one",) * 2


@pytest.fixture
def local(project: Project) -> tuple[str, str]:
    return f"type=local,dest={project.root}/cache,mounts=true", f"type=local,src={project.root}/cache"


def move(project: Project, name: str) -> None:
    """Go on with another store, as on a new machine."""
    project.store = project.root / name
    project.environment["MINIBUILD_ROOT"] = str(project.store)


def dockerfile(index: Index, more: str = "") -> str:
    return DOWNLOAD.replace("{port}", str(index.port)).replace("{more}", more)


def test_a_fresh_machine_downloads_nothing_that_a_cache_mount_had(
    project: Project, index: Index, cache: tuple[str, str]
) -> None:
    project.write("list", "one two\n")
    to, source = cache
    project.built("--cache-to", f"{to},mode=max,mounts=true", text=dockerfile(index))
    assert index.asked == ["one", "two"]
    move(project, "fresh")
    project.write("list", "two one\n")  # the step runs again
    image = project.image("--cache-from", source)
    assert index.asked == ["one", "two"]
    assert image.files["all"].data == PACKAGES["two"] + PACKAGES["one"]


def test_what_is_new_is_downloaded_and_passed_on(
    project: Project, index: Index, cache: tuple[str, str]
) -> None:
    to, source = cache
    text = dockerfile(index)
    for number, names in enumerate(("one", "one two", "one two three")):
        move(project, f"machine{number}")
        project.write("list", f"{names}\n")
        project.built("--cache-from", source, "--cache-to", f"{to},mounts=true", text=text)
    assert index.asked == ["one", "two", "three"]


def test_a_build_that_executes_nothing_fetches_no_mount_and_passes_it_on(
    project: Project, index: Index, local: tuple[str, str]
) -> None:
    project.write("list", "one two\n")
    project.built("--cache-to", f"{local[0]},mode=max", text=dockerfile(index))
    move(project, "fresh")
    other = f"type=local,dest={project.root}/other,mode=max,mounts=true"
    done = project.built("--cache-from", local[1], "--cache-to", other)
    assert done.summary == (2, 2) and not list((project.store / "caches-v1").iterdir())
    move(project, "third")
    project.write("list", "two\n")
    project.built("--cache-from", f"type=local,src={project.root}/other")
    assert index.asked == ["one", "two"]


def test_a_mount_that_has_not_changed_is_not_sent_again(
    project: Project, index: Index, local: tuple[str, str]
) -> None:
    project.write("list", "one two\n")
    project.built("--cache-to", local[0], text=dockerfile(index))
    assert "0 layers sent" in project.built("--cache-to", local[0]).err
    project.write("list", "two one\n")
    done = project.built("--cache-to", local[0])
    assert not done.cached("RUN --mount") and "2 layers sent" in done.err  # COPY and RUN


def test_a_mount_that_is_here_is_never_overwritten(
    project: Project, index: Index, local: tuple[str, str]
) -> None:
    project.write("list", "one\n")
    project.built("--cache-to", local[0], text=dockerfile(index))
    move(project, "other")
    project.write("list", "three\n")
    project.built()
    project.write("list", "three one\n")
    project.built("--cache-from", local[1])
    assert index.asked == ["one", "three", "one"]


@pytest.mark.parametrize("to, source", [("", ""), (",mounts=true", ",mounts=false")])
def test_mounts_go_and_come_only_where_asked_for(
    project: Project, index: Index, to: str, source: str
) -> None:
    project.write("list", "one\n")
    cache = project.root / "cache"
    project.built("--cache-to", f"type=local,dest={cache}{to}", text=dockerfile(index))
    move(project, "fresh")
    project.write("list", "one \n")
    project.built("--cache-from", f"type=local,src={cache}{source}")
    assert index.asked == ["one", "one"]


def packed(cache: Path) -> dict[str, tuple[int, int, int]]:
    """Mode, user and group of all that the one mount in a local cache holds."""
    (entry,) = json.loads((cache / "index.json").read_bytes())["manifests"]
    manifest = json.loads((cache / "blobs" / entry["digest"].replace(":", "/")).read_bytes())
    blob = cache / "blobs" / manifest["layers"][-1]["digest"].replace(":", "/")
    data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(blob.read_bytes())).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: (member.mode, member.uid, member.gid) for member in archive}


@pytest.mark.parametrize("sharing", ["shared", "locked", "private"])
def test_owners_and_modes_come_along(project: Project, local: tuple[str, str], sharing: str) -> None:
    text = f"""
    FROM busybox
    ARG N
    RUN --mount=type=cache,target=/c,uid=12,gid=34,mode=2770,sharing={sharing} : $N; \
        cd /c; stat -c %a . > /mode; \
        [ -e f ] || {{ umask 22; echo > f; chown 5:6 f; mkdir d; echo > d/g; chmod 640 d/g; ln -s f l; }}
    """
    project.built("--cache-to", local[0], text=text)
    first = packed(project.root / "cache")
    assert first["f"] == (0o644, 5, 6) and first["d/g"][0] == 0o640
    move(project, "fresh")
    other = f"type=local,dest={project.root}/other,mounts=true"
    image = project.image("--cache-from", local[1], "--cache-to", other, "--build-arg", "N=1")
    assert packed(project.root / "other") == first and image.text("mode") == "2770\n"


def test_what_a_mount_begins_with_is_not_laid_over_what_a_cache_has(
    project: Project, local: tuple[str, str]
) -> None:
    project.write("seed/s", "seed")
    text = """
    FROM scratch AS seed
    COPY seed /seed
    FROM busybox
    ARG N
    RUN --mount=type=cache,target=/c,from=seed,source=/seed : $N; cat /c/s > /out; echo "$N" > /c/s
    """
    assert project.image("--cache-to", local[0], "--build-arg", "N=1", text=text).text("out") == "seed"
    move(project, "fresh")
    assert project.image("--cache-from", local[1], "--build-arg", "N=2").text("out") == "1\n"


def test_a_mount_that_is_damaged_in_a_cache_costs_a_warning(
    project: Project, index: Index, local: tuple[str, str]
) -> None:
    project.write("list", "one\n")
    project.built("--cache-to", local[0], text=dockerfile(index))
    for path in (project.root / "cache/blobs/sha256").iterdir():
        data = bytearray(path.read_bytes())
        if data[:4] == b"\x28\xb5\x2f\xfd":
            data[-5] ^= 0xFF
            path.write_bytes(data)
    move(project, "fresh")
    done = project.built("--cache-from", local[1], "--no-cache")
    assert done.err.count("is not used") == 1 and index.asked == ["one", "one"]


def test_what_a_later_step_changed_goes_to_a_cache_too(project: Project, local: tuple[str, str]) -> None:
    text = "FROM busybox\nARG N\nRUN --mount=type=cache,target=/c echo $N >> /c/f; cat /c/f > /out\n"
    for number in (1, 2):
        project.built("--cache-to", local[0], "--build-arg", f"N={number}", text=text)
    move(project, "fresh")
    image = project.image("--cache-from", local[1], "--build-arg", "N=3")
    assert image.text("out") == "1\n2\n3\n"


def test_names_that_no_layer_can_hold_cost_a_warning(project: Project, local: tuple[str, str]) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,target=/c echo > /c/.wh.x\n"
    done = project.built("--cache-to", local[0], text=text)
    assert "cache mount /c was not packed" in done.err


def test_an_inline_cache_with_mounts_is_refused(project: Project) -> None:
    failed = project.build("--cache-to", "type=inline,mounts=true", text="FROM busybox\n")
    assert failed.code == 2 and "an image carries no cache mounts" in failed.error


def test_one_step_may_mount_a_locked_cache_twice(project: Project) -> None:
    mount = "--mount=type=cache,id=one,sharing=locked,target="
    project.built(text=f"FROM busybox\nRUN {mount}/a {mount}/b echo x > /a/f && cat /b/f\n")


def test_one_step_may_share_and_lock_a_cache(project: Project) -> None:
    mount = "--mount=type=cache,id=one,target="
    project.built(text=f"FROM busybox\nRUN {mount}/a {mount}/b,sharing=locked echo x > /a/f && cat /b/f\n")


def fill(project: Project, *names: str) -> None:
    for name in names:
        mount = f"--mount=type=cache,id={name},target=/c"
        project.built(text=f"FROM busybox\nRUN {mount} echo {name} > /c/f\n")


def has(project: Project, name: str) -> bool:
    """Whether a step finds its file in the mount."""
    mount = f"--mount=type=cache,id={name},target=/c"
    done = project.build("--no-cache", text=f"FROM busybox\nRUN {mount} grep -q {name} /c/f\n")
    return done.code == 0


def test_a_file_carries_mounts_to_another_store(project: Project) -> None:
    fill(project, "one", "two")
    archive = str(project.root / "mounts.tar")
    assert "exported: one" in project.command("cache", "mounts", "export", archive).out
    move(project, "other")
    done = project.command("cache", "mounts", "import", "--id", "two", archive)
    assert done.out == "two: imported\n"
    assert has(project, "two") and not has(project, "one")


def test_a_file_goes_through_a_pipe(project: Project) -> None:
    fill(project, "one")
    exporter = project.start("cache", "mounts", "export", "-")
    data = exporter.communicate(timeout=60)[0]
    move(project, "other")
    done = project.process("cache", "mounts", "import", "-", stdin=data)
    assert done.out == "one: imported\n" and has(project, "one")


def test_a_shared_cache_can_be_imported_from(project: Project, local: tuple[str, str]) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,id=one,target=/c echo one > /c/f\n"
    project.built("--cache-to", local[0], text=text)
    move(project, "other")
    assert project.command("cache", "mounts", "import", local[1]).out == "one: imported\n"
    assert has(project, "one")


def test_a_mount_is_pinned_by_the_id_that_the_dockerfile_gives_it(project: Project) -> None:
    project.built(text="FROM busybox\nRUN --mount=type=cache,target=/c echo one > /c/f\n")
    assert project.command("cache", "pin", "/c").out.endswith("  /c\n")
    (mount,) = json.loads(project.command("cache", "mounts", "ls", "--json").out)
    assert (mount["id"], mount["kept"]) == ("/c", "pin")


def test_an_import_leaves_alone_what_is_here_unless_told_to_replace_it(project: Project) -> None:
    fill(project, "one")
    archive = str(project.root / "mounts.tar")
    project.command("cache", "mounts", "export", archive)
    mount = "--mount=type=cache,id=one,target=/c"
    project.built(text=f"FROM busybox\nRUN {mount} echo changed > /c/f\n")
    assert "left alone" in project.command("cache", "mounts", "import", archive).out
    assert not has(project, "one")
    assert project.command("cache", "mounts", "import", "--replace", archive).out == "one: imported\n"
    assert has(project, "one")


def test_mounts_are_listed_with_all_that_tells_them_apart(project: Project) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,id=one,target=/c,uid=7,mode=700,sharing=locked echo > /f\n"
    project.built(text=text)
    (row,) = json.loads(project.command("cache", "mounts", "ls", "--json").out)
    assert (row["id"], row["uid"], row["gid"], row["mode"], row["sharing"]) == ("one", 7, 0, 0o700, "locked")
    shown = project.command("cache", "mounts", "ls").out
    assert "one" in shown and "7:0" in shown and "0700" in shown


def test_removed_mounts_are_gone(project: Project) -> None:
    fill(project, "one", "two")
    assert project.command("cache", "mounts", "rm", "one").out == "Removed: one\n"
    assert "one" not in project.command("cache", "mounts", "ls").out
    assert not has(project, "one") and has(project, "two")


def remembered(project: Project) -> list[str]:
    """The folders of the mounts of which the store knows what they were packed as."""
    with Store.open(project.store) as store:
        return list(store.records("packed-mounts").names())


def test_what_a_mount_was_packed_as_goes_with_it(project: Project) -> None:
    fill(project, "one", "two")
    project.command("cache", "mounts", "export", str(project.root / "mounts.tar"))
    before = remembered(project)
    assert len(before) == 2
    project.command("cache", "mounts", "rm", "one")
    assert len(remembered(project)) == 1


def test_a_mount_that_was_changed_behind_our_back_is_packed_anew(project: Project) -> None:
    fill(project, "one")
    archive = str(project.root / "mounts.tar")
    assert project.command("cache", "mounts", "export", archive).code == 0
    (file,) = project.store.glob("caches*/*/**/f")
    file.write_text("changed")
    done = project.command("cache", "mounts", "export", archive)
    assert done.code == 5 and "cache mount one has changed meanwhile" in done.error
    assert project.command("cache", "mounts", "export", archive).code == 0


@pytest.mark.parametrize("sharing", ["shared", "locked", "private"])
def test_a_mount_that_a_step_uses_is_not_removed(project: Project, index: Index, sharing: str) -> None:
    project.dockerfile(
        f"""
        FROM busybox
        RUN --mount=type=cache,id=one,target=/c,sharing={sharing} echo > /c/f; \\
            wget -q -O- http://127.0.0.1:{index.port}/hold; test -e /c/f
        """
    )
    building = project.start("build", *project.base(), str(project.context))
    try:
        assert index.held.wait(60)
        done = project.command("cache", "mounts", "rm", "one")
        assert done.code != 0 and "a build uses cache mount one" in done.error
        assert project.command("cache", "prune", "--all").code == 0
    finally:
        index.release.set()
        building.communicate(timeout=60)
    assert building.returncode == 0


BAD: dict[str, tuple[Callable[[Project], list[str]], str]] = {
    "no file": (lambda p: ["import", str(p.root / "none")], "No such file"),
    "no archive": (lambda p: ["import", str(p.write("text", "x"))], "not a complete tar archive"),
    "no cache": (lambda p: ["import", f"type=local,src={p.root / 'none'}"], "no cache of that name"),
    "no type": (lambda p: ["import", "type=what"], "no cache type"),
    "no such id": (lambda p: ["export", "--id", "none", str(p.root / "x")], "no cache mount 'none'"),
    "nothing to export": (lambda p: ["export", str(p.root / "x")], "no cache mounts here"),
    "nothing to remove": (lambda p: ["rm", "none"], "no cache mount 'none'"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gives_one_error_and_leaves_nothing(project: Project, what: str) -> None:
    arguments, message = BAD[what]
    done = project.command("cache", "mounts", *arguments(project))
    assert done.code == 2 and message in done.error
    assert not (project.root / "x").exists() and not list((project.store / "caches-v1").iterdir())
