"""``build --call``: what is asked of a Dockerfile instead of building it, printed as buildx prints it."""

from __future__ import annotations

import json
import sys
from typing import Any

from minibuild_store.store import Store

from minibuild.cli.sink import Sink
from minibuild.credentials import redacted
from minibuild.engine.request import BuildRequest
from minibuild.errors import UsageError
from minibuild.values import NamedTuple

_CALLS = ("build", "check", "outline", "targets")


class Call(NamedTuple):
    """What is asked, in which format; `ignore_status` ends with 0 whatever the answer."""

    name: str
    format: str = "text"
    ignore_status: bool = False


def parse_call(text: str, check: bool) -> Call | None:
    """The value of ``--call``, as in ``check,format=json``; None for an ordinary build."""
    call = Call("check" if check else "build")
    named = check
    for field in text.split(",") if text else ():
        key, equals, value = field.partition("=")
        if key == "format" and value in ("json", "text"):
            call = call._replace(format=value)
        elif key == "ignorestatus" and value.lower() in ("", "1", "true", "0", "false"):
            call = call._replace(ignore_status=value.lower() not in ("0", "false"))
        elif not equals and (name := {"lint": "check"}.get(key, key)) in _CALLS and (not named or check):
            call, named = call._replace(name=name), True
        else:
            raise _unknown(text, key)
    return None if call.name == "build" else call


def _unknown(text: str, key: str) -> UsageError:
    from minibuild.dockerfile.suggest import did_you_mean

    hint = did_you_mean(key, (*_CALLS, "format", "ignorestatus"))
    return UsageError(
        f"--call {text}: {key!r} is not known{hint}",
        cure="Write check, outline or targets, and ,format=json behind it for JSON.",
    )


def answer(call: Call, request: BuildRequest, store: Store, sink: Sink) -> int:
    """Print what `call` asks for and return the exit code. Raises a `MinibuildError`."""
    code = 0
    if call.name == "check":
        code = _check(call, request, store, sink)
    elif call.name == "outline":
        from minibuild.dockerfile.outline import outline_json, outline_text
        from minibuild.engine.check import outline_of

        found, source = outline_of(request, store=store, sink=sink)
        _print(call, outline_text(found), outline_json(found, source))
    else:
        from minibuild.dockerfile.outline import targets_json, targets_text
        from minibuild.engine.check import dockerfile_of

        dockerfile = dockerfile_of(request, store=store, sink=sink)
        _print(call, targets_text(dockerfile), targets_json(dockerfile))
    return 0 if call.ignore_status else code


def _print(call: Call, text: str, document: dict[str, Any]) -> None:
    if call.format == "json":
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    else:
        text = redacted(text)
    sys.stdout.write(text)


def _check(call: Call, request: BuildRequest, store: Store, sink: Sink) -> int:
    """Exit code 1 where there is a warning, or anything that would stop the build."""
    from minibuild.dockerfile.excerpt import describe
    from minibuild.dockerfile.lintreport import report_json, report_text
    from minibuild.engine.check import check

    with sink:
        done = check(request, store=store, sink=sink)
    count = len(done.findings)
    text = report_text(done.findings, done.source)
    if count:
        counted = "1 warning has" if count == 1 else f"{count} warnings have"
        text = f"Check complete, {counted} been found!\n{text}"
    elif done.error is None:
        text = "Check complete, no warnings found.\n"
    _print(call, text, report_json(done.findings, done.error, done.source, done.name))
    if done.error is not None and call.format == "text":
        sys.stdout.flush()
        blank = "\n" if count else ""
        sys.stderr.write(f"{blank}{describe(done.error, done.source).rstrip()}\n")
    return 1 if count or done.error is not None else 0
