# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the instances of an image will be, by the profiles."""

from incus_testbed.host import doctor
from incus_testbed.image import storage
from incus_testbed.image.fits import Place
from tests.support.fake_incus import FakeIncus


def test_the_profile_of_virtual_machines_has_the_last_word() -> None:
    incus = FakeIncus()
    list(doctor.setup(incus))

    place = storage.place(incus, "debusine")

    assert place.profile == "debusine-vm"
    assert place.device_size == 20 << 30


def test_a_disk_without_a_path_is_not_the_root() -> None:
    """The drive with Incus' agent has none."""
    incus = FakeIncus()
    list(doctor.setup(incus))
    for profile in ("debusine", "debusine-vm"):
        words = (profile, "agent", "disk", "source=agent:config")
        incus.run("profile", "device", "add", *words)
        # Incus lists them by name: it comes first.
        made = incus.objects["profile"][profile]
        made["devices"] = dict(sorted(made["devices"].items()))

    assert storage.place(incus, "debusine").pool == "default"
    assert list(doctor.setup(incus)) == []


def test_without_a_profile_it_is_not_known() -> None:
    assert storage.place(FakeIncus(), "debusine") == Place()
