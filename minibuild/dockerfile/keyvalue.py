"""Arguments of ENV, LABEL and ARG: words with their quotes still on, and ``key=value`` pairs."""

from __future__ import annotations

from minibuild.dockerfile.gotext import SPACE, quote, split_blanks
from minibuild.dockerfile.instruction import KeyValue
from minibuild.errors import DockerfileError


def split_words(text: str, escape: str) -> list[str]:
    """`text` cut at white space outside quotes; quotes and escapes stay in the words."""
    if "'" not in text and '"' not in text and escape not in text and text.isprintable():
        return text.split()  # a space is the one white space that is printable
    words: list[str] = []
    at, size = 0, len(text)
    while True:
        while at < size and text[at] in SPACE:
            at += 1
        if at == size:
            return words
        word, at = _word(text, at, escape)
        if word:
            words.append(word)


def _word(text: str, at: int, escape: str) -> tuple[str, int]:
    """The word at `at` and where it ends. An escape that ends the text is dropped."""
    out: list[str] = []
    mark, size = "", len(text)
    while at < size:
        ch = text[at]
        if mark == "" and ch in SPACE:
            break
        at += 1
        if ch == escape and mark != "'":
            if at == size:
                break
            out.append(ch + text[at])
            at += 1
            continue
        if ch == mark:
            mark = ""
        elif mark == "" and ch in "'\"":
            mark = ch
        out.append(ch)
    return "".join(out), at


def parse_pairs(text: str, instruction: str, escape: str) -> tuple[KeyValue, ...]:
    """``k=v k2="v 2"``, or the legacy ``k all the rest`` where the first word has no ``=``.

    Values keep their quotes until they are expanded. Raises DockerfileError.
    """
    words = split_words(text, escape)
    if not words:
        raise DockerfileError(
            f"{instruction} requires at least one argument", cure=f"Write {instruction} NAME=VALUE."
        )
    if "=" not in words[0]:
        parts = split_blanks(text, 1)
        if len(parts) < 2:
            raise DockerfileError(
                f"{instruction} must have two arguments", cure=f"Write {instruction} {words[0]}=VALUE."
            )
        return (_pair(parts[0], parts[1], instruction, legacy=True),)
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise DockerfileError(
                f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value",
                cure="Quote a value that has spaces in it.",
            )
        pairs.append(_pair(key, value, instruction))
    return tuple(pairs)


def _pair(key: str, value: str, instruction: str, *, legacy: bool = False) -> KeyValue:
    if not key:
        raise DockerfileError(f"{instruction} names can not be blank", cure="Put a name in front of the '='.")
    return KeyValue(key, value, legacy)


def parse_arguments(text: str, escape: str) -> tuple[tuple[str, str | None], ...]:
    """``NAME NAME=default ...`` of ARG. Raises DockerfileError."""
    args: list[tuple[str, str | None]] = []
    for word in split_words(text, escape):
        key, equals, value = word.partition("=")
        if not key:
            raise DockerfileError("ARG names can not be blank", cure="Put a name in front of the '='.")
        args.append((key, value if equals else None))
    if not args:
        raise DockerfileError(
            "ARG requires at least one argument", cure="Write ARG NAME or ARG NAME=DEFAULT."
        )
    return tuple(args)
