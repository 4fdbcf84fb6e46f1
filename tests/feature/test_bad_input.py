"""What a user gets wrong: one error, which names file, line and cure; the right exit code; nothing left."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.feature.project import Project
from tests.servers.images import noise


def refused(project: Project, code: int, *options: str, text: str = "", **others: str) -> str:
    """Build what cannot be built; the error."""
    done = project.build(*options, text=text, **others)
    assert done.code == code, done.err
    assert done.out == ""
    return done.error


def test_no_dockerfile(project: Project) -> None:
    assert refused(project, 2) == (
        f"ERROR: no Dockerfile at {project.context}/Dockerfile\nWrite one there, or name another with -f."
    )


def test_a_dockerfile_of_another_name_is_pointed_out(project: Project) -> None:
    project.dockerfile("FROM scratch\n", "Dockerfile.prod")
    assert refused(project, 2).endswith("There is Dockerfile.prod: name it with -f.")


def test_a_context_that_does_not_exist(project: Project) -> None:
    error = refused(project, 2, context=f"{project.root}/nowhere")
    assert f"the build context {project.root}/nowhere does not exist" in error
    assert "Name the folder" in error


def test_a_context_that_is_a_file(project: Project) -> None:
    path = project.write("file")
    error = refused(project, 2, context=str(path))
    assert f"the build context {path} is neither a folder nor a tar archive" in error
    assert "Name the folder" in error


@pytest.mark.parametrize("text", ["", "\n \n", "# only a comment\n"])
def test_a_dockerfile_with_nothing_in_it(project: Project, text: str) -> None:
    project.write("Dockerfile", text)
    error = refused(project, 1)
    assert error.startswith("Dockerfile:1\n")
    assert error.endswith("Begin with FROM IMAGE, or FROM scratch.")


def test_an_unknown_instruction_with_its_near_miss(project: Project) -> None:
    error = refused(project, 1, text="FROM busybox\nRUM echo hi\n")
    assert error.startswith("Dockerfile:2\n")
    assert ">>> RUM echo hi" in error
    assert "unknown instruction: RUM (did you mean RUN?)" in error


def test_an_unknown_flag_with_its_near_miss(project: Project) -> None:
    error = refused(project, 1, text="FROM busybox\nCOPY --chwon=1 a b\n")
    assert ">>> COPY --chwon=1 a b" in error
    assert "unknown flag: --chwon (did you mean chown?)" in error
    assert "--chown, --from, --chmod" in error


def test_copy_of_a_missing_file_with_its_near_miss(project: Project) -> None:
    project.write("app.py")
    error = refused(project, 1, text="FROM busybox\nCOPY ap.py /\n")
    assert error.startswith("Dockerfile:2\n")
    assert (
        f'ERROR: "/ap.py": not found in the build context {project.context}\n(did you mean app.py?)' in error
    )


@pytest.mark.parametrize(("pattern", "path"), [("*.log", "x.log"), ("folder", "folder/deep/file")])
def test_copy_of_an_ignored_file_with_the_line_that_ignores_it(
    project: Project, pattern: str, path: str
) -> None:
    project.write(path)
    project.write(".dockerignore", f"# logs\n\n{pattern}\n")
    error = refused(project, 1, text=f"FROM busybox\nCOPY {path} /\n")
    assert f'"/{path}": excluded by .dockerignore' in error
    assert f"Line 3 ({pattern}) leaves it out; add !{path} below that line." in error


def test_a_target_that_does_not_exist_with_its_near_miss(project: Project) -> None:
    error = refused(project, 2, "--target", "buld", text="FROM busybox AS build\nFROM busybox AS other\n")
    assert 'target stage "buld" could not be found (did you mean build?)' in error
    assert "build, other" in error


def test_copy_from_a_stage_that_does_not_exist(project: Project) -> None:
    text = "FROM busybox AS build\nFROM busybox\nCOPY --from=buld /a /b\n"
    error = refused(project, 4, "--registry-mirror", "docker.io=127.0.0.1:1", text=text)
    assert error.startswith("Dockerfile:3\n")
    assert "No stage is called buld (did you mean build?), so an image was asked for." in error


def test_copy_from_a_stage_number_that_does_not_exist(project: Project) -> None:
    assert "invalid stage index 7" in refused(project, 1, text="FROM busybox\nCOPY --from=7 /a /b\n")


def test_a_stage_that_copies_from_itself(project: Project) -> None:
    error = refused(project, 1, text="FROM busybox AS a\nCOPY --from=a /x /y\n")
    assert "circular dependency detected on stage: a" in error


def test_stages_in_a_circle(project: Project) -> None:
    text = "FROM busybox AS a\nCOPY --from=b /x /y\nFROM busybox AS b\nCOPY --from=a /x /y\n"
    error = refused(project, 1, text=text)
    assert error.startswith("Dockerfile:2\n")
    assert 'cannot copy from stage "b", it needs to be defined before current stage' in error


def test_copy_from_a_later_stage(project: Project) -> None:
    text = "FROM busybox AS a\nCOPY --from=b /x /y\nFROM busybox AS b\n"
    assert "Move that stage above this one." in refused(project, 1, "--target", "a", text=text)


def test_a_run_that_fails_shows_its_lines_its_output_and_its_exit_code(project: Project) -> None:
    text = "FROM busybox\n\nRUN echo one && \\\n    echo two >&2 && \\\n    exit 42\nRUN echo never\n"
    project.dockerfile(text)
    done = project.build()
    assert done.code == 1
    lines = done.error.splitlines()
    assert lines[0] == "Dockerfile:3"
    assert [line for line in lines if ">>>" in line] == [
        "   3 | >>> RUN echo one && \\", "   4 | >>>     echo two >&2 && \\", "   5 | >>>     exit 42"
    ]  # fmt: skip
    assert "did not complete successfully: exit code: 42" in done.error
    said = done.step("RUN echo one")
    assert " one\n" in said and " two\n" in said
    assert "RUN echo never" not in done.err.partition("Dockerfile:3")[0]


@pytest.mark.parametrize("form", ["nonexistent --flag", '["nonexistent"]', '["/no/such/file"]'])
def test_a_command_that_is_not_there(project: Project, form: str) -> None:
    error = refused(project, 1, text=f"FROM busybox\nRUN {form}\n")
    assert "exit code: 127" in error
    assert "The command was not found" in error


def test_a_file_that_cannot_be_executed(project: Project) -> None:
    error = refused(project, 1, text='FROM busybox\nRUN ["/old/a"]\n')
    assert "exit code: 126" in error
    assert "cannot be executed" in error


def test_a_user_that_the_image_lacks(project: Project) -> None:
    error = refused(project, 1, text="FROM busybox\nUSER nobody2\nRUN true\n")
    assert error.startswith("Dockerfile:3\n")
    assert "unable to find user nobody2" in error
    assert "Make the user" in error


def test_a_base_name_that_is_none(project: Project) -> None:
    error = refused(project, 2, text="FROM Busy:box:x\n")
    assert error.startswith("Dockerfile:1\n")
    assert "repository names are lower case" in error


def test_a_required_secret_that_was_not_given(project: Project) -> None:
    error = refused(project, 1, text="FROM busybox\nRUN --mount=type=secret,id=key,required=true true\n")
    assert "secret key: not found" in error
    assert "--secret id=key,src=FILE" in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--secret", "id=x,src=/no/such"], "no file /no/such"),
        (["--secret", "idd=x"], "'idd=x' is no option (did you mean id?)"),
        (["--secret", "id=x,env=NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE is not set"),
        (["--build-arg", "=x"], "no name before the ="),
        (["--label", "x"], "Write it as --label NAME=VALUE."),
        (["--platform", "a/b/c/d"], "is not a platform"),
        (["--add-host", "x"], "Write it as NAME:ADDRESS."),
        (["--progress", "fancy"], "Known are auto, plain, tty, rawjson, quiet"),
        (["--allow", "everything"], "Known are security.insecure, network.host, device and device=NAME."),
        (["--isolation", "jail"], "--isolation 'jail' is none of auto, "),
        (["-t", "Upper/Case"], "repository names are lower case"),
        (["-o", "type=oic,dest=x"], "there is no type 'oic'"),
        (["-o", "type=oci,dst=x"], "Did you mean dest=?"),
        (["-o", "type=oci"], "says no dest"),
        (["--push"], "--push without a name"),
        (["-f", "Dockerfil"], "no Dockerfile at Dockerfil"),
        (["--build-context", "base=oci-layout:///no/such"], "is no OCI image layout"),
        (["--build-context", "base=ftp://x"], "Name a folder, an archive, docker-image://, oci-layout://"),
    ],
)
def test_options_that_make_no_sense(project: Project, options: list[str], words: str) -> None:
    used = "base" if "base=" in options[-1] else "busybox"
    project.dockerfile(f"FROM {used}\nRUN true\n")
    done = project.build(*options)
    assert done.code == 2, done.err
    assert words in done.error
    assert not project.store.exists() or not any((project.store / "running-v1").glob("[!.]*"))


def test_an_option_that_does_not_exist(project: Project) -> None:
    done = project.process("build", "--buildarg", "x", ".")
    assert done.code == 2
    assert "No such option" in done.err and "--build-arg" in done.err
    assert "Traceback" not in done.err


def test_a_command_that_does_not_exist(project: Project) -> None:
    done = project.process("biuld", ".")
    assert (done.code, done.err) == (
        2, "minibuild: no command 'biuld' (did you mean build?); minibuild --help lists them\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "nothing"],
        ["history", "nothing"],
        ["tag", "nothing", "other"],
        ["rmi", "nothing"],
        ["save", "nothing", "-o", "x.tar"],
        ["push", "localhost:1/nothing"],
    ],
)
def test_an_image_that_is_not_here(project: Project, arguments: list[str]) -> None:
    project.built("-t", "nothin", text="FROM busybox\n")
    done = project.command(*arguments)
    assert done.code == 2
    assert "no image " in done.error and "nothing:latest here" in done.error
    if "localhost" not in arguments[-1]:
        assert "did you mean nothin:latest?" in done.error


@pytest.mark.parametrize(
    "kind", ["type=oci,dest=", "type=docker,dest=", "type=local,dest=", "type=tar,dest="]
)
def test_an_output_below_a_file_is_refused_before_anything_is_built(project: Project, kind: str) -> None:
    project.write("file")
    error = refused(project, 5, "-o", f"{kind}{project.context}/file/out", text="FROM busybox\nRUN exit 1\n")
    assert error == (
        f"ERROR: cannot write {project.context}/file/out: {project.context}/file is not a folder\n"
        "Name another dest=."
    )


def test_a_folder_where_a_file_is_to_be_and_the_other_way_round(project: Project) -> None:
    path = project.write("file", "kept")
    text = "FROM busybox\nRUN exit 1\n"
    assert "it is a folder" in refused(project, 5, "-o", f"type=oci,dest={project.context}", text=text)
    assert "it is a file" in refused(project, 5, "-o", f"type=local,dest={path}", text=text)
    assert "it is a file" in refused(project, 5, "-o", f"type=oci,tar=false,dest={path}", text=text)
    assert path.read_text() == "kept"


@pytest.mark.parametrize("option", ["--iidfile", "--metadata-file"])
def test_a_result_file_in_no_folder_is_refused_before_anything_is_built(
    project: Project, option: str
) -> None:
    error = refused(project, 5, option, "/no/such/folder/file", text="FROM busybox\nRUN exit 1\n")
    assert error == "ERROR: cannot write /no/such/folder/file: no such folder\nMake its folder first."


def test_an_output_to_a_place_that_cannot_take_it(project: Project) -> None:
    for dest in ("/proc/image.tar", "/dev/full"):
        error = refused(project, 5, "-o", f"type=oci,dest={dest}", text="FROM busybox\n")
        assert error.startswith(f"ERROR: cannot write {dest}: ")


@pytest.mark.parametrize(("name", "content"), [("file", None), ("other", "x")])
def test_a_store_that_is_something_else_is_left_alone(
    project: Project, name: str, content: str | None
) -> None:
    path = project.root / name
    if content is None:
        path.write_text("precious")
    else:
        path.mkdir()
        (path / "precious").write_text(content)
    project.dockerfile("FROM busybox\nRUN true\n")
    done = project.build(environment={"MINIBUILD_ROOT": str(path)})
    assert done.code == 5
    assert str(path) in done.error and "MINIBUILD_ROOT" in done.error
    assert [item.name for item in path.iterdir()] == ["precious"] if content else path.is_file()


def test_an_archive_that_is_none(project: Project) -> None:
    path: Path = project.write("file", "no archive")
    done = project.command("load", "-i", str(path))
    assert done.code == 2
    assert f"cannot read {path}" in done.error
    done = project.command("load", "-i", str(project.context))
    assert done.code == 2
    assert "is no OCI image layout" in done.error


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("size", [1_000_000, 3_000_000])
def test_an_archive_that_was_cut_short_is_not_added(
    project: Project, pack: Callable[[bytes], bytes], size: int
) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("member")
        member.size = 2 * size
        archive.addfile(member, io.BytesIO(noise(2 * size)))
    project.write("archive", pack(data.getvalue())[:size])
    error = project.build(text="FROM scratch\nADD archive /\n").error
    assert error.startswith("Dockerfile:2\n")
    assert "damaged: Compressed file ended before the end-of-stream marker was reached" in error


def test_what_only_begins_as_a_compressed_archive_is_added_as_a_file(project: Project) -> None:
    data = b"\xfd7zXZ\0 is how such files begin"
    project.write("file", data)
    assert project.image(text="FROM scratch\nADD file /\n").files["file"].data == data


def test_dockerfile_and_context_both_from_standard_input(project: Project) -> None:
    done = project.command("build", "-f", "-", "-", stdin=b"FROM scratch\n")
    assert done.code == 2
    assert "cannot both come from standard input" in done.error


def test_a_here_document_needs_no_context(project: Project) -> None:
    dockerfile = b"FROM scratch\nCOPY <<end /x\nhi\nend\n"
    done = project.command("build", "-o", f"type=tar,dest={project.root / 'x.tar'}", "-", stdin=dockerfile)
    assert done.code == 0, done.err
    with tarfile.open(project.root / "x.tar") as archive:
        assert archive.getnames() == ["x"]


def test_copy_without_a_context(project: Project) -> None:
    done = project.command("build", "-", stdin=b"FROM scratch\nCOPY a /b\n")
    assert done.code == 2
    assert "this build has no context to copy from" in done.error
