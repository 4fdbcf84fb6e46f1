"""Users of an image, by its own files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.sandbox.users import UnknownUser, resolve

PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/toor:\nbin:x:2:3\n#no:x:9:9::/:\n12:x:77:78::/twelve:\n"
)
GROUP = b"root:x:0:\nstaff:x:50:bin,root\nbad:x:zz:root\n12:x:99:\n"


def test_a_number_is_never_a_name() -> None:
    user = resolve("12", PASSWD, GROUP)
    assert (user.uid, user.gid) == (12, 0)
    assert resolve("root:12", PASSWD, GROUP).gid == 12


def test_the_home_of_a_number_is_its_first_lines() -> None:
    assert resolve("toor", PASSWD, GROUP).home == "/root"


def test_a_short_line_has_empty_fields() -> None:
    user = resolve("bin", PASSWD, GROUP)
    assert (user.uid, user.gid, user.groups, user.home) == (2, 3, (3, 50), "")


def test_comments_are_no_users() -> None:
    with pytest.raises(UnknownUser):
        resolve("#no", PASSWD, GROUP)


def test_without_files_only_numbers_are_known() -> None:
    assert resolve("", None, None).groups == (0,)
    with pytest.raises(UnknownUser, match="unable to find user root"):
        resolve("root", None, None)
    with pytest.raises(UnknownUser, match="unable to find group staff"):
        resolve("5:staff", None, None)


@pytest.mark.parametrize("spec", ["2147483648", "0:2147483648", "9" * 5000, "-1", "0:-1"])
def test_an_id_past_31_bits_is_refused(spec: str) -> None:
    with pytest.raises(UnknownUser, match="0-2147483647"):
        resolve(spec, PASSWD, GROUP)


@given(st.text(max_size=20), st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_give_a_user_or_none(spec: str, passwd: bytes, group: bytes) -> None:
    try:
        user = resolve(spec, passwd, group)
    except UnknownUser:
        return
    assert user.gid in user.groups
