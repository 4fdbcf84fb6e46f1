"""A builder in a program: events as they happen, and nothing left behind however one leaves."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import minibuild
from minibuild import Builder, BuildRequest, BuildResult, Event
from minibuild.plugins import CacheSpec, ExitStatus, ExportResult, ExportServices, Image, Sandbox
from tests.feature.conftest import bases, project, sandbox_works
from tests.feature.project import Project

__all__ = ["bases", "project", "sandbox_works"]

SHORT = "FROM busybox\nRUN echo said\nRUN true\n"
LONG = "FROM busybox\nRUN echo begun; sleep 600\n"
PARALLEL = (
    "FROM busybox AS a\nRUN echo begun; sleep 600\nFROM busybox\nRUN sleep 600\nCOPY --from=a /bin/sh /x\n"
)
WAIT = 60.0  # seconds; what takes longer hangs


def request(project: Project, text: str = SHORT, **options: Any) -> BuildRequest:
    made = BuildRequest.of(None, dockerfile_text=text, **options)
    return replace(made, contexts={"busybox": f"oci-layout://{project.bases}:busybox"})


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "minibuild"]


def begun(event: object) -> bool:
    return isinstance(event, minibuild.StepOutput) and event.data == b"begun\n"


def test_it_builds_with_a_store_that_is_open(project: Project) -> None:
    with minibuild.Store.open(project.store) as store:
        with Builder(store) as builder:
            assert [step.cached for step in builder.build(request(project)).steps] == [False, False]
            assert [step.cached for step in builder.build(request(project)).steps] == [True, True]
        assert list(store.blobs)


@pytest.mark.parametrize("name", ["tags", "outputs", "cache_from", "cache_to"])
def test_one_text_in_place_of_several_is_an_error(name: str) -> None:
    with pytest.raises(minibuild.UsageError, match=f"{name}='app:1' is one text") as caught:
        BuildRequest.of(None, **{name: "app:1"})
    assert caught.value.cure == f"Write {name}=['app:1']."


def test_a_stream_is_events_and_then_the_result(project: Project) -> None:
    with Builder(project.store) as builder:
        *events, result = builder.stream(request(project))
        assert isinstance(result, BuildResult) and not threads()
        assert isinstance(events[0], minibuild.BuildStarted) and events[0].id == result.build
        assert isinstance(events[-1], minibuild.BuildFinished) and events[-1].steps == 2
        assert [one.data for one in events if isinstance(one, minibuild.StepOutput)] == [b"said\n"]
        record = minibuild.Builds(builder.store).get(result.build)
        assert record is not None and record.status == "done"


def test_every_item_says_hit_or_miss_and_why(project: Project) -> None:
    with Builder(project.store) as builder:
        builder.build(request(project))
        items = list(builder.stream(request(project, SHORT.replace("RUN true", "RUN id"))))
        finished = [one.cached for one in items if isinstance(one, minibuild.StepFinished)]
        (missed,) = [one for one in items if isinstance(one, minibuild.StepMissed)]
        assert finished[-2:] == [True, False]
        assert missed.kind == "command" and "command changed" in missed.reason
        result = items[-1]
        assert isinstance(result, BuildResult)
        assert [(step.cached, step.kind) for step in result.steps] == [(True, ""), (False, "command")]


def test_a_stream_raises_what_the_build_raises(project: Project) -> None:
    events: list[object] = []
    with Builder(project.store) as builder, pytest.raises(minibuild.RunFailed) as raised:
        for event in builder.stream(request(project, "FROM busybox\nRUN exit 7\n")):
            events.append(event)
    assert raised.value.exit_code == 7 and not threads()
    assert isinstance(events[-1], minibuild.StepFailed)


def test_leaving_a_stream_early_ends_the_build(project: Project) -> None:
    with Builder(project.store) as builder:
        for event in builder.stream(request(project, LONG)):
            if begun(event):
                break
        assert not threads()  # its processes are looked for when the test is over


def test_a_stream_that_is_kept_ends_with_the_builder(project: Project) -> None:
    with Builder(project.store) as builder:
        stream = builder.stream(request(project, PARALLEL))
        assert any(begun(event) for event in stream)
    with pytest.raises(minibuild.Cancelled):
        list(stream)
    assert not threads()


def test_a_stream_that_nobody_reads_is_no_build(project: Project) -> None:
    with Builder(project.store) as builder:
        builder.stream(request(project, LONG))
        assert not threads()


def test_a_build_does_not_wait_for_a_slow_reader(project: Project) -> None:
    text = "FROM busybox\nRUN yes | head -c 3000000\n"
    ended = threading.Event()

    def told(event: Event) -> None:
        if isinstance(event, minibuild.BuildFinished):
            ended.set()

    with Builder(project.store, on_event=told) as builder:
        stream = builder.stream(request(project, text))
        next(stream)
        assert ended.wait(WAIT)
        rest = [one.data for one in stream if isinstance(one, minibuild.StepOutput)]
        assert len(b"".join(rest)) == 3_000_000


def test_builds_are_cancelled_from_another_thread(project: Project) -> None:
    going = threading.Event()

    def told(event: Event) -> None:
        if begun(event):
            going.set()

    with Builder(project.store, on_event=told) as builder:

        def cancel() -> None:
            going.wait(WAIT)
            builder.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(minibuild.Cancelled):
            builder.build(request(project, PARALLEL))
        thread.join(WAIT)
        assert builder.build(request(project)).steps  # the next one is none the wiser


def test_closing_from_a_callback_does_not_wait_for_itself(project: Project) -> None:
    builders: list[Builder] = []

    def told(event: Event) -> None:
        if begun(event):
            builders[0].close()

    with Builder(project.store, on_event=told) as builder:
        builders.append(builder)
        with pytest.raises(minibuild.Cancelled):
            builder.build(request(project, LONG))
        with pytest.raises(minibuild.UsageError, match="closed"):
            builder.build(request(project))


def test_several_builds_run_at_once(project: Project) -> None:
    with Builder(project.store) as builder:
        streams = [builder.stream(request(project, f"FROM busybox\nRUN echo {n} > /n\n")) for n in range(3)]
        for stream in streams:
            next(stream)
        results = [list(stream)[-1] for stream in streams]
        assert len({result.image_id for result in results if isinstance(result, BuildResult)}) == 3


def test_settings_count_where_a_request_has_none(project: Project, tmp_path: Path) -> None:
    cache = minibuild.parse_cache(f"type=local,dest={tmp_path / 'cache'}", "--cache-to", export=True)
    with Builder(project.store, isolation="none", cache_to=(cache,)) as builder:
        builder.build(request(project, "FROM busybox\nWORKDIR /a\n"))
        assert (tmp_path / "cache/index.json").is_file()
        with pytest.raises(minibuild.SandboxError):
            builder.build(request(project))
    with Builder(project.store) as builder:
        with pytest.raises(minibuild.SandboxError):
            builder.build(replace(request(project), isolation="none"))
        assert builder.build(request(project)).steps


def test_an_async_stream_leaves_the_loop_free(project: Project) -> None:
    async def main() -> tuple[list[object], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        with Builder(project.store) as builder:
            items = [item async for item in builder.astream(request(project, SHORT + "RUN sleep 0.3\n"))]
        ticking.cancel()
        return items, ticks

    items, ticks = asyncio.run(main())
    assert isinstance(items[-1], BuildResult) and ticks > 5 and not threads()


def test_leaving_an_async_stream_early_ends_the_build(project: Project) -> None:
    async def main() -> None:
        with Builder(project.store) as builder:
            async with aclosing(builder.astream(request(project, LONG))) as stream:
                async for item in stream:
                    if begun(item):
                        break
            assert not threads()

    asyncio.run(main())


def test_an_async_stream_that_is_forgotten_ends_with_the_loop(project: Project) -> None:
    async def main(builder: Builder) -> None:
        async for item in builder.astream(request(project, LONG)):
            if begun(item):
                break

    with Builder(project.store) as builder:
        asyncio.run(main(builder))
        assert not threads()


def test_a_task_that_is_cancelled_takes_its_build_along(project: Project) -> None:
    async def main() -> None:
        going = asyncio.Event()

        async def build(builder: Builder) -> None:
            async for item in builder.astream(request(project, PARALLEL)):
                if begun(item):
                    going.set()

        with Builder(project.store) as builder:
            task = asyncio.create_task(build(builder))
            await asyncio.wait_for(going.wait(), WAIT)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert not threads()


def test_an_async_stream_raises_what_the_build_raises(project: Project) -> None:
    async def main() -> None:
        with Builder(project.store) as builder:
            async for _ in builder.astream(request(project, "FROM busybox\nRUN exit 7\n")):
                pass

    with pytest.raises(minibuild.RunFailed):
        asyncio.run(main())


def test_an_interrupt_ends_a_program_and_its_build(project: Project) -> None:
    script = (
        "import sys, minibuild; from dataclasses import replace; from pathlib import Path\n"
        "request = minibuild.BuildRequest.of(None, dockerfile_text=sys.argv[3])\n"
        "request = replace(request, contexts={'busybox': sys.argv[2]})\n"
        "def told(event):\n"
        "    if isinstance(event, minibuild.StepOutput): print('begun', flush=True)\n"
        "with minibuild.Builder(Path(sys.argv[1]), on_event=told) as builder: builder.build(request)\n"
    )
    base = f"oci-layout://{project.bases}:busybox"
    for text in (LONG, PARALLEL):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(project.store), base, text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=project.variables(),
        )
        try:
            assert process.stdout is not None and process.stdout.readline() == b"begun\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=WAIT)
        finally:
            process.kill()
            process.wait()
        assert b"KeyboardInterrupt" in err and process.returncode == -signal.SIGINT


class Names:
    """An exporter of the program's own: keeps what was built."""

    def __init__(self) -> None:
        self.layers: list[int] = []

    def export(self, images: Sequence[Image], services: ExportServices) -> ExportResult:
        self.layers += [len(image.layers) for image in images]
        return ExportResult("names", names=services.names)


class Counting:
    """An executor of the program's own: counts what runs."""

    def __init__(self, sandbox: Sandbox, commands: list[tuple[str, ...]]) -> None:
        self._sandbox = sandbox
        self._commands = commands

    def describe(self) -> str:
        return "counting"

    def run(self, rootfs: Any, spec: Any, **how: Any) -> ExitStatus:
        self._commands.append(spec.argv)
        return self._sandbox.run(rootfs, spec, **how)

    def close(self) -> None:
        pass


def test_exporters_and_executors_may_be_objects_of_the_program(project: Project) -> None:
    names, commands = Names(), list[tuple[str, ...]]()
    output = minibuild.OutputSpec("names", exporter=names)
    with Builder(project.store, executor=lambda sandbox: Counting(sandbox, commands)) as builder:
        result = builder.build(request(project, outputs=[output], tags=["own"]))
    assert names.layers == [3] and str(result.exports[0].names[0]).endswith("own:latest")
    assert [command[-1] for command in commands] == ["echo said", "true"]


def test_caches_may_be_objects_of_the_program(project: Project, tmp_path: Path) -> None:
    from minibuild.cache.localcache import LocalCache

    cache = CacheSpec("own", factory=lambda spec, services: LocalCache(tmp_path / "cache", "latest"))
    with Builder(project.store, cache_to=(cache,)) as builder:
        builder.build(request(project))
    with Builder(project.root / "other", cache_from=(cache,)) as builder:
        assert all(step.cached for step in builder.build(request(project)).steps)


def test_requests_are_made_from_texts(tmp_path: Path) -> None:
    made = BuildRequest.of(
        str(tmp_path),
        tags=["app"],
        platform="linux/arm64",
        secrets={"token": b"x", "file": tmp_path / "secret"},
        outputs=["type=oci,dest=image.tar"],
        cache_from=["example.com/app:cache"],
    )
    assert made.context == tmp_path and str(made.tags[0]) == "docker.io/library/app:latest"
    assert made.platform == minibuild.Platform.parse("linux/arm64")
    assert [secret.id for secret in made.secrets] == ["token", "file"]
    assert made.outputs == (minibuild.parse_output("type=oci,dest=image.tar"),)
    assert made.cache_from[0].kind == "registry"
    for wrong in ({"platform": "a/b/c/d"}, {"outputs": ["type=nothing"]}, {"cache_to": ["type=nothing"]}):
        with pytest.raises(minibuild.UsageError):
            BuildRequest.of(".", **wrong)  # type: ignore[arg-type]
