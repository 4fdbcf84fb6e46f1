"""A store, the images made in it, and places to write to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.exporters.image import Image
from tests.exporters.images import Maker, StoredBlobs


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def blobs(store: Store) -> StoredBlobs:
    return StoredBlobs(store)


@pytest.fixture
def make(store: Store) -> Maker:
    return Maker(store)


@pytest.fixture
def image(make: Maker) -> Image:
    """Two layers, ``one`` and ``two``."""
    return make.image(make.layer({"one": b"1\n"}), make.layer({"two": b"22\n"}))


@pytest.fixture
def other_filesystem(tmp_path: Path) -> Iterator[Path]:
    """A folder that no file of `tmp_path` can be linked into."""
    for place in ("/dev/shm", "/var/tmp", str(Path.home())):
        if os.access(place, os.W_OK) and os.stat(place).st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                yield Path(folder)
            return
    pytest.skip("there is one writable filesystem here")
