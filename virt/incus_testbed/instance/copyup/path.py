# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names and links of a guest may be on the host.

A symbolic link may lead up only at its beginning, and not above the copy:
"../../a/b", but not "a/../b".  What it leads through upwards is then the
folders that the link itself is in, which are real ones; whatever it leads
through downwards is either real, or a link to which the same applies.  So no
chain of links leaves the copy, in whatever order they come, and also when
several copies end up in one folder.
"""

#: Of Linux; that of a path counts the NUL at its end.
PATH_MAX = 4096
NAME_MAX = 255


class Refused(Exception):
    """Something has no place on the host; says why."""


def parts(path: bytes, depth: int) -> list[bytes]:
    """Return the names that a path is made of: none for the copy itself.

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
    """Tell whether that which follows a path's last "/" names an entry."""
    return 0 < len(text) <= NAME_MAX and text not in {b".", b".."}


def check_target(target: bytes, depth: int) -> None:
    """See that a symbolic link in a folder so deep stays within the copy.

    :raises Refused: it does not, or it might
    """
    if not target or target.startswith(b"/"):
        raise Refused("the link is absolute")
    if len(target) >= PATH_MAX:
        raise Refused("the link is too long")
    if b"//" in target:
        # Of a loop such as "a -> a//etc", os.path.realpath() makes "/etc".
        raise Refused("the link has an empty name in it")
    up, leading = 0, True
    for name in target.split(b"/"):
        if name == b"..":
            up += 1
            if not leading or up > depth:
                raise Refused("the link leads out of the copy")
        elif name not in {b"", b"."}:
            leading = False
