"""``--squash``: what a build adds to its base, or all of the image, as one layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store.blobs import BlobInfo

from minibuild.engine.filesystem import Filesystem, Layer
from minibuild.engine.lookup import Lookup
from minibuild.engine.session import Session
from minibuild.errors import SourceRange, UsageError
from minibuild.layers.merge import MergeLayer
from minibuild.oci.config import History, ImageConfig
from minibuild.oci.descriptor import Descriptor
from minibuild.plan import steps
from minibuild.plan.steps import FromImage, FromStage, Plan
from minibuild.values import replace

if TYPE_CHECKING:
    from minibuild.layers.index import LayerIndex
    from minibuild.layers.writer import LayerWriter

MODES = ("new", "all")


def check_mode(mode: str) -> None:
    """Raises `UsageError` for what is no way to squash."""
    if mode not in MODES:
        raise UsageError(f"--squash={mode} is none of {', '.join(MODES)}", cure="Write --squash for new.")


def squashed(
    session: Session, plan: Plan, config: ImageConfig, filesystem: Filesystem
) -> tuple[ImageConfig, Filesystem]:
    """The image with the layers since its base, or with all of its layers, as one.

    Every line of history stays; of those squashed only the last that made a layer still says so.
    """
    kept, lines = (0, 0) if session.request.squash == "all" else _of_base(plan)
    above = filesystem.layers[kept:]
    if len(above) < 2:
        return config, filesystem
    below = Filesystem()
    for layer in filesystem.layers[:kept]:
        below = below.extended(layer)
    one = _one(session, plan, below, filesystem)
    whole = below.extended(one)
    history = (*config.history[:lines], *_history(config.history[lines:]))
    diff_ids = tuple(layer.diff_id for layer in whole.layers)
    return replace(config, history=history, diff_ids=diff_ids), whole


def _of_base(plan: Plan) -> tuple[int, int]:
    """How many layers and lines of history come with the base image of the target."""
    base = plan.target.base
    while isinstance(base, FromStage):
        base = plan.stage(base.index).base
    if not isinstance(base, FromImage):
        return 0, 0
    return len(base.image.config.diff_ids), len(base.image.config.history)


def _history(lines: tuple[History, ...]) -> list[History]:
    last = max((number for number, line in enumerate(lines) if not line.empty_layer), default=-1)
    return [replace(line, empty_layer=number != last) for number, line in enumerate(lines)]


def _one(session: Session, plan: Plan, below: Filesystem, whole: Filesystem) -> Layer:
    """The layer between `below` and `whole`, made once and then found like a step's."""

    def write(writer: LayerWriter, spool: Path) -> None:
        from minibuild.layers.squash import squash

        base = session.layers.indexes(below.layers)
        squash(base, merge_layers(session, whole.layers[len(below.layers) :]), writer, spool)

    parts = {"kind": "squash", "base": below.chain, "layers": whole.chain}
    return layer_once(session, "[internal] squash", "squashing layers", parts, write)


def layer_once(
    session: Session,
    name: str,
    shown: str,
    parts: Mapping[str, str],
    write: Callable[[LayerWriter, Path], None],
) -> Layer:
    """The layer that `write` makes, written once and then found by `parts` like a step's.

    `name` is what the cache calls it, `shown` what progress does; `write` gets a path for a temporary file.
    """
    step = steps.CopyStep(
        name=name,
        instruction="",
        where=SourceRange("", 0, 0),
        source=steps.FromScratch(),
        items=(),
        dest="/",
    )
    epoch = {} if session.epoch is None else {"epoch": str(session.epoch)}  # later times are cut to it
    with session.step(shown) as running:
        outcome = Lookup(session).step(
            step, {**parts, **epoch}, partial(_written, session, write), running, None
        )
        running.cached = outcome.hit
        running.bytes = 0 if outcome.hit else outcome.record.layer.descriptor.size
    return outcome.record.layer


def merge_layers(
    session: Session, layers: Sequence[Layer], indexes: Sequence[LayerIndex] | None = None
) -> list[MergeLayer]:
    """`layers` to read files from, each fetched when it is; `indexes` are theirs, where they are at hand."""
    if indexes is None:
        indexes = session.layers.indexes(layers)
    return [
        MergeLayer(index, partial(session.layers.reading, layer), layer.descriptor.media_type)
        for layer, index in zip(layers, indexes, strict=True)
    ]


def _written(session: Session, write: Callable[[LayerWriter, Path], None]) -> Layer:
    from minibuild.layers.writer import LayerWriter

    clamp = None if session.epoch is None else session.epoch * 1_000_000_000
    with session.working(), ExitStack() as stack:
        folder = stack.enter_context(session.store.workspace())
        blob = stack.enter_context(session.store.blobs.writer())
        writer = stack.enter_context(LayerWriter(blob.fd, clamp_mtime_ns=clamp))
        write(writer, folder / "content")
        result = writer.close()
        blob.commit_hashed(BlobInfo(result.digest, result.size))
    session.layers.keep_index(result.diff_id, result.index)
    return Layer(result.diff_id, Descriptor(result.media_type, result.digest, result.size))
