"""Build records as Prometheus reads them, with Prometheus' own parser."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from minibuild.cache.builds import critical_path
from minibuild.report.metrics import metrics
from tests.feature.project import Project
from tests.report.conftest import records

Samples = dict[tuple[str, str], float]


def samples(text: str, label: str = "") -> Samples:
    """The values by metric and by one of its labels."""
    return {
        (sample.name.removeprefix("minibuild_"), sample.labels.get(label, "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_records_are_summed_up(built: Project) -> None:
    found = records(built)
    text = built.command("builds", "metrics").out
    plain, statuses, results = samples(text), samples(text, "status"), samples(text, "result")
    assert statuses["records", "done"] == 2 and statuses["records", "failed"] == 1
    assert plain["records_seconds", ""] == sum(record.seconds for record in found)
    assert plain["records_new_layer_bytes", ""] == sum(record.bytes for record in found)
    assert results["records_steps", "hit"] == sum(record.hits for record in found)
    assert results["records_steps", "failed"] == 1
    assert samples(text, "cause")["records_misses", "files"] == 1


def test_the_last_build_of_each_dockerfile_is_a_sample(built: Project) -> None:
    built.built("-f", str(built.dockerfile("FROM busybox\nRUN true\n", "other file")))
    newest, last, *_ = records(built)
    text = metrics(records(built))
    found = samples(text, "dockerfile")
    file = newest.dockerfile
    assert found["last_build_seconds", file] == newest.seconds
    assert found["last_build_success", file] == 1
    assert found["last_build_success", last.dockerfile] == 0
    assert found["last_build_critical_path_seconds", last.dockerfile] == sum(
        step.seconds for step in critical_path(last)
    )
    assert found["last_build_cached_steps", last.dockerfile] == last.hits


def test_names_with_quotes_and_line_ends_stay_whole(project: Project) -> None:
    name = 'a "b" \\n c'
    project.built("-f", str(project.dockerfile("FROM scratch\nWORKDIR /a\n", name)))
    (file,) = {label for metric, label in samples(metrics(records(project)), "dockerfile") if label}
    assert file.endswith(name)


def test_a_store_without_builds_has_metrics_too(project: Project) -> None:
    assert samples(project.command("builds", "metrics").out, "status")["records", "done"] == 0


def test_a_build_writes_them_to_a_file(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "minibuild.prom"
    project.built("--metrics-file", str(file), text="FROM scratch\nWORKDIR /a\n")
    assert file.read_text() == metrics(records(project))
    assert project.build("--metrics-file", str(file), text="FROM busybox\nRUN false\n").code == 1
    assert samples(file.read_text(), "status")["records", "failed"] == 1
    done = project.build("--metrics-file", str(tmp_path), text="FROM busybox\nRUN true\n")
    assert done.code == 5 and "is a folder" in done.error
