"""``--cache-from`` and ``--cache-to`` of one build: what is read from shared caches, and written to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from minibuild.cache.backend import Backend, Services, Upload, backend_for
from minibuild.cache.document import ANNOTATION, CacheDocument, CachedStep, inline_document
from minibuild.cache.shared import SharedCaches
from minibuild.cache.spec import CacheSpec
from minibuild.engine.session import Session
from minibuild.errors import Cancelled, MinibuildError, OutputError
from minibuild.exporters.annotations import Annotation, Level
from minibuild.exporters.spec import OutputSpec
from minibuild.oci.descriptor import Descriptor
from minibuild.oci.reference import Reference
from minibuild.plan.steps import FromStage, Plan
from minibuild.registry.client import Registry
from minibuild.registry.options import HostOptions, RegistryOptions

if TYPE_CHECKING:
    from minibuild.cache.lastbuild import Files
    from minibuild.engine.mountexport import MountExport

_ATTEMPTS = 2


def use_shared(session: Session) -> None:
    """Begin to read every ``--cache-from`` of the request."""
    request = session.request
    sources = [(spec, services_for(request.registry, spec)) for spec in request.cache_from]
    session.shared = SharedCaches(sources, session.notice)
    session.layers.shared_note = session.shared.note


def services_for(options: RegistryOptions, spec: CacheSpec) -> Services:
    """Registries that give up soon: a cache is worth no long wait."""
    timeout = min(options.read_timeout, spec.timeout)
    quick = replace(
        options,
        attempts=_ATTEMPTS,
        connect_timeout=min(options.connect_timeout, spec.timeout),
        read_timeout=timeout,
        max_retry_after=timeout,
    )
    if spec.options.get("registry.insecure", "").lower() in ("1", "true"):
        name = Reference.parse(spec.options["ref"]).registry
        host = replace(quick.hosts.get(name, HostOptions()), insecure=True)
        quick = replace(quick, hosts={**quick.hosts, name: host})
    return Services(lambda: Registry(quick))


def with_inline(
    session: Session, plan: Plan, diff_ids: Sequence[str], outputs: Sequence[OutputSpec]
) -> tuple[OutputSpec, ...]:
    """`outputs`, annotated with the image's own steps where an inline cache was asked for."""
    asked = any(spec.kind == "inline" for spec in session.request.cache_to)
    if not asked and session.request.build_args.get("BUILDKIT_INLINE_CACHE") not in ("1", "true"):
        return tuple(outputs)
    text = inline_document(_document(session, plan, whole=False), diff_ids).decode()
    note = Annotation(Level.MANIFEST, ANNOTATION, text)
    return tuple(
        replace(spec, annotations=(*spec.annotations, note))
        if spec.kind in ("image", "oci", "docker") and spec.media_types == "oci"
        else spec
        for spec in outputs
    )


def export_caches(session: Session, plan: Plan) -> None:
    """Write every ``--cache-to``. One that cannot be written costs a warning, unless ignore-error=false."""
    with ExitStack() as stack:
        mounts = _mount_export(session, stack)
        _export_each(session, plan, mounts)


def _mount_export(session: Session, stack: ExitStack) -> MountExport | None:
    if not any(spec.mounts for spec in session.request.cache_to) or not session.cache_mounts:
        return None
    from minibuild.engine.mountexport import MountExport

    return MountExport(session, stack.enter_context(session.store.workspace()))


def _export_each(session: Session, plan: Plan, mounts: MountExport | None) -> None:
    for spec in session.request.cache_to:
        if spec.kind == "inline":
            continue
        try:
            with session.step(f"exporting cache to {spec.shown}"):
                _export(session, plan, spec, mounts if spec.mounts else None)
        except Cancelled:
            raise
        except Exception as error:  # a backend may be anybody's
            session.check()  # it may have put what stopped it in its own words
            text = error.message if isinstance(error, MinibuildError) else str(error)
            if not spec.ignore_error:
                raise OutputError(
                    f"cannot write cache {spec.shown}: {text}", cure="Leave ignore-error=false out to go on."
                ) from None
            session.notice("warning", f"cache {spec.shown} was not written: {text}")


def keep_checked(session: Session) -> None:
    """Let the store know the steps whose layers came from shared caches and were checked."""
    for key, record in session.from_shared.items():
        if record.layer in session.layers.checked and session.cache.get(key) is None:
            stamp = session.layers.stamp(record.layer.descriptor.digest)
            session.cache.put(key, record._replace(stamp=stamp))


def _export(session: Session, plan: Plan, spec: CacheSpec, mounts: MountExport | None) -> None:
    packed = [] if mounts is None else mounts.packed()
    document = _document(session, plan, whole=spec.mode == "max")._replace(
        mounts=tuple(one.mount for one in packed), build=_described(session) if spec.explain else ""
    )
    theirs = {one.upload.descriptor.digest: one.upload for one in packed}
    uploads = [
        theirs.get(descriptor.digest)
        or Upload(descriptor, _opener(session, descriptor), session.layers.origin(descriptor))
        for descriptor in document.layers()
    ]
    backend: Backend = backend_for(spec, services_for(session.request.registry, spec))
    try:
        saved = backend.save(document, uploads, session.pulled)
    finally:
        backend.close()
    session.said(f"{saved.sent} layers sent, {saved.present} were there")
    for one in packed:
        session.said(f"cache mount {one.mount.identity.shown}: {one.mount.layer.descriptor.size} bytes")


def _described(session: Session) -> str:
    """What this build's steps were made of; lists of files may come from the caches that were read."""
    from minibuild.cache.lastbuild import LARGEST, read_build, write_build
    from minibuild.cache.listings import files_of
    from minibuild.engine.explain import listings

    here = listings(session.store)
    earlier = read_build(session.shared.builds(), session.journal.place) if session.shared else None

    def listing(content: str) -> Files | None:
        found = here(content)
        if found is not None:
            return files_of(found, LARGEST // 8)  # a digest of each takes eight characters: more do not fit
        return None if earlier is None else earlier.listing(content)

    return write_build(session.journal, listing)


def _opener(session: Session, descriptor: Descriptor) -> Callable[[], IO[bytes]]:
    return lambda: session.layers.sound(descriptor).open("rb")  # who reads the cache would throw it away


def _document(session: Session, plan: Plan, *, whole: bool) -> CacheDocument:
    """The steps of this build with what they gave: those that the image is made of, or the `whole` build's.

    Of the others only the keys: with them an unchanged build executes nothing.
    """
    stages = _chain(plan)
    held: dict[str, CachedStep] = {}
    bare: dict[str, dict[str, CachedStep]] = {}
    for row in session.journal.steps:
        record = session.from_shared.get(row.key) or session.cache.get(row.key)
        if record is None:
            continue
        step = CachedStep(row.key, record.layer, record.created, record.seconds, row.name)
        if (whole or row.stage in stages) and session.layers.within_reach(record.layer.descriptor):
            held[row.key] = step
        else:
            bare.setdefault(row.stage, {})[row.key] = step
    without = tuple(tuple(steps.values()) for steps in bare.values())
    return CacheDocument(tuple(held.values()), dict(session.layers.notes), bare=without)


def _chain(plan: Plan) -> set[str]:
    """The target and the stages below it."""
    stage = plan.target
    names = {stage.name}
    while isinstance(stage.base, FromStage):
        stage = plan.stage(stage.base.index)
        names.add(stage.name)
    return names
