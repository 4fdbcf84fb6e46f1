"""What build checks found, as BuildKit reports it: text with excerpts, and JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from minibuild.dockerfile.excerpt import excerpt
from minibuild.dockerfile.lintrules import Finding
from minibuild.errors import MinibuildError, SourceRange


def report_text(findings: Sequence[Finding], source: str) -> str:
    """Every finding with its lines in `source`, in the file's order, as ``frontend.lint`` prints it."""
    parts = []
    for finding in sorted(findings, key=lambda one: one.where.first):
        link = f" - {finding.rule.url}" if finding.rule.url else ""
        shown = excerpt(source, finding.where)
        parts.append(f"\nWARNING: {finding.rule.name}{link}\n{finding.message}\n{shown}")
    return "".join(parts)


def report_json(
    findings: Sequence[Finding], error: MinibuildError | None, source: str, name: str
) -> dict[str, Any]:
    """The document of ``frontend.lint``; `error` is what would stop the build.

    BuildKit also puts its own graph of how the file was loaded beside each source; nothing reads it.
    """
    document: dict[str, Any] = {
        "warnings": [
            {
                "ruleName": finding.rule.name,
                "description": finding.rule.description,
                **({"url": finding.rule.url} if finding.rule.url else {}),
                "detail": finding.message,
                "location": location(finding.where),
            }
            for finding in findings
        ]
        or None,
        "sources": [{"filename": name, "data": encoded(source), "language": "Dockerfile"}],
    }
    if error is not None:
        where = error.where if error.where is not None and error.where.file == name else None
        document["buildError"] = {"message": error.message, "location": location(where)}
    return document


def location(where: SourceRange | None) -> dict[str, Any]:
    """Lines as BuildKit's messages hold them: a range for every line."""
    if where is None:
        return {}
    lines = range(where.first, max(where.first, where.last) + 1)
    return {"ranges": [{"start": {"line": line}, "end": {"line": line}} for line in lines]}


def encoded(source: str) -> str:
    return base64.b64encode(source.encode("utf-8", "surrogateescape")).decode()
