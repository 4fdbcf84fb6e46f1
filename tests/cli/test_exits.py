"""From errors to messages and exit codes."""

from __future__ import annotations

import errno
import os

import pytest
from minibuild_store.errors import StoreFull

from minibuild.cli.exits import exit_code, message, reported
from minibuild.errors import (
    Cancelled,
    DockerfileError,
    LayerError,
    MinibuildError,
    OutputError,
    RunFailed,
    SandboxError,
    SourceRange,
    UsageError,
)
from minibuild.registry.errors import RegistryError

HERE = SourceRange("Dockerfile", 2, 3)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DockerfileError("x"), 1),
        (RunFailed("x", exit_code=42), 1),
        (LayerError("x"), 1),
        (UsageError("x"), 2),
        (SandboxError("x"), 3),
        (RegistryError("x"), 4),
        (OutputError("x"), 5),
        (Cancelled(), 130),
    ],
)
def test_every_family_has_its_exit_code(
    error: MinibuildError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(error) == code
    with pytest.raises(SystemExit) as end, reported():
        raise error
    assert end.value.code == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("ERROR: ")


def test_a_message_shows_the_lines_what_happened_and_the_cure() -> None:
    error = DockerfileError("it is wrong", cure="Do it right.", where=HERE)
    assert message(error) == "Dockerfile:2\nERROR: it is wrong\nDo it right."
    error.source = "FROM x\nRUN a \\\n  b\nRUN c\n"
    lines = message(error).splitlines()
    assert lines[0] == "Dockerfile:2"
    assert [line for line in lines if ">>>" in line] == ["   2 | >>> RUN a \\", "   3 | >>>   b"]
    assert lines[-2:] == ["ERROR: it is wrong", "Do it right."]


def test_a_full_store_is_a_result_that_could_not_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, reported():
        raise StoreFull("/store")
    assert end.value.code == 5
    assert capsys.readouterr().err.startswith("ERROR: no space left for the store at /store")


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 5), (errno.EDQUOT, 5), (errno.EROFS, 5), (errno.EACCES, 1)]
)
def test_what_the_system_refuses_is_one_line_with_the_files_name(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, reported():
        raise OSError(number, os.strerror(number), "/some/file")
    assert end.value.code == code
    assert capsys.readouterr().err.startswith(f"ERROR: /some/file: {os.strerror(number).lower()}\n")


def test_an_interrupt_says_nothing_and_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, reported():
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_a_fault_of_our_own_is_not_hidden() -> None:
    with pytest.raises(AssertionError), reported():
        raise AssertionError
