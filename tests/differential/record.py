"""Record what BuildKit makes of every case: ``python -m tests.differential.record [--new] [KEY...]``.

Needs a BuildKit daemon of its own, since it prunes: the address in ``BUILDKIT_HOST`` and the client as
``BUILDCTL`` (default: ``buildctl``). With ``--new`` only cases without a golden are recorded.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from tests.differential.bases import make_bases
from tests.differential.case import Case, lay_out, load_cases
from tests.differential.golden import dump
from tests.differential.image import read_image
from tests.differential.server import Server

_RUN = uuid.uuid4().hex[:12]
_COUNT = itertools.count()


def buildctl(
    case: Case, folder: Path, bases: Path, digests: dict[str, str], server: Server
) -> dict[str, Any]:
    """Build `case` below `folder` with BuildKit; the result as a golden."""
    lay_out(case, folder, http=server.serve(case.key, folder))
    name = f"{_RUN}{next(_COUNT)}"
    command = [
        os.environ.get("BUILDCTL", "buildctl"), "build", "--progress=plain", "--no-cache",
        "--frontend=dockerfile.v0",
        f"--local=context={folder}/ctx", f"--local=dockerfile={folder}/ctx",
        f"--opt=build-arg:BUILDKIT_CACHE_MOUNT_NS={name}",
        f"--oci-layout=bases={bases}",
        f"--output=type=oci,tar=false,dest={folder}/image",
    ]  # fmt: skip
    for base, digest in digests.items():
        command.append(f"--opt=context:{base}=oci-layout://bases@{digest}")
    for text in case.all("context"):
        context, _, value = text.partition("=")
        context = context.removesuffix(":latest")  # as buildx hands it on
        if value.startswith("{http}"):
            command.append(f"--opt=context:{context}={value.replace('{http}', server.address(case.key))}")
        elif value.startswith("base:"):
            command.append(f"--opt=context:{context}=oci-layout://bases@{digests[value[5:]]}")
        else:
            command.append(f"--opt=context:{context}=local:{context}")
            command.append(f"--local={context}={folder}/{value}")
    command += [f"--opt=build-arg:{text}" for text in case.all("arg")]
    command += [f"--opt=label:{text}" for text in case.all("label")]
    command += [f"--secret=id={text},src={folder}/secrets/{text}" for text in case.all("secret")]
    for option, key in (
        ("target", "target"),
        ("platform", "platform"),
        ("file", "filename"),
        ("network", "force-network-mode"),
    ):
        if case.one(option):
            command.append(f"--opt={key}={case.one(option)}")
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    # The daemon keeps what was sent and only sends what changed next time: folders' times would be wrong.
    prune = [os.environ.get("BUILDCTL", "buildctl"), "prune", "--filter=type==source.local"]
    subprocess.run(prune, capture_output=True, check=True)
    if done.returncode:
        return refusal(done.stderr, [(str(folder), "."), (server.address(case.key), "{http}")])
    result = read_image(folder / "image")
    return replaced(result, server.address(case.key), "{http}")


def replaced(value: Any, text: str, by: str) -> Any:
    """`value` with `text` replaced in all strings of it."""
    if isinstance(value, str):
        return value.replace(text, by)
    if isinstance(value, list):
        return [replaced(item, text, by) for item in value]
    if isinstance(value, dict):
        return {name: replaced(item, text, by) for name, item in value.items()}
    return value


def refusal(output: str, names: list[tuple[str, str]]) -> dict[str, Any]:
    """The golden of a refused build from what the client printed last."""
    message = re.findall(r"^error: (.*)$", output, re.MULTILINE)[-1]
    message = message.removeprefix("failed to solve: ").removeprefix("failed to build: ")
    for name, shown in names:
        message = message.replace(name, shown)
    message = re.sub(r"[a-z0-9]{25}::[a-z0-9]{25}", "REF", message)
    message = re.sub(r"/\S*/cachemounts/buildkit\d+", "", message)
    result: dict[str, Any] = {"refused": message}
    code = re.search(r"exit code: (\d+)", message)
    if code:
        result["exit"] = int(code[1])
    line = re.search(r"^ *(\d+) \| >>> ", output, re.MULTILINE)
    if line:
        result["line"] = int(line[1])
    return result


def main(arguments: list[str]) -> None:
    only_new = "--new" in arguments
    keys = [argument for argument in arguments if not argument.startswith("-")]
    cases = [
        case
        for case in load_cases()
        if (not keys or any(case.key.startswith(key) for key in keys))
        and not (only_new and case.golden.exists())
    ]
    with tempfile.TemporaryDirectory() as text, Server() as server:
        folder = Path(text)
        (folder / "bases").mkdir()
        digests = make_bases(folder / "bases")

        for case in cases:
            golden = buildctl(case, folder / case.key, folder / "bases", digests, server)
            case.golden.write_text(dump(golden))
            print(f"{case.key}: {golden.get('refused', 'built')}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
