"""Options as people write them, read into values."""

from __future__ import annotations

from pathlib import Path

import pytest

from minibuild.cli import options
from minibuild.errors import UsageError
from minibuild.oci.platform import Platform


def test_pairs_are_split_at_the_first_equals_sign_and_the_last_one_wins() -> None:
    assert options.pairs(["A=1", "B=x=y", "C=", "A=2"], "--x") == {"A": "2", "B": "x=y", "C": ""}
    assert options.pairs(None, "--x") == {}


def test_a_bare_name_takes_the_variable_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", "value")
    monkeypatch.delenv("MISSING", raising=False)
    assert options.pairs(["THERE", "MISSING"], "--x", from_environment=True) == {"THERE": "value"}
    with pytest.raises(UsageError, match="--x 'THERE': no value"):
        options.pairs(["THERE"], "--x")
    with pytest.raises(UsageError, match="no name before the ="):
        options.pairs(["=x"], "--x", from_environment=True)


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/arm64", Platform("linux", "arm64")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
        ("", None),
        (None, None),
    ],
)
def test_a_platform_is_os_architecture_and_variant(text: str | None, platform: Platform | None) -> None:
    assert options.platform(text) == platform


@pytest.mark.parametrize("text", ["a/b/c/d", "linux/amd64,linux/arm64"])
def test_what_is_not_one_platform_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="platform"):
        options.platform(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("db:10.0.0.1", ("10.0.0.1", "db")),
        ("db=10.0.0.1", ("10.0.0.1", "db")),
        ("db:::1", ("::1", "db")),
        ("db=[::1]", ("::1", "db")),
        ("me:host-gateway", ("127.0.0.1", "me")),
    ],
)
def test_a_host_is_name_and_address(text: str, host: tuple[str, str]) -> None:
    assert options.host(text) == host


@pytest.mark.parametrize("text", ["db", ":10.0.0.1", "db:", "=", ""])
def test_half_a_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--add-host"):
        options.host(text)


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"value")
    for text in (f"id=key,src={file}", f"id=key,source={file}", f"type=file,id=key,src={file}"):
        secret = options.secret(text)
        assert (secret.id, secret.source, secret.value) == ("key", file, None)


def test_a_secrets_value_counts_for_keys_where_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("x")
    assert options.secret(f"id=key,src={file},cache=content").keyed
    assert not options.secret(f"id=key,src={file},cache=id").keyed
    assert not options.secret(f"id=key,src={file}").keyed
    with pytest.raises(UsageError, match="cache=what"):
        options.secret(f"id=key,src={file},cache=what")


def test_a_secret_comes_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD", "value")
    for text in ("id=key,env=WORD", "id=WORD", "type=env,id=WORD", "type=env,id=key,src=WORD"):
        secret = options.secret(text)
        assert (secret.source, secret.value) == (None, b"value")
        assert "value" not in repr(secret).replace("value=", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id=key,src=/no/such/file", "no file /no/such/file"),
        ("id=key,env=NO_SUCH", "the variable NO_SUCH is not set"),
        ("id=NO_SUCH", "no src, no env, and no variable called NO_SUCH"),
        ("src=/etc/passwd", "has no id"),
        ("ide=key", r"did you mean id\?"),
        ("key", "'key' is no option"),
        ("", "is no option"),
    ],
)
def test_a_secret_that_says_too_little_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options.secret(text)


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        options.secret(f"id=key,src={tmp_path}")
