"""What the kernel refuses, in words: the file that it is about, and what to do."""

import errno
import os

_LONGEST = 200

CURES = {
    errno.EAGAIN: (
        "Raise the limit of processes: ulimit -u, or pids.max of the container (docker run --pids-limit)."
    ),
    errno.EMFILE: "Raise the limit of open files: ulimit -n 1024.",
    errno.ENFILE: "Raise the machine's limit of open files: sysctl -w fs.file-max=...",
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f), or take a file system for larger ones.",
    errno.ENOMEM: "Give it more memory: ulimit -v, or memory.max of the container (docker run --memory).",
    errno.ENAMETOOLONG: "Shorten the path, or leave it out of the build with a line in .dockerignore.",
}


def named(error: OSError) -> str:
    """``NAME: `` of the file that `error` is about, shortened; empty where it names none."""
    if not isinstance(error.filename, (str, bytes)) or not error.filename:
        return ""
    text = os.fsencode(error.filename).decode("utf-8", "backslashreplace")
    return f"{text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}: "
