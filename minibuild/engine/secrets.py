"""Secrets: read when a step needs them, kept in memory only."""

from __future__ import annotations

from collections.abc import Sequence

from minibuild.engine.request import Secret
from minibuild.errors import UsageError

_MAX_BYTES = 500 * 1024


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
            data = secret.source.read_bytes()
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
