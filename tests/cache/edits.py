"""A project, and edits to it, each with the causes that the steps it touches must give."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.feature.project import Project


def next_second() -> None:
    """Wait for it: a RUN that writes the same again within one second gives the very same layer."""
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.02)


DOCKERFILE = """\
ARG FLAVOUR=plain
FROM busybox AS tools
ARG LEVEL=3
ENV MODE=fast
RUN echo tools $LEVEL $MODE > /tools
WORKDIR /opt/app
COPY --chmod=644 conf/main.conf conf/
RUN cat conf/main.conf > /conf

FROM busybox AS docs
COPY docs /docs
RUN --mount=type=bind,source=theme,target=/theme cat /theme/style.css /docs/index.md > /page

FROM tools AS app
USER app
RUN id -u > /tmp/who
USER root
COPY src /src
COPY --from=docs /page /srv/
RUN <<EOF
set -e
cat /srv/page > /result
EOF
RUN --network=none --mount=type=tmpfs,target=/scratch true
COPY --chown=1:1 LICENSE /
RUN ["/bin/sh", "-c", "echo done"]
"""

FILES = {
    "conf/main.conf": "a=1\n",
    "conf/other.conf": "b=1\n",
    "docs/index.md": "# docs\n",
    "docs/more.md": "more\n",
    "docs/third.md": "third\n",
    "theme/style.css": "p {}\n",
    "src/main.py": "print()\n",
    "src/lib/util.py": "x = 1\n",
    "LICENSE": "free\n",
    ".dockerignore": "Dockerfile\n",
}


@dataclass(frozen=True)
class Edit:
    """`make` changes the project; `causes` are, by words of a step's name, kind and words of the reason.

    `first` is done, and `both` given, before the build that is compared with. In options ``{bases}`` is the
    layout of base images. `here`: only the store that built before can know.
    """

    name: str
    make: Callable[[Project], object]
    causes: dict[str, tuple[str, str]]
    options: tuple[str, ...] = ()
    hits: tuple[str, ...] = field(default=())
    first: Callable[[Project], object] = lambda project: None
    both: tuple[str, ...] = ()
    here: bool = False

    def given(self, project: Project) -> list[str]:
        """The options of the second build."""
        return [*self.both, *(option.replace("{bases}", str(project.bases)) for option in self.options)]


def write(path: str, content: str, mode: int = 0o644) -> Callable[[Project], object]:
    return lambda project: project.write(path, content, mode=mode)


def swap(old: str, new: str) -> Callable[[Project], object]:
    """Replace text of the Dockerfile, which must hold it once."""
    assert DOCKERFILE.count(old) == 1, old
    return lambda project: project.write("Dockerfile", DOCKERFILE.replace(old, new))


def move(old: str, new: str) -> Callable[[Project], object]:
    return lambda project: (project.context / old).rename(project.context / new)


def remove(path: str) -> Callable[[Project], object]:
    return lambda project: (project.context / path).unlink()


def nothing(project: Project) -> None:
    pass


def link(path: str, target: str) -> Callable[[Project], object]:
    def make(project: Project) -> None:
        (project.context / path).unlink()
        (project.context / path).symlink_to(target)

    return make


def append(text: str) -> Callable[[Project], object]:
    """The Dockerfile with lines more at its end."""
    return lambda project: project.write("Dockerfile", DOCKERFILE + text)


def chmod(path: str, mode: int) -> Callable[[Project], object]:
    return lambda project: (project.context / path).chmod(mode)


def token(value: str) -> Callable[[Project], object]:
    return lambda project: project.environment.update(TOKEN=value)


def evict(project: Project) -> None:
    project.command("cache", "prune", "--all")


def fresh_store(project: Project) -> None:
    project.store = project.root / "fresh"
    project.environment["MINIBUILD_ROOT"] = str(project.store)


SECRET = "RUN --mount=type=secret,id=token echo with > /token\n"
CACHE_MOUNT = "RUN --mount=type=cache,id=one,target=/c echo > /cached\n"
HERE_FILE = "COPY <<note /note\none\nnote\n"

EDITS = [
    Edit(
        "a file's content",
        write("src/main.py", "print(2)\n"),
        {"COPY src": ("files", "src/main.py changed"), "set -e": ("follows", "src/main.py changed")},
        hits=("COPY docs", "id -u"),
    ),
    Edit(
        "a file below a folder",
        write("src/lib/util.py", "x = 2\n"),
        {"COPY src": ("files", "lib/util.py changed")},
    ),
    Edit(
        "a file's mode", write("src/main.py", "print()\n", 0o755), {"COPY src": ("files", "mode: 644 → 755")}
    ),
    Edit("a new file", write("src/fresh.py", ""), {"COPY src": ("files", "fresh.py is new")}),
    Edit("a file gone", remove("docs/more.md"), {"COPY docs": ("files", "more.md is gone")}),
    Edit(
        "a file renamed",
        move("docs/more.md", "docs/most.md"),
        {"COPY docs": ("files", "most.md is new (and 1 more)")},
    ),
    Edit(
        "a file become a link", link("docs/more.md", "index.md"), {"COPY docs": ("files", "more.md changed")}
    ),
    Edit(
        "two files",
        lambda project: (write("src/main.py", "2")(project), write("src/lib/util.py", "3")(project)),
        {"COPY src": ("files", "lib/util.py changed (and 1 more)")},
    ),
    Edit(
        "the file of one COPY",
        write("conf/main.conf", "a=2\n"),
        {"COPY --chmod": ("files", "main.conf changed"), "RUN cat conf": ("follows", "main.conf changed")},
        hits=("echo tools", "WORKDIR", "COPY docs"),
    ),
    Edit(
        "a file that reaches the target through another stage",
        write("docs/index.md", "# other\n"),
        {
            "COPY docs": ("files", "index.md changed"),
            "cat /theme": ("follows", "index.md changed"),
            "COPY --from=docs": ("files", "page changed"),
        },
        hits=("echo tools", "id -u", "COPY src"),
    ),
    Edit(
        "a mounted file",
        write("theme/style.css", "b {}\n"),
        {"cat /theme": ("mount", "mounted at /theme: theme/style.css changed")},
        hits=("COPY docs",),
    ),
    Edit(
        "a new mounted file",
        write("theme/print.css", "b {}\n"),
        {"cat /theme": ("mount", "theme/print.css is new")},
    ),
    Edit("an ignored file", write("Dockerfile.old", "x"), {}, hits=("COPY src", "COPY docs")),
    Edit(
        "an ignore pattern",
        write(".dockerignore", "Dockerfile\ndocs/third.md\n"),
        {"COPY docs": ("files", "third.md is gone")},
    ),
    Edit(
        "an argument",
        nothing,
        {"echo tools": ("arg", "ARG LEVEL changed: 3 → 4")},
        options=("--build-arg", "LEVEL=4"),
        hits=("COPY docs",),
    ),
    Edit(
        "an argument's default",
        swap("LEVEL=3", "LEVEL=5"),
        {"echo tools": ("arg", "ARG LEVEL changed: 3 → 5")},
    ),
    Edit(
        "a variable", swap("MODE=fast", "MODE=slow"), {"echo tools": ("env", "ENV MODE changed: fast → slow")}
    ),
    Edit(
        "a new variable",
        swap("ENV MODE=fast", "ENV MODE=fast MORE=1"),
        {"echo tools": ("env", "ENV MORE was added")},
    ),
    Edit("a variable gone", swap("ENV MODE=fast\n", ""), {"echo tools": ("env", "ENV MODE was removed")}),
    Edit(
        "a new argument",
        swap("ARG LEVEL=3", "ARG LEVEL=3 EXTRA=x"),
        {"echo tools": ("arg", "ARG EXTRA was added")},
    ),
    Edit(
        "a command",
        swap("RUN id -u > /tmp/who", "RUN id -g > /tmp/who"),
        {
            "id -g": ("command", "id -u > /tmp/who → id -g > /tmp/who"),
            "COPY src": ("follows", "RUN id -g > /tmp/who: the command changed"),
        },
        hits=("echo tools", "cat /theme"),
    ),
    Edit("a here-document", swap("/result\n", "/outcome\n"), {"set -e": ("command", "the command changed")}),
    Edit(
        "an exec form",
        swap('"echo done"', '"echo over"'),
        {"echo over": ("command", "echo done → echo over")},
    ),
    Edit(
        "a shell", swap("USER app\n", 'SHELL ["/bin/sh", "-ec"]\nUSER app\n'), {"id -u": ("command", "-ec")}
    ),
    Edit("a user", swap("USER app", "USER daemon"), {"id -u": ("user", "the user changed: app → daemon")}),
    Edit(
        "a working directory",
        swap("/opt/app", "/opt/other"),
        {
            "WORKDIR": ("option", "the path changed: /opt/app → /opt/other"),
            "RUN cat conf": ("workdir", "the working directory changed: /opt/app → /opt/other"),
        },
    ),
    Edit(
        "a destination",
        swap("COPY src /src", "COPY src /code"),
        {"COPY src": ("option", "the destination changed")},
    ),
    Edit(
        "another source",
        swap("COPY LICENSE" if "COPY LICENSE" in DOCKERFILE else "1:1 LICENSE", "1:1 conf/other.conf"),
        {"other.conf": ("files", "other.conf is new (and 1 more)")},
    ),
    Edit(
        "an owner",
        swap("--chown=1:1", "--chown=2:2"),
        {"COPY --chown": ("option", "--chown changed: 1:1 → 2:2")},
    ),
    Edit(
        "permissions",
        swap("--chmod=644", "--chmod=600"),
        {"COPY --chmod": ("option", "--chmod changed: 644 → 600")},
    ),
    Edit(
        "a network mode",
        swap("--network=none ", ""),
        {"true": ("option", "the network mode changed: none → (empty)")},
    ),
    Edit(
        "a mount's options",
        swap("type=tmpfs,target=/scratch", "type=tmpfs,target=/scratch,size=1m"),
        {"true": ("mount", "the mount at /scratch changed")},
    ),
    Edit(
        "a mount's place",
        swap("/scratch", "/elsewhere"),
        {"true": ("mount", "the mount at /elsewhere was added")},
    ),
    Edit(
        "a new step",
        swap("USER app\n", "RUN echo new > /new\nUSER app\n"),
        {
            "echo new": ("new", "the instruction is new"),
            "id -u": ("follows", "RUN echo new > /new is new"),
            "COPY src": ("follows", "RUN echo new > /new is new"),
        },
        hits=("echo tools", "RUN cat conf", "COPY docs"),
    ),
    Edit(
        "a step gone",
        swap("RUN id -u > /tmp/who\n", ""),
        {"COPY src": ("follows", "a step before it is gone: RUN id -u > /tmp/who")},
    ),
    Edit(
        "a step of a base stage",
        swap("RUN cat conf/main.conf > /conf", "RUN cat conf/main.conf > /settings"),
        {"RUN cat conf": ("command", "/settings"), "id -u": ("follows", "the command changed")},
    ),
    Edit(
        "another base stage",
        swap("FROM tools AS app", "FROM docs AS app"),
        {"id -u": ("base", "stage tools → stage docs")},
    ),
    Edit(
        "another base image",
        swap("FROM busybox AS docs", "FROM debian AS docs"),
        {"COPY docs": ("base", "the base changed:")},
        hits=("echo tools",),
    ),
    Edit(
        "a base stage that is a new one",
        swap("FROM busybox AS docs", "FROM tools AS docs"),
        {"COPY docs": ("base", "the base changed")},
    ),
    Edit(
        "no cache",
        nothing,
        {"COPY docs": ("no-cache", "not to be cached"), "cat /theme": ("no-cache", "not to be cached")},
        options=("--no-cache-filter", "docs"),
        hits=("echo tools",),
    ),
    Edit(
        "a host",
        nothing,
        {"echo tools": ("host", "--add-host build.example was added")},
        options=("--add-host", "build.example:10.0.0.1"),
    ),
    Edit(
        "the epoch",
        nothing,
        {"echo tools": ("epoch", "SOURCE_DATE_EPOCH changed: (unset) → 1")},
        options=("--build-arg", "SOURCE_DATE_EPOCH=1"),
    ),
    Edit("a comment", swap("FROM tools AS app", "# more to come\nFROM tools AS app"), {}, hits=("id -u",)),
    Edit("a stage's name", swap("FROM tools AS app", "FROM tools AS final"), {}, hits=("id -u",)),
    Edit(
        "an argument gone",
        swap("ARG LEVEL=3\n", ""),
        {"echo tools": ("arg", "ARG LEVEL was removed")},
    ),
    Edit("a folder's mode", chmod("src/lib", 0o700), {"COPY src": ("files", "lib changed mode: 755 → 700")}),
    Edit(
        "a link's target",
        link("docs/more.md", "third.md"),
        {"COPY docs": ("files", "more.md changed")},
        first=link("docs/more.md", "index.md"),
    ),
    Edit(
        "--link",
        swap("COPY docs /docs", "COPY --link docs /docs"),
        {"COPY --link": ("option", "--link changed: False → True")},
    ),
    Edit(
        "--exclude",
        swap("COPY src /src", "COPY --exclude=lib src /src"),
        {"COPY --exclude": ("files", "src/lib is gone (and 1 more)")},
    ),
    Edit(
        "--parents",
        swap("COPY src /src", "COPY --parents src/lib /src"),
        {"COPY --parents": ("files", "src/main.py is gone")},
    ),
    Edit(
        "a here-document that is copied",
        append(HERE_FILE.replace("one", "two")),
        {"COPY <<note": ("source", "the here-document note changed")},
        first=append(HERE_FILE),
        hits=("echo done",),
    ),
    Edit(
        "the id of a cache mount",
        append(CACHE_MOUNT.replace("id=one", "id=two")),
        {"echo > /cached": ("mount", "the mount at /c changed")},
        first=append(CACHE_MOUNT),
    ),
    Edit(
        "a secret",
        token("two"),
        {"echo with": ("secret", "secret token changed")},
        first=lambda project: (append(SECRET)(project), token("one")(project)),
        both=("--secret", "id=token,env=TOKEN,cache=content"),
        hits=("echo done",),
        here=True,
    ),
    Edit(
        "the digest of a base image",
        nothing,
        {"echo tools": ("base", "base busybox changed: ")},
        options=("--build-context", "busybox=oci-layout://{bases}:layered"),
    ),
    Edit(
        "the network of all steps",
        nothing,
        {"echo tools": ("option", "the network mode changed: (empty) → none")},
        options=("--network", "none"),
        hits=("COPY docs",),
    ),
    Edit(
        "the host name",
        nothing,
        {"echo tools": ("option", "the host name was added")},
        options=("--hostname", "builder"),
    ),
    Edit(
        "a folder of this machine",
        nothing,
        {"echo tools": ("mount", "-v at /host was added")},
        options=("-v", "/usr:/host:ro"),
    ),
    Edit(
        "the platform",
        nothing,
        {"COPY docs": ("platform", "the platform changed: linux/")},
        options=("--platform", "linux/riscv64"),
    ),
    Edit(
        "one step not to be cached",
        nothing,
        {"COPY --chown": ("no-cache", "not to be cached")},
        options=("--no-cache-step", "LICENSE"),
        hits=("echo tools", "COPY src"),
    ),
    Edit(
        "all steps evicted",
        evict,
        {"echo tools": ("evicted", "removed by cache prune"), "COPY docs": ("evicted", "removed by")},
        here=True,
    ),
    Edit("a store that never built", fresh_store, {"echo tools": ("never-built", "never built")}, here=True),
]
