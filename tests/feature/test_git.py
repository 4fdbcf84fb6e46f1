"""Git repositories as contexts: what a checkout holds, whoever makes it and whenever."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.feature.conftest import lacking
from tests.feature.project import Project

MADE = 1_250_000_000
COPIES = "FROM busybox\nCOPY . /ctx/\n"


def git(folder: Path, *words: str) -> str:
    environment = {
        **os.environ,
        **{f"GIT_{role}_DATE": f"{MADE} +0000" for role in ("AUTHOR", "COMMITTER")},
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    identity = ("-c", "user.name=n", "-c", "user.email=n@example")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *words],
        check=True, capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    return done.stdout.strip()


def make(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text(COPIES)
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=1")
    return folder


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which git's own daemon serves what is in it."""
    if shutil.which("git") is None:
        lacking("git is not installed")
    folder = tmp_path / "served"
    folder.mkdir()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    daemon = subprocess.Popen(
        ["git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}",
         f"--base-path={folder}", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
             "GIT_CONFIG_VALUE_0": "*"},
        start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            pytest.fail("git daemon does not listen")
        yield folder, f"git://127.0.0.1:{port}"
    finally:
        os.killpg(daemon.pid, 15)
        daemon.wait(30)


def test_submodules_come_along_and_theirs(project: Project, served: tuple[Path, str]) -> None:
    folder, address = served
    make(folder / "deep", x="deep")
    library = make(folder / "library", l="library")
    git(library, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", f"{address}/deep", "d")
    git(library, "commit", "--quiet", "--message=2")
    main = make(folder / "main", f="main")
    git(main, "submodule", "--quiet", "add", f"{address}/library", "sub/lib")
    git(main, "config", "-f", ".gitmodules", "submodule.sub/lib.url", "../library")
    git(main, "add", "--all")
    git(main, "commit", "--quiet", "--message=2")
    files = project.image(context=f"{address}/main").files
    assert (files["ctx/sub/lib/l"].text, files["ctx/sub/lib/d/x"].text) == ("library", "deep")
    assert not any(path.endswith("/.git") for path in files)
    part = project.image("-f", "lib/Dockerfile", context=f"{address}/main#main:sub").files
    assert part["ctx/lib/d/x"].text == "deep"
    flat = project.image(context=f"{address}/main?submodules=false").files
    assert "ctx/sub/lib" in flat and "ctx/sub/lib/l" not in flat


def test_a_submodule_is_no_folder_of_this_machine(project: Project, tmp_path: Path) -> None:
    secret = make(tmp_path / "secret", s="secret")
    main = make(tmp_path / "main.git", f="main")
    git(main, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", f"file://{secret}", "s")
    git(main, "commit", "--quiet", "--message=2")
    done = project.build(context=f"file://{main}")
    assert done.code == 1
    assert "transport 'file' not allowed" in done.error


def test_everything_has_the_commits_time_and_is_the_same_wherever_it_is_fetched(
    project: Project, tmp_path: Path
) -> None:
    repository = make(tmp_path / "main.git", f="main")
    options = ("--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
    first = project.image(*options, context=f"file://{repository}")
    assert {file.mtime for path, file in first.files.items() if path.startswith("ctx/")} == {MADE}
    assert first.files["ctx/.git/refs/heads/main"].text.strip() == git(repository, "rev-parse", "HEAD")
    assert not any(path.startswith(("ctx/.git/logs", "ctx/.git/FETCH_HEAD")) for path in first.files)
    elsewhere = {"MINIBUILD_ROOT": str(project.root / "second"), "GIT_AUTHOR_NAME": "somebody"}
    again = project.image(*options, context=f"file://{repository}", environment=elsewhere)
    assert again.diff_ids == first.diff_ids


def test_the_users_settings_of_git_do_not_change_a_checkout(project: Project, tmp_path: Path) -> None:
    repository = make(tmp_path / "main.git", f="a line\n")
    (project.root / "home" / ".gitconfig").write_text("[core]\n\tautocrlf = true\n")
    assert project.image(context=f"file://{repository}").text("ctx/f") == "a line\n"


def test_a_branch_that_moves_while_it_is_fetched_gives_the_commit_that_was_looked_up(
    project: Project, tmp_path: Path
) -> None:
    repository = make(tmp_path / "main.git", f="first")
    found = shutil.which("git")
    move = f"cd {repository} && echo second > f && {found} -c user.name=n -c user.email=n@e commit -qam2"
    wrapper = project.write(
        "bin/git",
        f'#!/bin/sh\n[ "$1" != fetch ] || [ -e {tmp_path}/moved ] ||'
        f' {{ : > {tmp_path}/moved; ({move}); }}\nexec {found} "$@"\n',
        mode=0o755,
    )
    path = f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}"
    image = project.image(context=f"file://{repository}#main", environment={"PATH": path})
    assert image.text("ctx/f") == "first" and (repository / "f").read_text() == "second\n"


def test_a_commit_may_be_named_by_a_query(project: Project, served: tuple[Path, str]) -> None:
    folder, address = served
    repository = make(folder / "main", f="first")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "f").write_text("second")
    git(repository, "commit", "--quiet", "--all", "--message=2")
    text = project.image(context=f"{address}/main?fetch-by-commit&commit={commit}&branch=main").text("ctx/f")
    assert text == "first"
    assert project.image(context=f"{address}/main?branch=main").text("ctx/f") == "second"
    wrong = project.build(context=f"{address}/main?branch=main&checksum={commit}")
    assert wrong.code == 1
    assert "want " + commit in wrong.error


@pytest.mark.parametrize("name", ["main.git", "archive.tar"])
def test_a_password_in_an_address_is_not_shown(project: Project, name: str) -> None:
    done = project.build(context=f"http://user:password@127.0.0.1:9/{name}")
    assert done.code != 0
    assert "password" not in done.err


def test_a_token_in_an_address_is_not_in_the_git_folder_that_is_kept(
    project: Project, served: tuple[Path, str]
) -> None:
    folder, address = served
    make(folder / "library.git", l="library")
    main = make(folder / "main.git", f="main")
    git(main, "submodule", "--quiet", "add", f"{address}/library.git", "lib")
    git(main, "config", "-f", ".gitmodules", "submodule.lib.url", "../library.git")
    git(main, "commit", "--quiet", "--all", "--message=2")
    settings = f'[url "{address}/"]\n\tinsteadOf = https://tokenXYZ9@git.example/\n'
    (project.root / "home" / ".gitconfig").write_text(settings)
    image = project.image(
        "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", context="https://tokenXYZ9@git.example/main.git"
    )
    assert "https://xxxxx@git.example/main.git" in image.text("ctx/.git/config")
    assert image.text("ctx/lib/l") == "library"
    assert not [path for path, file in image.files.items() if b"tokenXYZ9" in file.data]


@pytest.mark.parametrize("query", ["?checksum=zz", "?subdir=none"])
def test_a_token_in_an_address_is_not_in_a_message(
    project: Project, served: tuple[Path, str], query: str
) -> None:
    folder, address = served
    make(folder / "main.git", f="main")
    settings = f'[url "{address}/"]\n\tinsteadOf = https://tokenXYZ9@git.example/\n'
    (project.root / "home" / ".gitconfig").write_text(settings)
    done = project.build(context=f"https://tokenXYZ9@git.example/main.git{query}")
    assert "https://xxxxx@git.example/main.git" in done.error
    assert "tokenXYZ9" not in done.err


def test_a_commits_time_dates_the_image_by_the_name_of_its_context(project: Project, tmp_path: Path) -> None:
    repository = make(tmp_path / "main.git", f="main")
    options = ("--build-context", f"source=file://{repository}", "--build-arg", "SOURCE_DATE_EPOCH=source")
    image = project.image(*options, text="FROM scratch\nARG SOURCE_DATE_EPOCH\nENV T=$SOURCE_DATE_EPOCH\n")
    assert image.document["created"].startswith("2009-08-11T14:13:20")
    assert f"T={MADE}" in image.config["Env"]
