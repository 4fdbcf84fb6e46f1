"""What each instruction does to the image, read from the image."""

from __future__ import annotations

import io
import tarfile

from tests.feature.project import Project


def test_run_changes_the_filesystem_in_one_layer(project: Project) -> None:
    image = project.image(
        text="""
        FROM busybox
        RUN echo made > /made && rm /old/a && chown 1000:1001 /old/b && ln /old/hard1 /old/hard3
        """
    )
    assert len(image.diff_ids) == 2
    top = image.layer(-1)
    assert top["made"].text == "made\n"
    assert "old/.wh.a" in top
    assert "old/a" not in image.files
    assert image.files["old/b"].owner == (1000, 1001)


def test_run_takes_shell_form_exec_form_and_here_documents(project: Project) -> None:
    image = project.image(
        text="""
        FROM busybox
        RUN echo "$0" > /shell
        RUN ["/bin/sh", "-c", "echo exec > /exec"]
        RUN <<EOF
        echo one > /here
        echo two >> /here
        EOF
        SHELL ["/bin/ash", "-c"]
        RUN echo "$0" > /other
        """
    )
    texts = {name: image.text(name) for name in ("shell", "exec", "here", "other")}
    assert texts == {"shell": "/bin/sh\n", "exec": "exec\n", "here": "one\ntwo\n", "other": "/bin/ash\n"}


def test_user_workdir_and_env_hold_for_what_follows(project: Project) -> None:
    image = project.image(
        text="""
        FROM busybox
        ENV NAME=value
        USER app
        WORKDIR /work/deep
        RUN echo "$(id -un) $PWD $NAME $HOME" > /tmp/seen
        """
    )
    assert image.text("tmp/seen") == "app /work/deep value /home/app\n"
    assert image.config["User"] == "app"
    assert image.config["WorkingDir"] == "/work/deep"
    assert "NAME=value" in image.config["Env"]


def test_an_arg_is_known_from_its_line_on_and_not_in_the_image(project: Project) -> None:
    image = project.image(
        "--build-arg", "GIVEN=mine", "--build-arg", "GLOBAL=outer",
        text="""
        ARG GLOBAL
        FROM busybox
        RUN echo "[$GIVEN][$GLOBAL]" > /before
        ARG GIVEN=default
        ARG GLOBAL
        RUN echo "[$GIVEN][$GLOBAL]" > /after
        """,
    )  # fmt: skip
    assert image.text("before") == "[][]\n"
    assert image.text("after") == "[mine][outer]\n"
    assert not any("GIVEN" in line for line in image.config["Env"])


def test_copy_takes_files_folders_patterns_and_here_documents(project: Project) -> None:
    project.write("one.txt", "1")
    project.write("two.txt", "2")
    project.write("folder/deep/three", "3", mode=0o600)
    image = project.image(
        text="""
        FROM scratch
        COPY *.txt /texts/
        COPY --chown=7:8 --chmod=640 folder /folder
        COPY <<EOF /here
        text
        EOF
        """
    )
    files = image.files
    assert files["texts/one.txt"].data + files["texts/two.txt"].data == b"12"
    assert (files["folder/deep/three"].mode, files["folder/deep/three"].owner) == (0o640, (7, 8))
    assert files["here"].text == "text\n"
    assert files["texts/one.txt"].owner == (0, 0)


def test_add_unpacks_archives_and_copy_does_not(project: Project) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("inside/file")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"data"))
    project.write("a.tar.gz", buffer.getvalue())
    files = project.image(text="FROM scratch\nADD a.tar.gz /added/\nCOPY a.tar.gz /copied/\n").files
    assert files["added/inside/file"].data == b"data"
    assert files["copied/a.tar.gz"].data == buffer.getvalue()


def test_metadata_makes_history_and_configuration_but_no_layers(project: Project) -> None:
    image = project.image(
        text="""
        FROM busybox
        LABEL a=b
        EXPOSE 80 53/udp
        VOLUME /data
        STOPSIGNAL SIGQUIT
        HEALTHCHECK --interval=5s CMD true
        ENTRYPOINT ["/bin/echo"]
        CMD ["hello"]
        """
    )
    assert len(image.diff_ids) == 1
    assert image.history[-7:][0] == "LABEL a=b"
    config = image.config
    assert config["Labels"] == {"a": "b"}
    assert set(config["ExposedPorts"]) == {"80/tcp", "53/udp"}
    assert set(config["Volumes"]) == {"/data"}
    assert config["StopSignal"] == "SIGQUIT"
    assert config["Healthcheck"]["Interval"] == 5_000_000_000
    assert (config["Entrypoint"], config["Cmd"]) == (["/bin/echo"], ["hello"])


def test_onbuild_runs_in_the_image_that_builds_on_it(project: Project) -> None:
    project.write("trigger.txt", "x")
    options = project.base("triggers")
    image = project.image(*options, "--build-arg", "GIVEN=yes", text="FROM triggers\n")
    assert image.text("triggered") == "yes\n"
    assert image.text("triggers/trigger.txt") == "x"
    assert "OnBuild" not in image.config


def test_the_ignore_file_of_the_dockerfile_comes_before_that_of_the_context(project: Project) -> None:
    for name in ("a", "b", "c"):
        project.write(name, name)
    project.write(".dockerignore", "a\n")
    plain = project.image(text="FROM scratch\nCOPY . /\n")
    project.dockerfile("FROM scratch\nCOPY . /\n", "special")
    project.write("special.dockerignore", "*\n!b\n")
    special = project.image("-f", str(project.context / "special"))
    assert {"b", "c"} <= set(plain.files) and "a" not in plain.files
    assert set(special.files) == {"b"}


def test_more_layers_than_an_overlay_takes_run_on_a_folder_of_the_lowest(project: Project) -> None:
    project.write("new", "new")
    copies = "".join(f"COPY new /many/{number}\n" for number in range(510))
    image = project.image(
        text=f"""
        FROM busybox
        RUN mkdir /gone /hidden /kept && echo 1 > /gone/a && echo 2 > /hidden/old && chmod 1770 /kept \\
            && echo 3 > /one && ln /one /two && touch -d @86400 /kept/old
        RUN rm -r /gone /hidden && mkdir /hidden && echo 4 > /hidden/new
        {copies.replace(chr(10), chr(10) + " " * 8)}
        RUN ls -d /gone /hidden/* > /seen 2>/dev/null; \\
            stat -c '%h %a %Y' /one /kept/old /kept | cut -c1-8 >> /seen; ls /many | wc -l >> /seen
        """
    )
    seen = image.text("seen").splitlines()
    assert seen[0] == "/hidden/new"
    assert seen[1].startswith("2 644 ")
    assert seen[2] == "1 644 86400"[:8]
    assert seen[3].startswith("2 1770")
    assert seen[4:] == ["510"]
    assert len(image.diff_ids) > 500
