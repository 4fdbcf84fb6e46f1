"""What instructions add to the image configuration's collections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from minibuild.dockerfile.parse import parse
from minibuild.oci.config import ImageConfig
from minibuild.plan import metadata
from minibuild.plan.lower import lower
from minibuild.plan.options import LowerOptions
from minibuild.plan.steps import Plan
from tests.engine.test_slots import NoBases

LINES = {
    "LABEL l{0}=v{0}": lambda config: [*config.labels],
    "EXPOSE {0}": lambda config: [*config.exposed_ports],
    "VOLUME /v{0}": lambda config: [*config.volumes],
    "ONBUILD ENV A{0}=v": lambda config: [*config.onbuild],
}


def lowered(*lines: str) -> Plan:
    return lower(parse("\n".join(lines) + "\n"), LowerOptions(), NoBases())


@pytest.mark.parametrize(("line", "collection"), LINES.items(), ids=lambda one: str(one)[:6])
def test_a_stage_has_its_own_after_those_it_starts_from_each_once(
    line: str, collection: Callable[[ImageConfig], list[str]]
) -> None:
    first = ["FROM scratch AS one", line.format(1), line.format(2)]
    plan = lowered(*first, "FROM one", line.format(2), line.format(3), line.format(3))
    parent, child = plan.stages
    assert len(collection(parent.config)) == 2
    if line.startswith("ONBUILD"):  # triggers are a list, and go to the next stage alone
        assert collection(child.config) == ["ENV A2=v", "ENV A3=v", "ENV A3=v"]
    else:
        assert collection(child.config)[:2] == collection(parent.config)
        assert len(collection(child.config)) == 3


@pytest.mark.parametrize("line", LINES)
def test_the_collections_are_put_together_once_a_stage(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    plain = metadata.replace

    def counting(config: Any, **changes: Any) -> Any:
        made.append(changes)
        return plain(config, **changes)

    monkeypatch.setattr(metadata, "replace", counting)
    lowered("FROM scratch", *(line.format(number + 1) for number in range(100)))
    assert len(made) == 1
