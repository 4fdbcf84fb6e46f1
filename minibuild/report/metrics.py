"""Build records as metrics in Prometheus' text format, for the node exporter's textfile collector too.

Records are forgotten in time, so what is summed over them are gauges: they may fall.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from minibuild.cache.builds import BuildRecord, critical_path

_Samples = Sequence[tuple[Mapping[str, str], float]]


def metrics(records: Sequence[BuildRecord]) -> str:
    """`records`, newest first, summed up; and the last build of each Dockerfile and target."""
    return "\n".join(_lines(records)) + "\n"


def _lines(records: Sequence[BuildRecord]) -> Iterator[str]:
    statuses = Counter({"done": 0, "failed": 0, "cancelled": 0})
    statuses.update(record.status for record in records)
    yield from _family(
        "records",
        "Build records in the store.",
        [({"status": status}, count) for status, count in sorted(statuses.items())],
    )
    yield from _family("records_seconds", "Seconds that these builds took.", _sum(records, "seconds"))
    yield from _family(
        "records_saved_seconds", "Seconds that the cache spared these builds.", _sum(records, "saved")
    )
    yield from _family(
        "records_new_layer_bytes", "Bytes of the layers that these builds made.", _sum(records, "bytes")
    )
    steps = Counter({"hit": 0, "run": 0, "failed": 0})
    causes: Counter[str] = Counter()
    for record in records:
        for step in record.steps:
            steps["failed" if step.error else "hit" if step.hit else "run"] += 1
            if step.cause is not None:
                causes[step.cause.kind] += 1
    yield from _family(
        "records_steps",
        "Steps of these builds.",
        [({"result": name}, count) for name, count in steps.items()],
    )
    yield from _family(
        "records_misses",
        "Steps that were not cached, by what caused it.",
        [({"cause": kind}, count) for kind, count in sorted(causes.items())],
    )
    yield from _last(_newest(records))


def _newest(records: Sequence[BuildRecord]) -> list[BuildRecord]:
    """The last build of each Dockerfile and target."""
    found: dict[str, BuildRecord] = {}
    for record in records:
        found.setdefault(record.place, record)
    return list(found.values())


def _last(records: Sequence[BuildRecord]) -> Iterator[str]:
    """A sample a build."""
    values: dict[str, tuple[str, Callable[[BuildRecord], float]]] = {
        "start_timestamp_seconds": ("When the last build began, in Unix time.", lambda one: one.started),
        "success": ("Whether the last build succeeded.", lambda one: float(one.status == "done")),
        "seconds": ("Seconds that the last build took.", lambda one: one.seconds),
        "critical_path_seconds": (
            "Seconds of the chain of steps that the last build waited for.",
            lambda one: sum(step.seconds for step in critical_path(one)),
        ),
        "steps": ("Steps of the last build.", lambda one: len(one.steps)),
        "cached_steps": ("Steps of the last build that were cached.", lambda one: one.hits),
        "saved_seconds": ("Seconds that the cache spared the last build.", lambda one: one.saved),
        "new_layer_bytes": ("Bytes of the layers that the last build made.", lambda one: one.bytes),
    }
    for name, (help_text, value) in values.items():
        samples = [(_labels(record), float(value(record))) for record in records]
        yield from _family(f"last_build_{name}", help_text, samples)


def _labels(record: BuildRecord) -> dict[str, str]:
    folder, name, target = record.place.split("\n")
    dockerfile = f"{folder}/{name}" if folder and not name.startswith("/") else name
    return {"dockerfile": dockerfile, "target": target}


def _sum(records: Sequence[BuildRecord], field: str) -> _Samples:
    return [({}, float(sum(getattr(record, field) for record in records)))]


def _family(name: str, help_text: str, samples: _Samples) -> Iterator[str]:
    """A gauge; one without samples is left out."""
    if not samples:
        return
    yield f"# HELP minibuild_{name} {help_text}"
    yield f"# TYPE minibuild_{name} gauge"
    for labels, value in samples:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"minibuild_{name}{{{inner}}} {value:.17g}" if inner else f"minibuild_{name} {value:.17g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
