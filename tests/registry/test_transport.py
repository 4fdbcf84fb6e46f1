"""TLS, proxies, redirects, and what stays out of memory until the first request."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minibuild_store import stopping
from minibuild_store.store import Store

from minibuild.errors import Cancelled, UsageError
from minibuild.oci.reference import Reference
from minibuild.registry.client import Registry
from minibuild.registry.errors import BadAnswer, RegistryError, Unreachable, redact, redact_text
from minibuild.registry.options import HostOptions, Proxies, RegistryOptions
from minibuild.registry.proxy import exempt, proxy_for
from minibuild.registry.transport import user_agent
from tests.registry.conftest import Connect, Patience
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.faults import Fault, slow, stall, status
from tests.servers.images import AMD64, small_image
from tests.servers.registry import FakeRegistry
from tests.servers.serving import serving


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[FakeRegistry]:
    with FakeRegistry(tls=certificates.server()) as made:
        made.add("app", small_image(), "latest")
        yield made


def app(server: FakeRegistry) -> Reference:
    return Reference.parse(f"{server.host}/app")


def test_a_certificate_nobody_vouches_for_is_refused_at_once(
    secure: FakeRegistry, connect: Connect, patience: Patience
) -> None:
    hosts = {secure.host: HostOptions(insecure=False)}
    with pytest.raises(Unreachable, match="certificate is not trusted") as caught:
        connect(hosts=hosts).resolve(app(secure), AMD64)
    assert "ca=" in caught.value.cure
    assert patience.waited == []


def test_a_registry_may_have_its_own_ca(
    secure: FakeRegistry, connect: Connect, certificates: Certificates
) -> None:
    connect(hosts={secure.host: HostOptions(ca=certificates.ca)}).resolve(app(secure), AMD64)


def test_one_bundle_may_serve_all_registries(
    secure: FakeRegistry, connect: Connect, certificates: Certificates
) -> None:
    hosts = {secure.host: HostOptions(insecure=False)}
    connect(hosts=hosts, ca_file=certificates.ca).resolve(app(secure), AMD64)


def test_the_certs_folder_of_docker_is_read(
    secure: FakeRegistry, connect: Connect, certificates: Certificates, tmp_path: Path
) -> None:
    folder = tmp_path / secure.host
    folder.mkdir()
    (folder / "ca.crt").symlink_to(certificates.ca)
    hosts = {secure.host: HostOptions(insecure=False)}
    connect(hosts=hosts, certs_folders=(tmp_path,)).resolve(app(secure), AMD64)


def test_a_client_certificate_is_shown_to_those_who_ask(
    connect: Connect, certificates: Certificates, tmp_path: Path
) -> None:
    with FakeRegistry(tls=certificates.server(ask_client=True)) as server:
        server.add("app", small_image(), "latest")
        host = HostOptions(ca=certificates.ca, cert=certificates.cert, key=certificates.key)
        connect(hosts={server.host: host}).resolve(app(server), AMD64)
        with pytest.raises(Unreachable):
            connect(hosts={server.host: HostOptions(ca=certificates.ca)}, attempts=1).resolve(
                app(server), AMD64
            )


def test_verification_may_be_skipped_for_one_registry(secure: FakeRegistry, connect: Connect) -> None:
    connect(hosts={secure.host: HostOptions(verify=False)}).resolve(app(secure), AMD64)


def test_tls_towards_a_plain_registry_says_how_to_name_it(server: FakeRegistry, connect: Connect) -> None:
    with pytest.raises(Unreachable, match="TLS failed") as caught:
        connect(hosts={server.host: HostOptions(insecure=False)}).resolve(app(server), AMD64)
    assert f"--insecure-registry {server.host}" in caught.value.cure


def test_a_ca_file_without_certificates_is_named(connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(UsageError, match=str(path)):
        connect(hosts={"127.0.0.1:1": HostOptions(ca=path)}).resolve(Reference.parse("127.0.0.1:1/x"), AMD64)


def test_requests_name_this_program(server: FakeRegistry, connect: Connect) -> None:
    server.add("app", small_image(), "latest")
    connect().resolve(app(server), AMD64)
    assert re.fullmatch(r"minibuild/[0-9].*", user_agent())
    assert {seen.headers["User-Agent"] for seen in server.seen} == {user_agent()}


def test_a_circle_of_redirects_ends(server: FakeRegistry, connect: Connect) -> None:
    server.fault(status(307, Location="/v2/app/manifests/latest"))
    with pytest.raises(BadAnswer, match="redirected too often"):
        connect().resolve(app(server), AMD64)


def test_a_redirect_to_something_else_than_the_web_is_refused(server: FakeRegistry, connect: Connect) -> None:
    server.fault(status(307, Location="file:///etc/passwd"))
    with pytest.raises(BadAnswer):
        connect().resolve(app(server), AMD64)


def test_a_server_that_says_nothing_is_given_up(server: FakeRegistry, connect: Connect) -> None:
    server.fault(slow(1.0), times=2)
    with pytest.raises(Unreachable, match="no data came"):
        connect(read_timeout=0.1, attempts=2).resolve(app(server), AMD64)


def test_tls_registries_spoken_to_in_plain_http_say_how_to_set_that(
    server: FakeRegistry, connect: Connect
) -> None:
    server.fault(status(400, b"Client sent an HTTP request to an HTTPS server.\n"))
    with pytest.raises(RegistryError) as caught:
        connect().resolve(app(server), AMD64)
    assert (
        f'{server.host} speaks TLS: set insecure = false under [registry."{server.host}"]'
        in caught.value.cure
    )


def test_connections_to_one_registry_keep_to_the_cap(server: FakeRegistry, connect: Connect) -> None:
    server.add("app", small_image(), "latest")
    server.fault(slow(0.02))
    client = connect(connections=2)
    threads = [threading.Thread(target=client.resolve, args=(app(server), AMD64)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.count() == 16
    assert server.most_at_once <= 2


def test_no_connection_is_held_while_waiting(server: FakeRegistry) -> None:
    server.add("app", small_image(), "latest")
    server.fault(status(503, b"x" * 1000), path="/manifests/", times=1)
    inner: list[int] = []

    def wait(seconds: float) -> None:
        inner.append(len(client.resolve(app(server), AMD64).manifest_bytes))

    with Registry(RegistryOptions(connections=1), wait=wait) as client:
        client.resolve(app(server), AMD64)
    assert len(inner) == 1


@pytest.mark.timeout(20)
def test_an_answer_left_unread_gives_its_connection_back(server: FakeRegistry, connect: Connect) -> None:
    server.add("app", small_image(), "latest")
    server.fault(status(403, b"x" * 1_000_000), path="/manifests/", times=3)
    client = connect(connections=1)
    for _ in range(3):
        with pytest.raises(RegistryError):
            client.resolve(app(server), AMD64)
    client.resolve(app(server), AMD64)


def test_connections_are_used_again(server: FakeRegistry, connect: Connect) -> None:
    server.add("app", small_image(), "latest")
    client = connect()
    client.resolve(app(server), AMD64)
    client.head(app(server))
    client.tags(app(server))
    with pytest.raises(RegistryError):
        client.resolve(Reference.parse(f"{server.host}/app:gone"), AMD64)
    client.resolve(app(server), AMD64)
    assert server.connections == 1


class _Proxy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Proxy-Authorization")))  # type: ignore[attr-defined]
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[http.server.ThreadingHTTPServer]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    made.asked = []  # type: ignore[attr-defined]
    with serving(made):
        yield made


def test_requests_go_through_the_proxy_with_its_login(
    proxy: http.server.ThreadingHTTPServer, connect: Connect
) -> None:
    url = f"http://me:pass@127.0.0.1:{proxy.server_address[1]}"
    client = connect(
        hosts={"registry.invalid": HostOptions(insecure=True)}, proxies=Proxies(http=url), attempts=1
    )
    with pytest.raises(RegistryError):
        client.resolve(Reference.parse("registry.invalid/app"), AMD64)
    assert proxy.asked[0] == (  # type: ignore[attr-defined]
        "http://registry.invalid/v2/app/manifests/latest",
        "Basic bWU6cGFzcw==",
    )


def test_a_dead_proxy_is_called_that(connect: Connect) -> None:
    client = connect(proxies=Proxies(https="http://127.0.0.1:1"), attempts=1)
    with pytest.raises(Unreachable, match="the proxy cannot be reached"):
        client.resolve(Reference.parse("registry.invalid/app"), AMD64)


@pytest.mark.parametrize("url", ["http://localhost:5000/x", "https://127.9.9.9/x", "http://[::1]:5000/x"])
def test_loopback_is_never_proxied(url: str) -> None:
    assert proxy_for(url, Proxies("http://p", "http://p")) == ""


@pytest.mark.parametrize(
    ("host", "port", "rules", "taken_out"),
    [
        ("r.example", 443, "r.example", True),
        ("r.example", 443, "other, r.example:443", True),
        ("r.example", 443, "r.example:80", False),
        ("a.r.example", 443, "r.example", True),
        ("a.r.example", 443, ".r.example", True),
        ("r.example", 443, ".r.example", False),
        ("a.r.example", 443, "*.r.example", True),
        ("xr.example", 443, "r.example", False),
        ("r.example", 443, "*", True),
        ("10.1.2.3", 80, "10.0.0.0/8", True),
        ("11.1.2.3", 80, "10.0.0.0/8", False),
        ("10.1.2.3", 80, "10.1.2.3", True),
        ("10.1.2.3", 80, "10.1.2.3:80", True),
        ("fd00::1", 80, "[fd00::1]:80", True),
        ("fd00::1", 80, "fd00::/8", True),
        ("r.example", 443, "", False),
        ("r.example", 443, "/, :, [], 1.2.3.4/99", False),
    ],
)
def test_no_proxy_takes_hosts_out(host: str, port: int, rules: str, taken_out: bool) -> None:
    assert exempt(host, port, rules) is taken_out


def test_addresses_are_shown_without_their_secrets() -> None:
    assert redact("https://me:pw@h.example/p?sig=1#f") == "https://h.example/p?..."
    assert redact("http://[bad") == "(malformed URL)"
    assert redact_text("see http://h/x?sig=1 and https://u:p@h2") == "see http://h/x?... and https://h2"


@pytest.mark.parametrize("fault", [stall(-1), stall(20_000)])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_waiting_for_a_server_can_be_ended(
    server: FakeRegistry,
    secure: FakeRegistry,
    certificates: Certificates,
    connect: Connect,
    store: Store,
    scheme: str,
    fault: Fault,
) -> None:
    image = small_image()
    server.add("app", image, "latest")
    stalls = server if scheme == "http" else secure
    stalls.fault(fault, path="/blobs/")
    client = connect(hosts={secure.host: HostOptions(ca=certificates.ca)}, read_timeout=600)

    def check() -> None:
        if stalls.count("GET", "/blobs/"):
            raise Cancelled

    with stopping.checking(check), pytest.raises(Cancelled):
        client.fetch_blobs(app(stalls), image.manifest.layers[1:], store.blobs)
    assert stalls.count("GET", "/blobs/") == 1


def test_a_server_that_says_nothing_is_given_up_after_its_time(
    server: FakeRegistry, connect: Connect, store: Store
) -> None:
    server.add("app", small_image(), "latest")
    server.fault(stall(-1), path="/blobs/")
    client = connect(read_timeout=0.2, attempts=2)
    with pytest.raises(Unreachable, match="no data came for too long"):
        client.fetch_blobs(app(server), small_image().manifest.layers, store.blobs)


def test_importing_the_registry_loads_no_http_tls_or_validation() -> None:
    code = (
        "import sys, pkgutil, importlib, minibuild.registry\n"
        "for m in pkgutil.iter_modules(minibuild.registry.__path__):\n"
        "    if m.name != 'sockets':\n"  # kinds of theirs, loaded with them
        "        importlib.import_module('minibuild.registry.' + m.name)\n"
        "heavy = {'urllib3', 'ssl', 'pydantic', 'http.client', 'subprocess', 'logging', 'tomllib', 'email'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
