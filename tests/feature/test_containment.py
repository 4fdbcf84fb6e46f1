"""Images that try to have the builder itself read, write or run something outside their root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.feature.project import Project, files_below

HIDDEN = "the host's own words"


@pytest.fixture
def canary(project: Project) -> Path:
    """A file of the host that must be neither read nor changed, in a folder that must stay as it is."""
    folder = project.root / "host"
    folder.mkdir()
    file = folder / "canary"
    file.write_text(HIDDEN)
    return file


def hostile(project: Project, canary: Path) -> None:
    """An image whose links lead to the host's folder, on every way there is."""
    up = "../" * 20
    folder = canary.parent
    project.built(
        "-t", "local/hostile",
        text=f"""
        FROM busybox
        RUN ln -s {folder} /absolute && ln -s {up}{folder} /relative \\
            && ln -s /proc/self/root{folder} /magic && ln -s loop /loop && ln -s {canary} /file \\
            && mkdir -p /deep && ln -s ../absolute /deep/link && ln -s /proc/1/environ /environ \\
            && mkfifo /fifo
        """,
    )  # fmt: skip


def untouched(project: Project, canary: Path) -> None:
    assert os.listdir(canary.parent) == ["canary"] and canary.read_text() == HIDDEN
    for path in files_below(project.store):
        with path.open("rb") as file:
            assert HIDDEN.encode() not in file.read(1 << 24), path


WAYS = ("absolute", "relative", "deep/link")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "line",
    [
        "COPY in.txt /{way}/",
        "COPY in.txt /{way}/canary",
        "COPY --chmod=777 in.txt /{way}/sub/folder/x",
        "ADD a.tar /{way}/",
        "WORKDIR /{way}/made",
        "RUN --mount=type=bind,source=in.txt,target=/{way}/canary true",
        "RUN --mount=type=cache,target=/{way}/c echo x > /{way}/c/x",
        "RUN --mount=type=tmpfs,target=/{way} echo x > /{way}/canary",
        "RUN --mount=type=secret,id=s,target=/{way}/canary cat /{way}/canary",
        "RUN mkdir -p {folder} && echo x > /{way}/canary",
    ],
)
def test_what_is_put_behind_a_link_stays_in_the_image(
    project: Project, canary: Path, way: str, line: str
) -> None:
    hostile(project, canary)
    project.write("in.txt", "from the context")
    project.write("a.tar", b"\0" * 10240)
    project.environment["s"] = "value"
    line = line.format(way=way, folder=canary.parent)
    project.built("--secret", "id=s", text=f"FROM local/hostile\n{line}\n")
    untouched(project, canary)


@pytest.mark.parametrize(
    "source", ["/file", "/absolute/canary", "/relative/canary", "/deep/link/canary", "/magic"]
)
def test_what_is_read_behind_a_link_is_the_images_own(project: Project, canary: Path, source: str) -> None:
    hostile(project, canary)
    text = "FROM local/hostile AS evil\nFROM busybox\n"
    for line in (
        f"COPY --from=evil {source} /got",
        f"RUN --mount=from=evil,source={source},target=/m cat /m",
    ):
        done = project.build(text=f"{text}{line}\n")
        assert done.code in (1, 3) and HIDDEN not in done.err, done.err
    untouched(project, canary)


@pytest.mark.parametrize("source", ["/loop", "/environ", "/fifo"])
def test_what_is_no_file_neither_hangs_nor_leaks(project: Project, canary: Path, source: str) -> None:
    hostile(project, canary)
    project.environment["MARK"] = HIDDEN
    project.build(text=f"FROM local/hostile AS evil\nFROM busybox\nCOPY --from=evil {source} /got\n")
    untouched(project, canary)


@pytest.mark.parametrize(
    "make",
    [
        "ln -sf ../../../../../../../../etc/passwd {f}",
        "ln -sf /proc/self/environ {f}",
        "ln -sf passwd {f}",
        "mkfifo {f}",
        "mkdir {f}",
        "dd if=/dev/zero of={f} bs=1 count=0 seek=1G",
        "head -c 3000000 /dev/urandom > {f}",
        "yes app:x:1:1 | head -c 20000000 > {f}",
    ],
)
def test_a_crafted_passwd_does_no_harm(project: Project, canary: Path, make: str) -> None:
    project.write("in.txt")
    text = f"FROM busybox\nRUN rm /etc/passwd && {make.format(f='/etc/passwd')}\n"
    for line in ("COPY --chown=root in.txt /x", "COPY --chown=nobodyatall in.txt /x", "USER 7\nRUN true"):
        done = project.build(text=f"{text}{line}\n")
        assert "Traceback" not in done.err
        assert done.code in (0, 1, 3)
    untouched(project, canary)


def test_a_folder_output_writes_through_no_link(project: Project, canary: Path) -> None:
    hostile(project, canary)
    out = project.root / "out"
    out.mkdir()
    (out / "deep").symlink_to(canary.parent)  # one that was there before
    text = "FROM local/hostile\nRUN rm /absolute && mkdir /absolute && echo x > /absolute/canary\n"
    project.build("-o", str(out), text=text)
    untouched(project, canary)


def test_run_of_a_hostile_image_sees_nothing_of_the_host(project: Project, canary: Path) -> None:
    hostile(project, canary)
    script = "cat /file /absolute/canary /relative/canary /magic/canary; ls /absolute /relative 2>/dev/null"
    done = project.process("run", "local/hostile", "sh", "-c", script)
    assert done.out == "" and HIDDEN not in done.err
    untouched(project, canary)


@pytest.mark.parametrize("isolation", ["auto", "single-id", "chroot"])
@pytest.mark.parametrize("more", ["", ",readonly"])
@pytest.mark.parametrize("climb", ["", "../../../../../../../../.."])
def test_a_cache_that_begins_as_a_link_of_an_image_leads_nowhere(
    project: Project, isolation: str, more: str, climb: str
) -> None:
    if isolation == "chroot" and os.geteuid():
        pytest.skip("chroot is for root")
    outside = project.root / "outside"
    outside.mkdir()
    (outside / "canary").write_text("host")
    text = f"""
    FROM busybox AS evil
    RUN mkdir /d && ln -s {climb}{outside} /d/link
    FROM busybox
    RUN --mount=type=cache,target=/c,from=evil,source=/d/link{more} ls /c > /seen; touch /c/new; true
    """
    done = project.build("--isolation", isolation, text=text)
    assert done.code and "link" in done.error
    assert os.listdir(outside) == ["canary"]
