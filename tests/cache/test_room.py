"""What a store holds, what may go, and that nothing goes that is needed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.cache.collect import collect
from minibuild.cache.eviction import Policy, plan_for
from minibuild.cache.inventory import Inventory, Thing
from minibuild.cache.verify import verify
from minibuild.engine.upkeep import cap_from, keep_cap, parse_age, parse_size, remover
from minibuild.errors import UsageError
from tests.feature.project import Project

TEXT = """
FROM busybox
COPY a.txt /a
RUN cat /a > /b
RUN head -c 300000 /dev/urandom > /noise
"""


def things(project: Project) -> list[dict[str, object]]:
    lines = project.command("cache", "ls", "--json").out.splitlines()
    return [json.loads(line) for line in lines]


def blob_of(project: Project, words: str) -> Path:
    """The blob of the layer of the one step with `words` in its name."""
    found = [one for one in things(project) if any(words in str(name) for name in one["names"])]  # type: ignore[attr-defined]
    assert len(found) == 1, found
    return project.store / "blobs" / str(found[0]["digest"]).replace(":", "/")


@pytest.fixture
def built(project: Project) -> Project:
    project.write("a.txt", "a")
    project.built("-t", "one", text=TEXT)
    return project


def test_du_adds_up_to_what_ls_lists(built: Project) -> None:
    document = json.loads(built.command("cache", "du", "--json").out)
    listed = things(built)
    assert document["total"] == sum(int(one["bytes"]) + int(one["unpacked"]) for one in listed)  # type: ignore[call-overload]
    assert document["kinds"]["step"]["count"] == 3
    assert "RECLAIMABLE" in built.command("cache", "du").out


def test_uses_are_the_builds_that_made_found_or_built_on_a_thing(built: Project) -> None:
    built.built()
    built.write("a.txt", "other")
    built.built()
    copies = [one["uses"] for one in things(built) if "COPY a.txt" in str(one["names"])]
    assert sorted(copies) == [1, 2]  # type: ignore[type-var]
    lines = built.command("cache", "du", "--verbose").out.splitlines()
    assert lines[0].split() == ["ID", "KIND", "SIZE", "RECLAIMABLE", "SHARED", "USED", "USES", "NAME"]
    assert [line.split(":")[0] for line in lines[-4:]] == ["Shared", "Private", "Reclaimable", "Total"]


def test_a_layer_of_two_images_is_shared(built: Project) -> None:
    built.built("-t", "two", "--label", "a=b", text=TEXT)
    document = json.loads(built.command("cache", "du", "--verbose", "--json").out)
    assert {one["kind"] for one in document["things"] if one["shared"]} >= {"step"}
    assert document["shared"] > 0 and document["shared"] + document["private"] == document["total"]
    alone = json.loads(built.command("cache", "du", "--json", "--filter", "type=mount").out)
    assert alone["shared"] == alone["total"] == 0


def test_a_filter_picks_by_kind_and_name(built: Project) -> None:
    done = built.command("cache", "ls", "--filter", "type=step", "--filter", "name=COPY")
    assert done.out.count("COPY a.txt") == 1 and "urandom" not in done.out


@pytest.mark.parametrize("command", ["ls", "du", "prune"])
def test_an_unknown_filter_is_refused_with_the_near_miss(project: Project, command: str) -> None:
    done = project.command("cache", command, "--filter", "tpe=step")
    assert done.code == 2 and "type" in done.error


def test_prune_leaves_what_a_tag_keeps_and_a_rebuild_hits(built: Project) -> None:
    built.write("a.txt", "other")
    built.built()
    done = built.command("cache", "prune")
    assert done.code == 0 and "freed" in done.out
    built.write("a.txt", "a")
    assert built.built().summary == (3, 3)
    built.write("a.txt", "other")
    assert built.built().summary == (3, 0)


def test_a_dry_run_names_the_same_things_and_deletes_nothing(built: Project) -> None:
    built.command("rmi", "one")
    before = things(built)
    said = json.loads(built.command("cache", "prune", "--dry-run", "--json").out)
    assert things(built) == before
    done = json.loads(built.command("cache", "prune", "--json").out)
    assert {one["id"] for one in said["things"]} == {one["id"] for one in done["things"]}
    assert said["dry_run"] and done["freed"] >= 300_000


def test_after_the_last_thing_is_gone_its_records_are_gone_too(built: Project) -> None:
    built.command("rmi", "one")
    for name in os.listdir(built.context):
        (built.context / name).unlink()
    built.context.rmdir()
    built.command("builds", "rm", "last")
    built.command("cache", "prune", "--all")
    with Store.open(built.store) as store:
        left = {
            kind: len(list(store.records(kind).names())) for kind in os.listdir(built.store / "records-v2")
        }
        assert not list(store.snapshots.names())
    for kind in ("steps", "parts", "indexes", "listings", "places", "builds", "contents", "sums"):
        assert not left.get(kind), f"{kind}: {left[kind]}"


def test_a_pinned_step_outlives_pruning_and_goes_once_unpinned(built: Project) -> None:
    built.command("rmi", "one")
    assert built.command("cache", "pin", "RUN head").code == 0
    built.command("cache", "prune")
    assert [one["kept"] for one in things(built) if one["kind"] == "step"] == ["pin"]
    assert built.command("cache", "unpin", "RUN head").code == 0
    built.command("cache", "prune")
    assert not [one for one in things(built) if one["kind"] == "step"]


def test_what_a_tag_keeps_too_can_be_unpinned(built: Project) -> None:
    built.built("-t", "named")
    assert built.command("cache", "pin", "RUN head").code == 0
    assert built.command("cache", "unpin", "RUN head").out.startswith("Unpinned: ")
    assert "not pinned" in built.command("cache", "unpin", "RUN head").err


def test_the_cap_is_kept_after_every_build(project: Project) -> None:
    project.write("a.txt", "a")
    for number in range(4):
        project.write("a.txt", str(number))
        project.built(text=TEXT, environment={"MINIBUILD_KEEP_STORAGE": "700kB"})
        held = json.loads(project.command("cache", "du", "--filter", "kept=0", "--json").out)
        base = sum(int(one["bytes"]) for one in things(project) if one["kind"] == "base")  # type: ignore[call-overload]
        assert held["total"] + base <= 700_000


def test_a_cap_that_names_and_pins_exceed_is_said_to_be(project: Project) -> None:
    project.write("a.txt", "a")
    done = project.built("-t", "kept", text=TEXT, environment={"MINIBUILD_KEEP_STORAGE": "100kB"})
    assert "more than its cap of 100.0kB: names and pins hold it" in done.err
    done = project.command("cache", "gc", "--keep-storage", "100kB")
    assert "more than 100.0kB is left: names and pins hold it" in done.out


def test_a_count_that_found_room_holds_until_something_comes_or_goes(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("a.txt", "a")
    project.built(text=TEXT)
    counts = []
    monkeypatch.setattr(
        "minibuild.cache.inventory.Inventory", lambda store: counts.append(1) or Inventory(store)
    )
    with Store.open(project.store) as store:
        age(store)
        for _ in range(3):
            keep_cap(store, 10**9, "auto")
        assert len(counts) == 1
        keep_cap(store, 2 * 10**9, "auto")
        assert len(counts) == 2
        store.blobs.put(b"another")
        keep_cap(store, 2 * 10**9, "auto")
        assert len(counts) == 3


def age(store: Store) -> None:
    """Let the store look as if nothing had come or gone for a minute."""
    for folder in ("blobs/sha256", "snapshots-v1", "caches-v1"):
        if (store.root / folder).is_dir():
            os.utime(store.root / folder, (time.time() - 60,) * 2)


def test_the_cap_of_the_config_file_counts_where_the_environment_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "minibuild"
    folder.mkdir()
    (folder / "config.toml").write_text('[cache]\nkeep-storage = "2GB"\n')
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert cap_from(environ) == 2_000_000_000
    assert cap_from({**environ, "MINIBUILD_KEEP_STORAGE": "1MiB"}) == 1 << 20


@pytest.mark.parametrize(
    ("text", "size"), [("10GB", 10**10), ("1.5k", 1500), ("512MiB", 512 << 20), ("7", 7), ("2tb", 2 * 10**12)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text, "--keep-storage") == size


def test_lengths_of_time_add_up() -> None:
    assert parse_age("1h30m", "--max-age") == 5400
    with pytest.raises(UsageError, match="no length of time"):
        parse_age("soon", "--max-age")


def thing(name: str, size: int, seconds: float, *, days: float = 0.0, kept: str = "") -> Thing:
    used = time.time_ns() - int(days * 86_400e9)
    digest = Digest.of(name.encode())
    return Thing("step", name, digest, bytes=size, seconds=seconds, used_ns=used, kept=kept, names=[name])


class Given(Inventory):
    """An inventory of things made up."""

    def __init__(self, *made: Thing) -> None:
        self.things = list(made)


def gone(inventory: Inventory, keep: int) -> list[str]:
    return [one.id for one in plan_for(inventory, Policy(keep_bytes=keep), time.time_ns()).things]


def test_what_is_quickly_made_again_for_its_bytes_goes_first() -> None:
    given = Given(thing("copy", 1000, 0.1), thing("compile", 1000, 60.0), thing("download", 1000, 5.0))
    assert gone(given, 2500) == ["copy"]
    assert gone(given, 1500) == ["copy", "download"]


def test_age_counts_against_worth() -> None:
    given = Given(thing("old", 1000, 10.0, days=1), thing("new", 1000, 1.0))
    assert gone(given, 1000) == ["old"]


def test_what_is_kept_is_never_in_the_plan() -> None:
    given = Given(thing("tagged", 1000, 0.0, kept="tag x"), thing("loose", 10, 100.0))
    assert gone(given, 0) == ["loose"]


def test_the_unpacked_form_goes_before_the_blob() -> None:
    one = thing("layer", 1000, 30.0)
    one.diff_id = str(Digest.of(b"layer"))
    one.unpacked = 5000
    plan = plan_for(Given(one), Policy(keep_bytes=2000), time.time_ns())
    assert not plan.things and plan.unpacked == [one] and plan.left == 1000


def test_what_a_build_that_runs_has_leased_stays(built: Project) -> None:
    built.command("rmi", "one")
    path = blob_of(built, "RUN head")
    with Store.open(built.store) as store, store.lease() as lease:
        lease.add(f"sha256:{path.name}")
        built.command("cache", "prune", "--all")
        assert path.exists()
    built.command("cache", "gc")
    assert not path.exists()


def test_verify_names_the_damaged_blob_and_its_step(built: Project) -> None:
    path = blob_of(built, "RUN head")
    damage(path)
    done = built.command("cache", "verify")
    assert done.code == 1
    assert path.name in done.out and "RUN head" in done.out and "1 damaged" in done.out
    assert not path.exists()
    assert built.command("cache", "verify").code == 0


def test_verify_can_leave_what_is_damaged(built: Project) -> None:
    path = blob_of(built, "RUN head")
    damage(path)
    assert built.command("cache", "verify", "--keep", "--json").code == 1
    assert path.exists()


def test_verify_reads_every_blob_once(built: Project) -> None:
    with Store.open(built.store) as store:
        result = verify(store)
        assert result.blobs == len(list(store.blobs)) and not result.damaged


def damage(path: Path) -> None:
    """Change a byte in the middle and keep the size."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
    os.utime(path, ns=(0, 0))


def test_a_build_over_a_damaged_blob_makes_it_again(built: Project) -> None:
    path = blob_of(built, "RUN head")
    damage(path)
    image = built.image("-t", "one")
    assert image.files["noise"].data and image.text("b") == "a"


def test_a_build_over_a_missing_blob_makes_it_again(built: Project) -> None:
    blob_of(built, "COPY a.txt").unlink()
    done = built.built()
    assert "its result is no longer in the cache" in done.step("COPY a.txt")
    assert done.cached("RUN cat /a")  # the same bytes came of it


def test_damage_found_while_unpacking_is_built_again_once(built: Project) -> None:
    path = blob_of(built, "COPY a.txt")
    stamp = path.stat().st_mtime_ns
    damage(path)
    os.utime(path, ns=(stamp, stamp))  # as a failing disk would, without a trace
    with Store.open(built.store) as store, remover() as remove:
        for name in list(store.snapshots.names()):
            folder = store.snapshots.path(name)
            assert folder is not None
            remove(folder)
        for name in list(store.records("indexes").names()):
            store.records("indexes").delete(name)
    built.write("Dockerfile", TEXT.replace("cat /a > /b", "cat /a > /c"))
    done = built.built()
    assert "is gone or damaged; what made it runs again" in done.err
    assert built.image().text("c") == "a"


def test_a_blob_written_to_and_put_back_is_read_once_and_believed(built: Project) -> None:
    path = blob_of(built, "RUN head")
    os.utime(path, ns=(5, 5))
    assert built.built().summary == (3, 3)
    assert built.built().summary == (3, 3)


def test_collect_is_refused_while_another_runs(built: Project) -> None:
    from minibuild_store.errors import StoreBusy

    with Store.open(built.store) as store:

        def roots() -> object:
            with pytest.raises(StoreBusy):
                collect(store, Policy(), timeout=0)
            from minibuild_store.gc import Roots

            return Roots()

        store.gc(roots)  # type: ignore[arg-type]
