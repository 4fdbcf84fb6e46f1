"""GitHub Actions' cache service as a shared cache: what it is asked, and what becomes of its refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.cache.backend import Backend, Saved, Services, backend_for
from minibuild.cache.document import CacheDocument, CachedStep
from minibuild.cache.ghatoken import Ref, place_of, refs_of
from minibuild.cache.spec import parse_cache
from minibuild.errors import MinibuildError, UsageError
from minibuild.registry.client import Registry
from minibuild.registry.options import RegistryOptions
from minibuild.testing.cache import document, layer, silent, uploads
from tests.servers.actions_cache import MAIN, READ, REPOSITORY, REST_TOKEN, WRITE, ActionsCache
from tests.servers.faults import cut, drop, no_range, status

BRANCH = "refs/pull/7/merge"
JOB = ((BRANCH, WRITE), (MAIN, READ))
FORK = ((BRANCH, READ), (MAIN, READ))
QUICK = RegistryOptions(attempts=2, backoff=0.0, max_retry_after=0.0, read_timeout=5.0)


@pytest.fixture
def server() -> Iterator[ActionsCache]:
    with ActionsCache() as made:
        yield made


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def opened(text: str, environ: dict[str, str] | None = None) -> Backend:
    options = RegistryOptions(
        attempts=QUICK.attempts,
        backoff=QUICK.backoff,
        max_retry_after=QUICK.max_retry_after,
        read_timeout=QUICK.read_timeout,
        environment=environ or {"HOME": "/"},
    )
    return backend_for(parse_cache(text, "--cache-to", export=True), Services(lambda: Registry(options)))


def cache(server: ActionsCache, version: int, *refs: tuple[str, int], more: str = "") -> Backend:
    return opened(server.options(version, server.token(*refs)) + more)


def fetched(backend: Backend, content: bytes, folder: Path) -> bytes:
    with Store.open(folder / "store") as store:
        backend.fetch(layer(content).descriptor, store.blobs, silent)
        return store.blobs.get(Digest.of(content))


def said(error: MinibuildError) -> str:
    return f"{error.message} {error.cure}"


def test_a_branch_reads_its_own_records_and_those_of_main(server: ActionsCache, version: int) -> None:
    cache(server, version).save(document(b"main"), uploads(b"main"), silent)
    job = cache(server, version, *JOB)
    assert job.load() == document(b"main")
    other = CachedStep("f" * 64, layer(b"mine"), 1.0, 2.0, "RUN mine")
    job.save(CacheDocument((other,)), uploads(b"mine"), silent)
    found = cache(server, version, *JOB).load()
    assert found is not None and {step.name for step in found.steps} == {"RUN 0", "RUN mine"}
    assert cache(server, version).load() == document(b"main")


def test_of_two_layers_for_one_step_a_branch_believes_its_own(server: ActionsCache, version: int) -> None:
    cache(server, version).save(document(b"main", notes={"tree-a": "1"}), uploads(b"main"), silent)
    cache(server, version, *JOB).save(document(b"mine", notes={"tree-a": "2"}), uploads(b"mine"), silent)
    assert cache(server, version, *JOB).load() == document(b"mine", notes={"tree-a": "2"})


def test_a_layer_that_main_has_is_not_sent_again_by_a_branch(server: ActionsCache, version: int) -> None:
    cache(server, version).save(document(b"one"), uploads(b"one"), silent)
    saved = cache(server, version, *JOB).save(document(b"one", b"two"), uploads(b"one", b"two"), silent)
    assert saved == Saved(1, 1)


def test_scopes_are_caches_of_their_own_and_share_their_layers(server: ActionsCache, version: int) -> None:
    cache(server, version, more=",scope=arm").save(document(b"one"), uploads(b"one"), silent)
    other = cache(server, version, more=",scope=amd")
    assert other.load() is None
    assert other.save(document(b"one"), uploads(b"one"), silent) == Saved(0, 1)


def test_a_token_that_may_only_read_reads_and_cannot_write(server: ActionsCache, version: int) -> None:
    cache(server, version).save(document(b"one"), uploads(b"one"), silent)
    fork = cache(server, version, *FORK)
    server.seen.clear()
    assert fork.load() == document(b"one")
    with pytest.raises(MinibuildError, match="may only read"):
        fork.save(document(b"two"), uploads(b"two"), silent)
    assert not server.requests("POST", "caches$|CreateCacheEntry")


def test_a_token_without_a_claim_is_the_services_to_judge(server: ActionsCache) -> None:
    assert refs_of("opaque") == refs_of("a.b.c") == ()
    with pytest.raises(MinibuildError, match="the token is wrong"):
        opened(server.options(1, "opaque")).load()


def test_a_layer_in_pieces_comes_back_whole(
    server: ActionsCache, version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minibuild.cache.ghaservice._CHUNK", 1000)
    content = bytes(range(256)) * 10
    cache(server, version).save(document(content), uploads(content), silent)
    (entry,) = server.held("minibuild-blob")
    assert len(entry.pieces or entry.blocks) == 3
    assert fetched(cache(server, version), content, tmp_path) == content


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_is_cut_goes_on(
    server: ActionsCache, version: int, tmp_path: Path, ranges: bool
) -> None:
    content = bytes(range(256)) * 10
    cache(server, version).save(document(content), uploads(content), silent)
    server.fault(cut(1000), path="^/blobs/", times=1)
    if not ranges:
        server.fault(no_range(), path="^/blobs/")
    assert fetched(cache(server, version), content, tmp_path) == content
    first, second = server.requests("GET", "^/blobs/")
    assert "Range" not in first.headers and second.headers["Range"] == "bytes=1000-"
    assert second.status == (206 if ranges else 200)


def test_an_address_that_has_expired_is_asked_for_anew(
    server: ActionsCache, version: int, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 10
    cache(server, version).save(document(content), uploads(content), silent)
    reader = cache(server, version)
    server.fault(cut(1000), path="^/blobs/", times=1)
    server.fault(status(403), path="^/blobs/", times=1)
    assert fetched(reader, content, tmp_path) == content
    assert [one.status for one in server.requests("GET", "^/blobs/")] == [200, 403, 206]


def test_too_many_requests_are_made_later(server: ActionsCache, version: int) -> None:
    server.fault(status(429, Retry_After="0"), path="cache|Cache", times=2)
    assert cache(server, version).save(document(b"one"), uploads(b"one"), silent) == Saved(1, 0)


def test_a_limit_that_stays_is_told(server: ActionsCache, version: int) -> None:
    server.fault(status(429, b'{"msg": "slow down"}', Retry_After="0"))
    with pytest.raises(MinibuildError, match=r"429 .*slow down.*limit"):
        cache(server, version).save(document(b"one"), uploads(b"one"), silent)


def test_a_key_that_a_dead_job_has_reserved_is_got_around(
    server: ActionsCache, version: int, tmp_path: Path
) -> None:
    server.fault(drop(), method="PATCH" if version == 1 else "PUT")
    with pytest.raises(MinibuildError):
        cache(server, version).save(document(b"one"), uploads(b"one"), silent)
    server.heal()
    assert not server.held("minibuild-blob") and len(server.entries) == 1
    assert cache(server, version).save(document(b"one"), uploads(b"one"), silent) == Saved(1, 0)
    assert cache(server, version).save(document(b"one"), uploads(b"one"), silent) == Saved(0, 1)
    assert fetched(cache(server, version), b"one", tmp_path) == b"one"


def test_a_layer_that_was_evicted_is_told_and_sent_again(
    server: ActionsCache, version: int, tmp_path: Path
) -> None:
    cache(server, version).save(document(b"one", b"two"), uploads(b"one", b"two"), silent)
    server.evict(str(Digest.of(b"one")))
    with pytest.raises(MinibuildError, match="no longer there"):
        fetched(cache(server, version), b"one", tmp_path)
    saved = cache(server, version).save(document(b"one", b"two"), uploads(b"one", b"two"), silent)
    assert saved == Saved(1, 1)


@pytest.mark.parametrize("name", [REPOSITORY, "someone/other"])
def test_a_listing_spares_the_look_ups_where_there_is_one(
    server: ActionsCache, version: int, name: str
) -> None:
    contents: Sequence[bytes] = [b"%d" % number for number in range(120)]
    cache(server, version).save(document(*contents), uploads(*contents), silent)
    server.seen.clear()
    text = f"{server.options(version, server.token())},repository={name},ghtoken={REST_TOKEN}"
    saving = opened(text, {"GITHUB_API_URL": f"http://{server.host}"})
    assert saving.save(document(*contents, b"new"), uploads(*contents, b"new"), silent) == Saved(1, 120)
    assert len(server.requests("", "/cache\\?|GetCacheEntry")) == (0 if name == REPOSITORY else 121)


FAULTS = {
    "refused": status(403, b'{"message": "no"}'),
    "echo": status(500, b'{"message": "at %s"}'),
    "no json": status(200, b"<html>"),
    "a list": status(200, b"[1]"),
    "dropped": drop(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_message_has_a_secret_in_it(server: ActionsCache, version: int, fault: str) -> None:
    token = server.token()
    made = FAULTS[fault]
    if fault == "echo":
        made = status(500, json_of(f"at {server.url} with {token}"))
    server.fault(made)
    backend = opened(server.options(version, token))
    for act in (backend.load, lambda: backend.save(document(b"one"), uploads(b"one"), silent)):
        with pytest.raises(MinibuildError) as caught:
            act()
        text = said(caught.value)
        assert token not in text and "hidden-path" not in text and "sig=" not in text, text
        assert "127.0.0.1" in text


def json_of(text: str) -> bytes:
    return b'{"message": "%s"}' % text.encode()


def test_what_the_storage_refuses_is_told_without_its_address(
    server: ActionsCache, version: int, tmp_path: Path
) -> None:
    cache(server, version).save(document(b"one"), uploads(b"one"), silent)
    server.fault(status(403, b"<Error/>"), path="^/blobs/")
    with pytest.raises(MinibuildError) as caught:
        fetched(cache(server, version), b"one", tmp_path)
    assert re.search(r"cannot fetch layer .*: 127\.0\.0\.1:\d+: 403", caught.value.message)
    assert "sig=" not in said(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "type=gha,token=hush,ghtoken=hush2,scpe=x",
        "type=gha,token=hush,scope",
        'type=gha,token=hush,"scope',
        "type=s3,secret_access_key=hush,bucket=b,mode=x",
    ],
)
def test_usage_errors_show_no_secrets(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_cache(text, "--cache-to", export=True)
    assert "hush" not in said(caught.value) and "=xxxxx" in said(caught.value)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, "ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL are not set"),
        ({"ACTIONS_RESULTS_URL": "http://x/"}, "ACTIONS_RUNTIME_TOKEN is not set"),
        ({"ACTIONS_RUNTIME_TOKEN": "t"}, "ACTIONS_RESULTS_URL is not set"),
    ],
)
def test_what_is_missing_outside_of_a_job_is_named(environ: dict[str, str], names: str) -> None:
    with pytest.raises(UsageError) as caught:
        place_of({}, environ)
    assert names in caught.value.message and "exposes it" in caught.value.message


V1, V2 = {"ACTIONS_CACHE_URL": "http://one/"}, {"ACTIONS_RESULTS_URL": "http://two/"}
SECOND = {"ACTIONS_CACHE_SERVICE_V2": "True"}
GITHUB = "https://results-receiver.actions.githubusercontent.com"
JOBS: list[tuple[dict[str, str], dict[str, str], tuple[str, int]]] = [
    ({}, V1, ("http://one", 1)),
    ({}, V2, ("http://two", 1)),
    ({}, {**V1, **V2}, ("http://one", 1)),
    ({}, {**SECOND, **V1, **V2}, ("http://two", 2)),
    ({}, {**SECOND, **V1}, ("http://one", 1)),
    ({"version": "2"}, {**V1, **V2}, ("http://two", 2)),
    ({"version": "1"}, {**SECOND, **V1, **V2}, ("http://one", 1)),
    ({"url": "http://mine"}, V1, ("http://mine", 1)),
    ({"url_v2": "http://mine"}, V1, ("http://mine", 2)),
    ({"url_v2": "http://mine", "version": "1"}, V1, ("http://one", 1)),
    ({"url": "http://mine", "version": "2"}, {}, ("http://mine", 2)),
    ({"url": f"{GITHUB}/"}, {}, (GITHUB, 2)),
]


@pytest.mark.parametrize(("options", "environ", "expected"), JOBS)
def test_address_and_version_are_found_as_buildx_finds_them(
    options: dict[str, str], environ: dict[str, str], expected: tuple[str, int]
) -> None:
    place = place_of(options, {"ACTIONS_RUNTIME_TOKEN": "hush", **environ})
    assert (place.url, place.version) == expected
    assert "hush" not in repr(place)


def test_the_ref_that_may_be_written_comes_first(server: ActionsCache) -> None:
    token = server.token((MAIN, READ), (BRANCH, WRITE))
    assert refs_of(token) == (Ref(BRANCH, True), Ref(MAIN, False))


@pytest.mark.parametrize("option", ['"scope=a,b"', f"scope={'x' * 300}", "version=3", "version=two"])
def test_what_the_service_does_not_know_is_refused(option: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_cache(f"type=gha,{option}", "--cache-to", export=True)
    assert caught.value.cure
