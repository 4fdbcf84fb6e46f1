"""What runs beside what: steps of one stage, --jobs, and what goes on after a failure."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator

import pytest
from minibuild_store.store import Store

from minibuild.engine.build import build
from minibuild.engine.request import BuildRequest, HostVolume
from minibuild.errors import MinibuildError, RunFailed
from minibuild.events import Event, StepFinished, StepStarted
from tests.feature.project import Project
from tests.servers.serving import serving

# Succeeds once there is a file /signs/$1, of which a test makes the host's side.
WAIT = "for i in $(seq 300); do test -e /signs/{} && exit; sleep 0.1; done; exit 1"


def watched(project: Project, see: Callable[[str, Event], None]) -> list[tuple[str, Event]]:
    """Build the project's context with /signs in every RUN; `see` gets each event with its step's name."""
    names: dict[int, str] = {}
    events: list[tuple[str, Event]] = []

    def sink(event: Event) -> None:
        if isinstance(event, StepStarted):
            names[event.id] = event.name
        name = names.get(getattr(event, "id", 0), "")
        events.append((name, event))
        see(name, event)

    signs = project.root / "signs"
    signs.mkdir(exist_ok=True)
    request = BuildRequest(
        context=project.context,
        contexts={"busybox": f"oci-layout://{project.bases}:busybox"},
        volumes=(HostVolume(signs, "/signs"),),
    )
    with Store.open(project.store) as store:
        build(request, store=store, sink=sink)
    return events


def test_a_linked_copy_does_not_wait_for_the_step_before_it(project: Project) -> None:
    project.write("file", "x")
    project.dockerfile(f"FROM busybox\nRUN {WAIT.format('copied')}\nCOPY --link file /file\nRUN cat /file\n")

    def see(name: str, event: Event) -> None:
        if "COPY --link" in name and isinstance(event, StepFinished):
            (project.root / "signs/copied").touch()

    watched(project, see)
    # and from the cache it is what it was, beside another step or not
    done = project.built("-v", f"{project.root / 'signs'}:/signs")
    assert done.summary == (3, 3)


def test_a_linked_copy_in_a_stage_does_not_wait_for_the_stage_it_is_built_on(project: Project) -> None:
    project.write("file", "x")
    project.dockerfile(f"FROM busybox AS base\nRUN {WAIT.format('copied')}\nFROM base\nCOPY --link file /\n")

    def see(name: str, event: Event) -> None:
        if "COPY --link" in name and isinstance(event, StepFinished):
            (project.root / "signs/copied").touch()

    watched(project, see)


def test_a_linked_copy_that_fails_stops_the_step_before_it(project: Project) -> None:
    done = project.build(text="FROM busybox\nRUN sleep 300\nCOPY --link missing /\n")
    assert done.code == 1
    assert done.error.startswith("Dockerfile:3\n")
    assert '"/missing": not found' in done.error


def test_layers_are_stacked_in_the_order_of_the_dockerfile(project: Project) -> None:
    project.write("one", "1")
    project.write("two", "2")
    text = "FROM busybox\nRUN sleep 0.3; echo 0 > /file\nCOPY --link one /file\nCOPY --link two /file\n"
    image = project.image(text=text)
    assert [image.layer(number)["file"].text for number in (-3, -2, -1)] == ["0\n", "1", "2"]
    assert image.text("file") == "2"


class Slow:
    """Two files; neither is sent before both were asked for."""

    def __init__(self) -> None:
        self.both = threading.Barrier(2)
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    site.both.wait(timeout=30)
                except threading.BrokenBarrierError:
                    self.send_error(500)
                    return
                self.send_response(200)
                self.send_header("ETag", '"x"')
                self.end_headers()
                self.wfile.write(self.path.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    with serving(made.server):
        yield made


@pytest.mark.parametrize("flag", ["", "--link "])
def test_files_of_one_stage_are_fetched_side_by_side(project: Project, slow: Slow, flag: str) -> None:
    text = f"FROM busybox\nADD {flag}{slow.address}/a /a\nADD {flag}{slow.address}/b /b\n"
    image = project.image(text=text)
    assert (image.text("a"), image.text("b")) == ("/a", "/b")


STAGES = """\
FROM busybox AS a
RUN sleep 0.2; echo a > /a
FROM busybox AS b
RUN sleep 0.2; echo b > /b
FROM busybox AS c
RUN sleep 0.2; echo c > /c
FROM scratch
COPY --link --from=a /a /
COPY --link --from=b /b /
COPY --link --from=c /c /
"""


def most_at_once(lines: str) -> int:
    """How many steps of stages were under way at once, by the events of a build."""
    running: set[int] = set()
    most = 0
    for event in map(json.loads, filter(lambda line: line.startswith("{"), lines.splitlines())):
        if event["event"] == "StepStarted" and ("RUN" in event["name"] or "COPY" in event["name"]):
            running.add(event["id"])
            most = max(most, len(running))
        elif event["event"] in ("StepFinished", "StepFailed"):
            running.discard(event["id"])
    return most


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_more_steps_than_jobs_execute_at_once(project: Project, jobs: int) -> None:
    done = project.built("--jobs", str(jobs), "--progress=rawjson", text=STAGES)
    assert 1 <= most_at_once(done.err) <= jobs


def test_jobs_is_a_number(project: Project) -> None:
    done = project.build("--jobs=many", text="FROM scratch\n")
    assert done.code == 2
    assert "--jobs 'many' is no number" in done.error


FAILING = """\
FROM busybox AS bad
RUN sleep 0.2; exit 7
FROM busybox AS good
RUN sleep 0.5; echo good > /good
RUN echo more > /more
FROM busybox AS worse
RUN sleep 1; exit 8
FROM bad AS after
RUN echo never-run
FROM scratch
COPY --from=after / /
COPY --from=good /more /
COPY --from=worse / /
"""


def test_keep_going_finishes_what_does_not_need_what_failed(project: Project) -> None:
    done = project.build("--keep-going", text=FAILING)
    assert done.code == 1
    assert "exit code: 7" in done.err and "exit code: 8" in done.err
    messages = [line for line in done.err.splitlines() if line.startswith("ERROR: ")]
    assert len(messages) == 2
    assert "Dockerfile:2\n" in done.err and "Dockerfile:7\n" in done.err
    assert " DONE " in done.step("RUN echo more")
    assert "never-run" not in done.err.replace("RUN echo never-run", "")


def test_the_library_gets_the_first_error_and_the_others(project: Project) -> None:
    project.dockerfile(FAILING)
    request = BuildRequest(
        context=project.context,
        contexts={"busybox": f"oci-layout://{project.bases}:busybox"},
        keep_going=True,
    )
    with Store.open(project.store) as store, pytest.raises(RunFailed) as caught:
        build(request, store=store)
    assert caught.value.exit_code == 7
    assert [error.exit_code for error in caught.value.others if isinstance(error, RunFailed)] == [8]
    assert all(isinstance(error, MinibuildError) for error in caught.value.others)


def test_without_keep_going_the_first_failure_ends_the_build(project: Project) -> None:
    done = project.build(text=FAILING.replace("sleep 1;", "sleep 300;"))
    assert done.code == 1
    assert "exit code: 7" in done.error


def test_of_linked_copies_that_say_the_same_the_first_is_made(project: Project) -> None:
    for number in range(5):
        project.write("a.txt", str(number))
        copies = "COPY --link a.txt /l/\n" * 3
        done = project.built("--progress=plain", text=f"FROM busybox\n{copies}")
        numbers = [line.split()[0] for line in done.err.splitlines() if "COPY --link a.txt /l/" in line]
        first, *others = dict.fromkeys(numbers)
        assert f"{first} CACHED" not in done.err
        assert all(f"{other} CACHED" in done.err for other in others) and len(others) == 2
