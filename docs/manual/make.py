# SPDX-License-Identifier: GPL-3.0-or-later
r"""Make a manual page of its own text and of the parser of the command.

    python3 docs/manual/make.py docs/manual/COMMAND.1.in >COMMAND.1

A page's first line names the parser: .\" MODULE:FUNCTION.  The lines
@SYNOPSIS@, @COMMANDS@ and @OPTIONS@ are replaced by what the parser knows,
and @VERSION@ by the version.

Debian 12's argparse-manpage (1.2.2) adds no text of ours, not even what the
command is for; help2man prints no options of sub-commands.  argparse-manpage
of Debian 13 has --include: it can take over when Debian 12 is left behind.
"""

import argparse
import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from incus_testbed import __version__


def page(template: str) -> str:
    """Return a manual page, in man(7)."""
    heading, text = template.split("\n", 1)
    module, function = heading.removeprefix('.\\" ').split(":")
    parser = getattr(importlib.import_module(module), function)()
    parts = {
        "@SYNOPSIS@\n": _synopsis(parser),
        "@COMMANDS@\n": "".join(_commands(parser)),
        "@OPTIONS@\n": "".join(_options(parser)),
        "@VERSION@": __version__,
    }
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def _synopsis(parser: argparse.ArgumentParser) -> str:
    """Return the usage, for the terminal to fill lines with."""
    usage = parser.format_usage().removeprefix("usage: ")
    words = _escaped(" ".join(usage.split()))
    name = _escaped(parser.prog)
    return f".B {name}\n{words.removeprefix(name).strip()}\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 - argparse tells no other way
        if not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            continue
        summaries = {
            choice.dest: choice.help
            for choice in action._choices_actions  # noqa: SLF001
        }
        for name, command in action.choices.items():
            about = command.description or _sentence(summaries[name] or "")
            yield f".SS {_escaped(name)}\n"
            yield f"{_synopsis(command)}.PP\n{_escaped(about)}\n"
            yield from _options(command)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001
        if action.help == argparse.SUPPRESS or isinstance(
            action,
            argparse._SubParsersAction | argparse._HelpAction,  # noqa: SLF001
        ):
            continue
        yield f".TP\n{_invocation(action)}\n{_help(parser, action)}\n"


def _invocation(action: argparse.Action) -> str:
    """Return how an argument is written."""
    if not action.option_strings:
        return f"\\fI{_escaped(_value(action))}\\fR"
    value = f" \\fI{_escaped(_value(action))}\\fR" if action.nargs != 0 else ""
    return ", ".join(
        f"\\fB{_escaped(option)}\\fR{value}" for option in action.option_strings
    )


def _value(action: argparse.Action) -> str:
    if action.metavar is not None:
        return str(action.metavar)
    if action.choices:
        return "|".join(map(str, action.choices))
    return action.dest.upper() if action.option_strings else action.dest


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return _escaped(_sentence(text)) or "\\&"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else text


def _escaped(text: str) -> str:
    """Keep troff from finding requests, dashes and quotes of its own in it."""
    escaped = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    )
    return re.sub(r"(?m)^\.", r"\\&.", escaped)


if __name__ == "__main__":
    os.environ["NO_COLOR"] = "1"  # from Python 3.14 on usage may be coloured
    sys.stdout.write(page(Path(sys.argv[1]).read_text()))
