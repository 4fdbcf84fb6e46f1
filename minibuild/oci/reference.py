"""Image names: ``[registry/]repository[:tag][@digest]`` (distribution's reference grammar)."""

from __future__ import annotations

import re

from minibuild_store.digest import Digest
from minibuild_store.errors import InvalidDigest

from minibuild.errors import UsageError
from minibuild.values import dataclass, replace

DEFAULT_REGISTRY = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"{_COMPONENT}(?:/{_COMPONENT})*\Z"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z"
_IMAGE_ID = r"[0-9a-f]{64}\Z"
_LONGEST = 255
_REGISTRY = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?\Z"


@dataclass(frozen=True, slots=True)
class Reference:
    """A name with its registry spelled out; `tag` is empty only where there is a `digest`."""

    registry: str
    repository: str
    tag: str = "latest"
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a name as Docker does (``x`` is ``docker.io/library/x:latest``); raises `UsageError`."""
        rest, at, digest_text = text.partition("@")
        try:
            digest = Digest.parse(digest_text) if at else None
        except InvalidDigest as error:
            raise _invalid(text, str(error)) from None
        first, slash, remainder = rest.partition("/")
        if slash and (first == "localhost" or "." in first or ":" in first or first.lower() != first):
            registry, path = first, remainder
        else:
            registry, path = DEFAULT_REGISTRY, rest
        repository, colon, tag = path.partition(":")
        if registry == "index.docker.io":
            registry = DEFAULT_REGISTRY
        if registry == DEFAULT_REGISTRY and "/" not in repository:
            repository = f"library/{repository}"
        if not re.match(_REGISTRY, registry):
            raise _invalid(text, f"{registry!r} is not a registry host")
        if not re.match(_REPOSITORY, repository) or repository == "library/":
            hint = " (repository names are lower case)" if repository.lower() != repository else ""
            raise _invalid(text, f"{repository.removeprefix('library/')!r} is not a repository name{hint}")
        if len(repository) > _LONGEST:
            raise _invalid(text, f"the repository name is longer than {_LONGEST} characters")
        if not slash and not colon and digest is None and re.match(_IMAGE_ID, rest):
            raise _invalid(text, "64 hex digits are the ID of an image and not a name")
        if colon and not re.match(_TAG, tag):
            raise _invalid(text, f"{tag!r} is not a tag")
        if not tag and digest is None:
            tag = "latest"
        return cls(registry, repository, tag, digest)

    def with_digest(self, digest: Digest) -> Reference:
        return replace(self, digest=digest)

    @property
    def target(self) -> str:
        """What names the manifest in a request: the digest, else the tag."""
        return self.digest or self.tag

    @property
    def familiar(self) -> str:
        """As people write it: ``docker.io/library/`` left out."""
        text = str(self)
        return text.removeprefix("docker.io/library/").removeprefix("docker.io/")

    def __str__(self) -> str:
        text = f"{self.registry}/{self.repository}"
        if self.tag:
            text += f":{self.tag}"
        if self.digest:
            text += f"@{self.digest}"
        return text


def _invalid(text: str, why: str) -> UsageError:
    return UsageError(
        f"invalid image name {text!r}: {why}",
        cure="Write it as [registry/]repository[:tag][@digest], for example registry.example/team/app:1.0.",
    )
