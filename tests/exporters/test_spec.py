from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minibuild.errors import UsageError
from minibuild.exporters.annotations import Annotation, Level, select
from minibuild.exporters.csvline import fields
from minibuild.exporters.spec import OutputSpec, parse_output
from minibuild.layers.compress import Compression
from minibuild.oci.platform import Platform
from minibuild.oci.reference import Reference


def fault(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_output(text)
    return caught.value


def test_a_folder_alone_is_a_local_output() -> None:
    assert parse_output("out/dir") == OutputSpec("local", dest="out/dir")


def test_a_folder_with_an_equals_sign_is_still_a_folder() -> None:
    assert parse_output("build=1").dest == "build=1"


def test_a_dash_alone_is_a_tar_to_standard_output() -> None:
    assert parse_output("-") == OutputSpec("tar", dest="-")


def test_registry_is_an_image_that_is_pushed() -> None:
    spec = parse_output("type=registry,name=registry.example/app:1")
    assert (spec.kind, spec.push, spec.names) == ("image", True, (Reference("registry.example", "app", "1"),))


def test_push_false_is_obeyed_for_a_registry() -> None:
    assert not parse_output("type=registry,name=app,push=false").push


def test_a_quoted_field_holds_several_names() -> None:
    spec = parse_output('type=image,"name=app:1,registry.example/app"')
    assert [str(name) for name in spec.names] == [
        "docker.io/library/app:1",
        "registry.example/app:latest",
    ]


def test_the_same_name_twice_counts_once() -> None:
    assert len(parse_output('type=image,"name=app,app:latest"').names) == 1


@pytest.mark.parametrize("text", ["true", "1", "T", ""])
def test_flags_are_read_as_go_reads_them(text: str) -> None:
    assert parse_output(f"type=image,name=x,push={text}").push


def test_keys_are_read_in_any_case() -> None:
    assert parse_output("Type=oci,DEST=x").dest == "x"


def test_a_layout_folder_is_a_tar_that_is_not_wanted() -> None:
    assert not parse_output("type=oci,dest=x,tar=false").tar


def test_a_compression_takes_a_level() -> None:
    spec = parse_output("type=oci,dest=x,compression=gzip,compression-level=9,force-compression=true")
    assert (spec.compression, spec.force_compression) == (Compression("gzip", 9), True)


def test_a_level_alone_is_of_the_usual_compression() -> None:
    assert parse_output("type=oci,dest=x,compression-level=7").compression == Compression("zstd", 7)


def test_a_level_alone_is_of_gzip_for_docker() -> None:
    assert parse_output("type=docker,dest=x,compression-level=7").compression == Compression("gzip", 7)


def test_docker_archives_have_docker_media_types_unless_told_otherwise() -> None:
    assert parse_output("type=docker,dest=x").media_types == "docker"
    assert parse_output("type=docker,dest=x,oci-mediatypes=true").media_types == "oci"


def test_an_annotation_keeps_the_case_of_its_key() -> None:
    spec = parse_output("type=oci,dest=x,annotation.org.Example=Y=z")
    assert spec.annotations == (Annotation(Level.MANIFEST, "org.Example", "Y=z"),)


def test_an_annotation_may_be_for_one_platform() -> None:
    spec = parse_output("type=oci,dest=x,annotation-manifest-descriptor[linux/arm64].k=v")
    assert spec.annotations == (Annotation(Level.MANIFEST_DESCRIPTOR, "k", "v", Platform("linux", "arm64")),)


def test_an_annotation_of_a_platform_wins_over_one_of_all() -> None:
    arm = Platform("linux", "arm64")
    annotations = [
        Annotation(Level.MANIFEST, "k", "arm", arm),
        Annotation(Level.MANIFEST, "k", "all"),
    ]
    assert select(annotations, Level.MANIFEST, arm) == {"k": "arm"}


def test_options_without_meaning_here_are_taken() -> None:
    assert parse_output("type=image,name=x,unpack=true") == parse_output("type=image,name=x")


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("type=ocii,dest=x", "Did you mean type=oci?"),
        ("type=oci,dst=x", "Did you mean dest=?"),
        ("type=oci,output=x", "Did you mean dest=?"),
        ("type=oci,dest=x,compresion=gzip", "Did you mean compression=?"),
        ("dest=x", "Add type=, one of oci, docker, image, local, tar, cacheonly, registry."),
        ("tpye=oci", "Add type="),
        ("type=oci", "Name the file (or - for standard output) to write with dest=."),
        ("type=oci,tar=false", "Name the folder to write with dest=."),
        ("type=oci,dest=-,tar=false", "Name a folder"),
        ("type=local,dest=-", "Name a folder"),
        ("type=oci,dest=x,tar=perhaps", "Say true or false."),
        ("type=oci,dest=x,push", "Write push=true or another value."),
        ("type=oci,dest=x,push=true", "Leave it out; its options are"),
        ("type=local,dest=x,compression=gzip", "Leave it out; its options are"),
        ("type=local,dest=x,mode=move", "Say copy or delete."),
        ("type=docker,dest=x,compression=zstd", "Use compression=gzip, or oci-mediatypes=true."),
        ("type=oci,dest=x,compression=estargz", "Say zstd, gzip or uncompressed."),
        ("type=oci,dest=x,annotation-foo.k=v", "The levels are manifest, manifest-descriptor"),
        ("type=oci,dest=x,annotation-index[linux/arm64].k=v", "Leave [linux/arm64] out"),
        ("type=image,push=true,push-by-digest=true", "Add push=true and name=REPOSITORY."),
        ("type=oci,dest=x,source-date-epoch=now", "Give a whole number"),
        ('type=oci,"dest=x', "Quote a whole field"),
        ('type=oci,dest="x"', "Quote a whole field"),
        ("type=oci,dest", "Write dest=true or another value."),
        ("", "Say -o DIR"),
    ],
)
def test_a_slip_is_told_with_its_cure(text: str, cure: str) -> None:
    assert fault(text).cure.startswith(cure)


def test_annotations_are_for_images() -> None:
    assert "type=local is no image" in fault("type=local,dest=x,annotation.k=v").message


@given(st.lists(st.text(), min_size=1))
def test_fields_that_are_quoted_come_back(texts: list[str]) -> None:
    line = ",".join('"' + text.replace('"', '""') + '"' for text in texts)
    assert fields(line, "output") == texts


@given(st.text())
def test_any_value_is_read_or_refused(text: str) -> None:
    try:
        assert parse_output(text).kind
    except UsageError as error:
        assert error.message
