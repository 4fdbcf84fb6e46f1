"""Images out of the layers of others, without a step that makes them: BuildKit's MergeOp and DiffOp.

A merge lays the layers of images upon one another, as they are: nothing is read, nothing fetched. Later
images win, and what a layer deletes is deleted in those below, also of other images. A difference is the
layers that one image has above another; where it is not built upon it, one new layer that makes the files of
the first those of the second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store.digest import Digest
from minibuild_store.store import Store

from minibuild.engine.bases import ImageBases
from minibuild.engine.export import export_all
from minibuild.engine.filesystem import Filesystem, Layer, image_filesystem
from minibuild.engine.layout_context import layout_image
from minibuild.engine.request import BuildRequest, platform_of
from minibuild.engine.session import Session
from minibuild.errors import UsageError
from minibuild.events import EventSink, silent
from minibuild.exporters.image import ExportResult
from minibuild.exporters.spec import OutputSpec, parse_output
from minibuild.exporters.target import check_outputs
from minibuild.oci.config import History, ImageConfig
from minibuild.oci.image import ResolvedImage
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.registry.options import RegistryOptions
from minibuild.values import dataclass, field, replace

if TYPE_CHECKING:
    from minibuild.layers.writer import LayerWriter

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeRequest:
    """What to put together. `images` are names, ``oci-layout://FOLDER[:TAG]``, ``./ARCHIVE`` of a
    layout or ``scratch``: for `merge` from below, for `diff_layers` the lower and the upper.

    `config_from` is the image, written like those, whose configuration the result has; by default the first
    of a merge, the upper of a difference. `pull` is one of `PULL_POLICIES`.
    """

    images: tuple[str, ...]
    config_from: str = ""
    tags: tuple[Reference, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    platform: Platform | None = None
    pull: str = "missing"
    registry: RegistryOptions = field(default_factory=RegistryOptions)

    @classmethod
    def of(
        cls,
        *images: str,
        config_from: str = "",
        tags: Iterable[str | Reference] = (),
        outputs: Iterable[str | OutputSpec] = (),
        platform: str | Platform | None = None,
    ) -> ComposeRequest:
        """A request from texts as the command line takes them. Raises `UsageError`."""
        return cls(
            images=images,
            config_from=config_from,
            tags=tuple(Reference.parse(tag) if isinstance(tag, str) else tag for tag in tags),
            outputs=tuple(parse_output(one) if isinstance(one, str) else one for one in outputs),
            platform=platform_of(platform) if isinstance(platform, str) else platform,
        )


@dataclass(frozen=True, slots=True)
class ComposeResult:
    """The image: its manifest's and configuration's digests, and what was exported.

    `layers` are the diff IDs, lowest first; `written` says whether the last of them had to be worked out.
    """

    manifest: Digest
    image_id: Digest
    config: ImageConfig
    layers: tuple[Digest, ...]
    written: bool
    exports: tuple[ExportResult, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """An image taken part in: its layers, its configuration, and what it was called."""

    name: str
    filesystem: Filesystem
    config: ImageConfig


def merge(
    request: ComposeRequest,
    *,
    store: Store,
    sink: EventSink = silent,
    cancel: threading.Event | None = None,
) -> ComposeResult:
    """Lay the layers of the images upon one another, the first lowest.

    No layer is fetched or read unless an output needs it, which a push to the registry that has them does
    not. Raises a `MinibuildError`.
    """
    with ExitStack() as stack:
        session, parts, chosen = _begin(stack, request, store, sink, cancel, at_least=1)
        chosen = parts[0] if chosen is None else chosen
        layers = [layer for part in parts for layer in part.filesystem.layers]
        history = [line for part in parts for line in _lines(part, 0, whole=part is chosen)]
        return _finish(session, chosen.config, layers, history, written=False)


def diff_layers(
    request: ComposeRequest,
    *,
    store: Store,
    sink: EventSink = silent,
    cancel: threading.Event | None = None,
) -> ComposeResult:
    """What the second image has over the first: merged onto the first it gives the second's files.

    Where the second is built upon the first these are its own layers, and nothing is fetched or read. Else
    one layer is written. Raises a `MinibuildError`.
    """
    with ExitStack() as stack:
        session, parts, chosen = _begin(stack, request, store, sink, cancel, at_least=2)
        if len(parts) != 2:
            raise UsageError(
                f"a difference is one of two images, and {len(parts)} are named",
                cure="Name the lower and the upper one.",
            )
        lower, upper = parts
        chosen = upper if chosen is None else chosen
        below = lower.filesystem.layers
        layers = upper.filesystem.layers
        if _ids(layers[: len(below)]) == _ids(below):
            history = _lines(upper, len(below), whole=chosen is upper)
            return _finish(session, chosen.config, layers[len(below) :], history, written=False)
        one = _difference(session, lower.filesystem, upper.filesystem)
        found = () if one is None else (one,)
        made = History(f"difference of {lower.name} and {upper.name}", upper.config.created, "minibuild")
        return _finish(session, chosen.config, found, [made] * len(found), written=bool(found))


def _begin(
    stack: ExitStack,
    request: ComposeRequest,
    store: Store,
    sink: EventSink,
    cancel: threading.Event | None,
    *,
    at_least: int,
) -> tuple[Session, list[_Part], _Part | None]:
    """The session, the images, and that whose configuration was asked for."""
    if len(request.images) < at_least:
        raise UsageError("no images are named", cure="Name what to put together, the lowest first.")
    check_outputs(request.outputs)
    build = BuildRequest(
        context=None,
        tags=request.tags,
        outputs=request.outputs,
        platform=request.platform,
        pull=request.pull,
        registry=request.registry,
    )
    session = stack.enter_context(Session(store, build, sink, cancel))
    bases = ImageBases(session)
    platform = request.platform or Platform.of_host()
    parts = [_part(session, bases, text, platform) for text in request.images]
    chosen = None
    if request.config_from:
        same = (part for part in parts if part.name == request.config_from)
        chosen = next(same, None) or _part(session, bases, request.config_from, platform)
    return session, parts, chosen


def _part(session: Session, bases: ImageBases, text: str, platform: Platform) -> _Part:
    if text == SCRATCH:
        return _Part(text, Filesystem(), ImageConfig(platform))
    image = _image(session, bases, text, platform)
    session.check()
    session.layers.know(image)
    have = image.config.platform
    if (have.os, have.architecture) != (platform.os, platform.architecture):
        raise UsageError(
            f"{text} is for {have}, and the others are for {platform}",
            cure="Put together images of one platform, and name that with --platform.",
        )
    return _Part(text, image_filesystem(image), image.config)


def _image(session: Session, bases: ImageBases, text: str, platform: Platform) -> ResolvedImage:
    if text.startswith("oci-layout://"):
        return layout_image(session.store, text.removeprefix("oci-layout://"), platform)
    if text.startswith(("/", "./", "../")):
        return _archive(session, Path(text), platform)
    return bases.image(text.removeprefix("docker-image://"), platform)


def _archive(session: Session, path: Path, platform: Platform) -> ResolvedImage:
    from minibuild.engine.load import opened_layout

    if not path.is_file():
        raise UsageError(
            f"{path} {'is no archive of an image' if path.exists() else 'does not exist'}",
            cure="Write oci-layout:// before a layout's folder; names begin with no slash or dot.",
        )
    with session.step(f"reading {path}"), opened_layout(session.store, path) as folder:
        if not (folder / "oci-layout").is_file():
            raise UsageError(
                f"{path} holds no OCI layout", cure="minibuild load reads what docker has saved."
            )
        return layout_image(session.store, str(folder), platform)


def _lines(part: _Part, first: int, *, whole: bool) -> list[History]:
    """The lines of history of a part's layers from number `first` on; with `whole` those of no layer too."""
    count = len(part.filesystem.layers)
    lines = part.config.history
    if sum(not line.empty_layer for line in lines) != count:  # some builders write none, or not all
        return [History(comment=f"from {part.name}")] * (count - first)
    found = []
    passed = 0
    for line in lines:
        if passed >= first and (whole or not line.empty_layer):
            found.append(line)
        passed += not line.empty_layer
    return found


def _ids(layers: Sequence[Layer]) -> list[Digest]:
    return [layer.diff_id for layer in layers]


def _finish(
    session: Session,
    config: ImageConfig,
    layers: Sequence[Layer],
    history: Sequence[History],
    *,
    written: bool,
) -> ComposeResult:
    filesystem = Filesystem()
    for layer in layers:
        filesystem = filesystem.extended(layer)
    ids = tuple(_ids(filesystem.layers))
    config = replace(config, diff_ids=ids, history=tuple(history))
    manifest, image_id, exports = export_all(session, config, filesystem, session.request.outputs)
    return ComposeResult(manifest, image_id, config, ids, written, exports)


def _difference(session: Session, lower: Filesystem, upper: Filesystem) -> Layer | None:
    """The layer that makes `upper` of `lower`, made once; None where they are the same."""
    from minibuild.engine.contentdiff import Contents, Two
    from minibuild.engine.squash import layer_once, merge_layers
    from minibuild.layers.difference import complete, unlike, write_difference
    from minibuild.layers.squash import gone

    def write(writer: LayerWriter, spool: Path) -> None:
        contents = Contents(session.layers, lower, upper)
        two = Two.of(contents)
        doubtful = (
            (path, was, now)
            for path, was, now in two.both()
            if contents.unsure(was, now) and was.entry.mtime_ns == now.entry.mtime_ns
        )
        changed = contents.rewritten(doubtful)
        changed.update(unlike(two.was, two.now))
        complete(changed, two.was, two.now)
        deleted = list(gone(two.was, two.now))
        above = two.now
        del two, doubtful  # the lower one is not needed any more
        sources = merge_layers(session, upper.layers, above.indexes)
        write_difference(above, sources, changed, deleted, writer, spool)

    parts = {"kind": "difference", "lower": lower.chain, "upper": upper.chain}
    layer = layer_once(session, "[internal] difference", "writing the difference", parts, write)
    return layer if session.layers.index(layer).entries else None
