"""A build that is stopped while bytes flow ends soon, says so, and leaves nothing half done.

What flows would go on for minutes at the least: a build that does not stop fails by its time limit.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import zstandard
from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.engine.build import build
from minibuild.engine.request import BuildRequest
from minibuild.errors import Cancelled
from minibuild.layers.entry import Entry, Kind
from minibuild.layers.tarheader import END, header
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.manifest import Index, Manifest
from minibuild.oci.mediatype import OCI_CONFIG, OCI_LAYER_ZSTD
from minibuild.oci.platform import Platform
from tests.feature.project import Project, kill
from tests.feature.test_kill import check_store, until
from tests.servers.certificates import make_certificates
from tests.servers.faults import stall, status
from tests.servers.images import noise, small_image
from tests.servers.registry import FakeRegistry

HUGE = 1 << 40  # bytes, all holes: read for a quarter of an hour at the least
SOON = 120  # seconds
FAILS = "until test -e /signs/now; do sleep 0.1; done; exit 7"
SIGNALS = [signal.SIGINT, signal.SIGTERM]
CANCELLED = "cancelled"


class Builds:
    """Builds in processes of their own, of a context with the file ``huge``; none outlives its test."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.signs = project.root / "signs"
        self.signs.mkdir()
        os.truncate(project.write("huge"), HUGE)
        self._stack = ExitStack()

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        process = self.project.start(
            "build", *self.project.base(), "-v", f"{self.signs}:/signs", *options, str(self.project.context)
        )
        self._stack.callback(_end, process)
        return process

    def writing(self, *, but: frozenset[Path] = frozenset()) -> frozenset[Path]:
        """The unfinished files of the store that have something in them."""
        found = self.project.store.glob("running-v1/*/t*")
        return frozenset(path for path in found if path not in but and _size(path))

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def builds(project: Project) -> Iterator[Builds]:
    made = Builds(project)
    yield made
    made.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        kill(process)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The exit code, and what was said."""
    assert process.stderr is not None
    process.wait(timeout=SOON)
    return process.returncode, process.stderr.read().decode()


def cancelled(process: subprocess.Popen[bytes]) -> str:
    """What a build said that was to end for a signal."""
    code, said = ended(process)
    assert code == 130, said
    assert said.count(f"\nERROR: {CANCELLED}") == 1, said
    return said


@pytest.mark.parametrize("step", ["COPY huge /", "COPY --link huge /", "RUN truncate -s 1024G /huge"])
def test_a_layer_is_written_no_further_once_another_stage_has_failed(builds: Builds, step: str) -> None:
    sign = "touch /signs/begun"  # nothing is fetched or unpacked from here on
    base, fails = "scratch", f"{sign}; {FAILS}"
    if step.startswith("RUN"):
        base, step, fails = "busybox", f"{step} && {sign}", FAILS
    builds.project.dockerfile(
        f"FROM busybox AS fails\nRUN {fails}\nFROM {base} AS writes\n{step}\n"
        "FROM scratch\nCOPY --from=fails / /a\nCOPY --from=writes / /b\n"
    )
    process = builds.start()
    until((builds.signs / "begun").exists)
    until(builds.writing)
    (builds.signs / "now").touch()
    code, said = ended(process)
    assert code == 1, said
    assert f" ERROR: {CANCELLED}\n" in said
    assert "exit code: 7" in said.rpartition("\nERROR: ")[2]
    check_store(builds.project)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_copy(builds: Builds, number: int) -> None:
    builds.project.dockerfile("FROM scratch\nCOPY huge /\n")
    process = builds.start()
    until(builds.writing)
    process.send_signal(number)
    cancelled(process)
    assert not [*builds.project.store.glob("blobs/*/*")], "what was half written is gone"


def test_another_build_that_waits_for_the_step_takes_it_over(builds: Builds) -> None:
    builds.project.dockerfile("FROM scratch\nCOPY huge /\n")
    first = builds.start()
    until(builds.writing)
    theirs = builds.writing()
    second = builds.start()
    first.send_signal(signal.SIGINT)
    cancelled(first)
    until(lambda: builds.writing(but=theirs))
    second.send_signal(signal.SIGINT)
    cancelled(second)


def test_a_file_that_is_only_hashed_is_read_no_further(builds: Builds) -> None:
    """With two sources files are digested before anything is written."""
    builds.project.write("more", "x")
    builds.project.dockerfile("FROM scratch\nCOPY huge more /\n")
    process = builds.start()
    huge = str(builds.project.context / "huge")
    until(lambda: huge in _open_files(process.pid))
    process.send_signal(signal.SIGINT)
    cancelled(process)


def _open_files(pid: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(link))
        except OSError:
            continue
    return found


def huge_image(folder: Path) -> None:
    """An OCI layout of an image with one huge file; its diff ID is wrong, as to know it takes as long."""
    zeros = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 28))
    start = zstandard.compress(header(Entry(b"huge", Kind.FILE, 0o644, size=HUGE // 2)))
    layer = start + zeros * (HUGE // 2 >> 28) + zstandard.compress(END)
    made = small_image(layers=(1,))
    config = made.content[made.manifest.config.digest]
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(media_type: str, data: bytes) -> Descriptor:
        digest = Digest.of(data)
        (blobs / digest.hex).write_bytes(data)
        return Descriptor(media_type, digest, len(data))

    manifest = Manifest.of(put(OCI_CONFIG, config), [put(OCI_LAYER_ZSTD, layer)])
    index = Index.of([put(manifest.media_type, manifest.raw)])
    (folder / "index.json").write_bytes(index.to_bytes())
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "output",
    [
        "type=oci,dest={}/out,compression=gzip,force-compression=true",
        "type=local,dest={}/out",
        "type=tar,dest={}/out",
    ],
)
def test_a_signal_ends_an_export_and_what_was_there_stays(builds: Builds, output: str, number: int) -> None:
    project = builds.project
    layout, dest = project.root / "layout", project.root / "dest"
    huge_image(layout)
    dest.mkdir()
    (dest / "kept").write_text("as it was")
    if "local" not in output:
        (dest / "out").write_text("as it was")
    before = {path: path.read_text() for path in dest.iterdir()}
    project.dockerfile("FROM base\n")
    process = builds.start("--build-context", f"base=oci-layout://{layout}", "-o", output.format(dest))
    exporting(process)
    process.send_signal(number)
    cancelled(process)
    assert {path: path.read_text() for path in dest.iterdir()} == before


def exporting(process: subprocess.Popen[bytes]) -> None:
    """Wait until the output is begun."""
    assert process.stderr is not None
    said = b""
    while b" exporting" not in said and b"ERROR" not in said:
        piece = os.read(process.stderr.fileno(), 1 << 16)
        assert piece, said.decode()
        said += piece


def _waiting_in(pipe: int) -> int:
    """The bytes in a pipe that nobody has read."""
    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    assert isinstance(count, int)
    return count


def test_a_signal_ends_a_write_to_a_pipe_that_nobody_reads(builds: Builds) -> None:
    builds.project.write("large", noise(4 << 20))
    builds.project.dockerfile("FROM scratch\nCOPY large /\n")
    process = builds.start("-o", "type=oci,dest=-")
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    full = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    until(lambda: _waiting_in(pipe) > full // 2)
    process.send_signal(signal.SIGINT)
    cancelled(process)


def test_a_signal_ends_the_wait_for_a_reader_of_a_named_pipe(builds: Builds) -> None:
    dest = builds.project.root / "fifo"
    os.mkfifo(dest)
    builds.project.dockerfile("FROM scratch\nCOPY Dockerfile /\n")
    process = builds.start("-o", f"type=oci,dest={dest}")
    exporting(process)
    process.send_signal(signal.SIGTERM)
    cancelled(process)


def test_a_signal_ends_the_wait_for_another_export_to_the_folder(builds: Builds) -> None:
    folder = builds.project.root / "layout"
    folder.mkdir()
    builds.project.dockerfile("FROM scratch\nENV A=1\n")
    with locked(folder):
        waiting = builds.start("-o", f"type=oci,tar=false,dest={folder}")
        until(lambda: str(folder) in _open_files(waiting.pid))
        waiting.send_signal(signal.SIGINT)
        cancelled(waiting)
    assert not list(folder.iterdir())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Have the folder as an export that goes on."""
    fd = os.open(folder, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


def slow_base(registry: FakeRegistry) -> str:
    """The name of an image whose layers come to 2 MiB and a little, and then nothing more."""
    image = small_image(layers=(3 << 20, 4 << 20), platform=Platform.of_host())
    registry.add("slow", image, "1")
    for layer in image.manifest.layers:
        registry.fault(stall((2 << 20) + 9), path=f"/blobs/{layer.digest}")
    return f"{registry.host}/slow:1"


def kept(project: Project) -> list[int]:
    """The sizes of unfinished downloads."""
    return [_size(path) for path in project.store.glob("partials-v1/*")]


@pytest.mark.parametrize("step", ["RUN true", "COPY Dockerfile /a", "COPY --from=other / /a"])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_download_of_a_base(
    builds: Builds, registry: FakeRegistry, step: str, number: int
) -> None:
    base = slow_base(registry)
    builds.project.dockerfile(f"FROM {base} AS other\nFROM {base}\n{step}\n")
    process = builds.start()
    until(lambda: 2 << 20 in kept(builds.project))
    process.send_signal(number)
    cancelled(process)
    assert 2 << 20 in kept(builds.project), "what came is there for the next build"


def test_a_download_goes_no_further_once_another_stage_has_failed(
    builds: Builds, registry: FakeRegistry
) -> None:
    builds.project.dockerfile(
        f"FROM busybox AS fails\nRUN {FAILS}\nFROM {slow_base(registry)} AS fetches\nRUN true\n"
        "FROM scratch\nCOPY --from=fails / /a\nCOPY --from=fetches / /b\n"
    )
    process = builds.start()
    until(lambda: 2 << 20 in kept(builds.project))
    (builds.signs / "now").touch()
    code, said = ended(process)
    assert code == 1, said
    assert f" ERROR: {CANCELLED}\n" in said
    assert "exit code: 7" in said.rpartition("\nERROR: ")[2]


def test_an_output_that_needs_the_base_is_not_waited_for(builds: Builds, registry: FakeRegistry) -> None:
    builds.project.dockerfile(f"FROM {slow_base(registry)}\n")
    process = builds.start("-o", f"type=oci,dest={builds.project.root}/out.tar")
    until(lambda: 2 << 20 in kept(builds.project))
    process.send_signal(signal.SIGINT)
    cancelled(process)
    assert not (builds.project.root / "out.tar").exists()


@pytest.mark.parametrize("path", ["/manifests/", "/blobs/"])
def test_a_signal_ends_the_wait_for_a_registry_that_does_not_answer(
    builds: Builds, registry: FakeRegistry, path: str
) -> None:
    registry.fault(stall(-1), path=path)
    builds.project.dockerfile("FROM scratch\nCOPY Dockerfile /\n")
    process = builds.start("--push", "-t", f"{registry.host}/out:1")
    until(lambda: registry.count(path=path))
    process.send_signal(signal.SIGINT)
    cancelled(process)


def test_a_signal_ends_an_add_whose_server_stalls(builds: Builds, registry: FakeRegistry) -> None:
    image = small_image(layers=(3 << 20,))
    registry.add("files", image)
    address = f"/v2/files/blobs/{image.manifest.layers[0].digest}"
    registry.fault(stall(1 << 20), path=address)
    builds.project.dockerfile(f"FROM scratch\nADD http://{registry.host}{address} /\n")
    process = builds.start()
    until(lambda: registry.bytes_sent)
    process.send_signal(signal.SIGINT)
    cancelled(process)


def test_a_signal_ends_an_add_that_was_sent_on_to_a_server_that_encrypts_and_stalls(
    builds: Builds, registry: FakeRegistry, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path)
    builds.project.environment["SSL_CERT_FILE"] = str(certificates.ca)
    with FakeRegistry(tls=certificates.server()) as secure:
        image = small_image(layers=(3 << 20,))
        secure.add("files", image)
        address = f"/v2/files/blobs/{image.manifest.layers[0].digest}"
        secure.fault(stall(1 << 20), path=address)
        registry.fault(status(302, Location=f"https://{secure.host}{address}"), path="/file")
        builds.project.dockerfile(f"FROM scratch\nADD http://{registry.host}/file /\n")
        process = builds.start()
        until(lambda: secure.bytes_sent)
        process.send_signal(signal.SIGINT)
        cancelled(process)


def test_a_caller_of_the_library_can_end_a_copy(builds: Builds) -> None:
    builds.project.dockerfile("FROM scratch\nCOPY huge /\n")
    stop = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with Store.open(builds.project.store) as store:
                build(BuildRequest(context=builds.project.context), store=store, cancel=stop)
        except Cancelled as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    until(builds.writing)
    stop.set()
    thread.join(SOON)
    assert not thread.is_alive()
    assert [str(error) for error in errors] == [CANCELLED]
