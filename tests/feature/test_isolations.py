"""What works in one mode of isolation works in the others, or is refused with a reason."""

from __future__ import annotations

import os
import shutil
import tarfile
import time
from collections.abc import Iterator

import pytest
from minibuild_store.store import Store

from minibuild.cache.collect import collect
from minibuild.cache.eviction import Policy
from minibuild.cache.inventory import Inventory
from minibuild.sandbox import probe
from tests.feature.conftest import lacking
from tests.feature.project import Project
from tests.feature.test_ca_bundle import Site, site  # noqa: F401  # a fixture
from tests.feature.test_on_error import OPEN, Typist
from tests.feature.test_ssh import LIST, agent, key  # noqa: F401  # fixtures

PROMPT = b"# "
CONTAINED = ["oci", "single-id"]


@pytest.fixture(params=[*CONTAINED, "chroot"])
def mode(project: Project, request: pytest.FixtureRequest) -> Iterator[str]:
    """A mode that is not the one taken by itself; all builds of the project are in it."""
    name: str = request.param
    if name == "chroot" and os.geteuid():
        pytest.skip("chroot is for root")
    if name == "oci" and shutil.which("runc", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        lacking("runc is not installed")
    if name == "oci" and not probe.ladder(probe.look(), "oci")[0]:
        pytest.skip("an OCI runtime needs more ids than one")
    if name == "oci":
        project.environment["MINIBUILD_OCI_RUNTIME"] = "runc"
    project.environment["MINIBUILD_ISOLATION"] = name
    yield name


def only(mode: str, *modes: str) -> None:
    if mode not in modes:
        pytest.skip("said elsewhere for this mode")


SECRETS = """
FROM busybox
RUN --mount=type=secret,id=tok --mount=type=secret,id=tok,env=TOKEN \
    --mount=type=secret,id=tok,target=/etc/tok,uid=1000,mode=0440 \
    test "$(cat /run/secrets/tok)" = "$TOKEN" && test "$(cat /etc/tok)" = "$TOKEN" && stat -c %a \
    /etc/tok > /mode
RUN test ! -e /run/secrets && test ! -e /etc/tok && test -z "$TOKEN"
"""


def test_secrets_come_as_files_and_as_variables(project: Project, mode: str) -> None:
    project.environment["tok"] = "hush-hush-hush"
    image = project.image("--secret", "id=tok", text=SECRETS)
    assert image.text("mode") == "440\n"
    assert not any(path.startswith(("run", "etc/tok")) for path in image.files)


def test_an_agent_is_forwarded(project: Project, mode: str, agent: str) -> None:  # noqa: F811
    text = f"FROM local/ssh\nRUN --mount=type=ssh {LIST} > /listed\nRUN test ! -S /run/buildkit/ssh_agent.0\n"
    assert "comment of key" in project.image("--ssh", f"default={agent}", text=text).text("listed")


def test_an_authority_is_trusted_for_the_time_of_the_step(site: Site, mode: str) -> None:  # noqa: F811
    only(mode, *CONTAINED)
    text = f"FROM local/tls\nRUN curl -sS {site.url} > /got; env -i /usr/bin/curl -sS {site.url} >> /got\n"
    image = site.project.image(*site.option, text=text)
    assert image.text("got") == "hello\nhello\n"
    assert set(image.layer(-1)) == {"got"}


def test_what_needs_mounts_or_namespaces_is_refused_without_them(project: Project, mode: str) -> None:
    only(mode, "chroot")
    for run, option, reason in (
        ("--network=none true", "--pull", "a network of its own needs namespaces"),
        ("true", "--network=none", "a network of its own needs namespaces"),
        ("--security=insecure true", "--allow=security.insecure", "no more rights to give"),
        ("true", f"--volume={project.context}:/v", "--volume needs mounts"),
    ):
        done = project.build(option, text=f"FROM busybox\nRUN {run}\n")
        assert done.code and reason in done.error and "chroot" in done.error, run


def test_no_network_is_none(project: Project, mode: str) -> None:
    only(mode, *CONTAINED)
    image = project.image(text="FROM busybox\nRUN --network=none ls /sys/class/net > /net\n")
    assert image.text("net") == "lo\n"


FAILS = """
FROM busybox
WORKDIR /home/app
RUN --mount=type=secret,id=tok --mount=type=tmpfs,target=/t echo made > /tmp/made; rm /etc/group; exit 42
"""


def test_a_shell_opens_in_the_failed_step(project: Project, mode: str) -> None:
    project.dockerfile(FAILS)
    project.environment["tok"] = "hush-hush-hush"
    shell = Typist(
        project, "build", *project.base(), "--on-error=shell", "--secret", "id=tok", str(project.context)
    )
    shell.wait_for(OPEN)
    shell.wait_for(PROMPT)
    said = shell.say("pwd; cat /tmp/made; test -e /etc/group || echo go''ne; cat /run/secrets/tok; echo")
    assert "/home/app\r\nmade\r\ngone\r\nhush-hush-hush\r\n" in said
    assert "yes" in shell.say("test -t 0 && test -t 2 && echo y''es")
    os.write(shell.fd, b"exit 0\n")
    assert shell.end() == 1
    assert "exit code: 42" in shell.seen.decode()


def test_the_files_of_the_failed_step_are_exported(project: Project, mode: str) -> None:
    project.environment["tok"] = "hush-hush-hush"
    file = project.root / "failed.tar"
    done = project.build(f"--on-error=export={file}", "--secret", "id=tok", text=FAILS)
    assert done.code == 1 and f"are in {file}" in done.err
    with tarfile.open(file) as archive:
        names = {name.strip("/") for name in archive.getnames()}
    assert {"tmp/made", "bin/busybox", "home/app"} <= names
    assert not {"etc/group", "run/secrets/tok"} & names
    assert b"hush-hush-hush" not in file.read_bytes()


SAME = """
FROM busybox AS tools
RUN echo tool > /tool
FROM busybox
RUN --mount=type=bind,from=tools,target=/m --mount=type=cache,target=/c --mount=type=tmpfs,target=/t \
    cp /m/tool /tool && echo kept > /c/kept && echo lost > /t/lost && touch -d @5 /tool && touch -d @6 /tmp
RUN --mount=type=cache,target=/c cat /c/kept > /kept && touch -d @7 /kept && rm -r /old \
    && mkdir -m 2750 /dir && ln -s tool /link && ln /tool /hard && touch -d @8 /dir \
    && mkfifo /fifo && touch -d @9 /fifo
RUN <<SCRIPT
set -e
echo here > /here
touch -d @10 /here
SCRIPT
USER app
WORKDIR /work
RUN pwd > /tmp/who && id >> /tmp/who && touch -d @11 /tmp/who
USER root
RUN touch -d @12 /tmp
"""


def test_layers_are_the_same_as_by_our_own_hand(project: Project, mode: str) -> None:
    only(mode, "oci")
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    handed = project.image("--no-cache", text=SAME, environment=epoch)
    del project.environment["MINIBUILD_ISOLATION"]
    ours = project.image("--no-cache", text=SAME, environment=epoch)
    assert handed.diff_ids == ours.diff_ids


def test_the_build_says_what_runs_its_steps(project: Project, mode: str) -> None:
    words = {"oci": ", by runc", "single-id": "(single id)", "chroot": "isolation: chroot"}[mode]
    assert words in project.built("--progress=plain", text="FROM busybox\nRUN true\n").err


def test_an_image_is_run(project: Project, mode: str) -> None:
    project.built("-t", "local/x", text='FROM busybox\nENTRYPOINT ["sh", "-c"]\n')
    done = project.process("run", "-i", "local/x", "cat; exit 9", stdin=b"passed on\n")
    assert (done.code, done.out) == (9, "passed on\n"), done.err


def test_what_a_mode_leaves_in_the_store_is_counted_and_collected(project: Project, mode: str) -> None:
    project.built("-t", "local/x", text="FROM busybox\nRUN head -c 300000 /dev/zero > /x\n")
    with Store.open(project.store) as store:
        names = list(store.snapshots.names())
        assert all(name.endswith(".one") == (mode == "single-id") for name in names) and names
        folders = [store.snapshots.path(name) for name in names]
        (made,) = [thing for thing in Inventory(store).things if thing.kind == "image" and thing.unpacked]
        assert made.unpacked >= 300_000
        assert list(store.records("trials").names())
    assert project.command("rmi", "local/x").code == 0
    assert project.command("cache", "prune", "--all", "--force").code == 0
    with Store.open(project.store) as store:
        assert list(store.snapshots.names()) == []
        assert not any(folder is not None and folder.exists() for folder in folders)
        collect(store, Policy(), now_ns=time.time_ns() + 40 * 86_400 * 10**9)
        assert list(store.records("trials").names()) == []
