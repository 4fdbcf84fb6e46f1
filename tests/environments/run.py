"""The same builds in every environment this machine can imitate; prints a table in Markdown.

    python tests/environments/run.py [--write docs/environments.md] [--python PYTHON] [--registry HOST]

Needs root, a registry with library/debian:bookworm and library/python:3.11, the users `builder` (with
subordinate ids) and `plain` (without), runc, and an interpreter that ordinary users can run. With
--write the table between the marks in the file is replaced.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import pwd
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import zstandard

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from minibuild.sandbox import caps  # noqa: E402
from tests.environments.container import runc_config  # noqa: E402

BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
BUILDS = ("files", "accounts", "apt", "mounts")
PEER_BUILDS = ("files", "accounts", "apt")

DOCKERFILES = {
    "files": """\
FROM {registry}/library/debian:bookworm
COPY --chown=5:6 f /srv/f
ADD t.tar /x/
WORKDIR /w/y
ENV A=b
""",
    "accounts": """\
FROM {registry}/library/debian:bookworm
RUN useradd -m app && mkdir /srv/d && touch /srv/d/f && chown -R app:audio /srv/d && chmod 2750 /srv/d
RUN rm -rf /srv/d /usr/share/doc && mkdir -p /srv/d/n && chown -h nobody /srv/d/n && cp -a /etc/skel /srv/s
USER app
RUN mkdir ~/a && id -u > ~/a/f && ln -s f ~/a/l
""",
    "apt": """\
FROM {registry}/library/debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends cron iputils-ping dbus && \
    rm -rf /var/lib/apt/lists /var/log /var/cache /var/lib/dbus
""",
    "mounts": """\
FROM {registry}/library/debian:bookworm AS a
RUN mkdir /made && echo one > /made/f
FROM {registry}/library/debian:bookworm
RUN --mount=type=bind,from=a,source=/made,target=/m --mount=type=cache,target=/c \\
    --mount=type=secret,id=s --mount=type=tmpfs,target=/t \\
    cat /m/f /run/secrets/s > /out && touch /c/x /t/y
RUN test ! -e /run/secrets/s && test ! -e /c/x
""",
}


@dataclass(frozen=True)
class Environment:
    """How the builder is started; `user` owns the store; `command` comes before the interpreter."""

    name: str
    user: str
    command: tuple[str, ...] = ()
    container: bool = False
    runtime: str = ""  # of --isolation oci

    @property
    def options(self) -> tuple[str, ...]:
        return ("--isolation=oci", f"--oci-runtime={self.runtime}") if self.runtime else ()


def environments(stores: Path) -> list[Environment]:
    def confined(*options: str) -> tuple[str, ...]:
        return (str(HERE / "confine.py"), *options, "--")

    return [
        Environment("root", "root"),
        Environment("user with subordinate ids", "builder", confined("--user", "builder")),
        Environment("user without subordinate ids", "plain", confined("--user", "plain")),
        Environment("user, no_new_privs", "builder", confined("--user", "builder", "--no-new-privs")),
        Environment("user, masked /proc", "builder", confined("--user", "builder", "--mask-proc")),
        Environment(
            "user, everything read-only but the store",
            "plain",
            confined("--user", "plain", "--read-only", str(stores / "store-ro")),
        ),
        Environment(
            "root, Docker's capabilities, user namespaces allowed",
            "root",
            confined("--caps", ",".join(str(n) for n in range(64) if caps.DEFAULT >> n & 1)),
        ),
        Environment("container: Docker's capabilities and seccomp profile (runc)", "root", (), True),
        *(
            Environment(f"{name}, {runtime}", user, command, runtime=runtime)
            for runtime in ("runc", "crun")
            if shutil.which(runtime)
            for name, user, command in (
                ("root", "root", ()),
                ("user with subordinate ids", "builder", confined("--user", "builder")),
            )
        ),
        Environment(
            "user, no user namespaces (max_user_namespaces = 0)",
            "plain",
            confined("--user", "plain", "--no-userns"),
        ),
        Environment(
            "user, no_new_privs, no capabilities, no user namespaces",
            "plain",
            confined("--user", "plain", "--no-userns", "--no-caps", "--no-new-privs"),
        ),
    ]


class Runner:
    def __init__(self, work: Path, python: str, registry: str) -> None:
        self.work = work
        self.python = python
        self.registry = registry
        self.reference: dict[str, list[str]] = {}
        for name, text in DOCKERFILES.items():
            folder = work / "contexts" / name
            folder.mkdir(parents=True)
            (folder / "Dockerfile").write_text(text.format(registry=registry))
            (folder / "f").write_text("content\n")
            os.utime(folder / "f", (1000, 1000))
            with tarfile.open(folder / "t.tar", "w") as tar:
                member = tarfile.TarInfo("g")
                member.uid, member.mtime = 7, 1000
                tar.addfile(member)
        (work / "secret").write_text("sekret")
        for path in (work, work / "contexts", work / "secret"):
            path.chmod(0o755)

    def minibuild(self, place: Environment, store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        if place.container:
            return self.in_container(store, arguments)
        argv = [self.python, *(place.command[:1]), *place.command[1:]]
        argv += (
            [self.python, "-m", "minibuild", *arguments] if place.command else ["-m", "minibuild", *arguments]
        )
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": pwd.getpwnam(place.user).pw_dir,
            "MINIBUILD_ROOT": str(store),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'store'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SOURCE_DATE_EPOCH": "1000000000",
        }
        return subprocess.run(
            argv, cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=600
        )

    def row(self, number: int, place: Environment) -> str:
        store = self.work / ("store-ro" if "read-only" in place.name else f"store{number}")
        store.mkdir()
        user = pwd.getpwnam(place.user)
        os.chown(store, user.pw_uid, user.pw_gid)
        asked = self.minibuild(place, store / "s", "doctor", "--json")
        try:
            mode = json.loads(asked.stdout)["isolation"] or "none"
        except ValueError:
            mode = f"doctor failed: {asked.stderr.strip()[-200:]}"
        cells = [place.name, f"oci: {mode}" if place.runtime else mode]
        for build in BUILDS:
            start = time.monotonic()
            out = store / f"out-{build}"
            done = self.minibuild(
                place, store / "s", "build", *place.options, str(self.work / "contexts" / build),
                "--progress=plain",
                f"--secret=id=s,src={self.work / 'secret'}", "-o", f"type=oci,dest={out},tar=false",
            )  # fmt: skip
            cells.append(self.verdict(build, done, out, time.monotonic() - start))
        print(f"{place.name}: {mode}", file=sys.stderr)
        subprocess.run(["rm", "-rf", store], check=False)
        return "| " + " | ".join(cells) + " |\n"

    def verdict(self, build: str, done: subprocess.CompletedProcess[str], out: Path, seconds: float) -> str:
        if done.returncode == 3:
            return "RUN refused"
        if done.returncode:
            print(done.stderr[-1500:], file=sys.stderr)
            return f"fails ({done.returncode})"
        found = content(out)
        expected = self.reference.setdefault(build, found)
        differing = len({line.split(" ")[1] for line in set(found) ^ set(expected)})
        return f"{'same' if not differing else f'{differing} differ'}, {seconds:.1f} s"

    # -- in a container

    def make_rootfs(self) -> None:
        """The builder's own image, built by itself: Debian's Python with this checkout installed."""
        context = self.work / "image"
        ignore = shutil.ignore_patterns(".git", "__pycache__", "tests", "*.egg-info", "benchmarks")
        shutil.copytree(ROOT, context / "src", ignore=ignore)
        (context / "Dockerfile").write_text(
            f"FROM {self.registry}/library/python:3.11\nCOPY src /src\nRUN pip install /src\n"
        )
        bundle = self.work / "bundle"
        bundle.mkdir()
        place = Environment("root", "root")
        done = self.minibuild(
            place,
            self.work / "store-image",
            "build",
            str(context),
            "-o",
            f"type=local,dest={bundle / 'rootfs'}",
        )
        if done.returncode:
            raise SystemExit(done.stderr)

    def in_container(self, store: Path, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        bundle = self.work / "bundle"
        if not bundle.exists():
            self.make_rootfs()
        (bundle / "config.json").write_text(json.dumps(runc_config(self.work, store, arguments)))
        argv = [
            "runc",
            "--root",
            str(self.work / "runc"),
            "run",
            "--bundle",
            str(bundle),
            f"env{os.getpid()}",
        ]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)


def content(out: Path) -> list[str]:
    """Every entry of every layer: path, type, mode, owner and link; not what clocks decide."""
    found = []
    index = json.loads((out / "index.json").read_text())

    def blob(digest: str) -> bytes:
        return (out / "blobs" / digest.replace(":", "/")).read_bytes()

    manifest = json.loads(blob(index["manifests"][0]["digest"]))
    for number, layer in enumerate(manifest["layers"]):
        data = blob(layer["digest"])
        if "zstd" in layer["mediaType"]:
            data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
        elif "gzip" in layer["mediaType"]:
            data = gzip.decompress(data)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for entry in tar:
                owner = f"{entry.uid}:{entry.gid}"
                found.append(f"{number} {entry.name} {entry.type!r} {entry.mode:o} {owner} {entry.linkname}")
    return found


def peer_rows(runner: Runner) -> str:
    """buildah where it can be run: as root, and as the ordinary users."""
    if shutil.which("buildah") is None:
        return ""
    rows = ""
    for name, user in (("root", "root"), ("user with subordinate ids", "builder"),
                       ("user without subordinate ids", "plain")):  # fmt: skip
        cells = [f"{name}: buildah {_version()}", "runc, host network"]
        home = runner.work / f"buildah-{user}"
        home.mkdir()
        found = pwd.getpwnam(user)
        os.chown(home, found.pw_uid, found.pw_gid)
        for build in BUILDS:
            if build not in PEER_BUILDS:
                cells.append("not run")
                continue
            start = time.monotonic()
            argv = ["buildah", "--root", f"{home}/root", "--runroot", f"{home}/run",
                    "--storage-driver", "vfs",
                    "bud", "--runtime", "runc", "--tls-verify=false", "--network", "host",
                    str(runner.work / "contexts" / build)]  # fmt: skip
            done = subprocess.run(
                argv, cwd="/", user=found.pw_uid, group=found.pw_gid, extra_groups=[], text=True,
                env={"PATH": os.environ["PATH"], "HOME": str(home), "XDG_RUNTIME_DIR": str(home)},
                capture_output=True, check=False, timeout=600,
            )  # fmt: skip
            seconds = time.monotonic() - start
            last = (done.stderr.strip().splitlines() or [""])[-1][-90:].replace("|", "/")
            cells.append(f"builds, {seconds:.1f} s" if not done.returncode else f"fails: {last}")
        rows += "| " + " | ".join(cells) + " |\n"
    return rows


def _version() -> str:
    return subprocess.run(
        ["buildah", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[2]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", type=Path)
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--registry", default="localhost:5000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="minibuild-environments-") as folder:
        runner = Runner(Path(folder), options.python, options.registry)
        table = f"| environment | isolation | {' | '.join(BUILDS)} |\n|---|---|{'---|' * len(BUILDS)}\n"
        for number, place in enumerate(environments(Path(folder))):
            table += runner.row(number, place)
        table += peer_rows(runner)
        subprocess.run(["rm", "-rf", *Path(folder).iterdir()], check=False)
    if options.write is None:
        print(table)
        return
    text = options.write.read_text()
    before, rest = text.split(BEGIN)
    options.write.write_text(before + BEGIN + "\n" + table + "\n" + END + rest.split(END)[1])


main()
