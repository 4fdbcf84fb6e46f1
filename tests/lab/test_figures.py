"""Caches of a size, costs, rates and their intervals, where the answer is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.engine.build import build
from minibuild.engine.inputs import Inputs
from minibuild.engine.request import BuildRequest
from minibuild.lab.costs import Cost, Costs, measured
from minibuild.lab.history import Commit, History
from minibuild.lab.measures import Interval, measure
from minibuild.lab.memory import StepRow
from minibuild.lab.replay import Built, Outcome, Replay, Replayer, ReplaySpec
from minibuild.lab.shelf import Held, Room, Shelf
from minibuild.lab.standin import layer_called
from minibuild.lab.trace import Content
from minibuild.lab.variants import Variant, Written
from tests.lab.histories import hits, repository


def held(size: int, seconds: float, now: float) -> Held:
    return Held(layer_called(size, seconds, now), size, seconds, now, now)


def filled(room: Room) -> Shelf:
    shelf = Shelf(room)
    shelf.put("old and dear", held(10, 100.0, 0))
    shelf.put("new and cheap", held(10, 0.1, 1))
    shelf.put("newest", held(10, 50.0, 2))
    shelf.keep_cap(3)
    return shelf


def kept(shelf: Shelf) -> set[str]:
    return {key for key in ("old and dear", "new and cheap", "newest") if shelf.find(key, 4) is not None}


def test_lru_lets_go_what_was_used_longest_ago() -> None:
    assert kept(filled(Room("lru", 20))) == {"new and cheap", "newest"}


def test_value_lets_go_what_is_worth_least_a_byte() -> None:
    assert kept(filled(Room("value", 20))) == {"old and dear", "newest"}


def test_none_lets_nothing_go() -> None:
    shelf = filled(Room())
    assert len(kept(shelf)) == 3 and shelf.most == 30 and shelf.evictions == 0


def test_a_look_up_counts_as_use() -> None:
    shelf = Shelf(Room("lru", 20))
    for number, key in enumerate(("a", "b")):
        shelf.put(key, held(10, 1, number))
    shelf.find("a", 2)
    shelf.put("c", held(10, 1, 3))
    shelf.keep_cap(3)
    assert shelf.find("a", 4) is not None and shelf.find("b", 4) is None
    assert shelf.evicted == {"b"} and shelf.bytes == 20


def row(hit: bool, seconds: float) -> StepRow:
    return StepRow("s", 0, "n", "RUN x", hit, "", "", seconds, 10)


def replay(*variants: list[bool]) -> Replay:
    dockerfile = Written("f", "f", text=b"")
    commits = tuple(Commit(str(n), n, b"", "") for n in range(len(variants[0])))
    outcomes = tuple(
        Outcome(Variant(str(n), dockerfile), tuple(Built((row(hit, 2.0),), most_hits=hit) for hit in states))
        for n, states in enumerate(variants)
    )
    return Replay(commits, outcomes)


def test_rates_and_seconds_leave_the_warm_up_out() -> None:
    one = measure(replay([False, True, True, False, True]), pull_rate=1).summaries[0]
    assert (one.builds, one.steps, one.hits) == (4, 4, 3)
    assert one.rate.value == 0.75 and one.spent.value == 0.5 and one.saved.value == 1.5


def test_a_difference_at_every_commit_is_certain() -> None:
    found = measure(replay([False] * 50, [True] * 50), pull_rate=1)
    assert found.summaries[0].gain is None
    assert found.summaries[1].gain == Interval(2.0, 2.0, 2.0)
    assert found.summaries[1].rate_gain == Interval(1.0, 1.0, 1.0)


def test_pairs_take_the_noise_of_commits_out() -> None:
    noisy = [number % 2 == 0 for number in range(100)]
    better = [hit or number == 51 for number, hit in enumerate(noisy)]
    gain = measure(replay(noisy, better), pull_rate=1).summaries[1].gain
    spent = measure(replay(noisy), pull_rate=1).summaries[0].spent
    assert gain is not None and gain.high - gain.low < 0.5 * (spent.high - spent.low)
    assert gain.low == 0.0 < gain.value


def test_a_commit_that_fails_in_one_variant_counts_in_none() -> None:
    found = replay([False, True, True], [False, True, True])
    broken = found.outcomes[1]._replace(builds=(*found.outcomes[1].builds[:2], Built((), "no")))
    counted = measure(found._replace(outcomes=(found.outcomes[0], broken)), pull_rate=1)
    assert counted.counted == (1,) and [one.builds for one in counted.summaries] == [1, 1]
    assert [one.failed for one in counted.summaries] == [0, 1]


def test_pulling_costs_what_its_bytes_take() -> None:
    step = row(False, 1.0)._replace(pulled=100)
    found = Replay(
        (Commit("a", 0, b"", ""),), (Outcome(Variant("v", Written("f", "f", text=b"")), (Built((step,)),)),)
    )
    assert measure(found, pull_rate=50, warmup=0).summaries[0].spent.value == 3.0


def test_fresh_machines_pull_what_lies_below_what_they_execute(tmp_path: Path) -> None:
    text = "FROM scratch\nCOPY a /\nCOPY b /\nRUN make\n"
    first: dict[str, Content] = {"Dockerfile": text, "a": {"size": 1000}, "b": {"size": 10}, "c": ""}
    variant = Variant("v", Written("Dockerfile", "Dockerfile", path="Dockerfile"), shared=True)
    with (
        History(repository(tmp_path / "git", first, {"c": "1"}, {"b": {"size": 20}})) as history,
        Store.open(tmp_path / "store") as store,
    ):
        spec = ReplaySpec(commits=history.commits(), variants=[variant], request=BuildRequest(context=None))
        with Replayer(history, spec, store) as replayer:
            outcome = replayer.outcome(variant)
    assert hits(outcome) == ["mmm", "HHH", "Hmm"]
    assert [[step.pulled for step in built.steps] for built in outcome.builds] == [
        [0, 0, 0], [0, 0, 0], [0, 1000, 0],
    ]  # fmt: skip


def test_what_a_store_measured_is_used_for_instructions_of_the_same_text(tmp_path: Path) -> None:
    text = "FROM scratch\nCOPY a /a\nWORKDIR /w\n"
    variant = Variant("v", Written("Dockerfile", "Dockerfile", path="Dockerfile"))
    with (
        History(repository(tmp_path / "git", {"Dockerfile": text, "a": "1"})) as history,
        Store.open(tmp_path / "store") as store,
    ):
        spec = ReplaySpec(commits=history.commits(), variants=[variant], request=BuildRequest(context=None))
        assert measured(store) == {}
        request = BuildRequest(context=None, dockerfile_text=b"FROM scratch\nWORKDIR  /w\n")
        build(request, store=store)
        table = measured(store)
        assert list(table) == ["WORKDIR /w"] and table["WORKDIR /w"].seconds > 0
        with Replayer(history, spec, store) as replayer:
            plan = replayer.plan(Inputs("Dockerfile", text.encode(), None, None, None, ""))
    copy, workdir = plan.target.steps
    assert Costs(None, table).of(workdir, 0) == table["WORKDIR /w"]
    assert Costs(table, {}).of(copy, 200_000_000) == Cost(pytest.approx(2.02), 200_000_000, "model")
