"""Data classes that cost little to define.

`dataclasses` compiles half a dozen methods for every class, half a millisecond each: for the hundred
classes of a build, more than everything else that is loaded. Here the methods are shared and read the
class's own table of fields; only ``__init__`` is compiled, once a class has had so many instances that it
pays. What can be written is the part of `dataclasses` that this program uses, under the same names, and
`dataclasses.fields`, `replace` and `is_dataclass` take the instances for what they are.

Named tuples of the same kind are the store's (`minibuild_store.tuples`).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar, cast, dataclass_transform, overload

from minibuild_store.tuples import WORTH_COMPILING
from minibuild_store.tuples import NamedTuple as NamedTuple
from minibuild_store.tuples import maker as maker

_T = TypeVar("_T")
_MISSING: Any = object()


class FrozenInstanceError(AttributeError):
    """An attribute of a frozen instance was set or deleted."""


class _Field:
    """What is known of a field; a plain class, as there is one for every default of every class."""

    __slots__ = ("compare", "default", "factory", "kw_only", "repr")

    def __init__(
        self, default: Any, factory: Any = _MISSING, compare: bool = True, repr: bool = True, *, kw_only: bool
    ) -> None:
        self.default, self.factory = default, factory
        self.compare, self.repr, self.kw_only = compare, repr, kw_only


@overload
def field(*, default: _T, compare: bool = True, repr: bool = True) -> _T: ...
@overload
def field(*, default_factory: Callable[[], _T], compare: bool = True, repr: bool = True) -> _T: ...
@overload
def field(*, compare: bool = True, repr: bool = True) -> Any: ...
def field(
    *, default: Any = _MISSING, default_factory: Any = _MISSING, compare: bool = True, repr: bool = True
) -> Any:
    """As `dataclasses.field`."""
    return _Field(default, default_factory, compare, repr, kw_only=False)


@dataclass_transform(field_specifiers=(field,))
def dataclass(
    *, frozen: bool = False, slots: bool = False, kw_only: bool = False
) -> Callable[[type[_T]], type[_T]]:
    """As `dataclasses.dataclass`, for classes with slots."""
    assert slots, "give slots=True: other classes are not made here"

    def made(cls: type[_T]) -> type[_T]:
        return _made(cls, frozen, kw_only)

    return made


def replace(instance: _T, /, **changes: Any) -> _T:
    """As `dataclasses.replace`."""
    kind = cast(Any, type(instance))
    for name in kind.__fields__:
        if name not in changes:
            changes[name] = getattr(instance, name)
    return cast(_T, kind(**changes))


def asdict(instance: object) -> dict[str, Any]:
    """The fields by name; values are left as they are."""
    return {name: getattr(instance, name) for name in cast(Any, type(instance)).__fields__}


def _made(cls: type[_T], frozen: bool, kw_only: bool) -> type[_T]:
    own: dict[str, _Field] = {}
    members = dict(cls.__dict__)
    plain = _Field(_MISSING, kw_only=kw_only)
    for name, annotation in members.get("__annotations__", {}).items():
        if str(annotation).startswith("ClassVar"):
            continue
        default = members.pop(name, _MISSING)
        if default is _MISSING:
            own[name] = plain
        elif isinstance(default, _Field):
            own[name] = default
            default.kw_only = kw_only
        else:
            own[name] = _Field(default, kw_only=kw_only)
    fields: dict[str, _Field] = {}
    for base in reversed(cls.__mro__[1:-1]):
        fields.update(base.__dict__.get("__fields__", {}))
    fields.update(own)
    for name in ("__dict__", "__weakref__"):
        members.pop(name, None)
    compared = [name for name, one in fields.items() if one.compare]
    members["__qualname__"] = cls.__qualname__
    members["__slots__"] = tuple(own)
    members["__fields__"] = fields
    members["__dataclass_fields__"] = _DESCRIBED
    members["__match_args__"] = tuple([name for name, one in fields.items() if not one.kw_only])
    # the values that two instances are compared by, in one call
    members["__compared__"] = attrgetter(*compared) if compared else type
    members["__init__"] = _first_init(fields, members["__match_args__"])
    members.setdefault("__repr__", _repr)
    members.setdefault("__eq__", _eq)
    if frozen:
        members.setdefault("__hash__", _hash)
        members["__setattr__"] = members["__delattr__"] = _refuse
        members["__setstate__"] = _set_state
    kind: Any = type(cls)
    return cast("type[_T]", kind(cls.__name__, cls.__bases__, members))


def _first_init(fields: dict[str, _Field], places: tuple[str, ...]) -> Any:
    """The ``__init__`` of a class until it is worth compiling, or a call is wrong and has to be refused."""
    left = WORTH_COMPILING

    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
        nonlocal left
        left -= 1
        named = {**dict(zip(places, args, strict=False)), **kwargs}
        if left >= 0 and len(named) == len(args) + len(kwargs) and named.keys() <= fields.keys():
            for name, one in fields.items():
                value = named.get(name, one.default)
                if value is _MISSING and one.factory is not _MISSING:
                    value = one.factory()
                if value is _MISSING:
                    break
                object.__setattr__(self, name, value)
            else:
                return
        # by its fields, as another thread may have compiled it meanwhile
        kind: Any = next(cls for cls in type(self).__mro__ if cls.__dict__.get("__fields__") is fields)
        kind.__init__ = made = _compiled_init(kind)
        made(self, *args, **kwargs)

    return __init__


def _compiled_init(kind: Any) -> Any:
    fields: dict[str, _Field] = kind.__fields__
    scope: dict[str, Any] = {"missing": _MISSING}
    parameters = {False: ["self"], True: ["*"]}
    body = []
    for name, one in fields.items():
        # a slot's own setter: quicker than object.__setattr__, and a frozen class lets it pass
        scope[f"set_{name}"] = getattr(kind, name).__set__
        value = name
        if one.factory is not _MISSING:
            scope[f"make_{name}"] = one.factory
            value = f"make_{name}() if {name} is missing else {name}"
        default = ""
        if one.default is not _MISSING or one.factory is not _MISSING:
            scope[f"default_{name}"] = one.default
            default = f"=default_{name}"
        parameters[one.kw_only].append(name + default)
        body.append(f" set_{name}(self, {value})")
    keywords = parameters[True] if len(parameters[True]) > 1 else []
    header = f"def __init__({', '.join(parameters[False] + keywords)}):"
    exec("\n".join([header, *body, " return None"]), scope)
    made = scope["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    return made


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    values = self.__compared__
    return values(self) == values(other)


def _hash(self: Any) -> int:
    return hash(self.__compared__(self))


def _repr(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name, one in self.__fields__.items() if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse(self: object, name: str, *_: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r} of {type(self).__name__}")


def _set_state(self: Any, state: tuple[None, dict[str, Any]]) -> None:
    """For `copy` and `pickle`, which would set attributes."""
    for name, value in state[1].items():
        getattr(type(self), name).__set__(self, value)


class _Described:
    """The fields as `dataclasses` describes them, made when that module asks."""

    def __get__(self, instance: object, owner: Any) -> Any:
        import dataclasses

        described = []
        for name, one in owner.__fields__.items():
            options = {"compare": one.compare, "repr": one.repr, "kw_only": one.kw_only}
            if one.factory is not _MISSING:
                options["default_factory"] = one.factory
            elif one.default is not _MISSING:
                options["default"] = one.default
            described.append((name, Any, dataclasses.field(**options)))
        twin: Any = dataclasses.make_dataclass(owner.__name__, described)
        return twin.__dataclass_fields__


_DESCRIBED = _Described()
