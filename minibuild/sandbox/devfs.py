"""What is in the /dev of a sandboxed process: a few devices of the host, links, terminals, shared memory."""

from __future__ import annotations

import os

from minibuild.sandbox import paths, syscalls

_SAFE = syscalls.ATTR_SAFE

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
)
# File system, its folder under /dev, mode, options (tried in order until one is accepted), attributes.
_MOUNTS = (
    (
        "devpts",
        "pts",
        0o755,
        (
            (("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")),
            (("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")),  # group 5 is not mapped
        ),
        syscalls.ATTR_NOSUID | syscalls.ATTR_NOEXEC,
    ),
    ("tmpfs", "shm", 0o1777, ((("mode", "1777"), ("size", "67108864")),), _SAFE),
    ("mqueue", "mqueue", 0o1777, ((),), _SAFE),
)


def fill(dev_fd: int, *, shm_size: int) -> None:
    """Fill the empty tmpfs `dev_fd`, attached already; `shm_size` in bytes, 0 for 64 MiB.

    Raises `OSError`.
    """
    for name in _DEVICES:
        bind_device(dev_fd, f"/dev/{name}", name)
    core = (("/proc/kcore", "core"),) if os.path.exists("/proc/kcore") else ()
    for source, name in (*_LINKS, *core):
        os.symlink(source, name, dir_fd=dev_fd)
    for fstype, name, mode, choices, attributes in _MOUNTS:
        os.mkdir(name, mode, dir_fd=dev_fd)
        if name == "shm" and shm_size:
            choices = ((("mode", "1777"), ("size", str(shm_size))),)
        _mount(dev_fd, fstype, name, choices, attributes)


def bind_device(dev_fd: int, source: str, name: str) -> None:
    """Show the host's device `source`, if there is one, as `name` in the folder `dev_fd`."""
    try:
        tree = syscalls.open_tree(syscalls.AT_FDCWD, source, f"bind {source}")
    except FileNotFoundError:
        return
    target = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666, dir_fd=dev_fd)
    syscalls.move_mount(tree, target, f"mount on /dev/{name}")
    os.close(target)
    os.close(tree)


def _mount(
    dev_fd: int,
    fstype: str,
    name: str,
    choices: tuple[tuple[tuple[str, str], ...], ...],
    attributes: int,
) -> None:
    failure: OSError | None = None
    for options in choices:
        try:
            fd = syscalls.new_mount(fstype, options, attributes, f"mount /dev/{name}")
        except OSError as error:
            failure = error
            continue
        target = paths.open_exact(dev_fd, name)
        syscalls.move_mount(fd, target, f"mount on /dev/{name}")
        os.close(target)
        os.close(fd)
        return
    if failure is not None and name != "mqueue":  # message queues may be left out of a kernel
        raise failure
