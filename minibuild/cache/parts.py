"""Two keys of one step compared part by part (the parts are those of `plan.keys`): what differs, in words."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from minibuild.cache.journal import Cause
from minibuild.credentials import redacted
from minibuild.values import NamedTuple

if TYPE_CHECKING:
    from minibuild.cache.listings import Listing

FindListing = Callable[[str], "Listing | None"]
"""Gives the files that a content digest covers, where they are known."""

UNKNOWN_SECRET = "?"
"""In place of what a secret was hashed to by another store."""

_SHOWN = 60
_PLAIN = {
    "user": "the user",
    "workdir": "the working directory",
    "path": "the path",
    "network": "the network mode",
    "security": "the security mode",
    "dest": "the destination",
    "chown": "--chown",
    "chmod": "--chmod",
    "link": "--link",
    "unpack": "--unpack",
    "platform": "the platform",
    "hostname": "the host name",
    "devices": "the devices",
    "exclude": "--exclude",
}
# Told by others: what a step builds on, and what has particulars of its own.
_TOLD = ("parent", "kind", "command", "mount ", "source ")


class Labels(NamedTuple):
    """What people know the parts by: `env` the variables that ENV set (others are ARGs), `items` the sources
    that are no paths (``{"source 0": "https://..."}``).
    """

    env: frozenset[str] = frozenset()
    items: Mapping[str, str] = {}


def listings_of(parts: Mapping[str, str]) -> list[str]:
    """The content digests among `parts` that a listing of files may stand behind."""
    found = []
    for name, value in parts.items():
        if name.startswith("source ") and not name.endswith(" name"):
            found.append(value)
        elif name.startswith("mount ") and value.startswith('["bind"'):
            found.append(json.loads(value)[1])
    return found


def own_cause(
    old: Mapping[str, str], new: Mapping[str, str], labels: Labels, listing: FindListing
) -> Cause | None:
    """What changed in the step itself; None where only what lies below it differs."""
    from minibuild.cache.listings import DETAILS

    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    found: list[Cause] = []
    if "kind" in changed:
        was, now = old.get("kind", ""), new.get("kind", "")
        return Cause("instruction", f"the instruction changed: {was.upper()} → {now.upper()}")
    if "command" in changed:
        found.append(_command(old["command"], new["command"]))
    causes, left = _sources(old, new, changed, labels, listing)
    found += causes
    if any(name.startswith("mount ") for name in changed):
        causes, more_left = _mounts(old, new, listing)
        found += causes
        left += more_left
    for name in changed:
        cause = _of_part(name, old, new, labels)
        if cause is not None:
            found.append(cause)
    if not found:
        return None
    told = (cause.details or ((cause.reason,) if cause is not found[0] else ()) for cause in found)
    details = tuple(redacted(line) for lines in told for line in lines)
    left += max(0, len(details) - DETAILS)
    if left:
        details = (*details[:DETAILS], f"... and {left} more")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Cause(found[0].kind, redacted(found[0].reason) + more, details)


def _of_part(name: str, old: Mapping[str, str], new: Mapping[str, str], labels: Labels) -> Cause | None:
    if name in _PLAIN:
        return _value(
            "option" if name not in ("user", "workdir", "platform") else name, _PLAIN[name], old, new, name
        )
    if name.startswith("env "):
        variable = name.removeprefix("env ")
        kind = "ENV" if variable in labels.env else "ARG"
        return _value(kind.lower(), f"{kind} {variable}", old, new, name)
    if name.startswith("host "):
        return _value("host", f"--add-host {name.removeprefix('host ')}", old, new, name)
    if name.startswith("secret "):
        return _secret(name, old, new)
    if name == "epoch":
        return _epoch(old.get(name, ""), new.get(name, ""))
    if name.startswith("volume "):
        return _value("mount", f"-v at {name.removeprefix('volume ')}", old, new, name)
    if name.startswith("source ") and name.endswith(" name"):
        return _value("source", "the source", old, new, name)
    return None if name.startswith(_TOLD) else _value("option", name, old, new, name)


def _value(kind: str, label: str, old: Mapping[str, str], new: Mapping[str, str], name: str) -> Cause:
    before, after = old.get(name), new.get(name)
    if before is None:
        return Cause(kind, f"{label} was added", (f"+ {label}: {after}",))
    if after is None:
        return Cause(kind, f"{label} was removed", (f"- {label}: {before}",))
    reason = f"{label} changed"
    if max(len(before), len(after)) <= _SHOWN and "\n" not in before + after:
        reason += f": {before or '(empty)'} → {after or '(empty)'}"
    return Cause(kind, reason, (f"- {label}: {before}", f"+ {label}: {after}"))


def _secret(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> Cause:
    # what its value was hashed to says nothing to people
    if old.get(name) == UNKNOWN_SECRET:
        return Cause("secret", f"only the store that made it knows whether {name} is the same")
    if name in old and name in new:
        return Cause("secret", f"{name} changed")
    return Cause("secret", f"the value of {name} counts {'now' if name in new else 'no longer'}")


def _epoch(before: str, after: str) -> Cause | None:
    # the second word is the time of the base image, which is told as a change of the base
    was, now = before.partition(" ")[0], after.partition(" ")[0]
    if was == now:
        return None
    return Cause("epoch", f"SOURCE_DATE_EPOCH changed: {was or '(unset)'} → {now or '(unset)'}")


def _command(before: str, after: str) -> Cause:
    was, now = _shown_command(before), _shown_command(after)
    if was == now:  # run by another shell
        was, now = shlex.join(json.loads(before)), shlex.join(json.loads(after))
    reason = "the command changed"
    if len(was) + len(now) <= 2 * _SHOWN and "\n" not in was + now:
        reason += f": {was} → {now}"
    return Cause("command", reason, _line_diff(was, now))


def _line_diff(before: str, after: str) -> tuple[str, ...]:
    lines = list(difflib.unified_diff(before.split("\n"), after.split("\n"), lineterm="", n=1))
    return tuple(line for line in lines[2:] if not line.startswith("@@"))


def _shown_command(text: str) -> str:
    args: list[str] = json.loads(text)
    return args[-1] if len(args) == 3 and args[1] == "-c" else shlex.join(args)


def _sources(
    old: Mapping[str, str],
    new: Mapping[str, str],
    changed: list[str],
    labels: Labels,
    listing: FindListing,
) -> tuple[list[Cause], int]:
    """What is copied: the files of all sources together, since a source may have changed its place.

    The number is that of differences between files that are not among the details.
    """
    names = [name for name in changed if name.startswith("source ") and not name.endswith(" name")]
    fetched = [name for name in names if name in labels.items]
    found = [
        Cause("source", f"{labels.items[name]} changed", (f"- {old.get(name)}", f"+ {new.get(name)}"))
        for name in fetched
        if name in old and name in new
    ]
    names = [name for name in names if name not in fetched or name not in old or name not in new]
    if not names:
        return found, 0
    from minibuild.cache.listings import files_cause

    before: list[Listing] = []
    after: list[Listing] = []
    for name in names:
        for parts, files in ((old, before), (new, after)):
            if name not in parts:
                continue
            listed = listing(parts[name])
            if listed is None:
                return [*found, Cause("files", "the files it copies changed")], 0
            files.append(listed)
    cause, left = files_cause(before, after) or (
        Cause("files", "the owners or attributes of its files changed"),
        0,
    )
    return [*found, cause], left


def _mounts(old: Mapping[str, str], new: Mapping[str, str], listing: FindListing) -> tuple[list[Cause], int]:
    """What changed of the mounts, by the path they are at: their place in the line matters less."""
    before, after = _by_target(old), _by_target(new)
    found = [
        _mount(target, before.get(target), after.get(target), listing)
        for target in sorted({*before, *after})
        if before.get(target) != after.get(target)
    ]
    if not found:
        return [Cause("mount", "the order of the mounts changed")], 0
    return [cause for cause, _ in found], sum(left for _, left in found)


def _by_target(parts: Mapping[str, str]) -> dict[str, str]:
    return {name.split(" ", 2)[2]: value for name, value in parts.items() if name.startswith("mount ")}


def _mount(target: str, before: str | None, after: str | None, listing: FindListing) -> tuple[Cause, int]:
    if before is None or after is None:
        return Cause("mount", f"the mount at {target} was {'added' if before is None else 'removed'}"), 0
    from minibuild.cache.listings import files_cause

    was, now = json.loads(before), json.loads(after)
    if was[0] == now[0] == "bind" and was[2:] == now[2:]:
        old, new = (listing(one[1]) for one in (was, now))
        files = files_cause([old], [new]) if old is not None and new is not None else None
        if files is None:
            return Cause("mount", f"what is mounted at {target} changed"), 0
        return Cause("mount", f"mounted at {target}: {files.cause.reason}", files.cause.details), files.left
    if was[0] == now[0] == "script":
        return Cause("command", "the command changed", _line_diff(was[1], now[1])), 0
    return Cause("mount", f"the mount at {target} changed", (f"- {before}", f"+ {after}")), 0
