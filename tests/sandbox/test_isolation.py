"""What a process cannot see or do, and images that try to get out."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from minibuild.errors import SandboxError
from minibuild.sandbox import seccomp, seccomp_table
from minibuild.sandbox.spec import SecretFile, TmpfsMount
from tests.sandbox.conftest import Box, tree


def test_the_host_cannot_be_seen(box: Box, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    script = f"cat {tmp_path}/secret /proc/1/root{tmp_path}/secret /proc/1/cwd/../{tmp_path}/secret"
    ran = box.sh(script)
    assert (ran.code, ran.out) == (1, "")
    assert str(tmp_path) not in box.sh("cat /proc/self/mountinfo").out


def test_chroot_does_not_lead_out(box: Box) -> None:
    script = "mkdir /x; cd /; chroot /x /bin/true; ls .. | tr '\\n' ' '"
    assert box.sh(script).out.split() == sorted([*os.listdir(box.image), "x"])


@pytest.mark.parametrize("path", ["kcore", "keys", "timer_list", "sched_debug", "latency_stats"])
def test_files_of_proc_that_tell_about_the_host_are_empty(box: Box, path: str) -> None:
    if not Path("/proc", path).exists():
        pytest.skip("this kernel has no such file")
    assert box.sh(f"head -c 10 /proc/{path} | wc -c").out.strip() == "0"


def test_folders_of_proc_and_sys_that_tell_about_the_host_are_empty(box: Box) -> None:
    assert (
        box.sh("ls /proc/acpi /proc/scsi /sys/firmware /proc/asound 2>/dev/null | grep -v :").out.split()
        == []
    )


def test_kernel_settings_cannot_be_written(box: Box) -> None:
    ran = box.sh("cd /proc/sys; echo x > kernel/domainname; echo 0 > vm/swappiness; mkdir /sys/fs/cgroup/x")
    assert ran.err.count("Read-only file system") == 3


def test_device_nodes_are_the_harmless_six(box: Box) -> None:
    found = box.sh("find /dev -type c -o -type b").out.split()
    assert set(found) - {"/dev/pts/ptmx"} == {
        f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")
    }


def test_devices_of_the_host_cannot_be_opened(box: Box) -> None:
    # As root a node can be made, as in any container, but not opened.
    ran = box.sh("for d in /sda /dev/sda /tmp/sda /dev/shm/sda; do mknod $d b 254 0; head -c 1 $d; done")
    assert (ran.code, ran.out) == (1, "")


def test_standard_devices_work(box: Box) -> None:
    script = (
        "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c;echo o > /dev/stdout"
    )
    assert box.sh(script, user="app").out.split() == ["4", "4", "o"]


def test_terminals_can_be_made(box: Box) -> None:
    assert box.sh("test -c /dev/ptmx && test -d /dev/pts && head -c 0 /dev/ptmx", user="app").code == 0


@pytest.mark.parametrize(
    "script",
    ["mount -t tmpfs x /tmp", "umount /proc", "unshare -m true", "unshare -U true", "unshare -n true"],
)
def test_namespaces_and_mounts_are_refused(box: Box, script: str) -> None:
    ran = box.sh(script)
    assert ran.code != 0
    assert "Operation not permitted" in ran.err or "permission denied" in ran.err


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
def test_the_filter_answers_as_dockers_does() -> None:
    # The filter alone, on this interpreter: the image has no program that makes odd calls.
    calls = {
        "keyctl": (250, 0, 0, 0),
        "bpf": (321, 0, 0, 0),
        "mount": (165, 0, 0, 0, 0, 0),
        "kexec_load": (246, 0, 0, 0, 0),
        "clone new user": (56, 0x10000000, 0, 0, 0, 0),
        "clone3": (435, 0, 0),
        "personality query": (135, 0xFFFFFFFF),
        "personality odd": (135, 0x0400000),
        "socket vsock": (41, 40, 1, 0),
        "socket alg": (41, 38, 5, 0),
        "socket unix": (41, 1, 1, 0),
        "newer than the profile": (5000,),
        "x32": (0x40000000 + 39,),
        "getpid": (39,),
    }
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(38, 1, 0, 0, 0)  # no_new_privs, so that no right is needed
        if libc.prctl(22, 2, ctypes.c_void_p(seccomp.build())):
            os._exit(1)
        for arguments in calls.values():
            ctypes.set_errno(0)
            libc.syscall(*(ctypes.c_long(number) for number in arguments))
            os.write(write, struct.pack("i", ctypes.get_errno()))
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    answers = struct.unpack(f"{len(calls)}i", os.read(read, 4096))
    os.close(read)
    assert dict(zip(calls, answers, strict=True)) == {
        "keyctl": 1,
        "bpf": 1,
        "mount": 1,
        "kexec_load": 1,
        "clone new user": 1,
        "clone3": 38,
        "personality query": 0,
        "personality odd": 1,
        "socket vsock": 1,
        "socket alg": 1,
        "socket unix": 0,
        "newer than the profile": 38,
        "x32": 38,
        "getpid": 0,
    }


def run_filter(program: bytes, audit: int, number: int, argument: int = 0) -> int:
    """What the BPF `program` returns: an interpreter of the few instructions it uses."""
    code = [struct.unpack_from("=HBBI", program, place) for place in range(0, len(program), 8)]
    data = {0: number, 4: audit, 16: argument}
    place = register = 0
    while True:
        operation, if_true, if_false, operand = code[place]
        place += 1
        if operation == 0x20:
            register = data[operand]
        elif operation == 0x06:
            return operand
        elif operation == 0x05:
            place += operand
        else:
            holds = {0x15: register == operand, 0x35: register >= operand, 0x45: bool(register & operand)}
            place += if_true if holds[operation] else if_false


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [("x86_64", "x86_64"), ("x86_64", "i386"), ("aarch64", "aarch64"), ("aarch64", "arm")],
)
def test_exactly_the_table_is_allowed(machine: str, architecture: str) -> None:
    program = seccomp.program(machine)
    allowed = {int(word.partition("=")[2]) for word in seccomp_table.ALLOWED[architecture].split()}
    special = set(seccomp_table.SPECIAL[architecture])
    for number in {*range(600), *allowed, *(n + 1 for n in allowed), 0x3FFFFFFF} - special:
        answer = run_filter(program, seccomp_table.AUDIT[architecture], number)
        refused = 0x00050026 if number > seccomp_table.NEWEST else 0x00050001
        assert answer == (0x7FFF0000 if number in allowed else refused), number


def test_another_architecture_is_killed() -> None:
    assert run_filter(seccomp.program("x86_64"), seccomp_table.AUDIT["arm"], 0) == 0x80000000


def test_an_unknown_machine_has_no_filter() -> None:
    assert seccomp.program("riscv64") == b""


@pytest.mark.parametrize("link", ["../../../../../../tmp/{}", "/tmp/{}", "../run/systemd/{}"])
def test_a_linked_resolv_conf_stays_inside(
    box: Box, new_image: Callable[..., Path], link: str, tmp_path: Path
) -> None:
    image = new_image()
    name = f"resolv-{tmp_path.name}"
    (image / "etc/resolv.conf").symlink_to(link.format(name))
    rootfs = box.rootfs(image)
    ran = box.sh("cat /etc/resolv.conf", rootfs=rootfs)
    assert ran.out == Path("/etc/resolv.conf").read_text()
    assert not Path("/tmp", name).exists()
    assert [path for path in tree(rootfs.upper) if name in path] == []


def test_a_linked_etc_stays_inside(box: Box, new_image: Callable[..., Path]) -> None:
    image = new_image()
    (image / "etc").rename(image / "real")
    (image / "etc").symlink_to("../../../../../real")
    assert box.sh("cat /real/hosts | head -1", rootfs=box.rootfs(image)).out.startswith("127.0.0.1")


@pytest.mark.parametrize("name", ["proc", "dev", "sys"])
@pytest.mark.parametrize("target", ["/", "/etc", "../../../tmp"])
def test_a_linked_system_folder_is_refused(
    box: Box, new_image: Callable[..., Path], name: str, target: str
) -> None:
    image = new_image()
    (image / name).rmdir()
    (image / name).symlink_to(target)
    with pytest.raises(SandboxError, match=f"mount on /{name}: it is not a plain folder"):
        box.sh("true", rootfs=box.rootfs(image))


def test_a_mount_target_never_leaves_the_image(
    box: Box, new_image: Callable[..., Path], tmp_path: Path
) -> None:
    image = new_image()
    outside = tmp_path / "outside"
    outside.mkdir()
    (image / "out").symlink_to(f"../../../../../../../..{outside}")
    (image / "loop").symlink_to("loop")
    mounts = (SecretFile("/out/secret", b"x"), TmpfsMount("/../../t"))
    assert box.sh("cat /out/secret; ls -d /t", mounts=mounts, rootfs=box.rootfs(image)).out == "x/t\n"
    assert os.listdir(outside) == []
    with pytest.raises(SandboxError, match="symbolic links"):
        box.sh("true", mounts=(TmpfsMount("/loop/x"),), rootfs=box.rootfs(image))


def test_links_of_proc_are_no_way_to_a_target(box: Box) -> None:
    for target in ("/proc/self/root/tmp/x", "/proc/self/cwd", "/proc/1/fd/0"):
        with pytest.raises(SandboxError):
            box.sh("true", mounts=(TmpfsMount(target),))


def test_the_users_of_the_host_are_not_read(box: Box, new_image: Callable[..., Path]) -> None:
    image = new_image()
    (image / "etc/passwd").unlink()
    (image / "etc/passwd").symlink_to("../../../../../../etc/passwd")
    assert box.sh("id -u", rootfs=box.rootfs(image), user="5").out == "5\n"
    os.mkfifo(image / "etc/group2")
    (image / "etc/group").unlink()
    (image / "etc/group").symlink_to("group2")
    assert box.run("/bin/true", rootfs=box.rootfs(image), user="5").code == 0


@pytest.mark.parametrize("link", ["/proc/self/exe", "/proc/1/exe", "/proc/thread-self/exe"])
def test_our_own_interpreter_is_no_program_of_the_image(
    box: Box, new_image: Callable[..., Path], link: str
) -> None:
    image = new_image()
    (image / "bin/evil").symlink_to(link)
    assert box.run("/bin/evil", "--version", rootfs=box.rootfs(image)).code in (126, 127)


def test_our_own_interpreter_cannot_be_written_through_a_script(
    box: Box, new_image: Callable[..., Path]
) -> None:
    image = new_image()
    script = image / "bin/evil"
    script.write_text("#!/proc/self/exe -Sc'pass'\n")
    script.chmod(0o755)
    # Whatever it runs is a sealed copy, or a file that this user may not write.
    assert box.run("/bin/evil", rootfs=box.rootfs(image)).code != 0


def test_abstract_sockets_of_the_host_are_out_of_reach_without_network(box: Box, tmp_path: Path) -> None:
    name = f"\0minibuild-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        assert tmp_path.name not in box.sh("cat /proc/net/unix", network="none").out
