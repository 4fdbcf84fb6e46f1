"""Cases in which minibuild differs from BuildKit, and why: ``docs/dockerfile.md`` argues each."""

from __future__ import annotations

_EXIT_CODE = "a command that cannot be started ends with 126 or 127, as in a shell; BuildKit says 1"
_STUBS = "/dev, /proc and /sys that only RUN needed are taken away again; BuildKit leaves them"
_NO_MATCH = "a wildcard that matches nothing copies nothing; BuildKit refuses it in a folder it did not send"
_UNRELATED = "a folder that --parents does not copy may be called as a file there; BuildKit refuses it"
_LOCAL_HISTORY = "a folder as base has its line first; BuildKit's line is last, or names another step"

KNOWN: dict[str, str] = {
    "copy/glob_class_as_escape": "[*] is a literal star, as in Go's filepath.Match; BuildKit copies nothing",
    "copy/glob_below_file": _NO_MATCH,
    "copy/glob_no_match_in_folder": _NO_MATCH,
    "copy/link_after_glob": "a link that a wildcard leads to is followed; BuildKit does not send its target",
    "copy/socket": "a socket is left out; BuildKit makes an empty file of it",
    "git/submodules": "a submodule has no .git file; BuildKit leaves one that leads nowhere",
    "named/folder_as_base_then_copy": _LOCAL_HISTORY,
    "named/folder_as_stage": _LOCAL_HISTORY,
    "named/git_as_base": _LOCAL_HISTORY,
    "parents/unrelated_folders_over_file": _UNRELATED,
    "run/etc_of_bare_base": _STUBS,
    "run/hard_link_to_base": "the new and the old name stay one file; BuildKit makes two of them",
    "run/no_shell": _EXIT_CODE,
    "run/not_executable": _EXIT_CODE,
    "run/not_found_exec": _EXIT_CODE,
    "run/proc_not_made": _STUBS,
    "run/xattrs_kept": "user.* attributes stay on a file that RUN changes; BuildKit drops them",
    "stage/target_index": "--target takes an index too, as --from does; BuildKit takes names only",
    "syntax/escape_twice": "the second directive's line is named; BuildKit names the first",
    "url/sha512": "a sha512 checksum is compared with the file's sha512; BuildKit compares its sha256",
}
