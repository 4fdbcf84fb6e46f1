"""Plain command lines of `minibuild build`: read as typer would have read them, or left to it."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.cli import build_command, plain

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # releases of the two tell each other what is deprecated
    import click
    import typer


def by_typer():
    app = typer.Typer(add_completion=False)
    build_command.register(app)
    return typer.main.get_command(app)


COMMAND = by_typer()
OPTIONS = [one for one in COMMAND.params if isinstance(one, click.Option) and one.name != "help"]
DEFAULTS = {one.name: one.get_default(click.Context(COMMAND)) for one in COMMAND.params}


def typers(words):
    """The values that typer hands over, less those that are at their default."""
    values = COMMAND.make_context("build", list(words)).params
    return {name: value for name, value in values.items() if value and value != DEFAULTS[name]}


def test_every_option_is_called_like_its_parameter():
    for option in OPTIONS:
        assert f"--{option.name.replace('_', '-')}" in option.opts
        assert {word for word in option.opts if not word.startswith("--")} == {
            word for word, name in plain.SHORT.items() if name == option.name
        }


def test_every_variable_that_stands_for_an_option_is_known():
    variables = {option.envvar for option in OPTIONS if option.envvar}
    assert variables <= set(plain.VARIABLES)
    assert plain.read([".", "-q"], build_command.command, dict.fromkeys(variables, "x")) is None


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
    lambda text: not text.startswith("-")
)


@st.composite
def lines(draw):
    words = [[draw(VALUES)]]
    for option in draw(st.lists(st.sampled_from(OPTIONS))):
        name = draw(st.sampled_from(option.opts))
        if option.is_flag:
            words.append([name])
        elif name.startswith("--") and draw(st.booleans()):
            words.append([f"{name}={draw(VALUES)}"])
        else:
            words.append([name, draw(VALUES)])
    return [word for group in draw(st.permutations(words)) for word in group]


@given(lines())
def test_a_plain_line_is_read_as_typer_reads_it(words):
    values = plain.read(words, build_command.command, {})
    found = {name: value for name, value in values.items() if value != DEFAULTS[name]}
    assert found == {
        name: list(value) if isinstance(value, tuple) else value for name, value in typers(words).items()
    }


@pytest.mark.parametrize(
    "line",
    [
        "",
        "-q",
        "one two",
        ". --help",
        ". -h",
        ". --no-such-option",
        ". --build_arg A=1",
        ". --quiet=yes",
        ". -tname",
        ". -t=name",
        ". -qt name",
        ". --tag",
        ". --tag --push",
        "-- .",
    ],
)
def test_what_is_rare_or_wrong_is_left_to_typer(line):
    assert plain.read(line.split(), build_command.command, {}) is None


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--pull", "."], ["--pull=always", "."]),
        (["--pull=newer", "."], ["--pull=newer", "."]),
        (["--pull=true", "--", "--pull"], ["--pull=always", "--", "--pull"]),
        (["--pull=false", "."], ["--pull=missing", "."]),
    ],
)
def test_pull_alone_takes_no_word_for_its_value(words, meant):
    assert plain.completed(words) == meant
