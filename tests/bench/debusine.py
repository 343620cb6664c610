# SPDX-License-Identifier: GPL-3.0-or-later
"""Debusine's own code: python3 -m tests.bench.debusine KIND FILE."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

#: Unlikely to be an artifact of anybody's.
ARTIFACT = 999_000_001


def importing(file: Path, kind: str) -> Sequence[str | Path]:
    """Return the command that has it import a "tarball" or "image"."""
    return [sys.executable, "-m", "tests.bench.debusine", kind, file]


def import_file(kind: str, file: Path) -> None:
    """Have Debusine's image cache import a file it has downloaded."""
    # Who only asks for the command needs no Debusine.
    # ruff: noqa: PLC0415
    from debusine.client.models import ArtifactResponse
    from debusine.tasks.executors import incus
    from debusine.tasks.executors.base import ExecutorImageCategory

    architecture = subprocess.run(
        ["dpkg", "--print-architecture"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.strip()
    category = ExecutorImageCategory(f"debian:system-{kind}")
    artifact = ArtifactResponse(
        id=ARTIFACT,
        workspace="System",
        category=category.value,
        created_at=datetime.now(UTC),
        data={
            "filename": file.name,
            "architecture": architecture,
            "vendor": "debian",
            "codename": "unknown",
            "image_format": "raw",
        },
        download_tar_gz_url="https://debusine.invalid/",
        files_to_upload=[],
    )
    caches = {
        "tarball": incus.IncusLXCImageCache,
        "image": incus.IncusVMImageCache,
    }
    with tempfile.TemporaryDirectory() as name:
        cache = caches[kind](mock.Mock(), category)
        cache.image_cache_path = Path(name)
        downloaded = cache.cache_artifact_image_path(ARTIFACT, file.name)
        downloaded.parent.mkdir(parents=True)
        downloaded.symlink_to(file)
        cache.process_downloaded_image(artifact)


if __name__ == "__main__":
    import_file(sys.argv[1], Path(sys.argv[2]))
