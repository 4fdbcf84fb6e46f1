"""What steps cost: measured where they were ever built, from a file, or by a model that is said aloud.

The model `default-1`, for steps of which nothing better is known:

* RUN that installs packages (apt-get, apk, pip, npm, go mod, ...): 30 s, 50 MB
* RUN that compiles or tests (make, go build, cargo, npm run, pytest, ...): 20 s, 20 MB
* any other RUN: 1 s, 100 kB
* COPY and ADD: 0.02 s and 1 s for each 100 MB of files; the layer takes the bytes of its files
* WORKDIR: 0.01 s, 1 kB
"""

from __future__ import annotations

import csv
import json
import re
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from minibuild.errors import UsageError
from minibuild.plan import steps
from minibuild.values import NamedTuple

if TYPE_CHECKING:
    from minibuild_store.store import Store

MODEL = "default-1"
Origin = Literal["file", "measured", "model"]

_INSTALLS = re.compile(
    r"\b(apt-get|apt|apk|dnf|yum|microdnf|zypper|pacman|pip3?|uv|poetry|pipenv|conda|npm (ci|install|i)|"
    r"yarn( install)?|pnpm (i|install)|bundle|gem|composer|go (mod|get)|cargo fetch|mvn .*dependency)\b"
)
_COMPILES = re.compile(
    r"\b(make|cmake|ninja|go (build|install|test|vet)|cargo|mvn|gradlew?|npm (run|test)|yarn|pnpm|npx|tsc|"
    r"webpack|vite|gcc|cc|g\+\+|clang|javac|pytest|tox|python3? (-m (build|pytest)|setup\.py))\b"
)


class Cost(NamedTuple):
    """What executing a step takes: seconds, and the bytes of its layer; `origin` says who says so."""

    seconds: float
    bytes: int
    origin: Origin = "model"


class Costs:
    """Costs by instruction as written in the Dockerfile, else by its name in progress, else by the model."""

    def __init__(self, file: Mapping[str, Cost] | None = None, measured: Mapping[str, Cost] | None = None):
        self._file = file or {}
        self._measured = measured or {}

    def of(self, step: steps.Step, size: int | None) -> Cost:
        """The cost of `step`; `size` is what its files take (None: not known)."""
        for table in (self._file, self._measured):
            found = table.get(_words(step.instruction))
            if found is not None:
                # the files of this very commit say more of a COPY than what it once took
                return found if found.bytes >= 0 else found._replace(bytes=self._model(step, size).bytes)
        return self._model(step, size)

    def _model(self, step: steps.Step, size: int | None) -> Cost:
        match step:
            case steps.RunStep():
                command = " ".join(step.args)
                if _INSTALLS.search(command):
                    return Cost(30.0, 50_000_000)
                return Cost(20.0, 20_000_000) if _COMPILES.search(command) else Cost(1.0, 100_000)
            case steps.CopyStep():
                return Cost(0.02 + (size or 0) / 1e8, size or 0)
            case steps.WorkdirStep():
                return Cost(0.01, 1_000)


def measured(store: Store) -> dict[str, Cost]:
    """The median of what each instruction took when builds of this store last executed it."""
    from minibuild.cache.builds import Builds

    rows: dict[str, list[tuple[float, int]]] = {}
    for record in Builds(store).all():
        for step in record.steps:
            seconds = step.saved if step.hit else step.seconds
            if step.key and (not step.hit or step.saved):
                rows.setdefault(_words(step.instruction), []).append((seconds, step.bytes))
    return {
        words: Cost(
            statistics.median(seconds for seconds, _ in found),
            int(statistics.median(size for _, size in found)),
            "measured",
        )
        for words, found in rows.items()
    }


def read_costs(path: Path) -> dict[str, Cost]:
    """A file of costs: JSON, as ``{"INSTRUCTION": {"seconds": 1.5, "bytes": 1000}}`` or just seconds.

    What `replay --format json` printed serves too, under its ``costs``. CSV has the columns instruction,
    seconds and, if wanted, bytes. Raises `UsageError`.
    """
    cure = 'Write {"RUN make": {"seconds": 20, "bytes": 1000000}}, or CSV: instruction,seconds,bytes.'
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--costs {path} cannot be read: {error}", cure=cure) from None
    try:
        if text.lstrip().startswith("{"):
            document = json.loads(text)
            rows: Iterable[tuple[str, Any]] = document.get("costs", document).items()
        else:
            rows = [(row["instruction"], row) for row in csv.DictReader(text.splitlines())]
        found = {_words(words): _cost(value) for words, value in rows}
        if not found:
            raise ValueError("it is empty")
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--costs {path} is not a file of costs: {error}", cure=cure) from None


def _cost(value: Any) -> Cost:
    if isinstance(value, int | float):
        value = {"seconds": value}
    seconds, size = float(value["seconds"]), value.get("bytes")
    if not 0 <= seconds < 1e9:
        raise ValueError(f"{seconds} seconds")
    return Cost(seconds, -1 if size in (None, "") else int(size), "file")


def _words(instruction: str) -> str:
    """An instruction's text with runs of white space as one blank."""
    return " ".join(instruction.split())


def cost_note(origins: set[str]) -> str:
    """Where the seconds and bytes come from."""
    words = {
        "file": "from the file of costs",
        "measured": "measured by builds of this store",
        "model": f"by the model {MODEL} (see docs/lab.md)",
    }
    return "costs of steps: " + ", ".join(text for origin, text in words.items() if origin in origins)
