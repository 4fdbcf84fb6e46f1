"""Histories to replay, and whole builds to hold the replays against."""

from __future__ import annotations

from tests.feature.conftest import bases, project, sandbox_works

__all__ = ["bases", "project", "sandbox_works"]
