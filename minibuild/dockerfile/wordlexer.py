"""The lexer behind `minibuild.dockerfile.words`: one pass over a text, substitutions nested in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from minibuild.dockerfile import shellglob
from minibuild.dockerfile.gotext import SPACE, quote
from minibuild.errors import DockerfileError

_DEEPEST = 100  # levels of ${a:-${b:-...}}
_LARGEST = 1 << 24  # characters that one text may gain by expansion
_SPECIAL = "@*#?-$!0"  # POSIX special parameters: names of one character, never set


class Fault(Exception):
    """What is wrong with the text, without the text."""


class Words:
    """Collects pieces into words: loose pieces split at white space, fixed ones do not."""

    __slots__ = ("done", "piece")

    def __init__(self) -> None:
        self.done: list[str] = []
        self.piece: list[str] = []

    def loose(self, text: str) -> None:
        start = 0
        for at, ch in enumerate(text):
            if ch in SPACE:
                self.piece.append(text[start:at])
                self._end()
                start = at + 1
        self.piece.append(text[start:])

    def fixed(self, text: str) -> None:
        self.piece.append(text)

    def finish(self) -> list[str]:
        self._end()
        return self.done

    def _end(self) -> None:
        if word := "".join(self.piece):
            self.done.append(word)
        self.piece.clear()


class Lexer:
    """One pass over one text. `depth` counts open braces; `room` is what expansion may still add."""

    __slots__ = (
        "depth", "end", "env", "escape", "keep_quotes", "pos", "quotes", "raw_escapes", "room",
        "skip_unset", "text", "unmatched", "used",
    )  # fmt: skip

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        escape: str,
        *,
        quotes: bool = True,
        skip_unset: bool = False,
    ) -> None:
        self.text = text.removeprefix("\ufeff")
        self.env = env
        self.escape = escape
        self.quotes = quotes
        self.skip_unset = skip_unset
        self.keep_quotes = self.raw_escapes = False
        self.used: set[str] = set()
        self.unmatched: set[str] = set()
        self.pos = self.depth = 0
        self.end = len(self.text)
        self.room = _LARGEST

    def scan(self, stop: str, words: Words | None) -> str:
        """Everything up to `stop` (or, where that is empty, the end), expanded; `stop` is consumed."""
        text, plain = self.text, _plain(self.escape, stop, self.quotes)
        out: list[str] = []
        while self.pos < self.end:
            run = plain.match(text, self.pos)
            if run is not None:
                piece, loose = run.group(), True
                self.pos = run.end()
            elif text[self.pos] == stop:
                self.pos += 1
                return "".join(out)
            else:
                loose = text[self.pos] == "$"
                piece = self._special(text[self.pos])
            out.append(piece)
            if words is not None:
                (words.loose if loose else words.fixed)(piece)
        if stop:
            raise Fault(f"unexpected end of statement while looking for matching {stop}")
        return "".join(out)

    def _special(self, ch: str) -> str:
        if ch == "$":
            return self._dollar()
        if ch == "<":
            return self._angle()
        if ch == "'":
            return self._single_quoted()
        if ch == '"':
            return self._double_quoted()
        kept = ch if self.raw_escapes else ""
        following = self.text[self.pos + 1 : self.pos + 2]
        self.pos = min(self.pos + 2, self.end)
        return kept + following

    def _angle(self) -> str:
        """``<<`` stays in one word with the white space behind it: ``<< EOF`` is one here-document."""
        start = self.pos
        self.pos += 1
        if self._peek() == "<":
            self.pos += 1
            while self._peek() and self._peek() in "\t\r ":
                self.pos += 1
        return self.text[start : self.pos]

    def _single_quoted(self) -> str:
        close = self.text.find("'", self.pos + 1)
        if close < 0:
            self.pos = self.end
            raise Fault("unexpected end of statement while looking for matching single-quote")
        start, self.pos = self.pos, close + 1
        return self.text[start : close + 1] if self.keep_quotes else self.text[start + 1 : close]

    def _double_quoted(self) -> str:
        self.pos += 1
        out = ['"'] if self.keep_quotes else []
        plain = _inside_quotes(self.escape)
        while self.pos < self.end:
            run = plain.match(self.text, self.pos)
            if run is not None:
                out.append(run.group())
                self.pos = run.end()
                continue
            ch = self.text[self.pos]
            if ch == '"':
                self.pos += 1
                return "".join(out) + ('"' if self.keep_quotes else "")
            out.append(self._dollar() if ch == "$" else self._escaped_in_quotes(ch))
        raise Fault("unexpected end of statement while looking for matching double-quote")

    def _escaped_in_quotes(self, ch: str) -> str:
        """Only a quote, a dollar and the escape itself can be escaped; elsewhere the escape stays.

        Raw mode keeps the escape in front of either, so there it doubles: BuildKit's behaviour.
        """
        self.pos += 1
        kept = ch if self.raw_escapes else ""
        following = self._peek()
        if not following:
            return kept
        if following in ('"', "$", self.escape):
            self.pos += 1
            return kept + following
        return kept + ch

    def _dollar(self) -> str:
        self.pos += 1
        if self._peek() == "{":
            self.pos += 1
            self.depth += 1
            if self.depth > _DEEPEST:
                raise Fault("substitutions are nested too deeply")
            value = self._braces()
            self.depth -= 1
        else:
            name = self._name()
            if not name:
                return "$"
            found = self._lookup(name)
            value = found if found is not None else f"${name}" if self.skip_unset else ""
        self.room -= len(value)
        if self.room < 0:
            raise Fault("the text grows too large by substitution")
        return value

    def _braces(self) -> str:
        first = self._peek()
        if not first:
            raise Fault("syntax error: missing '}'")
        if first in "{}:":
            raise Fault("syntax error: bad substitution")
        name = self._name()
        sign = self._next()
        if sign == "}":
            value = self._lookup(name)
            if value is None:
                return f"${{{name}}}" if self.skip_unset else ""
            return value
        if sign == ":":
            return self._modified(name, self._next(), colon=True)
        if sign == "/":
            return self._replaced(name)
        if sign and sign in "+-?#%":
            return self._modified(name, sign, colon=False)
        raise Fault(f"unsupported modifier ({sign}) in substitution")

    def _modified(self, name: str, sign: str, *, colon: bool) -> str:
        trims = sign != "" and sign in "#%"
        shown = f":{sign}" if colon else sign
        if colon and trims:
            raise Fault(f"unsupported modifier ({shown}) in substitution")
        word = self._until("}", trims, "syntax error: missing '}'")
        value = self._lookup(name)
        if value is None and self.skip_unset:
            return f"${{{name}{shown}{word}}}"
        missing = value is None or (colon and value == "")
        if sign == "-":
            return word if value is None or missing else value
        if sign == "+":
            return "" if missing else word
        if sign == "?":
            if value is None or missing:
                state = "unset" if value is None else "empty"
                raise Fault(f"{name}: {word or f'is not allowed to be {state}'}")
            return value
        if trims:
            return self._trimmed(value or "", sign, word)
        raise Fault(f"unsupported modifier ({shown}) in substitution")

    def _trimmed(self, value: str, sign: str, pattern: str) -> str:
        longest = pattern.startswith(sign)
        if longest:
            pattern = pattern[1:]
        remove = shellglob.remove_prefix if sign == "#" else shellglob.remove_suffix
        try:
            return remove(value, pattern, longest=longest)
        except shellglob.BadPattern as bad:
            raise Fault(f"invalid pattern ({pattern}) in substitution: {bad}") from None

    def _replaced(self, name: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self.pos += 1
        pattern = self._until("/", True, "syntax error: missing '/' in ${}")
        replacement = self._until("}", True, "syntax error: missing '}'")
        value = self._lookup(name)
        if value is None and self.skip_unset:
            return f"${{{name}/{'/' * everywhere}{pattern}/{replacement}}}"
        try:
            if everywhere:
                return shellglob.replace_all(value or "", pattern, replacement, limit=self.room)
            return shellglob.replace_first(value or "", pattern, replacement)
        except shellglob.BadPattern as bad:
            raise Fault(f"invalid pattern ({pattern}) in substitution: {bad}") from None
        except OverflowError:
            raise Fault("the text grows too large by substitution") from None

    def _until(self, stop: str, raw_escapes: bool, unfinished: str) -> str:
        """A part inside braces, up to `stop`; running off the end is reported as `unfinished`."""
        before, self.raw_escapes = self.raw_escapes, raw_escapes
        try:
            return self.scan(stop, None)
        except Fault:
            if self.pos >= self.end and self.depth <= _DEEPEST:
                raise Fault(unfinished) from None
            raise
        finally:
            self.raw_escapes = before

    def _lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unmatched if value is None else self.used).add(name)
        return value

    def _name(self) -> str:
        """Letters, digits and ``_``; or digits alone; or one special parameter; or nothing."""
        text, start, at, end = self.text, self.pos, self.pos, self.end
        if at < end and text[at].isdecimal():
            while at < end and text[at].isdecimal():
                at += 1
        elif at < end and text[at] in _SPECIAL:
            at += 1
        else:
            while at < end and (text[at].isalpha() or text[at].isdecimal() or text[at] == "_"):
                at += 1
        self.pos = at
        return text[start:at]

    def _peek(self) -> str:
        return self.text[self.pos : self.pos + 1]

    def _next(self) -> str:
        ch = self.text[self.pos : self.pos + 1]
        self.pos += len(ch)
        return ch


def run(lexer: Lexer, words: Words | None = None) -> str:
    """The whole text expanded, or its pieces put into `words`. Raises DockerfileError."""
    try:
        return lexer.scan("", words)
    except Fault as fault:
        raise DockerfileError(
            f"failed to process {quote(_shortened(lexer.text))}: {fault}", cure=_cure(str(fault))
        ) from None


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."


def _cure(fault: str) -> str:
    if "quote" in fault:
        return "Close the quote, or put the escape character in front of it to mean the character itself."
    if "substitution" in fault or "syntax error" in fault:
        return "Write ${name} or one of its modifiers, or \\$ for a plain dollar."
    return ""


@lru_cache(maxsize=32)
def _plain(escape: str, stop: str, quotes: bool) -> re.Pattern[str]:
    special = "$<" + escape + stop + ("'\"" if quotes else "")
    return re.compile(f"[^{re.escape(special)}]+")


@lru_cache(maxsize=4)
def _inside_quotes(escape: str) -> re.Pattern[str]:
    return re.compile(f'[^$"{re.escape(escape)}]+')
