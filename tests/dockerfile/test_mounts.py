from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.dockerfile.mounts import (
    BindMount,
    CacheMount,
    Device,
    Mount,
    SecretMount,
    SshMount,
    TmpfsMount,
    check_mount,
    parse_device,
    parse_mount,
)
from minibuild.dockerfile.units import parse_size
from minibuild.errors import DockerfileError, SourceRange


@pytest.mark.parametrize(
    ("value", "mount"),
    [
        ("target=/a", BindMount("/a")),
        ("type=bind,source=s,dst=/a,from=base,rw", BindMount("/a", "s", "base", False)),
        ("src=s,destination=/a,ro=false", BindMount("/a", "s", "", False)),
        ("TYPE=Bind,Target=/a,readwrite=0", BindMount("/a")),
        ("type=cache,target=/a//b/", CacheMount("/a//b/", "/a/b")),
        (
            "type=cache,id=x,target=/a,sharing=Locked,from=b,source=c,mode=0755,uid=1,gid=2,ro",
            CacheMount("/a", "x", "c", "b", "locked", True, 0o755, 1, 2),
        ),
        ("type=tmpfs,target=/a", TmpfsMount("/a")),
        ("type=tmpfs,target=/a,size=1.5g", TmpfsMount("/a", 3 << 29)),
        ("type=secret,id=s", SecretMount("s", "/run/secrets/s")),
        ("type=secret,id=a/s,required", SecretMount("a/s", "/run/secrets/s", required=True)),
        ("type=secret,target=/x/s", SecretMount("s", "/x/s")),
        ("type=secret,source=s,env=E", SecretMount("s", env="E")),
        ("type=secret,id=s,env=", SecretMount("s", env="s")),
        ("type=secret,id=s,env=E,target=/x", SecretMount("s", "/x", "E")),
        ("type=secret,id=s,mode=0444,uid=5", SecretMount("s", "/run/secrets/s", mode=0o444, uid=5)),
        ("type=ssh", SshMount()),
        ("type=ssh,id=x,target=/s,required=true,mode=0666,gid=3", SshMount("x", "/s", True, 0o666, 0, 3)),
        ('type=bind,"target=/a,b"', BindMount("/a,b")),
        ('"target=/a""b"', BindMount('/a"b')),
    ],
)
def test_a_value_becomes_a_mount(value: str, mount: Mount) -> None:
    assert parse_mount(value) == mount


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "failed to parse csv"),
        ('target="a"', "failed to parse csv"),
        ('"target=a', "failed to parse csv"),
        ('"target=a"b', "failed to parse csv"),
        ("type=cach", r'unsupported mount type "cach" \(did you mean cache\?\)'),
        ("type=cache,sharing=lock", r'unsupported sharing value "lock"'),
        ("targt=/a", r"unexpected key 'targt' in 'targt=/a' \(did you mean target\?\)"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("ro=maybe", "invalid value for ro: maybe"),
        ("required", "unexpected key 'required' for mount type 'bind'"),
        ("required=true,type=secret", "unexpected key 'required' for mount type 'bind'"),
        ("type=cache,size=1m", "unexpected key 'size' for mount type 'cache'"),
        ("type=tmpfs,size=lots", "invalid value for size: lots"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        ("type=cache,gid=4294967296", "invalid value 4294967296 for gid"),
        ("mode=0755,target=/a", 'mode not allowed for "bind" type mounts'),
        ("type=tmpfs,uid=1", 'uid not allowed for "tmpfs" type mounts'),
        ("type=bind,gid=1", 'gid not allowed for "bind" type mounts'),
        ("type=secret", "one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=shared", "secret mount should not define sharing"),
        ("type=ssh,source=a", "ssh does not support source"),
        ("target=/a,sharing=shared", "invalid cache sharing set for bind mount"),
    ],
)
def test_a_value_is_refused_with_a_reason_and_a_place(value: str, message: str) -> None:
    where = SourceRange("Dockerfile", 2, 2)
    with pytest.raises(DockerfileError, match=message) as caught:
        parse_mount(value, where=where)
    assert caught.value.where == where
    assert caught.value.cure


def test_variables_are_replaced_field_by_field() -> None:
    found = parse_mount("type=$t,target=$d", expand={"$t": "cache", "$d": "/a,b"}.__getitem__)
    assert found == CacheMount("/a,b", "/a,b")


def test_the_source_stage_is_known_before_expansion() -> None:
    assert check_mount("type=$t,from=base,bogus=1") == "base"
    assert check_mount("target=/a") == ""
    assert check_mount("from=a$") == "a$"
    with pytest.raises(DockerfileError, match="doesn't support variable expansion"):
        check_mount("from=$base")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("64", 64),
        ("64b", 64),
        ("1k", 1024),
        ("1 KiB", 1024),
        ("1.5m", 3 << 19),
        ("2gb", 2 << 30),
        (".5k", 512),
    ],
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "1kk", "1bb", "1kibi", "1  k", "9e30", "0x10", "1_0", "nan", "inf"]
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(DockerfileError):
        parse_size(text)


@pytest.mark.parametrize(
    ("value", "device"),
    [
        ("v.com/d", Device("v.com/d")),
        ("v.com/d=foo", Device("v.com/d=foo")),
        ("v.com/d=foo,required", Device("v.com/d=foo", True)),
        ("required=false,name=x", Device("x")),
    ],
)
def test_a_device_has_a_name(value: str, device: Device) -> None:
    assert parse_device(value) == device


@pytest.mark.parametrize("value", ["", "a,b", "a,name=b", "a,required=x", "a,b=c"])
def test_other_devices_are_refused(value: str) -> None:
    with pytest.raises(DockerfileError):
        parse_device(value)


@given(st.text('typebindcachsrgmou=,"/0158$ \n', max_size=40) | st.text(max_size=20))
def test_any_value_is_read_or_refused(value: str) -> None:
    for call in (parse_mount, parse_device, check_mount):
        with contextlib.suppress(DockerfileError):
            call(value)
