"""Which isolation a machine gets, and what it is told to do to get one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.errors import SandboxError, UsageError
from minibuild.sandbox import capabilities, exe, probe, userns
from minibuild.sandbox.probe import Machine, Mode
from minibuild.sandbox.userns import IdRange

ORDINARY = Machine(
    uid=1000,
    gid=1000,
    capabilities=0,
    kernel=(6, 1),
    subuid=(IdRange(100000, 65536),),
    subgid=(IdRange(100000, 65536),),
    settings=(("user/max_user_namespaces", "1000"),),
)
ROOT = replace(ORDINARY, uid=0, gid=0, capabilities=(1 << 41) - 1, subuid=(), subgid=())
CONTAINER = replace(ROOT, capabilities=capabilities.DEFAULT)


def test_root_needs_no_user_namespace() -> None:
    assert probe.ladder(ROOT)[0] == [Mode.ROOT, Mode.ALL_IDS, Mode.SINGLE, Mode.CHROOT]


def test_an_ordinary_user_gets_one() -> None:
    try:
        userns.require_tools()
    except SandboxError:
        pytest.skip("newuidmap is not installed")
    assert probe.ladder(ORDINARY)[0] == [Mode.SUBUID, Mode.SINGLE]


def test_a_user_without_further_ids_gets_one_with_a_single_id() -> None:
    assert probe.ladder(replace(ORDINARY, subuid=()))[0] == [Mode.SINGLE]


def test_root_in_a_container_changes_the_root_folder_where_namespaces_are_denied() -> None:
    denied = replace(CONTAINER, settings=(("user/max_user_namespaces", "0"),))
    assert probe.ladder(denied)[0] == [Mode.CHROOT]


def test_a_mode_that_is_named_is_the_only_one_tried() -> None:
    assert probe.ladder(ROOT, "chroot")[0] == [Mode.CHROOT]
    assert probe.ladder(ROOT, "none") == ([], {})


def test_where_nothing_works_each_reason_is_told_with_a_cure() -> None:
    machine = replace(ORDINARY, subuid=(), settings=(("user/max_user_namespaces", "0"),))
    modes, refused = probe.ladder(machine)
    assert not modes
    error = probe.nothing_works({Mode.SINGLE: refused[Mode.SINGLE], Mode.CHROOT: refused[Mode.CHROOT]})
    assert "max_user_namespaces = 0" in error.message
    assert "sysctl -w" in error.cure


def test_where_a_mode_that_is_named_does_not_work_it_is_not_said_that_none_does() -> None:
    refused = {Mode.SUBUID: SandboxError("no ids"), Mode.SINGLE: SandboxError("no namespaces")}
    error = probe.nothing_works(refused, "namespace")
    assert error.message.startswith("isolation namespace does not work on this machine: ")
    assert "leave isolation at auto" in error.cure


@pytest.mark.parametrize(
    ("machine", "mode", "message", "cure"),
    [
        (CONTAINER, Mode.ROOT, "root without CAP_SYS_ADMIN", "--cap-add SYS_ADMIN"),
        (
            replace(ORDINARY, subuid=()),
            Mode.SUBUID,
            "no subordinate ids in /etc/subuid",
            "usermod --add-subuids",
        ),
        (
            replace(ORDINARY, subgid=(IdRange(5, 1),)),
            Mode.SUBUID,
            "no subordinate ids in /etc/subgid",
            "--add-subgids",
        ),
        (replace(CONTAINER, capabilities=1), Mode.CHROOT, "needs CAP_SYS_CHROOT", "--cap-drop"),
        (ORDINARY, Mode.CHROOT, "cannot change the root folder", "Run as root"),
        (
            replace(ORDINARY, settings=(("kernel/unprivileged_userns_clone", "0"),)),
            Mode.SUBUID,
            "denies user namespaces",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            replace(ORDINARY, settings=(("user/max_user_namespaces", "0"),)),
            Mode.SINGLE,
            "allows no user namespaces",
            "sysctl -w user.max_user_namespaces",
        ),
        (replace(ORDINARY, kernel=(5, 4)), Mode.SINGLE, "Linux 5.4 is too old", "5.12"),
    ],
)
def test_what_is_missing_is_named_with_its_cure(
    machine: Machine, mode: Mode, message: str, cure: str
) -> None:
    error = probe.obstacle(machine, mode)
    assert error is not None
    assert message in error.message
    assert cure in error.cure


def test_the_tools_are_named_where_they_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(userns, "_PLACES", ())
    with pytest.raises(SandboxError, match="newuidmap is not installed") as caught:
        userns.require_tools()
    assert "apt-get install uidmap" in caught.value.cure


def test_an_isolation_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="'jail'") as caught:
        probe.ladder(ROOT, "jail")
    assert "single-id" in caught.value.cure


def test_apparmor_is_blamed_where_it_restricts() -> None:
    machine = replace(ORDINARY, settings=(("kernel/apparmor_restrict_unprivileged_userns", "1"),))
    error = probe.explain(machine, Mode.SUBUID, "make a user namespace: Permission denied")
    assert "AppArmor" in error.message
    assert "sysctl" in error.cure


def test_looking_tells_about_this_machine() -> None:
    machine = probe.look()
    assert machine.uid == os.geteuid()
    assert machine.kernel >= (4, 0)


def test_ranges_are_found_by_login_and_by_number() -> None:
    text = "me:100000:65536\nother:1:2\n# me:5:5\n1000:300000:1000\nme:x:1\nme:1\n\nme:100000:65536\n"
    assert userns.parse_ranges(text, ("me", "1000")) == (IdRange(100000, 65536), IdRange(300000, 1000))


def test_the_range_that_the_cure_names_is_nobodys() -> None:
    assert userns.free_range(["", "# none\n"]) == 100_000
    assert userns.free_range(["me:100000:65536\n", "you:165536:65536\n"]) == 231_072
    assert userns.free_range(["me:120000:1000\nlow:1000:10\nfar:900000:65536\n"]) == 121_000


def test_a_missing_file_gives_no_ranges(tmp_path: Path) -> None:
    assert userns.read_ranges(tmp_path / "subuid", 0) == ()


@given(st.lists(st.tuples(st.integers(1, 1 << 31), st.integers(1, 1 << 20)), max_size=5))
def test_a_map_numbers_the_ranges_without_a_gap(ranges: list[tuple[int, int]]) -> None:
    rows = userns.id_map(1000, [IdRange(*found) for found in ranges])
    assert rows[0] == (0, 1000, 1)
    expected = 0
    for inside, _outside, count in rows:
        assert inside == expected
        expected += count


def test_a_sealed_copy_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"content")
    fd = exe.sealed_copy(tmp_path / "program")
    try:
        assert os.pread(fd, 100, 0) == b"content"
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
    finally:
        os.close(fd)
