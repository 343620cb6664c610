# SPDX-License-Identifier: GPL-3.0-or-later
"""The command build."""

import argparse

from incus_testbed.bootstrap import apt
from incus_testbed.bootstrap.build import build as make
from incus_testbed.bootstrap.request import Request
from incus_testbed.cli import output
from incus_testbed.incus.client import Incus


def build(incus: Incus, arguments: argparse.Namespace) -> int:
    """Do what the command is for."""
    request = Request(
        suite=arguments.suite,
        architecture=arguments.arch or apt.architecture(),
        mirror=arguments.mirror,
        components=arguments.components,
        include=arguments.include,
        variant=arguments.variant,
        sources=arguments.sources,
        alias=arguments.alias,
        vm=arguments.vm,
    )
    with output.steps(f"Building {request.name}") as on_step:
        make(incus, request, on_step)
    output.say(f"{request.name} is built")
    return 0
