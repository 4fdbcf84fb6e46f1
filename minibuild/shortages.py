"""What a process may have no more of, by the kernel's error, and what to raise then."""

import errno

CURES = {
    errno.EAGAIN: (
        "Raise the limit of processes: ulimit -u, or pids.max of the container (docker run --pids-limit)."
    ),
    errno.EMFILE: "Raise the limit of open files: ulimit -n 1024.",
    errno.ENFILE: "Raise the machine's limit of open files: sysctl -w fs.file-max=...",
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f), or take a file system for larger ones.",
    errno.ENOMEM: "Give it more memory: ulimit -v, or memory.max of the container (docker run --memory).",
}
