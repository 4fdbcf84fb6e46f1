"""Base images of a replay: resolved once where that is possible, else taken to be the same for ever."""

from __future__ import annotations

from minibuild.engine.bases import ImageBases
from minibuild.engine.filesystem import Layer
from minibuild.engine.images import LocalImages
from minibuild.engine.session import Session
from minibuild.errors import MinibuildError
from minibuild.lab.standin import layer_called
from minibuild.oci.config import ImageConfig
from minibuild.oci.image import ResolvedImage
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference


class LabBases(ImageBases):
    """As `ImageBases`; `notes` says of each image how it was found. With `offline` no registry is asked."""

    def __init__(self, session: Session, *, offline: bool) -> None:
        super().__init__(session)
        self.notes: dict[str, str] = {}
        self._local = LocalImages(session.store)
        self._offline = offline
        self._constant: dict[tuple[str, Platform], ResolvedImage] = {}

    def image(self, name: str, platform: Platform) -> ResolvedImage:
        constant = self._constant.get((name, platform))
        if constant is not None:
            return constant
        reference = Reference.parse(name)
        why = "no registry was asked"
        if not self._offline or self._local.find(reference, platform) is not None:
            try:
                found = super().image(name, platform)
            except MinibuildError as error:
                why = str(error).splitlines()[0]
            else:
                self.notes[name] = f"{name}: {found.digest} at every commit"
                return found
        self.notes[name] = f"{name}: the same image at every commit, known by its name alone ({why})"
        self._constant[name, platform] = made = _stand_in(str(reference), platform)
        return made


def _stand_in(name: str, platform: Platform) -> ResolvedImage:
    layer: Layer = layer_called("base", name, str(platform))
    config = ImageConfig(platform=platform, diff_ids=(layer.diff_id,))
    return ResolvedImage(name=name, digest=layer.diff_id, config=config, layers=(layer.descriptor,))
