"""What of an address may be shown."""

from __future__ import annotations

import pytest

from minibuild.credentials import redacted


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:password@host/x.git#main", "https://xxxxx@host/x.git#main"),
        ("https://token@host/x.git", "https://xxxxx@host/x.git"),
        ("https://user:p@ss@host/x", "https://xxxxx@host/x"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("ssh://user:password@host/x", "ssh://user:xxxxx@host/x"),
        ("git@host:path", "git@host:path"),
        ("https://host:443/@scope?a=b@c", "https://host:443/@scope?a=b@c"),
        (
            "no password for 'https://a@h': two https://b@h",
            "no password for 'https://xxxxx@h': two https://xxxxx@h",
        ),
    ],
)
def test_passwords_and_tokens_are_not_shown(address: str, shown: str) -> None:
    assert redacted(address) == shown
