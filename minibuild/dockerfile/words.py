"""Words: quotes, escapes and ``$variables``, with BuildKit's rules and not those of any shell.

`expand` gives one text, `expand_words` splits at white space, `expand_raw` leaves quotes alone (bodies of
here-documents). All take the variables as a mapping, so nothing here knows where they come from.

    $v ${v}                 the value, or nothing where v is unset
    ${v:-w} ${v-w}          w where v is unset (with the colon: or empty)
    ${v:+w} ${v+w}          w where v is set (with the colon: and not empty)
    ${v:?e} ${v?e}          an error saying e where v is unset (with the colon: or empty)
    ${v#p} ${v##p}          without the shortest, longest start that p matches
    ${v%p} ${v%%p}          without the shortest, longest end that p matches
    ${v/p/r} ${v//p/r}      the first match, every match of p replaced
"""

from __future__ import annotations

from collections.abc import Mapping

from minibuild.values import NamedTuple


class Expansion(NamedTuple):
    """The text, and the names that were looked up with and without success."""

    text: str
    used: frozenset[str]
    unmatched: frozenset[str]


def expand(
    text: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    keep_quotes: bool = False,
    skip_unset: bool = False,
) -> Expansion:
    """`text` with quotes and escapes taken off and variables replaced.

    `keep_quotes` leaves the quotes in, which still do their work; with `skip_unset` a reference to an unset
    variable stays as written. Raises DockerfileError.
    """
    if not _needs_work(text, escape):
        return Expansion(text.removeprefix("\ufeff"), frozenset(), frozenset())
    from minibuild.dockerfile.wordlexer import Lexer, run

    lexer = Lexer(text, env, escape, skip_unset=skip_unset)
    lexer.keep_quotes = keep_quotes
    result = run(lexer)
    return Expansion(result, frozenset(lexer.used), frozenset(lexer.unmatched))


def expand_raw(text: str, env: Mapping[str, str], *, escape: str = "\\") -> Expansion:
    """Like `expand`, but a quote is a character like any other (escapes are still taken off)."""
    from minibuild.dockerfile.wordlexer import Lexer, run

    lexer = Lexer(text, env, escape, quotes=False)
    result = run(lexer)
    return Expansion(result, frozenset(lexer.used), frozenset(lexer.unmatched))


def expand_words(
    text: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    keep_quotes: bool = False,
    keep_escapes: bool = False,
    skip_unset: bool = False,
) -> list[str]:
    """`text` expanded and split at white space that is neither quoted nor escaped.

    White space inside a value splits too, unless the reference is quoted. Empty words vanish, quoted or
    not. `keep_quotes` and `keep_escapes` keep those characters in the words. Raises DockerfileError.
    """
    from minibuild.dockerfile.wordlexer import Lexer, Words, run

    lexer = Lexer(text, env, escape, skip_unset=skip_unset)
    lexer.keep_quotes = keep_quotes
    lexer.raw_escapes = keep_escapes
    words = Words()
    run(lexer, words)
    return words.finish()


def _needs_work(text: str, escape: str) -> bool:
    return "$" in text or escape in text or "'" in text or '"' in text
