"""Values of ``RUN --mount=`` and ``--device=``: comma-separated fields into frozen types.

A value is cut into fields first and each field's value is expanded after that, so that a comma inside a
variable is no separator.
"""

from __future__ import annotations

from collections.abc import Callable

from minibuild.dockerfile.csvline import split_fields
from minibuild.dockerfile.gopath import base, clean
from minibuild.dockerfile.gotext import boolean, number, quote
from minibuild.dockerfile.suggest import did_you_mean
from minibuild.dockerfile.units import parse_size
from minibuild.errors import DockerfileError, SourceRange
from minibuild.values import dataclass

MOUNT_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING_MODES = ("shared", "private", "locked")
_KEYS = (
    "type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid",
    "gid", "src", "dst", "destination", "ro", "rw", "readwrite", "env",
)  # fmt: skip
_MOST = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class BindMount:
    """Files of the build context, or of the stage or image `from_`. Writes, if allowed, are dropped."""

    target: str
    source: str = ""
    from_: str = ""
    readonly: bool = True


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A folder kept between builds under `id`, first filled from `source` of the stage or image `from_`.

    `mode`, `uid` and `gid` are None where not given: all three absent, the folder is left as it is.
    """

    target: str
    id: str
    source: str = ""
    from_: str = ""
    sharing: str = "shared"
    readonly: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """Memory, `size` bytes at most (0: no limit)."""

    target: str
    size: int = 0
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class SecretMount:
    """The secret `id` as the file `target` (empty: no file) and the variable `env` (empty: none)."""

    id: str
    target: str = ""
    env: str = ""
    required: bool = False
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class SshMount:
    """The socket of the agent `id` at `target` (empty: /run/buildkit/ssh_agent.N)."""

    id: str = "default"
    target: str = ""
    required: bool = False
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


@dataclass(frozen=True, slots=True)
class Device:
    """A device by its CDI name; a `required` one that is missing fails the step."""

    name: str
    required: bool = False


@dataclass(slots=True)
class _Fields:
    """What has been read so far. `type` decides what later fields mean, as they are read in order."""

    type: str = "bind"
    from_: str = ""
    source: str = ""
    target: str = ""
    id: str = ""
    sharing: str = ""
    readonly: bool | None = None
    required: bool = False
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None


def parse_mount(value: str, *, expand: Callable[[str], str] = str, where: SourceRange | None = None) -> Mount:
    """The mount that `value` asks for; `expand` replaces the variables in one field.

    Raises DockerfileError, placed at `where`.
    """
    try:
        return _typed(_read(value, expand))
    except DockerfileError as error:
        raise error.at(where) from None


def _read(value: str, expand: Callable[[str], str]) -> _Fields:
    fields = _Fields()
    for field in split_fields(value, "mounts"):
        key, equals, text = field.partition("=")
        if equals:
            _set(fields, key.lower(), expand(text), field)
        else:
            _set_alone(fields, key.lower(), field)
    _check(fields)
    return fields


def check_mount(value: str) -> str:
    """The stage or image a mount reads `from`, before expansion; checks what can be checked by then.

    Raises DockerfileError.
    """
    source = ""
    for field in split_fields(value, "mounts"):
        key, equals, text = field.partition("=")
        if equals and key.lower() == "from":
            if "$" in text[:-1]:
                raise DockerfileError(
                    "'from' doesn't support variable expansion, define alias stage instead",
                    cure="Add FROM $IMAGE AS NAME above, with a global ARG, and write from=NAME.",
                )
            source = text
    return source


def parse_device(value: str) -> Device:
    """The device that `value` asks for: ``NAME[,required]``. Raises DockerfileError."""
    name, required = "", False
    for field in split_fields(value, "devices"):
        key, equals, text = field.partition("=")
        key = key.lower()
        if key == "required":
            required = _boolean(key, text) if equals else True
        elif key == "name" and equals:
            if name:
                raise DockerfileError(f"device name already set to {name}", cure="Name one device a flag.")
            name = text
        elif not name:
            name = field
        elif not equals:
            raise DockerfileError(f"invalid field '{field}' must be a key=value pair", cure=_DEVICE_CURE)
        else:
            hint = did_you_mean(key, ("name", "required"))
            raise DockerfileError(f"unexpected key '{key}' in '{field}'{hint}", cure=_DEVICE_CURE)
    return Device(name, required)


_DEVICE_CURE = "Write --device=NAME or --device=NAME,required."


def _set_alone(fields: _Fields, key: str, field: str) -> None:
    if key in ("readonly", "ro"):
        fields.readonly = True
    elif key in ("readwrite", "rw"):
        fields.readonly = False
    elif key == "required":
        _wants(fields, key, "secret", "ssh")
        fields.required = True
    else:
        hint = did_you_mean(key, ("readonly", "readwrite", "required", "ro", "rw"))
        raise DockerfileError(
            f"invalid field '{field}' must be a key=value pair{hint}", cure="Write key=value."
        )


def _set(fields: _Fields, key: str, value: str, field: str) -> None:
    if key in ("source", "src"):
        fields.source = value
    elif key in ("target", "dst", "destination"):
        fields.target = value
    elif key == "from":
        fields.from_ = value
    elif key == "id":
        fields.id = value
    elif key == "env":
        fields.env = value
    elif key in ("readonly", "ro"):
        fields.readonly = _boolean(key, value)
    elif key in ("readwrite", "rw"):
        fields.readonly = not _boolean(key, value)
    elif key == "required":
        _wants(fields, key, "secret", "ssh")
        fields.required = _boolean(key, value)
    elif key == "type":
        fields.type = _choice("mount type", value, MOUNT_TYPES)
    elif key == "sharing":
        fields.sharing = _choice("sharing value", value, SHARING_MODES)
    elif key == "size":
        _wants(fields, key, "tmpfs")
        fields.size = parse_size(value)
    elif key == "mode":
        fields.mode = _number(key, value, 8)
    elif key == "uid":
        fields.uid = _number(key, value, 10)
    elif key == "gid":
        fields.gid = _number(key, value, 10)
    else:
        raise DockerfileError(
            f"unexpected key '{key}' in '{field}'{did_you_mean(key, _KEYS)}",
            cure=f"The keys are {', '.join(_KEYS)}.",
        )


def _wants(fields: _Fields, key: str, *types: str) -> None:
    if fields.type not in types:
        raise DockerfileError(
            f"unexpected key '{key}' for mount type '{fields.type}'",
            cure=f"{key} belongs to type={' and type='.join(types)}, and the type has to come first.",
        )


def _boolean(key: str, value: str) -> bool:
    found = boolean(value)
    if found is None:
        raise DockerfileError(f"invalid value for {key}: {value}", cure=f"Write {key}=true or {key}=false.")
    return found


def _choice(what: str, value: str, known: tuple[str, ...]) -> str:
    if value.lower() not in known:
        raise DockerfileError(
            f"unsupported {what} {quote(value)}{did_you_mean(value, known)}",
            cure=f"Choose one of {', '.join(known)}.",
        )
    return value.lower()


def _number(key: str, value: str, base: int) -> int:
    found = number(value, base=base, most=_MOST)
    if found is None:
        form = "an octal number such as 0755" if base == 8 else "a whole number"
        raise DockerfileError(f"invalid value {value} for {key}", cure=f"Write {form}.")
    return found


def _check(fields: _Fields) -> None:
    if fields.type in ("bind", "tmpfs"):
        for key, value in (("mode", fields.mode), ("uid", fields.uid), ("gid", fields.gid)):
            if value is not None:
                raise DockerfileError(
                    f'{key} not allowed for "{fields.type}" type mounts', cure=f"Remove {key}."
                )
    if fields.type == "secret":
        _check_secret(fields)
    if fields.type == "ssh" and fields.source:
        raise DockerfileError("ssh does not support source", cure="Name the agent with id=NAME.")
    if fields.sharing and fields.type != "cache":
        raise DockerfileError(f"invalid cache sharing set for {fields.type} mount", cure="Remove sharing.")


def _check_secret(fields: _Fields) -> None:
    if fields.from_:
        raise DockerfileError("secret mount should not have a from", cure="Remove from.")
    if fields.sharing:
        raise DockerfileError("secret mount should not define sharing", cure="Remove sharing.")
    if not (fields.source or fields.target or fields.id):
        raise DockerfileError(
            "invalid secret mount. one of source, target required", cure="Name the secret with id=NAME."
        )
    if fields.source and fields.id:
        raise DockerfileError("both source and id can't be set", cure="Keep id and remove source.")


def _typed(fields: _Fields) -> Mount:
    f = fields
    if f.type == "bind":
        return BindMount(f.target, f.source, f.from_, f.readonly is not False)
    if f.type == "cache":
        return CacheMount(
            f.target, f.id or clean(f.target), f.source, f.from_, f.sharing or "shared",
            f.readonly is True, f.mode, f.uid, f.gid,
        )  # fmt: skip
    if f.type == "tmpfs":
        return TmpfsMount(f.target, f.size, f.readonly is True)
    if f.type == "secret":
        return _secret(f)
    mode = 0o600 if f.mode is None else f.mode
    return SshMount(f.id or "default", f.target, f.required, mode, f.uid or 0, f.gid or 0)


def _secret(f: _Fields) -> SecretMount:
    identity = f.source or f.id or base(f.target)
    target, env = f.target, f.env
    if env is None and not target:
        target = "/run/secrets/" + base(identity)
    if env == "":
        env = identity
    mode = 0o400 if f.mode is None else f.mode
    return SecretMount(identity, target, env or "", f.required, mode, f.uid or 0, f.gid or 0)
