"""Java's key stores, as the JDK's own tool reads and writes them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.sandbox import trust, truststore

KEYTOOL = shutil.which("keytool")
needs_java = pytest.mark.skipif(KEYTOOL is None, reason="keytool is not installed")


def keytool(*arguments: str) -> str:
    assert KEYTOOL is not None
    command = [KEYTOOL, *arguments, "-storepass", truststore.PASSWORD]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A certificate in PEM form."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout", "k",
         "-out", "c"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return (folder / "c").read_bytes()


@needs_java
def test_keytool_reads_what_is_written(tmp_path: Path, certificate: bytes) -> None:
    store = tmp_path / "store"
    entries = [
        truststore.entry(f"alias-{n}", der) for n, der in enumerate(trust.certificates(certificate * 2))
    ]
    store.write_bytes(truststore.dump(entries))
    listed = keytool("-list", "-keystore", str(store))
    assert "alias-0" in listed and "alias-1" in listed and "2 entries" in listed


@needs_java
@pytest.mark.parametrize("kind", ["jks", "pkcs12-open"])
def test_what_keytool_writes_is_read(tmp_path: Path, certificate: bytes, kind: str) -> None:
    store = tmp_path / "store"
    (tmp_path / "c").write_bytes(certificate)
    options = [
        "-importcert",
        "-noprompt",
        "-alias",
        "one",
        "-file",
        str(tmp_path / "c"),
        "-keystore",
        str(store),
    ]
    if kind == "jks":
        options += ["-storetype", "jks"]
    else:
        options += [
            "-storetype", "pkcs12",
            "-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE", "-J-Dkeystore.pkcs12.macAlgorithm=NONE",
        ]  # fmt: skip
    keytool(*options)
    entries = truststore.entries(store.read_bytes())
    assert entries is not None and len(entries) == 1
    assert trust.certificates(certificate)[0] in entries[0].data


def test_another_password_is_left_alone(certificate: bytes) -> None:
    data = truststore.dump([truststore.entry("a", trust.certificates(certificate)[0])])
    assert truststore.entries(data[:-1] + bytes([data[-1] ^ 1])) is None


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xfe\xed\xfe\xed", b"\x30", b"\x30\x82"]))
def test_any_bytes_are_a_store_or_none(data: bytes, head: bytes) -> None:
    found = truststore.entries(head + data)
    assert found is None or isinstance(found, list)


@given(st.lists(st.tuples(st.text("abc-", max_size=9), st.binary(max_size=50)), max_size=5))
def test_a_store_is_read_as_it_was_written(rows: list[tuple[str, bytes]]) -> None:
    entries = [truststore.entry(alias, der) for alias, der in rows]
    assert truststore.entries(truststore.dump(entries)) == entries
