"""Named tuples that cost little to define.

`typing.NamedTuple` compiles a constructor for every class and the annotation of every field: a fifth of a
millisecond a class. Here the methods are shared, annotations stay text, and a constructor is compiled only
for a class of which many instances are made. What can be written is the class form; the classes are
otherwise the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

_T = TypeVar("_T", bound="tuple[object, ...]")

WORTH_COMPILING = 50
"""Instances of a class that are made before its constructor is compiled, which costs about as much."""


def maker(kind: type[_T]) -> Callable[[Iterable[object]], _T]:
    """Makes a named tuple of the values of all its fields, unchecked: in half the time of its own `_make`."""
    return partial(tuple.__new__, kind)


if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from collections import _tuplegetter  # reads a field in half the time of property(itemgetter(place))

    _new = tuple.__new__

    class _Named(tuple):
        """What all named tuples share."""

        __slots__ = ()

        @classmethod
        def _make(cls, values):
            made = _new(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
            return made

        def _replace(self, /, **changes):
            made = self._make(map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"Got unexpected field names: {list(changes)!r}")
            return made

        __replace__ = _replace

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            shown = [f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True)]
            return f"{type(self).__name__}({', '.join(shown)})"

        def __getnewargs__(self):
            return tuple(self)

    class _Definition(type):
        """Of the body of a class that names `NamedTuple` as its base, makes a subclass of `_Named`."""

        def __new__(cls, name, bases, members):
            fields = tuple(members.get("__annotations__", ()))
            defaults = {field: members[field] for field in fields if field in members}
            if (*defaults,) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"{name}: a field without a default follows one that has one")
            for place, field in enumerate(fields):
                members[field] = _tuplegetter(place, f"Alias for field number {place}")
            members.setdefault("__doc__", f"{name}({', '.join(fields)})")
            members["__slots__"] = ()
            members["_fields"] = members["__match_args__"] = fields
            members["_field_defaults"] = defaults
            members["__new__"] = _first_new(fields, defaults)
            return type(name, (_Named,), members)

    NamedTuple = type.__new__(_Definition, "NamedTuple", (), {})

    def _first_new(fields, defaults):
        """The constructor until it is worth compiling, or a call is wrong and has to be refused."""
        left = WORTH_COMPILING

        def __new__(cls, /, *args, **kwargs):
            nonlocal left
            left -= 1
            rest = fields[len(args) :]
            named = {**defaults, **kwargs}
            if left < 0 or len(args) > len(fields) or not kwargs.keys() <= set(rest) <= named.keys():
                return _compiled_new(cls)(cls, *args, **kwargs)
            return _new(cls, args + tuple([named[name] for name in rest]))

        return __new__

    def _compiled_new(cls):
        """The constructor that the class keeps."""
        kind = next(one for one in cls.__mro__ if "_fields" in one.__dict__)
        listed = "".join(f"{name}, " for name in kind._fields)
        made = eval(f"lambda _cls, {listed}: _new(_cls, ({listed}))", {"_new": _new})
        made.__defaults__ = tuple(kind._field_defaults.values())
        made.__name__ = "__new__"
        made.__qualname__ = f"{kind.__qualname__}.__new__"
        kind.__new__ = made
        return made
