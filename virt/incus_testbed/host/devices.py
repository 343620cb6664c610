# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that change the devices of a profile."""

from collections.abc import Iterator, Mapping

Commands = Iterator[tuple[str, ...]]
Device = Mapping[str, str]
Devices = Mapping[str, Device]


class Ambiguous(Exception):
    """Several devices have the same function, and a person must choose one."""


def change(verb: str, target: str, *words: str) -> tuple[str, ...]:
    """Return the command that changes a device of the profile ``target``."""
    return ("incus", "profile", "device", verb, target, *words)


def set_missing(
    target: str, name: str, present: Device, wanted: Device
) -> Commands:
    """Yield the command that gives a device the settings that it lacks."""
    different = {
        key: value for key, value in wanted.items() if present.get(key) != value
    }
    if different:
        yield change("set", target, name, *words(different))


def remove_double(
    target: str,
    present: Devices,
    doubles: list[str],
    ours: tuple[str, set[str]],
) -> Commands:
    """Yield the command that removes a device which an earlier setup added.

    ``ours`` is the name and the keys of such a device.

    :raises Ambiguous: there is no such device, or several would remain
    """
    name, keys = ours
    rest = [each for each in doubles if each != name]
    if len(rest) > 1 or name not in doubles or present[name].keys() != keys:
        raise Ambiguous(f"the devices {' and '.join(doubles)} do the same")
    yield change("remove", target, name)


def words(settings: Device) -> Iterator[str]:
    """Yield settings as words of a command line."""
    return (f"{key}={value}" for key, value in settings.items())


def free_name(name: str, devices: Devices) -> str:
    """Return a device name that is not in use."""
    candidates = (name, *(f"testbed-{name}{n}" for n in ("", *range(100))))
    return next(each for each in candidates if each not in devices)
