# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an image fits where the instances made of it will be."""

from dataclasses import dataclass

from incus_testbed import errors

#: Of a pool, what one system may take.
_SHARE = 2


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where instances will be; sizes in bytes, None where not known."""

    pool: str = ""
    pool_size: int | None = None
    device_size: int | None = None
    #: What is told of a disk that is larger than its pool, or its device.
    enlarge_pool: str = ""
    enlarge_device: str = ""
    profile: str = ""

    def check_disk(self, size: int) -> None:
        """Refuse a disk that the profiles' root device has no place for.

        :raises errors.BadImage: with both sizes
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
        """Refuse a system's files that would take more than half the pool.

        There is the image, and what an instance made of it adds.

        :raises errors.BadImage: with both sizes
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
