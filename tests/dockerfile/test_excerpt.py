from __future__ import annotations

from minibuild.dockerfile.excerpt import describe, excerpt
from minibuild.errors import DockerfileError, SourceRange

TEXT = "".join(f"line {n}\r\n" for n in range(1, 13))
RULE = "--------------------"


def test_a_line_is_shown_with_its_neighbours() -> None:
    assert excerpt(TEXT, SourceRange("Dockerfile", 5, 5)).splitlines() == [
        "Dockerfile:5", RULE,
        "   3 |     line 3", "   4 |     line 4", "   5 | >>> line 5",
        "   6 |     line 6", "   7 |     line 7",
        RULE,
    ]  # fmt: skip


def test_several_lines_are_all_marked() -> None:
    shown = excerpt(TEXT, SourceRange("f", 9, 11))
    assert [line for line in shown.splitlines() if ">>>" in line] == [
        "   9 | >>> line 9", "  10 | >>> line 10", "  11 | >>> line 11",
    ]  # fmt: skip
    assert shown.startswith("f:9\n")


def test_the_ends_of_the_file_are_respected() -> None:
    assert excerpt("only", SourceRange("f", 1, 9)) == f"f:1\n{RULE}\n   1 | >>> only\n{RULE}\n"
    assert excerpt("only", SourceRange("f", 2, 2)) == ""
    assert excerpt("", SourceRange("f", 0, 0)) == ""


def test_a_fault_ends_with_its_message_and_its_cure() -> None:
    error = DockerfileError("it broke", cure="Mend it.", where=SourceRange("f", 1, 1))
    assert describe(error, "x") == f"f:1\n{RULE}\n   1 | >>> x\n{RULE}\nit broke\nMend it.\n"
    assert describe(DockerfileError("it broke"), "x") == "it broke\n"


def test_what_is_no_text_is_not_sent_to_the_terminal() -> None:
    shown = excerpt("a\x1b[2J\x07\té", SourceRange("f", 1, 1))
    assert shown.splitlines()[2] == "   1 | >>> a\ufffd[2J\ufffd\té"
