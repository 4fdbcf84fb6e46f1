import ast
from pathlib import Path

import minibuild


def test_public_names_are_sorted_and_each_has_a_home():
    assert minibuild.__all__ == sorted(minibuild.__all__)
    assert set(minibuild._HOMES) == set(minibuild.__all__)


def test_every_public_name_can_be_had():
    for name in minibuild.__all__:
        assert getattr(minibuild, name) is not None


def test_type_checkers_see_the_same_names_as_programs():
    tree = ast.parse(Path(minibuild.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert shown == minibuild._HOMES
