# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the documentation: its pages, links, blocks and commands.

A fenced block names its language.  Those in ``sh`` hold commands, one a line.
A line goes on after a backslash, and in a here-document.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"(?ms)^( *)```(\w*)\n(.*?)^ *```$")
_INDENTED = re.compile(r"(?m)^    (.*)$")
_EXAMPLE = re.compile(r"(?ms)^\.EX\n(.*?)^\.EE$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"(?m)^#+ (.*)$")
_HERE_DOCUMENT = re.compile(r"<<-?'?(\w+)'?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, or an example of a manual page.

    ``place`` is the page, and the section if the page has any before it:
    docs/howto/worker.md: Images.
    """

    place: str
    language: str
    text: str


def pages() -> list[Path]:
    """Return the pages in Markdown, of Debian, and of the manual."""
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "debian").glob("*.README.Debian")),
        *sorted((ROOT / "docs/manual").glob("*.1.in")),
    ]


def blocks() -> Iterator[Block]:
    """Yield all blocks, in the order of the pages."""
    for page in pages():
        name, text = str(page.relative_to(ROOT)), page.read_text()
        if page.suffix == ".md":
            for found in _FENCE.finditer(text):
                before = _FENCE.sub("", text[: found.start()])
                sections = re.findall(r"(?m)^## (.*)$", before)
                yield Block(
                    ": ".join([name, *sections[-1:]]),
                    found[2],
                    re.sub(f"(?m)^{found[1]}", "", found[3]),
                )
        elif page.suffix == ".Debian":
            yield Block(name, "sh", "\n".join(_INDENTED.findall(text)))
        else:
            for block in _EXAMPLE.findall(text):
                yield Block(name, "sh", _without_troff(block))


def commands() -> dict[str, list[str]]:
    """Return each command that users may type, and the places that have it."""
    found: dict[str, list[str]] = {}
    for block in blocks():
        if block.language == "sh":
            for command in commands_in(block.text):
                places = found.setdefault(command, [])
                if block.place not in places:
                    places.append(block.place)
    return found


def commands_in(text: str) -> Iterator[str]:
    """Yield the commands of a block, without comments."""
    lines = iter(text.splitlines())
    command: list[str] = []
    for line in lines:
        if command and not command[-1].endswith("\\"):
            yield _one_line(command)
            command = []
        if not line.strip() or line.startswith("#"):
            continue
        command.append(line)
        if ends := _HERE_DOCUMENT.search(line):
            for inner in lines:
                command.append(inner)
                if inner == ends[1]:
                    break
            yield "\n".join(command)
            command = []
    if command:
        yield _one_line(command)


def outside_blocks(page: Path) -> str:
    """Return a page in Markdown without what is in its blocks."""
    return _FENCE.sub("", page.read_text())


def links(page: Path) -> list[str]:
    """Return where a page's links lead, without those to other sites."""
    found = _LINK.findall(outside_blocks(page))
    return [link for link in found if "://" not in link]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges make them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(outside_blocks(page))
    }


def _without_troff(text: str) -> str:
    for escape, character in ((r"\-", "-"), (r"\(aq", "'"), (r"\e", "\\")):
        text = text.replace(escape, character)
    return text


def _one_line(lines: list[str]) -> str:
    """Return a command as one line, without a comment at its end."""
    words = " ".join(line.removesuffix("\\").strip() for line in lines)
    return re.sub(r"\s+# .*", "", words)
