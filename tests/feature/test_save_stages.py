"""--save-stages: what the target was made from, as images to run and build on."""

from __future__ import annotations

import json

from tests.feature.project import Project

TEXT = """
FROM busybox AS tools
ENV A=tools
RUN echo tool > /tool
FROM tools AS build
RUN cat /tool > /made
FROM busybox AS unused
RUN exit 1
FROM scratch
COPY --from=build /made /
"""


def test_stages_become_images_that_can_be_built_on(project: Project) -> None:
    done = project.built("--save-stages", "-t", "app", "-t", "team/app:1.0", text=TEXT)
    assert "stage build is app:latest-build, team/app:1.0-build" in done.err
    names = {
        line.split()[0] + ":" + line.split()[1] for line in project.command("images").out.splitlines()[1:]
    }
    wanted = {
        f"{name}{stage}" for name in ("app:latest", "team/app:1.0") for stage in ("", "-tools", "-build")
    }
    assert names == wanted
    image = project.image(text="FROM app:latest-build\nRUN cat /tool /made > /both\n")
    assert image.text("both") == "tool\ntool\n"
    assert "A=tools" in image.config["Env"]


def test_a_saved_stage_has_the_history_and_layers_of_the_stage(project: Project) -> None:
    project.built("--save-stages", "-t", "app", text=TEXT)
    document = json.loads(project.command("inspect", "app:latest-tools").out)["config"]
    lines = [line["created_by"] for line in document["history"]]
    assert "echo tool" in lines[-1] and not any("cat /tool" in line for line in lines)
    layers = sum(not line.get("empty_layer") for line in document["history"])
    assert layers == len(document["rootfs"]["diff_ids"])


def test_stages_need_a_name_to_be_called_after(project: Project) -> None:
    done = project.build("--save-stages", text=TEXT)
    assert done.code == 2
    assert "--save-stages without a name" in done.error


def test_without_it_no_stage_is_an_image(project: Project) -> None:
    project.built("-t", "app", text=TEXT)
    assert project.command("images").out.count("\n") == 2
