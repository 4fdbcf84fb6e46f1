"""From hits and misses to figures: rates, seconds, bytes, and how sure one can be of a difference.

Intervals are percentile intervals of a paired bootstrap: commits are drawn with replacement, the same ones
for every variant, so that what makes a commit dear does not count as a difference between variants.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from minibuild.lab.replay import Built, Outcome, Replay
from minibuild.values import NamedTuple

RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A figure and the bounds between which it lies in 95 of 100 resamples."""

    value: float
    low: float
    high: float


class Figures(NamedTuple):
    """One build: `spent` and `saved` are seconds, `spent` with the pulling of `pulled` bytes.

    `most` are the hits there would be if every RUN wrote the same again; `written` bytes of new layers.
    """

    steps: int
    hits: int
    most: int
    spent: float
    saved: float
    written: int
    pulled: int


class Summary(NamedTuple):
    """One variant over the counted commits; seconds and bytes are means of a build.

    `gain` and `rate_gain` are against the first variant: seconds less a build, and hit rate more. `kept` is
    the most that the cache took (bytes).
    """

    name: str
    builds: int
    failed: int
    steps: int
    hits: int
    most_rate: float
    rate: Interval
    spent: Interval
    saved: Interval
    written: float
    pulled: float
    kept: int
    evictions: int
    gain: Interval | None
    rate_gain: Interval | None


class Measured(NamedTuple):
    """`counted` are the places of the commits that count; `figures` are by variant, then by commit."""

    summaries: tuple[Summary, ...]
    figures: tuple[tuple[Figures | None, ...], ...]
    counted: tuple[int, ...]
    seed: int


def figures(built: Built, pull_rate: float) -> Figures:
    """`pull_rate` is in bytes a second."""
    misses = [step for step in built.steps if not step.hit]
    pulled = sum(step.pulled for step in misses)
    return Figures(
        steps=len(built.steps),
        hits=built.hits,
        most=built.most_hits,
        spent=sum(step.seconds for step in misses) + pulled / pull_rate,
        saved=sum(step.seconds for step in built.steps if step.hit) - pulled / pull_rate,
        written=sum(step.bytes for step in misses),
        pulled=pulled,
    )


def measure(replay: Replay, *, pull_rate: float, warmup: int = 1, seed: int = 1) -> Measured:
    """The first `warmup` commits fill the caches and do not count, nor do those that fail in any variant."""
    table = tuple(
        tuple(None if built.error else figures(built, pull_rate) for built in outcome.builds)
        for outcome in replay.outcomes
    )
    counted = tuple(
        number
        for number in range(min(warmup, len(replay.commits)), len(replay.commits))
        if all(row[number] is not None for row in table)
    )
    draws = _draws(len(counted), seed)
    columns = [_Columns([row[number] for number in counted]) for row in table]
    return Measured(
        tuple(
            _summary(outcome, own, columns[0], draws, first_one=not number)
            for number, (outcome, own) in enumerate(zip(replay.outcomes, columns, strict=True))
        ),
        table,
        counted,
        seed,
    )


class _Columns:
    """The figures of the counted commits of one variant, one list for each."""

    def __init__(self, rows: Sequence[Figures | None]) -> None:
        found = [row for row in rows if row is not None]
        self.steps = [row.steps for row in found]
        self.hits = [row.hits for row in found]
        self.most = [row.most for row in found]
        self.spent = [row.spent for row in found]
        self.saved = [row.saved for row in found]
        self.written = [row.written for row in found]
        self.pulled = [row.pulled for row in found]


Draws = list[list[int]]


def _draws(count: int, seed: int) -> Draws:
    """Places drawn with replacement, one list for each resample."""
    generator = random.Random(seed)
    places = range(count)
    return [generator.choices(places, k=count) for _ in range(RESAMPLES)] if count > 1 else []


def _summary(outcome: Outcome, own: _Columns, first: _Columns, draws: Draws, *, first_one: bool) -> Summary:
    builds = len(own.steps)
    rates = [_rate(own, draw) for draw in draws]
    spent = [_mean(own.spent, draw) for draw in draws]
    gain = rate_gain = None
    everything = list(range(builds))
    if not first_one:
        pairs = zip(draws, rates, spent, strict=True)
        differences = [(rate - _rate(first, d), _mean(first.spent, d) - cost) for d, rate, cost in pairs]
        rate_gain = _interval(_rate(own, everything) - _rate(first, everything), [d[0] for d in differences])
        gain = _interval(
            _mean(first.spent, everything) - _mean(own.spent, everything), [d[1] for d in differences]
        )
    steps = sum(own.steps)
    return Summary(
        name=outcome.variant.name,
        builds=builds,
        failed=sum(bool(built.error) for built in outcome.builds),
        steps=steps,
        hits=sum(own.hits),
        most_rate=sum(own.most) / steps if steps else 0.0,
        rate=_interval(_rate(own, everything), rates),
        spent=_interval(_mean(own.spent, everything), spent),
        saved=_interval(_mean(own.saved, everything), [_mean(own.saved, draw) for draw in draws]),
        written=_mean(own.written, everything),
        pulled=_mean(own.pulled, everything),
        kept=outcome.most_bytes,
        evictions=outcome.evictions,
        gain=gain,
        rate_gain=rate_gain,
    )


def _rate(columns: _Columns, draw: Sequence[int]) -> float:
    steps = sum(map(columns.steps.__getitem__, draw))
    return sum(map(columns.hits.__getitem__, draw)) / steps if steps else 0.0


def _mean(values: Sequence[float], draw: Sequence[int]) -> float:
    return sum(map(values.__getitem__, draw)) / len(draw) if draw else 0.0


def _interval(value: float, resampled: list[float]) -> Interval:
    if not resampled:
        return Interval(value, value, value)
    ordered = sorted(resampled)
    cut = int(len(ordered) * (1 - LEVEL) / 2)
    return Interval(value, ordered[cut], ordered[-1 - cut])
