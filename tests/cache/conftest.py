"""Whole builds with a store of their own, as in the feature tests."""

from __future__ import annotations

from tests.feature.conftest import bases, project, real_registry, registry, sandbox_works

__all__ = ["bases", "project", "real_registry", "registry", "sandbox_works"]
