from __future__ import annotations

import contextlib

import pytest

from minibuild.dockerfile.instruction import Copy, Env, Onbuild, Run
from minibuild.dockerfile.parse import parse, parse_onbuild
from minibuild.errors import DockerfileError, SourceRange


def fault(text: str | bytes) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse(text, "Dockerfile.test")
    return caught.value


def test_text_and_bytes_are_read_alike() -> None:
    text = "\ufeffFROM a\nENV A=é\n"
    assert parse(text) == parse(text.encode())


def test_every_error_has_a_place_and_a_cure() -> None:
    error = fault("FROM a\n\nRUN x \\\n\n  y\nCOPY \\\n x\n")
    assert error.where == SourceRange("Dockerfile.test", 6, 7)
    assert error.cure == "Write COPY SOURCE... DESTINATION."


def test_an_instruction_spans_its_continuations_and_bodies() -> None:
    run = parse("FROM a\nRUN cat \\\n # c\n <<A <<B\na\nA\nb\nB\nUSER x\n").stages[0].instructions[0]
    assert (run.where.first, run.where.last) == (2, 8)
    assert run.code == "RUN cat  <<A <<B"


def test_an_unterminated_heredoc_names_the_line_that_opens_it() -> None:
    error = fault("FROM a\nRUN true\nRUN <<EOF\necho\nUSER x\n")
    assert error.where == SourceRange("Dockerfile.test", 3, 3)
    assert 'no line "EOF"' in error.message


def test_a_quoted_delimiter_turns_expansion_off() -> None:
    instructions = parse("FROM a\nCOPY <<A <<'B' <<\"C\" <<D'D' /x\nA\nB\nC\nDD\n").stages[0].instructions
    assert isinstance(instructions[0], Copy)
    assert [(doc.name, doc.expand) for doc in instructions[0].heredocs] == [
        ("A", True), ("B", False), ("C", False), ("DD", False),
    ]  # fmt: skip


def test_a_byte_that_is_no_utf8_is_refused_in_instructions_only() -> None:
    assert parse(b"# \xff\nFROM a\n").stages[0].origin.comments == ("?",)
    assert fault(b"FROM a\nRUN \xff\n").where == SourceRange("Dockerfile.test", 2, 2)
    assert "UTF-8" in fault(b"FROM a\nRUN <<E\n\xff\nE\n").message
    assert "UTF-8" in fault("FROM a\nRUN \ud800\n").message


def test_long_lines_are_refused_as_buildkit_does() -> None:
    assert len(parse("FROM a\nRUN " + "x" * 65_531 + "\n").stages) == 1
    error = fault("FROM a\nRUN " + "x" * 65_532 + "\n")
    assert "65535" in error.message
    assert error.where == SourceRange("Dockerfile.test", 2, 2)


def test_a_number_too_large_for_a_float_makes_an_array_shell_form() -> None:
    run = parse('FROM a\nRUN ["a", 1e999]\n').stages[0].instructions[0]
    assert isinstance(run, Run)
    assert run.command.shell


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 5_000 + "]" * 5_000, "ONBUILD " * 5_000, '["' * 9_000])
def test_deep_nesting_is_no_crash(text: str) -> None:
    for word in ("RUN", "COPY", "ONBUILD", "VOLUME", "HEALTHCHECK CMD"):
        with contextlib.suppress(DockerfileError):
            parse(f"FROM a\n{word} {text}\n")


def test_a_trigger_is_read_as_an_instruction() -> None:
    where = SourceRange("Dockerfile", 7, 7)
    found = parse_onbuild("ENV A=b", where=where)
    assert isinstance(found, Env)
    assert found.where == where


def test_a_trigger_brings_its_heredoc_along() -> None:
    onbuild = parse("FROM a\nONBUILD COPY <<-E <<F /x\n\tb\n\tE\nf\nF\n").stages[0].instructions[0]
    assert isinstance(onbuild, Onbuild)
    assert onbuild.expression == "COPY <<-E <<F /x\n\tb\nE\nf\nF"
    copy = parse_onbuild(onbuild.expression)
    assert isinstance(copy, Copy)
    assert [doc.content for doc in copy.heredocs] == ["b\n", "f\n"]


@pytest.mark.parametrize("text", ["", "# x", "FROM a", "RUN x\nRUN y", "NONSENSE", "COPY a"])
def test_a_trigger_that_cannot_fire_is_refused_where_it_would(text: str) -> None:
    where = SourceRange("Dockerfile", 3, 3)
    with pytest.raises(DockerfileError) as caught:
        parse_onbuild(text, where=where)
    assert caught.value.where == where


def test_directives_are_kept_in_order() -> None:
    found = parse("# Escape=\\\n#check = skip=all ; x\nFROM a\n").directives
    assert found == (("escape", "\\"), ("check", "skip=all ; x"))


def test_a_directive_counts_once_only() -> None:
    assert fault("# escape=`\n# ESCAPE=`\nFROM a\n").where == SourceRange("Dockerfile.test", 2, 2)


def test_a_directive_below_anything_else_is_a_comment() -> None:
    for above in ("\n", "# x\n", "# x=y\n", "ARG a\n"):
        assert parse(f"{above}# escape=`\nFROM a\n").escape == "\\"


def test_empty_lines_in_a_continuation_are_noted() -> None:
    assert parse("FROM a\nRUN x \\\n\n y\nRUN x \\\n # c\n y\n").gaps == (4,)


def test_stages_carry_the_comment_that_describes_them() -> None:
    stages = parse("# a builds it\n# more\nFROM x AS A\n# other words\nFROM y AS b\n").stages
    assert [(stage.name, stage.comment) for stage in stages] == [("a", "builds it"), ("b", "")]
