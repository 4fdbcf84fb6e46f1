"""Build checks, outline and targets from the command line."""

from __future__ import annotations

import json

import pytest

from tests.feature.project import Project

WARNS = "FROM busybox\nENV A $UNDEF\nRUN true\n"


def test_check_shows_each_finding_with_its_lines_and_ends_with_1(project: Project) -> None:
    done = project.build("--check", text=WARNS)
    assert done.code == 1
    assert done.out.startswith(
        "Check complete, 2 warnings have been found!\n\nWARNING: UndefinedVar - https://"
    )
    assert "   2 | >>> ENV A $UNDEF\n" in done.out
    assert done.err == ""


def test_check_of_a_clean_file_ends_with_0(project: Project) -> None:
    done = project.build("--call=check", text="FROM busybox\nRUN true\n")
    assert (done.code, done.out) == (0, "Check complete, no warnings found.\n")


def test_check_executes_nothing(project: Project) -> None:
    project.build("--check", text=WARNS)
    assert project.built(text=WARNS).summary == (1, 0)


def test_check_as_json(project: Project) -> None:
    done = project.build("--call", "check,format=json", text=WARNS)
    assert done.code == 1
    document = json.loads(done.out)
    assert [one["ruleName"] for one in document["warnings"]] == ["UndefinedVar", "LegacyKeyValueFormat"]
    assert document["sources"][0]["filename"] == "Dockerfile"


def test_the_status_can_be_ignored(project: Project) -> None:
    assert project.build("--call", "check,ignorestatus=true", text=WARNS).code == 0


def test_check_shows_what_would_stop_the_build(project: Project) -> None:
    done = project.build("--check", text="FROM busybox\nENV A=$B\nVOLUME $B\nENV C=$B\n")
    assert done.code == 1
    assert done.out.count("WARNING: UndefinedVar") == 2  # as BuildKit: up to the fault
    assert ">>> VOLUME $B" in done.err
    assert "VOLUME of an empty path" in done.err


def test_check_looks_at_all_stages_and_at_one_with_a_target(project: Project) -> None:
    text = "FROM busybox AS a\nENV A=$U\nFROM busybox AS b\nENV B=$V\nFROM busybox\n"
    assert project.build("--check", text=text).out.count("WARNING: UndefinedVar") == 2
    assert project.build("--check", "--target", "b", text=text).out.count("WARNING: UndefinedVar") == 1


def test_what_the_base_sets_is_no_undefined_variable(project: Project) -> None:
    text = "FROM busybox AS own\nENV GREETING=hello\nFROM own\nENV A=$GREETING\n"
    assert project.build("--check", text=text).code == 0


def test_copying_an_ignored_file_is_found(project: Project) -> None:
    project.write("secret.txt")
    project.write(".dockerignore", "*.txt\n")
    done = project.build("--check", text="FROM busybox\nCOPY secret.txt /\n")
    assert 'Attempting to Copy file "secret.txt" that is excluded by .dockerignore' in done.out


def test_a_build_ends_with_a_list_of_what_was_found(project: Project) -> None:
    listed = (
        "2 warnings found (minibuild build --check shows the lines):\n"
        " - UndefinedVar: Usage of undefined variable '$UNDEF' (line 2)\n"
        ' - LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format '
        "(line 2)\n"
    )
    first = project.built(text=WARNS)
    assert listed in first.err
    again = project.built()
    assert again.summary == (1, 1)
    assert listed in again.err


def test_what_was_found_is_forgotten_once_it_is_mended(project: Project) -> None:
    project.built(text=WARNS)
    assert "warning" not in project.built(text="FROM busybox\nENV A=1\nRUN true\n").err


def test_stages_that_are_not_built_are_not_warned_about(project: Project) -> None:
    done = project.built(text="FROM busybox AS other\nENV A=$U\nFROM busybox\nRUN true\n")
    assert "warning" not in done.err


def test_a_build_that_fails_tells_what_was_found(project: Project) -> None:
    done = project.build(text="FROM busybox\nENV A=$UNDEF\nRUN false\n")
    assert done.code == 1
    assert "UndefinedVar: Usage of undefined variable '$UNDEF' (line 2)" in done.err


def test_rules_can_be_skipped(project: Project) -> None:
    done = project.built(text="# check=skip=UndefinedVar,LegacyKeyValueFormat\n" + WARNS)
    assert "warning" not in done.err
    assert "warning" not in project.built("--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all", text=WARNS).err


def test_error_true_stops_the_build_before_a_step_runs(project: Project) -> None:
    done = project.build(text="# check=error=true\nFROM busybox\nENV A=$UNDEF\nRUN echo ran\n")
    assert done.code == 1
    assert "lint violation found for rules: UndefinedVar" in done.error
    assert "RUN" not in done.err.replace("RUN echo ran", "", 1)
    assert "1 warning found" in done.err


def test_error_true_without_findings_stops_nothing(project: Project) -> None:
    assert project.built(text="# check=error=true\nFROM busybox\nRUN true\n").summary == (1, 0)


def test_malformed_check_options_are_refused(project: Project) -> None:
    done = project.build(text="# check=skp=all\nFROM busybox\n")
    assert (done.code, 'invalid check option "skp" (did you mean skip?)' in done.error) == (1, True)


def test_outline_and_targets(project: Project) -> None:
    text = "# app is what runs\nFROM busybox AS app\n# PORT to listen on\nARG PORT=80\nRUN true\n"
    assert project.build("--call", "targets", text=text).out == (
        "TARGET        DESCRIPTION\napp (default) is what runs\n"
    )
    assert "PORT        80      to listen on\n" in project.build("--call", "outline").out
    document = json.loads(project.build("--call", "outline,format=json").out)
    assert [arg["name"] for arg in document["args"]] == ["PORT"]
    assert json.loads(project.build("--call", "targets,format=json").out)["targets"][0]["default"] is True


@pytest.mark.parametrize("call", ["chekc", "check,format=xml", "check,outline"])
def test_an_unknown_call_is_refused(project: Project, call: str) -> None:
    done = project.build("--call", call, text=WARNS)
    assert done.code == 2
    assert f"--call {call}" in done.error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["VERSIO=2"], "One or more build-args [VERSIO] were not consumed (did you mean VERSION?)"),
        (["X=1", "VERSION=2", "Y=1"], "One or more build-args [X Y] were not consumed"),
        (["VERSION=2", "HTTP_PROXY=", "BUILDKIT_X=1", "TARGETARCH=amd64"], ""),
    ],
)
def test_build_arguments_that_nothing_declares_are_warned_about(
    project: Project, arguments: list[str], words: str
) -> None:
    options = [word for pair in arguments for word in ("--build-arg", pair)]
    done = project.built(*options, text="FROM busybox\nARG VERSION\nRUN true\n")
    assert ("WARNING: " + words in done.err) if words else "WARNING" not in done.err


def test_a_fault_in_the_text_leaves_what_was_found_before_it(project: Project) -> None:
    text = "FROM busybox as One\nMAINTAINER me\nRUN a \\\n\n  b\nRUM x\nMAINTAINER you\n"
    done = project.build("--call=check,format=json", text=text)
    document = json.loads(done.out)
    found = [(one["ruleName"], one["location"]["ranges"][0]["start"]["line"]) for one in document["warnings"]]
    assert found == [
        ("NoEmptyContinuation", 5),
        ("StageNameCasing", 1),
        ("FromAsCasing", 1),
        ("MaintainerDeprecated", 2),
    ]
    assert document["buildError"]["location"]["ranges"][0]["start"]["line"] == 6
    assert done.code == 1


def test_a_line_that_cannot_be_taken_apart_is_the_fault_and_nothing_else_is_said(project: Project) -> None:
    done = project.build("--check", text="FROM busybox as One\nRUM x\nENV a\n")
    assert (done.code, done.out) == (1, "")
    assert "Dockerfile:3" in done.err and "ENV must have two arguments" in done.err


def test_triggers_of_the_base_are_checked_where_they_fire(project: Project) -> None:
    folder = project.root / "base"
    base = "FROM busybox\nONBUILD ENV A b\nONBUILD WORKDIR x\n"
    project.built("-o", f"type=oci,tar=false,dest={folder}", text=base)
    image = f"trigger=oci-layout://{folder}"
    done = project.build(
        "--call=check,format=json", "--build-context", image, text="# trigger\nFROM trigger\n"
    )
    found = [
        (one["ruleName"], one["location"]["ranges"][0]["start"]["line"])
        for one in json.loads(done.out)["warnings"]
    ]
    assert sorted(found) == [("LegacyKeyValueFormat", 2), ("WorkdirRelativePath", 2)]


def test_triggers_of_a_stage_are_checked_where_they_fire(project: Project) -> None:
    text = "FROM busybox AS base\nONBUILD CMD foo\nFROM base\nCMD bar\n"
    done = project.build("--check", text=text)
    assert "MultipleInstructionsDisallowed" in done.out
    assert "   3 | >>> FROM base" in done.out
