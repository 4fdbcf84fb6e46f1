"""The image configuration: OCI image-spec config.md with Docker's additions (Healthcheck, OnBuild, Shell).

`ImageConfig` is a value; `dataclasses.replace` makes another. Fields that neither specification
names are dropped when a base is read, as BuildKit drops them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from minibuild_store.digest import Digest
from minibuild_store.errors import InvalidDigest

from minibuild.errors import LayerError
from minibuild.oci.platform import Platform
from minibuild.values import dataclass, field

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class History:
    """One line of the image's history; `created` is RFC 3339 or empty."""

    created_by: str = ""
    created: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False

    def to_json(self) -> dict[str, object]:
        document: dict[str, object] = {}
        if self.created:
            document["created"] = self.created
        if self.created_by:
            document["created_by"] = self.created_by
        if self.author:
            document["author"] = self.author
        if self.comment:
            document["comment"] = self.comment
        if self.empty_layer:
            document["empty_layer"] = True
        return document


@dataclass(frozen=True, slots=True)
class HealthcheckConfig:
    """`test` as in Docker's API; durations in nanoseconds, 0 for unset."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    def to_json(self) -> dict[str, object]:
        fields = {
            "Test": list(self.test),
            "Interval": self.interval,
            "Timeout": self.timeout,
            "StartPeriod": self.start_period,
            "StartInterval": self.start_interval,
            "Retries": self.retries,
        }
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Everything an image says about itself. `env` entries are ``KEY=value``, in order."""

    platform: Platform
    created: str = ""
    author: str = ""
    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout: int | None = None
    args_escaped: bool = False
    healthcheck: HealthcheckConfig | None = None
    onbuild: tuple[str, ...] = ()
    shell: tuple[str, ...] | None = None
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    os_version: str = ""

    @classmethod
    def parse(cls, data: bytes) -> ImageConfig:
        """Read a configuration document; raises `LayerError` where it is not one."""
        try:
            document = json.loads(data)
        except ValueError as error:
            raise LayerError(f"the image configuration is not JSON: {error}") from None
        reader = _Reader(document, "image configuration")
        inner = _Reader(reader.raw.get("config") or {}, "image configuration, config")
        rootfs = _Reader(reader.raw.get("rootfs") or {}, "image configuration, rootfs")
        try:
            diff_ids = tuple(Digest.parse(text) for text in rootfs.strings("diff_ids") or ())
        except InvalidDigest as error:
            raise LayerError(f"the image configuration has a bad diff ID: {error}") from None
        return cls(
            platform=Platform(
                reader.text("os") or "linux", reader.text("architecture") or "amd64", reader.text("variant")
            ),
            created=reader.text("created"),
            author=reader.text("author"),
            os_version=reader.text("os.version"),
            user=inner.text("User"),
            exposed_ports=tuple(sorted(inner.mapping("ExposedPorts"))),
            env=inner.strings("Env") or (),
            entrypoint=inner.strings("Entrypoint"),
            cmd=inner.strings("Cmd"),
            volumes=tuple(sorted(inner.mapping("Volumes"))),
            working_dir=inner.text("WorkingDir"),
            labels={key: str(value) for key, value in inner.mapping("Labels").items()},
            stop_signal=inner.text("StopSignal"),
            stop_timeout=inner.number("StopTimeout"),
            args_escaped=inner.raw.get("ArgsEscaped") is True,
            healthcheck=_parse_healthcheck(inner.raw.get("Healthcheck")),
            onbuild=inner.strings("OnBuild") or (),
            shell=inner.strings("Shell"),
            diff_ids=diff_ids,
            history=tuple(_parse_history(item) for item in reader.items("history")),
        )

    def to_bytes(self) -> bytes:
        """The document, with keys in the order that BuildKit writes."""
        document: dict[str, object] = {"architecture": self.platform.architecture}
        if self.author:
            document["author"] = self.author
        document["config"] = self._inner()
        if self.created:
            document["created"] = self.created
        document["history"] = [line.to_json() for line in self.history]
        document["os"] = self.platform.os
        if self.os_version:
            document["os.version"] = self.os_version
        document["rootfs"] = {"type": "layers", "diff_ids": list(self.diff_ids)}
        if self.platform.variant:
            document["variant"] = self.platform.variant
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()

    def _inner(self) -> dict[str, object]:
        optional: dict[str, object] = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in sorted(self.exposed_ports)},
            "Env": list(self.env),
            "Entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "Cmd": None if self.cmd is None else list(self.cmd),
            "Volumes": {path: {} for path in sorted(self.volumes)},
            "WorkingDir": self.working_dir,
            "Labels": {key: self.labels[key] for key in sorted(self.labels)},
            "StopSignal": self.stop_signal,
            "ArgsEscaped": self.args_escaped,
            "Healthcheck": self.healthcheck.to_json() if self.healthcheck else None,
            "OnBuild": list(self.onbuild),
            "StopTimeout": self.stop_timeout,
            "Shell": None if self.shell is None else list(self.shell),
        }
        return {name: value for name, value in optional.items() if value}

    def environment(self) -> dict[str, str]:
        """`env` as a mapping, later entries winning."""
        return {key: value for key, _, value in (entry.partition("=") for entry in self.env)}


class _Reader:
    """Typed access to a JSON object that somebody else wrote."""

    def __init__(self, document: object, name: str) -> None:
        if not isinstance(document, dict):
            raise LayerError(f"the {name} is not a JSON object")
        self.raw: dict[str, object] = document
        self._name = name

    def _wrong(self, key: str, want: str) -> LayerError:
        return LayerError(f"the {self._name}: {key} is {self.raw[key]!r}, want {want}")

    def text(self, key: str) -> str:
        value = self.raw.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def number(self, key: str) -> int | None:
        value = self.raw.get(key)
        if value is not None and not isinstance(value, int):
            raise self._wrong(key, "a number")
        return value

    def strings(self, key: str) -> tuple[str, ...] | None:
        value = self.raw.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of strings")
        return tuple(value)

    def mapping(self, key: str) -> dict[str, object]:
        value = self.raw.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(key, "an object")
        return value

    def items(self, key: str) -> list[object]:
        value = self.raw.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value


def _parse_history(document: object) -> History:
    reader = _Reader(document, "image configuration, history")
    return History(
        created_by=reader.text("created_by"),
        created=reader.text("created"),
        comment=reader.text("comment"),
        author=reader.text("author"),
        empty_layer=reader.raw.get("empty_layer") is True,
    )


def _parse_healthcheck(document: object) -> HealthcheckConfig | None:
    if document is None:
        return None
    reader = _Reader(document, "image configuration, Healthcheck")
    return HealthcheckConfig(
        test=reader.strings("Test") or (),
        interval=reader.number("Interval") or 0,
        timeout=reader.number("Timeout") or 0,
        start_period=reader.number("StartPeriod") or 0,
        start_interval=reader.number("StartInterval") or 0,
        retries=reader.number("Retries") or 0,
    )
