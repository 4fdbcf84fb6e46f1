from __future__ import annotations

import base64

from minibuild.dockerfile.lint import lint
from minibuild.dockerfile.lintreport import report_json, report_text
from minibuild.dockerfile.parse import parse
from minibuild.errors import DockerfileError, SourceRange

TEXT = "FROM a AS B\nENV A $UNDEF\nCMD echo \\\n  hi\nUSER x"

# Printed by BuildKit for the same file.
SHOWN = """
WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'B' should be lowercase
Dockerfile:1
--------------------
   1 | >>> FROM a AS B
   2 |     ENV A $UNDEF
   3 |     CMD echo \\
--------------------

WARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/
Usage of undefined variable '$UNDEF'
Dockerfile:2
--------------------
   1 |     FROM a AS B
   2 | >>> ENV A $UNDEF
   3 |     CMD echo \\
   4 |       hi
--------------------

WARNING: LegacyKeyValueFormat - https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/
"ENV key=value" should be used instead of legacy "ENV key value" format
Dockerfile:2
--------------------
   1 |     FROM a AS B
   2 | >>> ENV A $UNDEF
   3 |     CMD echo \\
   4 |       hi
--------------------

WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/
JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
Dockerfile:3
--------------------
   2 |     ENV A $UNDEF
   3 | >>> CMD echo \\
   4 | >>>   hi
   5 |     USER x
--------------------
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
