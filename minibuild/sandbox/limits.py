"""What a process may use, and whom it asks for names: plain values."""

from __future__ import annotations

from typing import Final

from minibuild.values import dataclass

# Numbers of setrlimit(2), as on every architecture but alpha, mips and sparc.
ULIMITS: Final = {
    "cpu": 0,
    "fsize": 1,
    "data": 2,
    "stack": 3,
    "core": 4,
    "rss": 5,
    "nproc": 6,
    "nofile": 7,
    "memlock": 8,
    "as": 9,
    "locks": 10,
    "sigpending": 11,
    "msgqueue": 12,
    "nice": 13,
    "rtprio": 14,
    "rttime": 15,
}
UNLIMITED: Final = -1


@dataclass(frozen=True, slots=True)
class Dns:
    """What replaces the host's name servers, search list and options in /etc/resolv.conf, each if given."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def resolv_conf(self, host: str) -> str:
        """The file (resolv.conf(5)) made from the host's."""
        rows = [line.split() for line in host.splitlines() if line.split() and line[0] not in "#;"]
        kept = [
            " ".join(row)
            for row in rows
            if not (self.servers and row[0] == "nameserver")
            and not (self.search and row[0] in ("search", "domain"))
            and not (self.options and row[0] == "options")
        ]
        lines = [*kept, *(f"nameserver {server}" for server in self.servers)]
        if self.search and self.search != (".",):  # as docker has it, a dot stands for none
            lines.append("search " + " ".join(self.search))
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may use: bytes of /dev/shm, bytes of memory (with swap), processors; 0 for the usual.

    `ulimits` are name (of `ULIMITS`), soft and hard value, -1 for none.
    """

    shm_size: int = 0
    memory: int = 0
    cpus: float = 0.0
    ulimits: tuple[tuple[str, int, int], ...] = ()
