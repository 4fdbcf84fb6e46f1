"""Debian's docker-registry as a process of one test: own port, own folder, killed at the end."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAM = shutil.which("docker-registry")


@dataclass(frozen=True)
class DockerRegistry:
    """`host` is what names begin with; `log` holds a line for each request."""

    host: str
    log: Path

    def requests(self, method: str, fragment: str = "") -> int:
        """How many requests of `method` with `fragment` in their URL were answered."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return sum(
            line.get("http.request.method") == method
            and "http.response.status" in line
            and fragment in line.get("http.request.uri", "")
            for line in lines
        )


@contextlib.contextmanager
def docker_registry(folder: Path, *, htpasswd: str = "") -> Iterator[DockerRegistry]:
    """A registry that keeps its data in `folder` and allows deletion; `htpasswd` says who may come in."""
    assert PROGRAM is not None
    port = _free_port()
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: info, formatter: json, accesslog: {disabled: true}}\n"
        "storage:\n"
        f"  filesystem: {{rootdirectory: {folder}/data}}\n"
        "  delete: {enabled: true}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: none}}\n"
    )
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd)
        config.write_text(
            f"{config.read_text()}auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"
        )
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, "serve", str(config)],
            stdout=output,
            stderr=output,
            cwd=folder,
            env={"OTEL_TRACES_EXPORTER": "none"},
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/v2/", process, log)
            yield DockerRegistry(f"127.0.0.1:{port}", log)
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(500):
        assert process.poll() is None, log.read_text()
        try:
            with direct.open(url, timeout=5):
                return
        except urllib.error.HTTPError:  # not let in, but it is there
            return
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"docker-registry did not answer: {log.read_text()}")
