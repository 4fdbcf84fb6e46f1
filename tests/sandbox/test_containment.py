"""Programs that try to get out, as root inside and as a user inside, with every call at hand.

They are run by this machine's own Python, whose /usr is mounted into a small image.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minibuild.sandbox.spec import FolderMount, SecretFile
from tests.sandbox.conftest import Box, Ran

PYTHON = "/usr/bin/python3"
USERS = pytest.mark.parametrize("user", ["root", "app"])

pytestmark = pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"{PYTHON} is not installed")

CALLS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
space = (ctypes.c_uint64 * 3)()
space[:] = ctypes.addressof(space), 8, 0  # a struct iovec, of itself
def call(number, *arguments):
    ctypes.set_errno(0)
    arguments = [ctypes.addressof(space) if n == "BUFFER" else n for n in arguments]
    result = libc.syscall(*(ctypes.c_long(n) for n in (number, *arguments)))
    return ctypes.get_errno() if result < 0 else 0
"""


@pytest.fixture
def python(box: Box, new_image: Callable[..., Path]) -> Callable[..., Ran]:
    """Runs a program text inside, as `user`."""
    image = new_image("python")
    (image / "usr").mkdir()
    for name in ("lib", "lib64", "lib32"):
        if Path("/", name).is_symlink():
            (image / name).symlink_to(f"usr/{name}")
    usr = FolderMount("/usr", Path("/usr"), readonly=True)

    def run(text: str, *, user: str = "root", mounts: tuple[object, ...] = (), **options: object) -> Ran:
        more = () if Path("/lib").is_symlink() else (FolderMount("/lib", Path("/lib"), readonly=True),)
        return box.run(
            PYTHON, "-I", "-S", "-c", text, user=user, mounts=(usr, *more, *mounts), rootfs=box.rootfs(image),
            **options,
        )  # fmt: skip

    return run


NUMBERS = {
    "ptrace outward": (101, 16, "PID", 0, 0),
    "process_vm_readv": (310, "PID", "BUFFER", 1, "BUFFER", 1, 0),
    "pidfd_open": (434, "PID", 0),
    "kill": (62, "PID", 0),
    "init_module": (175, 0, 0, 0),
    "finit_module": (313, -1, 0, 0),
    "delete_module": (176, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "kexec_file_load": (320, -1, -1, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "userfaultfd": (323, 0),
    "io_uring_setup": (425, 1, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount": (166, 0, 0),
    "pivot_root": (155, 0, 0),
    "fsopen": (430, 0, 0),
    "fsmount": (432, -1, 0, 0),
    "open_tree": (428, -1, 0, 1),
    "move_mount": (429, -1, 0, -1, 0, 0),
    "mount_setattr": (442, -1, 0, 0, 0, 0),
    "setns": (308, -1, 0),
    "unshare user": (272, 0x10000000),
    "unshare mount": (272, 0x00020000),
    "clone into a user namespace": (56, 0x10000000, 0, 0, 0, 0),
    "open_by_handle_at": (304, -100, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "keyctl": (250, 0, 0, 0, 0, 0),
    "request_key": (249, 0, 0, 0, 0),
    "swapon": (167, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "acct": (163, 0),
    "settimeofday": (164, 0, 0),
    "clock_settime": (227, 0, 0),
    "iopl": (172, 3),
    "ioperm": (173, 0, 1, 1),
    "syslog": (103, 10, 0, 0),
    "quotactl": (179, 0, 0, 0, 0),
    "sethostname": (170, 0, 0),
}
REFUSED = (1, 38)  # EPERM, ENOSYS
NO_SUCH_PROCESS = (3, *REFUSED)


@USERS
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
def test_no_call_reaches_the_kernel_or_a_process_outside(python: Callable[..., Ran], user: str) -> None:
    # A host process of high number that may be signalled and traced by its owner.
    victim = subprocess.Popen(["sleep", "60"])
    try:
        rows = {
            name: [victim.pid if part == "PID" else part for part in call] for name, call in NUMBERS.items()
        }
        text = CALLS + f"for name, row in {rows!r}.items():\n    print(name, call(*row), sep='=')\n"
        ran = python(text, user=user)
        answers = dict(line.split("=") for line in ran.out.splitlines())
        assert answers.keys() == NUMBERS.keys(), ran.err
        allowed = {name: NO_SUCH_PROCESS if "PID" in call else REFUSED for name, call in NUMBERS.items()}
        assert [name for name, answer in answers.items() if int(answer) not in allowed[name]] == []
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


@USERS
def test_killing_everything_ends_no_one_else(python: Callable[..., Ran], box: Box, user: str) -> None:
    victim = subprocess.Popen(["sleep", "60"])
    try:
        python("import os; os.kill(-1, 9)", user=user)
        assert victim.poll() is None
        assert box.sh("echo still here").out == "still here\n"
    finally:
        victim.kill()
        victim.wait()


@USERS
def test_the_way_out_of_a_chroot_is_closed(python: Callable[..., Ran], tmp_path: Path, user: str) -> None:
    canary = tmp_path / "canary"
    canary.write_text("host")
    canary.chmod(0o666)
    text = f"""
import os
os.makedirs("/tmp/jail", exist_ok=True)
here = os.open("/", os.O_RDONLY)
try:
    os.chroot("/tmp/jail")
except PermissionError:
    pass
os.fchdir(here)
for _ in range(64):
    os.chdir("..")
for path in ({str(canary)!r}.lstrip("/"), {str(canary)!r}, "proc/1/root" + {str(canary)!r}):
    try:
        open(path, "a").write("x")
        print("out", path)
    except OSError:
        pass
"""
    assert python(text, user=user).out == ""
    assert canary.read_text() == "host"


@USERS
def test_only_the_three_descriptors_are_there(python: Callable[..., Ran], user: str) -> None:
    text = """
import os
for fd in range(0, 4096):
    try:
        print(fd, os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        pass
"""
    rows = [line.split(" ", 1) for line in python(text, user=user).out.splitlines()]
    assert [number for number, _ in rows] == ["0", "1", "2"]
    assert rows[0][1] == "/dev/null" and all(name.startswith("pipe:") for _, name in rows[1:])


@USERS
def test_the_disks_of_the_host_cannot_be_opened(
    python: Callable[..., Ran], tmp_path: Path, user: str
) -> None:
    device = os.stat(tmp_path).st_dev
    text = f"""
import os, stat
for place in ("/dev", "/tmp", "/dev/shm", "/dev/mqueue", "/root", "/"):
    memory, console = (stat.S_IFCHR, os.makedev(1, 1)), (stat.S_IFCHR, os.makedev(5, 1))
    for kind, number in ((stat.S_IFBLK, {device}), memory, console):
        try:
            os.mknod(place + "/node", kind | 0o666, number)
            os.open(place + "/node", os.O_RDWR)
            print("opened", place, number)
        except OSError:
            pass
        try:
            os.unlink(place + "/node")
        except OSError:
            pass
"""
    assert python(text, user=user).out == ""


# Triggers for pressure notices belong to whoever opens them, and the others to the process itself.
OWN = ("/proc/self", "/proc/thread-self", "/proc/pressure")


@USERS
def test_nothing_in_proc_and_sys_can_be_written(python: Callable[..., Ran], user: str) -> None:
    text = f"""
import os
for top in ("/proc", "/sys"):
    for base, folders, names in os.walk(top):
        folders[:] = [n for n in folders if not n.isdigit() and os.path.join(base, n) not in {OWN!r}]
        for name in names:
            path = os.path.join(base, name)
            try:
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
                # Root may open what has no way to be written; what is masked is /dev/null.
                os.write(fd, b"")
                if os.fstat(fd).st_rdev != os.makedev(1, 3):
                    print(path)
                os.close(fd)
            except OSError:
                pass
"""
    assert python(text, user=user).out == ""


@USERS
def test_another_step_is_out_of_sight(python: Callable[..., Ran], user: str) -> None:
    stop = threading.Event()
    other = (
        "import time; open('/dev/shm/mine', 'w').write('x'); open('/tmp/mine', 'w').write('x');"
        " print('ready', flush=True); time.sleep(60)"
    )
    secret = SecretFile("/run/secrets/key", b"of the other")

    def run_other() -> None:
        with pytest.raises(Exception, match="cancelled"):
            python(other, user=user, mounts=(secret,), cancel=stop, env=(("TOKEN", "other"),))

    thread = threading.Thread(target=run_other)
    thread.start()
    time.sleep(1.5)
    look = """
import os
print([p for p in os.listdir("/proc") if p.isdigit()])
print(os.path.exists("/run/secrets"), os.path.exists("/dev/shm/mine"), os.path.exists("/tmp/mine"))
print([p for p in os.listdir("/proc") if p.isdigit() and b"TOKEN" in open(f"/proc/{p}/environ", "rb").read()])
"""
    ran = python(look, user=user)
    stop.set()
    thread.join()
    assert ran.out == "['1']\nFalse False False\n[]\n", ran.err


def test_a_device_or_a_set_user_bit_gains_nothing_in_a_cache_folder(box: Box, tmp_path: Path) -> None:
    # What a step leaves in a cache is root's of the image; outside, no one but the owner reaches it.
    cache = box.folder / "cache"
    mount = FolderMount("/c", cache)
    box.sh("cp /bin/busybox /c/sh; chown 0:0 /c/sh; chmod 4755 /c/sh; mknod /c/zero c 1 5", mounts=(mount,))
    assert box.sh("head -c 1 /c/zero", mounts=(mount,)).code != 0
    assert (cache / "sh").stat().st_uid == os.geteuid()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("fifo", lambda path: os.mkfifo(path)),
        ("folder", lambda path: path.mkdir()),
        ("loop", lambda path: path.symlink_to("passwd")),
        ("outside", lambda path: path.symlink_to("../../../../../../../../etc/passwd")),
        ("proc", lambda path: path.symlink_to("/proc/self/environ")),
        ("self", lambda path: path.symlink_to("/proc/self/fd/0")),
        ("device", lambda path: path.symlink_to("/dev/zero")),
        ("binary", lambda path: path.write_bytes(bytes(range(256)) * 100)),
        ("long line", lambda path: path.write_bytes(b"app:" + b"x" * (9 << 20))),
    ],
)
def test_a_crafted_passwd_neither_hangs_nor_leads_out(
    box: Box, new_image: Callable[..., Path], name: str, make: Callable[[Path], None]
) -> None:
    image = new_image()
    (image / "etc/passwd").unlink()
    make(image / "etc/passwd")
    start = time.monotonic()
    assert box.run("/bin/true", rootfs=box.rootfs(image), user="5:6").code == 0
    with pytest.raises(Exception, match="unable to find user"):
        box.run("/bin/true", rootfs=box.rootfs(image), user="nobodyatall")
    assert time.monotonic() - start < 10


def test_a_huge_passwd_is_refused(box: Box, new_image: Callable[..., Path]) -> None:
    image = new_image()
    with (image / "etc/passwd").open("r+b") as file:
        file.truncate(1 << 36)
    with pytest.raises(Exception, match="passwd of the image is larger than"):
        box.run("/bin/true", rootfs=box.rootfs(image), user="app")


@pytest.mark.parametrize("name", ["etc/hosts", "etc/resolv.conf"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link out", "loop"])
def test_our_files_are_put_over_nothing_outside(
    box: Box, new_image: Callable[..., Path], tmp_path: Path, name: str, kind: str
) -> None:
    image = new_image()
    canary = tmp_path / "canary"
    canary.write_text("host")
    path = image / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(f"../../../../../../../..{canary}" if kind == "link out" else path.name)
    try:
        box.run("/bin/sh", "-c", f"echo x > /{name}", rootfs=box.rootfs(image))
    except Exception as error:
        assert type(error).__name__ == "SandboxError"
    assert canary.read_text() == "host"


def test_the_images_python_and_libraries_are_never_ours(box: Box, new_image: Callable[..., Path]) -> None:
    # Everything a careless lookup in the image might find, each of which would leave a mark if it ran.
    image = new_image()
    for folder in {*sys.path, "/usr/lib/python3", "/lib", "/usr/lib", "/lib/x86_64-linux-gnu"}:
        if not folder.startswith("/"):
            continue
        inside = image / folder.lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        for name in ("sitecustomize.py", "encodings.py", "codecs.py", "resource.py", "linecache.py"):
            (inside / name).write_text("import os; os.mkdir('/marked')\n")
        for name in ("libc.so.6", "libnss_files.so.2", "libm.so.6"):
            (inside / name).write_bytes(b"not a library")
    (image / "etc/ld.so.preload").write_text("/lib/libc.so.6\n")
    (image / "etc/nsswitch.conf").write_text("passwd: evil\n")
    rootfs = box.rootfs(image)
    assert box.sh("ls /", rootfs=rootfs, user="app").code == 0  # busybox is static
    with pytest.raises(Exception, match="unable to find user"):
        box.sh("true", rootfs=box.rootfs(image), user="nobodyatall")
    assert box.run("/no/such/program", rootfs=box.rootfs(image)).code == 127
    assert not (rootfs.upper / "marked").exists()
