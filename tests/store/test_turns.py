"""Work for a processor: so much at once as there are turns, and none that keeps others from theirs."""

import subprocess
import sys
import threading
import time

import pytest
from minibuild_store import stopping, turns
from minibuild_store.store import Store

LIMIT = 60  # seconds, for what takes none


class Recorded(turns.Slots):
    """Slots that know how many were taken at once."""

    def __init__(self, count):
        super().__init__(count)
        self.count = count
        self.now = self.most = 0

    def taken(self, left):
        return self._noted(super().taken(left))

    @turns.contextmanager
    def _noted(self, slot):
        with slot:
            with self._mutex:
                self.now += 1
                self.most = max(self.most, self.now)
            try:
                yield
            finally:
                with self._mutex:
                    self.now -= 1


@pytest.fixture
def slots(monkeypatch):
    """The one turn there is."""
    slots = Recorded(1)
    monkeypatch.setattr(turns._process, "slots", slots)
    return slots


def begun(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ended(*threads):
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def until(true):
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_no_more_work_at_once_than_there_are_turns(slots):
    def work():
        for _ in range(20):
            with turns.working(), turns.working():
                assert slots.now == 1

    ended(*(begun(work) for _ in range(8)))
    assert slots.most == 1
    assert slots.now == 0


def test_others_have_the_turn_of_who_waits(slots):
    done = threading.Event()

    def other():
        with turns.working():
            done.set()

    with turns.working():
        with turns.waiting():
            ended(begun(other))
        assert done.is_set()
        assert slots.now == 1
    assert slots.now == 0


def test_an_error_of_who_waits_leaves_no_turn_taken(slots):
    with pytest.raises(OSError, match="gone"), turns.working(), turns.waiting():
        raise OSError("gone")
    assert slots.now == 0
    with turns.working():
        assert slots.now == 1


def test_who_waits_without_a_turn_has_none_afterwards(slots):
    with turns.waiting():
        pass
    assert slots.most == 0


def test_who_waits_for_a_turn_can_be_stopped(slots):
    stop, stopped = threading.Event(), []

    def check():
        if stop.is_set():
            raise InterruptedError

    def work():
        try:
            with stopping.checking(check), turns.working():
                pass
        except InterruptedError:
            stopped.append(True)

    with turns.working():
        thread = begun(work)
        until(lambda: slots._waiting)
        stop.set()
        ended(thread)
        assert stopped
        assert not slots._waiting


def test_a_lock_is_waited_for_without_a_turn(slots, tmp_path):
    with Store.open(tmp_path) as store:
        held, wanted = threading.Event(), threading.Event()

        def holder():
            with store.lock("name"):
                held.set()
                wanted.wait(LIMIT)
                with turns.working():
                    pass

        thread = begun(holder)
        assert held.wait(LIMIT)
        with turns.working():
            wanted.set()
            with turns.alone(store, "name"):
                assert slots.now == 1
        ended(thread)


def test_a_forked_child_has_turns_of_its_own():
    script = """
import os
from contextlib import ExitStack
from minibuild_store import turns
with ExitStack() as all:
    for _ in range(turns.at_once()):
        all.enter_context(turns._process.slots.taken(0))
    all.enter_context(turns.waiting())
    pid = os.fork()
    if not pid:
        with turns.working():
            os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT)
    assert (done.stdout, done.stderr) == ("7\n", "")


def test_there_are_as_many_turns_as_processors_but_two_to_six(monkeypatch):
    for processors, count in ((1, 2), (2, 2), (5, 5), (64, 6)):
        monkeypatch.setattr(turns, "processors", lambda number=processors: number)
        assert turns.at_once() == count
