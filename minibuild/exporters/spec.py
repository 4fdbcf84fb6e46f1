"""The value of ``-o``/``--output``: ``type=oci,dest=image.tar,compression=gzip`` and its short forms.

Types and keys are those of BuildKit and buildx. Keys that BuildKit has and that can mean nothing
here (there is no runtime to unpack into, no attestation to inline) are taken and have no effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, cast

from minibuild.errors import UsageError
from minibuild.exporters.csvline import fields
from minibuild.oci.reference import Reference
from minibuild.values import dataclass, field

if TYPE_CHECKING:
    from minibuild.exporters.annotations import Annotation
    from minibuild.exporters.exporter import Exporter, Factory
    from minibuild.layers.compress import Compression

OutputKind = Literal["oci", "docker", "local", "tar", "image", "cacheonly"]

_IMAGE_KEYS = (
    "name",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "source-date-epoch",
    "rewrite-timestamp",
)
_NO_EFFECT = ("attestation-inline", "attestation-prefix", "oci-artifact", "prefer-nondist-layers", "unpack")
_ROOTFS_KEYS = ("dest", "platform-split", "source-date-epoch")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "oci": ("dest", "tar", *_IMAGE_KEYS),
    "docker": ("dest", "tar", *_IMAGE_KEYS),
    "image": (
        "push",
        "push-by-digest",
        "registry.insecure",
        "store",
        "dangling-name-prefix",
        "danging-name-empty-only",  # sic, in BuildKit
        "name-canonical",
        *_IMAGE_KEYS,
    ),
    "local": (*_ROOTFS_KEYS, "mode"),
    "tar": _ROOTFS_KEYS,
    "cacheonly": (),
}
_KINDS = (*_KEYS, "registry")
_TRUE = ("", "1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_MEANT = {
    "output": "dest",
    "destination": "dest",
    "path": "dest",
    "tag": "name",
    "level": "compression-level",
}


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One output that was asked for.

    `dest` is a path, ``-`` for standard output, or empty where the kind has none. `tar` is False
    for an OCI layout as a folder. `compression` is None where layers are written as they are held.
    `oci_mediatypes` is None for the kind's own default: Docker's names for ``docker``, else OCI's.
    `platform_split` is None for a folder a platform only where there are several. `exporter` writes the
    output where `kind` is not built in.
    """

    kind: str
    dest: str = ""
    tar: bool = True
    names: tuple[Reference, ...] = ()
    push: bool = False
    push_by_digest: bool = False
    insecure: bool = False
    store: bool = True
    dangling_prefix: str = ""
    dangling_only_unnamed: bool = False
    name_canonical: bool = False
    compression: Compression | None = None
    force_compression: bool = False
    oci_mediatypes: bool | None = None
    annotations: tuple[Annotation, ...] = ()
    source_date_epoch: int | None = None
    rewrite_timestamp: bool = False
    platform_split: bool | None = None
    delete: bool = False
    exporter: Exporter | None = field(default=None, compare=False)

    @property
    def media_types(self) -> Literal["oci", "docker"]:
        if self.oci_mediatypes is None:
            return "docker" if self.kind == "docker" else "oci"
        return "oci" if self.oci_mediatypes else "docker"


def parse_output(text: str) -> OutputSpec:
    """Read one ``-o`` value; raises `UsageError`.

    ``-o DIR`` is ``type=local,dest=DIR`` and ``-o -`` is ``type=tar,dest=-``, as for docker.
    """
    if not text:
        raise UsageError("an output is empty", cure="Say -o DIR, or -o type=oci,dest=FILE.")
    if text == "-":
        return OutputSpec("tar", dest="-")
    if _is_path(text):
        return OutputSpec("local", dest=text)
    options, annotations = _split(text)
    named_kind = options.pop("type", "")
    exporter = _installed(named_kind, options)
    if exporter is not None:
        return OutputSpec(named_kind, exporter=exporter, annotations=annotations)
    kind = _kind(named_kind, text)
    _check_keys(kind, options, annotations, text)
    spec = _spec(kind, _Options(options, text), annotations, pushes=named_kind == "registry")
    _check(spec, text)
    return spec


def _spec(
    kind: OutputKind, options: _Options, annotations: tuple[Annotation, ...], *, pushes: bool
) -> OutputSpec:
    return OutputSpec(
        kind,
        dest=options.text("dest"),
        tar=options.flag("tar", True),
        names=options.names(),
        push=options.flag("push", pushes),
        push_by_digest=options.flag("push-by-digest", False),
        insecure=options.flag("registry.insecure", False),
        store=options.flag("store", True),
        dangling_prefix=options.text("dangling-name-prefix"),
        dangling_only_unnamed=options.flag("danging-name-empty-only", False),
        name_canonical=options.flag("name-canonical", False),
        compression=options.compression("gzip" if kind == "docker" else "zstd"),
        force_compression=options.flag("force-compression", False),
        oci_mediatypes=options.optional_flag("oci-mediatypes"),
        annotations=annotations,
        source_date_epoch=options.number("source-date-epoch"),
        rewrite_timestamp=options.flag("rewrite-timestamp", False),
        platform_split=options.optional_flag("platform-split"),
        delete=options.choice("mode", ("copy", "delete")) == "delete",
    )


def _is_path(text: str) -> bool:
    if "," in text or '"' in text:
        return False
    # a lone `dest=x` or `tpye=oci` is a slip, not a folder of that name
    key, equals, _ = text.partition("=")
    return not equals or not (key.lower() in _every_key() or _near(key.lower(), ("type",)))


def _every_key() -> set[str]:
    return {"type", *_NO_EFFECT, *_MEANT}.union(*_KEYS.values())


def _split(text: str) -> tuple[dict[str, str], tuple[Annotation, ...]]:
    values: dict[str, str] = {}
    annotations: list[Annotation] = []
    for pair in fields(text, "output"):
        name, equals, value = pair.partition("=")
        name = name.strip()
        if not equals:
            known = name.lower() in _every_key()
            raise UsageError(
                f"output {text!r}: {pair!r} is not KEY=VALUE",
                cure=f"Write {name}=true or another value."
                if known
                else "Separate KEY=VALUE pairs with commas.",
            )
        annotation = _annotation(name, value)
        if annotation is None:
            values[name.lower()] = value
        else:
            annotations.append(annotation)
    return values, tuple(annotations)


def _annotation(name: str, value: str) -> Annotation | None:
    if not name.lower().startswith("annotation"):
        return None
    from minibuild.exporters.annotations import parse_annotation

    return parse_annotation(name, value)


def _installed(kind: str, options: Mapping[str, str]) -> Exporter | None:
    """The exporter that another package brings for `kind`."""
    if not kind or kind in _KINDS:
        return None
    from minibuild.entrypoints import EXPORTERS, load

    factory: Factory | None = load(EXPORTERS, kind)
    return None if factory is None else factory(options)


def _kind(value: str, text: str) -> OutputKind:
    if value == "registry":
        return "image"
    if value in _KEYS:
        return cast(OutputKind, value)
    if not value:
        raise UsageError(f"output {text!r} says no type", cure=f"Add type=, one of {', '.join(_KINDS)}.")
    from minibuild.entrypoints import EXPORTERS, installed

    known = (*_KINDS, *installed(EXPORTERS))
    near = _near(value.lower(), known)
    raise UsageError(
        f"output {text!r}: there is no type {value!r}",
        cure=f"Did you mean type={near}?" if near else f"The types are {', '.join(known)}.",
    )


def _check_keys(
    kind: OutputKind, options: Mapping[str, str], annotations: tuple[Annotation, ...], text: str
) -> None:
    if annotations and "name" not in _KEYS[kind]:
        raise UsageError(f"output {text!r}: type={kind} is no image and has no annotations")
    for key in options:
        if key in _KEYS[kind] or key in _NO_EFFECT:
            continue
        if key in _every_key() - set(_MEANT):
            raise UsageError(
                f"output {text!r}: type={kind} has no option {key!r}",
                cure=f"Leave it out; its options are {', '.join(_KEYS[kind]) or 'none'}.",
            )
        near = _MEANT.get(key) or _near(key, (*_KEYS[kind], "type"))
        raise UsageError(
            f"output {text!r}: there is no option {key!r}",
            cure=f"Did you mean {near}=?"
            if near
            else f"The options of type={kind} are {', '.join(_KEYS[kind]) or 'none'}.",
        )


def _near(word: str, choices: Iterable[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(word, list(choices), 1, 0.7)), "")


def _check(spec: OutputSpec, text: str) -> None:
    folder = spec.kind == "local" or not spec.tar
    if not spec.dest and spec.kind in ("local", "tar", "oci", "docker"):
        what = "folder" if folder else "file (or - for standard output)"
        raise UsageError(f"output {text!r} says no dest", cure=f"Name the {what} to write with dest=.")
    if spec.dest == "-" and folder:
        raise UsageError(
            f"output {text!r}: a folder cannot be written to standard output",
            cure="Name a folder with dest=, or use type=tar or type=oci.",
        )
    if spec.media_types == "docker" and spec.compression and spec.compression.algorithm == "zstd":
        raise UsageError(
            f"output {text!r}: Docker media types have no name for zstd layers",
            cure="Use compression=gzip, or oci-mediatypes=true.",
        )
    if spec.push_by_digest and not (spec.push and spec.names):
        raise UsageError(
            f"output {text!r}: push-by-digest needs to know where to push",
            cure="Add push=true and name=REPOSITORY.",
        )


class _Options:
    """The values of one output, read as what they should be; each reader raises `UsageError`."""

    def __init__(self, values: Mapping[str, str], source: str) -> None:
        self._values = values
        self._source = source

    def text(self, key: str) -> str:
        return self._values.get(key, "")

    def optional_flag(self, key: str) -> bool | None:
        value = self._values.get(key)
        if value is None:
            return None
        if value in _TRUE or value in _FALSE:
            return value in _TRUE
        raise self._wrong(key, "Say true or false.")

    def flag(self, key: str, default: bool) -> bool:
        value = self.optional_flag(key)
        return default if value is None else value

    def number(self, key: str) -> int | None:
        value = self.text(key)
        if value and not (value.isascii() and value.isdigit()):
            raise self._wrong(key, "Give a whole number, 0 or more.")
        return int(value) if value else None

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key) or choices[0]
        if value not in choices:
            raise self._wrong(key, f"Say {' or '.join(choices)}.")
        return value

    def names(self) -> tuple[Reference, ...]:
        names = [name.strip() for name in self.text("name").split(",")]
        return tuple(dict.fromkeys(Reference.parse(name) for name in names if name))

    def compression(self, default: str) -> Compression | None:
        algorithm, level = self.text("compression"), self.text("compression-level")
        if not algorithm and not level:
            return None
        from minibuild.layers.compress import Compression

        return Compression.parse(algorithm or default, level or None)

    def _wrong(self, key: str, cure: str) -> UsageError:
        return UsageError(f"output {self._source!r}: {key} cannot be {self._values[key]!r}", cure=cure)
