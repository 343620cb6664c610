# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Debusine's own IncusInstance differs from its interface."""

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
    that does as promised; ``by_chance``: sometimes a version seems to do as
    promised, by chance.
    """

    instead: str
    cases: tuple[str, ...]
    fixed: str | None = None
    by_chance: bool = False


DIFFERENCES = (
    Difference(
        "`env` replaces the environment of the incus client. The command gets"
        " none of it.",
        (
            "env_reaches_the_command",
            "env_beats_the_defaults",
            "command_is_looked_for_in_the_path_of_env",
        ),
    ),
    Difference(
        "The command of a normal user has no HOME, USER, LOGNAME or SHELL. The"
        " command of root has no LOGNAME or SHELL.",
        ("the_users_own_environment_is_there",),
    ),
    Difference(
        "`cwd` is used for the incus client, on the host.",
        (
            "cwd_is_the_guests",
            "cwd_can_be_a_path",
            "relative_cwd_starts_in_roots_home",
            "commands_are_found_relative_to_cwd",
        ),
        fixed="0.16.2",
    ),
    Difference(
        "A `cwd` that can't be used does not raise an exception: the result is"
        " an exit status of the incus client, or there is no sign of it.",
        (
            "cwd_that_only_the_host_has",
            "cwd_that_is_a_file",
            "cwd_that_is_closed_to_the_user",
        ),
    ),
    Difference(
        "The command has the group of root, and no supplementary groups.",
        (
            "user_and_group",
            "supplementary_groups",
            "files_belong_to_the_user",
        ),
    ),
    Difference(
        "The user's home directory is never made.",
        (
            "home_is_there_and_the_users_own",
            "home_is_where_the_shell_looks",
        ),
    ),
    Difference(
        "Users of the last guest count as users of the next guest, and of a"
        " stopped guest.",
        (
            "start_after_stop_gives_a_pristine_guest",
            "nothing_works_after_stop[create_user]",
        ),
    ),
    Difference(
        "A command that can't be run gives the status 126 or 127, which a"
        " command can also give by itself.",
        (
            "absent_command_is_not_found",
            "what_is_no_program_is_not_permitted",
            "program_of_another_user_is_not_permitted",
        ),
    ),
    Difference(
        "Death by a signal gives a status above 128, which a command can also"
        " give by itself.",
        ("death_by_signal_is_negative",),
    ),
    Difference(
        "Results and exceptions contain the arguments of the incus client.",
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
        "If output and errors go to the same place, they are not in order"
        " there.",
        (
            "errors_into_the_output_in_order",
            "errors_into_one_file_with_the_output_in_order",
        ),
        by_chance=True,
    ),
    Difference(
        "After a time limit or an interruption, the processes that the command"
        " has started continue in the guest.",
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
        "Calls other than `run` consume the caller's standard input; `start`"
        " reads it as configuration and fails.",
        (
            "other_calls_leave_the_input_alone[mkdir]",
            "other_calls_leave_the_input_alone[create_user]",
            "other_calls_leave_the_input_alone[directory_push]",
            "start_leaves_the_callers_input_alone",
        ),
    ),
    Difference(
        "A directory that exists already, or can't be made, raises an"
        " AttributeError or a CalledProcessError; with `parents`, an existing"
        " directory raises nothing.",
        (
            "mkdir_of_what_is_there_already",
            "mkdir_without_a_parent",
            "mkdir_below_a_file",
        ),
    ),
    Difference(
        "A new directory belongs to root, unless both user and group are not"
        " root; new parents always belong to root.",
        (
            "mkdir_owner[games-root-alone]",
            "mkdir_owner[games-root-parents]",
            "mkdir_owner[root-games-alone]",
            "mkdir_owner[root-games-parents]",
            "mkdir_gives_new_parents_to_the_user",
        ),
    ),
    Difference(
        "A file mode of four digits is read as a decimal number.",
        ("file_push_mode[0o4755]", "file_push_mode[0o2755]"),
    ),
    Difference(
        "The setuid and setgid bits of files in a directory are lost.",
        (
            "directory_push_keeps_a_files_mode[0o4755]",
            "directory_push_keeps_a_directorys_mode[.-0o2755]",
            "directory_push_keeps_a_directorys_mode[sub-0o2755]",
        ),
    ),
    Difference(
        "A file of the host named `-` is taken for standard input or output,"
        " and one named `-x` for an option.",
        (
            "file_push_from_a_name_in_the_current_directory[-]",
            "file_push_from_a_name_in_the_current_directory[-dash]",
            "file_pull_to_a_name_in_the_current_directory[-]",
            "file_pull_to_a_name_in_the_current_directory[-dash]",
            "directory_push_of_a_name[-dash]",
        ),
    ),
    Difference(
        "A file or directory that does not exist, or has the wrong kind, raises"
        " a CalledProcessError.",
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
        "If the directory to copy into does not exist, it is made.",
        ("directory_push_into_an_absent_directory",),
    ),
    Difference(
        "A link in the guest becomes a link in the current directory of the"
        " host, with the same name and target; `target` is not made.",
        (
            "file_pull_of_a_link_gives_what_the_guest_sees",
            "file_pull_of_a_link_to_what_only_the_host_has",
        ),
    ),
    Difference(
        "Copying a FIFO waits until a process writes into it.",
        ("file_pull_of_a_fifo_does_not_wait_for_a_writer",),
    ),
    Difference(
        "A guest that has stopped by itself counts as started: `run` gives"
        " status 1, and `stop` raises a CalledProcessError.",
        (
            "run_in_a_guest_that_powered_itself_off",
            "clean_up_of_a_guest_that_powered_itself_off",
        ),
    ),
    Difference(
        "An image that does not exist raises a CalledProcessError.",
        ("start_of_an_absent_image",),
    ),
    Difference(
        "`stop` waits forever for a guest that does not shut down.",
        ("stop_of_a_guest_that_does_not_listen",),
    ),
)


def is_known() -> bool:
    """Tell whether the table was made with the installed Debusine and Incus."""
    incus = shutil.which("incus")
    if not incus or INSTALLED not in VERSIONS:
        return False
    version = subprocess.run(
        [incus, "--version"], check=True, capture_output=True, text=True
    ).stdout
    return _number(version)[:2] == _number(_INCUS)


def difference(test: str) -> Difference | None:
    """Return the difference that a test of upstream's shows, if any."""
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
