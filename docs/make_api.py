"""Writes docs/api.md from the docstrings of the public names: run it after a change of any of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, get_args

import minibuild

PAGE = Path(__file__).with_name("api.md")
SUITES = {
    "minibuild.testing.cache": "CacheBackendContract",
    "minibuild.testing.executors": "ExecutorContract",
    "minibuild.testing.exporters": "ExporterContract",
}
MADE_ELSEWHERE = {
    "BlobWriter", "Blobs", "FailedStep", "Lease", "Lock", "Records", "Sandbox", "Snapshots", "Store",
    "Workspace",
}  # fmt: skip
"""Classes whose instances are got from others, not made by their name."""

HEAD = """# API reference

Made from the docstrings by `docs/make_api.py`. [library.md](library.md) explains how these go together, and
what may change between versions.
"""


def page() -> str:
    """The whole reference."""
    seen: set[int] = set()
    parts = [HEAD]
    for name in ("minibuild", "minibuild.plugins", "minibuild_store"):
        module = import_module(name)
        parts += [f"## {name}\n", text_of(module)]
        for public in module.__all__:
            thing = getattr(module, public)
            if id(thing) not in seen:
                seen.add(id(thing))
                parts += described(public, thing)
            else:
                parts.append(f"### {public}\n\nThe same as above, in another package.\n")
    parts += ["## minibuild.testing\n", text_of(import_module("minibuild.testing"))]
    for module_name, suite in SUITES.items():
        contract = getattr(import_module(module_name), suite)
        parts += [f"### {module_name}.{suite}\n", text_of(contract), *promises(contract)]
    return "\n".join(parts)


def described(name: str, thing: Any) -> Iterator[str]:
    """The section of one name."""
    yield f"### {name}\n"
    if inspect.isclass(thing):
        yield block(class_head(name, thing))
        yield text_of(thing)
        yield from members(thing)
    elif inspect.isfunction(thing):
        yield block(f"{name}{signature(thing)}")
        yield text_of(thing)
    elif isinstance(thing, UnionType):
        yield f"One of {', '.join(f'`{one.__name__}`' for one in get_args(thing))}.\n"
    else:
        yield f"`{plain(thing).replace(plain(minibuild.Event), 'Event')}`\n"


def class_head(name: str, cls: type) -> str:
    if issubclass(cls, Exception):
        return f"class {name}({cls.__bases__[0].__name__})"
    if getattr(cls, "_is_protocol", False):
        return f"class {name}(Protocol)"
    fields = values_of(cls)
    if fields is None and name in MADE_ELSEWHERE:
        return f"class {name}"
    if fields is None:
        made = "" if "__init__" not in vars(cls) else signature(cls.__init__)
        return f"class {name}{made.removesuffix(' -> None')}"
    return f"class {name}({fitted(fields)})"


def values_of(cls: type) -> list[str] | None:
    """The fields of a class of values, None for another."""
    if hasattr(cls, "_fields"):
        defaults = cls._field_defaults
        names = {name: (annotation, defaults.get(name, inspect.Parameter.empty)) for name, annotation in
                 cls.__annotations__.items() if name in cls._fields}  # fmt: skip
    elif "__fields__" in vars(cls):
        names = {}
        for name, field in cls.__fields__.items():  # type: ignore[attr-defined]
            made = field.factory if callable(field.factory) else None
            names[name] = (annotation_of(cls, name), made() if made else unset(field.default))
    else:
        return None
    return [one_field(name, annotation, default) for name, (annotation, default) in names.items()]


def annotation_of(cls: type, name: str) -> Any:
    return next(vars(one)["__annotations__"][name] for one in cls.__mro__ if name in annotations(one))


def annotations(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = vars(cls).get("__annotations__", {})
    return found


def unset(default: Any) -> Any:
    return inspect.Parameter.empty if type(default) is object else default


def one_field(name: str, annotation: Any, default: Any) -> str:
    value = "" if default is inspect.Parameter.empty else f" = {shown(default)}"
    return f"{name}: {plain(annotation)}{value}"


def shown(value: Any) -> str:
    """A default as one would write it."""
    if inspect.isfunction(value) or inspect.isclass(value):
        return str(value.__name__)
    text = repr(value).replace("'", '"')
    return text if len(text) <= 30 and " at 0x" not in text else f"{type(value).__name__}(...)"


def plain(annotation: Any) -> str:
    """An annotation without quotes and without the modules of its names."""
    text = getattr(annotation, "__forward_arg__", annotation)
    if inspect.isclass(text) and not get_args(text):
        text = text.__name__
    text = re.sub(r"\b(?!threading\b)(?:[a-z_]+\.)+(?=[A-Za-z_])", "", str(text))
    return text.replace("'", '"') if "Literal" in text else text.replace("'", "")


def signature(function: Callable[..., Any]) -> str:
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        del parameters[0]
    texts: list[str] = []
    starred = False
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and not starred:
            texts.append("*")
            starred = True
        star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        starred |= star == "*"
        typed = "" if one.annotation is one.empty else f": {plain(one.annotation)}"
        value = "" if one.default is one.empty else f" = {shown(one.default)}"
        texts.append(f"{star}{one.name}{typed}{value}")
    found = inspect.signature(function).return_annotation
    result = "" if found is inspect.Signature.empty else f" -> {plain(found)}"
    return f"({fitted(texts)}){result}"


def fitted(texts: list[str]) -> str:
    """On one line, or on a line each."""
    line = ", ".join(texts)
    return line if len(line) < 90 else "\n    " + ",\n    ".join(texts) + ",\n"


def members(cls: type) -> Iterator[str]:
    """The public methods and properties that the class itself defines."""
    for name, member in vars(cls).items():
        if name.startswith("_") and name not in ("__iter__",):
            continue
        if isinstance(member, property):
            result = inspect.signature(member.fget).return_annotation  # type: ignore[arg-type]
            yield entry(f"{name}: {plain(result)}", text_of(member))
        elif isinstance(member, classmethod | staticmethod):
            yield entry(f"{cls.__name__}.{name}{signature(member.__func__)}", text_of(member.__func__))
        elif inspect.isfunction(member):
            yield entry(f"{name}{signature(member)}", text_of(member))


def entry(head: str, text: str) -> str:
    return f"{block(head)}\n{text}" if text else block(head)


def promises(contract: type) -> Iterator[str]:
    """What a suite tests, as its tests are called."""
    names = [name for name in vars(contract) if name.startswith("test_")]
    yield "\n".join(f"- {name.removeprefix('test_').replace('_', ' ')}" for name in names) + "\n"


def block(code: str) -> str:
    return f"```python\n{code}\n```\n"


def text_of(thing: ModuleType | object) -> str:
    own = getattr(thing, "__doc__", None)
    if not own or (inspect.isclass(thing) and hasattr(thing, "_fields") and own.startswith(thing.__name__)):
        return ""
    return inspect.cleandoc(own).replace("``", "`") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
