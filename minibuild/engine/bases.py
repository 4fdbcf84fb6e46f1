"""Base images by name: from this machine's own images, else pinned at their registry."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from minibuild_store.digest import Digest
from minibuild_store.errors import StoreError

from minibuild.engine.address import is_remote
from minibuild.engine.filesystem import Filesystem
from minibuild.engine.images import LocalImages
from minibuild.engine.request import PULL_POLICIES
from minibuild.engine.session import Session
from minibuild.errors import UsageError
from minibuild.oci.config import ImageConfig
from minibuild.oci.image import ResolvedImage
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference
from minibuild.plan.steps import FromContext, FromImage, GitItem, Source, UrlItem

if TYPE_CHECKING:
    from minibuild.dockerfile.ignorefile import IgnoreFile
    from minibuild.engine.remote_context import Remote


class ImageBases:
    """Resolves names once a build; used by the lowering (`plan.lower.Bases`)."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._images = LocalImages(session.store)
        self._known: dict[tuple[str, Platform], ResolvedImage] = {}
        self._layouts: dict[tuple[str, Platform], ResolvedImage] = {}
        self._mutex = threading.Lock()
        if session.request.pull not in PULL_POLICIES:
            raise UsageError(
                f"--pull={session.request.pull} is none of {', '.join(PULL_POLICIES)}",
                cure="Leave it out to ask a registry only for images that are not here.",
            )
        self._opened: dict[str, Remote] = {}
        self._contexts = {name.lower(): value for name, value in session.request.contexts.items()}

    def image(self, name: str, platform: Platform) -> ResolvedImage:
        with self._mutex:
            found = self._known.get((name, platform))
            if found is None:
                found = self._resolve(name, platform)
                self._session.layers.know(found)
                self._known[name, platform] = found
            return found

    def asked(self, image: ResolvedImage, name: str = "") -> Platform | None:
        """The platform that `image` was asked for, by `name` where that is given; None where it was not."""
        with self._mutex:
            for (known_name, platform), known in self._known.items():
                if known is image and name in ("", known_name):
                    return platform
        return None

    def _resolve(self, name: str, platform: Platform) -> ResolvedImage:
        reference = Reference.parse(name)
        policy = self._session.request.pull
        pinned = reference.digest is not None  # no registry has anything newer under a digest
        local = self._images.find(reference, platform) if pinned or policy != "always" else None
        if local is not None and (pinned or policy != "newer"):
            return local
        if policy == "never":
            raise UsageError(
                f"no image {reference.familiar} here for {platform}, and --pull=never asks no registry",
                cure=f"Fetch it with minibuild pull {reference.familiar}, or build without --pull=never.",
            )
        return self._ask(reference, platform, local)

    def _ask(self, reference: Reference, platform: Platform, local: ResolvedImage | None) -> ResolvedImage:
        """The image that its registry has now; `local` where that is the same, or no registry gives one."""
        with self._session.step(f"[internal] load metadata for {reference}") as running:
            registry = self._session.registry()
            from minibuild.registry.errors import RegistryError

            try:
                # of a name that is new here a look at what it stands for would be one request more
                known = self._document if self._images.find(reference, platform) is not None else None
                resolved = registry.resolve(reference, platform, known=known)
            except RegistryError as error:
                if local is None:
                    raise
                self._session.notice("warning", f"{error.message}; building on the {reference.familiar} here")
                return local
            if local is not None and local.digest == resolved.manifest.digest:
                return local
            config = ImageConfig.parse(resolved.config_bytes)
            image = ResolvedImage(
                name=str(reference),
                digest=resolved.manifest.digest,
                config=config,
                layers=resolved.manifest.layers,
                origin=resolved.source,
            )
            self._images.remember(reference, platform, image, resolved.manifest_bytes, resolved.config_bytes)
            running.cached = False
            return image

    def _document(self, digest: Digest) -> bytes | None:
        """A manifest or configuration that was had, or made, before."""
        try:
            return self._session.store.blobs.get(digest)
        except StoreError:
            return None

    def _given(self, name: str) -> str | None:
        """What the context `name` is, as the caller wrote it."""
        value = self._contexts.get(name.lower())
        if value is None and ":" not in name.rpartition("/")[2] and "@" not in name:
            value = self._contexts.get(f"{name.lower()}:latest")
        return value

    def has_context(self, name: str) -> bool:
        return self._given(name) is not None

    def context_time(self, name: str, platform: Platform) -> int | None:
        self.named_context(name, platform)
        opened = self._opened.get(name.lower())
        return None if opened is None else opened.modified

    def time_of(self, item: UrlItem | GitItem) -> int | None:
        from minibuild.engine.remote_context import time_of

        return time_of(self._session, item)

    def named_context(self, name: str, platform: Platform) -> Source | None:
        value = self._given(name)
        if value is None:
            return None
        if value.startswith("docker-image://"):
            return FromImage(self.image(value.removeprefix("docker-image://"), platform))
        if value.startswith("oci-layout://"):
            return FromImage(self._layout(value, platform))
        if value.startswith("file://") or not Path(value).is_dir():
            self._open(name.lower(), value)
        return FromContext(name.lower())

    def _layout(self, value: str, platform: Platform) -> ResolvedImage:
        """The image of an ``oci-layout://`` address, looked up once."""
        from minibuild.engine.layout_context import layout_image

        with self._mutex:
            found = self._layouts.get((value, platform))
            if found is None:
                found = layout_image(self._session.store, value.removeprefix("oci-layout://"), platform)
                self._layouts[value, platform] = found
            return found

    def _open(self, name: str, value: str) -> None:
        """Fetch the context `name` unless that is done. Raises `UsageError` where it is nothing to fetch."""
        from minibuild.engine.remote_context import open_archive, open_named

        with self._mutex:
            path = Path(value.removeprefix("file://"))
            if name in self._opened:
                return
            if is_remote(value):
                self._opened[name] = open_named(self._session, name, value)
            elif path.is_file():
                self._opened[name] = open_archive(self._session, path, value)
            elif not path.is_dir():
                raise UsageError(
                    f"--build-context {name}={value}: no such folder",
                    cure="Name a folder, an archive, docker-image://, oci-layout:// or an address.",
                )

    def context_folder(self, name: str) -> tuple[Path, IgnoreFile | None]:
        """The folder behind the context `name`, with its own ignore file where it is the user's folder."""
        opened = self._opened.get(name)
        if opened is not None and opened.folder is not None:
            return opened.folder, None
        value = self._contexts.get(name) or self._contexts[f"{name}:latest"]
        folder = Path(value.removeprefix("file://"))
        try:
            text = (folder / ".dockerignore").read_bytes()
        except OSError:
            return folder, None
        from minibuild.dockerfile.ignorefile import IgnoreFile

        return folder, IgnoreFile.parse(text, ".dockerignore")

    def context_tree(self, name: str) -> Filesystem | None:
        """The layers behind the context `name`, where it was no folder."""
        opened = self._opened.get(name)
        return None if opened is None else opened.tree
