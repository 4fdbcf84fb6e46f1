"""An operating system and processor (image-spec, image-index.md, platform)."""

from __future__ import annotations

import os
from dataclasses import dataclass

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
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}


@dataclass(frozen=True, slots=True)
class Platform:
    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """``os/arch[/variant]``, ``arch`` or ``os`` alone; raises `ValueError` on anything else."""
        host = cls.of_host()
        parts = text.lower().split("/")
        if not all(parts) or len(parts) > 3:
            raise ValueError(f"{text!r} is not a platform: want os/arch or os/arch/variant, as linux/amd64")
        if len(parts) == 1:
            if parts[0] in ("linux", "windows", "darwin", "freebsd"):
                return cls(parts[0], host.architecture, host.variant)
            parts.insert(0, "linux")
        os_name, architecture, variant = (*parts, "")[:3]
        if architecture == "armhf" and not variant:
            variant = "v7"
        architecture = _ALIASES.get(architecture, architecture)
        if architecture == "arm" and not variant:
            variant = "v7"
        if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
            variant = ""
        return cls(os_name, architecture, variant)

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
