"""Where a build's files may come from: folders, archives, repositories, addresses, standard input."""

from __future__ import annotations

import bz2
import datetime
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import zstandard

from tests.feature.project import Project
from tests.servers.serving import serving

COPIES = "FROM busybox\nCOPY . /ctx/\n"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


def archive(*members: tuple[str, str] | tarfile.TarInfo, dockerfile: str = COPIES) -> bytes:
    """A tar archive of files (name, content) and of members without content."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as out:
        for member in (("Dockerfile", dockerfile), *members):
            if isinstance(member, tarfile.TarInfo):
                out.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size, info.mode = len(member[1]), 0o640
            info.uid, info.gid, info.mtime = 1000, 1001, 981158400
            out.addfile(info, io.BytesIO(member[1].encode()))
    return data.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


class Server:
    """Serves what `files` holds."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        files, asked = self.files, self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                asked.append((self.path, self.headers.get("Authorization", "")))
                data = files.get(path)
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def web() -> Iterator[Server]:
    made = Server()
    with serving(made.server):
        yield made


@pytest.mark.parametrize("packing", PACKERS)
def test_an_archive_on_standard_input_is_the_context(project: Project, packing: str) -> None:
    data = PACKERS[packing](archive(("sub/f", "text")))
    image = project.image(context="-", stdin=data)
    assert image.text("ctx/sub/f") == "text"


@pytest.mark.parametrize("packing", PACKERS)
def test_an_archive_in_a_file_is_the_context(project: Project, packing: str) -> None:
    path = project.root / "context.archive"
    path.write_bytes(PACKERS[packing](archive(("f", "text"))))
    assert project.image(context=str(path)).text("ctx/f") == "text"


def test_owners_modes_times_and_links_of_an_archive_are_kept(project: Project) -> None:
    hard = link("hard", "f", tarfile.LNKTYPE)
    hard.mode, hard.uid, hard.gid, hard.mtime = 0o640, 1000, 1001, 981158400
    data = archive(("f", "text"), link("absolute", "/etc/passwd"), hard)
    files = project.image(context="-", stdin=data).files
    assert (files["ctx/f"].owner, files["ctx/f"].mode, files["ctx/f"].mtime) == (
        (1000, 1001),
        0o640,
        981158400,
    )
    assert files["ctx/absolute"].link == "/etc/passwd"
    assert files["ctx/hard"].kind == tarfile.LNKTYPE


def test_files_that_are_called_like_deletions_are_files(project: Project) -> None:
    names = (".wh.a", ".wh.d/z", "d/.wh..wh..opq", "d/.wwh.b", "d/.wh.b")
    data = archive(("a", "a"), *((name, name) for name in names), link("hard", ".wh.a", tarfile.LNKTYPE))
    lines = [f"COPY {name} /{number}" for number, name in enumerate(names)]
    project.dockerfile("\n".join(["FROM busybox", *lines, "COPY d/.wh.? /glob", "COPY a hard /", ""]))
    image = project.image("-f", "-", context=f"{project.root}/c.tar", stdin=_written(project, data))
    assert [image.text(str(number)) for number in range(len(names))] == list(names)
    assert (image.text("a"), image.text("hard")) == ("a", ".wh.a")
    assert image.text("glob") == "d/.wh.b"
    listed = project.command("context", "ls", f"{project.root}/c.tar")
    assert "d/.wh..wh..opq" in listed.out and "d/.wwh.b" in listed.out


@pytest.mark.parametrize(
    "text",
    [
        "FROM busybox\nRUN --mount=type=bind,target=/src true\n",
        "FROM files\nCOPY Dockerfile /\n",
        "FROM busybox\nRUN --mount=type=cache,from=files,target=/src true\n",
    ],
    ids=["mounted", "built upon", "in a cache mount"],
)
@pytest.mark.parametrize("name", [".wh.a", "d/.wh..wh..opq"])
def test_files_that_are_called_like_deletions_are_refused_where_a_layer_has_to_hold_them(
    project: Project, text: str, name: str
) -> None:
    project.write(name, "text")
    for _ in range(2):
        done = project.build("--build-context", f"files={project.context}", text=text)
        assert done.code == 2 and f"{name} cannot be mounted or built upon" in done.error
    (project.context / name).unlink()
    project.write(name.replace(".wh.", ".www.", 1), "text")
    project.built("--build-context", f"files={project.context}")


def _written(project: Project, data: bytes) -> bytes:
    """The project's Dockerfile, with `data` as the archive beside it."""
    (project.root / "c.tar").write_bytes(data)
    return (project.context / "Dockerfile").read_bytes()


def test_the_same_archive_is_found_in_the_cache(project: Project) -> None:
    data = archive(("f", "text"))
    assert project.built(context="-", stdin=data).summary == (1, 0)
    assert project.built(context="-", stdin=gzip.compress(data)).summary == (1, 1)


def test_a_dockerfile_inside_an_archive_is_named_with_f(project: Project) -> None:
    data = archive(("docker/Other", "FROM busybox\nCOPY f /other\n"), ("f", "text"))
    assert project.image("-f", "docker/Other", context="-", stdin=data).text("other") == "text"


def test_the_ignore_file_of_an_archive_does_not_count_but_ignorefile_does(project: Project) -> None:
    data = archive((".dockerignore", "*.txt\n"), ("a.txt", "x"))
    assert "ctx/a.txt" in project.image(context="-", stdin=data).files  # as in BuildKit


@pytest.mark.parametrize(
    "members",
    [
        (link("out", "/"), ("out/etc/hostile", "x")),
        (link("out", "../../.."), ("out/hostile", "x")),
        (("../../hostile", "x"),),
        (("/hostile", "x"),),
        (link("out", "../../../../../etc/passwd", tarfile.LNKTYPE),),
    ],
)
def test_an_archive_cannot_get_out(
    project: Project, members: tuple[tuple[str, str] | tarfile.TarInfo, ...]
) -> None:
    done = project.build(context="-", stdin=archive(*members), text="")
    assert done.code in (0, 1, 2)
    assert "Traceback" not in done.err
    assert not list(project.root.rglob("hostile")) and not Path("/hostile").exists()
    assert not Path("/etc/hostile").exists()


def test_a_dockerfile_that_is_a_link_stays_inside_the_archive(project: Project) -> None:
    secret = project.root / "secret"
    secret.write_text("FROM busybox\nLABEL leaked=1\n")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as out:
        out.addfile(link("Dockerfile", str(secret)))
    done = project.build(context="-", stdin=data.getvalue())
    assert (done.code, "no Dockerfile in -" in done.error) == (2, True)


def test_damage_in_an_archive_is_reported(project: Project) -> None:
    data = archive(("f", "text" * 1000))
    done = project.build(context="-", stdin=gzip.compress(data)[:-200])
    assert done.code in (1, 2)
    assert done.error


def test_what_is_no_archive_is_a_dockerfile_without_context(project: Project) -> None:
    assert project.build(context="-", stdin=b"FROM busybox\nRUN true\n").code == 0
    done = project.build(context="-", stdin=b"FROM busybox\nCOPY f /\n")
    assert "this build has no context to copy from" in done.error


def test_a_dockerfile_on_standard_input_goes_with_a_folder(project: Project) -> None:
    project.write("f", "text")
    project.dockerfile("FROM nothing-like-this\n")
    assert project.image("-f", "-", stdin=COPIES.encode()).text("ctx/f") == "text"


def test_both_cannot_come_from_standard_input(project: Project) -> None:
    assert "cannot both come from standard input" in project.build("-f", "-", context="-").error


def test_a_name_for_a_dockerfile_on_standard_input_is_refused(project: Project) -> None:
    done = project.build("-f", "Other", context="-", stdin=b"FROM busybox\n")
    assert (done.code, "there is no context to find it in" in done.error) == (2, True)


def test_a_file_that_is_no_archive_is_no_context(project: Project) -> None:
    done = project.build(context=str(project.write("f", "text")))
    assert (done.code, "neither a folder nor a tar archive" in done.error) == (2, True)


def test_a_lower_case_dockerfile_is_found(project: Project) -> None:
    project.dockerfile("FROM busybox\nLABEL a=b\n", "dockerfile")
    assert project.image().config["Labels"] == {"a": "b"}


def test_ignorefile_stands_in_for_dockerignore(project: Project) -> None:
    project.write("a.txt")
    project.write("b.md")
    project.write(".dockerignore", "*.txt\n")
    other = project.root / "other.ignore"
    other.write_text("*.md\nDockerfile\n.dockerignore\n")
    files = project.image("--ignorefile", str(other), text=COPIES).files
    assert sorted(path for path in files if path.startswith("ctx/")) == ["ctx/a.txt"]
    done = project.build("--ignorefile", str(other) + "x")
    assert (done.code, "cannot read the ignore file" in done.error) == (2, True)


def test_an_archive_behind_a_url_is_the_context(project: Project, web: Server) -> None:
    web.files["/c.tgz"] = gzip.compress(archive(("f", "text")))
    assert project.image(context=f"{web.url}/c.tgz").text("ctx/f") == "text"


def test_a_dockerfile_behind_a_url_has_itself_as_context(project: Project, web: Server) -> None:
    text = "FROM busybox\nCOPY context /own\n"
    web.files["/Dockerfile"] = text.encode()
    image = project.image(context=f"{web.url}/Dockerfile")
    assert (image.text("own"), image.files["own"].mode) == (text, 0o600)


def test_a_dockerfile_behind_a_url_goes_with_a_folder(project: Project, web: Server) -> None:
    project.write("f", "text")
    web.files["/D"] = COPIES.encode()
    assert project.image("-f", f"{web.url}/D").text("ctx/f") == "text"


def test_an_address_without_anything_is_an_error(project: Project, web: Server) -> None:
    done = project.build(context=f"{web.url}/none")
    assert (done.code, "answered 404" in done.error) == (2, True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A bare repository: tag v1, then a second commit on main."""
    work, bare = tmp_path / "work", tmp_path / "repo.git"

    def git(*words: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=n@example")
        subprocess.run(["git", "-C", str(work), *identity, *words], check=True, capture_output=True)

    (work / "sub").mkdir(parents=True)
    (work / "Dockerfile").write_text(COPIES)
    (work / "sub" / "Dockerfile").write_text("FROM busybox\nCOPY f /sub\n")
    (work / "sub" / "f").write_text("text")
    (work / ".dockerignore").write_text("sub\n")
    (work / "evil").symlink_to("/etc")
    (work / "Passwd").symlink_to("/etc/passwd")
    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--message=1")
    git("tag", "v1")
    (work / "second").write_text("2")
    git("add", "--all")
    git("commit", "--quiet", "--message=2")
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", str(work), str(bare)], check=True, capture_output=True
    )
    return bare


def test_a_repository_is_the_context(project: Project, repository: Path) -> None:
    files = project.image(context=f"file://{repository}").files
    assert {"ctx/second", "ctx/sub/f", "ctx/.dockerignore"} <= set(files)  # no ignore file, as in BuildKit
    assert not any(path.startswith("ctx/.git/") for path in files)


def test_a_repository_at_a_ref_and_below_a_folder(project: Project, repository: Path) -> None:
    assert "ctx/second" not in project.image(context=f"file://{repository}#v1").files
    assert project.image(context=f"file://{repository}#main:sub").text("sub") == "text"
    assert "ctx/second" not in project.image(context=f"file://{repository}?tag=v1").files


def test_a_repository_comes_from_a_server_of_plain_files(
    project: Project, repository: Path, web: Server
) -> None:
    subprocess.run(["git", "-C", str(repository), "update-server-info"], check=True)
    for path in repository.rglob("*"):
        if path.is_file():
            web.files[f"/repo.git/{path.relative_to(repository)}"] = path.read_bytes()
    files = project.image(context=f"{web.url}/repo.git#v1").files
    assert "ctx/sub/f" in files and "ctx/second" not in files


def test_a_repository_keeps_its_git_folder_where_asked(project: Project, repository: Path) -> None:
    image = project.image("--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", context=f"file://{repository}")
    assert "ctx/.git/HEAD" in image.files


def test_the_commits_time_dates_the_image_where_asked(project: Project, repository: Path) -> None:
    shown = subprocess.run(
        ["git", "-C", str(repository), "show", "--no-patch", "--format=%ct", "v1"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds = int(shown.stdout)
    for _ in range(2):  # fetched, then found in the store
        image = project.image("--build-arg", "SOURCE_DATE_EPOCH=context", context=f"file://{repository}#v1")
        made = datetime.datetime.fromisoformat(image.document["created"].replace("Z", "+00:00"))
        assert made.timestamp() == seconds
        assert all(file.mtime <= seconds for name, file in image.files.items() if name.startswith("ctx/"))


def test_a_folder_has_no_time_to_date_an_image_with(project: Project) -> None:
    text = "FROM scratch\nARG SOURCE_DATE_EPOCH\nENV EPOCH=$SOURCE_DATE_EPOCH\n"
    image = project.image("--build-arg", "SOURCE_DATE_EPOCH=context", text=text)
    assert "EPOCH=" in image.document["config"]["Env"]


def test_the_umask_has_no_say_in_the_modes_of_a_checkout(project: Project, repository: Path) -> None:
    before = os.umask(0o077)
    try:
        image = project.image(context=f"file://{repository}")
    finally:
        os.umask(before)
    assert (image.files["ctx/second"].mode, image.files["ctx/sub"].mode) == (0o644, 0o755)


def test_links_of_a_repository_do_not_lead_out(project: Project, repository: Path) -> None:
    done = project.build(context=f"file://{repository}#main:evil")
    assert "has no folder 'evil'" in done.error
    done = project.build("-f", "Passwd", context=f"file://{repository}")
    assert "no Passwd in" in done.error
    assert "ctx/second" in project.image(context=f"file://{repository}#main:../..").files


@pytest.mark.parametrize("ref", ["none", "--upload-pack=touch hostile"])
def test_a_ref_that_is_not_there_is_an_error(project: Project, repository: Path, ref: str) -> None:
    done = project.build(context=f"file://{repository}#{ref}")
    assert done.code == 1
    assert done.error


def test_a_token_reaches_the_git_server_only(project: Project, web: Server) -> None:
    done = project.build(
        "--secret",
        "id=GIT_AUTH_TOKEN,env=TOKEN",
        context=f"{web.url}/private.git",
        environment={"TOKEN": "abc"},
    )
    assert done.code == 1
    assert "--secret id=GIT_AUTH_TOKEN" in done.error
    assert web.asked and all(header == "basic eC1hY2Nlc3MtdG9rZW46YWJj" for _, header in web.asked)


def test_named_contexts_of_every_kind(project: Project, repository: Path, web: Server) -> None:
    folder = project.root / "folder"
    folder.mkdir()
    (folder / "f").write_text("folder")
    packed = project.root / "packed.tar"
    packed.write_bytes(archive(("f", "archive")))
    web.files["/x"] = b"behind a url"
    options = []
    for name, value in {
        "folder": str(folder),
        "packed": str(packed),
        "web": f"{web.url}/x",
        "git": f"file://{repository}#v1:sub",
    }.items():
        options += ["--build-context", f"{name}={value}"]
    image = project.image(
        *options,
        text="""
        FROM busybox
        COPY --from=folder f /folder
        COPY --from=packed f /packed
        COPY --from=web context /web
        COPY --from=git f /git
        RUN --mount=from=web,target=/m cat /m/context > /mounted
        """,
    )
    assert [image.text(name) for name in ("folder", "packed", "web", "git", "mounted")] == [
        "folder", "archive", "behind a url", "text", "behind a url",
    ]  # fmt: skip


def test_an_archive_behind_a_url_stays_a_file_as_a_named_context(project: Project, web: Server) -> None:
    web.files["/x.tar"] = archive(("f", "text"))
    image = project.image(
        "--build-context", f"web={web.url}/x.tar", text="FROM busybox\nCOPY --from=web . /w/\n"
    )
    assert [path for path in image.files if path.startswith("w/")] == ["w/context"]  # as in BuildKit


def test_a_named_context_that_is_not_there(project: Project) -> None:
    done = project.build("--build-context", "x=/not/there", text="FROM busybox\nCOPY --from=x f /\n")
    assert (done.code, "--build-context x=/not/there: no such folder" in done.error) == (2, True)


def test_check_and_targets_read_any_context(project: Project, repository: Path) -> None:
    done = project.build("--call", "targets", context=f"file://{repository}")
    assert done.out == "TARGET    DESCRIPTION\n(default) \n"
    assert project.build("--check", context="-", stdin=archive()).code == 0
