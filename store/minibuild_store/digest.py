"""The name of a content: algorithm and hex, as in the OCI image specification (descriptor.md, Digests)."""

from __future__ import annotations

from minibuild_store.errors import InvalidDigest
from minibuild_store.shorthash import sha256

_DIGITS = {"sha256": 64, "sha512": 128}


class Digest(str):
    """``algorithm:hex``. A plain string to everything that serialises, a checked value to us."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Check `text` and return it as a digest; raises `InvalidDigest`."""
        algorithm, _, digits = text.partition(":")
        if len(digits) == _DIGITS.get(algorithm) and not digits.strip("0123456789abcdef"):
            return cls(text)
        raise InvalidDigest(text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The SHA-256 digest of `data`."""
        return cls("sha256:" + sha256(data).hexdigest())

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The first twelve hex digits, for people."""
        return self.hex[:12]
