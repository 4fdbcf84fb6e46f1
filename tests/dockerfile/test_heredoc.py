from __future__ import annotations

import pytest

from minibuild.dockerfile.heredoc import body, chomp, is_opening, opening, openings, script, sole
from minibuild.dockerfile.instruction import CommandLine, Run
from minibuild.dockerfile.parse import parse
from minibuild.errors import DockerfileError


def command(text: str) -> CommandLine:
    run = parse(f"FROM a\n{text}").stages[0].instructions[0]
    assert isinstance(run, Run)
    return run.command


@pytest.mark.parametrize("word", ["<<E", "<<-E", "<< E", "<<-  E", "3<<E", "<<'E'", '<<"E"', "<<\\E"])
def test_these_words_open_a_document(word: str) -> None:
    found = opening(word)
    assert found is not None
    assert found.name == "E"


@pytest.mark.parametrize("word", ["", "E", "<E", "<<", "<<-", "<<<E", "<<E F", "x<<E", "<<E<"])
def test_these_words_open_none(word: str) -> None:
    assert opening(word) is None


def test_a_delimiter_with_an_open_quote_is_an_error_or_a_word() -> None:
    with pytest.raises(DockerfileError):
        opening("<<'E")
    assert is_opening("<<'E") is None


def test_a_line_with_open_quotes_opens_nothing() -> None:
    assert openings("RUN it's <<E") == ()
    assert [doc.name for doc in openings("RUN 'it' <<E x <<F")] == ["E", "F"]


def test_chomping_takes_leading_tabs_only() -> None:
    assert chomp("\t\ta\n\t b\tc\n\td") == "a\n b\tc\nd"


def test_a_command_of_one_document_runs_its_body() -> None:
    found = command("RUN <<-E\n\techo\n\tE\n")
    assert sole(found) is not None
    assert script(found) == "echo\n"


def test_a_document_within_a_command_goes_below_it() -> None:
    found = command("RUN cat <<-E <<F\n\ta\nE\nb\nF\n")
    assert sole(found) is None
    assert script(found) == "cat <<-E <<F\n\ta\nE\nb\nF"
    assert body(found.heredocs[0]) == "a\n"


def test_a_command_without_documents_is_itself() -> None:
    assert script(command("RUN a  b\n")) == "a  b"
