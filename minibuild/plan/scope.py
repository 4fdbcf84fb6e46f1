"""Variables: what an instruction sees, what ARG and ENV change, what a RUN is given."""

from __future__ import annotations

from collections.abc import Mapping

from minibuild.oci.platform import Platform
from minibuild.values import dataclass, field

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PROXY_NAMES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
# Answered to the frontend, never seen by a RUN (dockerfile2llb, nonEnvArgs).
_NOT_IN_ENVIRONMENT = ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")


def platform_args(
    build: Platform, target: Platform, stage: str, overrides: Mapping[str, str]
) -> dict[str, str]:
    """The predefined platform ARGs of the global scope."""
    values = {
        "BUILDPLATFORM": str(build),
        "BUILDOS": build.os,
        "BUILDOSVERSION": "",
        "BUILDARCH": build.architecture,
        "BUILDVARIANT": build.variant,
        "TARGETPLATFORM": str(target),
        "TARGETOS": target.os,
        "TARGETOSVERSION": "",
        "TARGETARCH": target.architecture,
        "TARGETVARIANT": target.variant,
        "TARGETSTAGE": stage or "default",
    }
    return {name: overrides.get(name, value) for name, value in values.items()}


def proxy_variables(build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Proxy settings given as build arguments, for RUN in both spellings; sorted."""
    found: dict[str, str] = {}
    for name in sorted(build_args):
        if name.lower() in _PROXY_NAMES:
            found[name.lower()] = build_args[name]
    return tuple(
        sorted(pair for name, value in found.items() for pair in ((name, value), (name.upper(), value)))
    )


@dataclass(slots=True)
class Scope:
    """The variables of one stage while it is lowered.

    `variables` are what expansion and RUN see (ENV and ARG alike, the later instruction winning);
    `args` are the declared ARGs in order, for history; `image_env` is what the image keeps.
    """

    variables: dict[str, str] = field(default_factory=dict)
    args: dict[str, str | None] = field(default_factory=dict)
    image_env: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(
        default_factory=dict, compare=False, repr=False
    )  # of names in `image_env`

    def inherit(self) -> Scope:
        """A scope for a stage that starts from this one."""
        return Scope(dict(self.variables), dict(self.args), list(self.image_env))

    def set_env(self, name: str, value: str) -> None:
        self.variables[name] = value
        entry = f"{name}={value}"
        if not self._places:
            for place, existing in enumerate(self.image_env):
                self._places.setdefault(existing.partition("=")[0], place)
        place = self._places.setdefault(name, len(self.image_env))
        self.image_env[place : place + 1] = [entry]

    def set_arg(self, name: str, value: str | None) -> None:
        if value is not None and name not in _NOT_IN_ENVIRONMENT:
            self.variables[name] = value
        self.args[name] = value

    def arg_prefix(self) -> str:
        """The ``|2 a=1 b=2`` that history puts before a RUN's command, or nothing."""
        if not self.args:
            return ""
        pairs = [f"{name}={self.variables.get(name, value or '')}" for name, value in self.args.items()]
        return " ".join([f"|{len(pairs)}", *pairs])
