"""Secrets: read when a step needs them, kept in memory only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from minibuild_store.store import Store

from minibuild.engine.request import Secret
from minibuild.errors import UsageError
from minibuild.plan.steps import RunStep, SecretMount

_MAX_BYTES = 500 * 1024
_KEY_BYTES = 32


def key_parts(store: Store, secrets: Sequence[Secret], step: RunStep) -> dict[str, str]:
    """Parts of the step's key for the secrets it mounts whose values count.

    A value enters by a hash with a key that never leaves the store, so that nobody can try values out on
    what a shared cache shows. Other stores therefore never find such a step.
    """
    found: dict[str, str] = {}
    for mount in step.mounts:
        if isinstance(mount, SecretMount) and any(one.keyed for one in secrets if one.id == mount.id):
            value = secret_value(secrets, mount.id)
            known = b"" if value is None else b"=" + value
            digest = hashlib.blake2b(known, key=_store_key(store), digest_size=16)
            found[f"secret {mount.id}"] = digest.hexdigest()
    return found


def _store_key(store: Store) -> bytes:
    """The random key of this store, made when it is first asked for; only its user can read records."""
    records = store.records("secret-key")
    key = records.get("blake2b")
    if key is None:
        with store.lock("secret key"):
            key = records.get("blake2b")
            if key is None:
                key = os.urandom(_KEY_BYTES)
                records.put("blake2b", key)
    return key


def secret_value(secrets: Sequence[Secret], name: str) -> bytes | None:
    """The value of secret `name`, or None where the caller gave none."""
    for secret in secrets:
        if secret.id != name:
            continue
        if secret.value is not None:
            return secret.value
        if secret.source is None:
            return None
        try:
            with secret.source.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)  # not all of a large file that is refused
        except OSError as error:
            raise UsageError(
                f"cannot read secret {name} from {secret.source}: {error.strerror}",
                cure="Check the src= of its --secret.",
            ) from None
        if len(data) > _MAX_BYTES:
            raise UsageError(
                f"secret {name} is larger than {_MAX_BYTES // 1024} KiB", cure="Use a bind mount instead."
            )
        return data
    return None
