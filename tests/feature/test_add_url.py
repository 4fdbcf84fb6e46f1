"""ADD of an address: checked, kept, and asked again only whether it has changed."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.feature.project import Project
from tests.feature.tls import make_authority, web_server
from tests.servers.serving import serving


class Site:
    """One file at ``address``; `asked` are the requests' validators and the answers."""

    def __init__(self) -> None:
        self.content = b"first"
        self.asked: list[tuple[str | None, int]] = []
        self.password = ""
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                etag = '"' + hashlib.sha256(site.content).hexdigest()[:8] + '"'
                known = self.headers.get("If-None-Match")
                status = 304 if known == etag else 200
                if site.password and self.headers.get("Authorization") != site.password:
                    status = 401
                site.asked.append((known, status))
                self.send_response(status)
                self.send_header("ETag", etag)
                self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
                self.end_headers()
                if status == 200:
                    self.wfile.write(site.content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/file.txt"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with serving(made.server):
        yield made


def test_the_file_gets_its_name_its_servers_time_and_is_its_owners_alone(
    project: Project, site: Site
) -> None:
    file = project.image(text=f"FROM scratch\nADD {site.address} /got/\n").files["got/file.txt"]
    assert (file.text, file.mode, file.mtime) == ("first", 0o600, 1_445_412_480)


def test_a_file_that_is_unchanged_is_not_sent_again(project: Project, site: Site) -> None:
    project.built(text=f"FROM scratch\nADD {site.address} /got/\n")
    assert project.built().summary == (1, 1)
    assert [status for _, status in site.asked] == [200, 304]


def test_a_file_that_changed_is_added_again(project: Project, site: Site) -> None:
    project.built(text=f"FROM scratch\nADD {site.address} /got\n")
    site.content = b"second"
    assert project.image().text("got") == "second"


def test_a_file_with_the_right_checksum_is_asked_for_once(project: Project, site: Site) -> None:
    checksum = "sha256:" + hashlib.sha256(site.content).hexdigest()
    project.built(text=f"FROM scratch\nADD --checksum={checksum} {site.address} /got\n")
    assert project.built().summary == (1, 1)
    assert len(site.asked) == 1


def test_a_file_with_another_checksum_is_refused(project: Project, site: Site) -> None:
    wrong = "sha256:" + "0" * 64
    done = project.build(text=f"FROM scratch\nADD --checksum={wrong} {site.address} /got\n")
    right = hashlib.sha256(site.content).hexdigest()
    assert done.code == 1
    assert "Dockerfile:2\n" in done.error
    assert f"digest mismatch of {site.address}: got sha256:{right}, want {wrong}" in done.error


def test_an_address_that_is_not_there_is_named(project: Project, site: Site) -> None:
    site.server.RequestHandlerClass.do_GET = lambda self: self.send_error(404)  # type: ignore[attr-defined]
    done = project.build(text=f"FROM scratch\nADD {site.address} /got\n")
    assert done.code == 1
    assert f"{site.address} answered 404" in done.error


@pytest.mark.parametrize("option", ["--no-cache", "--jobs=2"])
def test_one_that_is_asked_for_early_is_not_asked_for_again(
    project: Project, site: Site, option: str
) -> None:
    asked = []

    def refuse(self: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(self.path)
        self.send_error(404)

    site.server.RequestHandlerClass.do_GET = refuse  # type: ignore[attr-defined]
    project.write("large", os.urandom(24 << 20))  # the step after it is begun meanwhile
    done = project.build(option, text=f"FROM scratch\nCOPY large /\nADD {site.address} /got\n")
    assert f"{site.address} answered 404" in done.error
    assert "Dockerfile:3" in done.error
    assert len(asked) == 1


def test_a_server_that_is_not_there_is_told_in_one_line(project: Project) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    done = project.build(text=f"FROM scratch\nADD http://127.0.0.1:{port}/file /got\n")
    assert done.code == 1
    assert (
        f"cannot reach 127.0.0.1:{port}: connection refused (GET http://127.0.0.1:{port}/file)" in done.error
    )
    assert "HTTPConnection" not in done.err


def test_what_is_added_comes_through_the_proxy(project: Project, site: Site) -> None:
    project.environment["http_proxy"] = f"http://127.0.0.1:{site.server.server_port}"
    text = "FROM scratch\nADD http://files.invalid/file.txt /got\n"
    assert project.image(text=text).text("got") == "first"
    project.environment["no_proxy"] = "files.invalid"
    done = project.build("--no-cache", text=text)
    assert done.code == 1
    assert "cannot reach files.invalid: its address cannot be found" in done.error


def test_a_proxy_of_another_kind_is_refused(project: Project) -> None:
    project.environment["http_proxy"] = "socks5://me:pass@127.0.0.1:1"
    done = project.build(text="FROM scratch\nADD http://files.invalid/file.txt /got\n")
    assert done.code == 2
    assert "the proxy socks5://127.0.0.1:1 is of a kind that is not spoken here: socks5" in done.error


def test_a_server_of_an_unknown_authority_is_refused_until_that_is_named(project: Project) -> None:
    authority = make_authority(project.root, "authority")
    with web_server(project.root, authority) as address:
        text = f"FROM scratch\nADD {address}file /got\n"
        done = project.build(text=text)
        assert done.code == 1
        assert "its certificate is not trusted" in done.error and "SSL_CERT_FILE" in done.error
        project.environment["SSL_CERT_FILE"] = str(authority)
        assert project.image(text=text).text("got").startswith("hello")


@pytest.mark.parametrize(
    ("secret", "password"),
    [("HTTP_AUTH_TOKEN_127.0.0.1", "Bearer s3same"), ("HTTP_AUTH_HEADER_127.0.0.1", "s3same")],
)
def test_a_secret_for_the_host_opens_a_private_file(
    project: Project, site: Site, secret: str, password: str
) -> None:
    site.password = password
    text = f"FROM scratch\nADD {site.address} /got/\n"
    refused = project.build(text=text)
    assert refused.code == 1 and "answered 401" in refused.error and "HTTP_AUTH_TOKEN" in refused.err
    (project.root / "token").write_text("s3same\n")
    done = project.build("--secret", f"id={secret},src={project.root / 'token'}", text=text)
    assert done.code == 0, done.err


def test_a_user_in_the_address_opens_a_private_file(project: Project, site: Site) -> None:
    site.password = "Basic " + base64.b64encode(b"somebody:s3s@me").decode()
    address = site.address.replace("//", "//somebody:s3s%40me@")
    done = project.build(text=f"FROM scratch\nADD {address} /got/\n")
    assert done.code == 0, done.err


def test_a_password_in_an_address_is_shown_nowhere(project: Project, site: Site) -> None:
    address = site.address.replace("//", "//somebody:s3same@")
    text = f"FROM scratch\nARG FROM_THERE={address}\nADD {address} $FROM_THERE.2 /got/\n"
    plan = project.build("--dry-run", "--json", text=text)
    first = project.build(text=text)
    assert first.code == 0, first.err
    assert f"ADD {address.replace('somebody:s3same', 'xxxxx')} " in first.err
    again = project.build(text=text)
    assert again.summary == (1, 1)
    site.content = b"second"
    changed = project.build("--explain", text=text)
    assert changed.summary == (1, 0)
    assert "xxxxx@127.0.0.1" in changed.err
    outline = project.build("--call=outline", text=text)
    bad = project.build(text=text + "ADD --chmod=wrong $FROM_THERE /\n")
    assert bad.code == 1
    record = project.command("builds", "show")
    page = project.command("builds", "report")
    for said in (plan, first, again, changed, outline, bad, record, page):
        assert "s3same" not in said.out + said.err
    site.content = b"first"
    image = project.image(text=text)
    assert "xxxxx@" in str(image.history) and "s3same" not in json.dumps(image.document)
