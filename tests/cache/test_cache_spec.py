"""``--cache-to`` and ``--cache-from`` as they are written."""

from __future__ import annotations

import pytest

from minibuild.cache.document import InvalidCache, cache_manifest, read_document, read_manifest
from minibuild.cache.spec import parse_cache
from minibuild.errors import UsageError


def test_a_bare_name_is_a_registrys() -> None:
    spec = parse_cache("host/app:cache", "--cache-from", export=False)
    assert (spec.kind, spec.options) == ("registry", {"ref": "host/app:cache"})


def test_buildx_lines_are_read_with_what_has_no_effect_here() -> None:
    spec = parse_cache(
        "type=registry,ref=h/a:c,mode=max,image-manifest=true,oci-mediatypes=true,compression=zstd,"
        "force-compression=true,ignore-error=false",
        "--cache-to",
        export=True,
    )
    assert spec.mode == "max" and not spec.ignore_error and spec.options["ref"] == "h/a:c"


def test_secrets_are_not_shown() -> None:
    text = "type=s3,bucket=b,prefix=p/,name=n,access_key_id=AKIA,secret_access_key=hush"
    spec = parse_cache(text, "--cache-to", export=True)
    assert spec.shown == "s3 b/p/n" and "hush" not in repr(spec)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("type=registry", "no ref="),
        ("type=local,src=x", "no dest="),
        ("type=regstry,ref=x", "no cache type"),
        ("type=registry,reff=x", "did you mean ref?"),
        ("type=registry,ref=x,mode=most", "mode"),
        ("type=registry,ref=Not A Name", "not a repository name"),
        ("type=gha,ur=x", "did you mean url?"),
        ("type=local,dest", "no value"),
        ("type=local,dest=x,timeout=soon", "timeout"),
    ],
)
def test_a_fault_is_named(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_cache(text, "--cache-to", export=True)
    assert words in caught.value.message and caught.value.cure


def test_a_timeout_may_be_in_seconds_or_minutes() -> None:
    assert parse_cache("type=local,src=x,timeout=2m", "--cache-from", export=False).timeout == 120
    assert parse_cache("type=local,src=x,timeout=5s", "--cache-from", export=False).timeout == 5


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "damaged"),
        (b"[]", "damaged"),
        (b'{"format":"other"}', "not a minibuild cache"),
        (b'{"format":"minibuild-cache","version":99}', "has format 99"),
        (
            b'{"format":"minibuild-cache","version":1,"layers":[],"steps":[["k",0,"x",0,0,""]]}',
            "damaged",
        ),
        (b'{"format":"minibuild-cache","version":1,"layers":[["t","../../x",1]],"steps":[]}', "damaged"),
        (b'{"format":"minibuild-cache","version":1,"layers":7,"steps":[]}', "damaged"),
    ],
)
def test_records_that_are_not_ours_or_not_whole_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(InvalidCache, match=words):
        read_document(data)


def test_a_cache_of_buildkits_is_named_for_what_it_is() -> None:
    manifest = b'{"config":{"mediaType":"application/vnd.buildkit.cacheconfig.v0"},"layers":[]}'
    with pytest.raises(InvalidCache, match="BuildKit"):
        read_manifest(manifest)
    index = b'{"manifests":[{"mediaType":"application/vnd.buildkit.cacheconfig.v0"}]}'
    with pytest.raises(InvalidCache, match="BuildKit"):
        read_manifest(index)


def test_embedded_records_must_be_what_their_digest_says() -> None:
    data = b'{"format":"minibuild-cache","version":1,"layers":[],"steps":[],"notes":{}}'
    manifest = cache_manifest(data, [])
    assert read_manifest(manifest).document is not None
    with pytest.raises(InvalidCache):
        read_manifest(manifest.replace(b"eyJmb3JtYXQi", b"eyJmb3JtYXQj"))
