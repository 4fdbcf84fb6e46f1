"""Whole Dockerfiles against what they are read as.

``python tests/dockerfile/test_golden.py`` rewrites every expected.json; the difference is for review.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from minibuild.dockerfile.parse import parse
from minibuild.errors import DockerfileError

GOLDEN = Path(__file__).parents[1] / "golden" / "dockerfile"
CASES = sorted(folder.name for folder in GOLDEN.iterdir())


def shown(value: Any) -> Any:
    """`value` as JSON, its class named, and fields that hold their default left out."""
    if isinstance(value, tuple):
        return [shown(one) for one in value]
    if not dataclasses.is_dataclass(value):
        return value
    out: dict[str, Any] = {"": type(value).__name__}
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        if field.name == "where":
            out["lines"] = f"{content.first}-{content.last}"
        elif field.name not in ("text", "file") and content != field.default:
            out[field.name] = shown(content)
    return out


def rendered(case: str) -> str:
    try:
        found = shown(parse((GOLDEN / case / "Dockerfile").read_bytes()))
    except DockerfileError as error:
        assert error.where is not None
        lines = f"{error.where.first}-{error.where.last}"
        found = {"": "error", "message": error.message, "cure": error.cure, "lines": lines}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_the_file_is_read_as_expected(case: str) -> None:
    assert rendered(case) == (GOLDEN / case / "expected.json").read_text("utf-8")


if __name__ == "__main__":
    for name in CASES:
        (GOLDEN / name / "expected.json").write_text(rendered(name), "utf-8")
