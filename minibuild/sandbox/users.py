"""Users of an image: its passwd and group files read by plain parsing, as runc reads them.

Never through the C library: a name service lookup would load modules out of the image.
Rules: opencontainers/runc and moby/sys `user.GetExecUser`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class User:
    """A resolved user: ids, supplementary groups (the primary one among them) and home folder."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


_MAX_ID = (1 << 31) - 1


class UnknownUser(Exception):
    """The user or group that was asked for is not in the image."""


def _rows(text: bytes | None, columns: int) -> Iterator[list[str]]:
    for line in (text or b"").split(b"\n"):
        line = line.strip()
        if line and not line.startswith(b"#"):
            row = line.decode("utf-8", "surrogateescape").split(":")
            yield row + [""] * (columns - len(row))


def _number(text: str) -> int | None:
    """`text` as an id, None where it is a name; raises `UnknownUser` outside 0 to 2^31-1."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(text) if len(text) < 20 else -1
    if not 0 <= number <= _MAX_ID:
        raise UnknownUser(f"uids and gids must be in range 0-{_MAX_ID}, got {text}")
    return number


def _id(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def resolve(spec: str, passwd: bytes | None, group: bytes | None) -> User:
    """Who `spec` (``name|uid[:group|gid]``, "" for root) is by the image's files (None: no such file).

    Supplementary groups only where no group is named, and the primary group among them; a uid that
    passwd does not list has group 0 and home "/". Raises `UnknownUser`.
    """
    user_name, _, group_name = (spec or "0").partition(":")
    user_name = user_name or "0"
    uid = _number(user_name)
    rows = list(_rows(passwd, 7))
    row = next((row for row in rows if (row[0] == user_name if uid is None else _id(row[2]) == uid)), None)
    if row is None and uid is None:
        raise UnknownUser(f"unable to find user {user_name}: no matching entries in passwd file")
    if uid is None:
        assert row is not None
        uid = _id(row[2])
    gid = _id(row[3]) if row else 0
    groups: tuple[int, ...] = ()
    if group_name:
        gid = _group_id(group_name, group)
    elif row:
        groups = tuple(_id(found[2]) for found in _rows(group, 4) if row[0] in found[3].split(","))
    if gid not in groups:
        groups = (gid, *groups)
    # The home folder goes by number, as runc has it: two names of one uid share the first one's.
    home = next((found[5] for found in rows if _id(found[2]) == uid), "/")
    return User(uid, gid, groups, home)


def _group_id(name: str, group: bytes | None) -> int:
    number = _number(name)
    if number is not None:
        return number
    for row in _rows(group, 4):
        if row[0] == name:
            return _id(row[2])
    raise UnknownUser(f"unable to find group {name}: no matching entries in group file")
