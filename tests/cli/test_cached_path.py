"""What a fully cached build loads: most of its time is imports, so newcomers have to be meant.

A module that is needed on this path is added to `cached_modules.txt` (run this file to write it anew); one
that is not is imported in the function that uses it.
"""

import os
import subprocess
import sys
from pathlib import Path

LISTED = Path(__file__).with_name("cached_modules.txt")
# One build in thirty-two looks for old records; SHA-256 has another name from Python 3.12 on, and what others
# of the standard library load first differs.
SOMETIMES = {"minibuild.cache.retention", "_sha256", "_sha2", "__future__"}

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


def loaded(work, known=()):
    """The modules beyond `known` that the second of two builds loads."""
    context = work / "context"
    (context / "src").mkdir(parents=True)
    (context / "src/link").symlink_to("target")  # a file as young as this would be read again
    (context / "Dockerfile").write_text("FROM scratch\nENV A=1\nWORKDIR /w\nCOPY src/ /src/\nCMD true\n")
    output = f"type=oci,tar=false,dest={work / 'out'}"
    command = (
        sys.executable,
        "-c",
        SCRIPT,
        "pathlib",
        *known,
        "--",
        "build",
        "-q",
        "-o",
        output,
        str(context),
    )
    environment = {**os.environ, "MINIBUILD_ROOT": str(work / "store")}
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return done.stdout.split("\n", 1)[1].split()


def test_a_cached_build_loads_nothing_new(tmp_path):
    listed = LISTED.read_text().split()
    standard = [name for name in listed if name.partition(".")[0] in sys.stdlib_module_names]
    newcomers = set(loaded(tmp_path, standard)) - set(listed) - SOMETIMES
    assert not newcomers


def test_what_a_cached_build_has_no_use_for_stays_away(tmp_path):
    heavy = {
        "typer", "click", "inspect", "dataclasses", "pydantic", "ssl", "urllib3", "asyncio", "http.client",
        "tarfile", "tempfile", "zstandard", "hashlib", "datetime", "minibuild.layers.writer",
        "minibuild.layers.tree", "minibuild.sandbox.client", "minibuild.registry.client",
        "minibuild.exporters.recompress", "minibuild_store.gc",
    }  # fmt: skip
    assert not heavy & set(loaded(tmp_path))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        LISTED.write_text("\n".join(sorted({*loaded(Path(folder))} - SOMETIMES)) + "\n")
