"""--squash: fewer layers, the same files, and a history that still tells how they came."""

from __future__ import annotations

import os

import pytest

from tests.feature.project import Image, Project

TEXT = r"""
FROM busybox
RUN mkdir -p /d/e /gone/deep && echo 1 > /d/one && echo 2 > /d/e/two && echo x > /gone/deep/x && chmod 700 /d
RUN rm -r /gone && echo 3 > /d/three && ln /d/three /d/linked && ln -s three /d/soft
RUN rm -r /d/e && mkdir /d/e && echo new > /d/e/new && rm /d/one && mkdir /d/one && echo in > /d/one/in
RUN head -c 200000 /dev/zero > /large && chown 12:34 /large && rm -rf /tmp && echo file > /tmp
ENV A=1
"""


@pytest.fixture
def plain(project: Project) -> Image:
    return project.image(text=TEXT)


def kinds(image: Image) -> dict[str, object]:
    """What the image's files are; which name of a hard link is the file does not count."""
    found = {}
    for path, file in image.files.items():
        kind, link = (b"0", "") if file.kind == b"1" else (file.kind, file.link)
        found[path] = (kind, file.mode, file.owner, file.mtime, file.data, link)
    return found


@pytest.mark.parametrize("option", ["--squash", "--squash=all"])
def test_the_files_are_the_same_in_fewer_layers(project: Project, plain: Image, option: str) -> None:
    image = project.image(option)
    base = len(Image(project.bases, "busybox").diff_ids)
    assert len(image.diff_ids) == (base + 1 if option == "--squash" else 1)
    assert kinds(image) == kinds(plain)
    assert image.diff_ids[:base] == plain.diff_ids[:base] or option == "--squash=all"


@pytest.mark.parametrize("option", ["--squash", "--squash=all"])
def test_history_keeps_its_lines_and_counts_the_layers_there_are(
    project: Project, plain: Image, option: str
) -> None:
    image = project.image(option)
    assert image.history == plain.history
    lines = image.document["history"]
    assert sum(not line.get("empty_layer") for line in lines) <= len(image.diff_ids)
    assert not lines[-2].get("empty_layer")
    assert image.config == plain.config


def test_a_layer_squashed_with_another_epoch_is_not_taken_for_this_ones(project: Project) -> None:
    os.utime(project.write("aged", "old"), (500, 500))
    times = []
    for epoch in (1000, 2000):
        option = f"--build-arg=SOURCE_DATE_EPOCH={epoch}"
        image = project.image("--squash=all", option, text="FROM busybox\nCOPY aged /aged\n")
        times.append(max(file.mtime for file in image.files.values()))
    assert times == [1000, 2000]


def test_squashing_again_finds_the_layer_and_gives_the_same_image(project: Project, plain: Image) -> None:
    first = project.image("--squash")
    done = project.built("--squash")
    assert done.cached("squashing layers")
    assert project.image("--squash").digest == first.digest


def test_a_squashed_image_can_be_built_on_and_run(project: Project, plain: Image) -> None:
    project.built("--squash=all", "-t", "small")
    image = project.image(text="FROM small\nRUN cat /d/three /d/one/in > /both; test ! -e /d/e/two\n")
    assert image.text("both") == "3\nin\n"
    assert len(image.diff_ids) == 2


def test_what_the_base_has_and_the_build_deletes_is_gone(project: Project) -> None:
    project.built(
        "-t", "base", text="FROM busybox\nRUN mkdir -p /a/b /c && echo 1 > /a/b/f && echo 2 > /c/f\n"
    )
    text = "FROM base\nRUN rm -r /a && mkdir /a && echo new > /a/f\nRUN rm /c/f && touch /z\n"
    image = project.image("--squash", text=text)
    names = {name for name in image.files if name.split("/")[0] in ("a", "c", "z")}
    assert names == {"a", "a/f", "c", "z"}
    assert {"a/.wh.b", "c/.wh.f"} <= set(image.layer(-1))


def test_a_word_that_is_no_way_to_squash_is_refused_before_anything_runs(project: Project) -> None:
    done = project.build("--squash=some", text="FROM busybox\nRUN echo ran\n")
    assert done.code == 2
    assert "--squash=some is none of new, all" in done.error
    assert "RUN echo ran" not in done.err
