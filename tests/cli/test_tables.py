"""Columns, ages and sizes for people."""

from __future__ import annotations

import datetime

import pytest

from minibuild.cli.sink import human_size, summary
from minibuild.cli.tables import age, table
from minibuild.events import BuildFinished


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("A", "LONG HEAD"), [("wide cell", "x"), ("y", "z")]) == (
        "A           LONG HEAD\n"  # three spaces apart, none at the end of a line
        "wide cell   x\n"
        "y           z"
    )
    assert table(("A", "B"), []) == "A   B"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "just now"),
        (61, "1 minute ago"),
        (7_300, "2 hours ago"),
        (90_000, "1 day ago"),
        (1_300_000, "2 weeks ago"),
        (6_000_000, "2 months ago"),
        (64_000_000, "2 years ago"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(seconds: int, text: str) -> None:
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    assert age(moment.strftime("%Y-%m-%dT%H:%M:%SZ")) == text


def test_an_image_without_a_date_has_no_age() -> None:
    assert age("") == age("not a time") == "N/A"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1.0kB"), (1_549_999, "1.5MB"), (2e9, "2.0GB"), (3.2e12, "3.2TB")],
)
def test_sizes_are_told_with_a_unit(count: float, text: str) -> None:
    assert human_size(count) == text


def test_the_summary_counts_steps_hits_seconds_and_bytes() -> None:
    assert summary(BuildFinished(1, 0, 0.26, 0, 0.0)) == "1 step, 0 cached, 0.3s, 0B of new layers"
    assert (
        summary(BuildFinished(2, 2, 1, 10, 3.21)) == "2 steps, 2 cached, 1.0s, 3.2s saved, 10B of new layers"
    )
