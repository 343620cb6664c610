# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that an image fits into the storage of its instances.

The converting process does so.  It has no Incus: storage.py asks beforehand.
"""

from dataclasses import dataclass

from incus_testbed import errors

#: A system may take the pool's size divided by this.
_SHARE = 2


@dataclass(frozen=True, kw_only=True)
class Place:
    """The storage of instances; sizes are in bytes, None if unknown."""

    pool: str = ""
    pool_size: int | None = None
    device_size: int | None = None
    #: Advice for a disk that is larger than the pool, or than the device.
    enlarge_pool: str = ""
    enlarge_device: str = ""
    profile: str = ""

    def check_disk(self, size: int) -> None:
        """Refuse a disk that is larger than the pool or the root device.

        :raises errors.BadImage: names both sizes
        """
        if self.pool_size is not None and size > self.pool_size:
            raise errors.BadImage(
                f"The disk is too large for the storage pool {self.pool}",
                details=f"It has {_gib(size)} or more, and the pool"
                f" {_gib(self.pool_size)}.",
                resolution=self.enlarge_pool,
            )
        if self.device_size is not None and size > self.device_size:
            raise errors.BadImage(
                f"The disk is larger than the profile {self.profile} allows",
                details=f"It has {_gib(size)} or more, and the root device"
                f" {_gib(self.device_size)}.",
                resolution=f"{self.enlarge_device} size={size}",
            )

    def check_tree(self, size: int) -> None:
        """Refuse a system whose files take more than half of the pool.

        The pool holds the image, and the files that an instance adds.

        :raises errors.BadImage: names both sizes
        """
        if self.pool_size is not None and size > self.pool_size // _SHARE:
            raise errors.BadImage(
                "The system is too large for half of the storage pool"
                f" {self.pool}",
                details=f"It has {_gib(size)} or more, and the pool"
                f" {_gib(self.pool_size)}.",
                resolution=self.enlarge_pool,
            )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
