"""The contract of executors over minibuild's own sandbox."""

from __future__ import annotations

import pytest

from minibuild.sandbox.client import Sandbox
from minibuild.sandbox.executor import Executor
from minibuild.testing.executors import ExecutorContract


class TestSandbox(ExecutorContract):
    @pytest.fixture
    def executor(self, sandbox: Sandbox) -> Executor:
        return sandbox
