"""Histories made up by a stated model, for when there is none to measure, or to try a cache on many.

The model, all of it drawn from one seed:

* A file's chance to be edited falls with its rank to the power `alpha` (Zipf): few files take most edits.
* Commits come in bursts. A burst works in one folder, drawn by the weight of its files; the next commit
  belongs to it with probability `burst`, some minutes later, else a new burst begins after some hours.
* A commit edits n files with probability proportional to 1/n^2, up to 40: eight in ten from the burst's
  folder, the others from anywhere. One in ten of them is a new file, one in fifty is removed.
* A commit changes a dependency manifest with probability `manifests`, apart from everything else.
* Sizes are log-normal with a median of 4 kB; a file grows or shrinks a little with each edit.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from typing import Any

from minibuild.errors import UsageError
from minibuild.lab.trace import Content, Edit
from minibuild.values import dataclass

MANIFEST = "requirements.txt"
_START = 1_700_000_000
_MOST_FILES = 40
_FOLDERS = {"src": 0.6, "tests": 0.2, "docs": 0.12, "tools": 0.08}
_MEDIAN_SIZE = 4096

DOCKERFILE = """\
FROM python:3.12-slim
WORKDIR /app
COPY . .
RUN pip install -r requirements.txt
RUN python -m compileall -q src
CMD ["python", "-m", "src"]
"""
SPLIT = """\
FROM python:3.12-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY src src
RUN python -m compileall -q src
CMD ["python", "-m", "src"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What `synthesise` draws from; `alpha` is Zipf's exponent, `burst` and `manifests` probabilities."""

    files: int = 200
    commits: int = 300
    alpha: float = 1.1
    burst: float = 0.7
    manifests: float = 0.03
    seed: int = 1

    def check(self) -> None:
        """Raises `UsageError`."""
        for name, low, high in (
            ("files", 5, 1_000_000),
            ("commits", 1, 1_000_000),
            ("alpha", 0, 10),
            ("burst", 0, 0.999),
            ("manifests", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"--{name} {value} is not between {low} and {high}")


def synthesise(model: Model) -> list[Edit]:
    """The commits of a made-up project with a Dockerfile, and a better one (Dockerfile.split)."""
    model.check()
    return list(_Project(model).history())


class _Project:
    def __init__(self, model: Model) -> None:
        self._model = model
        self._random = random.Random(model.seed)
        self._names = itertools.count()
        self._seeds = itertools.count(1)
        self._sizes: dict[str, int] = {}
        self._weights: dict[str, float] = {}
        self._folders: dict[str, list[str]] = {}
        ranks = list(range(1, model.files + 1))
        self._random.shuffle(ranks)
        for rank in ranks:
            self._add(self._folder(), rank**-model.alpha)

    def _folder(self) -> str:
        top = self._random.choices(list(_FOLDERS), list(_FOLDERS.values()))[0]
        return f"{top}/part{self._random.randrange(max(1, int(math.sqrt(self._model.files) / 4)))}"

    def _add(self, folder: str, weight: float) -> str:
        ending = "md" if folder.startswith("docs") else "py"
        path = f"{folder}/file{next(self._names)}.{ending}"
        self._weights[path] = weight
        self._sizes[path] = max(20, int(_MEDIAN_SIZE * math.exp(self._random.gauss(0, 1))))
        self._folders.setdefault(folder, []).append(path)
        return path

    def history(self) -> Iterator[Edit]:
        time = _START
        yield Edit(time, self._first(), "begin")
        folder = self._some_folder()
        for number in range(1, self._model.commits):
            if self._random.random() < self._model.burst:
                time += 60 + int(self._random.expovariate(1 / 900))
            else:
                folder = self._some_folder()
                time += 3600 + int(self._random.expovariate(1 / 36_000))
            files = self._edits(folder)
            if self._random.random() < self._model.manifests:
                files[MANIFEST] = self._manifest()
            yield Edit(time, files, f"edit {number} in {folder}")

    def _first(self) -> dict[str, Content]:
        files: dict[str, Content] = {
            "Dockerfile": DOCKERFILE,
            "Dockerfile.split": SPLIT,
            "README.md": "A project that nobody wrote.\n",
            "src/__main__.py": "print('hello')\n",
            MANIFEST: self._manifest(),
        }
        return files | {path: self._content(path) for path in self._weights}

    def _manifest(self) -> str:
        return f"example=={next(self._seeds)}\n"

    def _content(self, path: str) -> dict[str, Any]:
        return {"size": self._sizes[path], "seed": next(self._seeds)}

    def _some_folder(self) -> str:
        path = self._some(list(self._weights))
        return path.rpartition("/")[0]

    def _some(self, paths: list[str]) -> str:
        return self._random.choices(paths, [self._weights[path] for path in paths])[0]

    def _edits(self, folder: str) -> dict[str, Content]:
        counts = range(1, _MOST_FILES + 1)
        count = self._random.choices(counts, [1 / n**2 for n in counts])[0]
        everything = list(self._weights)
        found: dict[str, Content] = {}
        for _ in range(count):
            here = self._folders[folder] if self._random.random() < 0.8 else everything
            kind = self._random.random()
            if kind < 0.1:
                path = self._add(folder, self._random.choice(list(self._weights.values())))
                found[path] = self._content(path)
                continue
            path = self._some(here)
            if kind < 0.12 and len(self._folders[path.rpartition("/")[0]]) > 1 and path not in found:
                self._remove(path)
                found[path] = None
                everything = list(self._weights)
            elif path in self._weights:
                self._sizes[path] = max(20, int(self._sizes[path] * math.exp(self._random.gauss(0, 0.1))))
                found[path] = self._content(path)
        return found

    def _remove(self, path: str) -> None:
        del self._weights[path]
        self._folders[path.rpartition("/")[0]].remove(path)
