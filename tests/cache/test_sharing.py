"""Whole builds against shared caches: what a fresh store executes, fetches and believes."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.digest import Digest

from minibuild.cache.document import cache_manifest
from minibuild.engine.upkeep import remover
from tests.cache.edits import DOCKERFILE, EDITS, FILES, next_second
from tests.feature.project import Done, Project
from tests.servers.docker_registry import DockerRegistry
from tests.servers.serving import serving

TEXT = """
FROM busybox AS work
COPY a.txt /a
RUN cat /a > /b && head -c 200000 /dev/urandom > /noise
FROM busybox
COPY --from=work /b /b
RUN cat /b > /c
"""


def fresh(project: Project) -> None:
    """Forget the store, as a new runner does; the shared caches stay."""
    with remover() as remove:
        remove(project.store)


@pytest.fixture
def exported(project: Project) -> Project:
    """A project whose store is fresh and whose cache is complete, in the folder ``cache``."""
    project.write("a.txt", "a")
    project.built("--cache-to", f"type=local,dest={project.root / 'cache'},mode=max", text=TEXT)
    fresh(project)
    return project


def cached(project: Project, *options: str, text: str = "") -> Done:
    return project.built("--cache-from", f"type=local,src={project.root / 'cache'}", *options, text=text)


def executed(done: Done) -> list[str]:
    """Names of the steps that were not cached."""
    names = {}
    missed = []
    for line in done.err.splitlines():
        number, _, rest = line.partition(" ")
        if rest.startswith("["):
            names[number] = rest
        elif rest.startswith("not cached:"):
            missed.append(names[number])
    return missed


def test_a_fresh_store_executes_nothing_for_an_unchanged_project(exported: Project) -> None:
    assert cached(exported).summary == (4, 4)


def test_times_of_files_mean_nothing_to_another_machine(project: Project) -> None:
    project.write("folder/a.txt", "a")
    text = "FROM busybox\nCOPY folder /f\nRUN --mount=source=folder,target=/m cat /m/a.txt > /b\n"
    project.built("--cache-to", f"type=local,dest={project.root / 'cache'},mode=max", text=text)
    fresh(project)
    for path in (project.context / "folder/a.txt", project.context / "folder"):
        os.utime(path, (1, 1))
    assert cached(project).summary == (2, 2)


def test_layers_nobody_needs_stay_where_they_are(exported: Project) -> None:
    cached(exported)
    here = sum(path.stat().st_size for path in (exported.store / "blobs").rglob("*") if path.is_file())
    there = sum(path.stat().st_size for path in (exported.root / "cache/blobs").rglob("*") if path.is_file())
    base = sum(path.stat().st_size for path in exported.bases.rglob("*") if path.is_file())
    assert there > 200_000 and here < base + 100_000


def test_an_image_of_layers_from_the_cache_is_the_same_image(project: Project) -> None:
    project.write("a.txt", "a")
    to = f"type=local,dest={project.root / 'cache'},mode=max"
    first = project.image("--cache-to", to, text=TEXT)
    fresh(project)
    again = project.image("--cache-from", f"type=local,src={project.root / 'cache'}")
    assert again.digest == first.digest and again.text("c") == "a"


@pytest.mark.parametrize(
    "edit",
    [edit for edit in EDITS if not (edit.options or edit.here)][::5],
    ids=lambda edit: edit.name,
)
def test_after_a_change_a_fresh_store_executes_what_a_warm_one_would(project: Project, edit: Any) -> None:
    more = ("--build-context", f"debian=oci-layout://{project.bases}:layered")
    for path, content in FILES.items():
        project.write(path, content)
    cache = project.root / "cache"
    project.dockerfile(DOCKERFILE)
    edit.first(project)
    project.built(*more, "--cache-to", f"type=local,dest={cache},mode=max")
    next_second()
    edit.make(project)
    warm = executed(project.built(*more))
    fresh(project)
    assert sorted(executed(cached(project, *more))) == sorted(warm)


@pytest.fixture
def exported_min(project: Project) -> Project:
    """A project whose store is fresh; its cache holds the layers of the image, and no others."""
    project.write("a.txt", "a")
    project.built("--cache-to", f"type=local,dest={project.root / 'cache'}", text=TEXT)
    fresh(project)
    return project


def test_mode_min_holds_the_images_own_layers_only(exported_min: Project) -> None:
    held = {Digest.of(path.read_bytes()) for path in blobs(exported_min.root / "cache")}
    cache = f"type=local,src={exported_min.root / 'cache'}"
    layers = [one["digest"] for one in exported_min.image("--cache-from", cache).manifest["layers"]]
    assert held == set(layers[1:])


def test_a_cache_that_is_not_there_yet_is_told_of(project: Project) -> None:
    cache = project.root / "none"
    done = project.built("--cache-from", f"type=local,src={cache}", text="FROM busybox\nRUN true\n")
    assert f"NOTE: cache local {cache} is not there yet" in done.err and "WARNING" not in done.err


def test_a_cache_of_mode_min_executes_nothing_for_an_unchanged_project(exported_min: Project) -> None:
    assert cached(exported_min).summary == (4, 4)


def test_a_stage_whose_layers_are_not_in_the_cache_runs_when_its_files_are_needed(
    exported_min: Project,
) -> None:
    done = cached(exported_min, text=TEXT.replace("COPY --from=work /b /b", "COPY --from=work /b /"))
    assert len([name for name in executed(done) if name.startswith("[work")]) == 2
    assert "WARNING" not in done.err and "ERROR" not in done.err


def test_a_step_whose_layer_is_not_in_the_cache_says_so(exported_min: Project) -> None:
    text = TEXT.replace("COPY --from=work /b /b", "COPY --from=work /a /b")
    done = cached(exported_min, text=text)
    assert "the shared cache has its key, not its layer" in done.err


def test_what_several_caches_know_and_none_holds_is_built(exported_min: Project) -> None:
    second = exported_min.root / "second"
    shutil.copytree(exported_min.root / "cache", second)
    text = TEXT.replace("COPY --from=work /b /b", "COPY --from=work /b /")
    done = cached(exported_min, "--cache-from", f"type=local,src={second}", text=text)
    assert len([name for name in executed(done) if name.startswith("[work")]) == 2
    assert "WARNING" not in done.err


@pytest.mark.parametrize("names", [("one", "two"), ("two", "one")])
def test_a_layer_that_stages_share_does_not_make_all_of_them_run(
    project: Project, names: tuple[str, str]
) -> None:
    stages = [
        f"FROM busybox AS {name}\nWORKDIR /src\nCOPY {name} .\nRUN cat {name} > made\n" for name in names
    ]
    text = "".join(stages) + "FROM busybox\nCOPY --from=two /src/made /two\nCOPY --from=one /src/made /one\n"
    for name in names:
        project.write(name, name)
    project.built("--cache-to", f"type=local,dest={project.root / 'cache'}", text=text)
    fresh(project)
    project.write("one", "other")
    ran = " ".join(executed(cached(project)))
    assert "RUN cat one" in ran and "RUN cat two" not in ran


def test_what_several_caches_have_lost_is_built(exported: Project) -> None:
    second = exported.root / "second"
    shutil.copytree(exported.root / "cache", second)
    for cache in (exported.root / "cache", second):
        missing(cache)
    text = TEXT.replace("COPY --from=work /b /b", "COPY --from=work /b /")
    done = cached(exported, "--cache-from", f"type=local,src={second}", text=text)
    # what finds a file lost ends, and is begun again once that is made
    assert len(re.findall(r"^#(\d+) \[work .*\n(?:#\1 .*\n)*?#\1 DONE", done.err, re.M)) == 2


def test_a_cache_that_holds_a_layer_goes_before_one_that_knows_its_key(exported_min: Project) -> None:
    second = exported_min.root / "second"
    exported_min.built("--cache-to", f"type=local,dest={second},mode=max")
    shutil.rmtree(exported_min.root / "cache")
    exported_min.built("--cache-to", f"type=local,dest={exported_min.root / 'cache'}")
    fresh(exported_min)
    text = TEXT.replace("COPY --from=work /b /b", "COPY --from=work /b /")
    done = cached(exported_min, "--cache-from", f"type=local,src={second}", text=text)
    assert not [name for name in executed(done) if name.startswith("[work")]
    assert "needs files" not in done.err


def test_what_a_cache_of_mode_min_lacks_does_not_hinder_the_next_export(exported_min: Project) -> None:
    second = exported_min.root / "second"
    done = cached(exported_min, "--cache-to", f"type=local,dest={second},mode=max")
    assert "was not written" not in done.err
    fresh(exported_min)
    assert exported_min.built("--cache-from", f"type=local,src={second}").summary == (4, 4)


def test_a_dry_run_asks_the_shared_cache(exported: Project) -> None:
    cache = f"type=local,src={exported.root / 'cache'}"
    done = exported.built("--dry-run", "--cache-from", cache)
    assert "4 steps: 4 cached" in done.out + done.err


def test_an_image_whose_layers_are_in_no_cache_is_built(exported_min: Project) -> None:
    image = exported_min.root / "image"
    done = cached(exported_min, "--target", "work", "-o", f"type=oci,tar=false,dest={image}")
    assert len(executed(done)) == 2 and "WARNING" not in done.err


def test_several_caches_are_asked_in_turn(exported: Project) -> None:
    empty = exported.root / "empty"
    done = cached(exported, "--cache-from", f"type=local,src={empty}")
    assert done.summary == (4, 4) and "WARNING" not in done.err


def test_a_hit_is_said_to_come_from_the_cache(exported: Project) -> None:
    cached(exported)
    assert f"cached from local {exported.root / 'cache'}" in exported.command("cache", "why").out


def test_a_tagged_image_survives_the_cache_it_came_from(exported: Project) -> None:
    cached(exported, "-t", "kept")
    shutil.rmtree(exported.root / "cache")
    archive = exported.root / "kept.tar"
    assert exported.command("save", "-o", str(archive), "kept").code == 0 and archive.exists()


Poison = Callable[[Path], None]


def blobs(cache: Path) -> list[Path]:
    """The layer blobs of a cache, largest first."""
    manifest = json.loads((cache / "index.json").read_bytes())["manifests"][0]["digest"]
    layers = json.loads(blob(cache, manifest).read_bytes())["layers"]
    return sorted((blob(cache, one["digest"]) for one in layers), key=lambda path: -path.stat().st_size)


def blob(cache: Path, digest: str) -> Path:
    return cache / "blobs" / digest.replace(":", "/")


def truncated(cache: Path) -> None:
    for path in blobs(cache):
        path.write_bytes(path.read_bytes()[:-1])


def flipped(cache: Path) -> None:
    for path in blobs(cache):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)


def missing(cache: Path) -> None:
    for path in blobs(cache):
        path.unlink()


def unknown_format(cache: Path) -> None:
    rewrite(cache, lambda document: document.update(version=99))


def no_json(cache: Path) -> None:
    (cache / "index.json").write_text("{")


def rewrite(cache: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the records, with every digest made right again: a cache that lies."""
    index = json.loads((cache / "index.json").read_bytes())
    manifest = json.loads(blob(cache, index["manifests"][0]["digest"]).read_bytes())
    document = json.loads(blob(cache, manifest["config"]["digest"]).read_bytes())
    change(document)
    data = json.dumps(document).encode()
    made = json.loads(cache_manifest(data, []))
    made["layers"] = manifest["layers"]
    text = json.dumps(made).encode()
    for content in (data, text):
        blob(cache, Digest.of(content)).write_bytes(content)
    index["manifests"][0].update(digest=Digest.of(text), size=len(text))
    (cache / "index.json").write_text(json.dumps(index))


def other_layers(cache: Path) -> None:
    """Let each key lead to another step's layer."""

    def change(document: dict[str, Any]) -> None:
        count = len(document["layers"])
        for step in document["steps"]:
            step[1] = (step[1] + 1) % count

    rewrite(cache, change)


def wrong_sizes(cache: Path) -> None:
    rewrite(cache, lambda document: [layer.__setitem__(2, layer[2] + 1) for layer in document["layers"]])


@pytest.mark.parametrize(
    "poison",
    [truncated, flipped, missing, unknown_format, no_json, other_layers, wrong_sizes],
    ids=lambda poison: poison.__name__,
)
def test_a_poisoned_cache_costs_a_warning_and_a_rebuild(exported: Project, poison: Poison) -> None:
    poison(exported.root / "cache")
    folder = exported.root / "out"
    done = cached(exported, "-o", f"type=local,dest={folder}")
    assert "WARNING: cache local" in done.err
    assert (folder / "c").read_text() == "a" and (folder / "b").read_text() == "a"
    assert exported.command("cache", "verify").code == 0


def test_a_cache_that_is_down_costs_a_warning(project: Project) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    project.write("a.txt", "a")
    reference = f"type=registry,ref=127.0.0.1:{port}/app:cache"
    done = project.built("--cache-from", reference, "--cache-to", reference, text=TEXT)
    assert done.err.count("WARNING: cache registry") == 2
    assert "is not used" in done.err and "was not written" in done.err
    failed = project.build("--cache-to", f"{reference},ignore-error=false")
    assert failed.code == 5 and "cannot write cache" in failed.error


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and says nothing."""
    ended = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ended.wait(30)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        try:
            yield server.server_port
        finally:
            ended.set()


def test_a_cache_that_does_not_answer_is_waited_for_no_longer_than_its_timeout(project: Project) -> None:
    project.write("a.txt", "a")
    with silent_server() as port:
        reference = f"type=registry,ref=127.0.0.1:{port}/app:cache,timeout=1s"
        done = project.built("--cache-from", reference, text=TEXT)
    assert "is not used" in done.err
    assert done.summary == (4, 0)


def test_a_registry_gives_all_records_in_one_request(project: Project, real_registry: DockerRegistry) -> None:
    project.write("a.txt", "a")
    reference = f"type=registry,ref={real_registry.host}/app:cache"
    project.built("--cache-to", f"{reference},mode=max", text=TEXT)
    fresh(project)
    before = real_registry.requests("GET")
    assert project.built("--cache-from", reference).summary == (4, 4)
    assert real_registry.requests("GET", "/manifests/cache") == 1
    assert real_registry.requests("GET", "/blobs/") == 0
    assert real_registry.requests("GET") - before <= 2  # one of them may ask for the version of the protocol


def test_a_push_mounts_what_came_from_the_cache(project: Project, real_registry: DockerRegistry) -> None:
    project.write("a.txt", "a")
    reference = f"type=registry,ref={real_registry.host}/cache/app:all"
    project.built("--cache-to", f"{reference},mode=max", text=TEXT)
    fresh(project)
    project.built("--cache-from", reference, "--push", "-t", f"{real_registry.host}/app:1")
    assert real_registry.requests("GET", "/cache/app/blobs/") == 0
    fresh(project)
    assert project.command("pull", f"{real_registry.host}/app:1").code == 0


def test_an_inline_cache_is_read_from_the_image(project: Project, real_registry: DockerRegistry) -> None:
    project.write("a.txt", "a")
    name = f"{real_registry.host}/app:1"
    project.built("--cache-to", "type=inline", "--push", "-t", name, text=TEXT)
    fresh(project)
    done = project.built("--cache-from", name)
    assert done.summary == (4, 4)


def test_an_image_without_an_inline_cache_costs_a_warning(
    project: Project, real_registry: DockerRegistry
) -> None:
    project.write("a.txt", "a")
    name = f"{real_registry.host}/app:1"
    project.built("--push", "-t", name, text=TEXT)
    fresh(project)
    done = project.built("--cache-from", name)
    assert "an image without an inline cache" in done.err
