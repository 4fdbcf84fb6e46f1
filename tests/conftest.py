"""What a test may ask of the user it runs as."""

from __future__ import annotations

import os
import signal
import tempfile
import threading

import hypothesis
import hypothesis.configuration
import pytest

from minibuild.sandbox import probe


def pytest_configure(config: pytest.Config) -> None:
    if threading.current_thread() is threading.main_thread():
        # a shell's background jobs ignore interrupts, and so would every program that a test starts
        signal.signal(signal.SIGINT, signal.default_int_handler)
    examples = config.rootpath / ".hypothesis"
    if not os.access(examples if examples.exists() else config.rootpath, os.W_OK):  # somebody else's clone
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        hypothesis.configuration.set_hypothesis_home_dir(folder.name)
    hypothesis.settings.register_profile(  # how long an example takes depends on what else the machine does
        "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("untimed")
    config.addinivalue_line("markers", "many_ids: sees owners other than one; root or /etc/subuid is needed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if has_many_ids():
        return
    for item in items:
        if item.get_closest_marker("many_ids"):
            item.add_marker(pytest.mark.skip(reason="this user has one id, and RUN shows no other"))


def has_many_ids() -> bool:
    """Whether RUN shows files of several owners to this user: as docs/security.md has it, not with one id."""
    return os.geteuid() == 0 or probe.Mode.SUBUID in probe.ladder(probe.look(), "namespace")[0]
