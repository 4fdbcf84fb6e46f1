"""moto's S3 server as a process of one test: own port, everything in memory, killed at the end."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAM = shutil.which("moto_server", path=str(Path(sys.executable).parent)) or shutil.which("moto_server")
REGION = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """`endpoint` is its URL; any credentials will do."""

    endpoint: str
    bucket: str

    @property
    def options(self) -> str:
        """What ``--cache-to`` and ``--cache-from`` need to reach it."""
        return (
            f"type=s3,bucket={self.bucket},region={REGION},endpoint_url={self.endpoint},"
            "access_key_id=test,secret_access_key=test,use_path_style=true"
        )


@contextlib.contextmanager
def s3_server(folder: Path, bucket: str = "cache") -> Iterator[S3Server]:
    assert PROGRAM is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    endpoint = f"http://127.0.0.1:{port}"
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log, cwd=folder
        )
        try:
            _make_bucket(endpoint, bucket, process)
            yield S3Server(endpoint, bucket)
        finally:
            process.kill()
            process.wait()


def _make_bucket(endpoint: str, bucket: str, process: subprocess.Popen[bytes]) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")
    for _ in range(500):
        assert process.poll() is None
        try:
            with direct.open(request, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("moto_server did not answer")
