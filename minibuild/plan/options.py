"""What a lowering is given: the caller's options, and where images come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from minibuild.oci.image import ResolvedImage
from minibuild.oci.platform import Platform
from minibuild.plan.steps import GitItem, Source, UrlItem
from minibuild.values import dataclass, field

EPOCH = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True, slots=True)
class Unset:
    """What to take away of what the base sets, ``*`` and ``?`` in the names matching.

    Volumes, ports (``80`` is ``80/tcp``), variables and labels.
    """

    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    entrypoint: bool = False


class Bases(Protocol):
    """Where images come from. Both raise a `MinibuildError` that names what is missing."""

    def image(self, name: str, platform: Platform) -> ResolvedImage:
        """The image called `name`, pinned."""

    def named_context(self, name: str, platform: Platform) -> Source | None:
        """What the caller gave under `name` (``--build-context``), or None; case does not matter."""

    def has_context(self, name: str) -> bool:
        """Whether the caller gave a context of that name."""

    def context_time(self, name: str, platform: Platform) -> int | None:
        """When what is behind a named context was made, in seconds; None where nothing tells."""

    def time_of(self, item: UrlItem | GitItem) -> int | None:
        """The same of something that ADD fetches."""


@dataclass(frozen=True, slots=True)
class LowerOptions:
    """What the caller asked for. `epoch` is SOURCE_DATE_EPOCH in seconds.

    `context_time` is what ``SOURCE_DATE_EPOCH=context`` stands for: the time of a git commit or a download.

    With `all_stages` those that the target does not need are lowered too. `no_cache_steps` names steps as
    `stepoptions.NoCacheSteps` has it; `unset` is taken from the image that the target is built on.
    """

    target: str = ""
    all_stages: bool = False
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target_platform: Platform = field(default_factory=Platform.of_host)
    build_platform: Platform = field(default_factory=Platform.of_host)
    explicit_platform: bool = False
    no_cache: bool = False
    no_cache_stages: tuple[str, ...] = ()
    no_cache_steps: tuple[str, ...] = ()
    unset: Unset | None = None
    hostname: str = ""
    network: str = ""
    cache_namespace: str = ""
    epoch: int | None = None
    context_time: int | None = None
