# SPDX-License-Identifier: GPL-3.0-or-later
"""A running machine: QEMU, and the ways into it."""

import contextlib
import json
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from tests.vm.disks import Bootable

#: MiB of memory, for a few containers or one virtual machine.
_MEMORY = 5120
#: Seconds for booting, for saving the state, and for a short command.
_BOOT_LIMIT = 600
_SAVE_LIMIT = 300
_COMMAND_LIMIT = 120
_CONSOLE_LINES = 20


class MachineError(Exception):
    """The machine did not do what it should; says why."""


@dataclass(frozen=True)
class Machine:
    """A machine that answers.

    ``directory`` is for its sockets and logs, and goes when it ends.
    """

    process: "subprocess.Popen[bytes]"
    directory: Path
    port: int
    key: Path

    def run(
        self,
        *command: str,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        capture: bool = False,
        timeout: float | None = _COMMAND_LIMIT,
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a command as root in the machine, whatever its status is."""
        return subprocess.run(
            [*self._ssh(), shlex.join(command)],
            stdin=stdin,
            capture_output=capture,
            timeout=timeout,
            check=False,
        )

    def ask(self, *command: str, timeout: float = _COMMAND_LIMIT) -> str:
        """Return what a command in the machine prints.

        :raises MachineError: it failed
        """
        done = self.run(*command, capture=True, timeout=timeout)
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise MachineError(
                f"In the machine '{shlex.join(command)}' failed with status"
                f" {done.returncode}:\n{said}{self.console()}"
            )
        return done.stdout.decode()

    def console(self) -> str:
        """Return the end of what the machine wrote to its console."""
        text = (self.directory / "console").read_text(errors="replace")
        return "\n".join(
            ["The end of its console:", *text.splitlines()[-_CONSOLE_LINES:]]
        )

    def save(self, state: Path) -> None:
        """Write the running machine's state to a file, and end it."""
        with _Monitor(self.directory / "monitor") as monitor:
            monitor.do("migrate-set-parameters", {"max-bandwidth": 1 << 40})
            monitor.do("migrate", {"uri": f"file:{state}"})
            deadline = time.monotonic() + _SAVE_LIMIT
            while (how := monitor.do("query-migrate")["status"]) != "completed":
                if how == "failed" or time.monotonic() > deadline:
                    raise MachineError(
                        f"The machine's state is not saved: {how}"
                    )
                time.sleep(0.2)
            monitor.do("quit")
        self.process.wait(_COMMAND_LIMIT)

    def hang_up(self) -> None:
        """End the connection that commands share: it would outlive QEMU."""
        subprocess.run(
            [*self._ssh(), "-O", "exit"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )

    def _ssh(self) -> list[str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            "ControlMaster": "auto",
            "ControlPath": str(self.directory / "ssh"),
            "ControlPersist": "60",
            "LogLevel": "ERROR",
            "ServerAliveInterval": "60",
            "ServerAliveCountMax": "10",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
        }
        return [
            *("ssh", "-F", "none", "-i", str(self.key), f"-p{self.port}"),
            *(f"-o{name}={value}" for name, value in options.items()),
            "root@127.0.0.1",
        ]


@contextlib.contextmanager
def running(
    host: Bootable, overlay: Path, *, state: Path | None = None
) -> Iterator[Machine]:
    """Run a machine on an overlay of its disk, from a saved state if given.

    :raises MachineError: it does not come up
    """
    with contextlib.ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-host-"))
        )
        port = _free_port()
        said = stack.enter_context((directory / "qemu").open("w+b"))
        try:
            process = subprocess.Popen(
                [
                    # If this process dies, so does QEMU.
                    *("setpriv", "--pdeathsig", "KILL"),
                    *_qemu(host, overlay, directory, port, state),
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise MachineError(
                f"{error.filename} is not installed. Run: tests/bootstrap.sh vm"
            ) from None
        stack.callback(_end, process)
        machine = Machine(process, directory, port, host.key)
        _wait_until_answering(machine)
        stack.callback(machine.hang_up)
        yield machine


def make_overlay(overlay: Path, backing: Path, form: str) -> None:
    """Make a disk that keeps what differs from another, which stays as is."""
    subprocess.run(
        [
            *("qemu-img", "create", "-q", "-f", "qcow2"),
            *("-b", backing, "-F", form, overlay),
        ],
        stdin=subprocess.DEVNULL,
        check=True,
    )


def _qemu(
    host: Bootable,
    overlay: Path,
    directory: Path,
    port: int,
    state: Path | None,
) -> list[str]:
    """Return the command line of QEMU.

    One processor: with two, such machines were seen to crash.  With pages of
    five levels (la57) nested ones do not start.
    """
    return [
        *("qemu-system-x86_64", "-machine", "q35", "-nodefaults"),
        *("-accel", "tcg,thread=multi,tb-size=1024"),
        *("-cpu", "max,-la57", "-smp", "1", "-m", str(_MEMORY)),
        *("-display", "none", "-no-reboot"),
        *("-kernel", str(host.kernel), "-initrd", str(host.initrd)),
        *("-append", "root=/dev/vda rw console=ttyS0 mitigations=off"),
        *("-serial", f"file:{directory / 'console'}"),
        *("-qmp", f"unix:{directory / 'monitor'},server=on,wait=off"),
        "-drive",
        f"if=none,id=disk,file={overlay},format=qcow2,cache=unsafe"
        ",discard=unmap",
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-device", "virtio-rng-pci"),
        *(("-incoming", f"file:{state}") if state else ()),
    ]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_answering(machine: Machine) -> None:
    deadline = time.monotonic() + _BOOT_LIMIT
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = machine.run("true", capture=True, timeout=30)
            if done.returncode == 0:
                return
        if machine.process.poll() is not None:
            said = (machine.directory / "qemu").read_text(errors="replace")
            raise MachineError(f"QEMU ended:\n{said}")
        if time.monotonic() > deadline:
            raise MachineError(
                f"The machine does not answer after {_BOOT_LIMIT} s."
                f" {machine.console()}"
            )
        time.sleep(0.5)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End QEMU; what it has written is of no use any more."""
    process.kill()
    process.wait()


class _Monitor:
    """QEMU's monitor (QMP)."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_SAVE_LIMIT)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("r")
        self._file.readline()  # the greeting
        self.do("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def do(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Have a command executed; return what it returns.

        :raises MachineError: it fails
        """
        request = {"execute": command, "arguments": arguments or {}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        for line in self._file:
            answer = json.loads(line)
            if "error" in answer:
                raise MachineError(f"QEMU: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise MachineError("QEMU closed its monitor")
