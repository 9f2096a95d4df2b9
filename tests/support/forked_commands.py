"""ForkedCommands: runs commands of manage.py in forks of one process that has imported Django and the project.

A start of manage.py costs one to two seconds of CPU, a fork some milliseconds. Each command is a process of its own,
with its own streams, environment, working directory and exit status. The fork runs manage.py itself, and ends as an
interpreter ends. Two things differ from a real start: the settings are those of the environment that ForkedCommands
got, and modules are loaded already. Tests of the start itself, or of signals, start a real process.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from galileo_site.stack.config import PROJECT_ROOT
from galileo_site.stack.processes import tied
from loadgen.device.process import follow_parent

_TIMEOUT_S = 300.0
_LONGEST_REQUEST = 1 << 20


class ForkedCommands:
    """Starts the server, which `stop` ends; `directory` keeps its log."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._log_path = directory / "forked_commands.log"
        # The address of a Unix socket has at most 107 bytes, which pytest's folders may exceed.
        self._folder = tempfile.TemporaryDirectory(prefix="galileo-")
        self._address = str(Path(self._folder.name) / "socket")
        ready, write = os.pipe()
        command = tied([sys.executable, "-m", __name__, self._address, str(write)], signal.SIGKILL)
        with self._log_path.open("ab") as log, os.fdopen(ready) as reader:
            self._process = subprocess.Popen(
                command, cwd=PROJECT_ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[write],
            )  # fmt: skip
            os.close(write)
            if not reader.read():
                self.stop()
                raise RuntimeError(f"the server of commands did not start:\n{self._log_path.read_text()}")

    def stop(self) -> None:
        """Ends the server and the commands that still run."""
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def run(
        self, arguments: Sequence[str], stdin: IO[str] | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs `manage.py ARGUMENTS`; `variables` are added to its environment, not to its settings."""
        request = {"arguments": list(arguments), "environment": {**self._environment, **variables}}
        with (
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
            Path(os.devnull).open() as nothing,
            socket.socket(socket.AF_UNIX) as connection,
        ):
            connection.settimeout(_TIMEOUT_S)
            connection.connect(self._address)
            streams = [(stdin or nothing).fileno(), output.fileno(), errors.fileno()]
            socket.send_fds(connection, [json.dumps(request).encode()], streams)
            connection.shutdown(socket.SHUT_WR)
            status = connection.recv(16)
            output.seek(0)
            errors.seek(0)
            said = output.read().decode(), errors.read().decode()
        if not status:
            raise RuntimeError(f"the server of commands failed:\n{self._log_path.read_text()}")
        return subprocess.CompletedProcess(["manage.py", *arguments], int(status), *said)


def _serve(address: str, ready: int) -> None:
    """Forks a child per connection; returns in each child, which then is to run manage.py."""
    _import_project()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaps the children
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        os.write(ready, b"ready")
        os.close(ready)
        while True:
            connection, _ = server.accept()
            if _fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _become_command(connection)


def _become_command(connection: socket.socket) -> None:
    """Forks once more: the parent waits and reports the exit status; returns in the child alone."""
    with connection:
        request, streams = _receive(connection)
        command = _fork()
        if command:
            _, status = os.waitpid(command, 0)
            connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [str(PROJECT_ROOT / "manage.py"), *request["arguments"]]


def _fork() -> int:
    """Forks a child that is killed when its parent ends; returns as os.fork does."""
    parent = os.getpid()
    child = os.fork()
    if child == 0 and not follow_parent(signal.SIGKILL, parent):
        os._exit(1)
    return child


def _receive(connection: socket.socket) -> tuple[dict[str, dict[str, str]], list[int]]:
    data, streams, _, _ = socket.recv_fds(connection, _LONGEST_REQUEST, 3)
    while more := connection.recv(_LONGEST_REQUEST):
        data += more
    return json.loads(data), streams


def _import_project() -> None:
    """Imports what commands import, without a connection to the database or the broker."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "galileo_site.settings")
    django.setup()
    from django.core.management import call_command

    from experiments.management import commands

    for module in pkgutil.iter_modules(commands.__path__):
        importlib.import_module(f"{commands.__name__}.{module.name}")
    call_command("check", stdout=io.StringIO())  # as each command does: imports the URLs, and fills Django's caches
    gc.freeze()  # otherwise each fork's collector visits, and the kernel copies, all that was imported


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
    runpy.run_path(sys.argv[0], run_name="__main__")
