# SPDX-License-Identifier: GPL-3.0-or-later
"""What Incus is told of an image."""

import io
import tarfile

import pytest
import yaml

from incus_testbed import errors
from incus_testbed.image.metadata import metadata_tar
from incus_testbed.system.architecture import incus_name


def made(**changes: object) -> bytes:
    arguments = {
        "architecture": "amd64",
        "creation_date": 1_700_000_000,
        "profile": "debusine",
        "description": "Debian: bookworm #1",
        "vendor": "Debian",
        "codename": "bookworm",
        "artifact_id": "42",
        "properties": {
            "debian_version": "12",
            "null": "no",
            "date": "2026-01-01",
        },
        **changes,
    }
    return metadata_tar(**arguments)  # type: ignore[arg-type]


def files(data: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            member.name: file.read().decode()
            for member in tar
            if (file := tar.extractfile(member))
        }


def test_the_metadata_is_what_the_specification_has() -> None:
    assert yaml.safe_load(files(made(properties=None))["metadata.yaml"]) == {
        "architecture": "x86_64",
        "creation_date": 1_700_000_000,
        "profiles": ["debusine"],
        "properties": {
            "description": "Debian: bookworm #1",
            "os": "Debian",
            "release": "bookworm",
            "artifact_id": "42",
        },
        "templates": {
            "/etc/hostname": {
                "when": ["create", "copy"],
                "create_only": False,
                "template": "hostname.tpl",
                "properties": {},
            },
            "/etc/hosts": {
                "when": ["create", "copy"],
                "create_only": False,
                "template": "hosts.tpl",
                "properties": {},
            },
        },
    }


@pytest.mark.parametrize("key", ["description", "vendor", "codename"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe", "Größe"),
        ("\x1b[2J\n\x7f\x9b", "\\x1b[2J\\n\\x7f\\x9b"),
        ("\udcff \ud800", "\\udcff \\ud800"),
        (10_000 * "a", 1000 * "a"),
        (["12", 3], "['12', 3]"),
    ],
)
def test_what_others_call_it_is_short_and_printable(
    key: str, text: object, shown: str
) -> None:
    name = {"vendor": "os", "codename": "release"}.get(key, key)

    metadata = yaml.safe_load(files(made(**{key: text}))["metadata.yaml"])

    assert metadata["properties"][name] == shown


def test_the_templates_are_what_the_specification_has() -> None:
    found = files(made())
    assert found["templates/hostname.tpl"].split("\n") == [
        "{{ container.name }}",
        "",
    ]
    assert found["templates/hosts.tpl"].splitlines() == [
        "127.0.1.1 {{ container.name }}",
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "ff02::1 ip6-allnodes",
        "ff02::2 ip6-allrouters",
    ]
    assert len(found) == 3


def test_files_that_begin_empty() -> None:
    found = files(made(emptied=["etc/machine-id"]))
    templates = yaml.safe_load(found["metadata.yaml"])["templates"]
    assert templates["/etc/machine-id"] == {
        "when": ["create", "copy"],
        "create_only": False,
        "template": "empty.tpl",
        "properties": {},
    }
    assert found["templates/empty.tpl"] == ""
    assert len(templates) == 3


def test_properties_are_strings_whatever_they_look_like() -> None:
    properties = {"a": "12", "b": "no", "c": "2026-01-01", "d": "", "e": "1e3"}
    loaded = yaml.safe_load(
        files(made(properties=properties, artifact_id="7"))["metadata.yaml"]
    )["properties"]
    assert {name: loaded[name] for name in properties} == properties
    assert loaded["artifact_id"] == "7"


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert made() == made()
    assert made() != made(creation_date=1)


@pytest.mark.parametrize(
    ("debian", "incus"),
    [
        ("amd64", "x86_64"),
        ("i386", "i686"),
        ("arm64", "aarch64"),
        ("armhf", "armv7l"),
        ("ppc64el", "ppc64le"),
        ("s390x", "s390x"),
        ("loong64", "loongarch64"),
    ],
)
def test_an_architecture_has_the_kernels_name(debian: str, incus: str) -> None:
    assert incus_name(debian) == incus


@pytest.mark.parametrize("name", ["hurd-i386", "x86_64", "", "sparc64"])
def test_an_architecture_that_incus_does_not_know(name: str) -> None:
    with pytest.raises(errors.BadImage) as caught:
        made(architecture=name)
    assert f"'{name}'" in caught.value.brief
    assert "amd64" in caught.value.resolution
