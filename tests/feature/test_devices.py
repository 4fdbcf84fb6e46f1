"""RUN --device: BuildKit's CDI devices, which the sandbox does not have."""

from __future__ import annotations

from tests.feature.project import Project


def test_a_device_that_need_not_be_there_is_missed_with_a_warning(project: Project) -> None:
    done = project.build(text="FROM busybox\nRUN --device=vendor.example/toy=one true\n")
    assert done.code == 0, done.err
    assert "device 'vendor.example/toy=one' is not available" in done.err


def test_a_required_device_is_refused_with_its_line(project: Project) -> None:
    done = project.build(text="FROM busybox\nRUN --device=vendor.example/toy=one,required true\n")
    assert done.code == 1
    assert "required device 'vendor.example/toy=one' is not available" in done.error
    assert "Dockerfile:2" in done.err
