"""What is taken away of what a base sets."""

from __future__ import annotations

from minibuild.oci.config import ImageConfig
from minibuild.oci.platform import Platform
from minibuild.plan.options import Unset
from minibuild.plan.unset import without

BASE = ImageConfig(
    platform=Platform("linux", "amd64"),
    env=("PATH=/bin", "GIT_A=1", "GIT_B=2", "HOME=/"),
    labels={"a": "1", "org.b": "2"},
    volumes=("/data", "/var/lib/x"),
    exposed_ports=("443/udp", "80/tcp"),
    entrypoint=("x",),
)


def test_names_and_patterns() -> None:
    config, idle = without(BASE, Unset(("/data/",), ("80",), ("GIT_*",), ("org.*",)))
    assert config.env == ("PATH=/bin", "HOME=/")
    assert config.labels == {"a": "1"}
    assert config.volumes == ("/var/lib/x",)
    assert config.exposed_ports == ("443/udp",)
    assert (config.entrypoint, idle) == (("x",), [])


def test_everything() -> None:
    config, idle = without(BASE, Unset(("*",), ("*",), ("*",), ("*",), entrypoint=True))
    assert (config.env, config.labels, config.volumes, config.exposed_ports) == ((), {}, (), ())
    assert (config.entrypoint, idle) == (None, [])


def test_nothing_leaves_the_base_as_it_is() -> None:
    assert without(BASE, Unset()) == (BASE, [])


def test_names_that_the_base_does_not_set_are_told() -> None:
    config, idle = without(BASE, Unset(("/x",), ("443",), ("git_a",), ("b",)))
    assert config == BASE
    assert idle == [
        "--unset-volume /x: the base sets none of that name",
        "--unset-expose 443: the base sets none of that name",
        "--unset-env git_a: the base sets none of that name",
        "--unset-label b: the base sets none of that name",
    ]
