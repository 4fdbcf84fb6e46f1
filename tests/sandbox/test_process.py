"""What a process sees and how it ends."""

from __future__ import annotations

import os
import pty
import resource
import select
import socket
import threading
import time
from pathlib import Path

import pytest

from minibuild.errors import Cancelled, SandboxError, UsageError
from minibuild.sandbox.spec import ProcessSpec
from tests.sandbox.conftest import Box

DOCKER_CAPABILITIES = "00000000a80425fb"


def test_an_exit_code_is_reported(box: Box) -> None:
    assert box.sh("exit 42").code == 42


def test_a_signal_is_reported_as_128_and_its_number(box: Box) -> None:
    assert box.sh("sh -c 'kill -TERM $$'; exit $?").code == 143


def test_a_killed_first_process_is_reported_as_137(box: Box) -> None:
    # Signals a process 1 sends itself do nothing; only the kernel's own get through, as in any container.
    assert box.run("/bin/sleep", "10", timeout=0.2).code == 137


def test_output_comes_apart_by_descriptor_and_in_order(box: Box) -> None:
    ran = box.sh("echo a; echo x >&2; echo b; echo y >&2")
    assert (ran.out, ran.err) == ("a\nb\n", "x\ny\n")


def test_output_arrives_while_the_process_runs(box: Box) -> None:
    arrived: list[float] = []
    started = time.monotonic()
    box.sandbox.run(
        box.rootfs(),
        ProcessSpec(argv=("/bin/sh", "-c", "echo one; sleep 1"), env=(("PATH", "/bin"),)),
        output=lambda _fd, _data: arrived.append(time.monotonic() - started),
    )
    assert arrived[0] < 0.9


def test_a_hundred_megabytes_of_output_are_not_clipped(box: Box) -> None:
    ran = box.sh("head -c 104857600 /dev/zero; head -c 1000000 /dev/zero >&2")
    assert sum(len(data) for fd, data in ran.chunks if fd == 1) == 104857600
    assert sum(len(data) for fd, data in ran.chunks if fd == 2) == 1000000


def test_output_may_be_unwanted(box: Box) -> None:
    status = box.sandbox.run(box.rootfs(), ProcessSpec(argv=("/bin/head", "-c", "9999999", "/dev/zero")))
    assert status.code == 0


def test_an_error_in_the_output_callback_ends_the_process(box: Box) -> None:
    def fail(_fd: int, _data: bytes) -> None:
        raise RuntimeError("the caller's own")

    started = time.monotonic()
    with pytest.raises(RuntimeError, match="own"):
        box.sandbox.run(
            box.rootfs(),
            ProcessSpec(argv=("/bin/sh", "-c", "echo x; sleep 60"), env=(("PATH", "/bin"),)),
            output=fail,
        )
    assert time.monotonic() - started < 10


def test_input_is_empty(box: Box) -> None:
    assert box.sh("wc -c").out.strip() == "0"


def test_descriptors_of_the_caller_are_used_where_given(box: Box) -> None:
    read, write = os.pipe()
    source, feed = os.pipe()
    os.write(feed, b"hello")
    os.close(feed)
    try:
        assert box.run("/bin/cat", stdio=(source, write, write)).code == 0
        assert os.read(read, 100) == b"hello"
    finally:
        for fd in (read, write, source):
            os.close(fd)


def test_a_terminal_becomes_the_controlling_terminal(box: Box) -> None:
    ours, theirs = pty.openpty()
    try:
        ran = box.run("/bin/sh", "-c", "echo in > /dev/tty; test -c /dev/console", stdio=(theirs,) * 3)
        assert ran.code == 0
        assert select.select([ours], [], [], 10)[0]
        assert os.read(ours, 100) == b"in\r\n"
    finally:
        os.close(ours)
        os.close(theirs)


def test_no_descriptor_leaks_in(box: Box) -> None:
    assert box.sh("ls /proc/1/fd; true").out.split() == ["0", "1", "2"]


def test_a_child_that_holds_the_pipe_does_not_delay_the_end(box: Box) -> None:
    started = time.monotonic()
    ran = box.sh("setsid sleep 60 & echo done")
    assert ran.out == "done\n"
    assert time.monotonic() - started < 10


def test_the_process_is_number_one_of_its_own_and_sees_no_other(box: Box) -> None:
    assert box.sh("echo $$; ls /proc | grep -c '^[0-9]*$'").out.split()[0] == "1"
    assert box.run("/bin/ps", "-o", "pid").out.split() == ["PID", "1"]


@pytest.mark.many_ids
def test_the_environment_is_what_was_asked_for_and_home(box: Box) -> None:
    ran = box.run("/bin/env", env=(("PATH", "/bin"), ("A", "b=c"), ("EMPTY", ""), ("Ü", "ñ")))
    assert sorted(ran.out.splitlines()) == ["A=b=c", "EMPTY=", "HOME=/root", "PATH=/bin", "Ü=ñ"]


@pytest.mark.many_ids
def test_home_of_the_environment_wins_unless_it_is_empty(box: Box) -> None:
    assert box.run("/bin/env", env=(("HOME", "/x"),)).out == "HOME=/x\n"
    assert box.run("/bin/env", env=(("HOME", ""),)).out == "HOME=/root\n"


@pytest.mark.many_ids
@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", "0 0 0 10 /root"),
        ("root", "0 0 0 10 /root"),
        ("app", "1000 1001 1001 10 44 /home/app"),
        ("1000", "1000 1001 1001 10 44 /home/app"),
        ("app:wheel", "1000 10 10 /home/app"),
        ("app:44", "1000 44 44 /home/app"),
        ("1000:1000", "1000 1000 1000 /home/app"),
        ("4242", "4242 0 0 /"),
        ("4242:4243", "4242 4243 4243 /"),
        (":44", "0 44 44 /root"),
    ],
)
def test_a_user_is_resolved_as_the_image_has_it(box: Box, user: str, ids: str) -> None:
    assert box.sh('echo $(id -u) $(id -g) $(id -G) "$HOME"', user=user).out.strip() == ids


@pytest.mark.parametrize(("user", "name"), [("nobody", "user nobody"), ("app:nogroup", "group nogroup")])
def test_an_unknown_user_or_group_is_named(box: Box, user: str, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        box.run("/bin/true", user=user)


def test_an_image_without_passwd_has_numbers_only(box: Box, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    (bare / "bin").mkdir(parents=True)
    bare.chmod(0o755)
    (bare / "bin/busybox").write_bytes((box.image / "bin/busybox").read_bytes())
    (bare / "bin/busybox").chmod(0o755)
    ran = box.run("/bin/busybox", "id", "-u", rootfs=box.rootfs(bare), user="5")
    assert ran.out == "5\n"
    with pytest.raises(UsageError, match="user app"):
        box.run("/bin/busybox", "true", rootfs=box.rootfs(bare), user="app")


def test_root_has_dockers_capabilities_and_may_gain_no_other(box: Box) -> None:
    caps = dict(line.split() for line in box.sh("grep ^Cap /proc/self/status").out.splitlines())
    assert caps == {
        "CapInh:": "0" * 16,
        "CapPrm:": DOCKER_CAPABILITIES,
        "CapEff:": DOCKER_CAPABILITIES,
        "CapBnd:": DOCKER_CAPABILITIES,
        "CapAmb:": "0" * 16,
    }


def test_an_ordinary_user_has_no_capabilities(box: Box) -> None:
    caps = dict(line.split() for line in box.sh("grep ^Cap /proc/self/status", user="app").out.splitlines())
    assert caps["CapEff:"] == caps["CapPrm:"] == "0" * 16
    assert caps["CapBnd:"] == DOCKER_CAPABILITIES


@pytest.mark.many_ids
def test_a_setuid_program_still_gives_its_owners_rights(box: Box) -> None:
    rootfs = box.rootfs()
    script = "cp /bin/busybox /tmp/su && chmod 4755 /tmp/su && sed -i s/root:x/root:/ /etc/passwd"
    assert box.sh(script, rootfs=rootfs).code == 0
    assert box.run("/tmp/su", "-c", "id -u", "root", rootfs=rootfs, user="app").out == "0\n"


def test_a_program_that_is_not_there_gives_127(box: Box) -> None:
    ran = box.run("nosuch")
    assert (ran.code, ran.err) == (127, 'exec: "nosuch": executable file not found in $PATH\n')
    ran = box.run("/no/such")
    assert (ran.code, ran.err) == (127, 'exec: "/no/such": stat /no/such: no such file or directory\n')


def test_a_program_that_is_not_executable_gives_126(box: Box) -> None:
    ran = box.run("/etc/passwd")
    assert (ran.code, ran.err) == (126, 'exec: "/etc/passwd": permission denied\n')


def test_a_missing_interpreter_gives_127(box: Box) -> None:
    rootfs = box.rootfs()
    box.sh("printf '#!/no/such\\n' > /bin/script; chmod 755 /bin/script", rootfs=rootfs)
    assert box.run("script", rootfs=rootfs).code == 127


def test_a_relative_program_counts_from_the_working_folder(box: Box) -> None:
    assert box.run("./true", cwd="/bin").code == 0


def test_an_empty_command_is_refused(box: Box) -> None:
    with pytest.raises(UsageError):
        box.run()


def test_the_working_folder_is_entered(box: Box) -> None:
    assert box.run("/bin/pwd", cwd="/home/app").out == "/home/app\n"


def test_a_missing_working_folder_is_made_for_the_user(box: Box) -> None:
    assert box.sh("stat -c '%u %g %a' . ..", cwd="/a/b", user="app").out.split("\n")[:2] == [
        "1000 1001 755",
        "1000 1001 755",
    ]


def test_a_working_folder_that_is_a_file_is_refused(box: Box) -> None:
    with pytest.raises(SandboxError, match="/etc/passwd is not a folder"):
        box.run("/bin/true", cwd="/etc/passwd")


def test_host_name_and_hosts_file(box: Box) -> None:
    ran = box.sh("hostname; cat /etc/hosts", hostname="builder", hosts=(("10.0.0.1", "db"), ("::5", "six")))
    assert ran.out.splitlines() == [
        "builder",
        "127.0.0.1\tlocalhost builder",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "10.0.0.1\tdb",
        "::5\tsix",
    ]


def test_the_name_servers_are_the_hosts(box: Box) -> None:
    assert box.sh("cat /etc/resolv.conf").out == Path("/etc/resolv.conf").read_text()


def test_hosts_and_resolv_conf_cannot_be_written(box: Box) -> None:
    ran = box.sh("for f in hosts resolv.conf; do echo x > /etc/$f; done")
    assert ran.err.count("Read-only file system") == 2


def test_umask_is_022(box: Box) -> None:
    previous = os.umask(0o077)
    try:
        assert box.sh("umask").out == "0022\n"
    finally:
        os.umask(previous)


def test_signals_have_their_default_actions(box: Box) -> None:
    ran = box.run("/bin/cat", "/proc/self/status")
    status = dict(line.split(":\t") for line in ran.out.splitlines() if ":\t" in line)
    # glibc's posix_spawn, which make uses, has children ignore two signals that are the library's own.
    ignored = int(status["SigIgn"], 16) & ~(0b11 << 31)
    assert (int(status["SigBlk"], 16), ignored) == (0, 0)


def test_limits_are_the_callers(box: Box) -> None:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert box.sh("ulimit -n").out == f"{soft}\n"


def test_without_network_there_is_only_a_loopback_that_is_up(box: Box) -> None:
    ran = box.sh("ls /sys/class/net; ip -o addr", network="none")
    assert ran.out.splitlines()[0] == "lo"
    assert "127.0.0.1" in ran.out
    assert len(box.sh("cat /proc/net/dev", network="none").out.splitlines()) == 3


def test_with_the_hosts_network_a_server_on_loopback_answers(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b"hello")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        ran = box.sh(f"nc 127.0.0.1 {server.getsockname()[1]} < /dev/null")
        thread.join(10)
    assert ran.out == "hello"


def test_without_network_it_does_not(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ran = box.sh(f"nc 127.0.0.1 {server.getsockname()[1]} < /dev/null", network="none")
    assert ran.code != 0


def test_a_timeout_ends_the_whole_tree(box: Box) -> None:
    started = time.monotonic()
    ran = box.sh("sleep 60 & setsid sleep 60 & echo on; sleep 60", timeout=0.5)
    assert (ran.status.timed_out, ran.out) == (True, "on\n")
    assert time.monotonic() - started < 10


def test_a_process_within_its_time_has_not_timed_out(box: Box) -> None:
    assert not box.sh("true", timeout=60).status.timed_out


def test_cancelling_ends_the_process(box: Box) -> None:
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        box.sh("sleep 60", cancel=cancel)
    assert time.monotonic() - started < 10


def test_eight_processes_run_at_once(box: Box) -> None:
    codes: dict[int, int] = {}
    roots = [box.rootfs() for _ in range(8)]

    def one(number: int) -> None:
        codes[number] = box.sh(f"sleep 0.5; exit {number}", rootfs=roots[number]).code

    started = time.monotonic()
    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {number: number for number in range(8)}
    assert time.monotonic() - started < 3


@pytest.mark.many_ids
def test_insecure_lifts_capabilities_and_filter(box: Box) -> None:
    ran = box.sh("mount -t tmpfs none /tmp && grep -i ^seccomp: /proc/self/status", insecure=True)
    assert (ran.code, ran.out.split()) == (0, ["Seccomp:", "0"])


def test_insecure_gives_an_ordinary_user_every_capability_too(box: Box) -> None:
    ran = box.sh("grep ^Cap /proc/self/status", insecure=True, user="app")
    caps = dict(line.split() for line in ran.out.splitlines())
    assert len({*caps.values()}) == 1
    assert int(caps["CapEff:"], 16) > int(DOCKER_CAPABILITIES, 16)
