# SPDX-License-Identifier: GPL-3.0-or-later
"""Debusine's own tests of executors that are not run on ours, and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LeftOut:
    """Tests of these classes, or all of them where none is named."""

    owners: tuple[str, ...]
    tests: tuple[str, ...]
    why: str


_ANSWERS = (
    "Incus's answers come from a mock of the module's own `run_incus_cmd`,"
    " which ours does not call."
)

_EXECUTORS = (
    "test_incus.IncusLXCExecutorTests",
    "test_incus.IncusVMExecutorTests",
)

#: By module and class, as in debusine.tasks.executors.tests.
LEFT_OUT = (
    LeftOut(
        ("test_base.InstanceTests",),
        (
            "test_create_user_not_exists",
            "test_do_mkdir",
            "test_do_mkdir_exists",
            "test_do_mkdir_parents",
            "test_do_mkdir_root",
            "test_do_mkdir_unexpected_error",
        ),
        "They mock the private `_run_check_output` and expect the exact"
        " command lines of `useradd`, `mkdir` and `chown`.",
    ),
    LeftOut(
        ("test_base.InstanceTests",),
        ("test_do_directory_push",),
        "It expects a call of `do_file_push` for each file; ours sends"
        " all files as one stream.",
    ),
    LeftOut(
        ("test_base.InstanceTests",),
        ("test_run_check_output",),
        "It expects that `_run_check_output` lets the guest read the caller's"
        " standard input.",
    ),
    LeftOut(
        _EXECUTORS,
        (
            "test_autopkgtest_virt_args",
            "test_autopkgtest_virt_server",
        ),
        "They expect autopkgtest's own virt server and its options; ours is"
        " `incus-testbed`, and takes the alias alone.",
    ),
    LeftOut(
        _EXECUTORS,
        (
            "test_available",
            "test_available_has_driver",
            "test_available_no_driver",
            "test_available_no_incus_permission",
            "test_clean_up_image",
            "test_download_image",
        ),
        _ANSWERS,
    ),
    LeftOut(
        _EXECUTORS,
        (
            "test_get_statistics_with_instance",
            "test_get_statistics_with_instance_limited_details",
        ),
        "They mock `subprocess.run` and expect one call of `incus query`"
        " during `get_statistics`; ours asks Incus in a separate thread.",
    ),
    LeftOut(
        ("test_incus.IncusInstanceTests",),
        (),
        "All of them expect the exact command lines of the incus client.",
    ),
    LeftOut(
        ("test_incus.RunIncusCmdTest",),
        (),
        "It tests a private function.",
    ),
    LeftOut(
        (
            "test_incus.IncusLXCImageCacheTests",
            "test_incus.IncusVMImageCacheTests",
        ),
        (),
        "They call private methods that rewrite a tarball in a directory; ours"
        " streams it into Incus.",
    ),
    LeftOut(
        ("test_images",),
        (),
        "It tests a cache of files on disk, which ours does not keep.",
    ),
)


def left_out(owner: str) -> tuple[str, ...]:
    """Return the tests of a class that are not run."""
    return tuple(
        test
        for entry in LEFT_OUT
        if owner in entry.owners
        for test in entry.tests
    )
