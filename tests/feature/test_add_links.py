"""ADD of archives in which a name comes twice: each entry replaces the name alone, as in GNU tar."""

from __future__ import annotations

import io
import tarfile

import pytest

from tests.feature.project import Project

FILE, LINK, SYMLINK = tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


def archive(*said: tuple[str, bytes, str]) -> bytes:
    """Of a name, a type and a content, or where a link leads."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for name, kind, text in said:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == FILE:
                member.size = len(text)
                out.addfile(member, io.BytesIO(text.encode()))
            else:
                member.linkname = text
                out.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ([("a", FILE, "2")], {"a": "2", "b": "1"}),
        ([("b", FILE, "2")], {"a": "1", "b": "2"}),
        ([("a", FILE, "2"), ("c", LINK, "a")], {"a c": "2", "b": "1"}),
        ([("a", FILE, "2"), ("c", LINK, "b")], {"a": "2", "b c": "1"}),
        ([("b", FILE, "2"), ("c", LINK, "b"), ("d", LINK, "a")], {"a d": "1", "b c": "2"}),
        ([("a", SYMLINK, "nowhere")], {"a": "-> nowhere", "b": "1"}),
        ([("a", FILE, "2"), ("b", LINK, "a")], {"a b": "2"}),
        ([("a", FILE, "2"), ("a", LINK, "b")], {"a b": "1"}),
    ],
)
def test_a_name_that_is_replaced_leaves_the_other_names_of_the_file(
    project: Project, last: list[tuple[str, bytes, str]], expected: dict[str, str]
) -> None:
    project.write("a.tar", archive(("a", FILE, "1"), ("b", LINK, "a"), *last))
    project.built("-o", f"type=local,dest={project.root / 'out'}", text="FROM scratch\nADD a.tar /\n")
    names: dict[int, list[str]] = {}
    for path in sorted((project.root / "out").iterdir()):
        names.setdefault(path.lstat().st_ino, []).append(path.name)
    texts = {}
    for group in names.values():
        path = project.root / "out" / group[0]
        texts[" ".join(group)] = f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
    assert texts == expected
