"""Options that several commands share, and reading them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from minibuild_store.store import Store

from minibuild.engine.request import Secret, default_root
from minibuild.errors import UsageError
from minibuild.registry.options import RegistryOptions, options_from

if TYPE_CHECKING:
    from minibuild.cache.spec import CacheSpec
    from minibuild.oci.platform import Platform

_SECRET_KEYS = ("id", "src", "env", "type", "cache")


def open_store() -> Store:
    """The store of this user's environment."""
    return Store.open(default_root(os.environ))


def registry_options(mirrors: Iterable[str] | None, insecure: Iterable[str] | None) -> RegistryOptions:
    return options_from(os.environ, mirrors=tuple(mirrors or ()), insecure=tuple(insecure or ()))


def pairs(values: Iterable[str] | None, option: str, *, from_environment: bool = False) -> dict[str, str]:
    """``NAME=VALUE`` options; with `from_environment` a bare NAME takes the variable's value, if set."""
    found: dict[str, str] = {}
    for text in values or ():
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(
                f"{option} {text!r}: no name before the =", cure=f"Write it as {option} NAME=VALUE."
            )
        if equals:
            found[name] = value
        elif not from_environment:
            raise UsageError(f"{option} {text!r}: no value", cure=f"Write it as {option} NAME=VALUE.")
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def platform(text: str | None) -> Platform | None:
    from minibuild.oci.platform import Platform

    if not text:
        return None
    if "," in text:
        raise UsageError("one --platform a build", cure="Build for each platform in turn.")
    try:
        return Platform.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def secret(text: str) -> Secret:
    """``id=NAME[,src=FILE|,env=VARIABLE][,type=file|env][,cache=content]``.

    Without src and env it is the variable called NAME.
    """
    from pathlib import Path

    from minibuild.dockerfile.suggest import did_you_mean

    fields: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        key = {"source": "src"}.get(key.strip().lower(), key.strip().lower())
        if key not in _SECRET_KEYS or not equals:
            hint = did_you_mean(key, _SECRET_KEYS)
            raise UsageError(
                f"--secret {text!r}: {part!r} is no option{hint}", cure="Write id=NAME,src=FILE."
            )
        fields[key] = value
    name = fields.get("id", "")
    if not name:
        raise UsageError(
            f"--secret {text!r} has no id", cure="Write id=NAME,src=FILE or id=NAME,env=VARIABLE."
        )
    cache = fields.get("cache", "id")
    if cache not in ("id", "content"):
        raise UsageError(f"--secret {text!r}: cache={cache}", cure="Write cache=content, or leave it out.")
    keyed = cache == "content"
    variable = fields.get("env", "")
    if fields.get("type") == "env" and not variable:
        variable = fields.get("src") or name
    if variable or ("src" not in fields and name in os.environ):
        if (variable or name) not in os.environ:
            raise UsageError(f"--secret {text!r}: the variable {variable} is not set")
        return Secret(name, value=os.fsencode(os.environ[variable or name]), keyed=keyed)
    if "src" not in fields:
        raise UsageError(
            f"--secret {text!r}: no src, no env, and no variable called {name}",
            cure="Write id=NAME,src=FILE.",
        )
    path = Path(fields["src"])
    if not path.is_file():
        raise UsageError(f"--secret {text!r}: no file {path}", cure="Check the path.")
    return Secret(name, source=path, keyed=keyed)


def isolation(text: str) -> str:
    """The name of a mode of isolation, or of an executor that another package brings; raises `UsageError`."""
    if text in ("", "auto"):
        return "auto"
    from minibuild.dockerfile.suggest import did_you_mean
    from minibuild.entrypoints import EXECUTORS, installed
    from minibuild.sandbox.spec import ISOLATIONS

    known = ISOLATIONS if text in ISOLATIONS else (*ISOLATIONS, *installed(EXECUTORS))
    if text not in known:
        hint = did_you_mean(text, known)
        raise UsageError(
            f"--isolation {text!r} is none of {', '.join(known)}{hint}",
            cure="Leave it out to have the best that works; minibuild doctor tells which that is.",
        )
    return text


def host(text: str) -> tuple[str, str]:
    """``NAME:ADDRESS`` or ``NAME=ADDRESS`` as (address, name)."""
    name, colon, address = text.partition("=") if "=" in text else text.partition(":")
    if not name or not colon or not address:
        raise UsageError(f"--add-host {text!r}", cure="Write it as NAME:ADDRESS.")
    return ("127.0.0.1" if address == "host-gateway" else address.strip("[]"), name)


def caches(texts: Iterable[str] | None, option: str) -> tuple[CacheSpec, ...]:
    """Shared caches, as ``--cache-from`` and ``--cache-to`` name them."""
    if not texts:
        return ()
    from minibuild.cache.spec import parse_cache

    return tuple(parse_cache(text, option, export=option == "--cache-to") for text in texts)


def age(text: str, option: str) -> float | None:
    """Seconds of an age (``12h``, ``7d``); None for ""."""
    if not text:
        return None
    from minibuild.engine.upkeep import parse_age

    return parse_age(text, option)


def jobs(text: str) -> int:
    """How many steps at once; 0 for "", which is all."""
    if text and not (text.isascii() and text.isdigit()):
        raise UsageError(f"--jobs {text!r} is no number", cure="Say how many steps, or leave it out for all.")
    return int(text or "0")
