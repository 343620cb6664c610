# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages of real incus commands are told apart."""

import pytest

from incus_testbed import errors
from incus_testbed.incus import messages
from incus_testbed.process import programs

#: As printed by Incus 6.0.4 and 7.0.2.
_MESSAGES = [
    (
        "Error: The incus daemon doesn't appear to be started"
        " (socket path: /nonexist/unix.socket)",
        errors.DaemonDown,
    ),
    (
        "Error: You don't have the needed permissions to talk to the incus"
        " daemon (socket path: /var/lib/incus/unix.socket)",
        errors.Denied,
    ),
    ("Error: Certificate is restricted", errors.Restricted),
    (
        'Error: User does not have permissions for project "default"',
        errors.Restricted,
    ),
    ("Error: Network not allowed in project", errors.Restricted),
    (
        "Error: Failed instance creation: Failed checking if instance creation"
        ' allowed: Use of low-level config "raw.lxc" on container "x" of'
        ' project "user-1000" is forbidden',
        errors.Restricted,
    ),
    ("Error: not authorized", errors.Denied),
    (
        'Error: Get "https://127.0.0.1:60383/1.0": tls: failed to verify'
        " certificate: x509: certificate signed by unknown authority",
        errors.Denied,
    ),
    ("Error: Missing TLS client certificate and key", errors.Denied),
    (
        'Error: Get "https://127.0.0.1:1/1.0": Unable to connect to:'
        " 127.0.0.1:1 ([dial tcp 127.0.0.1:1: connect: connection refused])",
        errors.DaemonDown,
    ),
    (
        'Error: Get "https://no-such-host.example:8443/1.0": lookup'
        " no-such-host.example on 127.0.0.1:53: no such host",
        errors.DaemonDown,
    ),
    (
        "Error: At least one instance relies on this profile's root disk"
        " device",
        errors.Unsupported,
    ),
    ('Launching x1\nError: Image "nosuch" not found', errors.NotFound),
    ("Error: Image not found", errors.NotFound),
    ("Image not provided for instance creation", errors.NotFound),
    (
        'Error: Failed to fetch instance "nosuch" in project "default":'
        " Instance not found",
        errors.NotFound,
    ),
    (
        'Error: Requested profile "nosuch" doesn\'t exist',
        errors.NotFound,
    ),
    ("Error: Network not found", errors.NotFound),
    (
        'Error: Failed pre-start check for device "eth0": Network "br"'
        " unavailable on this server",
        errors.Busy,
    ),
    (
        'Error: Get "https://10.3.27.3:8443/1.0/instances/x?project=default":'
        " Unable to connect to: 10.3.27.3:8443 ([dial tcp 10.3.27.3:8443:"
        " connect: no route to host])",
        errors.MemberDown,
    ),
    (
        'Error: Get "https://10.3.27.3:8443/1.0": Unable to connect to:'
        " 10.3.27.3:8443 ([dial tcp 10.3.27.3:8443: i/o timeout])",
        errors.DaemonDown,
    ),
    (
        'Error: Network "contract" is already defined on member "two"',
        errors.AlreadyExists,
    ),
    (
        "Launching x1\nError: Cluster member is evacuated",
        errors.Unsupported,
    ),
    (
        'Error: Failed checking instance exists "local:x1": Server isn\'t ready'
        " yet",
        errors.MemberDown,
    ),
    ("Error: peer node 10.3.27.3:8443 is down", errors.MemberDown),
    (
        "Launching x1\nError: Couldn't find a cluster member for the instance",
        errors.NoMember,
    ),
    (
        'Error: Failed checking instance exists "local:x": Missing event'
        " connection with target cluster member",
        errors.MemberDown,
    ),
    ("Error: Target cluster member is unavailable", errors.MemberDown),
    (
        "Error: failed to notify peer 10.73.27.3:8443: Failed to request to"
        ' delete image from peer node: Delete "https://10.73.27.3:8443/1.0'
        '/images/8f42?project=default": Unable to connect to: 10.73.27.3:8443'
        " ([dial tcp 10.73.27.3:8443: connect: no route to host])",
        errors.MemberDown,
    ),
    (
        'Launching x1\nError: Post "https://10.73.27.3:8443/1.0/instances'
        '?project=default&target=two": Unable to connect to: 10.73.27.3:8443'
        " ([dial tcp 10.73.27.3:8443: i/o timeout])",
        errors.MemberDown,
    ),
    (
        "Error: Failed to delete bridge children interfaces: Failed to run: ip"
        " -d -j link show vethfdbed1e3: exit status 1 (Device"
        ' "vethfdbed1e3" does not exist.)',
        errors.Busy,
    ),
    ("Error: Storage pool not found", errors.NotFound),
    ("Error: file does not exist", errors.NotFound),
    ('Error: The remote "nosuch" doesn\'t exist', errors.NotFound),
    (
        "Launching t1\nError: Failed creating instance record: Add instance"
        ' info to the database: Failed to create "instances" entry: UNIQUE'
        " constraint failed: instances.project_id, instances.name",
        errors.AlreadyExists,
    ),
    ('Error: Alias "artifact/1" already exists', errors.AlreadyExists),
    ("Error: Image with same fingerprint already exists", errors.AlreadyExists),
    ("Error: Instance is not running", errors.NotRunning),
    ("Error: The instance is already stopped", errors.NotRunning),
    (
        "Error: Failed to run: tar -C /x: write: no space left on device",
        errors.NoSpace,
    ),
    ("Error: Something nobody foresaw", errors.CommandFailed),
    ("", errors.CommandFailed),
]


@pytest.mark.parametrize(("said", "kind"), _MESSAGES)
def test_kind(said: str, kind: type[errors.TestbedError]) -> None:
    completed = programs.Completed(argv=(), status=1, stdout=b"", stderr=said)
    error = messages.error(["incus", "verb"], completed)
    assert type(error) is kind
    assert "incus verb" in str(error)
    last = said.rsplit("Error: ", maxsplit=1)[-1]
    assert last in str(error)


def test_progress_bars_are_left_out() -> None:
    completed = programs.Completed(
        argv=(),
        status=1,
        stdout=b"",
        stderr="Pushing a: 10%\rPushing a: 90%\rError: it broke\n",
    )
    assert "Pushing" not in str(messages.error(["incus"], completed))


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("not authorized", "incus config trust add"),
        ("tls: failed to verify certificate: x509: y", "incus remote add"),
        ("Unable to connect to: a:1 (refused)", "core.https_address"),
        ('Get "https://a:1/1.0": EOF', "the machine of far"),
        (
            'Post "https://a:1/1.0/images": write tcp 127.0.0.1:2->127.0.0.1:1:'
            " use of closed network connection",
            "the machine of far",
        ),
        (
            'Post "https://a:1/1.0/images": use of closed network connection',
            "the machine of far",
        ),
        (
            'Post "https://a:1/1.0": http: server closed idle connection',
            "the machine of far",
        ),
        (
            'Post "https://a:1/1.0": readfrom tcp 127.0.0.1:2->127.0.0.1:1:'
            " write: broken pipe",
            "the machine of far",
        ),
    ],
)
def test_remedy_is_that_of_a_remote(said: str, remedy: str) -> None:
    completed = programs.Completed(
        argv=(), status=1, stdout=b"", stderr=f"Error: {said}"
    )
    error = messages.error(["incus"], completed, remote="far")
    assert remedy in error.resolution
    assert "systemctl start incus" not in error.resolution


@pytest.mark.parametrize(
    "said",
    [
        'Error: exec: "zstd": executable file not found in $PATH',
        "Error: Failed instance creation: Unpack failed: Failed to run: tar"
        " --anchored -xf -: exit status 2 (tar (child): zstd: Cannot exec: No"
        " such file or directory\ntar (child): Error is not recoverable)",
        "Error: Unpack failed: Failed to run: tar: exit status 2 (tar"
        " (grandchild): zstd: Cannot exec: No such file or directory)",
    ],
)
@pytest.mark.parametrize(
    ("remote", "words"),
    [
        ("farm", ("farm lacks the program zstd", "server's machine: apt")),
        ("", ("needs the program zstd",)),
    ],
)
def test_a_program_that_the_server_lacks(
    said: str, remote: str, words: tuple[str, ...]
) -> None:
    completed = programs.Completed(argv=(), status=1, stdout=b"", stderr=said)
    error = messages.error(["incus", "launch"], completed, remote=remote)
    assert type(error) is errors.MissingProgram
    for word in (*words, "apt install zstd"):
        assert word in str(error)


def test_missing_profile_names_the_command_that_makes_it() -> None:
    completed = programs.Completed(
        argv=(),
        status=1,
        stdout=b"",
        stderr='Error: Requested profile "debusine" doesn\'t exist',
    )
    error = messages.error(["incus"], completed)
    assert "incus-testbed setup" in error.resolution
