"""Random COPY cases: a tree, patterns, destinations and flags, small enough to collide often."""

from __future__ import annotations

import random

from tests.differential.case import Case, Section

_NAMES = ("a", "b", "c", "d.txt", "e.txt")
_MODES = ("0644", "0600", "0755", "0444", "4755", "2640")
_FOLDER_MODES = ("0755", "0700", "1777", "2755")
_TARGETS = ("a", "b", "../a", "/a/b", "/b", "nowhere", "../../../c", "./a", "c/b")
_DESTINATIONS = (
    "/new", "/new/", "/new/x", "/old", "/old/", "/old/a", "/old/a/", "/old/deep", "/old/to-deep",
    "/old/to-deep/x", "/old/to-a", "/links/rel/", "/links/dangling", "/links/out/deep", "/tmp/", "/", "sub",
    ".", "/var/empty/y", "/lib/z", "/new/a/b", "/old/hard1",
)  # fmt: skip
_PATTERNS = (
    "a", "b", "c", "a/b", "b/c", "./a", "a/", "*", "?", "[ab]", "[^a]", "*.txt", "*/b", "a/*", "*/*",
    "a/b/c", "b/../a", "/c", "d.txt", "**", "*/?/*", "a/b*", ".", "/",
)  # fmt: skip
_PARENT_PATTERNS = (
    *_PATTERNS,
    "**/b",
    "a/**",
    "**/*.txt",
    "a/./b",
    "./a/./b",
    "*/./b",
    "a/./**/c",
    "a/b/./c",
)
_EXCLUDES = ("a", "b", "*.txt", "**/b", "*/c", "!a/b", "a/b", "**", "c/", "/a")
_CHOWNS = ("app", "5:6", "app:mail", ":mail", "7", "nobody")
_CHMODS = ("640", "0755", "u+x", "go-rwx", "u=rwX,go=rX", "4711", "a-w", "g=u", "+t")
_IGNORES = ("a", "*.txt", "!a/b", "**/c", "b/*", "*", "!b", "!d.txt")


def generate(seed: int) -> Case:
    """The case of `seed`, always the same one."""
    rng = random.Random(seed)
    sections = [Section("Dockerfile", (), "")]
    paths: list[str] = []
    files: list[str] = []
    _fill(rng, "ctx/", 0, sections, paths, files)
    if rng.random() < 0.15:
        lines = "".join(f"{rng.choice(_IGNORES)}\n" for _ in range(rng.randint(1, 3)))
        sections.append(Section("ctx/.dockerignore", (), lines))
    lines = ["FROM linked AS source", "COPY . /ctx/", "FROM linked"]
    if rng.random() < 0.3:
        lines.append("WORKDIR /old/deep")
    there = [path.removeprefix("ctx/") for path in paths if rng.random() < 0.8]
    lines += [_copy(rng, there) for _ in range(rng.randint(1, 3))]
    sections[0] = Section("Dockerfile", (), "".join(f"{line}\n" for line in lines))
    return Case(f"random/{seed}", (), tuple(sections))


def _fill(
    rng: random.Random, folder: str, depth: int, sections: list[Section], paths: list[str], files: list[str]
) -> None:
    for name in rng.sample(_NAMES, rng.randint(2 if not depth else 0, len(_NAMES))):
        path = folder + name
        kind = rng.random()
        time = f"mtime={rng.choice((1_111_111_111, 1_200_000_000, 1_222_222_222))}"
        if kind < 0.4 and depth < 3:
            sections.append(Section(f"{path}/", (f"mode={rng.choice(_FOLDER_MODES)}", time), ""))
            _fill(rng, f"{path}/", depth + 1, sections, paths, files)
        elif kind < 0.55:
            sections.append(Section(path, ("->", rng.choice(_TARGETS), time), ""))
        elif kind < 0.6 and files:
            sections.append(Section(path, ("=", rng.choice(files)), ""))
        elif kind < 0.63:
            sections.append(Section(path, ("fifo", time), ""))
        else:
            sections.append(Section(path, (f"mode={rng.choice(_MODES)}", time), f"{path}\n"))
            files.append(path)
        paths.append(path)


def _copy(rng: random.Random, there: list[str]) -> str:
    flags = []
    parents = rng.random() < 0.2
    from_stage = rng.random() < 0.3
    if from_stage:
        flags.append("--from=source")
    if parents:
        flags.append("--parents")
    if rng.random() < 0.25:
        flags.append(f"--chown={rng.choice(_CHOWNS)}")
    if rng.random() < 0.25:
        flags.append(f"--chmod={rng.choice(_CHMODS)}")
    if rng.random() < 0.15:
        flags.append("--link")
    if rng.random() < 0.2:
        flags += [f"--exclude={rng.choice(_EXCLUDES)}" for _ in range(rng.randint(1, 2))]
    patterns = rng.sample(_PARENT_PATTERNS if parents else _PATTERNS, rng.choice((1, 1, 1, 2)))
    if there and rng.random() < 0.85:  # most patterns alone find nothing, or name a file that is not there
        patterns = [_towards(rng, rng.choice(there)) for _ in patterns]
    if from_stage:
        patterns = [f"/ctx/{pattern.lstrip('/')}" for pattern in patterns]
    return " ".join(["COPY", *flags, *patterns, rng.choice(_DESTINATIONS)])


def _towards(rng: random.Random, path: str) -> str:
    """`path`, or a pattern that fits it."""
    if rng.random() < 0.5:
        return path
    parts = path.split("/")
    place = rng.randrange(len(parts))
    parts[place] = rng.choice(("*", "?", f"[{parts[place][0]}]*", f"{parts[place][0]}*"))
    return "/".join(parts)
