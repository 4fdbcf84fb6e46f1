"""SHA-256 is the same whichever module computes it, and OpenSSL is loaded for long texts only."""

import hashlib
import subprocess
import sys

import pytest
from minibuild_store import shorthash
from minibuild_store.shorthash import SHORT, sha256

SCRIPT = """
import sys
from minibuild_store.shorthash import SHORT, sha256
first = sha256(b"name", bytes(SHORT - 4)).hexdigest()
assert "hashlib" not in sys.modules
second = sha256(b"name", bytes(SHORT)).hexdigest()
assert "hashlib" in sys.modules
print(first, second)
"""


@pytest.mark.parametrize(
    "parts", [(), (b"",), (b"a", bytearray(b"bc"), memoryview(b"d")), (bytes(SHORT + 1),)]
)
def test_it_is_that_of_hashlib(parts):
    assert sha256(*parts).hexdigest() == hashlib.sha256(b"".join(parts)).hexdigest()
    assert shorthash._own(b"".join(parts)).digest() == hashlib.sha256(b"".join(parts)).digest()


def test_a_short_text_loads_no_openssl_and_a_long_one_does():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    long = [hashlib.sha256(b"name" + bytes(size)).hexdigest() for size in (SHORT - 4, SHORT)]
    assert done.stdout.split() == long
