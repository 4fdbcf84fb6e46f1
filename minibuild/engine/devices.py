"""RUN --device: which devices of this machine a step may have, and what its process sees of them.

Names are resolved and allowed as BuildKit does (solver/llbsolver: cdidevices/manager.go, vertex.go).
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from minibuild.engine import cdi
from minibuild.engine.request import AllowedDevice
from minibuild.engine.session import Session
from minibuild.errors import DockerfileError, UsageError
from minibuild.plan.steps import DeviceWish
from minibuild.sandbox.spec import DeviceMount, FolderMount, Mount
from minibuild.values import NamedTuple

_CLASS = "org.mobyproject.buildkit.device.class"
_AUTO_ALLOW = "org.mobyproject.buildkit.device.autoallow"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_MOUNT_OPTIONS = frozenset(("bind", "rbind", "ro", "rw", "nosuid", "nodev", "private", "rprivate"))
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class Given(NamedTuple):
    """What a process sees of its devices: variables, mounts, and groups that it is in."""

    env: tuple[tuple[str, str], ...]
    mounts: tuple[Mount, ...]
    groups: tuple[int, ...]


class Devices:
    """The devices that a build's RUNs may ask for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._allowed = session.request.allow_devices
        self._folders = session.request.cdi_spec_dirs or cdi.SPEC_DIRS
        self._registry = cdi.load(self._folders)
        for fault in self._registry.faults:
            session.notice("warning", fault)

    def granted(self, wishes: Sequence[DeviceWish]) -> tuple[str, ...]:
        """The qualified names of what `wishes` come to, each once.

        Raises `DockerfileError` where a required one is missing, or one is not allowed.
        """
        names: list[str] = []
        for wish in wishes:
            aliased = next((one.name for one in self._allowed if one.alias == wish.name), "")
            found = self._matching(aliased or wish.name)
            if not found:
                self._missing(wish)
            if not aliased:
                self._check_allowed(found)
            names += found
        return tuple(dict.fromkeys(names))

    def _matching(self, name: str) -> list[str]:
        """The devices called `name`: ``KIND=NAME``, ``KIND=*``, the first of ``KIND``, or all of a class."""
        kind, _, device = name.partition("=")
        found = []
        if "/" in kind.strip("/"):
            of_kind = [one for one in self._registry.devices if one.startswith(f"{kind}=")]
            match device:
                case "":
                    found = of_kind[:1]
                case "*":
                    found = of_kind
                case _:
                    found = [one for one in of_kind if one == name]
        return found or [
            one for one, offered in self._registry.devices.items() if offered.annotations.get(_CLASS) == name
        ]

    def _missing(self, wish: DeviceWish) -> None:
        if wish.required:
            offered = ", ".join(self._registry.devices)
            where = ", ".join(map(str, self._folders))
            raise DockerfileError(
                f"required device {wish.name!r} is not registered",
                cure=f"{where} offer {offered}."
                if offered
                else f"No CDI specification in {where} offers any"
                " device; name a folder that does with --cdi-spec-dir.",
            )
        self._session.notice("warning", f"optional device {wish.name!r} is not registered")

    def _check_allowed(self, found: Iterable[str]) -> None:
        if any(not one.name for one in self._allowed):
            return
        granted = [name for one in self._allowed if not one.alias for name in self._allowed_names(one)]
        forbidden = [name for name in found if name not in granted and not self._auto_allowed(name)]
        if forbidden:
            these = "device" if len(forbidden) == 1 else "devices"
            verb = "is" if len(forbidden) == 1 else "are"
            raise DockerfileError(
                f"{these} {', '.join(forbidden)} {verb} requested by the build but not allowed",
                cure=f"Allow it with --allow device={forbidden[0]}, or all of them with --allow device.",
            )

    def _allowed_names(self, allowed: AllowedDevice) -> list[str]:
        found = self._matching(allowed.name)
        if not found:
            raise UsageError(
                f"--allow device={allowed.name}: this device is not registered",
                cure=f"Registered are {', '.join(self._registry.devices) or 'none'}.",
            )
        return found

    def _auto_allowed(self, name: str) -> bool:
        return self._registry.devices[name].annotations.get(_AUTO_ALLOW, "") in _TRUE

    def given(self, names: Sequence[str]) -> Given:
        """What a process gets with the devices `names`. Raises `DockerfileError` for what cannot be had."""
        devices = [self._registry.devices[name] for name in names]
        shared = {device.file: device for device in devices}
        edits = [(device.name, device.shared) for device in shared.values()]
        edits += [(device.name, device.edits) for device in devices]
        env: dict[str, str] = {}
        mounts: list[Mount] = []
        groups: list[int] = []
        makes_nodes = self._session.sandbox().makes_devices
        for name, edit in edits:
            if edit.others:
                raise DockerfileError(
                    f"device {name} needs {' and '.join(edit.others)}, which RUN does not have:"
                    " env, deviceNodes, mounts and additionalGids it does",
                    cure="Offer the device by a CDI specification without them, in a folder of its own:"
                    " --cdi-spec-dir.",
                )
            env.update(text.partition("=")[::2] for text in edit.env)
            mounts += [_node(name, node, makes_nodes) for node in edit.device_nodes]
            mounts += [self._mount(name, mount) for mount in edit.mounts]
            groups += edit.additional_gids
        return Given(tuple(env.items()), tuple(mounts), tuple(group for group in groups if group))

    def _mount(self, name: str, mount: cdi.Mount) -> Mount:
        if self._session.sandbox().lends_folders:
            raise DockerfileError(
                f"device {name} comes with {mount.host_path}, and isolation chroot cannot mount it",
                cure="Use a machine where namespaces work: minibuild doctor tells what is in the way.",
            )
        unknown = [option for option in mount.options if option not in _MOUNT_OPTIONS]
        if mount.type not in ("", "none", "bind") or unknown:
            what = f"type {mount.type}" if not unknown else f"option {unknown[0]}"
            raise DockerfileError(
                f"device {name}: no mount of {what} at {mount.container_path}",
                cure=f"A CDI specification may bind, with {', '.join(sorted(_MOUNT_OPTIONS))}.",
            )
        if not os.path.exists(mount.host_path):
            raise _absent(name, mount.host_path)
        return FolderMount(_target(mount.container_path), Path(mount.host_path), "ro" in mount.options)


def _node(name: str, node: cdi.DeviceNode, makes_nodes: bool) -> DeviceMount:
    """The node as a mount, completed by the host's own one as far as the specification says nothing."""
    source = node.host_path or node.path
    kind, major, minor, mode = _KINDS.get(node.type, 0), node.major, node.minor, node.file_mode
    complete = bool(kind and (major or kind == stat.S_IFIFO))
    try:
        found = os.stat(source)
    except OSError:
        if not (complete and makes_nodes):
            raise _absent(name, source) from None
    else:
        there = stat.S_IFMT(found.st_mode)
        if there not in _KINDS.values() or (kind and kind != there and not complete):
            raise DockerfileError(
                f"device {name}: {source} is not the device node that its specification says",
                cure="Write that specification again with the tool that made it.",
            )
        mode = stat.S_IMODE(found.st_mode) if mode is None else mode
        if not complete:
            kind, major, minor = there, os.major(found.st_rdev), os.minor(found.st_rdev)
    mode = 0o666 if mode is None else mode & 0o777
    return DeviceMount(_target(node.path), Path(source), kind | mode, major, minor, node.uid, node.gid)


def _absent(name: str, path: str) -> DockerfileError:
    return DockerfileError(
        f"device {name} needs {path}, which is not on this machine",
        cure="Write its CDI specification again with the tool that made it.",
    )


def _target(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/")
