"""--ca-bundle: what RUN trusts while it runs, and of which nothing stays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from minibuild.sandbox import truststore
from tests.feature.programs import copy_program
from tests.feature.project import Project, files_below
from tests.feature.tls import make_authority, web_server

BUNDLE = "etc/ssl/certs/ca-certificates.crt"


@dataclass
class Site:
    """A web server, its authority, and an image with curl and another authority's bundle."""

    project: Project
    url: str
    authority: Path
    bundle: bytes

    @property
    def option(self) -> list[str]:
        return ["--ca-bundle", str(self.authority)]


@pytest.fixture
def site(project: Project) -> Iterator[Site]:
    authority, other = (make_authority(project.root, name) for name in ("ours", "other"))
    copy_program("curl", project.context / "tools")
    bundle = b"# of the image\n" + other.read_bytes()
    project.write(f"tools/{BUNDLE}", bundle)
    (project.context / "tools/etc/ssl/cert.pem").symlink_to("certs/ca-certificates.crt")
    project.dockerfile("FROM busybox\nCOPY tools /\n", "Base")
    project.built("-f", str(project.context / "Base"), "-t", "local/tls")
    with web_server(project.root, authority) as url:
        yield Site(project, url, authority, bundle)


def key_lines(certificate: Path) -> list[bytes]:
    return [line for line in certificate.read_bytes().splitlines() if b"-----" not in line]


def test_a_step_trusts_the_authority_only_with_the_option(site: Site) -> None:
    text = f"FROM local/tls\nRUN curl -sS {site.url} > /got\n"
    done = site.project.build(text=text)
    assert done.code == 1 and "SSL certificate problem" in done.err
    assert site.project.image(*site.option, text=text).text("got") == "hello\n"


def test_programs_that_look_at_the_bundle_alone_trust_it_too(site: Site) -> None:
    text = f"FROM local/tls\nRUN env -i /usr/bin/curl -sS {site.url} > /got\n"
    assert site.project.image(*site.option, text=text).text("got") == "hello\n"


def test_an_image_without_a_bundle_is_told_by_variables(site: Site) -> None:
    text = f"FROM local/tls\nRUN rm -r /etc/ssl\nRUN curl -sS {site.url} > /got; ls -A /etc /run > /seen\n"
    image = site.project.image(*site.option, text=text)
    assert image.text("got") == "hello\n"
    assert not any(path.startswith(("run/", "etc/")) for path in image.layer(-1))


def test_what_the_image_trusts_it_still_trusts(site: Site) -> None:
    text = "FROM local/tls\nRUN grep -c BEGIN /etc/ssl/cert.pem $SSL_CERT_FILE > /seen\n"
    seen = site.project.image(*site.option, text=text).text("seen")
    assert [line.rpartition(":")[2] for line in seen.split()] == ["2", "2"]


def test_no_byte_of_it_is_in_the_image_or_the_store(site: Site) -> None:
    text = f"""
    FROM local/tls
    RUN curl -sS {site.url} > /got
    RUN touch /etc/ssl/certs/ca-certificates.crt
    RUN echo '# more' >> /etc/ssl/certs/ca-certificates.crt
    RUN cp -a /etc/ssl /copied && mv /etc/ssl/certs/ca-certificates.crt /moved
    """
    image = site.project.image(*site.option, text=text)
    for path in (site.project.store, image.layout):
        kept = files_below(path)
        for line in key_lines(site.authority):
            assert not [file for file in kept if line in file.read_bytes()]
    for number in range(len(image.diff_ids)):
        assert not any(line in image.tar(number) for line in key_lines(site.authority))
    config = image.blob(image.manifest["config"]["digest"])
    assert b"minibuild" not in config and b"CURL_CA_BUNDLE" not in config
    files = image.files
    assert BUNDLE not in files
    for path in ("moved", "copied/certs/ca-certificates.crt"):
        assert files[path].data == site.bundle + b"# more\n"


def test_the_layers_are_those_of_a_build_without_it(site: Site) -> None:
    text = """
    FROM local/tls
    RUN echo x > /etc/ssl/certs/new && chmod 700 /etc/ssl && rm /etc/ssl/cert.pem && echo y > /y
    RUN echo z > /etc/ssl/certs/ca-certificates.crt
    RUN rm -r /etc/ssl && mkdir -p /etc/ssl/certs
    """
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    plain = site.project.image("--no-cache", text=text, environment=epoch)
    trusting = site.project.image("--no-cache", *site.option, environment=epoch)
    assert trusting.diff_ids == plain.diff_ids


def test_a_bundle_may_be_replaced_by_renaming(site: Site) -> None:
    text = "FROM local/tls\nRUN cd /etc/ssl/certs && echo new > x && mv -f x ca-certificates.crt\n"
    assert site.project.image(*site.option, text=text).text(BUNDLE) == "new\n"


@pytest.mark.parametrize("place", ["usr/lib/jvm/java-21", "opt/jre", "opt/java/openjdk", "usr/local/jdk/jre"])
def test_a_java_of_the_image_trusts_it_while_the_step_runs(site: Site, place: str) -> None:
    store = truststore.dump([truststore.entry("own", b"certificate")])
    site.project.write(f"{place}/lib/security/cacerts", store)
    text = f"""
    FROM local/tls
    COPY {place} /{place}
    RUN grep -c minibuild-ca-bundle /{place}/lib/security/cacerts > /seen
    """
    image = site.project.image(*site.option, text=text)
    assert image.text("seen") == "1\n"
    assert list(image.layer(-1)) == ["seen"]
    assert image.files[f"{place}/lib/security/cacerts"].data == store


def test_it_counts_for_no_key(site: Site) -> None:
    text = "FROM local/tls\nRUN echo x > /x\n"
    site.project.built(text=text)
    assert site.project.built(*site.option).summary == (1, 1)


def test_a_variable_of_the_image_keeps_its_value(site: Site) -> None:
    text = "FROM local/tls\nENV PIP_CERT=/mine GIT_SSL_CAINFO=\nRUN echo $PIP_CERT $GIT_SSL_CAINFO > /seen\n"
    image = site.project.image(*site.option, text=text)
    assert image.text("seen") == "/mine /run/minibuild/ca-bundle.pem\n"


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot read the CA bundle"), (b"\x30\x82", "no certificate in PEM")]
)
def test_a_file_that_is_no_bundle_is_refused(project: Project, content: bytes | None, words: str) -> None:
    path = project.root / "file"
    if content is not None:
        path.write_bytes(content)
    done = project.build("--ca-bundle", str(path), text="FROM busybox\n")
    assert done.code == 2 and words in done.error


def test_hostile_places_are_left_alone(site: Site) -> None:
    outside = site.project.root / "outside.pem"
    outside.write_bytes(site.bundle)
    before = hashlib.sha256(outside.read_bytes()).digest()
    text = f"""
    FROM local/tls
    RUN cd /etc/ssl && rm -r certs cert.pem && ln -s ../../../../../../../..{outside} cert.pem \\
        && ln -s loop loop && ln -s loop certs \\
        && mkdir -p /etc/pki/tls/certs && mkfifo /etc/pki/tls/cert.pem \\
        && dd if=/dev/zero of=/etc/pki/tls/certs/ca-bundle.crt bs=1M seek=100 count=0 2>/dev/null
    RUN echo x > /x; cat /etc/ssl/cert.pem > /seen || true
    """
    image = site.project.image(*site.option, text=text)
    assert image.text("seen") == ""
    assert hashlib.sha256(outside.read_bytes()).digest() == before
