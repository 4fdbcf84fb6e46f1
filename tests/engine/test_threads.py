"""Stages get threads where there is something to do, and none to find that there is not."""

import threading

import pytest
from minibuild_store import stopping
from minibuild_store.store import Store

import minibuild
from minibuild.engine.keyedsteps import KeyedSteps
from minibuild.engine.layerforms import in_parallel
from minibuild.errors import LayerError, MinibuildError

DOCKERFILE = """\
FROM scratch AS first
COPY <<one /one
one
FROM scratch AS second
COPY <<two /two
two
FROM scratch
COPY --from=first / /
COPY --from=second / /
"""


@pytest.fixture
def threads_of(tmp_path, monkeypatch):
    """Builds, and tells the threads by which steps were gone through."""
    context = tmp_path / "context"
    context.mkdir()
    used = []
    keyed = KeyedSteps._keyed

    def noted(*arguments):
        used.append(threading.current_thread())
        return keyed(*arguments)

    monkeypatch.setattr(KeyedSteps, "_keyed", noted)

    def build(dockerfile=DOCKERFILE):
        used.clear()
        (context / "Dockerfile").write_text(dockerfile)
        with Store.open(tmp_path / "store") as store:
            minibuild.build(minibuild.BuildRequest(context=context), store=store)
        return used

    return build


def test_a_cached_build_goes_through_all_stages_on_one_thread(threads_of):
    assert len(set(threads_of())) == 3
    again = threads_of()
    assert len(again) == 4
    assert set(again) == {threading.current_thread()}


def test_a_stage_that_fails_before_others_begin_stops_them(threads_of):
    with pytest.raises(MinibuildError, match="not found"):
        threads_of(DOCKERFILE.replace("COPY <<one", "COPY none /\nCOPY <<one"))
    assert threading.active_count() == 1


def test_a_layer_that_fails_ends_what_others_wait_for():
    waiting = threading.Event()
    waited = []

    def waits():
        waiting.set()
        stopping.pause(20)
        waited.append(True)

    def fails():
        assert waiting.wait(20)
        raise LayerError("broken")

    with pytest.raises(LayerError, match="broken"):
        in_parallel({0: waits, 1: fails})
    assert not waited
    assert threading.active_count() == 1
