"""Who gets in, with what, and what is said to those who do not."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from minibuild_store.store import Store

from minibuild.oci.reference import Reference
from minibuild.registry.client import Registry
from minibuild.registry.errors import BadAnswer, Unauthorized
from minibuild.registry.options import HostOptions, RegistryOptions
from tests.registry.conftest import Connect, Patience
from tests.servers.certificates import make_certificates
from tests.servers.doorkeeper import Doorkeeper
from tests.servers.faults import cut, slow, status
from tests.servers.images import AMD64, SmallImage, small_image
from tests.servers.registry import FakeRegistry


@pytest.fixture
def basic() -> Iterator[FakeRegistry]:
    with FakeRegistry(door=Doorkeeper(basic=True)) as made:
        yield made


def login(folder: Path, host: str, **entry: str) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": {host: entry or {"username": "bob", "password": "secret"}}}))
    return path


def app(server: FakeRegistry) -> Reference:
    server.add("app", small_image(), "latest")
    return Reference.parse(f"{server.host}/app")


def push(client: Registry, ref: Reference, image: SmallImage, mount_from: Reference | None = None) -> None:
    blobs = image.push_blobs(mount_from=mount_from)
    client.push(ref, image.manifest.raw, image.manifest.media_type, blobs)


def scopes_asked(server: FakeRegistry) -> list[list[str]]:
    return [parse_qs(urlsplit(seen.path).query).get("scope", []) for seen in server.requests("GET", "/token")]


def test_a_public_image_needs_an_anonymous_token_and_no_login(
    guarded: FakeRegistry, connect: Connect
) -> None:
    assert guarded.door is not None
    guarded.door.public = True
    connect().resolve(app(guarded), AMD64)
    assert scopes_asked(guarded) == [["repository:app:pull"]]
    assert "Authorization" not in guarded.requests("GET", "/token")[0].headers


def test_one_token_serves_all_requests_of_its_scope(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path, store: Store
) -> None:
    ref = app(guarded)
    client = connect(credential_files=(login(tmp_path, guarded.host),))
    client.resolve(ref, AMD64)
    client.fetch_blobs(ref, small_image().manifest.layers, store.blobs)
    assert guarded.count("GET", "/token") == 1
    assert [seen.status for seen in guarded.seen].count(401) == 1


def test_many_threads_share_one_token(guarded: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
    ref = app(guarded)
    guarded.fault(slow(0.05), path="/token")
    client = connect(credential_files=(login(tmp_path, guarded.host),))
    threads = [threading.Thread(target=client.resolve, args=(ref, AMD64)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert guarded.count("GET", "/token") == 1


def test_a_login_is_not_sent_in_the_clear_on_behalf_of_a_tls_registry(
    connect: Connect, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path)
    door = Doorkeeper(realm="http://tokens.invalid/token")
    with FakeRegistry(door=door, tls=certificates.server()) as server:
        hosts = {server.host: HostOptions(ca=certificates.ca)}
        client = connect(hosts=hosts, credential_files=(login(tmp_path, server.host),))
        with pytest.raises(Unauthorized, match=r"in the clear to http://tokens\.invalid/token"):
            client.resolve(app(server), AMD64)


def test_a_push_asks_for_a_wider_token(guarded: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
    ref = app(guarded)
    client = connect(credential_files=(login(tmp_path, guarded.host),))
    client.resolve(ref, AMD64)
    push(client, ref, small_image(1))
    assert scopes_asked(guarded) == [["repository:app:pull"], ["repository:app:pull,push"]]


def test_a_mount_asks_for_both_repositories(guarded: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
    base, image = app(guarded), small_image()
    push(
        connect(credential_files=(login(tmp_path, guarded.host),)),
        Reference.parse(f"{guarded.host}/derived"),
        image,
        base,
    )
    assert ["repository:app:pull", "repository:derived:pull,push"] in scopes_asked(guarded)
    assert guarded.count("PUT", "/blobs/uploads/") == 1


def test_a_mount_from_a_closed_repository_becomes_an_upload(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    assert guarded.door is not None
    guarded.door.denied = ("repository:app:pull",)
    base, image = app(guarded), small_image()
    client = connect(credential_files=(login(tmp_path, guarded.host),))
    push(client, Reference.parse(f"{guarded.host}/derived"), image, base)
    assert guarded.count("PUT", "/blobs/uploads/") == 3


def test_a_spent_token_is_replaced(guarded: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
    ref = app(guarded)
    client = connect(credential_files=(login(tmp_path, guarded.host),))
    client.resolve(ref, AMD64)
    assert guarded.door is not None
    # not withdrawn but forgotten, as by a registry that restarts with another key
    first = next(iter(guarded.door.issued))
    guarded.door.issued[first + "-old"] = guarded.door.issued.pop(first)
    guarded.door.issued["one more"] = ()
    client.resolve(ref, AMD64)
    assert guarded.count("GET", "/token") == 2


def test_a_token_is_not_used_past_its_time(guarded: FakeRegistry, tmp_path: Path) -> None:
    ref = app(guarded)
    now = [0.0]
    options = RegistryOptions(credential_files=(login(tmp_path, guarded.host),))
    with Registry(options, clock=lambda: now[0]) as client:
        client.resolve(ref, AMD64)
        now[0] = 280.0
        client.resolve(ref, AMD64)
        assert guarded.count("GET", "/token") == 1
        now[0] = 295.0
        client.resolve(ref, AMD64)
    assert guarded.count("GET", "/token") == 2
    assert [seen.status for seen in guarded.seen].count(401) == 1


def test_a_registry_may_ask_for_another_scope_than_the_usual(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    assert guarded.door is not None
    guarded.door.challenge_scope = "repository:inner/app:pull"
    connect(credential_files=(login(tmp_path, guarded.host),)).resolve(app(guarded), AMD64)
    assert scopes_asked(guarded) == [["repository:app:pull", "repository:inner/app:pull"]]


def test_an_identity_token_is_traded_by_post(guarded: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
    path = login(tmp_path, guarded.host, identitytoken="identity")
    connect(credential_files=(path,)).resolve(app(guarded), AMD64)
    assert guarded.count("POST", "/token") == 1


def test_a_registry_token_is_sent_as_it_is(guarded: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
    assert guarded.door is not None
    guarded.door.issued["ready-made"] = ("repository:app:pull",)
    path = login(tmp_path, guarded.host, registrytoken="ready-made")
    connect(credential_files=(path,)).resolve(app(guarded), AMD64)
    assert guarded.count("", "/token") == 0


def test_a_refused_registry_token_is_tried_once(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    path = login(tmp_path, guarded.host, registrytoken="stale")
    with pytest.raises(Unauthorized):
        connect(credential_files=(path,)).resolve(app(guarded), AMD64)
    assert guarded.count() == 1


def test_a_basic_login_is_sent_when_asked_for(basic: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
    connect(credential_files=(login(tmp_path, basic.host),)).resolve(app(basic), AMD64)
    assert [seen.status for seen in basic.seen] == [401, 200, 200]


def test_a_wrong_password_is_sent_once_and_named_with_its_file(
    basic: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    path = login(tmp_path, basic.host, username="bob", password="mistaken")
    with pytest.raises(Unauthorized, match=rf"tried the credentials of 'bob' from {path}") as caught:
        connect(credential_files=(path,)).resolve(app(basic), AMD64)
    assert f"docker login {basic.host}" in caught.value.cure
    assert "mistaken" not in caught.value.message
    assert [seen.status for seen in basic.seen] == [401, 401]


def test_no_login_names_the_places_that_were_looked_at(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    path = login(tmp_path, "another.example")
    with pytest.raises(Unauthorized, match=f"no credentials for {guarded.host} found in {path}") as caught:
        connect(credential_files=(path,)).resolve(app(guarded), AMD64)
    assert f"docker login {guarded.host}" in caught.value.cure


def test_a_token_server_that_refuses_the_login_says_so(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    path = login(tmp_path, guarded.host, username="bob", password="wrong")
    with pytest.raises(Unauthorized, match=r"a token for .*/app was denied.*tried the credentials of 'bob'"):
        connect(credential_files=(path,)).resolve(app(guarded), AMD64)
    assert guarded.count("GET", "/token") == 1


def test_a_token_that_allows_too_little_is_not_asked_for_again(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    assert guarded.door is not None
    guarded.door.denied = ("repository:app:push",)
    client = connect(credential_files=(login(tmp_path, guarded.host),))
    with pytest.raises(Unauthorized, match=r"tried the credentials of 'bob'"):
        push(client, app(guarded), small_image(1))
    assert guarded.count("GET", "/token") == 1


def test_a_token_server_in_trouble_is_asked_again(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path, patience: Patience
) -> None:
    guarded.fault(status(503), path="/token", times=2)
    connect(credential_files=(login(tmp_path, guarded.host),)).resolve(app(guarded), AMD64)
    assert len(patience.waited) == 2


def test_a_token_cut_in_the_middle_is_got_again(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    guarded.fault(cut(after=5), path="/token", times=1)
    connect(credential_files=(login(tmp_path, guarded.host),)).resolve(app(guarded), AMD64)


@pytest.mark.parametrize(
    "answer",
    [b"{}", b"[]", b"not json", b'{"token": 5}', b'{"token": "a\\nb"}', b'{"token":"x","expires_in":"y"}'],
)
def test_an_answer_without_a_token_is_called_that(
    guarded: FakeRegistry, connect: Connect, answer: bytes
) -> None:
    guarded.fault(status(200, answer), path="/token")
    with pytest.raises(BadAnswer, match="the answer holds no token"):
        connect().resolve(app(guarded), AMD64)


def test_a_login_goes_to_no_other_host_on_a_redirect(
    guarded: FakeRegistry, server: FakeRegistry, connect: Connect, tmp_path: Path, store: Store
) -> None:
    ref = app(guarded)
    layer = small_image().manifest.layers[0]
    server.add("cdn", small_image())
    signed = f"http://{server.host}/v2/cdn/blobs/{layer.digest}?signature=hidden"
    client = connect(credential_files=(login(tmp_path, guarded.host),))
    client.resolve(ref, AMD64)
    guarded.fault(status(307, Location=signed), path=f"/blobs/{layer.digest}")
    client.fetch_blob(ref, layer, store.blobs)
    assert store.blobs.has(layer.digest)
    assert [seen.headers.get("Authorization") for seen in server.seen] == [None]
    assert "Authorization" in guarded.seen[-1].headers


def test_a_signed_address_is_not_shown_when_it_fails(
    guarded: FakeRegistry, server: FakeRegistry, connect: Connect, tmp_path: Path, store: Store
) -> None:
    ref, layer = app(guarded), small_image().manifest.layers[0]
    guarded.fault(
        status(307, Location=f"http://{server.host}/v2/cdn/blobs/{layer.digest}?signature=hidden"),
        path=f"/blobs/{layer.digest}",
    )
    server.fault(status(403, b"signature=hidden is over: http://x.example/y?signature=hidden"))
    client = connect(credential_files=(login(tmp_path, guarded.host),))
    with pytest.raises(Unauthorized) as caught:
        client.fetch_blob(ref, layer, store.blobs)
    assert "?signature=hidden" not in caught.value.message
    assert caught.value.url.endswith("?...")


def helper(folder: Path, name: str, script: str) -> dict[str, str]:
    """A credential helper on a PATH of its own; returns the environment to run it in."""
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_a_helper_executable_is_asked_for_the_login(
    basic: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    environment = helper(
        tmp_path,
        "test",
        f'read server\necho "$1 $server" >> {tmp_path}/asked\n'
        'printf \'{"ServerURL":"%s","Username":"bob","Secret":"secret"}\' "$server"',
    )
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"credHelpers": {basic.host: "test"}}))
    connect(credential_files=(config,), environment=environment).resolve(app(basic), AMD64)
    assert (tmp_path / "asked").read_text() == f"get {basic.host}\n"


def test_a_helper_may_give_an_identity_token(guarded: FakeRegistry, connect: Connect, tmp_path: Path) -> None:
    environment = helper(tmp_path, "store", 'echo \'{"Username":"<token>","Secret":"identity"}\'')
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {guarded.host: {}}, "credsStore": "store"}))
    connect(credential_files=(config,), environment=environment).resolve(app(guarded), AMD64)
    assert guarded.count("POST", "/token") == 1


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo broken keyring; exit 1", r"docker-credential-x \(failed: broken keyring\)"),
        ("echo no json", r"docker-credential-x \(its answer is not what a credential helper says\)"),
        (None, r"docker-credential-x \(not found on PATH\)"),
    ],
)
def test_a_broken_helper_is_named_when_the_registry_refuses(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path, script: str | None, said: str
) -> None:
    environment = helper(tmp_path, "x", script) if script else {"PATH": str(tmp_path)}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"credsStore": "x"}))
    with pytest.raises(Unauthorized, match=said):
        connect(credential_files=(config,), environment=environment).resolve(app(guarded), AMD64)


def test_a_broken_helper_does_not_keep_public_images_away(
    guarded: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    assert guarded.door is not None
    guarded.door.public = True
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"credsStore": "absent"}))
    connect(credential_files=(config,)).resolve(app(guarded), AMD64)
