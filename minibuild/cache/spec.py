"""The values of ``--cache-to`` and ``--cache-from``: ``type=registry,ref=host/name:tag,mode=max``.

Types and keys are those of buildx. Keys that can mean nothing here are taken and have no effect, so that the
lines of existing pipelines work; a type that is not built in is looked for among the installed backends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Literal

from minibuild.errors import UsageError
from minibuild.oci.reference import Reference
from minibuild.values import NamedTuple

_NO_EFFECT = (
    "oci-mediatypes",
    "image-manifest",
    "compression",
    "compression-level",
    "force-compression",
    "rewrite-timestamp",
    "retry_mode",
    "attributes",
)
_OWN = ("type", "mode", "ignore-error", "timeout", "mounts", "explain", "sign-key", "verify-key")
_COMMON = (*_OWN, "name", *_NO_EFFECT)
KEYS: Mapping[str, tuple[str, ...]] = {
    "registry": ("ref", "registry.insecure"),
    "local": ("dest", "src", "tag", "digest", "reset"),
    "inline": (),
    "s3": (
        "bucket", "region", "prefix", "endpoint_url", "access_key_id", "secret_access_key", "session_token",
        "use_path_style", "blobs_prefix", "manifests_prefix", "upload_parallelism", "touch_refresh",
        "retry_max_attempts",
    ),
    "gcs": ("bucket", "prefix", "endpoint_url", "service_account", "blobs_prefix", "manifests_prefix"),
    "azblob": (
        "account_url", "container", "prefix", "secret_access_key", "account_name", "blobs_prefix",
        "manifests_prefix", "upload_parallelism",
    ),
    "gha": ("scope", "url", "url_v2", "token", "version", "ghtoken", "repository"),
}  # fmt: skip

_SECRET = re.compile(r"((?:token|ghtoken|access_key_id|secret_access_key|session_token)=)[^,\"]*", re.I)
_SCOPE = 256  # characters: the service takes keys of 512

TIMEOUT = 20.0
"""Seconds that a build waits for what a cache holds before it goes on without."""


class CacheSpec(NamedTuple):
    """One shared cache. `options` are the keys of its type as written; `timeout` is in seconds.

    `mounts`: whether cache mounts are written to it, or begin with what it has. `factory`
    (`cache.backend.Factory`) opens it where `kind` is neither built in nor installed. `explain`: whether what
    the steps were made of is written to it. `sign_key` and `verify_key` are PEM files, "" for none.
    """

    kind: str
    options: Mapping[str, str] = {}
    mode: Literal["min", "max"] = "min"
    ignore_error: bool = True
    timeout: float = TIMEOUT
    mounts: bool = False
    factory: Callable[..., Any] | None = None
    explain: bool = True
    sign_key: str = ""
    verify_key: str = ""

    @property
    def shown(self) -> str:
        """What messages call it; keys that may be secret stay out."""
        names = ("ref", "dest", "src", "bucket", "container", "prefix", "name", "scope")
        parts = (self.options[one].rstrip("/") for one in names if self.options.get(one))
        return f"{self.kind} {'/'.join(parts)}".strip()

    def __repr__(self) -> str:
        return f"CacheSpec({self.shown!r})"


def parse_cache(text: str, option: str, *, export: bool) -> CacheSpec:
    """Read one value of `option`; a bare name is a registry's, as for docker. Raises `UsageError`."""
    shown = _SECRET.sub(r"\1xxxxx", text)
    fields = _fields(text, shown, option)
    text = shown  # from here on it is for messages
    kind = fields.get("type", "")
    _seconds("touch_refresh", fields.get("touch_refresh", ""), text, option)
    for name in ("upload_parallelism", "retry_max_attempts"):
        _count(name, fields.get(name, "1"), text, option)
    if kind not in KEYS:
        _check_installed(kind, text, option)
    if kind in KEYS:
        _check_keys(fields, kind, text, option)
        _check_needed(fields, kind, text, option, export=export)
    mode = fields.get("mode", "min")
    if mode not in ("min", "max"):
        raise UsageError(f"{option} {text!r}: mode {mode!r}", cure="Write mode=min or mode=max.")
    mounts = _truth("mounts", fields.get("mounts", "false" if export else "true"), text, option)
    if mounts and kind == "inline":
        raise UsageError(
            f"{option} {text!r}: an image carries no cache mounts", cure="Write them to another type=."
        )
    return CacheSpec(
        kind,
        {
            name: value
            for name, value in fields.items()
            if name not in ("type", "mode", "mounts", "explain", "sign-key", "verify-key", *_NO_EFFECT)
        },
        "max" if mode == "max" else "min",
        _truth("ignore-error", fields.get("ignore-error", "true"), text, option),
        _seconds("timeout", fields.get("timeout", ""), text, option),
        mounts,
        explain=_truth("explain", fields.get("explain", "true"), text, option),
        sign_key=_key(fields, "sign-key", kind, text, option) if export else "",
        verify_key="" if export else _key(fields, "verify-key", kind, text, option),
    )


def _key(fields: Mapping[str, str], name: str, kind: str, text: str, option: str) -> str:
    """A key's file, once it has been read. Raises `UsageError`."""
    wrong = "verify-key" if name == "sign-key" else "sign-key"
    if wrong in fields:
        raise UsageError(f"{option} {text!r}: {wrong} is the other option's", cure=f"Write {name}=FILE.")
    files = fields.get(name, "")
    if files:
        if kind == "inline":
            raise UsageError(
                f"{option} {text!r}: an inline cache is not signed", cure="Write it to another type= too."
            )
        signing: Any = import_module("minibuild.cache.signing")
        signing.signing_key(files) if name == "sign-key" else signing.verifying_keys(files)
    return files


def _check_installed(kind: str, text: str, option: str) -> None:
    """Raise `UsageError` unless another package brings the type."""
    from minibuild.entrypoints import CACHE_BACKENDS, installed

    others = installed(CACHE_BACKENDS)
    if kind not in others:
        raise UsageError(
            f"{option} {text!r}: there is no cache type {kind!r}",
            cure=f"Known are {', '.join((*KEYS, *others))}.",
        )


def _fields(text: str, shown: str, option: str) -> dict[str, str]:
    import csv

    try:
        (parts,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise UsageError(f"{option} {shown!r} is malformed", cure="Write type=registry,ref=NAME.") from None
    if len(parts) == 1 and "=" not in parts[0]:
        return {"type": "registry", "ref": parts[0]}
    fields: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {shown!r}: {part!r} has no value", cure="Write each as KEY=VALUE.")
        fields[name.strip().lower()] = value
    return fields


def _check_keys(fields: Mapping[str, str], kind: str, text: str, option: str) -> None:
    import difflib

    allowed = (*_COMMON, *KEYS[kind])
    for name in fields:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UsageError(
                f"{option} {text!r}: type={kind} has no key {name!r}{hint}",
                cure=f"It has {', '.join((*KEYS[kind], *_OWN[1:]))}.",
            )


def _check_needed(fields: Mapping[str, str], kind: str, text: str, option: str, *, export: bool) -> None:
    needed = {
        "registry": "ref",
        "local": "dest" if export else "src",
        "s3": "bucket",
        "gcs": "bucket",
        "azblob": "container",
    }.get(kind, "")
    if kind == "azblob" and fields.get("name") and not fields.get("container"):
        return  # buildx has a default container; here the environment may name one
    if kind == "gha":
        _check_service(fields, text, option)
    if needed and not fields.get(needed):
        raise UsageError(f"{option} {text!r} has no {needed}=", cure=f"Write type={kind},{needed}=...")
    if needed == "ref":
        _check_name(fields["ref"], text, option)
    if kind == "inline" and not export:
        raise UsageError(
            f"{option} {text!r}: an inline cache is read from the image that carries it",
            cure="Write type=registry,ref=NAME of that image.",
        )


def _check_name(name: str, text: str, option: str) -> None:
    try:
        Reference.parse(name)
    except UsageError as error:
        raise UsageError(f"{option} {text!r}: {error.message}", cure=error.cure) from None


def _check_service(fields: Mapping[str, str], text: str, option: str) -> None:
    scope = fields.get("scope", "")
    if "," in scope or len(scope) > _SCOPE or not scope.isprintable():
        raise UsageError(
            f"{option} {text!r}: the service takes no such scope=",
            cure=f"Write a name of at most {_SCOPE} characters, without commas.",
        )
    if fields.get("version", "1") not in ("1", "2"):
        raise UsageError(
            f"{option} {text!r}: version={fields['version']}", cure="Write 1 or 2, or leave it out."
        )


def _truth(key: str, value: str, text: str, option: str) -> bool:
    if value.lower() in ("1", "t", "true", ""):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise UsageError(f"{option} {text!r}: {key}={value}", cure="Write true or false.")


def _seconds(key: str, value: str, text: str, option: str) -> float:
    if not value:
        return TIMEOUT
    try:
        return seconds(value)
    except ValueError:
        raise UsageError(f"{option} {text!r}: {key}={value}", cure="Write it as 20s, 2m or 24h.") from None


def seconds(value: str) -> float:
    """``20``, ``20s``, ``2m`` or ``24h`` in seconds; raises `ValueError`."""
    scale = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(value[-1:])
    return float(value) if scale is None else float(value[:-1]) * scale


def _count(key: str, value: str, text: str, option: str) -> None:
    if not value.isascii() or not value.isdigit() or not int(value):
        raise UsageError(f"{option} {text!r}: {key}={value}", cure="Write a whole number from 1 on.")
