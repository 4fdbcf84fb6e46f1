"""User and group names of an image, from its own passwd and group files (passwd(5), group(5))."""

from __future__ import annotations

from collections.abc import Callable

from minibuild.context.place import Owner

_MAX_ID = 2**31 - 1


def owner_of(text: str, read: Callable[[bytes], bytes | None]) -> tuple[Owner, list[str]]:
    """The owner that ``user[:group]`` names, and the names that are not in the files; `read` gives those.

    A user by name brings its own group, a user by number the group of the same number. As BuildKit has
    it, an unknown user is root, an unknown group changes nothing, and an empty one is 0.
    """
    user, colon, group_name = text.partition(":")
    unknown: list[str] = []
    uid = gid = 0
    number = _number(user)
    if number is not None:
        uid = gid = number
    else:
        found = _field(read(b"etc/passwd"), user, (2, 3))
        if found is None:
            unknown.append(user)
        else:
            uid, gid = found
    if colon:
        number = _number(group_name)
        entry = (number,) if number is not None else _field(read(b"etc/group"), group_name, (2,))
        if entry is None:
            unknown.append(group_name)
        else:
            gid = entry[0]
    return Owner(uid, gid), unknown


def _number(text: str) -> int | None:
    """The id that `text` is, without a look at any file."""
    if text in ("", "root"):
        return 0
    if not text.isascii() or not text.isdigit() or int(text) > _MAX_ID:
        return None
    return int(text)


def _field(table: bytes | None, name: str, columns: tuple[int, ...]) -> tuple[int, ...] | None:
    wanted = name.encode("utf-8", "surrogateescape")
    for line in (table or b"").splitlines():
        fields = line.split(b":")
        if fields[0] == wanted and len(fields) > max(columns):
            try:
                return tuple(int(fields[column]) for column in columns)
            except ValueError:
                continue
    return None
