"""Which login is found for a name."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from minibuild.errors import UsageError
from minibuild.registry.credentials import Credentials, Keychain
from minibuild.registry.options import RegistryOptions


def find(folder: Path, document: object, registry: str, repository: str = "") -> Credentials | None:
    path = folder / "config.json"
    path.write_text(json.dumps(document))
    return Keychain(RegistryOptions(credential_files=(path,))).find(registry, repository).found


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_docker_hub_is_known_by_its_old_address(tmp_path: Path) -> None:
    found = find(tmp_path, {"auths": {"https://index.docker.io/v1/": auth("bob", "a:b")}}, "docker.io")
    assert found is not None
    assert (found.username, found.password) == ("bob", "a:b")


@pytest.mark.parametrize(
    "key", ["registry.example:5000", "https://registry.example:5000", "https://registry.example:5000/v1/"]
)
def test_a_registry_is_known_by_old_and_new_keys(tmp_path: Path, key: str) -> None:
    assert find(tmp_path, {"auths": {key: auth("bob", "x")}}, "registry.example:5000") is not None


def test_the_login_of_a_namespace_goes_before_that_of_the_registry(tmp_path: Path) -> None:
    logins = {"r.example": auth("wide", "x"), "r.example/team": auth("team", "x")}
    found = [find(tmp_path, {"auths": logins}, "r.example", name) for name in ("team/app", "teams/app")]
    assert [one.username for one in found if one] == ["team", "wide"]


def test_an_empty_entry_is_no_login(tmp_path: Path) -> None:
    assert find(tmp_path, {"auths": {"r.example": {}, "s.example": None}}, "r.example") is None


def test_the_first_file_with_a_login_wins(tmp_path: Path) -> None:
    paths = []
    for name, key in (("one", "other.example"), ("two", "r.example"), ("three", "r.example")):
        path = tmp_path / name
        path.write_text(json.dumps({"auths": {key: auth(name, "x")}}))
        paths.append(path)
    keychain = Keychain(RegistryOptions(credential_files=(tmp_path / "absent", *paths)))
    search = keychain.find("r.example")
    assert search.found is not None
    assert search.found.source == str(paths[1])
    assert search.tried == (str(paths[0]),)


def test_secrets_stay_out_of_what_is_printed(tmp_path: Path) -> None:
    found = find(tmp_path, {"auths": {"r.example": auth("bob", "hidden")}}, "r.example")
    assert "hidden" not in f"{found!r} {found}"


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"auths": []}, "auths"),
        ({"auths": {"r.example": {"auth": 5}}}, "auths.r.example.auth"),
        ({"auths": {"r.example": {"auth": "!!!"}}}, "auths.r.example.auth"),
        ({"auths": {"r.example": {"auth": "Ym9i"}}}, "auths.r.example.auth"),
        ({"credHelpers": {"r.example": 1}}, "credHelpers.r.example"),
    ],
)
def test_a_malformed_file_is_named_with_the_key(tmp_path: Path, document: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(tmp_path, document, "r.example")
    assert f"config.json: {key}:" in caught.value.message


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{ auths")
    with pytest.raises(UsageError, match=r"config\.json"):
        Keychain(RegistryOptions(credential_files=(path,))).find("r.example")


def test_an_empty_file_holds_no_login(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.touch()
    assert Keychain(RegistryOptions(credential_files=(path,))).find("r.example").found is None
