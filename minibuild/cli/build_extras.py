"""Options of ``minibuild build`` that no other builder has, or that change what others' files say."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from minibuild.engine.request import AllowedDevice, HostVolume, Unset
from minibuild.errors import UsageError
from minibuild.exporters.annotations import Annotation, Level, parse_annotation


def arg_files(names: Iterable[str] | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The build arguments in files of ``KEY=VALUE`` lines; a bare KEY takes its value from `environ`.

    Empty lines and lines that begin with ``#`` do not count. Values are taken as they are, quotes too.
    Raises `UsageError`.
    """
    found: dict[str, str] = {}
    for name in names or ():
        try:
            text = Path(name).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"--build-arg-file {name}: {reason}", cure="Check the path.") from None
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            key, equals, value = line.strip().partition("=")
            if not key or any(character.isspace() for character in key):
                raise UsageError(
                    f"--build-arg-file {name}, line {number}: {line.strip()!r} has no name before a =",
                    cure="Write a KEY=VALUE on each line; lines with # are comments.",
                )
            if equals:
                found[key] = value
            elif key in environ:
                found[key] = environ[key]
    return found


def extra_fields(entrypoint: bool, *given: list[str] | None) -> dict[str, Any]:
    """The fields of a `BuildRequest` for ``-v``, ``--annotation`` and ``--unset-*``. Raises `UsageError`.

    `given` are volumes, annotations, and what is to be unset: variables, labels, volumes, ports.
    """
    volumes, annotations, env, labels, paths, ports = given
    names = (tuple(paths or ()), tuple(ports or ()), tuple(env or ()), tuple(labels or ()))
    return {
        "volumes": tuple(volume(text) for text in volumes or ()),
        "annotations": tuple(one for text in annotations or () for one in annotation(text)),
        "unset": Unset(*names, entrypoint) if any(names) or entrypoint else None,
    }


def allowances(allow: Iterable[str], spec_dirs: Iterable[str]) -> dict[str, Any]:
    """The fields of a `BuildRequest` for ``--allow`` and ``--cdi-spec-dir``. Raises `UsageError`."""
    devices: list[AllowedDevice] = []
    insecure = False
    for word in allow:
        key, _, rest = word.partition("=")
        if key == "device":
            devices.append(_device(word, rest))
        elif word == "security.insecure":
            insecure = True
        elif word != "network.host":
            raise UsageError(
                f"--allow {word}", cure="Known are security.insecure, network.host, device and device=NAME."
            )
    folders = tuple(Path(name) for name in spec_dirs)
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--cdi-spec-dir {folder}: no such folder", cure="Name one with CDI files.")
    return {"allow_insecure": insecure, "allow_devices": tuple(devices), "cdi_spec_dirs": folders}


def _device(word: str, text: str) -> AllowedDevice:
    """``NAME[,alias=WORD]``, or nothing for all devices."""
    name, *options = text.split(",")
    alias = ""
    for option in options:
        key, _, alias = option.partition("=")
        if key != "alias" or not alias or not name:
            raise UsageError(f"--allow {word}", cure="Write device=VENDOR/CLASS=NAME[,alias=WORD].")
    return AllowedDevice(name, alias)


def volume(text: str) -> HostVolume:
    """``HOST:CONTAINER[:ro|rw]``, both absolute or HOST relative to this folder. Raises `UsageError`."""
    parts = text.split(":")
    mode = parts.pop() if len(parts) == 3 else "rw"
    if len(parts) != 2 or not all(parts) or mode not in ("ro", "rw") or not parts[1].startswith("/"):
        raise UsageError(
            f"-v {text}: not HOST:CONTAINER or HOST:CONTAINER:ro",
            cure="Name a folder of this machine and an absolute path, as in -v ./cache:/cache:ro.",
        )
    target = "/" + os.path.normpath(parts[1]).lstrip("/")
    if target == "/":
        raise UsageError(f"-v {text}: nothing can be mounted on /", cure="Mount below the root.")
    source = Path(os.path.abspath(os.path.expanduser(parts[0])))
    if not source.exists():
        raise UsageError(f"-v {text}: there is no {source}", cure="Make it first.")
    return HostVolume(source, target, mode == "ro")


def annotation(text: str) -> list[Annotation]:
    """``[LEVEL[,LEVEL]:]KEY=VALUE`` as docker has it, the levels with ``[PLATFORM]`` where one is meant."""
    head, colon, rest = text.partition(":")
    levels = head.split(",")
    if not colon or "=" in head or any(level.partition("[")[0] not in tuple(Level) for level in levels):
        levels, rest = ["manifest"], text
    key, equals, value = rest.partition("=")
    found = [parse_annotation(f"annotation-{level}.{key}", value) for level in levels]
    if not equals or not key or None in found:
        raise UsageError(f"--annotation {text}: not KEY=VALUE", cure="Write it as --annotation KEY=VALUE.")
    return [one for one in found if one is not None]
