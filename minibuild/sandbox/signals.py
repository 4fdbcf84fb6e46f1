"""Signals for the first process of a namespace, which the kernel drops where it does not catch them."""

from __future__ import annotations

# SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM: what ends a process that does not care.
DEADLY = (1, 2, 3, 10, 12, 14, 15)
# What may be passed on to a process: all that a user may send, less those that cannot be caught.
PASSED_ON = (1, 2, 3, 10, 12, 15, 18, 28)


def takes_default(process_fd: int, signal: int) -> bool:
    """Whether the process neither catches nor ignores `signal` (proc_pid_status(5), SigCgt and SigIgn).

    Its number in the view of this /proc is in the description of its descriptor.
    """
    try:
        with open(f"/proc/self/fdinfo/{process_fd}") as file:
            pid = next(line.split()[1] for line in file if line.startswith("Pid:"))
        with open(f"/proc/{pid}/status") as file:
            masks = [int(line.split()[1], 16) for line in file if line.startswith(("SigCgt:", "SigIgn:"))]
    except (OSError, StopIteration):
        return False
    return not any(mask >> (signal - 1) & 1 for mask in masks)


def oom_kills() -> int:
    """How often this kernel has killed a process for lack of memory (proc_vmstat(5), oom_kill)."""
    try:
        with open("/proc/vmstat", "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0
