"""How layers of a base come that names are asked of: several at once, once only, and past what goes wrong."""

from __future__ import annotations

import os

import pytest

from minibuild.registry.client import Registry
from tests.feature.counted import Counted, file
from tests.feature.project import Project
from tests.layers.stacks import archive
from tests.servers.faults import cut, no_range, status
from tests.servers.registry import FakeRegistry


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries."""
    assert Registry.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Registry.__init__.__kwdefaults__, "wait", lambda seconds: None)


def with_layers(project: Project, registry: FakeRegistry, count: int) -> Counted:
    """A base of so many layers, each with a file of its own, at a registry that counts."""
    for name in ("f", "g"):
        os.utime(project.write(name, name), (1, 1))
    layers = [archive([file(b"in%d" % number, b"%d" % number * 4000)]) for number in range(count)]
    return Counted(project, registry, layers)


def test_a_new_path_on_ten_layers_takes_four_rounds(project: Project, registry: FakeRegistry) -> None:
    counted = with_layers(project, registry, 10)
    for batch in ([8, 7], [6, 5, 4, 3], [2, 1, 0]):
        counted.meet(len(batch), batch)
    assert counted.build("FROM IMG\nCOPY f /new\n").code == 0
    assert counted.fetched[0] == 9
    assert sorted(counted.fetched) == [*range(10)]


def test_no_more_layers_come_in_vain_than_were_needed(project: Project, registry: FakeRegistry) -> None:
    counted = with_layers(project, registry, 20)
    assert counted.build("FROM IMG\nCOPY f /in19\n").code == 0
    assert counted.fetched == [19]
    assert counted.build("FROM IMG\nCOPY f /in15\n").code == 0
    assert sorted(counted.fetched) == [12, 13, 14, 15, 16, 17, 18]


@pytest.mark.parametrize("count", [1, 50, 127])
def test_each_layer_comes_once_and_the_image_is_that_of_a_base_that_is_here(
    project: Project, registry: FakeRegistry, count: int
) -> None:
    counted = with_layers(project, registry, count)
    text = "FROM IMG\nWORKDIR /work\nCOPY f /new/\nCOPY g /in0\nCOPY --from=IMG /in0 /copied\n"
    lazy = counted.image(text)
    assert sorted(counted.fetched) == [*range(count)]
    whole = {"MINIBUILD_ROOT": str(project.root / "whole")}
    assert project.command("pull", "--platform=linux/amd64", counted.name, environment=whole).code == 0
    here = counted.image(text, environment=whole)
    assert (here.manifest["layers"], counted.fetched) == (lazy.manifest["layers"], [])


def test_another_dockerfile_on_the_same_base_fetches_nothing(
    project: Project, registry: FakeRegistry
) -> None:
    counted = with_layers(project, registry, 5)
    assert counted.build("FROM IMG\nCOPY f /new\n").code == 0
    assert counted.build("FROM IMG\nWORKDIR /else/where\nCOPY g /in0\n").code == 0
    assert counted.fetched == []


def test_names_stay_known_once_the_layers_were_evicted(project: Project, registry: FakeRegistry) -> None:
    counted = with_layers(project, registry, 5)
    assert counted.build("FROM IMG\nCOPY f /new\n").code == 0
    assert project.command("cache", "prune", "--all").code == 0
    assert counted.build("FROM IMG\nWORKDIR /else/where\nCOPY g /in0\n").code == 0
    assert counted.fetched == []
    assert counted.build("FROM scratch\nCOPY --from=IMG /in2 /\n").code == 0
    assert counted.fetched == [2]  # for its bytes


@pytest.mark.parametrize("options", ["", ",compression=gzip,force-compression=true"])
def test_a_base_that_was_built_and_pushed_here_is_not_fetched(
    project: Project, registry: FakeRegistry, options: str
) -> None:
    counted = with_layers(project, registry, 3)
    own = f"{registry.host}/team/own:1"
    output = f"type=image,name={own},push=true{options}"
    text = "FROM IMG\nCOPY f /new\n"
    assert counted.build(text, "-o", output).code == 0
    text = f"FROM {own}\nCOPY g /new\nCOPY --from={own} /new /old\n"
    assert counted.build(text).code == 0
    assert not registry.seen
    assert counted.build(text.replace("/old", "/older"), "--pull").code == 0
    assert not registry.requests("GET", "/blobs/")


def test_a_download_that_is_cut_goes_on_where_it_was(project: Project, registry: FakeRegistry) -> None:
    counted = with_layers(project, registry, 5)
    registry.fault(cut(2000), method="GET", path=counted.digest(1), times=2)
    assert counted.build("FROM IMG\nCOPY f /new\n").code == 0
    assert sorted(counted.fetched) == [0, 1, 1, 1, 2, 3, 4]
    assert counted.bytes == counted.size


def test_a_registry_without_ranges_is_read_from_the_start_again(
    project: Project, registry: FakeRegistry
) -> None:
    counted = with_layers(project, registry, 5)
    registry.fault(cut(3000), method="GET", path=counted.digest(1), times=1)
    registry.fault(no_range(), method="GET", path=counted.digest(1))
    assert counted.build("FROM IMG\nCOPY f /new\n").code == 0
    assert counted.bytes == counted.size + 3000


def test_a_layer_that_does_not_come_ends_the_build_and_the_next_fetches_what_is_missing(
    project: Project, registry: FakeRegistry
) -> None:
    counted = with_layers(project, registry, 3)
    registry.fault(status(404), method="GET", path=counted.digest(0))
    done = counted.build("FROM IMG\nCOPY f /new\n")
    assert done.code == 4
    assert counted.digest(0) in done.error
    assert "COPY f /new" in done.error
    assert not project.litter()
    registry.heal()
    assert counted.build("FROM IMG\nCOPY f /new\n").code == 0
    assert 0 in counted.fetched
    assert 2 not in counted.fetched  # 1 was on its way beside the one that failed
