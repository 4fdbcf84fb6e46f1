"""One line of comma-separated fields, quoted as Docker's options are (RFC 4180)."""

from __future__ import annotations

from minibuild.errors import UsageError


def fields(text: str, option: str) -> list[str]:
    """The fields of `text`: ``a,"b,""c",d`` is ``a`` and ``b,"c`` and ``d``.

    Raises `UsageError`, which names `option`.
    """
    found: list[str] = []
    rest: str | None = text
    while rest is not None:
        if not rest.startswith('"'):
            field, comma, tail = rest.partition(",")
            if '"' in field:
                raise _malformed(option, text, f"a quote inside {field}")
            found.append(field)
            rest = tail if comma else None
            continue
        field, rest = _quoted(rest, text, option)
        found.append(field)
    return found


def _quoted(text: str, whole: str, option: str) -> tuple[str, str | None]:
    at = 1
    while (end := text.find('"', at)) >= 0:
        if text[end : end + 2] != '""':
            break
        at = end + 2
    if end < 0:
        raise _malformed(option, whole, "a quote is not closed")
    tail = text[end + 1 :]
    if tail and not tail.startswith(","):
        raise _malformed(option, whole, "text after a closing quote")
    return text[1:end].replace('""', '"'), tail[1:] if tail else None


def _malformed(option: str, text: str, why: str) -> UsageError:
    return UsageError(
        f"{option} {text!r} is malformed: {why}",
        cure='Quote a whole field to have a comma in it, and double a quote: type=oci,"name=a:1,b:2".',
    )
