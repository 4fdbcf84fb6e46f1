"""Opening a folder as a store."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from minibuild_store import layout
from minibuild_store.errors import StoreUnusable
from minibuild_store.store import Store


def test_a_new_store_is_for_its_owner_only(root: Path) -> None:
    Store.open(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_missing_parents_are_made(tmp_path: Path) -> None:
    Store.open(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c" / "store.json").exists()


def test_an_empty_folder_becomes_a_store(root: Path) -> None:
    root.mkdir()
    (root / "lost+found").mkdir()
    Store.open(root)
    assert (root / "blobs" / "sha256").is_dir()


def test_a_store_opens_again_with_all_it_holds(root: Path) -> None:
    with Store.open(root) as store:
        info = store.blobs.put(b"hello")
    with Store.open(root) as store:
        assert store.blobs.get(info.digest) == b"hello"


def test_a_folder_of_other_things_is_refused_and_left_alone(root: Path) -> None:
    root.mkdir()
    (root / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreUnusable, match="is not a store; name an empty folder"):
        Store.open(root)
    assert os.listdir(root) == ["thesis.txt"]


def test_a_file_in_the_place_of_the_store_is_refused(root: Path) -> None:
    root.write_text("x")
    with pytest.raises(StoreUnusable, match="not a folder"):
        Store.open(root)


def test_a_newer_format_is_refused_with_both_versions_named(root: Path) -> None:
    Store.open(root)
    (root / "store.json").write_text(json.dumps({"format": "minibuild-store", "version": 99}))
    with pytest.raises(StoreUnusable, match=r"has format 99, made by a newer program.*format 2"):
        Store.open(root)


def spread(root: Path) -> None:
    """Make the store one of format 1."""
    for file in [*root.glob("records-v2/*/*")]:
        group = root / "records-v1" / file.parent.name / file.name[:2]
        group.mkdir(parents=True, exist_ok=True)
        file.rename(group / file.name[2:])
    (root / "store.json").write_text('{"format":"minibuild-store","version":1}\n')


def hold(store: Store) -> dict[str, bytes | None]:
    return {str(number): store.records("k").get(str(number)) for number in range(600)}


def test_the_records_of_format_1_are_all_there_when_it_is_opened(root: Path) -> None:
    with Store.open(root) as store:
        for number in range(600):
            store.records("k").put(str(number), b"%d" % number)
        held = hold(store)
    spread(root)
    with Store.open(root) as store:
        assert hold(store) == held
        assert set(store.records("k").names()) == set(held)
    assert not (root / "records-v1").exists()
    assert json.loads((root / "store.json").read_text())["version"] == 2


def test_many_processes_may_open_a_store_of_format_1_at_once(root: Path, other: Callable[[str], Any]) -> None:
    with Store.open(root) as store:
        for number in range(600):
            store.records("k").put(str(number), b"%d" % number)
        held = hold(store)
    spread(root)
    script = "say(str(sum(store.records('k').get(str(number)) is not None for number in range(600))))\n"
    for one in [other(script) for _ in range(6)]:
        assert one.finish() == "600\n"
    assert hold(Store.open(root)) == held


def test_what_was_begun_to_bring_from_format_1_is_gone_on_with(root: Path) -> None:
    with Store.open(root) as store:
        for number in range(600):
            store.records("k").put(str(number), b"%d" % number)
        held = hold(store)
        files = sorted((root / "records-v2/k").iterdir())
    spread(root)
    for file in files[:100]:
        (root / "records-v1/k" / file.name[:2] / file.name[2:]).rename(file)
    with Store.open(root) as store:
        assert hold(store) == held


def test_the_same_format_in_other_spelling_is_accepted(root: Path) -> None:
    Store.open(root)
    (root / "store.json").write_text(json.dumps({"version": 2, "format": "minibuild-store", "note": ""}))
    Store.open(root)


@pytest.mark.parametrize(
    "marker", [b"", b"{", b"[]", b'"x"', b"{}", b'{"format":"other","version":1}', b"\xff\xfe", b"null"]
)
def test_a_marker_that_is_not_ours_is_refused(root: Path, marker: bytes) -> None:
    Store.open(root)
    (root / "store.json").write_bytes(marker)
    with pytest.raises(StoreUnusable, match="not one of ours"):
        Store.open(root)


def test_a_part_that_was_deleted_is_made_again(root: Path) -> None:
    Store.open(root)
    (root / "locks-v1").rmdir()
    with Store.open(root) as store, store.lock("x"):
        pass


def test_a_place_that_cannot_be_written_is_refused_by_name(root: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from minibuild_store.errors import StoreUnusable\n"
        "from minibuild_store.store import Store\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: Store.open(Path('/proc/minibuild'))\n"
        "except StoreUnusable as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cannot use /proc/minibuild as a store: ")


def test_a_store_that_another_process_makes_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, access = tmp_path / "store", os.access

    def made_meanwhile(path: str, mode: int) -> bool:
        allowed = access(path, mode)
        root.mkdir(exist_ok=True)
        return allowed

    monkeypatch.setattr(os, "access", made_meanwhile)
    assert Store.open(root).root == root


OPEN = """
from pathlib import Path
from minibuild_store.errors import StoreUnusable
from minibuild_store.store import Store
try: Store.open(Path(sys.argv[1]))
except StoreUnusable as error: print(error.reason)
"""


@pytest.mark.parametrize(
    "modes",
    [
        {"": 0o555},
        {"": 0o755},
        {"": 0o777, "store.json": 0},
        {"": 0o777, "store.json": 0o444, "records-v2": 0o555},
    ],
)
def test_a_store_of_another_user_is_refused(
    common: Path, unprivileged: Callable[..., str], modes: dict[str, int]
) -> None:
    root = common / "store"
    Store.open(root)
    for name, mode in modes.items():
        (root / name).chmod(mode)
    try:
        said = unprivileged(OPEN, root)
    finally:
        root.chmod(0o700)
    if os.geteuid() == 0:
        assert said.startswith("it belongs to user root, and user ")
        assert said.endswith(" may not write to it\n")
    elif modes[""] == 0o555 or not modes.get("store.json", 1):
        assert said.startswith(f"its owner may not read and write {root}")
    else:
        assert not said


def test_a_store_that_every_user_may_write_to_is_used(common: Path, unprivileged: Callable[..., str]) -> None:
    root = common / "store"
    Store.open(root)
    for path in (root, *root.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    assert not unprivileged(OPEN, root)


def test_a_store_that_another_makes_first_is_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had no marker when we looked, and has all its parts when we come to make it."""
    Store.open(root)
    answers = [False]

    def has_marker(path: str) -> bool:
        return answers.pop() if answers else real(path)

    real = layout._has_marker
    monkeypatch.setattr(layout, "_has_marker", has_marker)
    with Store.open(root) as store:
        store.blobs.put(b"x")
    assert answers == []


def test_many_processes_may_make_the_same_store_at_once(root: Path, other: Callable[[str], Any]) -> None:
    others = [other("say('open'); store.records('k').put(str(os.getpid()), b'x')") for _ in range(8)]
    for one in others:
        assert one.finish() == "open\n"
    assert len(list(Store.open(root).records("k").names())) == 8


def test_opening_costs_the_same_whatever_the_store_holds(root: Path) -> None:
    with Store.open(root) as store:
        for number in range(300):
            store.records("k").put(str(number), b"x")
            store.blobs.put(str(number).encode())
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from minibuild_store.store import Store\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(args[0]) if event in "
        "('os.listdir', 'os.scandir') else None)\n"
        "Store.open(Path(sys.argv[1]))\n"
        "print(seen)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_store_loads_only_the_standard_library_and_little_of_it() -> None:
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import minibuild_store.store\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "outside = loaded - set(sys.stdlib_module_names) - {'minibuild_store'}\n"
        "heavy = set(sys.modules) & {'dataclasses', 'inspect', 'json', 'shutil', 'subprocess', 'tempfile', "
        "'asyncio', 'logging', 'multiprocessing', 'socket', 'random'}\n"
        "print(outside, heavy)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "store")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "set() set()\n"


def test_a_store_that_cannot_be_written_to_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(root).close()
    monkeypatch.setattr(layout, "_is_open", lambda _: False)
    read_only = os.statvfs_result((4096, 4096, 1, 1, 1, 1, 1, 1, os.ST_RDONLY, 255))
    monkeypatch.setattr(layout.os, "statvfs", lambda _: read_only)
    with pytest.raises(StoreUnusable, match="its file system is read-only"):
        Store.open(root)
