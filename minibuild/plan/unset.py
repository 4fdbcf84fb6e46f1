"""What the caller takes away of what a base image sets: ``--unset-env`` and its kind."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from minibuild.oci.config import ImageConfig
from minibuild.plan.options import Unset
from minibuild.values import replace


def without(config: ImageConfig, unset: Unset) -> tuple[ImageConfig, list[str]]:
    """`config` without what `unset` names, and a sentence for each name that it does not set."""
    idle: list[str] = []

    def kept(
        option: str, names: Iterable[str], patterns: tuple[str, ...], form: Callable[[str], str]
    ) -> set[str]:
        names = list(names)
        forms = [form(pattern) for pattern in patterns]
        for pattern, formed in zip(patterns, forms, strict=True):
            if not any(fnmatchcase(name, formed) for name in names):
                idle.append(f"--unset-{option} {pattern}: the base sets none of that name")
        return {name for name in names if not any(fnmatchcase(name, formed) for formed in forms)}

    volumes = kept("volume", config.volumes, unset.volumes, _folder)
    ports = kept("expose", config.exposed_ports, unset.ports, _port)
    env = kept("env", (entry.partition("=")[0] for entry in config.env), unset.env, str)
    labels = kept("label", config.labels, unset.labels, str)
    if unset.entrypoint and not config.entrypoint:
        idle.append("--unset-entrypoint: the base sets none")
    return (
        replace(
            config,
            volumes=tuple(path for path in config.volumes if path in volumes),
            exposed_ports=tuple(port for port in config.exposed_ports if port in ports),
            env=tuple(entry for entry in config.env if entry.partition("=")[0] in env),
            labels={name: value for name, value in config.labels.items() if name in labels},
            entrypoint=None if unset.entrypoint else config.entrypoint,
        ),
        idle,
    )


def _folder(path: str) -> str:
    return posixpath.normpath(path)


def _port(text: str) -> str:
    return text if "/" in text or text == "*" else f"{text}/tcp"
