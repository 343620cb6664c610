# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of a fake Incus, as the API describes them."""

import hashlib
import tarfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from incus_testbed.image.disk import qcow2
from incus_testbed.incus import messages

#: Go's zero time: it has not happened.
_NEVER = "0001-01-01T00:00:00Z"


def refusal(said: str) -> Exception:
    """Return the error that a message of Incus stands for."""
    return messages.of_message(said, "the fake Incus")


def now() -> str:
    """Return the time as Incus writes it."""
    return datetime.now(UTC).isoformat()


class Images:
    """Split images of files, and their aliases, by the words of incus image.

    ``profile_exists`` tells whether a profile of this name does.
    """

    def __init__(self, profile_exists: Callable[[str], object]) -> None:
        """Have no images."""
        self._profile_exists = profile_exists
        self._records: dict[str, dict[str, Any]] = {}

    def get(self, path: str) -> Any:
        """Answer what is asked of all images, of one, or of an alias."""
        if not path:
            # The order means nothing: it is not that of the imports.
            return [self._records[name] for name in sorted(self._records)]
        if path == "aliases":
            return [
                {"name": each["name"], "target": fingerprint}
                for fingerprint, record in sorted(self._records.items())
                for each in record["aliases"]
            ]
        if not path.startswith("aliases/"):
            return self._of_fingerprint(path)
        alias = path.removeprefix("aliases/")
        for record in self._records.values():
            if any(each["name"] == alias for each in record["aliases"]):
                return {"name": alias, "target": record["fingerprint"]}
        raise refusal("Image alias not found")

    def change(self, method: str, path: str, document: Any) -> None:
        """Change what is at a path: an image, or an alias."""
        match method, *path.split("/", 1):
            case "POST", "aliases":
                self._create_alias(**document)
            case "PUT", "aliases", name:
                self._of_fingerprint(document["target"])
                self._delete_alias(unquote(name))
                self._create_alias(unquote(name), **document)
            case "DELETE", "aliases", name:
                self._delete_alias(unquote(name))
            case "PUT", fingerprint:
                self._edit(self._of_fingerprint(fingerprint), document)
            case _:
                raise NotImplementedError(f"{method} images/{path}")

    def run(self, verb: str, *words: str) -> bytes:
        """Do what incus image would; return what it prints."""
        match verb, *words:
            case "import", metadata, rootfs:
                made = self._import(Path(metadata), Path(rootfs))
                return f"Image imported with fingerprint: {made}\n".encode()
            case "import", _:
                raise refusal("Metadata tarball is missing metadata.yaml")
            case "unset-property", word, key:
                self.named(word)["properties"].pop(key, None)
            case "delete", word:
                del self._records[self.named(word)["fingerprint"]]
            case _:
                raise NotImplementedError(f"incus image {verb} {words}")
        return b""

    def named(self, word: str) -> dict[str, Any]:
        """Return the image that an alias or a fingerprint stands for."""
        for record in self._records.values():
            if any(each["name"] == word for each in record["aliases"]):
                return record
        return self._of_fingerprint(word)

    def use(self, word: str) -> dict[str, Any]:
        """Return an image of which an instance is made now."""
        record = self.named(word)
        record["last_used_at"] = now()
        return record

    def has(self, fingerprint: str) -> bool:
        """Tell whether there is an image."""
        return fingerprint in self._records

    def _of_fingerprint(self, word: str) -> dict[str, Any]:
        """Return the image whose fingerprint begins like this."""
        found = [name for name in self._records if name.startswith(word)]
        if len(found) != 1:
            raise refusal(f'Image "{word}" not found')
        return self._records[found[0]]

    def _import(self, metadata: Path, rootfs: Path) -> str:
        head, content = metadata.read_bytes(), rootfs.read_bytes()
        fingerprint = hashlib.sha256(head + content).hexdigest()
        if fingerprint in self._records:
            raise refusal("Image with same fingerprint already exists")
        facts = _facts(metadata)
        is_disk = content.startswith(qcow2.MAGIC)
        self._records[fingerprint] = {
            "fingerprint": fingerprint,
            "aliases": [],
            "properties": facts["properties"],
            "profiles": ["default"],
            "type": "virtual-machine" if is_disk else "container",
            "architecture": facts["architecture"],
            "size": len(head) + len(content),
            "created_at": datetime.fromtimestamp(
                facts["creation_date"], UTC
            ).isoformat(),
            "uploaded_at": now(),
            "last_used_at": _NEVER,
        }
        return fingerprint

    def _edit(self, record: dict[str, Any], document: dict[str, Any]) -> None:
        for profile in document["profiles"]:
            if not self._profile_exists(profile):
                raise refusal(f"Profile '{profile}' doesn't exist")
        record.update(document)

    def _create_alias(
        self, name: str, target: str, description: str = ""
    ) -> None:
        record = self._of_fingerprint(target)
        if name in self._aliases():
            raise refusal(f'Alias "{name}" already exists')
        record["aliases"].append({"name": name, "description": description})

    def _delete_alias(self, alias: str) -> None:
        if alias not in self._aliases():
            raise refusal("Image alias not found")
        for record in self._records.values():
            record["aliases"] = [
                each for each in record["aliases"] if each["name"] != alias
            ]

    def _aliases(self) -> Sequence[str]:
        return [
            each["name"]
            for record in self._records.values()
            for each in record["aliases"]
        ]


def _facts(metadata: Path) -> Any:
    with tarfile.open(metadata) as tar:
        file = tar.extractfile("metadata.yaml")
        assert file
        return yaml.safe_load(file)
