"""An operating system and processor (image-spec, image-index.md, platform)."""

from __future__ import annotations

import os
import re

from minibuild.values import dataclass

_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386"}
_SYSTEMS = ("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "wasip1")
_PROCESSORS = (
    *("386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le"),
    *("ppc64", "ppc64le", "riscv64", "s390x", "wasm"),
)
_PART = r"[a-z0-9_.-]+\Z"


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on, as Go names it: `os` linux, `architecture` arm64, `variant` v8 or ""."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """``os/arch[/variant]``, ``arch`` or ``os`` alone; raises `ValueError` on anything else."""
        host = cls.of_host()
        parts = text.lower().split("/")
        if len(parts) <= 3 and all(re.match(_PART, part) for part in parts):
            if len(parts) > 1:
                os_name, architecture, variant = (*parts, "")[:3]
                return cls(os_name, architecture, variant).normal()
            os_name = "darwin" if parts[0] == "macos" else parts[0]
            if os_name in _SYSTEMS:
                return cls(os_name, host.architecture, host.variant)
            alone = cls("linux", parts[0]).normal()
            if alone.architecture in _PROCESSORS:
                return alone
        raise ValueError(f"{text!r} is not a platform: want os/arch or os/arch/variant, as linux/amd64")

    def normal(self) -> Platform:
        """The same platform by its usual names, default variants left out (containerd's ``Normalize``)."""
        architecture, variant = self.architecture, self.variant
        if architecture in ("armhf", "armel"):
            architecture, variant = "arm", "v7" if architecture == "armhf" else "v6"
        architecture = _ALIASES.get(architecture, architecture)
        if architecture in ("arm", "arm64") and variant[:1].isdigit():
            variant = f"v{variant}"
        if architecture == "arm" and not variant:
            variant = "v7"
        if (architecture, variant) in (("arm64", "v8"), ("arm64", "v8.0"), ("amd64", "v1")):
            variant = ""
        return Platform("darwin" if self.os == "macos" else self.os, architecture, variant)

    @classmethod
    def of_host(cls) -> Platform:
        """This machine's own platform."""
        architecture, variant = _MACHINES.get(os.uname().machine, (os.uname().machine, ""))
        return cls("linux", architecture, variant)

    def to_json(self) -> dict[str, object]:
        document: dict[str, object] = {"architecture": self.architecture, "os": self.os}
        if self.variant:
            document["variant"] = self.variant
        return document

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
