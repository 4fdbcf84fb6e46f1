"""``--secret ...,cache=content``: a value counts, and nothing outside the store tells what it was."""

from __future__ import annotations

import hashlib
import stat

from tests.feature.project import Project, files_below

TEXT = (
    "FROM busybox\nRUN --mount=type=secret,id=key md5sum /run/secrets/key > /out; cat /proc/uptime > /when\n"
)


def secret(project: Project, value: str, more: str = ",cache=content") -> list[str]:
    (project.root / "value").write_text(value)
    return ["--secret", f"id=key,src={project.root}/value{more}"]


def test_a_changed_value_runs_the_step_again_and_is_named(project: Project) -> None:
    project.built(*secret(project, "one"), text=TEXT)
    assert project.built(*secret(project, "one")).summary == (1, 1)
    done = project.built(*secret(project, "two"), "--explain")
    assert "not cached: secret key changed" in done.err
    assert "secret key changed" in project.command("cache", "why").out
    assert project.built(*secret(project, "one")).summary == (1, 1)


def test_every_difference_is_told_where_a_secret_is_not_the_only_one(project: Project) -> None:
    text = TEXT.replace("RUN", "ARG A=1\nRUN", 1)
    project.built(*secret(project, "one"), text=text)
    done = project.built(*secret(project, "two"), "--build-arg", "A=2", "--explain")
    assert "ARG A changed: 1 → 2 (and 1 more)" in done.err and "secret key changed" in done.err


def test_without_the_option_only_the_id_counts(project: Project) -> None:
    project.built(*secret(project, "one", ""), text=TEXT)
    assert project.built(*secret(project, "two", "")).summary == (1, 1)
    assert "the value of secret key counts now" in project.built(*secret(project, "two")).err


def test_no_hash_that_anybody_could_compute_is_kept(project: Project) -> None:
    value = "a value that is easy to guess"
    cache = project.root / "cache"
    text = TEXT.replace("md5sum /run/secrets/key > /out; ", "")
    project.built(*secret(project, value), "--cache-to", f"type=local,dest={cache},mode=max", text=text)
    names = ("md5", "sha1", "sha256", "sha512", "blake2b", "blake2s")
    plain = [
        hashlib.new(name, form).hexdigest()
        for name in names
        for form in (value.encode(), b"=" + value.encode())
    ]
    plain.append(hashlib.blake2b(b"=" + value.encode(), digest_size=16).hexdigest())
    for folder in (project.store, cache):
        for path in files_below(folder):
            data = path.read_bytes()
            assert value.encode() not in data
            assert not [one for one in plain if one.encode() in data or bytes.fromhex(one) in data], path


def test_the_key_is_for_its_user_only_and_another_store_has_another(project: Project) -> None:
    keys = []
    for name in ("one", "two"):
        project.store = project.root / name
        project.environment["MINIBUILD_ROOT"] = str(project.store)
        project.built(*secret(project, "value"), text=TEXT)
        (path,) = files_below(project.store / "records-v2/secret-key")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        keys.append(path.read_bytes())
    assert keys[0] != keys[1]
    assert project.command("cache", "prune", "--all").code == 0 and path.exists()


def test_a_step_of_another_store_is_not_taken_for_one_with_the_same_value(project: Project) -> None:
    cache = project.root / "cache"
    project.built(*secret(project, "value"), "--cache-to", f"type=local,dest={cache}", text=TEXT)
    project.store = project.root / "other"
    project.environment["MINIBUILD_ROOT"] = str(project.store)
    source = ("--cache-from", f"type=local,src={cache}")
    assert project.built(*secret(project, "value"), *source).summary == (1, 0)
