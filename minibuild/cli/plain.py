"""A command line as it is mostly written, read without typer, which takes as long to load as all the rest.

Only what can be read in one way is read here. Help, mistakes and whatever is rare are left to typer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

SHORT = {"-f": "file", "-t": "tag", "-o": "output", "-m": "memory", "-v": "volume", "-q": "quiet"}
# Variables by which typer would do something else.
VARIABLES = ("MINIBUILD_ISOLATION", "MINIBUILD_OCI_RUNTIME", "_MINIBUILD_COMPLETE")

# Options that may stand alone: click would take the word behind one for its value.
SPELLINGS = {
    "--pull": "--pull=always",
    "--pull=true": "--pull=always",
    "--pull=false": "--pull=missing",
    "--squash": "--squash=new",
    "--squash=true": "--squash=new",
    "--squash=false": "--squash=",
}


def completed(words: Sequence[str]) -> list[str]:
    """The command line with the values that docker's spelling leaves out."""
    end = words.index("--") if "--" in words else len(words)
    return [SPELLINGS.get(word, word) for word in words[:end]] + [*words[end:]]


def read(
    words: Sequence[str], command: Callable[..., object], environment: Mapping[str, str]
) -> dict[str, Any] | None:
    """What typer would call `command` with, less what is at its default; None where typer is to decide.

    The command's first parameter is its argument; the others are options, named like them: a flag where
    the default is False, a list of texts where it is None, else a text.
    """
    if any(name in environment for name in VARIABLES):
        return None
    code, found = command.__code__, command.__defaults__ or ()
    argument, *names = code.co_varnames[: code.co_argcount]
    defaults = dict(zip(names, found, strict=True))
    values: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            if argument in values:
                return None
            values[argument] = word
            continue
        option, equals, value = word.partition("=")
        name = SHORT.get(option, "") if not option.startswith("--") else option[2:].replace("-", "_")
        if name not in defaults or "_" in option or (equals and option in SHORT):
            return None
        if defaults[name] is False:
            if equals:
                return None
            values[name] = True
            continue
        if not equals:
            value = next(rest, "-?")
            if value.startswith("-") and value != "-":
                return None
        if defaults[name] is None:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return values if argument in values else None
