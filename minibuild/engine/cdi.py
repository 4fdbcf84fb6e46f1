"""Specifications of the Container Device Interface: what a machine offers under which device names.

Files ``*.json`` and ``*.yaml`` of some folders; a device of a later folder takes the place of one of the
same name before it, and two of one folder cancel each other out, as in the reference implementation.
https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from minibuild.values import NamedTuple

SPEC_DIRS = (Path("/etc/cdi"), Path("/run/cdi"))
"""Where specifications are looked for unless the caller names folders."""

_WORD = r"[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?"
_KIND = re.compile(rf"{_WORD}/{_WORD}\Z")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?\Z")
_VERSION = re.compile(r"v?(0\.[1-8]\.0|1\.[01]\.0)\Z")

_Path = Annotated[str, StringConstraints(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class DeviceNode(_Part):
    path: _Path
    host_path: str = ""
    type: Annotated[str, StringConstraints(pattern=r"^[bcup]?$")] = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: Annotated[str, StringConstraints(pattern=r"^[rwm]*$")] = ""
    uid: int | None = None
    gid: int | None = None


class Mount(_Part):
    host_path: _Path
    container_path: _Path
    options: tuple[str, ...] = ()
    type: str = ""


class Edits(_Part):
    """What a process that gets a device sees of it. `others` are parts of which only the name counts here."""

    env: tuple[Annotated[str, StringConstraints(pattern=r"^[^=]+=")], ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    additional_gids: tuple[int, ...] = ()
    hooks: tuple[dict[str, Any], ...] = ()
    net_devices: tuple[dict[str, Any], ...] = ()
    intel_rdt: dict[str, Any] | None = None

    @property
    def others(self) -> list[str]:
        parts = {"hooks": self.hooks, "netDevices": self.net_devices, "intelRdt": self.intel_rdt}
        return [name for name, value in parts.items() if value]


class _Device(_Part):
    name: str
    annotations: dict[str, str] = {}
    container_edits: Edits


class _Document(_Part):
    cdi_version: str
    kind: str
    annotations: dict[str, str] = {}
    devices: tuple[_Device, ...]
    container_edits: Edits = Edits()


class Device(NamedTuple):
    """A device of this machine. `shared` edits hold once for all devices of the file it is from."""

    name: str
    annotations: Mapping[str, str]
    edits: Edits
    shared: Edits
    file: Path


class Registry(NamedTuple):
    """The `devices` by their qualified names, in order; `faults` are sentences on files that do not count."""

    devices: Mapping[str, Device]
    faults: tuple[str, ...]


def load(folders: Iterable[Path]) -> Registry:
    """Read all specifications in `folders`; one that cannot be read offers nothing and is a fault."""
    found: dict[str, Device] = {}
    faults: list[str] = []
    for folder in folders:
        here: dict[str, Device] = {}
        conflicts: set[str] = set()
        try:
            paths = _files(folder)
        except OSError as error:
            faults.append(f"CDI specifications in {folder}: {(error.strerror or 'cannot be read').lower()}")
            continue
        for path in paths:
            try:
                devices = list(_devices(path))
            except ValueError as error:
                faults.append(f"CDI specification {path}: {error}")
                continue
            for device in devices:
                if device.name in here:
                    conflicts.add(device.name)
                    faults.append(f"CDI device {device.name} is in {here[device.name].file} and in {path}")
                here[device.name] = device
        found.update(here)
        for name in conflicts:
            del found[name]
    return Registry({name: found[name] for name in sorted(found)}, tuple(faults))


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in (".json", ".yaml"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _devices(path: Path) -> Iterator[Device]:
    """The devices of one file; raises `ValueError` saying what is wrong with it."""
    try:
        document = _Document.model_validate(_read(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ValueError(f"{where}: {first['msg'].lower()}") from None
    if not _VERSION.match(document.cdi_version):
        raise ValueError(f"cdiVersion {document.cdi_version!r} is not known")
    if not _KIND.match(document.kind):
        raise ValueError(f"kind {document.kind!r} is not VENDOR/CLASS")
    if not document.devices:
        raise ValueError("there are no devices in it")
    names = [device.name for device in document.devices]
    for device in document.devices:
        if not _NAME.match(device.name):
            raise ValueError(f"{device.name!r} is no name for a device")
        if names.count(device.name) > 1:
            raise ValueError(f"two devices are called {device.name}")
        if device.container_edits == Edits():
            raise ValueError(f"device {device.name} has no containerEdits")
        yield Device(
            f"{document.kind}={device.name}",
            {**document.annotations, **device.annotations},
            device.container_edits,
            document.container_edits,
            path,
        )


def _read(path: Path) -> Any:
    """The document in `path`; raises `ValueError`."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ValueError((error.strerror or "cannot be read").lower()) from None
    try:
        return json.loads(text)  # JSON is YAML too, whatever the file is called
    except ValueError as error:
        if path.suffix == ".json":
            raise ValueError(f"no JSON: {error}") from None
    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise ValueError(
            "reading YAML needs PyYAML: pip install 'minibuild[devices]', or write the file as JSON"
        ) from None
    try:
        return _plain(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML: {' '.join(str(error).split())}") from None


def _plain(value: Any) -> Any:
    """`value` with the booleans of annotations as the text that they stand for, as Go reads them."""
    if isinstance(value, dict):
        return {
            name: {key: _text(one) for key, one in inner.items()}
            if name == "annotations" and isinstance(inner, dict)
            else _plain(inner)
            for name, inner in value.items()
        }
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _text(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else str(value)
