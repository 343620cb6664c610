# SPDX-License-Identifier: GPL-3.0-or-later
"""Read from an artifact's data which file becomes an image, and its labels."""

from debusine.client.models import ArtifactResponse

from incus_testbed import errors
from incus_testbed.image import alias
from incus_testbed.image.labels import Labels


class SystemImage:
    """The file of an artifact that becomes an image, and the image's alias.

    ``sha256`` (hexadecimal) and ``size`` (bytes) are the file's.
    """

    def __init__(self, artifact: ArtifactResponse) -> None:
        """Read the data that the server has sent.

        :raises errors.BadImage: there is no such file, the server does not
            tell its SHA-256, or it can't boot
        """
        self._artifact = artifact
        self.alias = alias.of_artifact(artifact.id)
        name = str(artifact.data.get("filename"))
        file = artifact.files.get(name)
        if file is None:
            raise errors.BadImage(
                f"Artifact {artifact.id} has no file {name}",
                details="It has: " + (", ".join(artifact.files) or "none"),
            )
        if "sha256" not in file.checksums:
            raise errors.BadImage(
                "The server does not tell the SHA-256 of artifact"
                f" {artifact.id}"
            )
        if artifact.data.get("boot_mechanism", "efi") != "efi":
            raise errors.BadImage(
                f"Artifact {artifact.id} boots by"
                f" {artifact.data['boot_mechanism']}",
                details="Incus' virtual machines boot only by EFI.",
                resolution="Build the system image with a boot loader for EFI.",
            )
        self.url, self.size = str(file.url), file.size
        self.sha256 = str(file.checksums["sha256"])

    def label(self, *, evictable: bool) -> Labels:
        """Return the labels of the image."""
        data, number = self._artifact.data, self._artifact.id
        known = {
            key: data.get(key) for key in ("vendor", "codename", "architecture")
        }
        return Labels(
            artifact_id=str(number),
            description=f"{' '.join(map(str, known.values()))}"
            f" ({self._artifact.category} {number})",
            evictable=evictable,
            **known,
        )
