"""What a caller asks of the engine and what it answers: frozen values."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store.digest import Digest

from minibuild.errors import UsageError
from minibuild.exporters.image import ExportResult
from minibuild.exporters.spec import OutputSpec, parse_output
from minibuild.oci.config import ImageConfig
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.plan.options import Unset as Unset
from minibuild.registry.options import RegistryOptions
from minibuild.sandbox.limits import Dns, Limits
from minibuild.values import dataclass, field

if TYPE_CHECKING:
    from minibuild.cache.spec import CacheSpec
    from minibuild.exporters.annotations import Annotation
    from minibuild.sandbox.executor import Factory as ExecutorFactory


PULL_POLICIES = ("always", "missing", "newer", "never")
"""When a registry is asked for a base: always; if the store has none; always, though what the store has will
do if no registry answers; never."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's name and where its value comes from: a file, or the value itself (never shown).

    With `keyed` a step that mounts it runs again when its value changes.
    """

    id: str
    source: Path | None = None
    value: bytes | None = field(default=None, repr=False)
    keyed: bool = False


@dataclass(frozen=True, slots=True)
class SshAgent:
    """What RUN reaches as the ssh agent `id`: an agent's socket, or private keys without passphrases."""

    id: str = "default"
    socket: Path | None = None
    keys: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class HostVolume:
    """A folder or file of this machine that every RUN sees at `target`. No key knows what is in it."""

    source: Path
    target: str
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class AllowedDevice:
    """A device that RUN may ask for, "" for any; `alias` is what the Dockerfile then calls it."""

    name: str = ""
    alias: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build. `BuildRequest.of` makes one from texts as the command line takes them.

    What is built:

    - `context` is a folder or a tar archive, or None for a Dockerfile that needs none. `context_url` is
      fetched in its place: a git repository, an archive or a Dockerfile. `origin` is what messages call a
      context without a lasting name.
    - `dockerfile` is a path, by default ``Dockerfile`` in the context; inside one that is fetched.
      `dockerfile_text` (the text itself) or `dockerfile_url` (an address) take its place.
    - `ignorefile` counts in place of ``.dockerignore``. `contexts` are named contexts, as after ``NAME=``.
    - `pull` is one of `PULL_POLICIES`. `epoch` is SOURCE_DATE_EPOCH in seconds.

    How steps are executed:

    - At most `jobs` steps execute at once, 0 for no limit. With `keep_going` a step that fails stops only
      what needs it; the further errors are in `others` of the first.
    - `step_timeout` is in seconds. `cdi_spec_dirs` are where devices are described, not the usual folders.
    - `isolation` is what ``--isolation`` takes; `oci_runtime`, a name or a path, is what "oci" hands steps
      to, "" for crun or runc. `executor` makes something else that runs the processes of RUN.

    What the cache may give:

    - `no_cache_steps` are ``NUMBER``, ``STAGE:NUMBER`` or words of an instruction.
    - `cache_ttl` is how old a result may be (in seconds) where its step says nothing of that.

    What becomes of it:

    - `unset` is taken from what the target's base sets. `annotations` go to every image that is made.
    - `squash` makes one layer of all since the base ("new") or of the whole image ("all").
    - With `save_stages` the stages before the target are images too, named like it with -STAGE behind.
    """

    context: Path | None
    context_url: str = ""
    origin: str = ""
    dockerfile: Path | None = None
    dockerfile_text: bytes | None = None
    dockerfile_url: str = ""
    ignorefile: Path | None = None
    target: str = ""
    tags: tuple[Reference, ...] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    no_cache: bool = False
    no_cache_stages: tuple[str, ...] = ()
    no_cache_steps: tuple[str, ...] = ()
    cache_ttl: float | None = None
    save_stages: bool = False
    squash: str = ""
    jobs: int = 0
    keep_going: bool = False
    unset: Unset | None = None
    volumes: tuple[HostVolume, ...] = ()
    hostname: str = ""
    annotations: tuple[Annotation, ...] = ()
    pull: str = "missing"
    network: str = ""
    hosts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    ssh: tuple[SshAgent, ...] = ()
    ca_bundle: Path | None = None
    dns: Dns = Dns()
    limits: Limits = Limits()
    step_timeout: float | None = None
    contexts: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[OutputSpec, ...] = ()
    epoch: int | None = None
    registry: RegistryOptions = field(default_factory=RegistryOptions)
    isolation: str = "auto"
    executor: ExecutorFactory | None = None
    oci_runtime: str = ""
    allow_insecure: bool = False
    allow_devices: tuple[AllowedDevice, ...] = ()
    cdi_spec_dirs: tuple[Path, ...] = ()
    cache_from: tuple[CacheSpec, ...] = ()
    cache_to: tuple[CacheSpec, ...] = ()

    @classmethod
    def of(
        cls,
        context: str | Path | None,
        *,
        dockerfile: str | Path | None = None,
        dockerfile_text: str | bytes | None = None,
        target: str = "",
        tags: Iterable[str | Reference] = (),
        build_args: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        platform: str | Platform | None = None,
        secrets: Mapping[str, bytes | Path] | None = None,
        outputs: Iterable[str | OutputSpec] = (),
        cache_from: Iterable[str | CacheSpec] = (),
        cache_to: Iterable[str | CacheSpec] = (),
    ) -> BuildRequest:
        """A request from texts as the command line takes them. `dataclasses.replace` sets what else there is.

        `outputs`, `cache_from` and `cache_to` are values of the options of that name. Raises `UsageError`.
        """
        several = {"tags": tags, "outputs": outputs, "cache_from": cache_from, "cache_to": cache_to}
        for name, values in several.items():
            if isinstance(values, str):  # which would be taken letter by letter
                raise UsageError(f"{name}={values!r} is one text", cure=f"Write {name}=[{values!r}].")
        text = dockerfile_text.encode() if isinstance(dockerfile_text, str) else dockerfile_text
        return cls(
            context=None if context is None else Path(context),
            dockerfile=None if dockerfile is None else Path(dockerfile),
            dockerfile_text=text,
            target=target,
            tags=tuple(Reference.parse(tag) if isinstance(tag, str) else tag for tag in tags),
            build_args=dict(build_args or {}),
            labels=dict(labels or {}),
            platform=platform_of(platform) if isinstance(platform, str) else platform,
            secrets=tuple(
                Secret(name, source=value) if isinstance(value, Path) else Secret(name, value=value)
                for name, value in (secrets or {}).items()
            ),
            outputs=tuple(parse_output(one) if isinstance(one, str) else one for one in outputs),
            cache_from=_caches(cache_from, "--cache-from"),
            cache_to=_caches(cache_to, "--cache-to"),
        )


def platform_of(text: str) -> Platform:
    """``OS/ARCH[/VARIANT]``; raises `UsageError`."""
    try:
        return Platform.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _caches(caches: Iterable[str | CacheSpec], option: str) -> tuple[CacheSpec, ...]:
    caches = tuple(caches)
    if not caches:
        return ()
    from minibuild.cache.spec import parse_cache

    export = option == "--cache-to"
    return tuple(parse_cache(one, option, export=export) if isinstance(one, str) else one for one in caches)


@dataclass(frozen=True, slots=True)
class StepReport:
    """How one step went; `reason` says why it was not cached, "" where it was, and `details` what changed.

    `kind` is the reason as a word for programs (`StepMissed.kind`).
    """

    name: str
    cached: bool
    seconds: float
    bytes: int
    reason: str = ""
    details: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The image: its manifest's and configuration's digests, what was exported, how each step went.

    `build` is the ID of the record that the build left.
    """

    manifest: Digest
    image_id: Digest
    config: ImageConfig
    tags: tuple[Reference, ...]
    exports: tuple[ExportResult, ...]
    steps: tuple[StepReport, ...]
    build: str = ""


def default_root(environ: Mapping[str, str]) -> Path:
    """Where the store is: ``$MINIBUILD_ROOT``, else below ``$XDG_DATA_HOME`` or ``~/.local/share``."""
    if environ.get("MINIBUILD_ROOT"):
        return Path(environ["MINIBUILD_ROOT"])
    base = environ.get("XDG_DATA_HOME", "")
    if not base.startswith("/"):
        home = environ.get("HOME") or os.path.expanduser("~")
        base = os.path.join(home, ".local", "share")
    return Path(base) / "minibuild"
