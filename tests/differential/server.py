"""A server on loopback for ADD of URLs: files of each case, and repositories by git's own backend."""

from __future__ import annotations

import email.utils
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT_TIME = "1250000000 +0000"


class Server:
    """Serves the folders of cases while the block lasts."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"server_": self})
        self._http = _Quiet(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def address(self, key: str) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/{key.replace('/', '-')}"

    def serve(self, key: str, folder: Path) -> str:
        """Serve ``http/`` and ``git/`` below `folder`; the address."""
        self.folders[key.replace("/", "-")] = folder
        return self.address(key)

    def repository(self, folder: Path) -> None:
        """Make the folder a repository of one commit, once, with fixed times."""
        if (folder / ".git").exists():
            return
        who = {"NAME": "A", "EMAIL": "a@example.com", "DATE": COMMIT_TIME}
        environment = {
            **os.environ,
            **{
                f"GIT_{role}_{name}": value for role in ("AUTHOR", "COMMITTER") for name, value in who.items()
            },
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }
        for command in (
            ("init", "--quiet", "--initial-branch=main"),
            ("add", "--all"),
            *self._submodules(folder),
            ("commit", "--quiet", "--message=one"),
            ("tag", "v1"),
            ("branch", "other"),
            ("config", "uploadpack.allowAnySHA1InWant", "true"),
        ):
            subprocess.run(["git", "-C", str(folder), *command], env=environment, check=True)

    def _submodules(self, folder: Path) -> list[tuple[str, ...]]:
        """Commands that make the repositories beside `folder` its submodules, as its .gitmodules has them."""
        commands: list[tuple[str, ...]] = []
        path = ""
        listed = folder / ".gitmodules"
        for line in listed.read_text().splitlines() if listed.exists() else ():
            key, _, value = line.strip().partition(" = ")
            if key == "path":
                path = value
            elif key == "url":
                other = folder.parent / value.removeprefix("../").removesuffix(".git")
                self.repository(other)
                head = subprocess.check_output(["git", "-C", str(other), "rev-parse", "HEAD"], text=True)
                commands.append(("update-index", "--add", "--cacheinfo", f"160000,{head.strip()},{path}"))
        return commands


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that leaves early is no fault."""


class _Handler(BaseHTTPRequestHandler):
    server_: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server_.requests.append(f"{self.command} {self.path}")
        _, key, *rest = unquote(parts.path).split("/")
        folder = self.server_.folders.get(key)
        if folder is None or not rest:
            self._answer(404, b"")
        elif rest[0].endswith(".git"):
            self._git(folder / "git" / rest[0].removesuffix(".git"), "/".join(rest[1:]), parts.query)
        else:
            self._file(folder / "http" / "/".join(rest))

    do_POST = do_GET
    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._answer(404, b"not here")
            return
        headers = {}
        if path.suffix != ".undated":
            headers["Last_Modified"] = email.utils.formatdate(path.stat().st_mtime, usegmt=True)
        if path.suffix == ".disposed":
            headers["Content_Disposition"] = 'attachment; filename="other-name"'
        self._answer(200, path.read_bytes(), **headers)

    def _git(self, folder: Path, path: str, query: str) -> None:
        if not folder.is_dir():
            self._answer(404, b"")
            return
        with _MUTEX:
            self.server_.repository(folder)
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        else:
            body = self.rfile.read(length)
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(folder / ".git"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{path}",
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        self._answer(status, content, **headers)

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline().strip(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found


_MUTEX = threading.Lock()
