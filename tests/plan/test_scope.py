"""Variables of a stage: what ARG and ENV change, and what history says of them."""

from __future__ import annotations

from minibuild.oci.platform import Platform
from minibuild.plan.scope import Scope, platform_args, proxy_variables


def test_the_later_of_arg_and_env_counts_and_the_image_keeps_the_env() -> None:
    scope = Scope()
    scope.set_env("A", "env")
    scope.set_arg("A", "arg")
    assert scope.variables["A"] == "arg"
    assert scope.image_env == ["A=env"]
    scope.set_env("A", "again")
    assert scope.variables["A"] == "again"


def test_an_env_keeps_its_place_when_it_is_set_again() -> None:
    scope = Scope()
    for name, value in (("A", "1"), ("B", "2"), ("A", "3")):
        scope.set_env(name, value)
    assert scope.image_env == ["A=3", "B=2"]


def test_of_names_that_a_base_has_twice_the_first_is_set() -> None:
    scope = Scope(image_env=["A=1", "B", "A=2"])
    scope.set_env("A", "3")
    scope.set_env("B", "4")
    scope.set_env("C", "5")
    assert scope.image_env == ["A=3", "B=4", "A=2", "C=5"]


def test_each_variable_of_the_base_is_looked_at_once() -> None:
    looks = []

    class Looked(str):
        __slots__ = ()

        def partition(self, sep: str, /) -> tuple[str, str, str]:
            looks.append(self)
            return super().partition(sep)

    scope = Scope(image_env=[Looked(f"BASE{number}=") for number in range(50)])
    for number in range(100):
        scope.set_env(f"NEW{number}", "")
    assert len(looks) == 50
    assert len(scope.image_env) == 150


def test_an_arg_without_a_value_is_declared_and_not_set() -> None:
    scope = Scope()
    scope.set_arg("A", None)
    assert "A" not in scope.variables
    assert scope.arg_prefix() == "|1 A="


def test_history_names_the_arguments_in_order_with_what_they_are_now() -> None:
    scope = Scope()
    scope.set_arg("B", "1")
    scope.set_arg("A", "2")
    scope.set_env("B", "env")
    assert scope.arg_prefix() == "|2 B=env A=2"


def test_no_arguments_leave_no_trace_in_history() -> None:
    assert Scope().arg_prefix() == ""


def test_a_stage_gets_its_own_copy_of_what_it_starts_from() -> None:
    parent = Scope()
    parent.set_arg("A", "1")
    parent.set_env("B", "2")
    child = parent.inherit()
    child.set_env("B", "3")
    child.set_arg("C", "4")
    assert parent.variables == {"A": "1", "B": "2"}
    assert parent.image_env == ["B=2"]
    assert list(parent.args) == ["A"]


def test_arguments_that_only_steer_the_build_reach_no_process() -> None:
    scope = Scope()
    scope.set_arg("BUILDKIT_SBOM_SCAN_STAGE", "true")
    assert scope.variables == {}


def test_platform_arguments_name_build_and_target() -> None:
    build, target = Platform.parse("linux/amd64"), Platform.parse("linux/arm/v7")
    found = platform_args(build, target, "last", {"TARGETOS": "given"})
    assert found["BUILDPLATFORM"] == "linux/amd64"
    assert found["TARGETPLATFORM"] == "linux/arm/v7"
    assert found["TARGETVARIANT"] == "v7"
    assert found["TARGETSTAGE"] == "last"
    assert found["TARGETOS"] == "given"


def test_proxies_come_in_both_spellings() -> None:
    found = dict(proxy_variables({"HTTP_PROXY": "p", "no_proxy": "n", "OTHER": "x"}))
    assert found == {"http_proxy": "p", "HTTP_PROXY": "p", "no_proxy": "n", "NO_PROXY": "n"}
