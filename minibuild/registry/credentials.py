"""Logins as docker, buildah and podman keep them: config.json and auth.json files, and helper executables.

A file holds ``auths`` (login by registry, or by ``registry/namespace`` as podman does), ``credHelpers`` (a
helper by registry) and ``credsStore`` (the helper for the rest). ``docker-credential-X get`` is told the
registry on its standard input and answers JSON.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from minibuild.errors import UsageError
from minibuild.oci.reference import DEFAULT_REGISTRY
from minibuild.registry.errors import printable
from minibuild.registry.options import RegistryOptions
from minibuild.values import dataclass, field

_DOCKER_KEY = "https://index.docker.io/v1/"
_DOCKER_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HELPER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Credentials:
    """One login; `source` says where it was found, in words. A user with password, or a token."""

    source: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __str__(self) -> str:
        who = f"of {printable(self.username, 60)!r} " if self.username else ""
        return f"the credentials {who}from {self.source}"


@dataclass(frozen=True, slots=True)
class Search:
    """The result of looking for a login: what was found, and everything that was tried, in words."""

    found: Credentials | None
    tried: tuple[str, ...]


class Keychain:
    """Finds logins by registry and repository; thread-safe; files are read once, helpers run once a name."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._files: list[_File] | None = None
        self._known: dict[tuple[str, str], Search] = {}

    def find(self, registry: str, repository: str = "") -> Search:
        """The first login that fits; raises `UsageError` for a malformed file, naming the key at fault."""
        with self._lock:
            known = self._known.get((registry, repository))
            if known is None:
                known = self._known[registry, repository] = self._search(registry, repository)
            return known

    def _search(self, registry: str, repository: str) -> Search:
        if self._files is None:
            self._files = [_read(path) for path in self._options.credential_files if path.is_file()]
        tried: list[str] = []
        for file in self._files:
            for found in self._in_file(file, registry, repository, tried):
                if found.registry_token or found.identity_token or found.username:
                    return Search(found, tuple(tried))
            tried.append(str(file.path))
        tried = tried or [str(path) for path in self._options.credential_files]
        return Search(None, tuple(dict.fromkeys(tried)))

    def _in_file(
        self, file: _File, registry: str, repository: str, tried: list[str]
    ) -> Iterator[Credentials]:
        names = _DOCKER_NAMES if registry == DEFAULT_REGISTRY else (registry,)
        helper = next((file.helpers[name] for name in names if name in file.helpers), file.store)
        if helper:
            server = _DOCKER_KEY if registry == DEFAULT_REGISTRY else registry
            yield from self._ask_helper(helper, server, tried)
        keys = [_DOCKER_KEY, *names] if registry == DEFAULT_REGISTRY else list(names)
        parts = repository.split("/") if repository else []
        spaces = ["/".join([registry, *parts[:end]]) for end in range(len(parts), 0, -1)]
        plain = {_host_of(key): login for key, login in file.logins.items()}
        for key in (*spaces, *keys):
            login = file.logins.get(key) or plain.get(key)
            if login is not None:
                yield login

    def _ask_helper(self, helper: str, server: str, tried: list[str]) -> Iterator[Credentials]:
        name = f"docker-credential-{helper}"
        answer = _run_helper(name, server, self._options)
        if isinstance(answer, str):
            tried.append(f"{name} ({answer})" if answer else name)
            return
        user, secret = answer
        if user == "<token>":
            yield Credentials(name, identity_token=secret)
        elif user:
            yield Credentials(name, user, secret)
        tried.append(name)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    logins: dict[str, Credentials]
    helpers: dict[str, str]
    store: str


def _read(path: Path) -> _File:
    from pydantic import ValidationError

    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    try:
        document = _schema().model_validate_json(data or b"{}")
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"{path}: {key}: {first['msg']}", cure="Correct the file or log in again with 'docker login'."
        ) from None
    logins = {}
    for name, entry in (document.auths or {}).items():
        login = _login(path, name, entry) if entry is not None else None
        if login is not None:
            logins[name] = login
    return _File(path, logins, dict(document.cred_helpers or {}), document.creds_store or "")


def _login(path: Path, name: str, entry: Any) -> Credentials | None:
    username, password = entry.username or "", entry.password or ""
    if entry.auth:
        try:
            text = base64.b64decode(entry.auth, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        username, colon, password = text.partition(":")
        if not colon:
            raise UsageError(
                f"{path}: auths.{name}.auth: want base64 of user:password", cure=f"Run 'docker login {name}'."
            )
        password = password.rstrip("\0")
    login = Credentials(str(path), username, password, entry.identitytoken or "", entry.registrytoken or "")
    return login if login.username or login.identity_token or login.registry_token else None


@cache
def _schema() -> Any:
    """The shape of the file, made at first use: pydantic is slow to load."""
    from pydantic import BaseModel, Field

    class Login(BaseModel):
        auth: str | None = None
        username: str | None = None
        password: str | None = None
        identitytoken: str | None = None
        registrytoken: str | None = None

    class Logins(BaseModel):
        auths: dict[str, Login | None] | None = None
        creds_store: str | None = Field(default=None, alias="credsStore")
        cred_helpers: dict[str, str] | None = Field(default=None, alias="credHelpers")

    return Logins


def _host_of(key: str) -> str:
    """``https://registry.example/v1/`` is how old docker wrote ``registry.example``."""
    host = key.removeprefix("https://").removeprefix("http://")
    for suffix in ("/", "/v1", "/v2"):
        host = host.removesuffix(suffix)
    return host


def _run_helper(name: str, server: str, options: RegistryOptions) -> tuple[str, str] | str:
    """User and secret, or why there are none (empty: it knows no login)."""
    import json
    import shutil
    import subprocess

    program = shutil.which(name, path=options.environment.get("PATH", ""))
    if program is None:
        return "not found on PATH"
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            env=dict(options.environment),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_HELPER_SECONDS} s"
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    if done.returncode != 0:
        said = printable((done.stdout or done.stderr).decode("utf-8", "replace"), 120)
        return "" if "credentials not found" in said else f"failed: {said or f'exit code {done.returncode}'}"
    try:
        answer = json.loads(done.stdout)
        return str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        return "its answer is not what a credential helper says"
