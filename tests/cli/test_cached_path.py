"""What a fully cached build loads: most of its time is imports, so newcomers have to be meant.

A module that is needed on this path is added to `cached_modules.txt`, or to `cached_modules_broad.txt` where
a plain build does without (run this file to write both anew); one that is not is imported in the function
that uses it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

LISTED = Path(__file__).with_name("cached_modules.txt")
BROAD = Path(__file__).with_name("cached_modules_broad.txt")
# One build in thirty-two looks for old records; SHA-256 has another name from Python 3.12 on, and what others
# of the standard library load first differs.
SOMETIMES = {"minibuild.cache.retention", "_sha256", "_sha2", "__future__"}
SETTLED = 2.1  # seconds after which a file's times are taken for proof: a younger one is read again

# What a module of the standard library brings along differs between releases and is not ours to choose:
# those we mean to use (the arguments before "--") are loaded first.
SCRIPT = """
import sys
from importlib import import_module
end = sys.argv.index("--")
known, sys.argv[1:] = sys.argv[1:end], sys.argv[end + 1 :]
for name in known:
    try:
        import_module(name)
    except ImportError:
        pass
before = set(sys.modules)
from minibuild.cli.main import main
try:
    main()
except SystemExit as end:
    if end.code:
        raise
print("\\n".join(sorted(set(sys.modules) - before)))
"""

PLAIN = "FROM scratch\nENV A=1\nWORKDIR /w\nCOPY src/ /src/\nCMD true\n"

# What the lines of the benchmark have, and many projects besides. No two steps leave the same layer: the blob
# that is written twice is younger than the first step knows it, and is read, for which hashlib is loaded.
MIXED = """\
FROM base AS part
RUN echo part > /part

FROM base AS tools
RUN echo tools > /tool

FROM base
ARG VERSION=1
ENV MODE=production
LABEL version=$VERSION
WORKDIR /app
COPY --chmod=755 conf /etc/app.conf
COPY --chown=app conf /home/
RUN --mount=type=bind,source=src,target=/src --mount=type=cache,target=/cache cat /src/main > /main
RUN --mount=type=bind,from=tools,target=/tools cat /tools/tool > /copy
COPY src/ /app/
COPY --from=part /part /parts/
COPY --link conf /linked/
EXPOSE 80
VOLUME /data
USER app
HEALTHCHECK CMD true
ENTRYPOINT ["/bin/sh"]
CMD ["-c", "true"]
"""


def plain_build(work):
    """A context, and the options of its build."""
    context = work / "context"
    (context / "src").mkdir(parents=True)
    (context / "src/link").symlink_to("target")  # a file as young as this would be read again
    (context / "Dockerfile").write_text(PLAIN)
    return context, []


def broad_build(work, bases):
    context = work / "context"
    (context / "src").mkdir(parents=True)
    for path in ("conf", "src/main", "src/other", "src/a.log"):
        (context / path).write_text(path)
    (context / ".dockerignore").write_text("**/*.log\n!keep.log\n")
    (context / "Dockerfile").write_text(MIXED)
    time.sleep(SETTLED)
    return context, ["--build-context", f"base=oci-layout://{bases}:busybox", "-t", "example/app:1"]


def loaded(work, build, known=()):
    """The modules beyond `known` that the second of two builds loads."""
    context, options = build
    output = f"type=oci,tar=false,dest={work / 'out'}"
    minibuild = ("build", "-q", *options, "-o", output, str(context))
    command = (sys.executable, "-c", SCRIPT, "pathlib", *known, "--", *minibuild)
    environment = {**os.environ, "MINIBUILD_ROOT": str(work / "store")}
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return done.stdout.split("\n", 1)[1].split()


def newcomers(work, build, *lists):
    """What the second build loads and none of `lists` has."""
    listed = [name for one in lists for name in one.read_text().split()]
    standard = [name for name in listed if name.partition(".")[0] in sys.stdlib_module_names]
    return set(loaded(work, build, standard)) - set(listed) - SOMETIMES


def test_a_cached_build_loads_nothing_new(tmp_path):
    assert not newcomers(tmp_path, plain_build(tmp_path), LISTED)


def test_a_cached_build_of_many_kinds_of_steps_loads_nothing_new(tmp_path, bases, sandbox_works):
    assert not newcomers(tmp_path, broad_build(tmp_path, bases), LISTED, BROAD)


def test_what_a_cached_build_has_no_use_for_stays_away(tmp_path, bases, sandbox_works):
    heavy = {
        "typer", "click", "inspect", "dataclasses", "pydantic", "ssl", "urllib3", "asyncio", "http.client",
        "tarfile", "tempfile", "zstandard", "hashlib", "datetime", "minibuild.layers.writer",
        "minibuild.layers.tree", "minibuild.sandbox.client", "minibuild.registry.client",
        "minibuild.exporters.recompress", "minibuild_store.gc",
    }  # fmt: skip
    for name, build in (("plain", plain_build), ("broad", lambda work: broad_build(work, bases))):
        work = tmp_path / name
        assert not heavy & set(loaded(work, build(work))), name


def write_lists(work):
    """Write down what both builds load now."""
    from tests.differential.bases import make_bases

    bases = work / "bases"
    bases.mkdir()
    make_bases(bases)
    plain = {*loaded(work / "plain", plain_build(work / "plain"))} - SOMETIMES
    broad = {*loaded(work / "broad", broad_build(work / "broad", bases))} - SOMETIMES - plain
    for path, modules in ((LISTED, plain), (BROAD, broad)):
        path.write_text("\n".join(sorted(modules)) + "\n")


if __name__ == "__main__":
    import tempfile

    sys.path.insert(0, str(Path(__file__).parents[2]))
    with tempfile.TemporaryDirectory() as folder:
        write_lists(Path(folder))
