"""compose: images of other images' layers, put together without a step that makes them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import minibuild
from minibuild import Builder, ComposeRequest, RegistryOptions, UsageError
from tests.feature.conftest import lacking
from tests.feature.project import Image, Project
from tests.feature.test_squash import kinds
from tests.servers.registry import FakeRegistry

ONE = """
FROM busybox
RUN mkdir -p /d/sub && echo one > /d/f && echo two > /d/sub/g && ln /d/f /d/hard && chmod 700 /d/sub
RUN echo x > /gone && chown 12:34 /d/f
ENV NAME=one
"""
TWO = r"""
FROM busybox
RUN mkdir -p /d && echo other > /d/f && ln -s f /d/soft && rm -rf /tmp && echo file > /tmp
RUN rm /d/soft && mkdir /d/soft && echo in > /d/soft/in && head -c 200000 /dev/zero > /large
ENV NAME=two
"""


@pytest.fixture
def two_images(project: Project) -> Project:
    project.built("-t", "one", text=ONE)
    project.built("-t", "two", text=TWO)
    return project


def composed(project: Project, *arguments: str) -> Image:
    """The image that ``compose`` gives."""
    folder = project.root / f"composed{len(list(project.root.glob('composed*')))}"
    done = project.command("compose", *arguments, "-o", f"type=oci,tar=false,dest={folder}")
    assert done.code == 0, done.err
    image = Image(folder)
    assert done.out.strip() == image.manifest["config"]["digest"]
    return image


def saved(project: Project, name: str) -> Image:
    return composed(project, "merge", name)


def test_a_merge_is_the_layers_of_all_in_turn_with_the_first_ones_configuration(two_images: Project) -> None:
    one, two = saved(two_images, "one"), saved(two_images, "two")
    image = composed(two_images, "merge", "one", "two")
    assert image.diff_ids == [*one.diff_ids, *two.diff_ids]
    assert image.manifest["layers"] == [*one.manifest["layers"], *two.manifest["layers"]]
    assert image.config == one.config
    assert (
        image.text("d/f") == "other\n" and image.text("gone") == "x\n" and image.text("d/soft/in") == "in\n"
    )
    assert image.files["d/hard"].data == b"one\n"
    lines = image.document["history"]
    assert sum(not line.get("empty_layer") for line in lines) == len(image.diff_ids)
    assert any("NAME=one" in line for line in image.history) and "NAME=two" not in str(image.history)


def test_what_a_layer_deletes_is_deleted_below_it_and_not_above(two_images: Project) -> None:
    two_images.built("-t", "rm", text="FROM one\nRUN rm /gone && echo > /last\n")
    assert "gone" not in composed(two_images, "merge", "one", "rm").files
    assert "gone" in composed(two_images, "merge", "rm", "one").files
    just = composed(two_images, "diff", "one", "rm", "-t", "just")
    assert set(just.files) >= {"last"} and len(just.diff_ids) == 1
    assert "gone" not in composed(two_images, "merge", "one", "just").files


def test_the_difference_to_what_it_is_built_on_is_its_own_layers(two_images: Project) -> None:
    one = saved(two_images, "one")
    two_images.built("-t", "base", text="FROM busybox\n")
    above = composed(two_images, "diff", "base", "one")
    base = len(saved(two_images, "base").diff_ids)
    assert above.manifest["layers"] == one.manifest["layers"][base:]
    assert above.config == one.config and len(above.history) == len(one.history) - base


@pytest.mark.parametrize(("lower", "upper"), [("one", "two"), ("two", "one")])
def test_the_difference_merged_onto_the_lower_has_the_files_of_the_upper(
    two_images: Project, lower: str, upper: str
) -> None:
    difference = composed(two_images, "diff", lower, upper, "-t", "diff")
    assert len(difference.diff_ids) == 1
    image = composed(two_images, "merge", lower, "diff", "--config-from", upper)
    want = saved(two_images, upper)
    assert kinds(image) == kinds(want) and image.config == want.config


def test_a_difference_is_worked_out_once(two_images: Project) -> None:
    first = two_images.command("compose", "diff", "one", "two", "-t", "first")
    again = two_images.command("compose", "diff", "one", "two", "-t", "again")
    assert "DONE" in first.step("writing the difference")
    assert again.cached("writing the difference") and again.out == first.out


def test_equal_files_in_other_layers_are_no_difference(two_images: Project) -> None:
    two_images.built("-t", "flat", "--squash=all", text=ONE)
    image = composed(two_images, "diff", "one", "flat")
    assert image.diff_ids == [] and image.history == []


def test_nothing_is_fetched_or_sent_where_the_registry_has_all(
    project: Project, registry: FakeRegistry
) -> None:
    for name in ("one", "two"):
        project.built("-t", f"{registry.host}/{name}:1", "--push", text=ONE if name == "one" else TWO)
    fresh = {"MINIBUILD_ROOT": str(project.root / "fresh")}
    registry.seen.clear()
    names = [f"{registry.host}/one:1", f"{registry.host}/two:1"]
    done = project.command(
        "compose", "merge", *names, "-t", f"{registry.host}/both:1", "--push", environment=fresh
    )
    assert done.code == 0, done.err
    layers = set(registry.repository("both").blobs)
    fetched = {one.path.rpartition("/")[2] for one in registry.requests("GET", "/blobs/")}
    configs = {json.loads(_manifest(registry, name))["config"]["digest"] for name in ("one", "two")}
    assert fetched == configs
    assert len(layers) > 3 and registry.bytes_received < 20_000
    # and the name stands for it here: layers of both places are found when they are needed
    out = project.root / "files"
    done = project.command(
        "save", f"{registry.host}/both:1", "-o", str(out), "--format", "oci", environment=fresh
    )
    assert done.code == 0, done.err


def _manifest(registry: FakeRegistry, name: str) -> bytes:
    repository = registry.repository(name)
    data: bytes = repository.manifests[repository.tags["1"]][1]
    return data


def test_layouts_archives_and_nothing_at_all_can_take_part(two_images: Project) -> None:
    layout = f"oci-layout://{two_images.bases}:busybox"
    image = composed(two_images, "merge", "scratch", layout, "one", "--config-from", "one")
    assert image.diff_ids[-1] == saved(two_images, "one").diff_ids[-1]
    assert image.config["Env"][-1] == "NAME=one"
    archive = two_images.root / "one.tar"
    two_images.command("save", "one", "-o", str(archive), "--format", "oci")
    both = composed(two_images, "merge", "two", str(archive))
    assert both.diff_ids == [*saved(two_images, "two").diff_ids, *saved(two_images, "one").diff_ids]
    whole = composed(two_images, "diff", "scratch", "one")
    assert whole.diff_ids == saved(two_images, "one").diff_ids


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("merge", "one"), "would go nowhere"),
        (("merge", "one", "--push"), "--push without a name"),
        (("merge", "./one", "-t", "x"), "oci-layout://"),
        (("merge", "./one.tar", "-t", "x"), "one.tar does not exist"),
        (("merge", "{bases}/index.json", "-t", "x"), "cannot read"),
        (("merge", "oci-layout:///nowhere", "-t", "x"), "no OCI image layout"),
        (("diff", "one", "nothing-like-it", "-t", "x", "--pull", "never"), "no image nothing-like-it"),
        (("merge", "oci-layout://{bases}:busybox", "--platform", "linux/riscv64", "-t", "x"), "riscv64"),
    ],
)
def test_what_cannot_be_is_refused_in_one_message(
    two_images: Project, arguments: tuple[str, ...], words: str
) -> None:
    done = two_images.command("compose", *(one.format(bases=two_images.bases) for one in arguments))
    assert done.code != 0 and words in done.error


def test_umoci_unpacks_what_was_composed(two_images: Project, tmp_path: Path) -> None:
    if shutil.which("umoci") is None:
        lacking("umoci is not installed")
    two_images.command("compose", "diff", "one", "two", "-t", "diff")
    layout = tmp_path / "layout"
    done = two_images.command(
        "compose",
        "merge",
        "one",
        "diff",
        "-o",
        f"type=oci,tar=false,compression=gzip,force-compression=true,dest={layout}",
    )
    assert done.code == 0, done.err
    command = ["umoci", "unpack", "--rootless", "--image", f"{layout}:latest", str(tmp_path / "bundle")]
    unpacked = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert unpacked.returncode == 0, unpacked.stderr
    root = tmp_path / "bundle" / "rootfs"
    assert (root / "d" / "f").read_text() == "other\n" and not (root / "gone").exists()
    assert (root / "tmp").read_text() == "file\n" and (root / "d" / "soft" / "in").read_text() == "in\n"


def test_a_builder_composes_with_its_store_and_tells_of_it(two_images: Project) -> None:
    seen: list[object] = []
    with Builder(two_images.store, on_event=seen.append) as builder:
        result = builder.diff_layers(ComposeRequest.of("one", "two", tags=["diff"]))
        assert result.written and len(result.layers) == 1 and seen
        merged = builder.merge(ComposeRequest.of("one", "diff", config_from="two"))
        assert not merged.written and merged.layers[-1] == result.layers[0]
        assert "NAME=two" in merged.config.env
        with pytest.raises(UsageError, match="two images"):
            builder.diff_layers(ComposeRequest.of("one", "two", "one"))
    with minibuild.Store.open(two_images.store) as store:
        again = minibuild.merge(ComposeRequest.of("one", "diff", config_from="two"), store=store)
        assert again.image_id == merged.image_id
        assert RegistryOptions() == ComposeRequest.of("one").registry
