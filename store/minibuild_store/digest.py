"""The name of a content: algorithm and hex, as in the OCI image specification (descriptor.md, Digests)."""

from __future__ import annotations

import hashlib
import re

from minibuild_store.errors import InvalidDigest

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}\Z")
_SHA512 = re.compile(r"sha512:[0-9a-f]{128}\Z")


class Digest(str):
    """``algorithm:hex``. A plain string to everything that serialises, a checked value to us."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Check `text` and return it as a digest; raises `InvalidDigest`."""
        if _SHA256.match(text) or _SHA512.match(text):
            return cls(text)
        raise InvalidDigest(text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The SHA-256 digest of `data`."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

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
