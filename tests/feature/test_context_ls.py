"""``minibuild context ls``: what goes into a build, and why the rest does not."""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile

from tests.feature.project import Project

IGNORES = (
    "# logs\n*.log\nnode_modules\n!keep.log\nnode_modules/x/\n!vendor/lib/kept\nvendor\n!vendor/lib/kept\n"
)


def fill(project: Project) -> None:
    project.write("Dockerfile", "FROM busybox\n")
    project.write("a.txt", "12345")
    project.write("k.log", "123")
    project.write("keep.log", "1")
    project.write("node_modules/x/y", "1234")
    project.write("vendor/lib/kept", "12")
    project.write("vendor/other", "1")
    project.write(".dockerignore", IGNORES)


def test_the_paths_a_build_sees_are_listed_with_sizes_and_their_sum(project: Project) -> None:
    fill(project)
    done = project.command("context", "ls", str(project.context))
    assert done.code == 0
    assert done.out.splitlines() == [
        f"{len(IGNORES)}B  .dockerignore",
        "13B  Dockerfile",
        " 5B  a.txt",
        " 1B  keep.log",
        "     vendor/",
        "     vendor/lib/",
        " 2B  vendor/lib/kept",
        f"5 files, {len(IGNORES) + 21}B; ignored: 3, 8B (--why shows them)",
    ]


def test_why_names_the_line_that_decided(project: Project) -> None:
    fill(project)
    out = project.command("context", "ls", "--why", str(project.context)).out
    names = [line.partition("   .dockerignore:")[0].split()[-1] for line in out.splitlines()[:-1]]
    lines = dict(zip(names, out.splitlines(), strict=False))
    assert lines["k.log"].startswith("ignored") and lines["k.log"].endswith("   .dockerignore:2 *.log")
    assert lines["keep.log"].endswith("   .dockerignore:4 !keep.log")
    assert lines["node_modules/"].endswith("   .dockerignore:3 node_modules")
    assert lines["vendor/lib/kept"].endswith("   .dockerignore:8 !vendor/lib/kept")
    assert lines["vendor/other"].startswith("ignored")
    assert not lines["a.txt"].startswith("ignored") and ".dockerignore:" not in lines["a.txt"]


def test_what_is_listed_is_what_a_copy_copies(project: Project) -> None:
    fill(project)
    listed = json.loads(project.command("context", "ls", "--json", str(project.context)).out)
    files = project.image(text="FROM busybox\nCOPY . /ctx/\n").files
    copied = {path.removeprefix("ctx/") for path in files if path.startswith("ctx/")}
    assert {row["path"] for row in listed["seen"]} == copied
    assert listed["ignore_file"] == ".dockerignore"
    assert {row["path"]: row["line"] for row in listed["ignored"]} == {
        "k.log": 2, "node_modules": 3, "vendor/other": 7,
    }  # fmt: skip


def test_a_dockerfiles_own_ignore_file_and_ignorefile_count(project: Project) -> None:
    fill(project)
    project.write("Other", "FROM busybox\n")
    project.write("Other.dockerignore", "*\n!a.txt\n")
    done = project.command("context", "ls", "-f", str(project.context / "Other"), str(project.context))
    assert done.out.splitlines()[0] == "5B  a.txt"
    ignore = project.write("third", "*\n!k.log\n")
    done = project.command("context", "ls", "--ignorefile", str(ignore), str(project.context))
    assert done.out.splitlines()[0] == "3B  k.log"


def test_no_dockerfile_is_needed(project: Project) -> None:
    project.write("f", "1")
    assert project.command("context", "ls", str(project.context)).out == "1B  f\n1 file, 1B\n"


def test_links_are_listed_and_not_followed_and_sockets_left_out(project: Project) -> None:
    (project.context / "loop").symlink_to(".")
    before = os.getcwd()
    os.chdir(project.context)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s")
            out = project.command("context", "ls").out
    finally:
        os.chdir(before)
    assert out == "    loop\n1 file, 0B\n"


def test_an_archive_can_be_listed(project: Project) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as out:
        for name in ("Dockerfile", "sub/f"):
            info = tarfile.TarInfo(name)
            info.size = 3
            out.addfile(info, io.BytesIO(b"abc"))
    done = project.command("context", "ls", "-", stdin=data.getvalue())
    assert done.out == "3B  Dockerfile\n    sub/\n3B  sub/f\n2 files, 6B\n"


def test_a_folder_that_is_not_there_is_an_error(project: Project) -> None:
    done = project.command("context", "ls", "/not/there")
    assert (done.code, "does not exist" in done.error) == (2, True)
