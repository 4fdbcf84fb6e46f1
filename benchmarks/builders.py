"""The builders by their public command lines: minibuild, and whichever peers are installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from measure import Cost, Failed, run


class Builder(ABC):
    """Builds the contexts on a base that it was given as an OCI layout.

    `compression` of new layers is the builder's own choice where it is None. buildah has no say: it writes
    no compressed layers into a layout.
    """

    name: str
    compression: str | None = None

    def __init__(self, work: Path, base: Path) -> None:
        self.work = work / self.name
        self.work.mkdir()
        self.base = base
        self.env = dict(os.environ)
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)

    @abstractmethod
    def command(self, context: Path, dest: Path) -> Sequence[str]:
        """The command that builds `context` and leaves an OCI layout in folder `dest`."""

    @abstractmethod
    def forget(self) -> None:
        """Empty the cache, so that the next build is a cold one."""

    def version(self) -> str:
        return self.say("--version")

    def build(self, context: Path, dest: Path) -> Cost:
        return run(self.command(context, dest), env=self.env, cwd=self.work, log=self.work / "log")

    def say(self, *arguments: str) -> str:
        done = subprocess.run([self.program(), *arguments], env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{self.name} {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
        return done.stdout.strip().partition("\n")[0]

    def compressed(self) -> str:
        """What an --output has to say of the compression."""
        return f",compression={self.compression}" if self.compression else ""

    def program(self) -> str:
        found = shutil.which(self.name)
        assert found is not None
        return found

    def close(self) -> None:  # noqa: B027  # most have nothing to give back
        """Give back what the benchmark made outside its own folder."""


class Minibuild(Builder):
    """From an empty store each cold time; compiled beforehand, as an installer would have done."""

    name = "minibuild"

    def __init__(self, work: Path, base: Path) -> None:
        super().__init__(work, base)
        self._stores = 0
        self.forget()
        self._compile()

    def _compile(self) -> None:
        compiled = (sys.executable, "-m", "compileall", "-q", *_packages())
        subprocess.run(compiled, env=self.env, check=False, capture_output=True)

    def program(self) -> str:
        return minibuild_program()

    def command(self, context: Path, dest: Path) -> Sequence[str]:
        output = f"type=oci,tar=false,dest={dest}{self.compressed()}"
        named = f"base=oci-layout://{self.base}"
        return (self.program(), "build", "--build-context", named, "-o", output, str(context))

    def forget(self) -> None:
        # what belongs to subordinate users cannot be removed here: the next store is another one
        shutil.rmtree(self.work / f"store-{self._stores}", ignore_errors=True)
        self._stores += 1
        self.env["MINIBUILD_ROOT"] = str(self.work / f"store-{self._stores}")


class Buildctl(Builder):
    """BuildKit with a warm daemon (BUILDKIT_HOST). Its cache is emptied only with `prune`."""

    name = "buildctl"
    prune = False

    def __init__(self, work: Path, base: Path) -> None:
        super().__init__(work, base)
        self.cold = False

    def command(self, context: Path, dest: Path) -> Sequence[str]:
        from layouts import manifest_digest

        cold, self.cold = self.cold, False
        return (
            *(self.program(), "build", "--progress=plain", "--frontend=dockerfile.v0"),
            *("--local", f"context={context}", "--local", f"dockerfile={context}"),
            *("--oci-layout", f"layout={self.base}"),
            *("--opt", f"context:base=oci-layout://layout@{manifest_digest(self.base)}"),
            *(("--no-cache",) if cold and not self.prune else ()),
            *("--output", f"type=oci,tar=false,dest={dest}{self.compressed()}"),
        )

    def forget(self) -> None:
        self.cold = True
        if self.prune:
            self.say("prune", "--all")


class Buildah(Builder):
    """With a storage folder of its own; the base is in it already when a cold build begins."""

    name = "buildah"

    def __init__(self, work: Path, base: Path) -> None:
        super().__init__(work, base)
        self.env["STORAGE_OPTS"] = ""
        self._storage = ("--root", str(self.work / "root"), "--runroot", str(self.work / "runroot"))
        self.env["CONTAINERS_CONF"] = str(self.work / "containers.conf")
        # the one setting that runs on hosts with hybrid cgroups too
        (self.work / "containers.conf").write_text(
            '[containers]\ncgroups = "disabled"\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\n'
        )
        (self.work / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')

    def command(self, context: Path, dest: Path) -> Sequence[str]:
        return (
            *(self.program(), *self._storage, "bud", "--layers", "--format=oci", "--isolation=oci"),
            *("--runtime=runc", "--network=host", "--pull-never"),
            *("--signature-policy", str(self.work / "policy.json")),
            *("-f", str(context / "Dockerfile"), "-t", f"oci:{dest}:latest", str(context)),
        )

    def forget(self) -> None:
        self.say(*self._storage, "rmi", "--all", "--force")
        policy = ("--signature-policy", str(self.work / "policy.json"))
        image = self.say(*self._storage, "pull", "-q", *policy, f"oci:{self.base}:latest")
        self.say(*self._storage, "tag", image, "localhost/base:latest")

    def close(self) -> None:
        subprocess.run([self.program(), *self._storage, "rm", "--all"], env=self.env, capture_output=True)
        subprocess.run([self.program(), *self._storage, "rmi", "-a", "-f"], env=self.env, capture_output=True)


BUILDERS: tuple[type[Builder], ...] = (Minibuild, Buildctl, Buildah)


def minibuild_program() -> str:
    """The program that was installed with this interpreter, else the one on PATH."""
    beside = Path(sys.executable).with_name("minibuild")
    return str(beside) if beside.exists() else str(shutil.which("minibuild"))


def _packages() -> list[str]:
    """The folders of what minibuild is made of and needs."""
    names = ("minibuild", "minibuild_store", "typer", "click", "zstandard", "xxhash", "isal")
    specs = [importlib.util.find_spec(name) for name in names]
    return [str(Path(spec.origin).parent) for spec in specs if spec is not None and spec.origin]


def installed(name: str) -> bool:
    """Whether the builder can be used here: its program, and for BuildKit a daemon to talk to."""
    if name == "minibuild":
        return True
    if shutil.which(name) is None:
        return False
    return name != "buildctl" or bool(os.environ.get("BUILDKIT_HOST"))
