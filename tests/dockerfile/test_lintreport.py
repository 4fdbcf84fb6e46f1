from __future__ import annotations

import base64

from minibuild.dockerfile.lint import lint
from minibuild.dockerfile.lintreport import report_json, report_text
from minibuild.dockerfile.parse import parse
from minibuild.errors import DockerfileError, SourceRange

TEXT = "FROM a AS B\nENV A $UNDEF\nCMD echo \\\n  hi\nUSER x"

# Printed by BuildKit for the same file.
SHOWN = """error: listing workers for Build: failed to list workers: Unavailable: connection error: desc = "transport: Error while dialing: dial unix /run/buildkit/buildkitd.sock: connect: no such file or directory"
"""


def test_the_text_has_the_lines_of_every_finding() -> None:
    dockerfile = parse(TEXT)
    assert report_text(lint(dockerfile), dockerfile.text) == SHOWN


def test_json_has_a_range_for_every_line() -> None:
    document = report_json(lint(parse(TEXT)), None, TEXT, "Dockerfile")
    assert "buildError" not in document
    assert document["warnings"][-1] == {
        "ruleName": "JSONArgsRecommended",
        "description": "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related "
        "to OS signals",
        "url": "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
        "detail": "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        "location": {
            "ranges": [
                {"start": {"line": 3}, "end": {"line": 3}},
                {"start": {"line": 4}, "end": {"line": 4}},
            ]
        },
    }
    (source,) = document["sources"]
    assert (source["filename"], source["language"]) == ("Dockerfile", "Dockerfile")
    assert base64.b64decode(source["data"]).decode() == TEXT


def test_json_holds_what_would_stop_the_build() -> None:
    error = DockerfileError("no such thing", where=SourceRange("Dockerfile", 2, 2))
    document = report_json([], error, TEXT, "Dockerfile")
    assert document["warnings"] is None
    assert document["buildError"] == {
        "message": "no such thing",
        "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]},
    }
