"""Base images for whole builds, as in the feature tests."""

from __future__ import annotations

from tests.feature.conftest import bases, sandbox_works

__all__ = ["bases", "sandbox_works"]
