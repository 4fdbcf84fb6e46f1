"""What is fetched of an image: the layers that a step cannot do without, seen from the registry."""

from __future__ import annotations

import json
from typing import Any

import pytest
from minibuild_store.digest import Digest

from tests.feature.counted import LAYERS, Counted
from tests.feature.project import Project
from tests.servers.registry import FakeRegistry


@pytest.fixture
def counted(project: Project, registry: FakeRegistry) -> Counted:
    project.write("f", "f")
    return Counted(project, registry)


@pytest.mark.parametrize(
    "steps",
    ["ENV A=1\nLABEL b=c\nUSER app\nCMD x", "WORKDIR /", "COPY --link f /f", "COPY --link f /opt/new/"],
)
def test_steps_that_need_no_file_of_the_base_fetch_no_layer_not_even_to_be_pushed(
    counted: Counted, steps: str
) -> None:
    name = f"{counted.registry.host}/team/app:1"
    done = counted.build(f"FROM IMG\n{steps}\n", "--push", "-t", name)
    assert done.code == 0, done.err
    assert (counted.fetched, counted.bytes) == ([], 0)
    assert len(counted.registry.requests("POST", "mount=")) >= 5
    assert not counted.registry.requests("PATCH", "/team/base/")
    pushed = counted.registry.repositories["team/app"].blobs
    assert all(str(Digest.of(layer)) in pushed for layer in LAYERS)


@pytest.mark.parametrize(
    ("source", "layers"),
    [
        ("/last", [4]),
        ("/old/new", [4, 3]),
        ("/old", [4, 3]),
        ("/old/*", [4, 3]),
        ("/usr/lib/so", [4, 3, 2]),
        ("/opt/app", [4, 3, 2, 1]),
        ("/app", [4, 3, 2, 1]),
        ("/bin/sh", [4, 3, 2, 1, 0]),
        ("/srv", [4, 3, 2, 1, 0]),
        ("/l*", [4, 3, 2, 1, 0]),
    ],
)
def test_a_copy_from_an_image_fetches_the_layers_down_to_the_one_that_settles_it(
    counted: Counted, source: str, layers: list[int]
) -> None:
    image = counted.image(f"FROM scratch\nCOPY --from=IMG {source} /to/\n")
    assert sorted(counted.fetched, reverse=True) == layers
    assert counted.bytes == sum(len(LAYERS[layer]) for layer in layers)
    whole = {f"to/{path}" for path in ("last", "new", "so", "app", "sh")}
    assert set(image.files) <= {"to", *whole}


@pytest.mark.parametrize(
    ("source", "layers"), [("/gone", [4, 3]), ("/old/below", [4, 3]), ("/none", [4, 3, 2, 1, 0])]
)
def test_what_is_not_there_is_found_missing_as_soon_as_a_layer_says_so(
    counted: Counted, source: str, layers: list[int]
) -> None:
    done = counted.build(f"FROM scratch\nCOPY --from=IMG {source} /to/\n")
    assert done.code == 1
    assert f'"{source}": not found' in done.error
    assert counted.fetched == layers


@pytest.mark.parametrize(
    ("steps", "layers"),
    [
        ("WORKDIR /srv", [4]),
        ("WORKDIR /usr/lib", [4, 3, 2]),
        ("WORKDIR /opt", [4, 3, 2, 1, 0]),
        ("COPY f /last", [4]),
        ("COPY f /old/new", [4, 3, 2]),
        ("COPY f /old/other", [4, 3, 2]),
        ("COPY --chown=7:8 f /last", [4]),
        ("COPY --chown=root f /last", [4]),
        ("COPY --chown=app f /last", [4, 3, 2, 1, 0]),
        ("COPY f /f", [4, 3, 2, 1, 0]),
        ("COPY f /opt/new", [4, 3, 2, 1, 0]),
        ("WORKDIR /new", [4, 3, 2, 1, 0]),
    ],
)
def test_a_step_on_an_image_reads_names_from_the_top_down_until_it_knows_its_destination(
    counted: Counted, steps: str, layers: list[int]
) -> None:
    done = counted.build(f"FROM IMG\n{steps}\n")
    assert done.code == 0, done.err
    assert sorted(counted.fetched, reverse=True) == layers
    assert counted.bytes == sum(len(LAYERS[layer]) for layer in layers)


def test_a_second_step_fetches_nothing_that_the_first_one_did(counted: Counted) -> None:
    done = counted.build("FROM IMG\nWORKDIR /srv\nCOPY f /last\nCOPY f /old/new\nCOPY f /usr/lib/so\n")
    assert done.code == 0, done.err
    assert counted.fetched == [4, 3, 2]


def test_the_keys_do_not_tell_how_much_was_read(counted: Counted) -> None:
    text = "FROM scratch\n" + "".join(
        f"COPY --from=IMG {one} /to/\n" for one in ("/last", "/old", "/opt/app", "/l*")
    )
    text += "FROM IMG\nWORKDIR /opt\nCOPY f /usr/lib/so\nCOPY --from=0 /to/last /opt/app\n"

    def keys(store: str, *first: str) -> list[str]:
        environment = {"MINIBUILD_ROOT": str(counted.project.root / store)}
        if first:
            assert counted.project.command(*first, environment=environment).code == 0
        done = counted.build(text, environment=environment)
        assert done.code == 0, done.err
        plan = counted.build(text, "--dry-run", "--json", environment=environment)
        found = [step["key"] for stage in json.loads(plan.out)["stages"] for step in stage["steps"]]
        assert len(found) == 7 and all(found)
        return found

    assert keys("lazy") == keys("whole", "pull", "--platform=linux/amd64", counted.name)
    assert counted.fetched == []


def test_a_dry_run_fetches_nothing_and_knows_what_the_layers_tell_that_are_here(counted: Counted) -> None:
    assert counted.build("FROM scratch\nCOPY --from=IMG /old/new /to/\n").code == 0

    def planned(source: str) -> dict[str, Any]:
        done = counted.build(f"FROM scratch\nCOPY --from=IMG {source} /to/\n", "--dry-run", "--json")
        assert (done.code, counted.fetched) == (0, []), done.err
        found: dict[str, Any] = json.loads(done.out)["stages"][0]["steps"][0]
        return found

    assert planned("/old/new")["state"] == "cached"
    assert planned("/last")["key"]
    below = planned("/opt/app")
    assert below["state"] == "unknown" and not below["key"], below
    assert "in an image that is not here yet" in json.dumps(below)


def test_a_folder_of_all_layers_is_fetched_several_layers_at_a_time(counted: Counted) -> None:
    counted.meet(4)
    done = counted.build("FROM scratch\nCOPY --from=IMG / /\n")
    assert done.code == 0, done.err
    assert sorted(counted.fetched) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("step", ["WORKDIR /srv", "COPY f /new"])
def test_where_a_run_needs_all_layers_anyway_the_step_before_it_fetches_several_at_a_time(
    counted: Counted, step: str
) -> None:
    counted.meet(4)
    done = counted.build(f'FROM IMG\n{step}\nRUN ["/none"]\n')
    assert "DONE" in done.step(step), done.err
    assert done.step(step).count("sha256:") >= 5  # its progress
    assert sorted(counted.fetched) == [0, 1, 2, 3, 4]


def test_contents_of_several_layers_whose_names_are_known_are_fetched_at_a_time(counted: Counted) -> None:
    text = "FROM scratch\nCOPY --from=IMG /opt/ /usr/ /to/\n"
    assert counted.build("FROM scratch\nCOPY --from=IMG / /\n").code == 0
    counted.forget_blobs()
    counted.meet(2)
    done = counted.build(text)
    assert done.code == 0, done.err
    assert sorted(counted.fetched) == [1, 2]
