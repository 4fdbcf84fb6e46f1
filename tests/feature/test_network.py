"""RUN's network: the machine's own, or none."""

from __future__ import annotations

import http.server
from collections.abc import Iterator

import pytest

from tests.feature.project import Project
from tests.servers.serving import serving


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Handler)
    with serving(server):
        yield server.server_port


FETCH = "busybox wget -q -O - http://127.0.0.1:{port}/"


def test_a_run_reaches_the_machines_network(project: Project, port: int) -> None:
    image = project.image(text=f"FROM busybox\nRUN {FETCH.format(port=port)} > /got\n")
    assert image.text("got") == "hello"


@pytest.mark.parametrize("where", ["instruction", "option"])
def test_a_run_without_network_reaches_nothing(project: Project, port: int, where: str) -> None:
    flag = "--network=none " if where == "instruction" else ""
    options = ["--network", "none"] if where == "option" else []
    text = f"FROM busybox\nRUN {flag}ls /sys/class/net > /devices; {FETCH.format(port=port)} > /got || true\n"
    image = project.image(*options, text=text)
    assert image.text("got") == ""


def test_a_network_that_is_not_there_is_refused_before_anything_is_done(project: Project) -> None:
    text = "FROM busybox\nRUN true\n"
    project.built(text=text)
    done = project.build("--network=non", text=text)  # nothing is left to run, and still
    assert done.code == 2
    assert "--network 'non'" in done.error and "Use default, host or none." in done.error


def test_added_hosts_are_known(project: Project) -> None:
    image = project.image(
        "--add-host", "db.internal:10.1.2.3", text="FROM busybox\nRUN cp /etc/hosts /seen\n"
    )
    assert "10.1.2.3\tdb.internal" in image.text("seen")
    assert "etc/hosts" not in image.layer(-1)
