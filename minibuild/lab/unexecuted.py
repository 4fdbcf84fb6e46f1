"""The layers of steps that a build would execute: exact where their files are known, else made up."""

from __future__ import annotations

from collections.abc import Callable

from minibuild.engine.filesystem import Layer
from minibuild.lab.memory import Memory
from minibuild.lab.standin import Contents, LabLayer, LabStandIns, Unknown, layer_called
from minibuild.lab.view import GitFiles
from minibuild.plan import steps
from minibuild.plan.steps import FromContext, Step


class Unexecuted:
    """Gives the layers of one commit's build and notes them in the replay's table. `now` is its time."""

    def __init__(self, memory: Memory, files: GitFiles, stand_ins: LabStandIns, now: float) -> None:
        self._memory = memory
        self._files = files
        self._stand_ins = stand_ins
        self._now = now

    def layer(self, key: str, step: Step, execute: Callable[[], Layer]) -> Layer:
        """The layer of a step that would be executed."""
        memory = self._memory
        again = [key, memory.ordinal] if memory.output == "new" else [key]
        if isinstance(step, steps.RunStep):
            layer = layer_called("run", *again) if memory.output == "new" else layer_called("run")
            memory.layers.setdefault(layer.diff_id, LabLayer(layer))
            return layer
        if _takes_context(step):
            layer = layer_called("copy", key, int(self._now))
            memory.layers[layer.diff_id] = LabLayer(layer, self._files.bytes, self._maker(step, execute))
            return layer
        if not _fetches(step):
            try:
                return execute()
            except Unknown:
                pass
        layer = layer_called("step", *again)
        memory.layers[layer.diff_id] = LabLayer(layer, self._files.bytes)
        return layer

    def _maker(self, step: Step, execute: Callable[[], Layer]) -> Callable[[], Contents] | None:
        """What gives the files of a COPY from the context, when they are asked for."""
        if _fetches(step) or (isinstance(step, steps.CopyStep) and step.unpack):
            return None  # what is in an archive is not known

        def make() -> Contents:
            before, self._stand_ins.source = self._stand_ins.source, None
            try:
                return self._memory.layers[execute().diff_id].known()
            finally:
                self._stand_ins.source = before

        return make


def _takes_context(step: Step) -> bool:
    return (
        isinstance(step, steps.CopyStep)
        and isinstance(step.source, FromContext)
        and any(isinstance(item, steps.PathItem) for item in step.items)
    )


def _fetches(step: Step) -> bool:
    return isinstance(step, steps.CopyStep) and any(
        isinstance(item, steps.UrlItem | steps.GitItem) for item in step.items
    )
