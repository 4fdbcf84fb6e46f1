"""Options that people know from other builders and that minibuild has no use for: what to do instead."""

from __future__ import annotations

_CGROUP = (
    "a RUN is held by --memory and --cpus; for more start minibuild inside the control group"
    " that is to hold it, as with systemd-run --scope"
)
_CONTAINER = "there are no intermediate containers to remove; leave it out"
_DAEMON = "there is no daemon that would need it; leave it out"

REFUSED = {
    "--cgroup-parent": _CGROUP,
    "--cgroupns": _CGROUP,
    "--memory-swap": _CGROUP,
    "--cpu-shares": _CGROUP,
    "--cpu-period": _CGROUP,
    "--cpu-quota": _CGROUP,
    "--cpuset-cpus": _CGROUP,
    "--cpuset-mems": _CGROUP,
    "--rm": _CONTAINER,
    "--force-rm": _CONTAINER,
    "--compress": _DAEMON,
    "--builder": _DAEMON,
    "--load": "the image is in minibuild's store; docker gets it with -o type=docker,dest=- | docker load",
    "--security-opt": "there are no security profiles to choose; RUN --security=insecure lifts them",
    "--device": "a step asks for a device with RUN --device=NAME, and --allow device=NAME lets it",
    "--provenance": "no attestations are made yet; leave it out",
    "--sbom": "no attestations are made yet; leave it out",
    "--attest": "no attestations are made yet; leave it out",
}


def sentences(arguments: list[str]) -> list[str]:
    """A sentence for each option among `arguments` that is refused."""
    names = dict.fromkeys(word.partition("=")[0] for word in arguments)
    return [f"{name}: {REFUSED[name]}." for name in names if name in REFUSED]
