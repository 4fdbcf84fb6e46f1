"""Cache keys: what a step's result depends on, as named parts, and the digest over them.

The parts are kept beside the record, so that a later miss can say which of them changed. Raise
`KEY_VERSION` whenever the same step would yield another result than before, or a part is added,
removed or encoded otherwise; `tests/golden/keys.json` shows the change in the diff.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from minibuild_store.shorthash import sha256

from minibuild.plan import steps

KEY_VERSION = 1

Parts = dict[str, str]


def key_of(parts: Mapping[str, str]) -> str:
    """The SHA-256 (hex) of `parts`, in a canonical encoding."""
    document = json.dumps([KEY_VERSION, sorted(parts.items())], ensure_ascii=True, separators=(",", ":"))
    return sha256(document.encode()).hexdigest()


def run_parts(
    step: steps.RunStep,
    *,
    parent: str,
    platform: str,
    epoch: str,
    mounts: Mapping[int, str],
    devices: tuple[str, ...] = (),
) -> Parts:
    """Parts of a RUN. `parent` is a chain ID, `mounts` the contents of bind mounts by position.

    `devices` are the names of the devices that it gets.
    """
    parts = {
        "kind": "run",
        "parent": parent,
        "platform": platform,
        "epoch": epoch,
        "command": json.dumps(step.args),
        "user": step.user,
        "workdir": step.cwd,
        "network": step.network,
        "security": step.security,
    }
    if devices:
        parts["devices"] = json.dumps(devices)
    if step.hostname:
        parts["hostname"] = step.hostname
    for name, value in step.env:
        parts[f"env {name}"] = value
    for index, mount in enumerate(step.mounts):
        parts[f"mount {index} {_target(mount)}"] = _describe_mount(mount, mounts.get(index, ""))
    return parts


def copy_parts(
    step: steps.CopyStep, *, parent: str, platform: str, epoch: str, contents: Mapping[int, str]
) -> Parts:
    """Parts of a COPY or ADD. `contents` are the content digests of the items by their position."""
    parts = {
        "kind": "copy",
        "parent": "" if step.link else parent,
        "link": str(step.link),
        "platform": platform,
        "epoch": epoch,
        "dest": step.dest,
        "chown": step.chown,
        "chmod": step.chmod,
        "unpack": str(step.unpack),
    }
    if step.exclude and any(isinstance(item, steps.GitItem) for item in step.items):
        parts["exclude"] = json.dumps(step.exclude)  # of other sources it shows in the content
    for index, item in enumerate(step.items):
        parts[f"source {index}"] = contents[index]
        parts[f"source {index} name"] = _item_name(item)
    return parts


def workdir_parts(step: steps.WorkdirStep, *, parent: str, platform: str, epoch: str) -> Parts:
    return {
        "kind": "workdir",
        "parent": parent,
        "platform": platform,
        "epoch": epoch,
        "path": step.path,
        "user": step.user,
    }


def _item_name(item: steps.CopyItem) -> str:
    match item:
        case steps.UrlItem():
            return f"{item.name} unpacked" if item.unpack else item.name
        case steps.InlineItem():
            return item.name
        case steps.GitItem() | steps.PathItem():
            return ""


def _target(mount: steps.Mount) -> str:
    return mount.target or (mount.env if isinstance(mount, steps.SecretMount) else "")


def _describe_mount(mount: steps.Mount, content: str) -> str:
    """All of a mount that can change what the command sees; a secret counts by name, not by value."""
    match mount:
        case steps.BindMount():
            fields: list[object] = ["bind", content, mount.subpath, mount.readonly]
        case steps.CacheMount():
            fields = [
                "cache",
                mount.id,
                mount.subpath,
                mount.readonly,
                mount.mode,
                mount.uid,
                mount.gid,
                content,
            ]
        case steps.TmpfsMount():
            fields = ["tmpfs", mount.size]
        case steps.SecretMount():
            fields = ["secret", mount.id, mount.env, mount.mode, mount.uid, mount.gid]
        case steps.SshMount():
            fields = ["ssh", mount.id, mount.mode, mount.uid, mount.gid]
        case steps.ScriptMount():
            fields = ["script", mount.content]
    return json.dumps(fields)
