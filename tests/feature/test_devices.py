"""RUN --device: devices of this machine, as CDI specifications describe them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.feature.project import Done, Project

DICE = {
    "name": "dice",
    "annotations": {"org.mobyproject.buildkit.device.class": "random"},
    "containerEdits": {"deviceNodes": [{"path": "/opt/dice", "hostPath": "/dev/urandom"}]},
}
FULL = {
    "name": "full",
    "containerEdits": {"env": ["TOY=full"], "deviceNodes": [{"path": "/dev/toy", "hostPath": "/dev/full"}]},
}


def offer(project: Project, *devices: dict[str, Any], kind: str = "vendor.example/toy", **more: Any) -> None:
    folder = project.root / "cdi"
    folder.mkdir(exist_ok=True)
    document = {"cdiVersion": "0.6.0", "kind": kind, "devices": devices, **more}
    (folder / f"{kind.replace('/', '-')}.json").write_text(json.dumps(document))


def build(project: Project, *lines: str, allow: str = "device", options: tuple[str, ...] = ()) -> Done:
    allowed = ("--allow", allow) if allow else ()
    text = "\n".join(["FROM busybox", *lines, ""])
    return project.build(*allowed, "--cdi-spec-dir", str(project.root / "cdi"), *options, text=text)


def test_a_step_gets_the_nodes_and_variables_of_its_device(project: Project) -> None:
    offer(project, FULL, DICE, containerEdits={"env": ["ALL=toys"]})
    done = build(
        project,
        "RUN --device=vendor.example/toy=full,required "
        'test "$TOY$ALL" = fulltoys && test -c /dev/toy && ! echo x >/dev/toy',
        "RUN --device=vendor.example/toy=dice head -c 8 /opt/dice >/got && test ! -e /dev/toy",
    )
    assert done.code == 0, done.err
    image = project.image("--allow", "device", "--cdi-spec-dir", str(project.root / "cdi"))
    assert len(image.files["got"].data) == 8
    assert "opt/dice" not in image.files
    assert not any("TOY" in entry for entry in image.config["Env"])


def test_a_device_brings_a_folder(project: Project) -> None:
    tools = project.root / "tools"
    tools.mkdir()
    (tools / "word").write_text("from outside\n")
    mount = {"hostPath": str(tools), "containerPath": "/tools", "options": ["ro", "nosuid", "nodev", "bind"]}
    offer(project, {"name": "kit", "containerEdits": {"mounts": [mount]}})
    done = build(
        project, "RUN --device=vendor.example/toy=kit cp /tools/word /w; ! touch /tools/x; test ! -e /tools/x"
    )
    assert done.code == 0, done.err
    assert [path.name for path in tools.iterdir()] == ["word"]


def test_the_kind_alone_means_its_first_device_a_star_all_and_a_class_those_that_say_so(
    project: Project,
) -> None:
    offer(project, FULL, DICE)
    there = "ls -d /opt/dice /dev/toy 2>/dev/null | tr '\\n' ' '"
    done = build(
        project,
        f"RUN --device=vendor.example/toy echo first $({there})",
        f"RUN --device=vendor.example/toy=* echo star $({there})",
        f"RUN --device=random echo class $({there})",
    )
    assert done.code == 0, done.err
    assert " first /opt/dice\n" in done.err
    assert " star /dev/toy /opt/dice\n" in done.err
    assert " class /opt/dice\n" in done.err


def test_a_device_is_refused_until_it_is_allowed(project: Project) -> None:
    offer(project, FULL, DICE)
    step = "RUN --device=vendor.example/toy=full true"
    refused = build(project, step, allow="")
    assert refused.code == 1
    assert "device vendor.example/toy=full is requested by the build but not allowed" in refused.error
    assert "--allow device=vendor.example/toy=full" in refused.error
    assert "Dockerfile:2" in refused.error
    assert build(project, step, allow="device=vendor.example/toy=dice").code == 1
    assert build(project, step, allow="device=vendor.example/toy=full").code == 0
    assert build(project, step, allow="device=vendor.example/toy=*").code == 0


def test_a_device_may_be_given_another_name(project: Project) -> None:
    offer(project, FULL)
    done = build(
        project,
        "RUN --device=gpu,required test -c /dev/toy",
        allow="device=vendor.example/toy=full,alias=gpu",
    )
    assert done.code == 0, done.err


def test_a_device_may_say_itself_that_it_needs_no_leave(project: Project) -> None:
    offer(project, FULL, annotations={"org.mobyproject.buildkit.device.autoallow": "true"})
    done = build(project, "RUN --device=vendor.example/toy=full test -c /dev/toy", allow="")
    assert done.code == 0, done.err


def test_a_device_that_need_not_be_there_is_missed_with_a_warning(project: Project) -> None:
    offer(project, FULL)
    done = build(project, "RUN --device=vendor.example/toy=one true")
    assert done.code == 0, done.err
    assert "optional device 'vendor.example/toy=one' is not registered" in done.err


def test_a_required_device_is_refused_with_its_line(project: Project) -> None:
    offer(project, FULL)
    done = build(project, "RUN --device=vendor.example/toy=one,required true")
    assert done.code == 1
    assert "required device 'vendor.example/toy=one' is not registered" in done.error
    assert "vendor.example/toy=full" in done.error
    assert "Dockerfile:2" in done.error


def test_a_step_is_cached_by_the_names_of_its_devices(project: Project) -> None:
    offer(project, FULL, DICE)
    step = "RUN --device=vendor.example/toy=full true"
    assert build(project, step).summary == (1, 0)
    offer(project, {**FULL, "containerEdits": {"env": ["TOY=another"]}}, DICE)
    assert build(project, step).summary == (1, 1)
    assert build(project, "RUN --device=vendor.example/toy=dice true").summary == (1, 0)
    assert build(project, "RUN true").summary == (1, 0)


def test_hooks_are_refused_by_name(project: Project) -> None:
    hook = {"hookName": "createContainer", "path": "/bin/true"}
    offer(project, {"name": "hooked", "containerEdits": {"env": ["A=1"], "hooks": [hook]}})
    done = build(project, "RUN --device=vendor.example/toy=hooked true")
    assert done.code == 1
    assert "device vendor.example/toy=hooked needs hooks, which RUN does not have" in done.error


def test_a_node_that_is_gone_is_named(project: Project) -> None:
    offer(project, {"name": "gone", "containerEdits": {"deviceNodes": [{"path": "/dev/gone-toy"}]}})
    done = build(project, "RUN --device=vendor.example/toy=gone true")
    assert done.code == 1
    assert "needs /dev/gone-toy, which is not on this machine" in done.error


def test_a_specification_with_a_fault_is_told_and_the_others_count(project: Project) -> None:
    offer(project, FULL)
    (project.root / "cdi" / "bad.json").write_text('{"cdiVersion": "0.6.0", "kind": "a/b", "device": []}')
    done = build(project, "RUN --device=vendor.example/toy=full test -c /dev/toy")
    assert done.code == 0, done.err
    assert "bad.json: devices: field required" in done.err


def test_the_user_of_the_step_may_use_a_node_that_is_made_for_it(project: Project) -> None:
    node = {"path": "/opt/dice", "hostPath": "/dev/urandom"}
    if os.geteuid() == 0:  # who makes no nodes takes them as they are
        node = {**node, "fileMode": 0o600}
    offer(project, {"name": "dice", "containerEdits": {"deviceNodes": [node]}})
    done = build(project, "USER app", "RUN --device=vendor.example/toy=dice head -c 1 /opt/dice | wc -c")
    assert done.code == 0, done.err
    assert " 1\n" in done.err


def test_a_folder_for_specifications_has_to_be_there(project: Project) -> None:
    done = project.build("--cdi-spec-dir", str(Path(project.root, "none")), text="FROM busybox\n")
    assert done.code == 2
    assert "no such folder" in done.error


def test_a_dry_run_says_that_a_device_is_not_allowed(project: Project) -> None:
    offer(project, FULL)
    done = build(project, "RUN --device=vendor.example/toy=full true", allow="", options=("--dry-run",))
    assert done.code == 1
    assert "not allowed" in done.error
