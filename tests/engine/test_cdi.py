"""CDI specifications as files: what they offer, what is refused, and which file wins."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from minibuild.engine.cdi import load

YAML = """\
---
cdiVersion: "0.6.0"
kind: vendor.example/toy
annotations:
  loud: true
devices:
- name: "0"
  containerEdits:
    env: [A=1]
    deviceNodes:
    - path: /dev/a
      type: c
      major: 1
      minor: 7
      fileMode: 0o600
- name: one.b:c
  annotations: {quiet: "no"}
  containerEdits:
    mounts:
    - {hostPath: /a, containerPath: /b, options: [ro]}
containerEdits:
  additionalGids: [44]
"""


def write(folder: Path, name: str, value: str, *, kind: str = "vendor.example/toy") -> None:
    folder.mkdir(exist_ok=True)
    device = {"name": "one", "containerEdits": {"env": [f"V={value}"]}}
    (folder / name).write_text(json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": [device]}))


def test_yaml_is_read(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(YAML.replace("0o600", "384"))
    registry = load([tmp_path])
    assert registry.faults == ()
    assert list(registry.devices) == ["vendor.example/toy=0", "vendor.example/toy=one.b:c"]
    first, second = registry.devices.values()
    assert (first.edits.env, first.shared.additional_gids) == (("A=1",), (44,))
    assert (first.edits.device_nodes[0].minor, first.edits.device_nodes[0].file_mode) == (7, 0o600)
    assert second.annotations == {"loud": "true", "quiet": "no"}


def test_yaml_without_its_reader_is_refused_with_the_cure_and_json_in_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "toy.yaml").write_text(YAML)
    write(tmp_path, "json.yaml", "1", kind="a.b/c")
    registry = load([tmp_path])
    assert list(registry.devices) == ["a.b/c=one"]
    assert "pip install 'minibuild[devices]'" in registry.faults[0]


def test_a_later_folder_wins(tmp_path: Path) -> None:
    write(tmp_path / "a", "x.json", "a")
    write(tmp_path / "b", "y.json", "b")
    registry = load([tmp_path / "a", tmp_path / "b", tmp_path / "missing"])
    assert registry.devices["vendor.example/toy=one"].edits.env == ("V=b",)


def test_a_folder_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    write(tmp_path / "b", "y.json", "b")
    registry = load([tmp_path / "loop", tmp_path / "b"])
    assert list(registry.devices) == ["vendor.example/toy=one"]
    assert "too many levels of symbolic links" in registry.faults[0]


def test_two_of_a_name_in_one_folder_are_none(tmp_path: Path) -> None:
    write(tmp_path, "x.json", "a")
    write(tmp_path, "y.json", "b")
    registry = load([tmp_path])
    assert registry.devices == {}
    assert "x.json" in registry.faults[0]
    assert "y.json" in registry.faults[0]


def test_other_files_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, "x.json.off", "a")
    assert load([tmp_path]).devices == {}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"cdiVersion": "9.0.0"}, "cdiVersion '9.0.0' is not known"),
        ({"kind": "toy"}, "kind 'toy' is not VENDOR/CLASS"),
        ({"devices": []}, "there are no devices in it"),
        ({"devices": [{"name": "a b", "containerEdits": {"env": ["A=1"]}}]}, "no name for a device"),
        ({"devices": [{"name": "a", "containerEdits": {}}]}, "device a has no containerEdits"),
        ({"devices": [{"name": "a", "containerEdits": {"env": ["A"]}}]}, "containerEdits.env.0"),
        ({"surplus": 1}, "surplus: extra inputs are not permitted"),
        ({"devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}}] * 2}, "two devices are called a"),
    ],
)
def test_a_fault_is_said_in_one_sentence(tmp_path: Path, change: dict[str, object], fault: str) -> None:
    device = {"name": "one", "containerEdits": {"env": ["A=1"]}}
    document = {"cdiVersion": "0.6.0", "kind": "a/b", "devices": [device], **change}
    (tmp_path / "x.json").write_text(json.dumps(document))
    registry = load([tmp_path])
    assert registry.devices == {}
    assert fault in registry.faults[0]


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_document_is_a_fault(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    (tmp_path / "y.yaml").write_text(text)
    assert len(load([tmp_path]).faults) == 2
