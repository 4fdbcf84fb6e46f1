"""Whole builds with ``type=gha``, as jobs of GitHub Actions run them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cache.edits import DOCKERFILE, EDITS, FILES, next_second
from tests.cache.test_sharing import TEXT, executed, fresh
from tests.cache.test_signing import key_pair
from tests.feature.project import Done, Project
from tests.servers.actions_cache import MAIN, READ, ActionsCache, CacheEntry
from tests.servers.faults import status

TO, FROM = ("--cache-to", "type=gha,mode=max"), ("--cache-from", "type=gha")


@pytest.fixture
def server() -> Iterator[ActionsCache]:
    with ActionsCache() as made:
        yield made


@pytest.fixture(params=[1, 2])
def job(project: Project, server: ActionsCache, request: pytest.FixtureRequest) -> Project:
    """A project in a job of the main branch."""
    project.environment |= server.environment(request.param, server.token())
    project.environment["NO_PROXY"] = "127.0.0.1"
    project.write("a.txt", "a")
    return project


def test_a_fresh_store_executes_nothing_and_fetches_what_it_needs(job: Project, server: ActionsCache) -> None:
    first = job.image(*TO, text=TEXT)
    fresh(job)
    done = job.built(*FROM)
    assert done.summary == (4, 4) and "WARNING" not in done.err
    assert len(server.requests("GET", "^/blobs/")) == 1  # the records
    assert job.image(*FROM).digest == first.digest


def test_an_unchanged_build_sends_records_alone(job: Project, server: ActionsCache) -> None:
    job.built(*TO, text=TEXT)
    before = len(server.held("minibuild-blob"))
    assert "0 layers sent, 4 were there" in job.built(*TO).err
    assert len(server.held("minibuild-blob")) == before == 4
    assert len(server.held("minibuild-index-buildkit-")) == 2


@pytest.mark.parametrize(
    "edit",
    [edit for edit in EDITS if not (edit.options or edit.here)][::9],
    ids=lambda edit: edit.name,
)
def test_after_a_change_a_fresh_store_executes_what_a_warm_one_would(job: Project, edit: Any) -> None:
    more = ("--build-context", f"debian=oci-layout://{job.bases}:layered")
    for path, content in FILES.items():
        job.write(path, content)
    job.dockerfile(DOCKERFILE)
    edit.first(job)
    job.built(*more, *TO)
    next_second()
    edit.make(job)
    warm = executed(job.built(*more))
    fresh(job)
    assert sorted(executed(job.built(*more, *FROM))) == sorted(warm)


def no_layers(entries: list[CacheEntry]) -> None:
    for one in entries:
        one.data = one.data[:-1] if one.data else None


def other_bytes(entries: list[CacheEntry]) -> None:
    for one in entries:
        assert one.data is not None
        one.data = one.data[:-5] + bytes([one.data[-5] ^ 0xFF]) + one.data[-4:]


def others_layers(entries: list[CacheEntry]) -> None:
    contents = [one.data for one in entries]
    for one, data in zip(entries, [*contents[1:], contents[0]], strict=True):
        one.data = data


@pytest.mark.parametrize("poison", [no_layers, other_bytes, others_layers], ids=lambda one: one.__name__)
def test_layers_that_are_wrong_cost_a_warning_and_a_rebuild(
    job: Project, server: ActionsCache, poison: Callable[[list[CacheEntry]], None]
) -> None:
    job.built(*TO, text=TEXT)
    fresh(job)
    poison(server.held("minibuild-blob"))
    folder = job.root / "out"
    done = job.built(*FROM, "-o", f"type=local,dest={folder}")
    assert "WARNING: cache gha: layer" in done.err
    assert (folder / "c").read_text() == (folder / "b").read_text() == "a"


def test_layers_that_were_evicted_cost_a_warning_and_a_rebuild(job: Project, server: ActionsCache) -> None:
    job.built(*TO, text=TEXT)
    fresh(job)
    server.evict("minibuild-blob")
    folder = job.root / "out"
    done = job.built(*FROM, "-o", f"type=local,dest={folder}")
    assert "no longer there" in done.err and (folder / "c").read_text() == "a"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": "other"}'])
def test_records_that_are_wrong_cost_a_warning(job: Project, server: ActionsCache, data: bytes) -> None:
    job.built(*TO, text=TEXT)
    fresh(job)
    for one in server.held("minibuild-index"):
        one.data = data
    done = job.built(*FROM)
    assert done.err.count("WARNING: cache gha is not used") == 1 and done.summary == (4, 0)


def test_records_that_lie_about_layers_cost_a_warning(job: Project, server: ActionsCache) -> None:
    job.built(*TO, text=TEXT)
    fresh(job)
    (records,) = server.held("minibuild-index")
    document = json.loads(records.data or b"")
    for step in document["steps"]:
        step[1] = (step[1] + 1) % len(document["layers"])
    records.data = json.dumps(document).encode()
    folder = job.root / "out"
    done = job.built(*FROM, "-o", f"type=local,dest={folder}")
    assert "WARNING: cache gha" in done.err
    assert (folder / "c").read_text() == (folder / "b").read_text() == "a"


def test_a_service_that_fails_costs_a_warning_for_each_use(job: Project, server: ActionsCache) -> None:
    server.fault(status(400))
    done = job.built(*FROM, *TO, text=TEXT)
    assert done.summary == (4, 0)
    assert "WARNING: cache gha is not used" in done.err and "WARNING: cache gha was not written" in done.err
    failed = job.build("--cache-to", "type=gha,ignore-error=false")
    assert failed.code == 5 and "cannot write cache gha" in failed.error


def test_a_service_that_does_not_answer_is_waited_for_no_longer_than_its_timeout(job: Project) -> None:
    from tests.cache.test_sharing import silent_server

    with silent_server() as port:
        address = f"http://127.0.0.1:{port}/"
        job.environment |= {"ACTIONS_CACHE_URL": address, "ACTIONS_RESULTS_URL": address}
        job.environment.pop("ACTIONS_CACHE_SERVICE_V2", None)
        done = job.built("--cache-from", "type=gha,timeout=1s", text=TEXT)
    assert "is not used: no answer within 1s" in done.err and done.summary == (4, 0)


def test_a_job_of_a_fork_reads_and_is_warned_that_it_cannot_write(job: Project, server: ActionsCache) -> None:
    job.built(*TO, text=TEXT)
    fresh(job)
    token = server.token(("refs/pull/7/merge", READ), (MAIN, READ))
    done = job.built(*FROM, *TO, environment={"ACTIONS_RUNTIME_TOKEN": token})
    assert done.summary == (4, 4)
    assert "WARNING: cache gha was not written: the token may only read" in done.err


def test_without_a_token_a_build_says_once_for_each_use_what_is_missing(project: Project) -> None:
    project.write("a.txt", "a")
    done = project.built(*FROM, *TO, text=TEXT)
    assert done.summary == (4, 0)
    missing = "ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL are not set"
    assert len(re.findall(f"WARNING: cache gha .*{missing}", done.err)) == 2


def test_the_token_is_kept_nowhere_and_never_said(job: Project, server: ActionsCache) -> None:
    token = job.environment["ACTIONS_RUNTIME_TOKEN"]
    done: list[Done] = [job.built(*FROM, *TO, text=TEXT)]
    job.environment.pop("ACTIONS_RUNTIME_TOKEN")
    given = f"type=gha,token={token}"
    done.append(job.built("--cache-from", given, "--cache-to", f"{given},mode=max", "--explain"))
    done.append(job.command("builds", "show", "--json"))
    done.append(job.build("--cache-from", f"{given},scop=x"))
    for one in done:
        assert token not in one.out + one.err
    for folder, _, names in os.walk(job.store):  # but for what belongs to a subordinate id
        for path in (Path(folder, name) for name in names):
            if path.is_file() and os.access(path, os.R_OK):
                assert token.encode() not in path.read_bytes(), path
    for entry in server.entries:
        assert token not in entry.key and token.encode() not in (entry.data or b"")


def test_cache_mounts_come_along(job: Project, server: ActionsCache) -> None:
    text = "FROM busybox\nARG N\nRUN --mount=type=cache,target=/c echo $N >> /c/f; cat /c/f > /out\n"
    to = ("--cache-to", "type=gha,mounts=true")
    job.built(*to, "--build-arg", "N=1", text=text)
    fresh(job)
    assert job.image(*FROM, "--build-arg", "N=2").text("out") == "1\n2\n"


def test_signed_records_are_kept_apart_and_verified(job: Project, server: ActionsCache) -> None:
    private, public = key_pair(job.root, "ours")
    _, other = key_pair(job.root, "other")
    job.built("--cache-to", f"type=gha,mode=max,sign-key={private}", text=TEXT)
    fresh(job)
    assert job.built("--cache-from", f"type=gha,verify-key={public}").summary == (4, 4)
    fresh(job)
    done = job.built("--cache-from", f"type=gha,verify-key={other}")
    assert "its signature is not by a key of verify-key=" in done.err and done.summary == (4, 0)
    fresh(job)
    job.built(*TO)  # nobody who reads signed records is misled by these
    fresh(job)
    assert job.built("--cache-from", f"type=gha,verify-key={public}").summary == (4, 4)
