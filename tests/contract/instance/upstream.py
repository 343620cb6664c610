# SPDX-License-Identifier: GPL-3.0-or-later
"""What Debusine's own IncusInstance does otherwise than its interface says."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata

#: The versions that this was found in, with the Incus whose command they run.
VERSIONS = ("0.11.3", "0.16.2")
_INCUS = "6.0"

#: The one that is installed.
INSTALLED = metadata.version("debusine")


@dataclass(frozen=True)
class Difference:
    """What happens instead, and the cases that show it.

    A case is the name of a test without ``test_``: with all its parameters,
    or with those that follow in brackets.  ``fixed`` is the first of VERSIONS
    that does as promised; ``by_chance`` says that all of them may seem to, at
    times.
    """

    instead: str
    cases: tuple[str, ...]
    fixed: str | None = None
    by_chance: bool = False


DIFFERENCES = (
    Difference(
        "`env` is the environment of the incus client, which then lacks its"
        " own. The command gets none of it.",
        (
            "env_reaches_the_command",
            "env_beats_the_defaults",
            "command_is_looked_for_in_the_path_of_env",
        ),
    ),
    Difference(
        "A normal user's command has no HOME, USER, LOGNAME or SHELL, and"
        " root's neither of the last two.",
        ("the_users_own_environment_is_there",),
    ),
    Difference(
        "`cwd` is the incus client's, on the host.",
        (
            "cwd_is_the_guests",
            "cwd_can_be_a_path",
            "relative_cwd_starts_in_roots_home",
            "commands_are_found_relative_to_cwd",
        ),
        fixed="0.16.2",
    ),
    Difference(
        "A `cwd` that can't be used is no error of the caller's, but a status"
        " of the incus client's or nothing at all.",
        (
            "cwd_that_only_the_host_has",
            "cwd_that_is_a_file",
            "cwd_that_is_closed_to_the_user",
        ),
    ),
    Difference(
        "The group is root's, and there are no supplementary groups.",
        (
            "user_and_group",
            "supplementary_groups",
            "files_belong_to_the_user",
        ),
    ),
    Difference(
        "The user's home is never made.",
        (
            "home_is_there_and_the_users_own",
            "home_is_where_the_shell_looks",
        ),
    ),
    Difference(
        "Users of the last guest are taken for users of the next, and of a"
        " stopped one.",
        (
            "start_after_stop_gives_a_pristine_guest",
            "nothing_works_after_stop[create_user]",
        ),
    ),
    Difference(
        "A command that can't be run ends with a status of 126 or 127, as"
        " some commands do by themselves.",
        (
            "absent_command_is_not_found",
            "what_is_no_program_is_not_permitted",
            "program_of_another_user_is_not_permitted",
        ),
    ),
    Difference(
        "Death by a signal is a status above 128, as some commands end with"
        " by themselves.",
        ("death_by_signal_is_negative",),
    ),
    Difference(
        "The arguments in results and exceptions are those of the incus"
        " client.",
        (
            "result_has_the_arguments_given",
            "paths_are_arguments_too",
            "check_raises_with_arguments_and_output",
            "time_limit",
        ),
    ),
    Difference(
        "`capture_output` is refused with a ValueError.",
        ("capture_output",),
    ),
    Difference(
        "Output and errors that go to one place are not in order there.",
        (
            "errors_into_the_output_in_order",
            "errors_into_one_file_with_the_output_in_order",
        ),
        by_chance=True,
    ),
    Difference(
        "After a time limit or an interruption what the command started goes"
        " on in the guest.",
        (
            "nothing_is_left_after_the_time_limit[child]",
            "nothing_is_left_after_the_time_limit[grandchild]",
            "nothing_is_left_after_the_time_limit[deaf]",
            "nothing_is_left_after_the_time_limit[session]",
            "nothing_is_left_after_the_time_limit[daemon]",
            "nothing_is_left_after_the_time_limit[bare]",
            "nothing_of_roots_is_left_after_the_time_limit",
            "nothing_is_left_after_keyboard_interrupt",
            "nothing_is_left_after_an_exception",
            "nothing_is_left_after_ctrl_c_at_a_terminal",
        ),
    ),
    Difference(
        "Calls other than `run` read the caller's standard input away; `start`"
        " takes it for configuration and fails.",
        (
            "other_calls_leave_the_input_alone[mkdir]",
            "other_calls_leave_the_input_alone[create_user]",
            "other_calls_leave_the_input_alone[directory_push]",
            "start_leaves_the_callers_input_alone",
        ),
    ),
    Difference(
        "A directory that exists already, or can't be made, is an"
        " AttributeError or a CalledProcessError; with `parents` the first is"
        " none at all.",
        (
            "mkdir_of_what_is_there_already",
            "mkdir_without_a_parent",
            "mkdir_below_a_file",
        ),
    ),
    Difference(
        "A new directory is root's unless both user and group are others; new"
        " parents always are.",
        (
            "mkdir_owner[games-root-alone]",
            "mkdir_owner[games-root-parents]",
            "mkdir_owner[root-games-alone]",
            "mkdir_owner[root-games-parents]",
            "mkdir_gives_new_parents_to_the_user",
        ),
    ),
    Difference(
        "A file's mode of four digits is taken for a decimal number.",
        ("file_push_mode[0o4755]", "file_push_mode[0o2755]"),
    ),
    Difference(
        "Setuid and setgid bits are lost with a directory's files.",
        (
            "directory_push_keeps_a_files_mode[0o4755]",
            "directory_push_keeps_a_directorys_mode[.-0o2755]",
            "directory_push_keeps_a_directorys_mode[sub-0o2755]",
        ),
    ),
    Difference(
        "A host's file named `-` is standard input or output, and one named"
        " `-x` an option.",
        (
            "file_push_from_a_name_in_the_current_directory[-]",
            "file_push_from_a_name_in_the_current_directory[-dash]",
            "file_pull_to_a_name_in_the_current_directory[-]",
            "file_pull_to_a_name_in_the_current_directory[-dash]",
            "directory_push_of_a_name[-dash]",
        ),
    ),
    Difference(
        "A file or directory that is absent, or of the wrong kind, is a"
        " CalledProcessError.",
        (
            "file_push_of_what_is_absent",
            "file_push_into_an_absent_directory",
            "file_pull_of_what_is_absent",
            "file_pull_of_a_directory",
            "file_pull_into_an_absent_directory",
            "directory_push_of_what_is_absent",
        ),
    ),
    Difference(
        "A directory to copy into that is absent is made.",
        ("directory_push_into_an_absent_directory",),
    ),
    Difference(
        "A link in the guest becomes one in the current directory of the host,"
        " of the same name and target; `target` is not made.",
        (
            "file_pull_of_a_link_gives_what_the_guest_sees",
            "file_pull_of_a_link_to_what_only_the_host_has",
        ),
    ),
    Difference(
        "Copying a FIFO waits until somebody writes into it.",
        ("file_pull_of_a_fifo_does_not_wait_for_a_writer",),
    ),
    Difference(
        "A guest that is gone counts as started: `run` gives status 1, `stop`"
        " a CalledProcessError.",
        (
            "run_in_a_guest_that_powered_itself_off",
            "clean_up_of_a_guest_that_powered_itself_off",
        ),
    ),
    Difference(
        "An image that is absent is a CalledProcessError.",
        ("start_of_an_absent_image",),
    ),
    Difference(
        "`stop` waits for good for a guest that does not shut down.",
        ("stop_of_a_guest_that_does_not_listen",),
    ),
)


def is_known() -> bool:
    """Tell whether anybody has looked at what is installed, Incus too."""
    incus = shutil.which("incus")
    if not incus or INSTALLED not in VERSIONS:
        return False
    version = subprocess.run(
        [incus, "--version"], check=True, capture_output=True, text=True
    ).stdout
    return _number(version)[:2] == _number(_INCUS)


def difference(test: str) -> Difference | None:
    """Return what is known of a test of upstream's."""
    name = re.fullmatch(r"test_(\w+)\[upstream(?:-(.*))?\]", test, re.DOTALL)
    if not name:
        return None
    known = {
        case: entry
        for entry in DIFFERENCES
        for case in entry.cases
        if not entry.fixed or _number(INSTALLED) < _number(entry.fixed)
    }
    return known.get(name[1]) or known.get(f"{name[1]}[{name[2]}]")


def _number(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
