"""One line of comma-separated values: a field may be quoted, and quotes inside it are doubled."""

from __future__ import annotations

from minibuild.errors import DockerfileError


def split_fields(value: str, what: str) -> list[str]:
    """The fields of `value`; `what` they are is for the error. Raises DockerfileError."""
    line = value.removesuffix("\n").removesuffix("\r") if value.endswith("\n") else value
    if not line:
        raise DockerfileError(
            f"failed to parse csv {what}: the value is empty", cure="Write key=value fields."
        )
    fields: list[str] = []
    at = 0
    while True:
        if line.startswith('"', at):
            field, at = _quoted(line, at + 1, what)
        else:
            end = line.find(",", at)
            end = len(line) if end < 0 else end
            field, at = line[at:end], end
            if '"' in field:
                raise _bad_quote(what, "a quote inside an unquoted field")
        fields.append(field)
        if at >= len(line):
            return fields
        at += 1  # the comma


def _quoted(line: str, at: int, what: str) -> tuple[str, int]:
    """The quoted field whose text starts at `at`, and the place behind its closing quote."""
    parts: list[str] = []
    while True:
        end = line.find('"', at)
        if end < 0:
            raise _bad_quote(what, "a quote without its partner")
        parts.append(line[at:end])
        following = line[end + 1 : end + 2]
        if following == '"':
            parts.append('"')
            at = end + 2
        elif following in ("", ","):
            return "".join(parts), end + 1
        else:
            raise _bad_quote(what, "text behind a closing quote")


def _bad_quote(what: str, fault: str) -> DockerfileError:
    return DockerfileError(
        f"failed to parse csv {what}: {fault}", cure="Quote a whole field, as in '\"target=/a,b\"'."
    )
