# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which names and links of a guest may exist on the host.

A symbolic link may lead up only at its beginning, and not above the copy:
"../../a/b", but not "a/../b".  Upwards it then passes through the folders that
contain the link, and these are real folders.  Downwards it passes through real
folders, or through links that follow the same rule.  So no chain of links
leaves the copy, in any order of the links, and also when several copies are
merged into one folder.
"""

#: Linux' limits; PATH_MAX includes the NUL at the end.
PATH_MAX = 4096
NAME_MAX = 255


class Refused(Exception):
    """A member may not exist on the host; the message says why."""


def parts(path: bytes, depth: int) -> list[bytes]:
    """Split a path into names; the copy itself has none.

    :raises Refused: it leads out of the copy, or has more than ``depth`` names
    """
    if len(path) >= PATH_MAX:
        raise Refused("its name is too long")
    if path.startswith(b"/"):
        raise Refused("its name leads out of the copy")
    names = [name for name in path.split(b"/") if name not in {b"", b"."}]
    if b".." in names:
        raise Refused("its name leads out of the copy")
    if len(names) > depth:
        raise Refused(f"it is more than {depth} folders deep")
    if any(len(name) > NAME_MAX for name in names):
        raise Refused(f"its name has more than {NAME_MAX} bytes")
    return names


def is_name(text: bytes) -> bool:
    """Tell whether the text after a path's last "/" is the name of an entry."""
    return 0 < len(text) <= NAME_MAX and text not in {b".", b".."}


def check_target(target: bytes, depth: int) -> None:
    """Check that a symbolic link stays within the copy.

    ``depth`` is the number of folders that contain the link.

    :raises Refused: it leaves the copy, or it might
    """
    if not target or target.startswith(b"/"):
        raise Refused("the link is absolute")
    if len(target) >= PATH_MAX:
        raise Refused("the link is too long")
    if b"//" in target:
        # os.path.realpath() turns a loop such as "a -> a//etc" into "/etc".
        raise Refused("the link has an empty name in it")
    up, leading = 0, True
    for name in target.split(b"/"):
        if name == b"..":
            up += 1
            if not leading or up > depth:
                raise Refused("the link leads out of the copy")
        elif name not in {b"", b"."}:
            leading = False
