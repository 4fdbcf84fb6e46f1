"""Proposals: only what the rules allow, and only what a replay proves."""

from __future__ import annotations

from pathlib import Path

import pytest
from minibuild_store.store import Store

from minibuild.engine.request import BuildRequest
from minibuild.lab.advise import Adviser, Report
from minibuild.lab.history import History
from minibuild.lab.installers import dependency_install, system_install
from minibuild.lab.replay import Replayer, ReplaySpec
from minibuild.lab.trace import Content
from minibuild.lab.variants import Variant, Written
from tests.lab.histories import repository


def report(root: Path, *commits: dict[str, Content], git_folder: bool = False) -> Report:
    dockerfile = Written("Dockerfile", "Dockerfile", path="Dockerfile")
    variant = Variant("now", dockerfile)
    with History(repository(root / "git", *commits)) as history, Store.open(root / "store") as store:
        spec = ReplaySpec(
            commits=history.commits(),
            variants=[variant],
            request=BuildRequest(context=None),
            offline=True,
            git_folder=git_folder,
        )
        with Replayer(history, spec, store) as replayer:
            last = replayer.snapshot(spec.commits[-1])
            text, ignore = (dockerfile.at(last) or b"").decode(), variant.ignore_text(last).decode()
            return Adviser(replayer, dockerfile, text, ignore, pull_rate=1e7, seed=1).report()


def edits(path: str, count: int = 6) -> list[dict[str, Content]]:
    return [{path: str(number)} for number in range(count)]


def kinds(found: Report) -> list[str]:
    return [one.proposal.kind for one in found.advice]


def test_manifests_are_copied_before_the_rest(tmp_path: Path) -> None:
    run = "RUN pip install -r requirements.txt\n"
    text = f"FROM x\nWORKDIR /app\n# all of it\nCOPY --chown=1:1 . .\n# slow\n{run}"
    found = report(tmp_path, {"Dockerfile": text, "requirements.txt": "a==1\n", "a.py": ""}, *edits("a.py"))
    assert kinds(found) == ["split"]
    assert found.dockerfile == (
        "FROM x\nWORKDIR /app\nCOPY --chown=1:1 requirements.txt ./\n# slow\n"
        "RUN pip install -r requirements.txt\n# all of it\nCOPY --chown=1:1 . .\n"
    )
    assert found.advice[0].seconds == pytest.approx(30 * 6)
    assert found.advice[0].before.rate.value < found.advice[0].after.rate.value
    assert "+COPY --chown=1:1 requirements.txt ./" in found.advice[0].diff.splitlines()


@pytest.mark.parametrize(
    ("run", "files"),
    [
        ("pip install -r requirements.txt", {"requirements.txt": "-e .\n"}),
        ("pip install -r requirements.txt", {"requirements.txt": "./wheels/a.whl\n"}),
        ("pip install -r requirements.txt", {}),
        ("pip install .", {"setup.py": ""}),
        ("pip install -r requirements.txt && python setup.py build", {"requirements.txt": "a"}),
        ("pip install -r requirements.txt; make", {"requirements.txt": "a"}),
        ("npm ci", {"package.json": '{"scripts": {"postinstall": "x"}}', "package-lock.json": "{}"}),
        ("npm ci", {"package.json": '{"dependencies": {"a": "file:../a"}}', "package-lock.json": "{}"}),
        ("npm ci", {"package.json": "{}", "package-lock.json": "{}", "node_modules/a/b.js": ""}),
        ("go mod download", {"go.mod": "module a\nreplace b => ../b\n"}),
        ("--mount=type=bind,target=/x pip install -r requirements.txt", {"requirements.txt": "a"}),
    ],
)
def test_what_may_read_other_files_stays_where_it_is(
    tmp_path: Path, run: str, files: dict[str, Content]
) -> None:
    text = f"FROM x\nWORKDIR /app\nCOPY . .\nRUN {run}\n"
    assert not kinds(report(tmp_path, {"Dockerfile": text, "a.py": "", **files}, *edits("a.py")))


@pytest.mark.parametrize(
    "between", ["ENV A=1", "ARG A", "USER app", "RUN make", "WORKDIR /other", "COPY b /b", "ADD b /b"]
)
def test_nothing_moves_across_what_it_could_depend_on(tmp_path: Path, between: str) -> None:
    text = f"FROM x\nWORKDIR /app\nCOPY . .\n{between}\nRUN pip install -r requirements.txt\n"
    files = {"Dockerfile": text, "requirements.txt": "a", "b": "", "a.py": ""}
    assert "split" not in kinds(report(tmp_path, files, *edits("a.py")))


def test_manifests_in_folders_are_copied_to_their_folders(tmp_path: Path) -> None:
    text = "FROM x\nWORKDIR /app\nCOPY . /app/\nLABEL a=b\nRUN pip install -r req/dev.txt\n"
    files = {"Dockerfile": text, "req/dev.txt": "-r ../base.txt\n", "base.txt": "a\n", "a.py": ""}
    found = report(tmp_path, files, *edits("a.py"))
    assert "COPY req/dev.txt req/\nCOPY base.txt ./\nRUN pip install -r req/dev.txt\nCOPY . /app/\n" in (
        found.dockerfile
    )


def test_system_packages_go_above_copies_of_the_project(tmp_path: Path) -> None:
    install = "RUN apt-get update && \\\n    apt-get install -y curl && rm -rf /var/lib/apt/lists/*"
    text = f"FROM x\nCOPY src /app/src\nCOPY conf /app/conf\n{install}\n"
    found = report(tmp_path, {"Dockerfile": text, "src/a": "", "conf/a": ""}, *edits("src/a"))
    assert kinds(found)[0] == "move"
    assert found.dockerfile.startswith(f"FROM x\n{install}\nCOPY ")


@pytest.mark.parametrize("dest", ["/etc/apt/", "/usr/local/", "/", "$HERE/", "relative/"])
def test_system_packages_stay_below_copies_into_the_system(tmp_path: Path, dest: str) -> None:
    text = f"FROM x\nCOPY src {dest}\nRUN apt-get install -y curl\n"
    assert not kinds(report(tmp_path, {"Dockerfile": text, "src/a": ""}, *edits("src/a")))


def test_of_two_copies_the_steadier_one_goes_first(tmp_path: Path) -> None:
    text = "FROM x\nWORKDIR /app\nCOPY src src/\nCOPY data data/\nRUN make\n"
    files: dict[str, Content] = {"Dockerfile": text, "src/a": "", "data/big": {"size": 10_000_000}}
    found = report(tmp_path, files, *edits("src/a"))
    assert kinds(found) == ["swap"]
    assert "COPY data data/\nCOPY src src/\n" in found.dockerfile


@pytest.mark.parametrize("second", ["COPY data src/data/", "COPY --chown=1 data data/", "COPY data ."])
def test_copies_that_may_meet_stay_in_order(tmp_path: Path, second: str) -> None:
    text = f"FROM x\nWORKDIR /app\nCOPY src src/\n{second}\n"
    files: dict[str, Content] = {"Dockerfile": text, "src/a": "", "data/big": {"size": 10_000_000}}
    assert not kinds(report(tmp_path, files, *edits("src/a")))


def test_files_that_nothing_names_are_proposed_for_the_ignore_file(tmp_path: Path) -> None:
    text = "FROM x\nCOPY . /app\nRUN make\n"
    first: dict[str, Content] = {
        "Dockerfile": text,
        "a.py": "",
        "docs/x.md": "",
        "tests/t.py": "",
        "README.md": "",
    }
    first |= {"pyproject.toml": 'readme = "README.md"\n', ".dockerignore": "out"}
    changes = [*edits("docs/x.md"), *edits("tests/t.py"), *edits("README.md"), *edits("a.py", 2)]
    found = report(tmp_path, first, *changes, git_folder=True)
    assert set(found.ignore.splitlines()) == {"out", ".git", "docs", "tests"}
    assert set(kinds(found)) == {"ignore"}


def test_tests_stay_where_the_build_runs_them() -> None:
    assert not system_install("apt-get install -y ./local.deb")
    assert not system_install("apt-get update && curl x | sh")
    assert not system_install("echo hello")
    assert system_install("apk add --no-cache git build-base")
    files = {"go.mod": b"module a\n", "go.sum": b""}
    install = dependency_install("go mod download", files.get)
    assert install is not None and install.manifests == ("go.mod", "go.sum")


def test_a_good_dockerfile_is_left_alone(tmp_path: Path) -> None:
    text = "FROM x\nCOPY requirements.txt /\nRUN pip install -r /requirements.txt\nCOPY src /src\n"
    files: dict[str, Content] = {"Dockerfile": text, "requirements.txt": "a", "src/a": ""}
    found = report(tmp_path, files, *edits("src/a"))
    assert not found.advice
    assert found.first.rate == found.last.rate
