"""What a RUN may use: limits, names, time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.feature.project import Project, processes


def test_the_resolver_is_told_what_the_options_say(project: Project) -> None:
    options = [
        "--dns",
        "10.0.0.53",
        "--dns",
        "fd00::1",
        "--dns-search",
        "a.example",
        "--dns-option",
        "ndots:2",
    ]
    image = project.image(*options, text="FROM busybox\nRUN cat /etc/resolv.conf > /seen\n")
    lines = image.text("seen").splitlines()
    assert [line for line in lines if line.startswith("nameserver")] == [
        "nameserver 10.0.0.53",
        "nameserver fd00::1",
    ]
    assert "search a.example" in lines and "options ndots:2" in lines
    assert "etc/resolv.conf" not in image.layer(-1)


def test_what_is_not_given_is_the_hosts(project: Project) -> None:
    servers = [
        line for line in Path("/etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver")
    ]
    text = "FROM busybox\nRUN cat /etc/resolv.conf > /seen\n"
    seen = project.image("--dns-search", "x.example", text=text).text("seen")
    assert [line for line in seen.splitlines() if line.startswith("nameserver")] == servers


def test_shared_memory_has_the_size_asked_for(project: Project) -> None:
    text = "FROM busybox\nRUN df -k /dev/shm | tail -1 > /seen\n"
    assert project.image("--shm-size", "3m", text=text).text("seen").split()[1] == "3072"


def test_ulimits_hold_for_the_step_and_only_there(project: Project) -> None:
    text = "FROM busybox\nRUN echo $(ulimit -Sn) $(ulimit -Hn) $(ulimit -c) > /seen\n"
    image = project.image("--ulimit", "nofile=100:200", "--ulimit", "core=0", text=text)
    assert image.text("seen") == "100 200 0\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may raise its limits")
def test_a_ulimit_out_of_reach_is_as_high_as_it_goes_and_said(project: Project) -> None:
    done = project.built("--ulimit", "nofile=99999999", text="FROM busybox\nRUN ulimit -n\n")
    assert "WARNING: --ulimit nofile=99999999" in done.err


def test_memory_and_processors_are_limited_or_a_warning_says_why_not(project: Project) -> None:
    text = """
    FROM busybox
    RUN { grep minibuild- /proc/self/cgroup; cat /sys/fs/cgroup/memory.max; } > /seen 2> /dev/null || true
    RUN true
    """
    layout = project.root / "layout"
    done = project.built("--memory", "64m", "--cpus", "0.5", "-o", f"type=local,dest={layout}", text=text)
    seen = (layout / "seen").read_text()
    limited = "minibuild-" in seen or seen == f"{64 << 20}\n"  # version 1 shows names, version 2 values
    assert done.err.count("WARNING: --memory and --cpus have no effect") == (0 if limited else 1)
    if os.geteuid() == 0:
        assert limited
    assert not [
        path for path in Path("/sys/fs/cgroup").glob("**/minibuild-*") if str(os.getpid()) in path.name
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="root may make control groups")
def test_more_memory_than_allowed_ends_the_step_with_a_reason(project: Project) -> None:
    text = "FROM busybox\nRUN exec dd if=/dev/zero of=/dev/null bs=200M count=1\n"
    done = project.build("--memory", "32m", text=text)
    assert done.code == 1
    assert "was killed for want of memory" in done.error and "raise --memory" in done.error


def test_a_step_that_takes_too_long_is_killed_with_all_it_started(project: Project) -> None:
    start = time.monotonic()
    done = project.build("--step-timeout", "1s", text="FROM busybox\nRUN sleep 98765 & sleep 98765\n")
    assert done.code == 1 and time.monotonic() - start < 20
    assert "did not end within 1 s" in done.error and "--step-timeout" in done.error
    assert not processes("98765")
    project.built("--step-timeout", "1m", text="FROM busybox\nRUN true\n")


def test_what_a_step_leaves_running_is_gone(project: Project) -> None:
    project.built(text="FROM busybox\nRUN (setsid nohup sleep 87654 >/dev/null 2>&1 &) ; true\n")
    assert not processes("87654")


def test_output_is_never_clipped(project: Project) -> None:
    done = project.built("--progress=plain", text="FROM busybox\nRUN seq 1 600000; echo the last line\n")
    assert " 600000\n" in done.err and "the last line" in done.err
    assert sum(line.rsplit(" ", 1)[-1].isdigit() for line in done.err.splitlines()) >= 600000


def test_limits_count_for_no_key(project: Project) -> None:
    text = "FROM busybox\nRUN true\n"
    project.built(text=text)
    options = ["--shm-size", "8m", "--ulimit", "core=0", "--dns", "10.0.0.1", "--step-timeout", "9m"]
    assert project.built(*options).summary == (1, 1)


def test_the_host_name_is_what_the_argument_says(project: Project) -> None:
    text = "FROM busybox\nRUN hostname > /seen; grep -c mine /etc/hosts >> /seen\n"
    options = ["--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=mine"]
    assert project.image(*options, text=text).text("seen") == "mine\n1\n"


def test_insecure_needs_to_be_allowed(project: Project) -> None:
    text = "FROM busybox\nRUN --security=insecure mkdir /m && mount -t tmpfs none /m && echo > /m/x\n"
    done = project.build(text=text)
    assert done.code == 1 and "--allow security.insecure" in done.error
    image = project.image("--allow", "security.insecure", text=text)
    assert "m" in image.files and "m/x" not in image.files


@pytest.mark.parametrize(
    "option",
    [
        ("--shm-size", "lots"), ("--memory", "-1"), ("--cpus", "0"), ("--cpus", "two"),
        ("--ulimit", "nofiles=1"), ("--ulimit", "nofile=2:1"), ("--ulimit", "nofile"),
        ("--dns", "example.org"), ("--dns-option", "a b"), ("--step-timeout", "10"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused(project: Project, option: tuple[str, str]) -> None:
    done = project.build(*option, text="FROM busybox\n")
    assert done.code == 2 and option[0] in done.error
