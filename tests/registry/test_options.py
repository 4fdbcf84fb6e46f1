"""Flags, environment and config file become options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minibuild.errors import UsageError
from minibuild.oci.reference import Reference
from minibuild.registry.mirrors import places
from minibuild.registry.options import HostOptions, Mirror, RegistryOptions, options_from, read_config

DEBIAN = Reference.parse("debian:12")


def urls(options: RegistryOptions, ref: Reference = DEBIAN) -> list[str]:
    return [place.url("") for place in places(ref, options)]


def config(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_without_settings_there_is_only_the_registry_itself() -> None:
    assert urls(options_from({})) == ["https://registry-1.docker.io/v2/library/debian/"]


def test_mirrors_are_asked_in_order_and_the_registry_last() -> None:
    options = options_from(
        {"MINIBUILD_REGISTRY_MIRROR": "docker.io=third.example"},
        mirrors=["docker.io=localhost:5000", "docker.io=cache.example/hub"],
    )
    assert urls(options) == [
        "http://localhost:5000/v2/library/debian/",
        "https://cache.example/v2/hub/library/debian/",
        "https://third.example/v2/library/debian/",
        "https://registry-1.docker.io/v2/library/debian/",
    ]


def test_without_fall_back_the_registry_itself_is_not_asked() -> None:
    options = options_from({}, mirrors=["docker.io=localhost:5000"], no_fallback=True)
    assert urls(options) == ["http://localhost:5000/v2/library/debian/"]
    assert urls(options, Reference.parse("other.example/x")) == ["https://other.example/v2/x/"]


def test_the_config_file_sets_each_registry(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        '[registry."docker.io"]\nmirrors = ["a.example", "b.example:5000/x"]\nno-fallback = true\n'
        '[registry."plain.example"]\ninsecure = true\n'
        '[registry."own.example:8443"]\nca = "ca.pem"\ncert = "/abs/c.pem"\n'
        'key = "k.pem"\nskip-verify = true\n',
    )
    assert read_config(path) == {
        "docker.io": HostOptions((Mirror("a.example"), Mirror("b.example:5000", "x")), fallback=False),
        "plain.example": HostOptions(insecure=True),
        "own.example:8443": HostOptions(
            verify=False, ca=tmp_path / "ca.pem", cert=Path("/abs/c.pem"), key=tmp_path / "k.pem"
        ),
    }


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    path = config(tmp_path, '[registry."docker.io"]\nmirrors = ["file.example"]\n')
    options = options_from({}, mirrors=["docker.io=flag.example"], config_file=path)
    assert options.host("docker.io").mirrors == (Mirror("flag.example"), Mirror("file.example"))


def test_the_file_in_the_config_folder_is_read_if_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "minibuild").mkdir()
    config(tmp_path / "minibuild", '[registry."r.example"]\ninsecure = true\n')
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert options_from(environment).host("r.example").insecure
    assert options_from({"HOME": str(tmp_path)}).hosts == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("registry = 1", "registry: want tables"),
        ('[registry."r.example"]\nmirror = []', 'registry."r.example".mirror: no such key'),
        ('[registry."r.example"]\nmirrors = "x"', 'registry."r.example".mirrors: want a list'),
        ('[registry."r.example"]\nmirrors = ["http://x"]', 'registry."r.example".mirrors: '),
        ('[registry."r.example"]\ninsecure = "yes"', 'registry."r.example".insecure: want true or false'),
        ('[registry."r.example"]\nca = 1', 'registry."r.example".ca: want the path'),
        ('[registry]\n"r.example" = 1', 'registry."r.example": want a table'),
        ('[registry."https://r.example"]', "'https://r.example' is not a registry"),
        ("[registry", "is not TOML"),
    ],
)
def test_a_fault_in_the_file_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_config(config(tmp_path, text))
    assert said in caught.value.message
    assert str(tmp_path / "config.toml") in caught.value.message


def test_a_config_file_that_is_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        options_from({}, config_file=tmp_path / "absent")


@pytest.mark.parametrize("text", ["localhost:5000", "docker.io=", "=x", "docker.io=a b", "a/b=c"])
def test_a_malformed_mirror_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        options_from({}, mirrors=[text])


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("localhost/x", "http://localhost"),
        ("localhost:5000/x", "http://localhost:5000"),
        ("127.3.2.1:80/x", "http://127.3.2.1:80"),
        ("[::1]:5000/x", "http://[::1]:5000"),
        ("r.example/x", "https://r.example"),
        ("r.example:80/x", "https://r.example:80"),
        ("10.0.0.1:5000/x", "https://10.0.0.1:5000"),
        ("plain.example:1/x", "http://plain.example:1"),
    ],
)
def test_loopback_and_named_registries_are_spoken_to_in_plain_http(name: str, base: str) -> None:
    options = options_from({}, insecure=["plain.example:1"])
    assert places(Reference.parse(name), options)[0].base == base


def test_loopback_may_be_asked_for_tls() -> None:
    options = RegistryOptions(hosts={"localhost:5000": HostOptions(insecure=False)})
    assert places(Reference.parse("localhost:5000/x"), options)[0].base == "https://localhost:5000"


def test_logins_are_looked_for_where_docker_and_buildah_keep_them(tmp_path: Path) -> None:
    environment = {"HOME": "/h", "XDG_RUNTIME_DIR": str(tmp_path), "REGISTRY_AUTH_FILE": "/auth.json"}
    assert list(map(str, options_from(environment).credential_files)) == [
        "/auth.json",
        "/h/.docker/config.json",
        f"{tmp_path}/containers/auth.json",
        "/h/.config/containers/auth.json",
    ]
    assert str(options_from({"DOCKER_CONFIG": "/d"}).credential_files[0]) == "/d/config.json"


def test_another_users_runtime_folder_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/run/user/0")
    assert options_from({"XDG_RUNTIME_DIR": "/run/user/0"}).credential_files == ()


def test_certificates_and_proxies_come_from_the_environment(tmp_path: Path) -> None:
    environment = {
        "SSL_CERT_FILE": "/a.pem",
        "SSL_CERT_DIR": "/certs",
        "HTTPS_PROXY": "http://upper:1",
        "https_proxy": "http://lower:1",
        "NO_PROXY": "x",
    }
    options = options_from(environment)
    assert (options.ca_file, options.ca_folder) == (Path("/a.pem"), Path("/certs"))
    assert (options.proxies.https, options.proxies.exempt) == ("http://lower:1", "x")
    bundle = options_from({"REQUESTS_CA_BUNDLE": str(tmp_path), "SSL_CERT_FILE": "/a.pem"})
    assert (bundle.ca_file, bundle.ca_folder) == (Path("/a.pem"), tmp_path)
