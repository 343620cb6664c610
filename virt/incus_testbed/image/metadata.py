# SPDX-License-Identifier: GPL-3.0-or-later
"""Make an image's metadata for Incus: metadata.yaml and its templates."""

import io
import tarfile
from collections.abc import Iterable, Mapping

import yaml

from incus_testbed.errors import printable
from incus_testbed.system.architecture import incus_name

#: Characters of a name or a description.
_LONGEST = 1000

_EMPTY = "empty.tpl"
_TEMPLATES = {
    "hostname.tpl": "{{ container.name }}\n",
    "hosts.tpl": (
        "127.0.1.1 {{ container.name }}\n"
        "127.0.0.1 localhost\n"
        "::1 localhost ip6-localhost ip6-loopback\n"
        "ff02::1 ip6-allnodes\n"
        "ff02::2 ip6-allrouters\n"
    ),
}


def metadata_tar(
    *,
    architecture: str,
    creation_date: int,
    profile: str,
    description: str,
    vendor: str,
    codename: str,
    artifact_id: str,
    properties: Mapping[str, str] | None = None,
    emptied: Iterable[str] = (),
) -> bytes:
    """Return a tar archive that makes an Incus image of a root file system.

    ``architecture`` is dpkg's name, ``creation_date`` is in seconds since
    1970.  The other arguments become properties of the image, together with
    ``properties``.  The names and the description may come from another user,
    or from the image: they are made printable, and cut.  ``profile`` only
    informs a reader: Incus ignores it.  Each instance, and each copy of one,
    starts with the files ``emptied`` empty; their paths are relative to the
    root.  No part of these paths may be a link, because Incus may follow it to
    files of the host.  The same arguments give the same bytes.

    :raises errors.BadImage: Incus does not know the architecture
    """
    empty = list(emptied)
    metadata = {
        "architecture": incus_name(architecture),
        "creation_date": creation_date,
        "profiles": [profile],
        "properties": {
            "description": _text(description),
            "os": _text(vendor),
            "release": _text(codename),
            "artifact_id": _text(artifact_id),
            **(properties or {}),
        },
        "templates": {
            "/etc/hostname": _template("hostname.tpl"),
            "/etc/hosts": _template("hosts.tpl"),
            **{f"/{path}": _template(_EMPTY) for path in empty},
        },
    }
    texts = {**_TEMPLATES, **({_EMPTY: ""} if empty else {})}
    files = {
        "metadata.yaml": yaml.safe_dump(
            metadata, sort_keys=False, allow_unicode=True
        ),
        **{f"templates/{name}": text for name, text in texts.items()},
    }
    return _tar(files, date=creation_date)


def _text(said: object) -> str:
    return printable(str(said)[:_LONGEST])[:_LONGEST]


def _template(name: str) -> dict[str, object]:
    return {
        "when": ["create", "copy"],
        "create_only": False,
        "template": name,
        "properties": {},
    }


def _tar(files: Mapping[str, str], *, date: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, text in files.items():
            content = text.encode()
            member = tarfile.TarInfo(name)
            member.mtime = date
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()
