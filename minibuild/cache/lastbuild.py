"""What the steps of a build were made of, for a shared cache: a machine that never built says what changed.

Values of arguments and variables go along as hashes only, addresses without their passwords, and of the
hashes of files the first digits. The text is bounded: where it gets too long, the longest lists of files are
left out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minibuild.cache.builds import BuildRecord
from minibuild.cache.journal import Journal, StageRow, StepRow
from minibuild.cache.listings import DIGITS, shortened
from minibuild.cache.parts import UNKNOWN_SECRET, listings_of
from minibuild.credentials import redacted
from minibuild.values import NamedTuple

VERSION = 1
LARGEST = 512 << 10
"""Bytes of the text, at most."""

Files = Mapping[bytes, bytes]
"""Path to type, mode, owner and content."""

NOT_TOLD = "(not told)"
_MOST = 32 << 20  # unpacked


class SharedBuild(NamedTuple):
    """The last build that a shared cache knows of."""

    record: BuildRecord
    keys: Mapping[str, Mapping[str, str]]
    listings: Mapping[str, str]
    salt: str

    def parts(self, key: str, new: Mapping[str, str]) -> dict[str, str] | None:
        """The parts of `key`, to be compared with `new`: what was only hashed is there if it is equal."""
        known = self.keys.get(key)
        if known is None:
            return None
        parts = dict(known)
        for name in known:
            if name.startswith("env "):
                equal = name in new and known[name] == _hidden(self.salt, name, new[name])
                parts[name] = new[name] if equal else NOT_TOLD
            elif known[name] == redacted(new.get(name, "")):
                parts[name] = new[name]
        return parts

    def listing(self, content: str) -> Files | None:
        text = self.listings.get(content)
        if text is None:
            return None
        lines = (line.rpartition("\0") for line in text.split("\n") if line)
        return {_bytes(name): _bytes(rest) for name, _, rest in lines}


def write_build(journal: Journal, listing: Callable[[str], Files | None], *, most: int = LARGEST) -> str:
    """What `journal` noted, as text of up to `most` bytes; "" for a build without steps."""
    order = {stage.name: number for number, stage in enumerate(journal.stages)}
    rows = sorted(
        (row for row in journal.steps if row.parts), key=lambda row: (order.get(row.stage, -1), row.number)
    )
    if not rows:
        return ""
    salt = hashlib.sha256(" ".join(row.key for row in rows).encode()).hexdigest()[:16]
    steps = [
        [row.stage, row.number, row.name, row.instruction, row.key, _told(salt, row.parts or {})]
        for row in rows
    ]
    contents = dict.fromkeys(one for row in rows for one in listings_of(row.parts or {}))
    listings = {one: _text(found) for one in contents if (found := listing(one)) is not None}
    document = {
        "version": VERSION,
        "place": _place(journal.place),
        "salt": salt,
        "stages": [list(stage) for stage in journal.stages],
        "steps": steps,
    }
    return _bounded(document, listings, most)


def read_build(texts: Iterable[str], place: str, *, any_target: bool = False) -> SharedBuild | None:
    """The first of `texts` that is of the Dockerfile and target of `place`, wherever that was; or None.

    With `any_target` that of another target will do.
    """
    name, target = _place(place)
    for text in texts:
        try:
            found = _read(text)
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
            continue
        if found is None:
            continue
        found_name, _, found_target = found.record.place.partition("\n")
        if found_name == name and (any_target or found_target == target):
            return found
    return None


def _read(text: str) -> SharedBuild | None:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text, validate=True), _MOST)
    document: dict[str, Any] = json.loads(data)
    if document["version"] != VERSION:
        return None
    stages = tuple(
        StageRow(name, base, tuple(lines), tuple(waits), target, tuple(env))
        for name, base, lines, waits, target, env in document["stages"]
    )
    steps = tuple(
        StepRow(stage, number, name, text, key, False, 0.0, 0.0, 0.0, 0, "")
        for stage, number, name, text, key, _ in document["steps"]
    )
    place = "\n".join(document["place"])
    record = BuildRecord("", place, "", 0.0, 0.0, "done", "", "", (), stages, steps)
    keys = {key: {str(k): str(v) for k, v in parts.items()} for *_, key, parts in document["steps"]}
    listings = {str(content): str(lines) for content, lines in document["listings"].items()}
    return SharedBuild(record, keys, listings, str(document["salt"]))


def _bounded(document: dict[str, object], listings: dict[str, str], most: int) -> str:
    by_length = sorted(listings, key=lambda one: len(listings[one]))
    while True:
        data = json.dumps({**document, "listings": listings}, separators=(",", ":"), sort_keys=True).encode()
        text = base64.b64encode(zlib.compress(data, 6)).decode() if len(data) <= _MOST else ""
        if text and len(text) <= most:
            return text
        if not by_length:
            return ""
        del listings[by_length.pop()]


def _place(place: str) -> list[str]:
    """Dockerfile and target; the folder is another one on each machine."""
    _, name, target = place.split("\n")
    return [name.rpartition("/")[2] if name.startswith("/") else name, target]


def _told(salt: str, parts: Mapping[str, str]) -> dict[str, str]:
    told = dict(parts)
    for name, value in parts.items():
        if name.startswith("env "):
            told[name] = _hidden(salt, name, value)
        elif name.startswith("secret "):
            told[name] = UNKNOWN_SECRET
        else:
            told[name] = redacted(value)
    return told


def _hidden(salt: str, name: str, value: str) -> str:
    text = f"{salt} {name}={value}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:DIGITS]


def _text(listing: Files) -> str:
    lines = (name + b"\0" + shortened(rest) for name, rest in sorted(listing.items()))
    return b"\n".join(lines).decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
