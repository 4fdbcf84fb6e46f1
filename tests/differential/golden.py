"""Goldens: what BuildKit made of a case, a line of JSON an entry, and how a result differs from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def dump(result: dict[str, Any]) -> str:
    lines = []
    for name, value in result.items():
        if isinstance(value, dict) and value:
            rows = ",\n".join(f"  {_json(key)}: {_json(item)}" for key, item in value.items())
            lines.append(f" {_json(name)}: {{\n{rows}\n }}")
        elif isinstance(value, list) and value:
            rows = ",\n".join(f"  {_json(item)}" for item in value)
            lines.append(f" {_json(name)}: [\n{rows}\n ]")
        else:
            lines.append(f" {_json(name)}: {_json(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def differences(wanted: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """Lines that say how `got` differs from `wanted`, none where it does not."""
    if "refused" in wanted or "refused" in got:
        return list(_refusal(wanted, got))
    found: list[str] = []
    found += _mapping("config", wanted["config"], got["config"])
    for number, (one, other) in enumerate(_longest(wanted["history"], got["history"])):
        if one != other:
            found += [f"history {number}:", f"  - {_json(one)}", f"  + {_json(other)}"]
    if wanted["layers"] != got["layers"]:
        found.append(f"layers: - {wanted['layers']} + {got['layers']}")
    found += _mapping("file", wanted["files"], _untimed(wanted, got))
    if wanted["gone"] != got["gone"]:
        found.append(f"gone: - {_json(wanted['gone'])} + {_json(got['gone'])}")
    return found


def _untimed(wanted: dict[str, Any], got: dict[str, Any]) -> dict[str, Any]:
    """The files of `got` without the times that BuildKit took from the clock."""
    files: dict[str, Any] = {}
    for path, entry in got["files"].items():
        plain = {name: value for name, value in entry.items() if name != "mtime"}
        if path in wanted["files"] and "mtime" not in wanted["files"][path]:
            files[path] = plain
        elif wanted["touched"].get(path) != plain:
            files[path] = entry
    return files


def _refusal(wanted: dict[str, Any], got: dict[str, Any]) -> Iterator[str]:
    if "refused" not in got:
        yield f"- refused: {wanted['refused']}"
        yield "+ built"
    elif "refused" not in wanted:
        yield "- built"
        yield f"+ refused: {got['refused']}"
    elif wanted.get("exit") != got.get("exit"):
        yield f"exit code: - {wanted.get('exit')} + {got.get('exit')}: {got['refused']}"
    elif "line" in wanted and wanted["line"] != got.get("line"):
        yield f"line: - {wanted['line']} + {got.get('line')}: {got['refused']}"


def _mapping(what: str, wanted: dict[str, Any], got: dict[str, Any]) -> Iterator[str]:
    for name in sorted(wanted.keys() | got.keys()):
        one, other = wanted.get(name), got.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            names = [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
            one, other = ({key: side.get(key) for key in sorted(names)} for side in (one, other))
        yield f"{what} {name}:"
        yield f"  - {_json(one)}"
        yield f"  + {_json(other)}"


def _longest(one: list[Any], other: list[Any]) -> Iterator[tuple[Any, Any]]:
    for number in range(max(len(one), len(other))):
        yield (
            one[number] if number < len(one) else None,
            other[number] if number < len(other) else None,
        )
