"""Every case gives the image that BuildKit gave, or is refused as BuildKit refused it.

The goldens beside the cases were recorded with `record.py`; nothing here needs BuildKit.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minibuild_store.store import Store

from minibuild.engine.build import build
from minibuild.engine.request import BuildRequest, Secret
from minibuild.errors import MinibuildError, RunFailed
from minibuild.exporters.spec import OutputSpec
from minibuild.oci.platform import Platform
from tests.conftest import has_many_ids
from tests.differential.bases import BUSYBOX, make_bases
from tests.differential.case import Case, lay_out, load_cases
from tests.differential.golden import differences, load
from tests.differential.image import read_image
from tests.differential.known import KNOWN
from tests.differential.record import replaced
from tests.differential.server import Server

CASES = load_cases()
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "dockerfile.md"

pytestmark = [
    pytest.mark.skipif(BUSYBOX is None, reason="needs Debian's busybox-static"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="recorded on x86_64"),
]


class Lab:
    """The bases, a store and a file server, shared by all cases of a worker."""

    def __init__(self, folder: Path, store: Store, server: Server) -> None:
        self.folder = folder
        self.store = store
        self.server = server
        self.bases = folder / "bases"
        self.bases.mkdir()
        self.digests = make_bases(self.bases)

    def base(self, name: str) -> str:
        return f"oci-layout://{self.bases}@{self.digests[name]}"

    def build(self, case: Case) -> dict[str, Any]:
        folder = self.folder / case.key
        lay_out(case, folder, http=self.server.serve(case.key, folder))
        try:
            build(self.request(case, folder), store=self.store)
        except MinibuildError as error:
            return _refusal(error)
        image = read_image(folder / "image")
        result: dict[str, Any] = replaced(image, self.server.address(case.key), "{http}")
        return result

    def request(self, case: Case, folder: Path) -> BuildRequest:
        contexts = {name: self.base(name) for name in self.digests}
        for text in case.all("context"):
            name, _, value = text.partition("=")
            if value.startswith("{http}"):
                contexts[name] = value.replace("{http}", self.server.address(case.key))
            else:
                contexts[name] = self.base(value[5:]) if value.startswith("base:") else str(folder / value)
        return BuildRequest(
            context=folder / "ctx",
            dockerfile=folder / "ctx" / case.one("file") if case.one("file") else None,
            target=case.one("target"),
            build_args=_pairs(case.all("arg")),
            labels=_pairs(case.all("label")),
            platform=Platform.parse(case.one("platform")) if case.one("platform") else None,
            secrets=tuple(Secret(name, folder / "secrets" / name) for name in case.all("secret")),
            network=case.one("network"),
            contexts=contexts,
            no_cache=True,  # times of files are no part of a key
            outputs=(OutputSpec("oci", dest=str(folder / "image"), tar=False),),
        )


def _pairs(texts: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _refusal(error: MinibuildError) -> dict[str, Any]:
    result: dict[str, Any] = {"refused": error.message}
    if isinstance(error, RunFailed):
        result["exit"] = error.exit_code
    if error.where is not None:
        result["line"] = error.where.first
    return result


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("differential")
    with Store.open(folder / "store") as store, Server() as server:
        yield Lab(folder, store, server)


def _skip(case: Case, folder: Path) -> None:
    """Leave `case` out where its files cannot be laid out."""
    if "root" in case.all("needs") and os.geteuid() != 0:
        pytest.skip("only root can lay out the context")
    if "ids" in case.all("needs") and not has_many_ids():
        pytest.skip("this user has one id, and RUN shows no other")
    if "xattr" in case.all("needs"):
        try:
            os.setxattr(folder, "user.probe", b"")
        except OSError:
            pytest.skip("the file system keeps no attributes")
    if case.key.startswith("git/") and shutil.which("git") is None:
        pytest.skip("needs git")


@pytest.mark.parametrize("case", CASES, ids=[case.key for case in CASES])
def test_a_case_gives_what_buildkit_gave(case: Case, lab: Lab) -> None:
    _skip(case, lab.folder)
    found = differences(load(case.golden), lab.build(case))
    reason = KNOWN.get(case.key)
    if reason is None:
        assert not found, "\n" + "\n".join(found)
    else:
        assert found, f"no longer different, drop it from known.py: {reason}"


def test_every_known_difference_has_a_case() -> None:
    assert set(KNOWN) <= {case.key for case in CASES}


def test_the_documentation_lists_every_known_difference() -> None:
    text = " ".join(DOCUMENTATION.read_text().split())
    assert [reason for reason in set(KNOWN.values()) if reason not in text] == []
