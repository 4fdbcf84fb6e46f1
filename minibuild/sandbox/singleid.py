"""The user namespace of an ordinary user to whom the machine gives no further ids: one id, shown as root.

Everything a build makes belongs to that id on disk. Who it is meant to belong to is recorded beside
(`layers.owners`, `sandbox.notify`). A run whose USER is not root gets a namespace of its own inside,
in which the one id has that user's number: there no call has to be pretended.
"""

from __future__ import annotations

import _socket
import os

from minibuild.layers import owners
from minibuild.sandbox import caps, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable

    from minibuild.sandbox.users import User

# In /dev, which is ours in every run: nothing of it can stay in a layer.
APT_CONFIG = "/dev/apt.conf"
_APT_SETTING = 'APT::Sandbox::User "root";\n'

_state: dict[str, Single | None] = {"single": None}


def active() -> bool:
    """Whether this process can give files to nobody: it, or one it was forked from, made a `Single`."""
    return _state["single"] is not None


def give(file: int | str, uid: int, gid: int) -> None:
    """chown(2), or what stands for it here."""
    if active():
        owners.record(file, (uid, gid))
    else:
        os.chown(file, uid, gid)


def apt_config(env: tuple[tuple[str, str], ...]) -> bytes:
    """A configuration by which apt does not change to a user of its own, which would not be real."""
    own = dict(env).get("APT_CONFIG", "")
    return (f'#include "{own}";\n' if own else "").encode("utf-8", "surrogateescape") + _APT_SETTING.encode()


def enter() -> None:
    """Move this process into a user namespace in which its own id is root; raises `OSError`."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER, "make a user namespace")
    _map(0, 0, uid, gid)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _map(uid: int, gid: int, outer_uid: int, outer_gid: int) -> None:
    """Map the one id of this process's new user namespace."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {outer_uid} 1"),
        ("gid_map", f"{gid} {outer_gid} 1"),
    ):
        try:
            fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise OSError(error.errno, f"map the user's own id ({name}): {error.strerror}") from None


class Single:
    """What the holder and its supervisor share; made before the holder forks."""

    def __init__(self) -> None:
        # Not loaded where it is not needed: the holder's start is paid by every build.
        from minibuild.sandbox import notify

        self._notify = notify
        self._filters = notify.Filters()
        self._theirs, self._intake = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        _state["single"] = self

    def write_out(self, upper: str) -> None:
        """Have all that is known of the run whose changes are in `upper` where `true_owners` looks."""
        self._notify.write_out(self._intake, upper)

    def supervise(self, poll: select.poll) -> Callable[[int, int], None]:
        """In the supervisor: register what it waits for; the call to make with what poll returns."""
        self._intake.close()
        return self._notify.Supervisor(self._theirs, poll).ready

    def drop_rights(
        self, user: User, upper: str, last_capability: int, *, insecure: bool, apart: bool
    ) -> None:
        """In a run, before execve: become its user as far as possible, and have its calls supervised.

        With `apart` root gets a user namespace of the run's own too (see `apart`).
        """
        ids = (user.uid, user.gid, *user.groups)
        if apart or ids[:2] != owners.ROOT:
            syscalls.unshare(syscalls.CLONE_NEWUSER, f"make a user namespace for user {user.uid}")
            _map(user.uid, user.gid, 0, 0)
        if insecure:
            syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
        else:
            caps.limit_bounding(last_capability)
        listener = self._filters.load(root=user.uid == 0, confined=not insecure)
        self._notify.hand_over(self._intake, listener, upper, ids)


def true_owners(upper: str, lowers: tuple[str, ...], lower: str | None) -> owners.Reader:
    """What tells the owners in `upper`, and in its `lowers`, which are seen together in `lower`."""
    single = _state["single"]
    if single is not None:
        single.write_out(upper)
    user = owners.Table.load(upper).user
    if user != owners.ROOT:
        owners.settle(upper, lower, user)
    return owners.Reader(upper, lowers)
